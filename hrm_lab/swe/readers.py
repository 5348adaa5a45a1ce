"""Rows of other datasets as instances: SWE-bench, SWE-smith, HumanEvalPack, LiveCodeBench, or a plain pair of files.

    python -m hrm_lab.swe.readers ROWS --format humanevalpack --out set.jsonl [--strict]

Rows come as JSONL, as parquet (extra `data`), or from the Hugging Face Hub. A row that is not what its format says is
counted and named with file and line, and the rest is kept. Unusual: without a checkout of its repository a SWE-bench
row has no program to enumerate edits on; with `checkouts` its patch is applied, exactly or not at all.
"""

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path

from hrm_lab.swe import diffs
from hrm_lab.swe.complexity import complexity
from hrm_lab.swe.domain import classify
from hrm_lab.swe.humanevalpack import from_humanevalpack
from hrm_lab.swe.instances import Instance, InstanceError, Reading, card, gather, json_rows, write
from hrm_lab.swe.languages import LANGUAGES, detect, functions
from hrm_lab.swe.livecodebench import from_livecodebench

FORMATS = ("swe-bench", "swe-smith", "humanevalpack", "livecodebench")
EXTRA = 'expected the extra "data": pip install "hrm-lab[data]"'


def language_of(path: str, text: str = "") -> str:
    """Language by the extension of a path, else by the text. Raises `InstanceError` if neither says."""
    for name, language in LANGUAGES.items():
        if path.endswith(language.extensions):
            return name
    if text:
        return detect(text)
    raise InstanceError(f"{path}: extension of none of {', '.join(LANGUAGES)}; expected code in one of them")


def changed_function(buggy: str, fixed: str, language: str) -> tuple[str, str, str]:
    """(dotted name, buggy text, fixed text) of the innermost function that holds all changes; else "" and the files.

    The texts start at the beginning of a line, with the indentation that the file has.
    """
    start = next((i for i, (a, b) in enumerate(zip(buggy, fixed, strict=False)) if a != b), min(len(buggy), len(fixed)))
    longest = min(len(buggy), len(fixed)) - start
    tail = next((i for i in range(longest) if buggy[-1 - i] != fixed[-1 - i]), longest)
    holding = [f for f in functions(buggy, language) if f.start <= start and len(buggy) - tail <= f.end]
    if not holding:
        return "", buggy, fixed
    found = max(holding, key=lambda f: f.start)
    line = buggy.rfind("\n", 0, found.start) + 1
    begin = line if not buggy[line:found.start].strip() else found.start
    return found.name, buggy[begin:found.end], fixed[begin:found.end + len(fixed) - len(buggy)]


def _names(row: dict, field: str) -> tuple[str, ...]:
    value = row[field]
    if isinstance(value, str):  # SWE-bench keeps a JSON list in a string
        try:
            value = json.loads(value)
        except ValueError:
            raise InstanceError(f"field {field} is {value!r:.60}; expected a JSON list of test ids") from None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InstanceError(f"field {field} is {value!r:.60}; expected a list of test ids")
    return tuple(value)


def _checkout(row: dict, checkouts: Path) -> Path:
    repo = row["repo"].split("/")
    names = [row["instance_id"], "__".join(repo) + "@" + row.get("base_commit", ""), "__".join(repo), repo[-1]]
    for name in names:
        if (checkouts / name).is_dir():
            return checkouts / name
    raise InstanceError(f"{checkouts.name}: no checkout of {row['repo']}; expected a folder {' or '.join(names)}")


def _source(root: Path, path: str) -> str:
    file = (root / path).resolve()
    if not file.is_relative_to(root.resolve()):
        raise InstanceError(f"patch changes {path!r}; expected a path inside the repository")
    try:
        return file.read_bytes().decode()
    except OSError as error:
        raise InstanceError(f"patch changes {path!r}: {error.strerror}; expected it in the checkout") from None
    except UnicodeDecodeError as error:
        raise InstanceError(f"{path}: byte {error.start} is not UTF-8; expected UTF-8") from None


