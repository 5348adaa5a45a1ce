"""Writing: under the grammar even a random model writes valid Gherkin; what cannot be restored is said; baselines;
scores.
"""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from hrm_lab import metrics
from hrm_lab.testgen import baselines, findings, gherkin, improve, scores, slots, study, writer
from hrm_lab.testgen.batches import Pair
from hrm_lab.testgen.decode import Constraint, closed, pointing
from hrm_lab.testgen.finetune import Training
from hrm_lab.testgen.judge import Verdict
from hrm_lab.testgen.seq2seq import Seq2Seq, Seq2SeqConfig
from hrm_lab.testgen.tokenizer import END, decode
from hrm_lab.testgen.writer import Codec, Written

MEDIA = study.media()
DATA = study.prepare(MEDIA, 200, 20, 30)
CODEC = study.learn_codec([], DATA.train, [MEDIA], 700)
EXAMPLES = writer.examples(DATA.train, CODEC.lexicon, MEDIA)
CONSTRAINT = Constraint(CODEC.tokenizer, CODEC.holes)


def random_model(seed=0):
    torch.manual_seed(seed)
    return Seq2Seq(Seq2SeqConfig(CODEC.size, hidden=16, heads=2, expansion=2, decoder_layers=1)).eval()


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("seed,limit", [(seed, limit) for seed in range(4)
                                        for limit in (CONSTRAINT.shortest, 45, 80, 200)])
def test_whatever_the_logits_a_whole_valid_text_comes_out_within_its_limit(seed, limit):
    """Random words for 16 requirements, with a liking for what ends a cell and a line that differs by row."""
    generator = torch.Generator().manual_seed(seed)
    ends = CODEC.tokenizer.encode(" |\n").ids
    found = [slots.abstract("Nothing that could be named.", CODEC.lexicon), *(e.found for e in EXAMPLES[seed::16])]
    choose, finish = CONSTRAINT.start([f.values for f in found], limit)
    said, liking = [[] for _ in found], torch.linspace(0, 5, len(found))[:, None]
    open_ = torch.arange(len(found))
    for _ in range(limit):
        logits = torch.randn(len(open_), CODEC.size, generator=generator)
        logits[:, ends] += liking[open_]
        logits[:, END] -= seed
        picked = choose(logits, open_)
        open_, picked = open_[picked != END], picked[picked != END]
        for row, token in zip(open_.tolist(), picked.tolist(), strict=True):
            said[row].append(token)
        if not len(open_):
            break
    whole = finish(said)
    assert len(whole) == 16 and max(map(len, whole)) <= limit
    for ids, f in zip(whole, found, strict=True):
        made = writer.restored(text := decode(CODEC.tokenizer, ids), f)
        assert made.reason == gherkin.valid(made.text) == "", text
        assert CONSTRAINT.accepts(list(ids), f.values), text


def test_an_untrained_model_writes_whole_valid_texts():
    requirements = [r.input for axis in study.AXES for r in DATA.held[axis][:6]]
    for made in writer.write(random_model(), CODEC, requirements, limit=40):
        assert gherkin.valid(made.text) == ""


@pytest.mark.parametrize("begun", [
    "", "@a\n", "Feature: a\n", "Feature: a\n@b\n", "Feature: a\nScenario: b\n",
    "Feature: a\nScenario: b\nGiven c\nAnd d\n", "Feature: a\nScenario Outline: b\n",
    "Feature: a\nScenario Outline: b\nWhen c\nThen d\nBut e\n",
    "Feature: a\nScenario Outline: b\nThen d\nExamples:\n",
    "Feature: a\nScenario Outline: b\nThen d\nExamples:\n| a | b |\n"])
def test_a_beginning_is_closed_by_what_it_lacks(begun):
    whole = closed(begun)
    assert whole.startswith(begun) and gherkin.valid(gherkin.layout(whole)) == ""
    assert CONSTRAINT.accepts(list(CODEC.target(whole)[:-1]), {})
    assert CONSTRAINT.close(list(CODEC.target(begun + "Then th")[:-1]), 99) == list(CODEC.target(whole)[:-1])


@pytest.mark.parametrize("more", ["@t\n", "Scenario: a\nWhen b\n",
                                  "@t\nScenario Outline: a\nThen <b>\nExamples:\n| b |\n"])
