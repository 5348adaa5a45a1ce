"""What a dataset allows before any model sees it: `audit` (numbers, warnings) and `card` (markdown).

The number that matters most is `best_exact_match`: the share of examples that the best function of the
input can get right. Where equal inputs carry different targets it is below 1 and no training helps; a
"plateau" at that value is the data's, not the model's.
"""

import numpy as np

from hrm_lab.puzzles.layout import Split


def _row_ids(*arrays: np.ndarray) -> np.ndarray:
    """(N,) small integers, equal where the rows of all arrays are equal."""
    rows = np.ascontiguousarray(np.concatenate([a.reshape(len(a), -1).astype(np.int32) for a in arrays], axis=1))
    whole = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))
    return np.unique(whole, return_inverse=True)[1].reshape(-1)


def _ceiling(inputs: np.ndarray, pairs: np.ndarray) -> float:
    """Best exact match of any function from input to target; both (n,) ids of inputs and of (input, target)."""
    _, first, count = np.unique(pairs, return_index=True, return_counts=True)
    best = np.zeros(inputs.max() + 1, np.int64)
    np.maximum.at(best, inputs[first], count)
    return float(best.sum() / len(inputs))


def _entropy(tokens: np.ndarray) -> float:
    share = np.unique(tokens, return_counts=True)[1] / tokens.size
    return float(-(share * np.log2(share)).sum())


def _audit_split(split: Split) -> dict:
    inputs = _row_ids(split.inputs, split.puzzle_ids)  # what the model sees: tokens and puzzle identifier
    pairs = _row_ids(split.inputs, split.puzzle_ids, split.labels)
    n = len(split)
    first = np.unique(pairs, return_index=True)[1]
    targets = np.bincount(inputs[first])  # different targets of each input
    per_task = {name: _ceiling(inputs[split.tasks == i], pairs[split.tasks == i])
                for i, name in enumerate(split.meta.tasks) if (split.tasks == i).any()}
    return {
        "n": n,
        "per_task": {name: int((split.tasks == i).sum()) for i, name in enumerate(split.meta.tasks)},
        "duplicate_inputs": 1 - len(targets) / n,
        "conflicting_inputs": int((targets > 1).sum()),
        "most_targets_of_one_input": int(targets.max()),
        "best_exact_match": _ceiling(inputs, pairs),
        "best_exact_match_if_only_this_task": per_task,
        "token_entropy_bits": _entropy(split.inputs),
    }


def audit(train: Split, test: Split) -> dict:
    """Numbers about both splits: `train`, `test` (a dict each), `overlap`, `overlap_solved`, `warnings` (sentences).

    Per split: n, n per task, share of repeated inputs, inputs with several targets, `best_exact_match` 0..1 (of
    the best deterministic map from input and puzzle identifier to target) overall and for a map that serves
    one task only, entropy of the input tokens in bits. `overlap`: share of test inputs that occur in train;
    `overlap_solved`: share that occur there with the same target (a rule can reuse another rule's input).
    """
    result = {"train": _audit_split(train), "test": _audit_split(test), "warnings": []}
    if train.inputs.shape[1] == test.inputs.shape[1]:
        inputs, labels = (np.concatenate([getattr(split, name) for split in (train, test)])
                          for name in ("inputs", "labels"))
        overlap, solved = (float(np.isin(ids[len(train):], ids[:len(train)]).mean())
                           for ids in (_row_ids(inputs), _row_ids(inputs, labels)))
    else:
        result["warnings"].append(f"train has {train.inputs.shape[1]} cells an example and test "
                                  f"{test.inputs.shape[1]}: they are not the same task")
        overlap = solved = 0.0
    result["overlap"], result["overlap_solved"] = overlap, solved
    warn = result["warnings"].append
    for name, split in (("train", train), ("test", test)):
        seen = result[name]
        if seen["conflicting_inputs"]:
            warn(f"{name}: no model can pass {100 * seen['best_exact_match']:.1f} % exact match: "
                 f"{seen['conflicting_inputs']:,} inputs each have up to {seen['most_targets_of_one_input']} "
                 "different targets (the input does not seem to say which task is meant)")
        elif seen["duplicate_inputs"] > 0.01:
            warn(f"{name}: {100 * seen['duplicate_inputs']:.1f} % of the examples repeat an earlier input")
        absent = [task for task, count in seen["per_task"].items() if not count]
        if absent:
            warn(f"{name}: no example of {', '.join(absent)}")
        if not (split.labels >= 0).any(1).all():
            warn(f"{name}: {int((~(split.labels >= 0).any(1)).sum()):,} examples have no scored cell")
    if solved:
        warn(f"{100 * solved:.1f} % of the test examples occur in train, target included: the score "
             "will measure memory")
    unseen = np.setdiff1d(test.labels[test.labels >= 0], train.labels[train.labels >= 0])
    if len(unseen):
        warn(f"test asks for tokens that train never does: {unseen.tolist()}")
    unknown = len(np.setdiff1d(test.puzzle_ids, train.puzzle_ids))
    if unknown:
        warn(f"{unknown:,} puzzle identifiers of test never occur in train, so their embedding is untrained")
    return result


def _histogram(split: Split) -> str:
    counts = np.histogram(split.difficulty, bins=10, range=(0, 1))[0]
    return " ".join(str(c) for c in counts)


def card(train: Split, test: Split, audit: dict) -> str:
    """The dataset card, markdown: source, licence, size, splits, what `audit` found, difficulty."""
    meta = train.meta
    shape = f"{meta.seq_len} cells" + (f" ({meta.grid[0]} x {meta.grid[1]} grid)" if meta.grid else "")
    lines = [
        f"# {meta.name or 'Puzzle dataset'}", "",
        f"- Source: {meta.source or 'not stated'}",
        f"- Licence: {meta.licence or 'not stated'}",
        f"- Example: {shape}, {meta.vocab_size} token ids; tasks: {', '.join(meta.tasks)}",
        f"- Augmentation in training: {meta.augment}",
    ]
    if meta.notes:
        lines.append(f"- Notes: {meta.notes}")
    lines += ["", "| | train | test |", "| --- | ---: | ---: |"]

    def row(name, show):
        lines.append(f"| {name} | {show(audit['train'])} | {show(audit['test'])} |")

    row("examples", lambda s: f"{s['n']:,}")
    for task in meta.tasks if len(meta.tasks) > 1 else ():
        row(f"of these {task}", lambda s, task=task: f"{s['per_task'].get(task, 0):,}")
    row("best exact match the data allows", lambda s: f"{100 * s['best_exact_match']:.1f} %")
    row("inputs with several targets", lambda s: f"{s['conflicting_inputs']:,}")
    row("repeated inputs", lambda s: f"{100 * s['duplicate_inputs']:.1f} %")
    row("entropy of input tokens", lambda s: f"{s['token_entropy_bits']:.2f} bits")
    lines.append(f"| difficulty, ten bins from 0 to 1 | {_histogram(train)} | {_histogram(test)} |")
    lines += ["", f"Test inputs that occur in train: {100 * audit['overlap']:.1f} %; with the same target: "
              f"{100 * audit['overlap_solved']:.1f} %.", ""]
    lines += [f"**Warning:** {sentence}." for sentence in audit["warnings"]] or ["No warnings."]
    return "\n".join(lines) + "\n"
