"""Training of text models: it learns, stops, keeps the best epoch under its name, and resumes to the bit."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from hrm_lab import runs
from hrm_lab.testgen import finetune
from hrm_lab.testgen.batches import Pair, collate
from hrm_lab.testgen.finetune import Training
from hrm_lab.testgen.seq2seq import Seq2Seq, Seq2SeqConfig
from hrm_lab.testgen.tokenizer import HIDDEN

CONFIG = Seq2SeqConfig(24, hidden=16, heads=2, expansion=2, longest=24, decoder_layers=1)
PLAN = Training(epochs=3, batch=8, lr=0.01, warmup=2, precision="fp32", visible_from=20)


def reversals(n, seed):
    rng = np.random.default_rng(seed)
    rows = [tuple(rng.integers(5, 20, rng.integers(1, 5)).tolist()) for _ in range(n)]
    return [Pair((*row, 2), (*row[::-1], 2)) for row in rows]


TRAIN, VALID = reversals(48, 0), reversals(16, 1)


def model():
    torch.manual_seed(0)
    return Seq2Seq(CONFIG)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_the_loss_falls_and_the_best_epoch_is_kept_under_its_name(tmp_path):
    one, stale = model(), tmp_path / "checkpoints" / "best-epoch-099.safetensors"
    stale.parent.mkdir()
    stale.touch()
    found = finetune.fit(one, replace(PLAN, epochs=6), TRAIN, VALID, tmp_path, describe=vars(CONFIG))
    losses = [row["loss"] for row in found["history"]]
    assert losses[-1] < losses[0] < math.log(24) + 1 and found["best_epoch"] == 1 + int(np.argmin(losses))
    (kept,) = (tmp_path / "checkpoints").iterdir()
    assert not stale.exists()
    assert kept.name == f"best-epoch-{found['best_epoch']:03d}.safetensors"
    again = finetune.load_model(tmp_path / found["checkpoint"])
    assert same(one, again)
    told = float(np.concatenate(finetune.token_nll(again, VALID)).mean())
    assert told == pytest.approx(min(losses), rel=1e-5)
    assert json.loads((tmp_path / "run.json").read_text())["best_epoch"] == found["best_epoch"]


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    whole, part = model(), model()
    a = finetune.fit(whole, PLAN, TRAIN, VALID, tmp_path / "a")
    finetune.fit(part, PLAN, TRAIN, VALID, tmp_path / "b", stop_after=1)
    part = model()
    b = finetune.fit(part, PLAN, TRAIN, VALID, tmp_path / "b", resume=True)
    assert same(whole, part)
    assert [row["loss"] for row in a["history"]] == [row["loss"] for row in b["history"]]
    done = finetune.fit(model(), PLAN, TRAIN, VALID, tmp_path / "b", resume=True)  # nothing is left to do
    assert done["best_epoch"] == b["best_epoch"] and len(done["history"]) == 3
    with pytest.raises(runs.CheckpointError, match="another configuration"):
        finetune.fit(model(), replace(PLAN, lr=0.1), TRAIN, VALID, tmp_path / "b", resume=True)


def test_the_task_score_chooses_the_epoch_and_patience_ends_the_run(tmp_path):
    merits = iter([0.5, 0.9, 0.1, 0.1, 0.1, 0.1])
    found = finetune.fit(model(), replace(PLAN, epochs=6, patience=2), TRAIN, VALID, tmp_path,
                         check=lambda _: {"merit": next(merits)})
    assert found["best_epoch"] == 2 and len(found["history"]) == 4 and "no better epoch in 2" in found["reason"]


def test_weights_of_examples_scale_their_loss():
    one, (a, b) = model(), TRAIN[:2]
    separate = [finetune.token_nll(one, [p])[0] for p in (a, b)]
    batch = collate([replace(a, weight=3.0), b])
    expected = (3 * separate[0].sum() + separate[1].sum()) / (3 * len(separate[0]) + len(separate[1]))
    assert float(finetune.loss_of(one, batch, torch.float32).detach()) == pytest.approx(expected, rel=1e-5)


def test_hidden_tokens_are_ordinary_ones_and_depend_on_the_step():
    plan, seen = replace(PLAN, hide=0.5), []
    for step in (0, 0, 1):
        batch = collate([Pair(tuple(range(24)) * 3, (5,))])
        finetune.hide(batch, plan, step)
        row = batch.source[0].numpy()
        changed = row != np.tile(np.arange(24), 3)
        assert changed.any() and set(row[changed]) == {HIDDEN}
        assert not changed[np.isin(np.tile(np.arange(24), 3), [0, 1, 2, 20, 21, 22, 23])].any()
        seen.append(row)
    assert (seen[0] == seen[1]).all() and (seen[0] != seen[2]).any()


def test_what_the_model_has_said_has_gaps_and_what_it_must_say_has_none():
    batch = collate([Pair((5,), tuple(range(5, 20)) * 20)])
    finetune.hide(batch, replace(PLAN, hide_said=0.3), 0)
    assert batch.target.tolist() == [list(range(5, 20)) * 20]
    assert 0.2 < float((batch.said == HIDDEN).float().mean()) < 0.4
    assert bool(((batch.said == batch.target) | (batch.said == HIDDEN)).all())


def test_bad_settings_and_data_are_refused(tmp_path):
    with pytest.raises(ValueError, match="epochs: got 0"):
        Training(epochs=0)
    with pytest.raises(ValueError, match="precision: got 'half'"):
        Training(precision="half")
    with pytest.raises(ValueError, match="got 0 training"):
        finetune.fit(model(), PLAN, [], VALID, tmp_path)
    with pytest.raises(FloatingPointError, match="expected a finite number"):
        broken = model()
        broken.embed.data[:] = torch.nan
        finetune.fit(broken, PLAN, TRAIN, VALID, tmp_path)


def test_a_checkpoint_of_another_kind_is_refused(tmp_path):
    runs.save_checkpoint(tmp_path / "x.safetensors", {"a": torch.zeros(1)}, {"config": {"vocab_size": 5, "hidden": 8,
                                                                                       "heads": 2}})
    with pytest.raises(runs.CheckpointError, match="expected the weights of a Seq2Seq"):
        finetune.load_model(tmp_path / "x.safetensors")
