"""Energy in joules, where the machine counts it: RAPL's package counters as Linux shows them under /sys/class/powercap.

    with energy.meter() as used:
        work()
    print(used.total, "J" if used.joules else used.why_not)

Unusual: nothing is estimated from a nominal power. Where there is no counter (virtual machines, macOS) or it may not be
read (since CVE-2020-8694 by root alone), the answer is "not available" with the reason. A package counter sees every
process on its socket, so on a busy machine the joules are an upper bound of one's own. Accelerators are not included.
Source: the kernel's Documentation/power/powercap/powercap.rst.
"""

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


@dataclass
class Used:
    """What a block of code used; filled in when the block ends. `joules` by package, empty where not available."""

    joules: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    why_not: str = ""

    @property
    def total(self) -> float | None:
        """Joules of all packages; None where not available."""
        return sum(self.joules.values()) if self.joules else None


def counters(root: Path = POWERCAP) -> tuple[dict[str, tuple[int, int]], str]:
    """(package -> (microjoules so far, value at which the counter starts again), why there are none)."""
    found, why = {}, f"no RAPL package counter under {root}"
    for folder in sorted(root.glob("intel-rapl:*")):  # AMD's appear under this name, too
        try:
            name = (folder / "name").read_text().strip()
            if name.startswith("package"):
                values = [int((folder / file).read_text()) for file in ("energy_uj", "max_energy_range_uj")]
                found[f"{name} ({folder.name})"] = (values[0], values[1])
        except (OSError, ValueError) as error:
            why = f"{folder}: {getattr(error, 'strerror', None) or error}"
    return found, "" if found else why


@contextmanager
def meter(root: Path = POWERCAP):
    """Yields a `Used` that is filled in at the end. Counters that start again once in between are followed.

    A counter of some 65 W-hours comes round after about an hour at full power: measure pieces shorter than that.
    """
    used = Used()
    before, used.why_not = counters(root)
    began = time.perf_counter()
    try:
        yield used
    finally:
        used.seconds = time.perf_counter() - began
        after, _ = counters(root)
        for name, (start, span) in before.items():
            if name in after:
                passed = after[name][0] - start
                used.joules[name] = (passed if passed >= 0 else passed + span) / 1e6
        if before and not used.joules:
            used.why_not = "the counters went away while they were read"
