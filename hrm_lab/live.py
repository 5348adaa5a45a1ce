"""Watch a run while it trains: a panel in JupyterLab, a line for each evaluation in a terminal, mirrors elsewhere.

    with live.watch(run, config.steps, targets):            # in a notebook
        launch(config, recipe, train, valid, run)

    python -m hrm_lab.live runs/x --steps 400               # in any terminal that sees the folder

What is unusual: nothing is hooked into the training loop. A thread reads metrics.jsonl, which every loop of this lab
writes and which survives a kill, so that one panel serves them all, also runs of several processes or of another
machine. The panel is one displayed figure that is replaced in place: when training ends it stays in the notebook and in
its report, with its alt text, and no widget is left behind. Drawing takes at most `SHARE` of the time.
With a ledger, the forecasts at epochs `foresight.MADE` are stored when made and scored when their epoch arrives.
"""

import argparse
import base64
import contextvars
import io
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from hrm_lab import alarms, forecast_ledger, foresight, plots, runs
from hrm_lab.forecast_bank import shipped
from hrm_lab.forecast_targets import Outlook, Target, outlook
from hrm_lab.mirrors import MIRRORS, known

SHARE = 0.03  # of the wall time that drawing may take
FAN = 8  # later epochs at which a fan is computed
POLL = 0.3  # seconds between two looks at the file
X_LABEL = "epoch (fiftieths of the run)"
RECENT = 5  # evaluations over which the pace is measured


@dataclass(frozen=True)
class State:
    """What is known of a run after its last evaluation. Epochs are fiftieths of the run (`alarms.EPOCHS`)."""

    name: str
    metric: str
    steps: int  # of the whole run
    rows: list[dict]  # of metrics.jsonl, with `epoch` in fiftieths
    outlook: Outlook
    alarms: list[alarms.Alarm]
    pace: float | None  # steps a second; None after one evaluation
    eta: float | None  # seconds


def assess(name: str, history: list[dict], steps: int, targets: list[Target] = (), metric: str = "exact_match",
           ceiling: float = 1.0) -> State:
    """The state after `history` (at least one row). The way to the end is always forecast, targets or not."""
    rows = alarms.plan_rows(history, steps)
    later = np.linspace(rows[-1]["epoch"], alarms.EPOCHS, FAN + 1)[1:]
    way = [Target(m, ">", 0.0, float(e), required=False) for m in ("loss", metric) if m in rows[-1] for e in later]
    seen = outlook(rows, [*targets, *(way if rows[-1]["epoch"] < alarms.EPOCHS else [])], bank=shipped("hrm"))
    found = alarms.check(history, steps, ceiling, metric, foresight.chances(seen, rows[-1]["step"]),
                         foresight.bands(history, steps, ("loss", metric)))
    first, last = history[-RECENT - 1:][0], history[-1]
    spent = last.get("seconds", 0) - first.get("seconds", 0)
    pace = (last["step"] - first["step"]) / spent if spent > 0 else None
    eta = max(0, steps - last["step"]) / pace if pace else None
    return State(name, metric, steps, rows, seen, found, pace, eta)


def ahead(state: State, metric: str) -> tuple[float, float, float] | None:
    """The forecast of a metric at the end of the run: low, median, high of its 90 % interval."""
    f = state.outlook.forecasts.get(metric)
    return None if f is None or f.steps[-1] < alarms.EPOCHS else tuple(f.quantiles[-1][[0, 2, 4]])


def line(state: State) -> str:
    """One evaluation in one line of a terminal."""
    row = state.rows[-1]
    parts = [f"step {row['step']:,}/{state.steps:,}", f"loss {row['loss']:.3f}" if "loss" in row else ""]
    if state.metric in row:
        parts.append(f"{state.metric.replace('_', ' ')} {100 * row[state.metric]:.1f} %"
                     + (f" (n = {row['n']})" if "n" in row else ""))
    if end := ahead(state, state.metric):
        parts.append(f"at the end {100 * end[1]:.0f} % ({100 * end[0]:.0f}-{100 * end[2]:.0f})")
    if state.outlook.p_all is not None and any(o.target.required for o in state.outlook.each):
        parts.append(f"P(targets) {100 * state.outlook.p_all:.0f} %")
    if state.pace:
        parts.append(f"{state.pace:.3g} steps/s, {clock(state.eta)} left")
    on = sorted({alarm.rule for alarm in alarms.active(state.alarms)})
    return "  ".join(filter(None, [*parts, f"! {', '.join(on)}" if on else ""]))


def clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"


# ---------------------------------------------------------------- the panel


