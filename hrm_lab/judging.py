"""From outcomes to statements: scores, the trivial baseline, the loss-against-task guard, findings in words.

Every sentence is computed from numbers, so that a report cannot say what its run did not show.
"""

import numpy as np

from hrm_lab import act, metrics

NEAR = 0.95  # share of what the data allow that counts as solved


def scores(found: act.Evaluation, split) -> dict:
    """Flat scores of an evaluation on (the first N examples of) a split, per task too, each with n and interval."""
    n = len(found.exact)
    tasks, names = split.tasks[:n], split.meta.tasks
    table = metrics.per_task("exact_match", found.exact, tasks, names)
    if found.full_exact is not None:
        table |= metrics.per_task("exact_match_full", found.full_exact, tasks, names)
    table["token_accuracy"] = metrics.bootstrap(found.token_accuracy, "share")
    table["halting_steps"] = metrics.bootstrap(found.steps, "segments")
    table["halting_error"] = metrics.bootstrap(np.abs(found.confidence - found.exact), "share")
    return table


def majority_baseline(train, test) -> dict:
    """The trivial answer: at each position the label most often seen in training with that input token there."""
    T, V = train.inputs.shape[1], train.meta.vocab_size
    counts = np.zeros((T, V, V), np.int64)
    at = np.broadcast_to(np.arange(T), train.inputs.shape)
    scored = train.labels != act.IGNORE
    np.add.at(counts, (at[scored], train.inputs[scored], train.labels[scored]), 1)
    exact, share = act.judge(counts.argmax(2)[np.arange(T), test.inputs], test.labels)
    return {"baseline_exact_match": metrics.proportion(int(exact.sum()), len(exact)),
            "baseline_token_accuracy": metrics.bootstrap(share, "share")}


def loss_guard(history: list[dict], scores: dict) -> tuple[bool, str]:
    """(flagged, why): the loss fell by a fifth or more while exact match is not above the trivial answer."""
    fall = 1 - history[-1]["loss"] / history[0]["loss"]
    trivial, reached = scores["baseline_exact_match"]["high"], scores["exact_match"]["low"]
    told = f"validation loss fell by {100 * fall:.0f} %; exact match is at least {100 * reached:.1f} %"
    if fall >= 0.2 and reached <= trivial:
        return True, f"{told}, not above the trivial answer's {100 * trivial:.1f} %"
    return False, f"{told}, the trivial answer at most {100 * trivial:.1f} %"


def findings(scores: dict, history: list[dict], task: str) -> list[str]:
    """What a run shows, as markdown sentences, from its scores and its validation history."""
    exact, ceiling, full = scores["exact_match"], scores["ceiling"]["value"], scores["exact_match_full"]
    verdict = "solved" if exact["value"] >= NEAR * ceiling else "not solved"
    out = [f"**{task} is {verdict}:** exact match {metrics.format_score(exact)} on unseen puzzles; "
           f"the data allow {100 * ceiling:.1f} %, the trivial answer reaches "
           f"{100 * scores['baseline_exact_match']['value']:.1f} %."]
    tasks = {k.split("/")[1]: v for k, v in scores.items() if k.startswith("exact_match/")}
    if tasks:
        worst = min(tasks, key=lambda k: tasks[k]["value"])
        each = ", ".join(f"{k} {100 * v['value']:.1f} %" for k, v in tasks.items())
        gap = max(v["value"] for v in tasks.values()) - tasks[worst]["value"]
        out.append(f"Per task: {each}." + (f" **The mean hides that {worst} lags by {100 * gap:.0f} points.**"
                                           if gap > 0.1 else ""))
    difference = exact["value"] - full["value"]
    segments = scores["halting_steps"]["value"]
    out.append(f"The model halts after {segments:.2f} segments on average; running all of them instead would "
               + (f"change exact match by {-100 * difference:+.1f} points." if abs(difference) > 5e-4
                  else "not change exact match."))
    error = scores["halting_error"]
    out.append(f"Its own estimate of being right is off by {100 * error['value']:.1f} points on average "
               f"(n = {error['n']:,}).")
    flagged, why = loss_guard(history, scores)
    if flagged:
        out.append(f"**Flagged: {why}.** The loss fell and the task was not learnt.")
    return out
