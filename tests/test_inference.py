"""More compute at the end: attempts that do not depend on the batch, choosing, and a compute that is what was done."""

from dataclasses import replace
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conftest import tiny, toy_split
from hrm_lab import act, plots_compute
from hrm_lab import inference as inf
from hrm_lab.model import HRM

NOISY = inf.Search(attempts=4, sigma=0.7, noise="every")


def judging(**changes):
    """A model that halts at different depths for different puzzles, and not always."""
    torch.manual_seed(0)
    model = HRM(tiny(halt_max_steps=4, halt_confidence=0.9) if not changes else tiny(halt_max_steps=4, **changes))
    with torch.no_grad():
        model.q_head.weight.normal_(std=2.0)
        model.q_head.bias.zero_()
    return model


def sudokus(n=20):
    """4x4 boards of random tokens: what a symmetry does to them is all that is asked here."""
    split = toy_split(n)
    cells = np.random.default_rng(0).integers(1, 6, (n, 16)).astype(np.int32)
    meta = replace(split.meta, seq_len=16, grid=(4, 4, 2, 2), augment="sudoku", vocab_size=6)
    return replace(split, inputs=cells, labels=cells, meta=meta)


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


class Counted:
    """Puzzles times segments that a model really ran."""

    def __init__(self, model):
        self.puzzles = 0
        model.register_forward_hook(self.count)

    def count(self, module, args, out):
        self.puzzles += len(args[0])


# ---------------------------------------------------------------- attempts


def test_one_attempt_is_evaluation_with_early_halting_and_never_halting_is_full_depth():
    model, data = judging(), toy_split(60)
    whole = act.evaluate(model, data, batch=32)
    one, full = inf.search(model, data, inf.Search()), inf.search(model, data, inf.Search(halt_at=1.0))
    assert np.array_equal(one.predictions[0], whole.predictions) and np.array_equal(one.steps[0], whole.steps)
    assert np.allclose(one.confidence[0], whole.confidence, atol=1e-6) and len(set(one.steps[0].tolist())) > 1
    assert np.array_equal(full.predictions[0], whole.full_predictions)
    assert (full.steps == 4).all() and not full.sure.any()


def test_attempts_depend_on_the_seed_and_not_on_the_batch_nor_on_how_many_there_are():
    model, data = judging(), toy_split(30)
    found = inf.search(model, data, NOISY)
    assert equal(found, inf.search(model, data, NOISY))
    small = inf.search(model, data, NOISY, batch=7)
    assert np.array_equal(found.steps, small.steps) and np.array_equal(found.predictions, small.predictions)
    assert equal(found.first(2), inf.search(model, data, replace(NOISY, attempts=2)))
    assert equal(inf.search(model, data, NOISY, limit=10).first(1), inf.Attempts(
        *(a[:1, :10] for a in vars(found).values())))
    assert not np.array_equal(found.confidence[1], found.confidence[2])
    assert not np.array_equal(found.confidence[1], inf.search(model, data, replace(NOISY, seed=1)).confidence[1])


@pytest.mark.parametrize("c", [inf.Search(), NOISY, replace(NOISY, until_sure=True), inf.Search(longer=3),
                               inf.Search(halt_at=1.0)])
def test_the_compute_reported_is_the_compute_done(c):
    model, data = judging(), toy_split(40)
    counted = Counted(model)
    assert inf.search(model, data, c, batch=16).steps.sum() == counted.puzzles


def test_until_sure_stops_at_the_first_sure_attempt():
    model, data = judging(), toy_split(60)
    whole, cheap = inf.search(model, data, NOISY), inf.search(model, data, replace(NOISY, until_sure=True))
    made = np.cumsum(whole.sure, axis=0) - whole.sure == 0  # nothing was sure before it
    assert 0 < (~made).sum() < made.size and np.array_equal(cheap.steps, whole.steps * made)
    assert equal(cheap, whole.until_sure())


