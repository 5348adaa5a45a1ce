"""Copies of a run's evaluations for those who use a tracker: TensorBoard or Trackio, both optional, both local.

A mirror is a context manager that gives a function of one row of metrics.jsonl, which stays the source of truth. What
is unusual: a package that is missing is said before training starts, in one line, and nothing is sent off this machine:
where Trackio is told by its environment to send runs elsewhere, that is refused in one line too.
"""

import importlib
import os
from contextlib import contextmanager
from pathlib import Path


def numbers(row: dict) -> dict[str, float]:
    return {k: v for k, v in row.items() if isinstance(v, int | float) and k != "step"}


@contextmanager
def tensorboard(run: Path):
    """Scalars for `tensorboard --logdir <run>/tensorboard`."""
    with needed("torch.utils.tensorboard", "tensorboard").SummaryWriter(run / "tensorboard") as writer:
        yield lambda row: [writer.add_scalar(k, v, row["step"]) for k, v in numbers(row).items()]


@contextmanager
def trackio(run: Path):
    """A run of the local project `hrm-lab` for `trackio show`; it stays on this machine."""
    for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        if os.environ.get(name):
            raise ValueError(f"sinks: got {name} in the environment, by which trackio sends runs off this machine; "
                             "expected it unset")
    trackio = needed("trackio", "trackio")
    trackio.init(project="hrm-lab", name=run.name)
    try:
        yield lambda row: trackio.log(numbers(row), step=row["step"])
    finally:
        trackio.finish()


MIRRORS = {"tensorboard": tensorboard, "trackio": trackio}


def known(names: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := [name for name in names if name not in MIRRORS]:
        raise ValueError(f"sinks: got {unknown[0]!r}, expected of {', '.join(MIRRORS)}")
    return names


def needed(module: str, package: str):
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"sinks: {package} cannot be imported ({error}); expected it installed: "
                         "pip install 'hrm-lab[track]'") from None
