"""The improvement strategies of the puzzle report, each a switch, with its measured effect at the same number of steps.

The report on the 50 % plateau proposes longer training with early stopping, 20 % more puzzles, 10 % noise, balanced
difficulty, a curriculum and attention. What is unusual: each has a control that could prove it wrong. A curriculum is
held against the same growing window in random order; 20 % more data against a forecast of its worth, made from
smaller sets before the larger one is trained on; longer training is charged for its steps. Differences are paired over
seeds and test puzzles (`hrm_lab.ablation_results.share`), and finished runs are kept and found again.
"""

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from hrm_lab import act, metrics, runs
from hrm_lab.ablation import identity
from hrm_lab.ablation_results import outcomes, points, share
from hrm_lab.forecast import forecast
from hrm_lab.forecast_bank import shipped
from hrm_lab.model import HRMConfig
from hrm_lab.puzzles import dataset
from hrm_lab.train import TrainConfig, Trainer, fingerprint

ORDERS = ("as it is", "shuffled", "reversed")
MORE = 1.2  # 20 % more puzzles
SIZES = (0.3, 0.45, 0.6, 0.8)  # of the base's puzzles: what the worth of more is forecast from
NOISE = 0.1


@dataclass(frozen=True)
class Strategy:
    """One switch. `puzzles`: training puzzles; `order`: of difficulty, as the curriculum sees it."""

    name: str
    question: str
    model: HRMConfig
    recipe: TrainConfig
    puzzles: int
    order: str = "as it is"
    against: str = "base"
    keep_best: bool = False  # judge the best validation, not the last: early stopping


@dataclass(frozen=True)
class Study:
    """`puzzles`: of the base; the split must hold 20 % more. Only the first `judged` test puzzles count; 0: all."""

    data: str
    model: dict
    train: dict
    puzzles: int
    seeds: int = 3
    judged: int = 0


