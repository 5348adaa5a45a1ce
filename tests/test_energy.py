"""Joules come from counters or are not given: a counter that starts again, one that may not be read, none at all."""

import pytest

from hrm_lab import energy


def package(root, number, microjoules, span=262_143_328_850, name=None):
    folder = root / f"intel-rapl:{number}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text((name or f"package-{number}") + "\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{span}\n")


def test_joules_are_the_sum_of_the_packages(tmp_path):
    package(tmp_path, 0, 1_000_000)
    package(tmp_path, 1, 5_000_000)
    package(tmp_path, 2, 7, name="psys")  # holds the packages once more
    with energy.meter(tmp_path) as used:
        package(tmp_path, 0, 3_500_000)
        package(tmp_path, 1, 5_250_000)
        package(tmp_path, 2, 10**9, name="psys")
    assert used.total == pytest.approx(2.75) and len(used.joules) == 2 and used.seconds > 0


def test_a_counter_that_starts_again_is_followed(tmp_path):
    package(tmp_path, 0, 9_000_000, span=10_000_000)
    with energy.meter(tmp_path) as used:
        package(tmp_path, 0, 500_000, span=10_000_000)
    assert used.total == pytest.approx(1.5)


@pytest.mark.parametrize("make, why", [
    (lambda root: None, "no RAPL package counter under"),
    (lambda root: (root / "intel-rapl:0").mkdir(), "intel-rapl:0: No such file or directory"),
    (lambda root: package(root, 0, "secret"), "intel-rapl:0: invalid literal"),
])
def test_without_a_counter_it_says_so(tmp_path, make, why):
    make(tmp_path)
    with energy.meter(tmp_path) as used:
        pass
    assert used.total is None and why in used.why_not


def test_the_work_s_own_error_comes_through(tmp_path):
    package(tmp_path, 0, 0)
    with pytest.raises(KeyError), energy.meter(tmp_path) as used:
        raise KeyError("mine")
    assert used.total == 0


def test_this_machine_answers_one_way_or_the_other():
    with energy.meter() as used:
        sum(range(100_000))
    assert used.total is None or used.total >= 0
