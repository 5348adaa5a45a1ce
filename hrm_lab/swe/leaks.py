"""Is anything that a model is judged on among what it was trained on? Programs, near-duplicates, and their repairs.

    python -m hrm_lab.swe.leaks --rows humanevalpack/*.jsonl --instances data/built/swe/instances.jsonl

Two texts are near-duplicates if they share more than half of the smaller one's 8-grams of tokens (dedup.py), or if
they are the same once names are numbered in the order in which they come. Unusual: the grams of the evaluation are
indexed and the training texts stream past, so that memory does not grow with the training data.
"""

import argparse
import keyword
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hrm_lab.sources import LISTING
from hrm_lab.swe.dedup import SHARED, grams
from hrm_lab.swe.instances import Instance, read
from hrm_lab.swe.languages import functions, lex
from hrm_lab.swe.policy_data import LARGER, pool
from hrm_lab.swe.readers import read_rows
from hrm_lab.swe.reading import WORDS

FEW = 20  # tokens: functions with fewer are alike by chance once their names are numbered
SHOWN = 80  # characters


@dataclass(frozen=True)
class Hit:
    """One text of the evaluation that a training text repeats."""

    name: str
    what: str  # "program" or "fix"
    training: str  # number and first line of the training text
    shared: float  # of the 8-grams of the smaller one; 1 if they are the same but for names

    def __str__(self) -> str:
        return f"{self.name} ({self.what}) shares {100 * self.shared:.0f} % with training text {self.training}"


@dataclass(frozen=True)
class Leaks:
    """What `check` found in so many texts; `closest` is the pair that shares most and is no hit. `str()`: a report."""

    training: int
    evaluation: int
    hits: tuple[Hit, ...]
    closest: Hit | None

    @property
    def clean(self) -> bool:
        return not self.hits

    def __str__(self) -> str:
        leaked = len({hit.name for hit in self.hits})
        head = (f"{self.evaluation:,} evaluation programs and their fixes against {self.training:,} training texts: "
                + (f"{leaked} leaked" if leaked else "no program, near-duplicate or fix among them"))
        closest = f"; the closest, below {100 * SHARED:.0f} %: {self.closest}" if self.closest else ""
        return "\n".join([head + closest, *(f"  {hit}" for hit in self.hits)])


def check(training: Iterable[str], evaluation: Iterable[tuple[str, str, str]], language: str = "python",
          trained: str = "python") -> Leaks:
    """Look for each evaluation (name, program, fixed) in the training texts; "" as fixed: not known.

    language: of the evaluation; trained: of the training texts. Each (name, what) is reported once, with the training
    text that shares most.
    """
    holders, sizes, same, keys, names = {}, {}, {}, [], set()
    for name, program, fixed in evaluation:
        names.add(name)
        for what, text in (("program", program), ("fix", fixed)):
            if text:
                key = len(keys)
                keys.append((name, what))
                mine = grams(text, language)
                sizes[key] = len(mine)
                for gram in mine:
                    holders.setdefault(gram, []).append(key)
                for form in numbered(text, language):
                    same.setdefault(form, []).append(key)
    best: dict[int, tuple[float, str]] = {}
    count = 0
    for number, text in enumerate(training):
        count += 1
        mine = grams(text, trained)
        common = Counter(key for gram in mine for key in holders.get(gram, ()))
        found = {key: n / min(len(mine), sizes[key]) for key, n in common.items()}
        found |= {key: 1.0 for form in numbered(text, trained) for key in same.get(form, ())}
        for key, share in found.items():
            if share > best.get(key, (0.0, ""))[0]:
                best[key] = share, f"{number}: {text.strip().split(chr(10))[0][:SHOWN]}"
    found = [Hit(*keys[key], told, share) for key, (share, told) in sorted(best.items())]
    return Leaks(count, len(names), tuple(hit for hit in found if hit.shared > SHARED),
                 max((hit for hit in found if hit.shared <= SHARED), key=lambda hit: hit.shared, default=None))


def numbered(code: str, language: str) -> set[tuple[str, ...]]:
    """The functions of a text as tokens, with the names that they make up numbered and without docstrings."""
    found = set()
    for function in functions(code, language):
        numbers: dict[str, str] = {}
        tokens = [token for token in lex(code[function.start:function.end], language)
                  if token[0] != "\n" and token[:3] not in ('"""', "'''")]
        if len(tokens) >= FEW:
            found.add(tuple(numbers.setdefault(token, f"name {len(numbers)}") if token.isidentifier()
                            and token not in WORDS and not keyword.iskeyword(token) else token for token in tokens))
    return found


def of(instances: Iterable[Instance]) -> dict[str, list[tuple[str, str, str]]]:
    """Language -> what `check` takes as evaluation."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for one in instances:
        found.setdefault(one.language, []).append((one.instance_id, one.program, one.fixed))
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hrm_lab.swe.leaks", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", nargs="*", default=[], help="files of HumanEvalPack")
    parser.add_argument("--instances", nargs="*", default=[], help="files of synthesis; their valid and test parts")
    parser.add_argument("--larger", nargs="*", default=[], choices=LARGER, help="larger packages that were drawn from")
    parser.add_argument("--cache", default=str(LISTING.parent / "cache"), help="where sdists are fetched and unpacked")
    given = parser.parse_args(arguments)
    judged = [one for path in given.rows for one in read_rows(path, "humanevalpack", strict=True).instances]
    judged += [one for path in given.instances for one in read(path, strict=True).instances if one.split != "train"]
    texts, clean = pool("train", Path(given.cache), larger=given.larger), True
    for language, evaluation in of(judged).items():
        leaks = check(texts, evaluation, language)
        print(f"{language}: {leaks}", flush=True)
        clean &= leaks.clean
    return 0 if clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