@pytest.mark.parametrize("whole", ["Feature: a\nScenario: b\nThen c\n",
                                   "Feature: a\nScenario Outline: b\nThen c\nExamples:\n| d |\n| e |\n"])
def test_what_is_unfinished_after_a_whole_scenario_is_left_out(whole, more):
    assert closed(whole + more) == whole == closed(whole)


def test_a_limit_that_no_whole_text_has_is_refused():
    with pytest.raises(ValueError, match=f"limit: got 5 tokens, expected at least {CONSTRAINT.shortest}"):
        writer.write(random_model(), CODEC, ["at most 5 files"], limit=5)


def test_values_that_would_break_a_line_are_not_written():
    good = "Feature: a\nScenario: b\nThen {TEXT1}\n"
    ids = list(CODEC.target(good)[:-1])
    constraint = Constraint(CODEC.tokenizer, ("{TEXT1}", "{1 / NUM1}"))
    assert constraint.accepts(ids, {"TEXT1": "a|b"})
    for value in ("a\\b", " ", "a\u2028b"):
        assert not constraint.accepts(ids, {"TEXT1": value})
    ids = list(CODEC.target(good.replace("TEXT1", "1 / NUM1"))[:-1])
    assert constraint.accepts(ids, {"NUM1": 2}) and not constraint.accepts(ids, {"NUM1": 0})


def test_every_training_draft_is_in_the_grammar():
    for e in EXAMPLES[::3]:
        assert CONSTRAINT.accepts(list(CODEC.target(e.draft)[:-1]), e.found.values), e.draft


def test_the_grammar_refuses_what_the_parser_or_the_slots_would():
    good = "Feature: a\nScenario Outline: b\nGiven c\nThen d <e>\nExamples:\n| e | f |\n| 1 | {NUM1} |\n"
    for text, values in ((good, {"NUM1": 1}), ("Feature: a\nScenario: b\nThen c\n", {})):
        assert CONSTRAINT.accepts(list(CODEC.target(text)[:-1]), values), text
    bad = [good.replace("Then", "When"), good.replace("| 1 | {NUM1} |", "| 1 |"), good.replace("Feature", "Fature"),
           good.replace("| 1 | {NUM1} |\n", ""), good.replace("{NUM1}", "{NUM2}"), good.replace("{NUM1}", "{open()}"),
           good.rstrip("\n"), good.replace("| e |", "| (e |")]
    for text in bad:
        assert not CONSTRAINT.accepts(list(CODEC.target(text)[:-1]), {"NUM1": 1}), text
    nothing = [f"Feature: a\nScenario: b\nThen {words}\n" for words in ("c", "{MARK0}", "{NUM1}", "{")]
    assert [CONSTRAINT.accepts(list(CODEC.target(text)[:-1]), {}) for text in nothing] == [True, False, False, False]


def test_free_writing_says_why_a_test_could_not_be_restored():
    found = slots.abstract("at most 5 files", CODEC.lexicon)
    assert "NUM7" in writer.restored("Feature: {NUM7}\n", found).reason
    assert writer.restored("Feature: {NUM1 + 1}\nScenario: x\n", found).text == "Feature: 6\n  Scenario: x\n"
    assert len(writer.write(random_model(), CODEC, ["at most 5 files"] * 3, constrained=False, limit=5)) == 3


def test_without_a_grammar_a_placeholder_points_at_a_value_that_is_there():
    found = slots.abstract("at most 5 files", CODEC.lexicon)
    names = set(CODEC.placeholders.values())
    assert "NUM1" in names and len(CODEC.placeholders) == len(writer.PLACEHOLDERS)
    choose = pointing(CODEC.placeholders, [found.values, {}], CODEC.size)
    logits = torch.zeros(2, CODEC.size)
    logits[:, list(CODEC.placeholders)] = torch.arange(2.0, 2 + len(CODEC.placeholders)).flip(0)
    logits[:, 40] = 1
    first, second = choose(logits, torch.tensor([0, 1])).tolist()
    assert CODEC.placeholders[first] == "NUM1" and second == 40