def from_swe(row: dict, split: str, smith: bool, checkouts: Path | None = None) -> Instance:
    """A SWE-bench row, or SWE-smith's (smith: its patch makes the bug). Raises KeyError, ValueError."""
    for field in ("instance_id", "repo", "patch", "problem_statement"):
        if not isinstance(row[field], str):
            raise InstanceError(f"field {field} is {row[field]!r:.60}; expected a string")
    patch = diffs.reverse(row["patch"]) if smith else row["patch"]
    files = diffs.parse(patch)
    endings = tuple(ending for language in LANGUAGES.values() for ending in language.extensions)
    first = next((file for file in files if file.path.endswith(endings)), files[0])
    language, failing = language_of(first.path), _names(row, "FAIL_TO_PASS")
    sides = ["".join(line[1:] for hunk in first.hunks for line in hunk.lines if line[0] in signs)
             for signs in (" -", " +")]
    function = program = fixed = context = ""
    if checkouts:
        root = _checkout(row, Path(checkouts))
        both = {}
        for turned, file in zip(files, diffs.parse(row["patch"]), strict=True):  # all must apply, one is the program
            before = _source(root, file.origin) if file.origin else ""
            texts = before, diffs.apply_file(file, before)
            both[turned.path] = texts[::-1] if smith else texts
        context = both[first.path][0]
        function, program, fixed = changed_function(*both[first.path], language)
        sides = [program, fixed]
    return Instance(
        instance_id=row["instance_id"], repo=row["repo"],
        version=str(row.get("version") or row.get("base_commit") or ""),
        problem_statement=row["problem_statement"], patch=patch, test_patch=row.get("test_patch") or "",
        FAIL_TO_PASS=failing, PASS_TO_PASS=_names(row, "PASS_TO_PASS"), language=language,
        domain=classify(sides[0], context, first.path), complexity=complexity(*sides, language, len(failing)),
        tool_plan=(), file=first.path, function=function, program=program, fixed=fixed, tests="", kinds=(),
        source="synthetic" if smith else "human", split=split)


def _parquet_rows(path: Path):
    try:
        import pandas
        import pyarrow  # noqa: F401 (what pandas reads parquet with)
    except ImportError as error:
        raise InstanceError(f"{path.name}: {error.name} is not installed; {EXTRA}") from None
    try:
        rows = pandas.read_parquet(path, engine="pyarrow").to_dict("records")
    except (ValueError, OSError) as error:
        raise InstanceError(f"{path.name}: {str(error).splitlines()[0]}; expected a parquet file") from None
    for number, row in enumerate(rows, 1):
        yield number, {name: value.tolist() if hasattr(value, "tolist") else value for name, value in row.items()}, ""


def read_rows(path: str | os.PathLike, format: str, *, split: str = "test", strict: bool = False,
              checkouts: str | os.PathLike | None = None, tests: str = "test") -> Reading:
    """Instances out of a .jsonl or .parquet file of another dataset.

    format: one of `FORMATS`; split: given to every instance; checkouts (SWE-bench, SWE-smith): folder of unpacked
    repositories, named by instance id or <owner>__<name>[@<commit>], pristine; tests (HumanEvalPack): "test", or
    "example_test" for the visible ones. Raises `InstanceError` at the first bad row if `strict`, else only for a file
    that cannot be read at all.
    """
    path = Path(path)
    make = {"swe-bench": partial(from_swe, split=split, smith=False, checkouts=checkouts),
            "swe-smith": partial(from_swe, split=split, smith=True, checkouts=checkouts),
            "humanevalpack": partial(from_humanevalpack, split=split, tests=tests),
            "livecodebench": partial(from_livecodebench, split=split)}.get(format)
    if make is None:
        raise InstanceError(f"format is {format!r}; expected one of {', '.join(FORMATS)}")
    if path.suffix not in (".jsonl", ".parquet"):
        raise InstanceError(f"{path.name}: suffix {path.suffix!r}; expected .jsonl or .parquet")

    def checked(row):
        if not isinstance(row, dict):
            raise InstanceError(f"row is a {type(row).__name__}; expected an object")
        return make(row)

    return gather(path, _parquet_rows(path) if path.suffix == ".parquet" else json_rows(path), checked, strict)


