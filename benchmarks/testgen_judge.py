"""What the judge of generated tests tells apart, and how fast; what the harvest and the EBU list hold.

    python benchmarks/testgen_judge.py [--n 600] [--cache data/cache] [--ebu FOLDER/testing]

For n requirements of each shipped domain, the expected test and seven ways in which a test can be bad: each with the
share that is judged correct and the mean mutation score. `one row an outcome` is the test that looks complete: every
outcome is there, the boundaries are not. The last line is one JSON object.
"""

import argparse
import json
import random
import time

import numpy as np

from hrm_lab import metrics
from hrm_lab.testgen import ebu, export, harvest
from hrm_lab.testgen.domain import ROOT, draw, load
from hrm_lab.testgen.judge import judge


def table(text: str) -> tuple[list[str], list[str]]:
    """(lines up to the header row, table rows) of an expected test."""
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.strip() == "Examples:") + 2
    return lines[:at], lines[at:]


def outcome(row: str) -> str:
    return row.split("|")[-2].strip()


def with_rows(text: str, pick) -> str:
    head, rows = table(text)
    return "\n".join([*head, *pick(rows)]) + "\n"


def first_of_each(rows: list[str]) -> list[str]:
    return list({outcome(row): row for row in reversed(rows)}.values())


def flipped(rows: list[str]) -> list[str]:
    other = next((outcome(row) for row in rows if outcome(row) != outcome(rows[0])), "nothing")
    return [rows[0][:rows[0].rindex(outcome(rows[0]))] + other + " |", *rows[1:]]


def variants(record, other, rng: random.Random) -> dict[str, str]:
    """The expected test and seven bad ones; `other` is another requirement of the same family."""
    name = next(value for value in record.slots.values() if isinstance(value, str) and value in record.target)
    words = [line for line in record.target.splitlines() if line.strip().startswith("When ")]
    return {"expected": record.target,
            "one row an outcome": with_rows(record.target, first_of_each),
            "one outcome": with_rows(record.target, lambda rows: [r for r in rows if outcome(r) == outcome(rows[0])]),
            "an outcome flipped": with_rows(record.target, flipped),
            "the test of another requirement": other.target,
            "another name": record.target.replace(name, "Somebody"),
            "a step reworded": record.target.replace(words[0], words[0] + " again"),
            "no Then": "\n".join(line for line in record.target.splitlines() if "Then" not in line)}


def measured(domain, n: int, seed: int) -> dict:
    """Scores by variant, judgements a CPU second, and the share of clear requirements that are called ambiguous."""
    records, rng = draw(domain, n, seed), random.Random(seed)
    by_family: dict[str, list] = {}
    for record in records:
        by_family.setdefault(record.family, []).append(record)
    found: dict[str, list] = {}
    start = time.process_time()
    for record in records:
        others = [one for one in by_family[record.family] if one.target != record.target]
        for name, text in variants(record, rng.choice(others), rng).items():
            found.setdefault(name, []).append(judge(record, text, domain))
    seconds = time.process_time() - start
    return {"families": len(domain.families), "mutants": sum(len(f.mutants) for f in domain.families.values()),
            "wordings": sum(len(f.requirements) + len(f.paraphrases) for f in domain.families.values()),
            "judged_per_cpu_second": sum(map(len, found.values())) / seconds,
            "called_ambiguous": metrics.proportion(sum(bool(export.ambiguities(r.input)) for r in records), n),
            "variants": {name: {"correct": metrics.proportion(sum(v.correct for v in held), n),
                                "mutation": metrics.bootstrap(np.array([v.mutation for v in held]), "share")}
                         for name, held in found.items()}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=600, help="requirements of each domain")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", help="folder of fetched sdists: measures the harvest, too")
    parser.add_argument("--ebu", help="the `testing` folder of the EBU-TT-Live toolkit: counts its pairs")
    asked = parser.parse_args()
    result = {"n": asked.n, "domains": {}}
    for folder in sorted(path.parent for path in ROOT.glob("*/domain.yaml")):
        one = result["domains"][folder.name] = measured(load(folder), asked.n, asked.seed)
        print(f"{folder.name}: {one['judged_per_cpu_second']:.0f} tests judged a CPU second; called ambiguous "
              f"{metrics.format_score(one['called_ambiguous'])}")
        for name, held in one["variants"].items():
            print(f"  {name:32} correct {metrics.format_score(held['correct']):34} "
                  f"mutation {metrics.format_score(held['mutation'])}")
    if asked.cache:
        start = time.process_time()
        records, counts = harvest.harvest(asked.cache)
        result["harvest"] = {"records": len(records), "counts": counts, "cpu_seconds": time.process_time() - start}
        print(f"harvest: {len(records)} records {counts}")
    if asked.ebu:
        pairs, library, counts = ebu.read(asked.ebu)
        result["ebu"] = {"requirements": len(pairs), "step_shapes": len(library), "counts": counts}
        print(f"EBU-TT-Live: {len(pairs)} requirements, {counts}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