def picture(state: State) -> Figure:
    """Curves, forecast fans, targets, pace and time left, alarms. A Figure apart from pyplot's: safe in a thread."""
    fig = Figure(figsize=(plots.WIDTH, 3.9), layout="constrained")
    left, right = fig.subplots(1, 2)
    curve(left, state, state.metric, plots.BLUE, "held out")
    left.set(ylim=(-0.03, 1.03), title=state.metric.replace("_", " ").capitalize(), xlabel=X_LABEL)
    left.yaxis.set_major_formatter(PercentFormatter(1.0))
    curve(right, state, "train_loss", plots.ORANGE, "training", linestyle="--")
    curve(right, state, "loss", plots.BLUE, "held out")
    right.set(title="Loss", xlabel=X_LABEL)
    if all(row["loss"] > 0 for row in state.rows if "loss" in row):
        plots.log_axis(right.yaxis)
    for ax in (left, right):
        ax.set_xlim(0, alarms.EPOCHS + 0.5)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="best", fontsize=9)
    fig.suptitle(header(state), x=0.01, ha="left", fontsize=11, fontweight="bold", color=plots.INK)
    on = [f"! {alarm.rule}: {alarm.text}" for alarm in alarms.active(state.alarms)]
    fig.supxlabel("\n".join(on) or "no alarm is on", x=0.01, ha="left", fontsize=10,
                  color=plots.RED if on else plots.MUTED)
    return fig


def header(state: State) -> str:
    row = state.rows[-1]
    text = f"{state.name}: step {row['step']:,} of {state.steps:,}"
    if state.pace and row["step"] < state.steps:
        text += f", {state.pace:.3g} steps/s, {clock(state.eta)} left"
    return text


def curve(ax, state: State, metric: str, colour: str, label: str, **look):
    """The values so far, the fan of what is ahead (50 and 90 % intervals), and this metric's targets."""
    points = [(row["epoch"], row[metric]) for row in state.rows if row.get(metric) is not None]
    if points:
        ax.plot(*zip(*points, strict=True), color=colour, label=label, **{"marker": "o", "markersize": 3} | look)
    f = state.outlook.forecasts.get(metric)
    if f is not None and points:
        x = [points[-1][0], *f.steps]
        for low, high, alpha in ((0, 4, 0.15), (1, 3, 0.25)):
            ax.fill_between(x, [points[-1][1], *f.quantiles[:, low]], [points[-1][1], *f.quantiles[:, high]],
                            color=colour, alpha=alpha, linewidth=0)
        ax.plot(x, [points[-1][1], *f.quantiles[:, 2]], color=colour, linestyle=":", label="forecast, 50 and 90 %")
    for one in state.outlook.each:
        if one.target.metric == metric and one.target.required:
            p = "" if one.p is None else f", P = {100 * one.p:.0f} %"
            ax.plot(one.target.epoch, one.target.value, marker="v" if "<" in one.target.op else "^", markersize=9,
                    color=plots.RED, linestyle="none", clip_on=False,
                    label=f"target {one.target.op} {one.target.value:g}{p}")


def alt(state: State) -> str:
    row, end = state.rows[-1], ahead(state, state.metric)
    name = state.metric.replace("_", " ")
    score = f" and {name} {100 * row[state.metric]:.1f} %" if state.metric in row else ""
    text = (f"{name.capitalize()} and loss of {state.name} over {len(state.rows)} evaluations, up to step "
            f"{row['step']:,} of {state.steps:,}: loss {row.get('loss', float('nan')):.3g}{score}")
    if end:
        text += f"; forecast for the end {100 * end[1]:.0f} %, 90 % interval {100 * end[0]:.0f} to {100 * end[2]:.0f} %"
    on = sorted({alarm.rule for alarm in alarms.active(state.alarms)})
    return text + (f". Alarms: {', '.join(on)}." if on else ". No alarm is on.")


def bundle(state: State) -> tuple[dict, dict]:
    """The panel as display data and metadata."""
    fig, told, buffer = picture(state), alt(state), io.BytesIO()
    fig.savefig(buffer, format="png", dpi=110, metadata={"Description": told, "Software": None})
    return ({"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": told},
            {"image/png": {"alt": told}})


# ---------------------------------------------------------------- following a run


