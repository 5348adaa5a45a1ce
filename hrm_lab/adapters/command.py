"""`hrm-lab preflight DATA --model M`: what would make a fine-tuning run fail, before its first step.

DATA is a folder with train.jsonl, validation.jsonl and test.jsonl: examples (hrm_lab/adapters/examples.py), or
anybody's chat rows (hrm_lab/adapters/chats.py). Exit codes: 0 no errors, or errors and --force; 1 errors; 2 the
question was wrong.
"""

import argparse
import json
import sys
from pathlib import Path

SHORT = ("smollm2-135m", "tiny")  # names of hrm_lab.adapters.models


def add(commands):
    """The sub-command, to an argparse action of sub-parsers. Nothing heavy is imported for --help."""
    one = commands.add_parser("preflight", help="check a fine-tuning data set before any training", description="""
        Check the data of a function-calling adapter against the tokenizer and chat template of a model: golds graded
        against themselves, truncation, template, end token, masks, leaks, and more. Exit code 1 if there are errors.
        """)
    one.add_argument("data", metavar="DATA", help="folder with train.jsonl, validation.jsonl and test.jsonl")
    one.add_argument("--model", required=True, metavar="M",
                     help="smollm2-135m, tiny, llama3 (its tokenizer alone), a folder, or a name of the Hub")
    one.add_argument("--format", default="all", metavar="F", help="structured, hermes, cep, or all (default)")
    one.add_argument("--max-length", type=int, default=2048, metavar="N", help="tokens of a row (default: 2048)")
    one.add_argument("--max-new", type=int, default=128, metavar="N", help="tokens of an answer (default: 128)")
    one.add_argument("--likelihood", action="store_true", help="also ask the model how probable the end token is")
    one.add_argument("--cache", default="data/cache", metavar="DIR", help="of packages (default: data/cache)")
    one.add_argument("--force", action="store_true", help="exit with 0 in spite of errors; written into the report")
    one.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    one.set_defaults(run=run)


def tokenizer_of(name: str, cache: str):
    """The tokenizer of a short name, a folder or a name of the Hub. Raises ValueError or OSError."""
    if name == "llama3":
        from .llama3 import tokenizer
        return tokenizer(cache)
    if name in SHORT:
        from . import models  # imports torch, which takes longer than all checks
        if name == models.TINY:
            return models.tiny()[1]
        name = models.small(cache)
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(name)


def reports(arguments: argparse.Namespace) -> dict:
    """{format: Report}; chat rows have one, called "chat". Raises ValueError or OSError."""
    from . import chats, preflight
    from .examples import read_splits
    from .formats import FORMATS

    wanted = [*FORMATS] if arguments.format == "all" else [arguments.format]
    if unknown := set(wanted) - set(FORMATS):
        raise ValueError(f"--format is {unknown.pop()!r}; expected all or one of {', '.join(FORMATS)}")
    model = None
    if arguments.likelihood:
        from . import models
        model, tokenizer = models.load(arguments.model, arguments.cache)
    else:
        tokenizer = tokenizer_of(arguments.model, arguments.cache)
    if chats.is_chat(Path(arguments.data) / "train.jsonl"):
        return {"chat": chats.check(arguments.data, tokenizer, arguments.max_length)}
    parts = read_splits(arguments.data)
    return {name: preflight.check(preflight.plan(
        tokenizer, FORMATS[name], parts["train"], parts["validation"], parts["test"], max_length=arguments.max_length,
        max_new=arguments.max_new, model=model)) for name in wanted}


def run(arguments: argparse.Namespace) -> int:
    """The sub-command; prints, and returns the exit code."""
    from .preflight import require

    try:
        found = reports(arguments)
    except (ValueError, OSError, ImportError) as error:
        print(f"hrm-lab preflight: {' '.join(str(error).split())[:400]}", file=sys.stderr)
        return 2
    if arguments.force:
        found = {name: require(report, force=True) for name, report in found.items()}
    if arguments.json:
        print(json.dumps({name: report.json() for name, report in found.items()}, indent=1))
    else:
        for name, report in found.items():
            print(f"{name}: {len(report.errors)} errors, {len(report.findings) - len(report.errors)} warnings "
                  f"({len(report.checks)} checks, {report.seconds} s" + (", forced)" if report.forced else ")"))
            for finding in report.findings:
                print(f"  {finding}")
    return 1 if any(report.errors and not report.forced for report in found.values()) else 0