def test_longer_thinking_changes_only_the_puzzles_that_had_not_halted():
    model, data = judging(), toy_split(60)
    one, longer = inf.search(model, data, inf.Search()), inf.search(model, data, inf.Search(longer=3))
    assert one.sure.any() and not one.sure.all()
    assert np.array_equal(one.predictions[one.sure], longer.predictions[one.sure])
    assert (longer.steps[~one.sure] > 4).all() and longer.steps.max() <= 12


def test_symmetries_are_undone():
    """A model that answers with its input gives back each puzzle, whatever symmetry it was shown under."""
    torch.manual_seed(0)
    model, data = HRM(tiny(vocab_size=6, seq_len=16)), sudokus()
    model.forward = lambda x, ids, z_H, z_L: (z_H, z_L, torch.eye(6)[x], x[:, :2].float() - 5)
    seen = []
    original, model.forward = model.forward, lambda x, *rest: seen.append(x.numpy()) or original(x, *rest)
    found = inf.search(model, data, inf.Search(attempts=5, symmetric=True))
    assert all(np.array_equal(p, data.inputs) for p in found.predictions)
    assert not np.array_equal(seen[0], seen[-1])


# ---------------------------------------------------------------- choosing


def attempts(predictions, confidence, steps=None):
    predictions, confidence = np.array(predictions), np.array(confidence, float)
    steps = np.ones(confidence.shape, int) if steps is None else np.array(steps)
    return inf.Attempts(predictions, confidence, steps, steps > 0)


def test_confidence_takes_the_surest_and_vote_the_answer_with_most_confidence_together():
    found = attempts([[[1, 2]], [[3, 4]], [[3, 4]]], [[0.7], [0.6], [0.2]])
    assert inf.choose(found)[0].tolist() == [[1, 2]] and inf.choose(found, "vote")[0].tolist() == [[3, 4]]
    with pytest.raises(ValueError, match="by='best', expected confidence or vote"):
        inf.choose(found, "best")


@pytest.mark.parametrize("by", inf.CHOICES)
def test_an_attempt_that_was_not_made_is_never_chosen_and_never_right(by):
    found = attempts([[[9]], [[0]], [[0]]], [[0.0], [0.0], [0.0]], [[1], [0], [0]])
    assert inf.choose(found, by)[0].tolist() == [[9]]
    assert not inf.judge(found, np.array([[0]]), by)["any"].any()


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 10**6), st.sampled_from(inf.CHOICES))
def test_a_choice_is_one_of_the_attempts_and_never_beats_any_of_them(K, N, seed, by):
    rng = np.random.default_rng(seed)
    found = attempts(rng.integers(0, 2, (K, N, 2)), rng.random((K, N)))
    labels = rng.integers(0, 2, (N, 2))
    outcome = inf.judge(found, labels, by)
    assert (outcome["exact"] <= outcome["any"]).all() and (outcome["segments"] == K).all()
    p = inf.point(outcome, outcome, tiny())
    assert p["selection_failures"]["value"] == pytest.approx(p["pass_at_k"]["value"] - p["exact_match"]["value"])
    assert p["minus_one_pass"]["value"] == 0


# ---------------------------------------------------------------- accuracy against compute


def test_the_noise_is_chosen_by_accuracy_and_then_by_price(monkeypatch):
    solved = {0.1: (8, 3), 0.2: (9, 5), 0.3: (9, 4)}  # sigma: puzzles right of 10, segments

    def search(model, split, c, limit):
        right, segments = solved[c.sigma]
        return attempts([np.arange(10)[:, None] < right], [np.ones(10)], [np.full(10, segments)])

    monkeypatch.setattr(inf, "search", search)
    chosen, rows = inf.tune(None, SimpleNamespace(labels=np.ones((10, 1))), NOISY, [0.1, 0.2, 0.3])
    assert chosen == replace(NOISY, sigma=0.3, until_sure=True)
    assert [r["exact_match"]["value"] for r in rows] == [0.8, 0.9, 0.9]