@contextmanager
def watch(run: Path | str, steps: int, targets: list[Target] = (), metric: str = "exact_match", ceiling: float = 1.0,
          sinks: tuple[str, ...] = (), name: str = "", ledger: Path | str | None = None, out=None):
    """Follow `run`/metrics.jsonl for as long as the block runs: a panel in a notebook, elsewhere lines on `out`.

    sinks: of `mirrors.MIRRORS`. ledger: a file of `forecast_ledger`. What goes wrong while drawing is raised when the
    block ends, never inside the training.
    """
    run = Path(run)
    with ExitStack() as stack:
        copies = [stack.enter_context(MIRRORS[sink](run)) for sink in known(sinks)]
        name = name or run.name
        recorder = partial(keep, ledger, name) if ledger else None
        follower = Follower(run, steps, lambda rows: assess(name, rows, steps, targets, metric, ceiling), copies,
                            recorder, out)
        # the kernel routes what a thread displays by a context variable: the cell's own, copied here
        thread = threading.Thread(target=contextvars.copy_context().run, args=(follower.loop,), daemon=True)
        thread.start()
        try:
            yield follower
        finally:
            follower.over.set()
            thread.join()
        if follower.error:
            raise follower.error


class Follower:
    """The thread's work: new rows to the mirrors at once, to the panel as often as its share of time allows."""

    def __init__(self, run: Path, steps: int, judge, mirrors, recorder, out):
        self.path, self.steps, self.judge, self.mirrors = run / "metrics.jsonl", steps, judge, mirrors
        self.recorder, self.out = recorder, out
        self.over, self.error, self.handle = threading.Event(), None, None
        self.sent, self.drawn, self.free = 0, 0, 0.0  # steps; when the next drawing may begin
        self.before = stamp(self.path)  # an earlier run's file is not shown until this one touches it

    def loop(self):
        try:
            while not self.over.wait(POLL):
                self.look(last=False)
            self.look(last=True)
        except Exception as error:  # training must not die of its picture; `watch` raises this at the end
            self.error = error

    def look(self, last: bool):
        now = stamp(self.path)
        if now is None or (now == self.before and not last):
            return
        self.before = now
        rows = runs.read_metrics(self.path.parent)
        fresh = [row for row in rows if row["step"] > self.sent]
        for row in fresh:
            for mirror in self.mirrors:
                mirror(row)
        if fresh and self.recorder:
            self.recorder(rows, self.sent, self.steps, self.judge)
        if rows:
            self.sent = rows[-1]["step"]
        if not rows or rows[-1]["step"] == self.drawn:
            return
        if not last and time.monotonic() < self.free:
            self.before = None  # look again soon: a row waits to be drawn
            return
        began = time.monotonic()
        self.show(rows)
        self.drawn = rows[-1]["step"]
        self.free = time.monotonic() + (time.monotonic() - began) / SHARE

    def show(self, rows: list[dict]):
        if self.out is not None or not in_notebook():
            for i in range(len(rows)):
                if rows[i]["step"] > self.drawn:
                    print(line(self.judge(rows[:i + 1])), file=self.out or sys.stdout, flush=True)
            return
        from IPython.display import display

        data, metadata = bundle(self.judge(rows))
        if self.handle is None:
            self.handle = display(data, metadata=metadata, raw=True, display_id=True)
        else:
            self.handle.update(data, metadata=metadata, raw=True)


def keep(ledger: Path | str, name: str, rows: list[dict], sent: int, steps: int, judge):
    """Store the forecasts of the epochs `foresight.MADE` that came after step `sent`, and score those that are due."""
    planned = alarms.plan_rows(rows, steps)
    for before, (i, row) in zip([{"epoch": 0}, *planned], enumerate(planned), strict=False):
        if row["step"] > sent and any(before["epoch"] < epoch <= row["epoch"] for epoch in foresight.MADE):
            seen = judge(rows[:i + 1]).outlook
            for metric, f in seen.forecasts.items():
                asked = [one for one in seen.each if one.target.metric == metric and one.target.required]
                forecast_ledger.record_forecast(ledger, name, metric, f, asked)
    forecast_ledger.settle(ledger, name, planned)


def stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    shell = shell.get_ipython() if shell else None
    return hasattr(shell, "kernel")


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hrm_lab.live", description="One line for each evaluation.")
    parser.add_argument("run", help="a run directory")
    parser.add_argument("--steps", type=int, help="of the whole run (default: as its run.json says)")
    parser.add_argument("--metric", default="exact_match")
    given = parser.parse_args(argv)
    try:
        steps = given.steps or runs.read_json(Path(given.run) / "run.json")["train"]["steps"]
        with watch(given.run, steps, metric=given.metric, out=sys.stdout):
            while not finished(given.run, steps):
                time.sleep(POLL)
    except (ValueError, OSError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def finished(run: Path | str, steps: int) -> bool:
    record = Path(run) / "run.json"
    rows = runs.read_metrics(run)
    return bool(rows) and rows[-1]["step"] >= steps or record.exists() and runs.read_json(record)["status"] != "running"


if __name__ == "__main__":
    sys.exit(main())
