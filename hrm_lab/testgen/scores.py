"""One table for model and baselines: loss, perplexity, bits a byte, and what the tests are worth when they are run.

Perplexity is per target token over a stated vocabulary; bits are per byte of the restored test, so they compare across
vocabularies. Means over a domain hide a family, so each family is scored apart. Unusual: `guard` flags a perplexity
that falls while valid or correct tests become fewer; it was seen at -99.97 % with valid tests going from .79 to 0.
"""

import math

import numpy as np

from hrm_lab import metrics
from hrm_lab.testgen.domain import Domain
from hrm_lab.testgen.judge import Verdict, duplicates, judge
from hrm_lab.testgen.records import Record
from hrm_lab.testgen.writer import Written

FALL = 0.02  # of valid or correct, from which the guard speaks


def language(nats: list[np.ndarray], texts: list[str]) -> dict:
    """loss (nats a token), perplexity and bits a byte, each with its interval over the examples."""
    total, tokens = np.array([a.sum() for a in nats]), np.array([len(a) for a in nats])
    size = np.array([len(text.encode()) for text in texts])
    rows = np.arange(len(nats))

    def over(statistic, unit):
        return metrics.bootstrap(rows, unit, lambda i: statistic(i.astype(int)), draws=500)

    return {"loss": over(lambda i: total[i].sum() / tokens[i].sum(), "nats a token"),
            "perplexity": over(lambda i: math.exp(min(total[i].sum() / tokens[i].sum(), 700)), ""),
            "bits_per_byte": over(lambda i: total[i].sum() / math.log(2) / size[i].sum(), "bits a byte")}


def verdicts(records: list[Record], written: list[Written], domain: Domain) -> list[Verdict]:
    """Each text run against its requirement; one that could not be restored is worth nothing."""
    return [verdict(r, w, domain) for r, w in zip(records, written, strict=True)]


def verdict(record: Record, written: Written, domain: Domain) -> Verdict:
    if not written.text:
        return Verdict(False, 0.0, False, False, 0.0, written.reason or "no text")
    return judge(record, written.text, domain)


def executed(records: list[Record], written: list[Written], domain: Domain,
             found: list[Verdict] | None = None) -> dict:
    """valid, slots, executable, correct, mutation and duplicates with n and interval; correct for each family too."""
    found = found or verdicts(records, written, domain)
    n = len(found)
    table = {name: metrics.proportion(sum(getattr(v, name) for v in found), n)
             for name in ("valid", "executable", "correct")}
    table |= {name: metrics.bootstrap([getattr(v, name) for v in found], "share", draws=1000)
              for name in ("slots", "mutation")}
    table["duplicates"] = metrics.proportion(duplicates(w.text for w in written), n)
    for family in sorted({r.family for r in records}):
        mine = [v.correct for v, r in zip(found, records, strict=True) if r.family == family]
        table[f"correct/{family}"] = metrics.proportion(sum(mine), len(mine))
    return table


def guard(before: dict, after: dict) -> tuple[bool, str]:
    """(flagged, why): perplexity fell by a fifth or more while valid or correct fell."""
    fall = 1 - after["perplexity"]["value"] / before["perplexity"]["value"]
    told = f"perplexity {-100 * fall:+.2f} %"
    falls = []
    for name in ("valid", "correct"):
        a, b = before[name]["value"], after[name]["value"]
        told += f", {name} {100 * a:.1f} % -> {100 * b:.1f} %"
        if b < a - FALL:
            falls.append(name)
    if fall >= 0.2 and falls:
        return True, f"{told}: the loss fell and {' and '.join(falls)} tests became fewer"
    return False, told
