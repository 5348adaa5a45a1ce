"""Packing, the faster LoRA layer, the loop: the same numbers as the plain way, and exact resume."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("peft")
pytest.importorskip("transformers")

from hrm_lab import runs
from hrm_lab.adapters import finetune, lora, models, packing
from hrm_lab.adapters.formats import IGNORE, Row

CONFIG = finetune.Config(steps=6, batch=4, pack=60, rank=4, lr=3e-2, warmup=1, eval_every=3)


@pytest.fixture
def model():
    return models.load("tiny", dtype="fp32", device="cpu")[0]


def rows(n=12, seed=0, shared=7):
    """Prompts that begin alike; the answer repeats the prompt's last token, then the end token."""
    rng = np.random.default_rng(seed)
    start = np.random.default_rng(99).integers(5, 250, shared).tolist()
    made = []
    for i in range(n):
        prompt = start + rng.integers(5, 250, rng.integers(2, 9)).tolist()
        answer = [prompt[-1]] * int(rng.integers(1, 4)) + [2]
        made.append(Row(str(i), tuple(prompt + answer), tuple([IGNORE] * len(prompt) + answer)))
    return made


def one_by_one(model, row):
    """The plain way: one row, all logits."""
    logits = model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0]
    targets = torch.tensor([*row.labels[1:], IGNORE])
    return F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="none")[targets != IGNORE]


def stir(adapted, std=0.1):
    """An adapter that does something."""
    torch.manual_seed(5)
    for name, p in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=std)


# ---------------------------------------------------------------- packing


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 5)), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_a_pack_holds_every_label_once_and_the_common_beginning_once(shapes):
    start = [7, 8, 9]
    made = [Row(str(i), tuple(start + [10 + i] * a + [20 + i] * b), tuple([IGNORE] * (3 + a) + [20 + i] * b))
            for i, (a, b) in enumerate(shapes)]
    packed = packing.pack(made)
    assert packed.ids.shape[1] == packed.shared + sum(packed.lengths) <= sum(len(r.ids) for r in made)
    assert packed.shared == (3 if len(made) > 1 else 0)
    for i, row in enumerate(made):
        assert packed.labels[packed.row == i].tolist() == [y for y in row.labels if y != IGNORE]
        before = packed.ids[0, packed.at[packed.row == i]].tolist()
        assert before == [row.ids[p - 1] for p, y in enumerate(row.labels) if y != IGNORE]


def test_a_label_is_never_in_the_common_beginning():
    all_labels = [Row(str(i), (1, 2, 3, 4 + i), (1, 2, 3, 4 + i)) for i in range(3)]
    assert packing.common(all_labels) == 0
    assert len(packing.pack(all_labels).labels) == 9  # the first token of a row is predicted by nothing