def test_a_bar_in_a_value_does_not_add_a_column():
    found = slots.abstract('call it "a|b"', CODEC.lexicon)
    text = writer.restored("Feature: x\nScenario Outline: y\nThen <n>\nExamples:\n| n |\n| {TEXT1} |\n", found).text
    (case,) = gherkin.cases(text)
    assert case.steps == (("then", "a|b"),)


def test_an_endless_requirement_is_refused_with_its_length():
    made = writer.write(random_model(), CODEC, ["word " * 20_000, "at most 5 files"], limit=40)
    assert "expected at most 400" in made[0].reason and made[0].text == "" and "tokens" not in made[1].reason


def test_a_codec_comes_back_from_its_folder(tmp_path):
    CODEC.save(tmp_path)
    again = Codec.load(tmp_path)
    assert again.tokenizer.to_str() == CODEC.tokenizer.to_str()
    assert (again.lexicon, again.holes) == (CODEC.lexicon, tuple(sorted(CODEC.holes)))


def test_pairs_end_with_the_end_token_and_carry_weights():
    made = writer.pairs([replace(EXAMPLES[0], record=replace(EXAMPLES[0].record, weight=2.0))], CODEC)
    assert made[0].source[-1] == made[0].target[-1] == END and made[0].weight == 2.0


# ---------------------------------------------------------------- baselines


def test_counts_are_probabilities():
    counts = baselines.Counts.of(9, [Pair((5,), (4, 4, 7, 2)), Pair((5,), (4, 2))])
    assert counts.single.sum() == pytest.approx(1)
    for a in (1, 4, 8):
        assert sum(counts.bigram(a, b) for b in range(9)) == pytest.approx(1)
    assert math.exp(np.concatenate(baselines.uniform(9, [Pair((5,), (4, 2))])).mean()) == pytest.approx(9)


def test_a_test_that_is_known_is_found_and_predicted():
    nearest, counts = baselines.Nearest(EXAMPLES), baselines.Counts.of(CODEC.size, writer.pairs(EXAMPLES, CODEC))
    some = EXAMPLES[::20]
    assert np.mean([a.draft == b.draft for a, b in zip(some, nearest.find([e.found for e in some]), strict=True)]) > 0.7
    pairs = writer.pairs(some, CODEC)
    nats = [np.concatenate(rows).mean() for rows in (
        baselines.retrieval_nll(nearest, CODEC, counts, [e.found for e in some], pairs, 0.95), counts.nll(2, pairs),
        counts.nll(1, pairs), baselines.uniform(CODEC.size, pairs))]
    assert nats == sorted(nats)


def test_a_copied_test_keeps_its_old_values_and_a_filled_one_does_not():
    nearest, records = baselines.Nearest(EXAMPLES), DATA.held["names"]
    copied, filled = (baselines.retrieve(nearest, CODEC, [r.input for r in records], fill) for fill in (False, True))
    assert not any(r.slots["partner"] in w.text for r, w in zip(records, copied, strict=True))
    assert np.mean([r.slots["partner"] in w.text for r, w in zip(records, filled, strict=True)]) > 0.5


def test_keyword_rules_know_their_training_requirements():
    rules = baselines.Rules(EXAMPLES)
    some = [e for e in EXAMPLES if not e.record.id.startswith(("REQ", "SQE"))][::10]
    made = rules.write(CODEC, [e.record.input for e in some])
    assert np.mean([v.correct for v in scores.verdicts([e.record for e in some], made, MEDIA)]) > 0.4


# ---------------------------------------------------------------- scores


def test_scores_of_right_and_of_broken_tests():
    records = DATA.held["values"]
    right = scores.executed(records, [Written("", r.target, "") for r in records], MEDIA)
    assert {right[k]["value"] for k in ("valid", "executable", "correct", "mutation", "slots")} == {1.0}
    assert sum(s["n"] for k, s in right.items() if k.startswith("correct/")) == len(records) == right["correct"]["n"]
    none = scores.executed(records, [Written("", "", "no")] * len(records), MEDIA)
    assert none["valid"]["value"] == none["correct"]["value"] == 0 and none["duplicates"]["value"] > 0.9


def test_perplexity_is_a_token_and_bits_a_byte():
    found = scores.language([np.full(4, math.log(8)), np.full(2, math.log(8))], ["ab", "é"])
    assert found["perplexity"]["value"] == pytest.approx(8) and found["perplexity"]["n"] == 2
    assert found["bits_per_byte"]["value"] == pytest.approx(6 * 3 / 4)


