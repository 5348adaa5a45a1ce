"""Pre-flight on sound and on faulty data: false alarms, faults found, seconds.

    python benchmarks/preflight.py --cache data/cache [--sets 20] [--first 0] [--fault-sets 3] [--rows 120]
        [--tokenizers smollm2 llama3 tiny]

Sound sets are drawn from BFCL's usable rows, each with another seed, size, mix of sources (one call, several, none)
and format, split by component. Every fault of hrm_lab.adapters.faults is put into the first sets of each tokenizer,
one a format. Tokenizers: `smollm2` and `llama3` from the packages of data/sources.txt, `tiny` trained on the spot. The
last line is one JSON object.
"""

import argparse
import json
import random
import sys
import time

from hrm_lab.adapters import bfcl, llama3, preflight
from hrm_lab.adapters.faults import FAULTS
from hrm_lab.adapters.formats import FORMATS
from hrm_lab.adapters.models import small, tiny
from hrm_lab.metrics import format_score, proportion

ROOM = {"max_length": 2**15, "max_new": 2**11}  # for the longest row of BFCL even in letters, as `tiny` reads it


def tokenizer(name: str, cache: str):
    """The tokenizer of that short name."""
    if name == "llama3":
        return llama3.tokenizer(cache)
    if name == "tiny":
        return tiny()[1]
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(small(cache))


def sound_set(examples: list, number: int, rows: int) -> dict:
    """Splits of about `rows` rows whose mix of sources depends on the number."""
    rng = random.Random(number)
    mixes = (bfcl.CALLS, bfcl.CALLS[:1], bfcl.CALLS[:3], (*bfcl.CALLS, *bfcl.PARALLEL), (*bfcl.CALLS, *bfcl.IRRELEVANT),
             (*bfcl.CALLS, *bfcl.PARALLEL, *bfcl.IRRELEVANT))
    able = [e for e in examples if e.source in mixes[number % len(mixes)]]
    parts = bfcl.split(able, test=max(30, rows // 3), validation=max(10, rows // 8), seed=number)
    return parts | {"train": rng.sample(parts["train"], min(rows, len(parts["train"])))}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", default="data/cache")
    parser.add_argument("--sets", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="number of the first set, for a run in pieces")
    parser.add_argument("--fault-sets", type=int, default=3, help="sets that each fault is put into; one a format")
    parser.add_argument("--rows", type=int, default=120)
    parser.add_argument("--tokenizers", nargs="+", default=["smollm2", "llama3", "tiny"])
    arguments = parser.parse_args()
    examples, _ = bfcl.load(arguments.cache)
    alarms, sound, missed, put, seconds = 0, 0, [], 0, []
    for name in arguments.tokenizers:
        text = tokenizer(name, arguments.cache)
        for number in range(arguments.first, arguments.first + arguments.sets):
            form = [*FORMATS.values()][number % 3]
            parts = sound_set(examples, number, arguments.rows)
            plan = preflight.plan(text, form, parts["train"], parts["validation"], parts["test"], **ROOM)
            start = time.process_time()
            report = preflight.check(plan)
            seconds.append(time.process_time() - start)
            sound += 1
            alarms += bool(report.findings)
            for finding in report.findings:
                print(f"false alarm: {name} {form.name} set {number}: {finding}")
            if number - arguments.first < arguments.fault_sets:
                for fault in FAULTS.values():
                    put += 1
                    found = {f.check for f in preflight.check(fault.put(plan)).findings}
                    if fault.finds not in found:
                        missed.append([name, form.name, fault.name, sorted(found)])
                        print("missed:", *missed[-1], file=sys.stderr)
    caught, clean = proportion(put - len(missed), put), proportion(sound - alarms, sound)
    print(f"faults found {format_score(caught)}; sound sets without a finding {format_score(clean)}")
    print(json.dumps({"found": caught, "clean": clean, "missed": missed, "faults": len(FAULTS),
                      "first": arguments.first, "tokenizers": arguments.tokenizers, "rows": arguments.rows,
                      "cpu_seconds_a_check": round(sum(seconds) / len(seconds), 2), "worst": round(max(seconds), 2)}))


if __name__ == "__main__":
    main()