@pytest.mark.parametrize("shared", [0, 7])
def test_losses_and_gradients_are_those_of_rows_one_by_one(model, shared):
    data = rows(5, shared=shared)
    adapted = lora.attach(model, 4, 8.0, seed=3)
    stir(adapted)
    params = [p for p in adapted.parameters() if p.requires_grad]
    plain = torch.cat([one_by_one(adapted, row) for row in data])
    wanted = torch.autograd.grad(plain.sum(), params)
    packed = packing.pack(data)
    assert packed.shared == shared
    nll, _ = finetune.losses(adapted, packed)
    torch.testing.assert_close(nll, plain, atol=1e-5, rtol=1e-5)
    for a, b in zip(torch.autograd.grad(nll.sum(), params), wanted, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_packs_keep_to_their_size_and_lose_no_row():
    data = rows(20)
    packs = packing.split(data, 40)
    assert sorted(i for chosen in packs for i in chosen) == list(range(20)) and len(packs) > 2
    for chosen in packs:
        assert packing.pack([data[i] for i in chosen]).ids.shape[1] <= 40


def test_a_row_with_fewer_labels_than_ids_is_refused():
    with pytest.raises(ValueError, match="row x: 2 ids and 1 labels"):
        packing.pack([Row("x", (1, 2), (1,))])


def test_attention_that_the_packs_do_not_have_is_refused(model):
    q = torch.zeros(1, 4, 3, 8)
    with pytest.raises(ValueError, match="sliding window"):
        packing.packed_attention(model, q, q, q, None, sliding_window=2)
    with pytest.raises(ValueError, match="got padding"):
        model(input_ids=torch.tensor([[0, 5], [5, 6]]), attention_mask=torch.tensor([[0, 1], [1, 1]]))


# ---------------------------------------------------------------- the layer


def test_the_faster_layer_gives_pefts_values_and_gradients(model):
    from peft.tuners.lora import Linear

    adapted = lora.attach(model, 4, 8.0, seed=3)
    stir(adapted, 1.0)
    layer = next(m for m in adapted.modules() if type(m) is Linear)
    x = torch.randn(2, 5, layer.in_features, requires_grad=True)
    weights = [x, layer.lora_A["default"].weight, layer.lora_B["default"].weight]

    def run(forward):
        out = forward(x)
        return out, torch.autograd.grad(out.square().sum(), weights)

    fast, plain = run(layer.forward), run(lambda x: Linear.forward(layer, x))
    assert layer.forward.__func__ is not Linear.forward
    torch.testing.assert_close(fast[0], plain[0], atol=1e-5, rtol=1e-4)
    for a, b in zip(fast[1], plain[1], strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_adapters_on_the_top_layers_alone(model):
    adapted = lora.attach(model, 2, 4.0, top=1)
    names = [n for n, p in adapted.named_parameters() if p.requires_grad]
    assert names and all(".layers.1." in n for n in names)
    with pytest.raises(ValueError, match="top: got 9"):
        lora.attach(lora.detach(adapted), 2, 4.0, top=9)


def test_an_adapter_goes_to_pefts_files_and_back_and_merges_into_a_plain_model(model, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = models.tiny()[1]
    adapted = lora.attach(model, 4, 8.0, seed=3, name="tiny")
    stir(adapted, 0.2)
    data = rows(4)
    wanted = finetune.evaluate(adapted.get_base_model(), data)["mean_loss"]
    lora.save(adapted, tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter/adapter_config.json").read_text())["base_model_name_or_path"] == "tiny"
    lora.merge(adapted, tokenizer, tmp_path / "merged")
    base, _ = models.load("tiny", dtype="fp32", device="cpu")
    assert abs(finetune.evaluate(base, data)["mean_loss"] - wanted).max() > 1e-3
    again = PeftModel.from_pretrained(base, tmp_path / "adapter")
    np.testing.assert_allclose(finetune.evaluate(again.get_base_model(), data)["mean_loss"], wanted, atol=1e-5)
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", attn_implementation="eager").eval()
    plain = [one_by_one(whole, row).mean().item() for row in data]
    np.testing.assert_allclose(plain, wanted, atol=1e-4)
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template == models.CHATML


def test_an_adapter_of_another_shape_is_refused(model, tmp_path):
    adapted = lora.attach(model, 4, 8.0, top=1)
    lora.save(adapted, tmp_path / "a")
    other = lora.attach(lora.detach(adapted), 4, 8.0)
    with pytest.raises(ValueError, match="expected the same"):
        lora.load(other, tmp_path / "a")


# ---------------------------------------------------------------- the loop


def test_training_learns_and_leaves_what_a_run_leaves(model, tmp_path):
    data = rows(24)
    adapted, record = finetune.train(model, data, data[:8], tmp_path / "run",
                                     finetune.Config(steps=40, batch=8, rank=8, lr=2e-2, eval_every=20), "tiny",
                                     progress=False)
    history = runs.read_metrics(tmp_path / "run")
    assert [row["step"] for row in history] == [0, 20, 40]
    assert history[-1]["loss"] < 0.7 * history[0]["loss"] and history[1]["tokens"] > history[1]["computed"] > 0
    assert record["status"] == "ok" and record["best_step"] in (20, 40)
    best = max(history, key=lambda row: row["exact_match"] - 1e-4 * row["loss"])
    found = finetune.evaluate(adapted.get_base_model(), data[:8])
    assert found["loss"] == pytest.approx(best["loss"], abs=1e-5)
    for name in ("best/adapter_model.safetensors", "final/adapter_config.json", "resume/state.safetensors", "run.json"):
        assert (tmp_path / "run" / name).exists()


def test_exact_says_what_greedy_decoding_would_write(model):
    """The measure without generation, against generation."""
    from hrm_lab.adapters.decode import generate

    data = rows(6)
    prompts = [[t for t, y in zip(r.ids, r.labels, strict=True) if y == IGNORE] for r in data]
    said = generate(model, prompts, frozenset({2}), longest=5)

    def exact(answers):
        made = [Row(r.id, (*p, *a), (*[IGNORE] * len(p), *a)) for r, p, a in zip(data, prompts, answers, strict=True)]
        return finetune.evaluate(model, made)["exact"].tolist()

    assert all(exact([o.ids for o in said]))
    assert exact([(*o.ids, 2) for o in said]) == [o.stopped for o in said]
    assert not any(exact([(o.ids[0] ^ 1, *o.ids[1:]) for o in said]))


def test_killed_and_resumed_a_run_ends_with_the_same_bits(model, tmp_path):
    data = rows()
    config = finetune.Config(**{**vars(CONFIG), "dropout": 0.1})
    whole, _ = finetune.train(model, data, data[:3], tmp_path / "whole", config, progress=False)
    wanted = {k: v.clone() for k, v in lora.weights(whole).items()}
    model = lora.detach(whole)
    for stop, resume in ((2, True), (3, "same"), (0, "same")):  # between evaluations, at one, to the end
        part, _ = finetune.train(model, data, data[:3], tmp_path / "part", config, resume=resume, progress=False,
                                 stop_after=stop)
        found = {k: v.clone() for k, v in lora.weights(part).items()}
        model = lora.detach(part)
    assert all(torch.equal(found[k], wanted[k]) for k in wanted)

    def told(run):
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in runs.read_metrics(tmp_path / run)]

    assert told("part") == told("whole")


def test_a_directory_of_another_run_is_not_gone_on_with(model, tmp_path):
    data = rows()
    adapted, _ = finetune.train(model, data, data[:3], tmp_path, CONFIG, progress=False, stop_after=3)
    with pytest.raises(ValueError, match="holds a run already"):
        finetune.train(lora.detach(adapted), data, data[:3], tmp_path, CONFIG, progress=False)
    with pytest.raises(runs.CheckpointError, match="train.lr"):
        finetune.train(models.load("tiny", dtype="fp32")[0], data, data[:3], tmp_path,
                       finetune.Config(**{**vars(CONFIG), "lr": 1.0}), resume=True, progress=False)


def test_checkpointing_takes_the_same_step(model):
    data, found = rows(), []
    for checkpointing in (False, True):
        config = finetune.Config(**{**vars(CONFIG), "checkpointing": checkpointing})
        trainer = finetune.Trainer(model, data, config)
        trainer.advance()
        trainer.advance()
        found.append({k: v.clone() for k, v in lora.weights(trainer.model).items()})
        model = lora.detach(trainer.model)
    for name, one in found[0].items():
        torch.testing.assert_close(found[1][name], one, atol=1e-6, rtol=1e-5)


def test_rows_of_a_step_are_of_like_length_and_every_row_has_its_turn():
    lengths = np.random.default_rng(0).integers(10, 400, 64).tolist()
    plan = finetune.order(lengths, 8, 16, seed=1)
    assert plan == finetune.order(lengths, 8, 16, seed=1) != finetune.order(lengths, 8, 16, seed=2)
    for epoch in (plan[:8], plan[8:]):
        assert sorted(i for step in epoch for i in step) == list(range(64))
        assert max(np.ptp([lengths[i] for i in step]) for step in epoch) < 200
    with pytest.raises(ValueError, match="Config.batch: got 9 for 4 rows"):
        finetune.order([1] * 4, 9, 1, 0)


def test_two_processes_train_what_one_does(model, tmp_path):
    from hrm_lab.adapters.launch import launch

    data = rows()
    alone, _ = finetune.train(model, data, data[:3], tmp_path / "one", CONFIG, "tiny", progress=False)
    record = launch({"name": "tiny", "dtype": "fp32", "device": "cpu"}, data, data[:3], tmp_path / "two", CONFIG, 2)
    assert (record["status"], record["processes"]) == ("ok", 2)
    lora.load(alone, tmp_path / "one/final")
    one = {k: v.clone() for k, v in lora.weights(alone).items()}
    lora.load(alone, tmp_path / "two/final")
    for name, found in lora.weights(alone).items():
        torch.testing.assert_close(found, one[name], atol=1e-5, rtol=1e-4)
    losses = [[row["loss"] for row in runs.read_metrics(tmp_path / name)] for name in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