def curve(c=NOISY):
    torch.manual_seed(0)
    model = HRM(tiny(vocab_size=6, seq_len=16, halt_max_steps=4, halt_confidence=0.6))
    with torch.no_grad():
        model.q_head.weight.normal_(std=2.0)
        model.q_head.bias.zero_()
    return inf.curve(model, sudokus(), c, [0.4])


def test_the_curve_starts_at_one_pass_and_every_method_is_paired_with_it():
    rows = curve()
    assert [r["setting"] for r in rows[:3]] == ["as trained", "halts at 0.4", "full depth"]
    one = rows[0]
    for r in rows:
        assert r["minus_one_pass"]["value"] == pytest.approx(r["exact_match"]["value"] - one["exact_match"]["value"])
        if r["setting"] in ("1 of 1", "up to 1"):
            assert (r["exact_match"], r["segments"]) == (one["exact_match"], one["segments"])
    price = {(r["method"], r["setting"]): r["segments"]["value"] for r in rows}
    for name in ("noise", "symmetries"):
        assert price[f"{name}, until sure", "up to 4"] < price[f"{name}, all", "4 of 4"]
        assert price[f"{name}, all, by vote", "4 of 4"] == price[f"{name}, all", "4 of 4"]


def test_the_curve_is_drawn_with_a_line_a_method():
    rows = curve(replace(NOISY, attempts=2))
    fig = plots_compute.compute_curve(rows, "Sudoku")
    names = [text.get_text() for text in fig.axes[0].get_legend().get_texts()]
    assert names == [*dict.fromkeys(r["method"] for r in rows), "as trained"]
    looks = {(line.get_color(), line.get_marker(), str(line.get_linestyle())) for line in fig.axes[0].get_lines()}
    assert len(looks) == len(names) + 1 and "n = 20" in fig.axes[0].get_xlabel()
    plt.close(fig)
    with pytest.raises(ValueError, match="rows: got none"):
        plots_compute.compute_curve([])


@pytest.mark.parametrize(("right", "expected"), [
    ((50, 90), "noise, until sure (up to 4) solves 90.0 % (n = 100, 82.6-94.5) with 2.00 segments a puzzle, one pass "
               "50.0 % (n = 100, 40.4-59.6) with 1.00; paired difference +40.0 points (+30.0 to +49.2)."),
    ((50, 51), "an interval that includes no gain at all)."), ((50, 50), "nothing beats one pass, 50.0 %")])
def test_a_finding_is_what_the_numbers_say(right, expected):
    outcomes = [{"exact": np.arange(100) < r, "any": np.arange(100) < r, "segments": np.full(100, i + 1)}
                for i, r in enumerate(right)]
    rows = [{"method": m, "setting": s, **inf.point(o, outcomes[0], tiny())} for m, s, o in zip(
        ("one pass", "noise, until sure"), ("as trained", "up to 4"), outcomes, strict=True)]
    assert expected in inf.finding("sudoku", rows)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(("change", "message"), [
    ({"attempts": 0}, "attempts: got 0, expected at least 1"), ({"sigma": -1}, "sigma: got -1, expected 0 or more"),
    ({"noise": "some"}, "noise: got 'some', expected start or every"),
    ({"halt_at": 0.0}, "halt_at: got 0.0, expected None or above 0"),
    ({"attempts": 3}, "attempts: got 3 equal ones, expected sigma > 0 or symmetric=True"),
])
def test_a_bad_search_names_field_value_and_expectation(change, message):
    with pytest.raises(ValueError, match=message):
        inf.Search(**change)


def test_more_votes_than_symmetries_are_refused():
    with pytest.raises(ValueError, match="got 3, expected at most 1: toy has no more symmetries of the kind 'none'"):
        inf.search(judging(), toy_split(4), inf.Search(attempts=3, symmetric=True))
