"""The policy: shapes, padding, halting, weights in a file, and that training teaches it something."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from hrm_lab.inspect_notebook import ROOT
from hrm_lab.model import count_parameters
from hrm_lab.swe.edits import Edit, candidates
from hrm_lab.swe.evidence import Evidence
from hrm_lab.swe.linear import LinearPrior, rank
from hrm_lab.swe.policy import PRESETS, Policy, PolicyConfig, collate
from hrm_lab.swe.policy_data import drawn, generate, save
from hrm_lab.swe.policy_train import PolicyTraining, losses, main, train, validate

PROGRAM = """def pick(values, low, high):
    found = []
    for value in values:
        if low <= value < high:
            found.append(value)
    return found
"""
MORE = """def steps(left, right):
    count = 0
    while left < right:
        left = left * 2 + 1
        count += 1
    return count
"""
SMALL = PRESETS["smoke"]


@pytest.fixture(scope="module")
def examples():
    return list(generate([PROGRAM, MORE], 10, 1, rivals=30))


def model(**changes):
    torch.manual_seed(0)
    policy = Policy(replace(SMALL, **changes)).eval()
    for head in (policy.where, policy.what, policy.q_head):  # zero at first
        torch.nn.init.normal_(head.weight, std=0.1)
    return policy


@pytest.mark.parametrize("variant, segments", [("hrm", 2), ("plain", 1)])
def test_scores_of_every_edit_are_log_probabilities(variant, segments):
    policy, edits = model(variant=variant, segments=segments), candidates(PROGRAM)
    known = Evidence(("t",), (), {"t": "AssertionError: assert 1 == 2"}, {4: 1.0, 2: 0.5}, 1)
    scores, value = policy.scores(PROGRAM, edits, known), policy.value(PROGRAM, edits, known)
    assert scores.shape == value.shape == (len(edits),)
    assert np.allclose(np.exp(scores.astype(float)).sum(), 1, atol=1e-4) and (value >= 0).all() and (value <= 1).all()
    assert not np.allclose(scores, policy.scores(PROGRAM, edits, Evidence.none()))


def test_plain_has_as_many_parameters_as_hrm():
    assert count_parameters(model()) == count_parameters(model(variant="plain", segments=1))


@torch.no_grad()
def test_padding_changes_nothing(examples):
    policy = model()
    long = max(examples, key=lambda e: len(e.tokens))
    short = min(examples, key=lambda e: len(e.tokens))
    alone, together = collate([short]), collate([short, long], rounded=True)
    assert together["tokens"].shape[1] % 32 == 0 < len(short.tokens) % 32
    for (a, value_a, halt_a, _), (b, value_b, halt_b, _) in zip(policy(alone), policy(together), strict=True):
        n = len(short.kind)
        assert torch.allclose(a[0], b[0, :n], atol=1e-4) and torch.allclose(value_a[0], value_b[0, :n], atol=1e-4)
        assert torch.allclose(halt_a[0], halt_b[0], atol=1e-4)


def test_it_halts_when_sure_and_uses_all_segments_when_not():
    edits, policy = candidates(PROGRAM)[:20], model(segments=3)
    assert policy.judge(PROGRAM, edits)[2] == 3
    with torch.no_grad():
        policy.q_head.bias.fill_(9)
    assert policy.judge(PROGRAM, edits)[2] == 1


def test_a_long_program_is_cut_and_not_refused():
    program = "def f():\n" + "".join(f"    x{n} = y{n} + {n}\n" for n in range(300))
    places = [k for k, letter in enumerate(program) if letter == "+"]
    edits = [Edit("operator", k, k + 1, "-") for k in places]
    assert np.isfinite(model().scores(program, edits)).all()


def test_names_never_seen_are_read():
    other = PROGRAM.replace("value", "gizmo").replace("found", "trove")
    scores = model().scores(other, candidates(other))
    assert np.isfinite(scores).all()


def test_loss_wants_the_first_row_and_ignores_padding():
    weight = torch.tensor([[0.0, 1.0, -torch.inf]])
    zero, c = torch.zeros(1), PolicyTraining(halt_weight=0, value_weight=0)
    value = torch.zeros(1, 3)
    good = losses(torch.tensor([[5.0, 0.0, 99.0]]), value, zero, weight, c)
    bad = losses(torch.tensor([[0.0, 5.0, -99.0]]), value, zero, weight, c)
    assert good < 0.1 < bad


def test_training_lowers_the_loss_and_its_weights_come_back(examples, tmp_path):
    c = PolicyTraining(batch=5, steps=18, every=6, warmup=2, ema=0.7, rate=0.02)
    before = validate(model(), examples, c, "cpu")
    policy = train(SMALL, c, examples, examples, tmp_path / "run", "cpu")
    after = validate(policy, examples, c, "cpu")
    assert after["loss"] < 0.85 * before["loss"]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [6, 12, 18]
    back, edits = Policy.load(tmp_path / "run"), candidates(PROGRAM)
    assert np.array_equal(back.scores(PROGRAM, edits), policy.eval().scores(PROGRAM, edits))


@pytest.mark.parametrize("more", [[], ["--variant", "plain"], ["--deep-only"]])
def test_the_command_trains_every_variant(examples, tmp_path, more):
    for split in ("train", "valid"):
        save(tmp_path / f"{split}-0.npz", examples)
    main(["--data", str(tmp_path), "--out", str(tmp_path / "run"), "--preset", "smoke", "--steps", "1", *more])
    config = Policy.load(tmp_path / "run").config
    assert (config.variant == "plain") == ("plain" in more) and config.wide == ("--deep-only" not in more)


def test_shipped_priors_find_repairs_early():
    folder = ROOT / "weights" / "swe-python"
    for prior in (LinearPrior.load(folder / "linear.safetensors"), Policy.load(folder / "hrm")):
        places = []
        for seed in range(6):
            code, edits = drawn(PROGRAM, random.Random(seed))
            scores = prior.scores(code, edits, Evidence.none())
            places.append(rank(scores) / len(edits))
        assert np.median(places) < 0.1
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 20e6


def test_errors_name_the_field(tmp_path):
    with pytest.raises(ValueError, match=r"PolicyConfig.variant: got 'x'"):
        PolicyConfig(variant="x")
    with pytest.raises(ValueError, match=r"PolicyConfig.segments: got 2"):
        PolicyConfig(variant="plain")
    with pytest.raises(ValueError, match=r"examples: got 0"):
        train(SMALL, PolicyTraining(), [], [], tmp_path)
    model().save(tmp_path)
    (tmp_path / "config.json").write_text('{"width": 3}')
    with pytest.raises(ValueError, match=r"config.json: got \['width'\]"):
        Policy.load(tmp_path)