def strategies(study: Study) -> list[Strategy]:
    """All switches around a study's base, the base first."""
    meta = dataset.load(study.data, "train").meta
    model = HRMConfig(vocab_size=meta.vocab_size, seq_len=meta.seq_len, grid=meta.grid, **study.model)
    base, n = TrainConfig(**study.train), study.puzzles
    widen = {"curriculum": 0.6, "curriculum_examples": base.steps * base.batch // 4}
    mixing = replace(model, mixer="mlp", positions="none",  # of as many parameters as attention
                     mixer_multiple=round(4 * model.hidden ** 2 / 3 / model.seq_len))
    balance = "task" if len(meta.tasks) > 1 else "difficulty"
    return [
        Strategy("base", "", model, base, n),
        Strategy("twice the steps", "does longer training help?", model, replace(base, steps=2 * base.steps), n),
        Strategy("twice the steps, best kept", "and with early stopping on validation?", model,
                 replace(base, steps=2 * base.steps, patience=6), n, keep_best=True),
        Strategy("20 % more puzzles", "what are more data worth?", model, base, round(MORE * n)),
        Strategy("10 % label noise", "do wrong labels in training help, or hurt?", model,
                 replace(base, label_noise=NOISE), n),
        Strategy("10 % input noise", "do wrong givens in training help, or hurt?", model,
                 replace(base, input_noise=NOISE), n),
        Strategy("balanced", f"does the same share for each {balance} help?", model, replace(base, balance=balance), n),
        Strategy("curriculum", "does beginning with easy puzzles help?", model, replace(base, **widen), n),
        Strategy("window, shuffled", "or only beginning with few puzzles, of any difficulty?", model,
                 replace(base, **widen), n, order="shuffled"),
        Strategy("anti-curriculum", "or beginning with the hardest?", model, replace(base, **widen), n,
                 order="reversed"),
        Strategy("token mixing", "is an MLP over positions as good as attention?", mixing, base, n),
    ]


def reordered(split: dataset.Split, order: str) -> dataset.Split:
    """The split with another difficulty in each puzzle's place: what a curriculum is held against."""
    if order not in ORDERS:
        raise ValueError(f"order: got {order!r}, expected one of {', '.join(ORDERS)}")
    if order == "shuffled":
        return replace(split, difficulty=np.random.default_rng(0).permutation(split.difficulty))
    return replace(split, difficulty=split.difficulty.max() - split.difficulty) if order == "reversed" else split


def first(split: dataset.Split, n: int, where: str) -> dataset.Split:
    """The first n puzzles of a split of single puzzles; ValueError if it has fewer, or more than one a group."""
    if not 1 <= n <= len(split) or len(np.unique(split.groups)) != len(split):
        raise ValueError(f"{where}: got {len(split):,} examples in {len(np.unique(split.groups)):,} groups, expected "
                         f"{n:,} or more of one example each")
    arrays = ("inputs", "labels", "puzzle_ids", "tasks", "difficulty", "groups")
    return replace(split, **{name: getattr(split, name)[:n] for name in arrays}, puzzles=None)


# ---------------------------------------------------------------- running


def measure(study: Study, one: Strategy, seed: int) -> dict:
    """Train one strategy with one seed and judge it on the test split: a row of metrics.jsonl."""
    splits = {name: dataset.load(study.data, name) for name in ("train", "valid", "test")}
    data = reordered(first(splits["train"], one.puzzles, study.data), one.order)
    recipe = replace(one.recipe, seed=seed)
    trainer = Trainer(one.model, recipe, data, torch.device("cpu"))
    began, best, since, kept = time.process_time(), -1.0, 0, None
    while trainer.step < recipe.steps and not (recipe.patience and since >= recipe.patience):
        trainer.advance()
        if one.keep_best and trainer.step % recipe.eval_every == 0:
            seen = judged(trainer, splits["valid"], recipe.eval_n)
            merit = seen.exact.mean() + 1e-3 * seen.token_accuracy.mean()
            since = 0 if merit > best else since + 1
            if merit > best:
                best, kept = merit, weights(trainer)
    spent = time.process_time() - began
    if kept:
        trainer.model.load_state_dict(kept)
        trainer.average = []
    found = judged(trainer, splits["test"], study.judged)
    return {"key": key(study, one, seed), "strategy": one.name, "puzzles": one.puzzles, "seed": seed,
            "steps": trainer.step, "cpu_seconds": round(spent, 3), "n": len(found.exact),
            "exact": np.packbits(found.exact).tobytes().hex()}


def judged(trainer: Trainer, split: dataset.Split, limit: int) -> act.Evaluation:
    """The averaged weights on the first puzzles of a split; the trainer is as before."""
    if trainer.average:
        trainer.swap_average()
    found = act.evaluate(trainer.model, split, full=False, limit=limit)
    if trainer.average:
        trainer.swap_average()
    return found


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    """A copy of the (averaged) weights."""
    if trainer.average:
        trainer.swap_average()
    found = {name: t.clone() for name, t in trainer.model.state_dict().items()}
    if trainer.average:
        trainer.swap_average()
    return found


def key(study: Study, one: Strategy, seed: int) -> str:
    prints = [fingerprint(dataset.load(study.data, name)) for name in ("train", "valid", "test")]
    facts = {k: v for k, v in asdict(one).items() if k not in ("question", "against")}
    return identity("strategy", prints, facts, seed, study.judged)


def collect(study: Study, chosen: list[Strategy], folder: Path | str, say=print) -> dict[str, list[dict]]:
    """Strategy -> a row a seed; those that `folder`/metrics.jsonl holds are taken from there, the others trained."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kept = runs.read_metrics(folder)  # without a last line that a kill cut short, which nothing may be appended to
    runs.write_atomic(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in kept))
    done, rows, trained = {row["key"]: row for row in kept}, {}, 0
    for one in chosen:
        for seed in range(study.seeds):
            name = key(study, one, seed)
            if name not in done:
                done[name] = measure(study, one, seed)
                runs.append_metrics(folder, done[name])
                trained += 1
            rows.setdefault(one.name, []).append(done[name])
    say(f"{trained} runs trained, {sum(map(len, rows.values())) - trained} found")
    return rows


# ---------------------------------------------------------------- what more data are worth


def worth(study: Study, folder: Path | str, say=print) -> dict:
    """Exact match at 20 % more puzzles: forecast from smaller sets and the base, before the larger set is trained on.

    Returns sizes, values (mean of seeds), the Forecast, and its quantiles of the gain over the base at LEVELS.
    """
    base = strategies(study)[0]
    smaller = [replace(base, name=f"{size:g} of the puzzles", puzzles=round(size * study.puzzles)) for size in SIZES]
    rows = collect(study, [*smaller, base], folder, say)
    sizes = np.array([own[0]["puzzles"] for own in rows.values()], float)
    values = np.array([outcomes(own).mean() for own in rows.values()])
    n = study.seeds * rows["base"][0]["n"]
    seen = forecast(sizes, values, n, [round(MORE * study.puzzles)], bank=shipped())
    return {"sizes": sizes, "values": values, "forecast": seen, "gain": seen.quantiles[-1] - values[-1]}


# ---------------------------------------------------------------- what they show


def scores(rows: dict[str, list[dict]]) -> dict[str, dict]:
    """Flat scores: <strategy>/exact_match and, but for the base, <strategy>/minus_base; curriculum/minus_control."""
    base = outcomes(rows["base"])
    table = {}
    for name, own in rows.items():
        table[f"{name}/exact_match"] = share(outcomes(own))
        if name != "base":
            table[f"{name}/minus_base"] = share(outcomes(own), base)
    if {"curriculum", "window, shuffled"} <= set(rows):
        table["curriculum/minus_control"] = share(outcomes(rows["curriculum"]), outcomes(rows["window, shuffled"]))
    return table


def table(chosen: list[Strategy], rows: dict[str, list[dict]], found: dict[str, dict]) -> dict[str, dict]:
    """Strategy -> the cells of its line, as people read them."""
    lines = {}
    for one in chosen:
        own, s = rows[one.name], found[f"{one.name}/exact_match"]
        difference = found.get(f"{one.name}/minus_base")
        lines[one.name] = {"question": one.question, "exact match": f"{100 * s['value']:.1f} %",
                           "95 % interval": f"{100 * s['low']:.1f} to {100 * s['high']:.1f}",
                           "minus base": points(difference) if difference else "–",
                           "steps": f"{np.mean([row['steps'] for row in own]):,.0f}",
                           "CPU-s": f"{np.mean([row['cpu_seconds'] for row in own]):.1f}",
                           "seeds x puzzles": f"{len(own)} x {own[0]['n']:,}"}
    return lines


def findings(found: dict[str, dict], before: dict) -> list[str]:
    """Which switches helped, which hurt, and what was predicted of more data, as markdown sentences."""
    groups = {"Helped": [], "Hurt": [], "Too close to tell": []}
    for name, s in found.items():
        if name.endswith("/minus_base"):
            group = "Helped" if s["low"] > 0 else "Hurt" if s["high"] < 0 else "Too close to tell"
            groups[group].append(f"{name.removesuffix('/minus_base')} {points(s)}")
    out = ["**Against the base**, in points: " + " ".join(f"{group}: {'; '.join(own)}." for group, own in groups.items()
                                                        if own)]
    if s := found.get("curriculum/minus_control"):
        out.append(f"**Easy first**, against a window of the same size in random order: {points(s)} points.")
    if s := found.get("20 % more puzzles/minus_base"):
        low, _, middle, _, high = 100 * before["gain"]
        real = 100 * s["value"]
        out.append(f"**20 % more puzzles**: forecast before {middle:+.1f} points (90 % interval {low:+.1f} to "
                   f"{high:+.1f}, {before['forecast'].calibration}), real {points(s)}: "
                   f"{'inside' if low <= real <= high else 'outside'} the forecast.")
    return out


def known(found: dict[str, dict]) -> dict[str, dict]:
    """The scores under names that metrics.json takes: without spaces and signs."""
    return {"strategies/" + name.replace("%", "percent").replace(",", "").replace(" ", "_"): s
            for name, s in found.items() if isinstance(s, dict) and set(s) == set(metrics.plain(0, 0))}
