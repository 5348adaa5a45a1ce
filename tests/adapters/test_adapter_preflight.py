"""Pre-flight: sound plans pass, every seeded fault is found by its check, errors stop, likelihood and loss are "
  "looked at."""

from dataclasses import replace

import pytest
import torch
from chat_tokenizers import tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from test_adapter_examples import SAMPLE

from hrm_lab.adapters import preflight, preflight_model
from hrm_lab.adapters.examples import read, read_splits
from hrm_lab.adapters.faults import EXPERIMENTS, FAULTS, inject
from hrm_lab.adapters.formats import FORMATS, encode, ending

PARTS = read_splits(SAMPLE)
OTHERS = read(SAMPLE / "others.jsonl")


def sound(form="structured", parts=PARTS, **changes):
    return preflight.plan(tiny_tokenizer(), FORMATS[form], parts["train"], parts["validation"], parts["test"], **{
        "max_length": 8192, "max_new": 512} | changes)


def names(report):
    return {f.check for f in report.findings}


def quiet(report):
    """The findings, but for the one on the size of the sample's test split."""
    return [f for f in report.findings if f.check != "sizes"]


@pytest.mark.parametrize("form", FORMATS)
def test_a_sound_plan_has_no_finding(form):
    parts = PARTS | {"test": [*PARTS["test"], *OTHERS]}
    report = preflight.check(sound(form, parts))
    assert report.findings == () and set(report.skipped) == {"loss", "likelihood"} and len(report.checks) >= 14


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(sorted(FORMATS)))
def test_other_sound_plans_have_none_either(rng, form):
    rows = [*PARTS["train"], *PARTS["validation"], *PARTS["test"], *OTHERS]
    groups = sorted({e.group for e in rows})
    rng.shuffle(groups)
    at, cut = len(groups) // 3, 2 * len(groups) // 3
    part = {g: name for name, some in (("train", groups[:at]), ("validation", groups[at:cut]), ("test", groups[cut:]))
            for g in some}
    parts = {name: [e for e in rows if part[e.group] == name] for name in ("train", "validation", "test")}
    assert quiet(preflight.check(sound(form, parts))) == []


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_found(name, form):
    report = preflight.check(FAULTS[name].put(sound(form)))
    found = [f for f in report.findings if f.check == FAULTS[name].finds]
    assert found, (sorted(names(report)), FAULTS[name].what)
    for f in found:
        assert f.severity in ("error", "warning") and all((f.what, f.where, f.consequence,
                                                           f.cure)) and "\n" not in str(f)


def test_there_are_more_than_twenty_faults():
    assert len(FAULTS) >= 35 and set(EXPERIMENTS) <= set(FAULTS)


def test_the_faults_of_the_experiments_are_found_together():
    report = preflight.check(inject(sound("hermes"), EXPERIMENTS))
    assert names(report) >= {"markers", "truncation", "masking", "prefix", "end", "taught"}


def test_unknown_faults_are_refused():
    with pytest.raises(ValueError, match="got no such; expected some of made-up roles"):
        inject(sound(), ["no such"])


def test_errors_stop_and_force_is_recorded():
    report = preflight.check(inject(sound(), ["no end token"]))
    with pytest.raises(preflight.PreflightError, match="no end-of-turn token '<|im_end|>'"):
        preflight.require(report)
    assert preflight.require(report, force=True).forced and preflight.require(report, force=True).json()["forced"]
    clean = preflight.check(sound())
    assert not preflight.require(clean, force=True).forced


def test_a_finding_says_where_and_how_many():
    plan = sound()
    faulty = inject(plan, ["truncated answers"])
    cut = [row.id for row in plan.rows if len(row.ids) > faulty.max_length]
    finding = next(f for f in preflight.check(faulty).findings if f.check == "truncation")
    assert 10 <= len(cut) <= 16
    assert finding.where == f"{len(cut)} of 40 train rows, first {cut[0]}, {cut[1]}, {cut[2]}"


def test_trailing_text_of_the_template_is_no_fault():
    plan = sound()
    after = encode(plan.tokenizer, ending(plan.tokenizer)[0])[1:]
    assert after  # ChatML writes a line break after the end of a turn
    rows = tuple(replace(r, ids=(*r.ids, *after), labels=(*r.labels, *after)) for r in plan.rows)
    assert quiet(preflight.check(replace(plan, rows=rows))) == []
    masked = tuple(replace(r, ids=(*r.ids, *after, 1, 1), labels=(*r.labels,
                                                                  *[-100] * (len(after) + 2))) for r in plan.rows)
    assert quiet(preflight.check(replace(plan, rows=masked))) == []


@pytest.mark.parametrize(("value", "said"), [
    (0, "came back as a plain int"), (0.76, "came back as a plain float"), (torch.tensor(0.5), "requires_grad=False"),
    (torch.ones(3, requires_grad=True), "shape (3,)"), (torch.tensor(float("nan"), requires_grad=True), "the loss is "
                                                                                                        "nan"),
    (torch.tensor(0.0, requires_grad=True), "the loss is 0.0")])
def test_a_loss_is_a_finite_scalar_with_a_gradient(value, said):
    finding, = (f for f in preflight.check(sound(step=lambda row: value)).findings if f.check == "loss")
    assert said in finding.what


def test_a_good_loss_passes():
    report = preflight.check(sound(step=lambda row: torch.tensor(0.5, requires_grad=True)))
    assert quiet(report) == [] and "loss" in report.checks


class Rememberer(torch.nn.Module):
    """A base that ends a turn with chance 0.5 after an answer to a prompt with the true role tokens, else never."""

    def __init__(self, tokenizer):
        super().__init__()
        self.table = torch.nn.Embedding(len(tokenizer), 2)
        self.role, self.end = tokenizer.convert_tokens_to_ids("<|im_start|>"), ending(tokenizer)[1]
        self.device = torch.device("cpu")

    def get_input_embeddings(self):
        return self.table

    def forward(self, input_ids):
        logits = torch.zeros(1, input_ids.shape[1], self.table.num_embeddings)
        if self.role in input_ids:
            logits[..., self.end] = 6.0
        return type("Out", (), {"logits": logits})


class Reader(Rememberer):
    """A base that knows each pair of tokens of the sound rows, and ends a turn with the same chance everywhere."""

    def __init__(self, tokenizer, rows):
        super().__init__(tokenizer)
        self.pairs = torch.zeros(len(tokenizer), len(tokenizer))
        for row in rows:
            self.pairs[list(row.ids[:-1]), list(row.ids[1:])] = 9.0

    def forward(self, input_ids):
        logits = self.pairs[input_ids]
        logits[:, -1] = 0.0
        return type("Out", (), {"logits": logits})


def likelihoods(plan):
    return [f for f in preflight.check(plan).findings if f.check == "likelihood"]


def test_likelihood_sees_prompts_that_the_base_does_not_know():
    model = Rememberer(tiny_tokenizer())
    plan = sound(model=model)
    assert quiet(preflight.check(plan)) == []
    finding = likelihoods(inject(plan, ["made-up roles"]))[0]
    assert finding.severity == "warning" and "chance" in finding.what and len(preflight_model.CHECKS) == 2


def test_likelihood_sees_role_markers_among_hundreds_of_known_words():
    plan = sound()
    plan = replace(plan, model=Reader(plan.tokenizer, plan.rows))
    assert quiet(preflight.check(plan)) == []
    finding, = likelihoods(inject(plan, ["made-up roles"]))
    assert "nats less likely under the base" in finding.what
    assert likelihoods(inject(plan, ["no end token", "mistyped gold"])) == []