@pytest.mark.parametrize("perplexity,valid,correct,flagged", [
    (3.97, 0.0, 0.0, True), (3.97, 0.9, 0.0, False), (12000.0, 0.0, 0.0, False), (3.97, 0.79, -1, True)])
def test_a_perplexity_that_falls_with_the_tests_is_flagged(perplexity, valid, correct, flagged):
    def table(p, v, c):
        return {"perplexity": metrics.plain(p, 14), "valid": metrics.plain(v, 14), "correct": metrics.plain(c, 14)}

    found, why = scores.guard(table(12753.0, 0.79, 0.0), table(perplexity, valid, correct))
    assert found == flagged and "perplexity" in why


# ---------------------------------------------------------------- a study


def test_no_requirement_and_no_held_back_wording_is_on_two_sides():
    groups = {r.group for r in DATA.train}
    for records in (DATA.valid, *DATA.held.values()):
        assert records and not groups & {r.group for r in records}
    assert all(study.kept_back(r, MEDIA) for r in DATA.valid)
    drawn = [r for r in DATA.train if r.source.startswith("grammar")]
    assert len(drawn) == 200 and not any(study.kept_back(r, MEDIA) for r in drawn)


def test_the_arm_is_chosen_by_correct_tests_of_validation_and_level_ones_by_order():
    histories = {"a": [{"correct": 0.2}, {"correct": 0.5}], "b": [{"correct": 0.6}, {"correct": 0.1}],
                 "c": [{"correct": 0.6}]}
    assert study.best_arm(histories) == "b"


def test_a_small_study_trains_judges_and_writes_its_report(tmp_path):
    model = random_model()
    found = study.train(model, CODEC, DATA, Training(epochs=1, batch=16, precision="fp32"), tmp_path / "run", check_n=4)
    held = EXAMPLES[:6]
    table = {"fine-tuned": study.model_rival(model, CODEC), "base": study.model_rival(random_model(), CODEC),
             "control": study.model_rival(random_model(1), CODEC), **study.rivals(EXAMPLES, held, CODEC)}
    few = {axis: records[:4] for axis, records in DATA.held.items()}
    tables = {name: {axis: study.judged(rival, CODEC, MEDIA, records) for axis, records in few.items()}
              for name, rival in table.items()}
    sentences = findings.findings(tables, "fine-tuned", "control")
    assert len(findings.goals(tables["fine-tuned"])) == 7 and any("perplexity" in s.lower() for s in sentences)
    sample = {"requirement": "r", "tests": {"base": "", "fine-tuned": "Feature: x"}}
    gates = {name: study.gate(table["base"], table[name], few["values"], MEDIA) for name in ("fine-tuned", "base")}
    assert findings.gated(gates).startswith("The gate: promoted fine-tuned, base")
    assert "none were judged" in findings.likened({})[0]
    paths = findings.write_report(tmp_path, {"a": 1}, found["history"], tables, sentences, [sample])
    assert [path.name for path in paths] == list(findings.FILES) and all(path.is_file() for path in paths)
    assert "## values" in (tmp_path / "FINE_TUNING_REPORT.md").read_text()
    assert json.loads((tmp_path / "training_results.json").read_text())["history"][0]["epoch"] == 1
    assert json.loads((tmp_path / "evaluation_results.json").read_text())["tables"]["base"]["values"]["valid"]["n"] == 4
    assert all(set(s) == {"value", "n", "low", "high", "unit"} for s in findings.flat(tables).values())


# ---------------------------------------------------------------- feedback


def test_verdicts_become_examples_with_weights():
    records = DATA.held["values"][:3]
    texts = [Written("Feature: mine\n", "", "")] * 3
    made = improve.taught(records, texts, ["accept", "edit", "reject"], CODEC, MEDIA)
    assert [(e.record.weight, e.record.id) for e in made] == [(1.0, records[0].id), (2.0, records[1].id)]
    assert made[0].draft == "Feature: mine\n" and "Feature: mine" not in made[1].draft


