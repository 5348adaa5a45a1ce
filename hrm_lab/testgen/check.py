"""Is a folder a good domain? What its author should mend, in words, by running every family on every axis.

    python -m hrm_lab.testgen.check data/testgen/media

Unusual: a domain is judged as a model is: its own tests must pass its reference behaviour and kill all its mutants.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace

from .domain import Domain, draw, load, values
from .expressions import ExpressionError
from .families import DomainError, Family
from .judge import behave, expected_rows, judge

WORDINGS = 10  # to train on and held out together
MUTANTS = 4
ALIKE = 0.75  # shared words of two wordings, of all their words


def problems(domain: Domain, n: int = 20, seed: int = 0) -> list[str]:
    """One line a problem, "family: what is wrong"; n draws of each family on each of its axes."""
    return [f"{one.name}: {found}" for one in domain.families.values()
            for found in dict.fromkeys([*_of_texts(one), *_of_draws(domain, one, n, seed)])]


def _of_texts(family: Family) -> Iterator[str]:
    texts = (*family.requirements, *family.paraphrases)
    if len(texts) < WORDINGS or not family.paraphrases:
        yield (f"{len(family.requirements)} wordings and {len(family.paraphrases)} held out; "
               f"expected {WORDINGS} in all, some held out")
    if len(family.mutants) < MUTANTS:
        yield f"{len(family.mutants)} mutants; expected at least {MUTANTS}"
    words = [frozenset(text.lower().replace(":cap}", "}").strip(".").split()) for text in texts]
    for i, a in enumerate(words):
        for j, b in enumerate(words[:i]):
            if len(a & b) >= ALIKE * len(a | b):
                yield f"two wordings are alike: {texts[j]!r} and {texts[i]!r}"


def _of_draws(domain: Domain, family: Family, n: int, seed: int) -> Iterator[str]:
    only = replace(domain, families={family.name: family})
    for axis in ("family",) if family.held_out else ("train", "values", "names", "paraphrase"):
        try:
            records = draw(only, n, seed, axis)
        except (DomainError, ExpressionError) as error:
            yield f"axis {axis}: {error}"
            continue
        for record in records:
            found = judge(record, record.target, domain)
            if not found.correct:
                yield f"its own test is not correct: {found.reason} (requirement: {record.input})"
            elif found.slots < 1:
                yield f"its own test lacks a value of the requirement: {record.input}"
            else:
                yield from _survivors(family, record)


def _survivors(family: Family, record) -> Iterator[str]:
    slots = values(family, record.slots)
    rows = expected_rows(family, slots, record.target)
    for mutant in family.mutants:
        if all(behave(mutant, slots, row) == said for row, said in rows):
            yield f"its own test does not kill the mutant {mutant!r}"


def main(argv: list[str] | None = None) -> int:
    """Print what is wrong with a domain; 0 if nothing is."""
    parser = argparse.ArgumentParser(prog="python -m hrm_lab.testgen.check", description=main.__doc__)
    parser.add_argument("folder", help="domain.yaml and one file a family")
    parser.add_argument("-n", type=int, default=20, help="draws of each family on each axis")
    asked = parser.parse_args(argv)
    try:
        domain = load(asked.folder)
    except DomainError as error:
        print(error, file=sys.stderr)
        return 1
    found = problems(domain, asked.n)
    for line in found:
        print(line, file=sys.stderr)
    print(f"{asked.folder}: {len(domain.families)} families, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
