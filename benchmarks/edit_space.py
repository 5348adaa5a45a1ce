"""The space of edits: the share of what people get wrong that one edit repairs, by all tests.

    python benchmarks/edit_space.py --rows humanevalpack/python.jsonl [--language python] [--limit 10] [--two 200]

Rows are JSON lines with prompt, buggy_solution, canonical_solution and test (HumanEvalPack). Python's candidates are
run in the sandbox, those nearest to the fix by tokens first, so that a hit is found soon; for another language only
the fix itself counts (in the space, layout aside). `--two N` asks for the misses whether one of the N edits
nearest to the fix leaves a program that a second edit turns into the fix: reachability, not a search. The space is
frozen before any learning: these numbers are for reading and not for tuning. The last line is one JSON object.
"""

import argparse
import json
import statistics
import time
from collections import Counter
from pathlib import Path

from hrm_lab.metrics import format_score, proportion
from hrm_lab.swe.edits import Edit, Text, apply, candidates
from hrm_lab.swe.languages import lex, valid
from hrm_lab.swe.sandbox import Server


def nearest(code: str, gold: str, edits: list, language: str) -> list:
    """Edits by the number of tokens that the program after them does not share with the fix."""
    wanted = Counter(lex(gold, language))

    def distance(edit):
        made = Counter(lex(apply(code, edit), language))
        return (made - wanted).total() + (wanted - made).total()

    return sorted(edits, key=distance)


def two_edits(code: str, gold: str, edits: list, language: str, tries: int) -> bool:
    """Whether a second edit makes the fix of one of the `tries` nearest programs (the fix itself, not the tests)."""
    for edit in nearest(code, gold, edits, language)[:tries]:
        middle = apply(code, edit)
        if valid(middle, language):
            text = Text(middle, language)
            wanted = text.key(Edit("fix", 0, len(middle), gold))
            if any(text.key(second) == wanted for second in candidates(middle, language)):
                return True
    return False


def judge(row: dict, language: str, two: int) -> dict:
    """One bug: number of candidates, the kind of the first that repairs it (None: a miss), seconds of enumeration."""
    head = row.get("declaration", "") if language not in ("python", "java") else row["prompt"]
    code, gold = head + row["buggy_solution"], head + row["canonical_solution"]
    start = time.process_time()
    edits = candidates(code, language)
    seconds = time.process_time() - start
    text = Text(code, language)
    wanted = text.key(Edit("fix", 0, len(code), gold))
    exact = [edit for edit in edits if text.key(edit) == wanted]
    found = {"task": row["task_id"], "candidates": len(edits), "seconds": seconds, "exact": bool(exact), "runs": 0,
             "kind": exact[0].kind if exact else None, "two": False}
    if language == "python":
        found["kind"] = None
        with Server(row["test"], prelude="") as server:
            for edit in exact or nearest(code, gold, edits, language):
                found["runs"] += 1
                if server.run(apply(code, edit)).outcome == "passed":
                    found["kind"] = edit.kind
                    break
    if found["kind"] is None and two:
        found["two"] = two_edits(code, gold, edits, language, two)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--language", default="python")
    parser.add_argument("--limit", type=int, default=10**6, help="the first rows only")
    parser.add_argument("--two", type=int, default=0, help="first edits to try on each miss")
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.rows.read_text(encoding="utf-8").splitlines() if line.strip()]
    found = []
    for row in rows[:options.limit]:
        found.append(judge(row, options.language, options.two))
        last = found[-1]
        print(f"{last['task']:16} {last['candidates']:6} candidates  {last['seconds']:5.2f} s  "
              f"{last['kind'] or ('MISS' + ' (two edits)' * last['two'])}", flush=True)
    hits = [one for one in found if one["kind"]]
    reached = proportion(len(hits), len(found))
    misses = [one["task"] for one in found if not one["kind"]]
    sizes = [one["candidates"] for one in found]
    print(f"repaired by one edit: {format_score(reached)}; kinds: {Counter(one['kind'] for one in hits).most_common()}")
    print(json.dumps({"language": options.language, "one_edit": reached, "exact": sum(one["exact"] for one in found),
                      "two_edits": sum(one["two"] for one in found), "misses": misses,
                      "kinds": Counter(one["kind"] for one in hits), "median_candidates": statistics.median(sizes),
                      "max_candidates": max(sizes),
                      "median_seconds": statistics.median(one["seconds"] for one in found)}))


if __name__ == "__main__":
    main()