def test_both_arms_start_equal_and_see_as_many_examples(tmp_path, monkeypatch):
    sizes = []
    real_fit = improve.finetune.fit
    monkeypatch.setattr(improve.finetune, "fit", lambda model, plan, pairs, *rest: (
        sizes.append(len(pairs)), real_fit(model, plan, pairs[:16], *rest))[1])
    monkeypatch.setattr(improve.writer, "write", lambda model, codec, texts: [Written("", "", "no")] * len(texts))
    monkeypatch.setattr(improve, "least_sure", lambda model, codec, pool, n: list(range(len(pool)))[-n:])
    asked = []
    rounds = improve.simulate(random_model(), CODEC, MEDIA, EXAMPLES[:20], DATA.valid[:7], (2, 3),
                              DATA.held["values"][:5], EXAMPLES[:4], Training(epochs=1, batch=8, precision="fp32"),
                              lambda record, text: asked.append(record.id) or "edit", tmp_path, repeats=2)
    assert asked == [r.id for r in (*DATA.valid[4:7], *DATA.valid[1:4])]  # each once
    assert sizes[0] == sizes[1] < sizes[2] == sizes[3] and [(r.arm, r.number) for r in rounds] == [
        ("feedback", 0), ("control", 0), ("feedback", 1), ("control", 1), ("feedback", 2), ("control", 2)]
    assert rounds[-2].verdicts == {"accept": 0, "edit": 6, "reject": 0}
    assert improve.gain(rounds)["value"] == 0 and rounds[0].acceptance["n"] == 5


def test_it_asks_about_the_tests_it_is_least_sure_of_and_about_each_wording_once(monkeypatch):
    texts = ["Accept {} dB for Velora.", "Accept {} dB for Zorbo.", "Never take {} dB from Velora."]
    pool = [replace(DATA.valid[0], id=str(n), input=text.replace("{}", str(n + 3))) for n, text in enumerate(texts)]
    monkeypatch.setattr(improve.finetune, "token_nll", lambda model, pairs: [
        np.array([nats, nats]) for nats in (3.0, 2.0, 1.0)])
    assert improve.least_sure(random_model(), CODEC, pool, 2) == [0, 2]
    assert improve.least_sure(random_model(), CODEC, pool, 3) == [0, 2, 1]
    assert improve.least_sure(random_model(), CODEC, pool[2:], 3) == [0]


def rounds_of(**arms):
    return [improve.Round(arm, n, {str(i): Verdict(True, 1.0, True, bool(right), float(right), "")
                                   for i, right in enumerate(rows)}, {})
            for arm, series in arms.items() for n, rows in enumerate(series)]


def test_the_gain_is_paired():
    assert improve.gain(rounds_of(feedback=[[1, 1, 0]], control=[[1, 0, 0]]))["value"] == pytest.approx(1 / 3)


def test_a_model_that_may_be_worse_stays_out_and_the_next_is_compared_with_the_one_in_service():
    old, worse, better = [0] * 30 + [1] * 10, [0] * 40, [0] * 20 + [1] * 20
    found = improve.promotions(rounds_of(feedback=[old, worse, better], control=[old, old, old]))
    assert [(new.number, gate.promoted) for new, gate in found] == [(1, False), (2, True)]
    assert found[1][1].change["correct"]["value"] == pytest.approx(0.25)


def test_a_model_without_a_gain_and_a_worse_one_do_not_pass_the_gate():
    records = DATA.held["values"]
    good, bad = (study.Rival(lambda texts, n=n: [Written("", r.target, "") if i < n else Written("", "", "no")
                                                 for i, r in enumerate(records)]) for n in (len(records), 2))
    assert study.gate(bad, good, records, MEDIA).promoted and study.gate(good, good, records, MEDIA).promoted
    assert "loss is not ruled out" in study.gate(good, bad, records, MEDIA).reason


def test_what_a_model_wrote_is_kept(monkeypatch):
    asked = []
    monkeypatch.setattr(study.writer, "write", lambda model, codec, texts, constrained: (
        asked.extend(texts), [Written(text, text, "") for text in texts])[1])
    rival = study.model_rival(random_model(), CODEC)
    assert [w.text for w in rival.write(["a", "b", "a"])] == ["a", "b", "a"]
    assert [w.text for w in rival.write(["b", "c"])] == ["b", "c"] and asked == ["a", "b", "c"]