def read_hub(name: str, format: str, *, revision: str = "main", hub_split: str = "test", **options) -> Reading:
    """Instances of a dataset on the Hugging Face Hub: the .parquet or .jsonl files whose path names `hub_split`.

    No code of the dataset is run. options: as for `read_rows`. Raises `InstanceError`: no such extra, offline, no file.
    """
    try:
        from huggingface_hub import HfApi, hf_hub_download
    except ImportError:
        raise InstanceError(f"{name}: huggingface_hub is not installed; {EXTRA}") from None
    try:
        listed = HfApi().list_repo_files(name, repo_type="dataset", revision=revision)
        wanted = [file for file in sorted(listed) if file.endswith((".parquet", ".jsonl")) and hub_split in file]
        if not wanted:
            raise InstanceError(f"{name}: {len(listed)} files, no .parquet or .jsonl with {hub_split!r} in its path; "
                                "expected one")
        paths = [hf_hub_download(name, file, repo_type="dataset", revision=revision) for file in wanted]
    except OSError as error:  # the Hub's errors and the network's
        raise InstanceError(f"{name}: the Hub did not answer ({str(error).splitlines()[0]:.120}); without a network, "
                            "download the file elsewhere and give its path to read_rows") from None
    readings = [read_rows(path, format, **options) for path in paths]
    return Reading([i for reading in readings for i in reading.instances],
                   [problem for reading in readings for problem in reading.problems])


def read_pair(program: str | os.PathLike, tests: str | os.PathLike, fixed: str | os.PathLike | None = None, *,
              split: str = "test") -> Instance:
    """A program and the file of its tests (pytest for Python) as an instance; fixed: the repaired program if known.

    Raises `InstanceError` naming the file that cannot be read, and for a fixed file equal to the program.
    """
    texts = []
    for path in (program, tests, fixed):
        try:
            texts.append(Path(path).read_bytes().decode("utf-8-sig").replace("\r\n", "\n") if path else "")
        except OSError as error:
            raise InstanceError(f"{path}: {error.strerror}; expected a file") from None
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise InstanceError(f"{path}: byte {error.start} is 0x{byte:02x}; expected UTF-8") from None
    buggy, test, right = texts
    if fixed and right == buggy:
        raise InstanceError(f"{fixed}: the same text as {program}; expected the repaired one")
    name, stem = Path(program).name, Path(program).stem
    language = language_of(name, buggy)
    function = changed_function(buggy, right, language)[0] if fixed else ""
    return Instance(
        instance_id=f"pair-{stem}", repo=stem, version="", patch=diffs.make(buggy, right, name) if fixed else "",
        problem_statement=f"The tests in {Path(tests).name} fail on {name}.\n", test_patch="", FAIL_TO_PASS=(),
        PASS_TO_PASS=(), language=language, domain=classify(buggy, buggy, name),
        complexity=complexity(buggy, right, language, 0), tool_plan=(), file=name, function=function, program=buggy,
        fixed=right, tests=test, kinds=(), source="human", split=split)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hrm_lab.swe.readers", description=__doc__.split("\n")[0])
    parser.add_argument("rows", help="a .jsonl or .parquet file, or with --hub the name of a dataset")
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--out", required=True, help="JSONL file to append instances to; a card goes beside it")
    parser.add_argument("--split", default="test", choices=("train", "valid", "test"))
    parser.add_argument("--checkouts", help="folder of unpacked repositories")
    parser.add_argument("--hub", action="store_true", help="ROWS is a dataset on the Hugging Face Hub")
    parser.add_argument("--strict", action="store_true", help="stop at the first bad row")
    chosen = parser.parse_args(arguments)
    try:
        reading = (read_hub if chosen.hub else read_rows)(
            chosen.rows, chosen.format, split=chosen.split, strict=chosen.strict, checkouts=chosen.checkouts)
    except (InstanceError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    write(chosen.out, reading.instances)
    card(Path(chosen.out).with_suffix(".md"), reading.instances, title=Path(chosen.out).stem,
         how=f"Read from {Path(chosen.rows).name} ({chosen.format}); not run.", licences={})
    print("\n".join([*reading.problems, reading.summary()]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
