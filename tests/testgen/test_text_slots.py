"""Slots: what is abstract comes back to the letter, whatever the text, and boundaries are computed by code."""

import re
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_lab.testgen import domain, gherkin, slots
from hrm_lab.testgen.slots import Abstract, Binding, Lexicon

MEDIA = domain.load(domain.ROOT / "media")
TRAIN = domain.draw(MEDIA, 600, 0)
LEXICON = slots.learn(TRAIN)
EMPTY = Lexicon(frozenset(), frozenset(), (), frozenset(), frozenset())
PIECES = ["Velora", "Dreomax Kids", "{", "}", "{NUM1}", "NUM1", "12", "-0.5", "1,000", "2026-02-30", "2026-03-01",
          "3 May 2027", "21:30", "25:99", '"a b"', "AB-12/3", "10.5240/7791-8534", " ", ". ", "\n", "é", "synopsis",
          "IMF", "|", "\\", "+"]


def found(text, lexicon=LEXICON):
    return {b.name: b.surface for b in slots.abstract(text, lexicon).bindings}


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=14).map("".join))
def test_an_abstract_text_is_restored_to_the_letter(text):
    for lexicon in (LEXICON, EMPTY):
        made = slots.abstract(text, lexicon)
        assert slots.original(made) == text
        assert set(slots.PLACEHOLDER.findall(made.text)) == {b.name for b in made.bindings}


@pytest.mark.parametrize("axis", ["train", "values", "names", "paraphrase", "family"])
def test_every_requirement_of_the_domain_is_restored(axis):
    for record in domain.draw(MEDIA, 100, 3, axis):
        assert slots.original(slots.abstract(record.input, LEXICON)) == record.input


def test_values_are_found_and_typed():
    text = 'Send Velora 24 "no. 7" files by 2026-03-01 21:30, not -0.5 or 3 May 2027, as AB-12/3.'
    made = slots.abstract(text, LEXICON)
    assert made.values == {"NAME1": "Velora 24", "TEXT1": "no. 7", "TIME1": "21:30", "DATE1": date(2026, 3, 1),
                           "DATE2": date(2027, 5, 3), "CODE1": "AB-12/3", "NUM1": Decimal("-0.5")}


def test_the_same_name_has_one_placeholder_and_equal_numbers_two():
    made = slots.abstract("Qixolatu: 7 parts of 7 minutes for Qixolatu", LEXICON)
    assert made.text.count("{NAME1}") == 2 and {b.name for b in made.bindings} == {"NAME1", "NUM1", "NUM2"}


def test_two_requirements_in_the_same_words_have_the_same_wording():
    a, b, c = (slots.wording(slots.abstract(text, LEXICON)) for text in (
        "Measured in LUFS, 7 parts for Qixolatu.", "Measured in dBTP, 12 parts for Velora.", "7 parts, in LUFS."))
    assert a == b == "Measured in {}, {} parts for {}." != c


def test_a_name_is_a_capitalised_word_that_training_does_not_know():
    assert found("Deliveries to Qixolatu shall be retried 3 times.") == {"NAME1": "Qixolatu", "NUM1": "3"}
    assert "NAME1" not in found("Deliveries shall be retried 3 times.")


def test_a_count_after_a_name_is_no_part_of_it():
    assert found("Give Qixolatu 12 more chances.") == {"NAME1": "Qixolatu", "NUM1": "12"}
    assert found("Send it to Qixolatu 12 at once.") == {"NAME1": "Qixolatu 12"}


def test_an_unknown_first_word_with_a_number_is_no_name_where_there_is_one():
    assert found("Overlong 12 attempts to reach Qixolatu") == {"NAME1": "Qixolatu", "NUM1": "12"}


def test_a_term_is_marked_and_stays():
    term, kind = next((t, k) for t, k in LEXICON.terms if t.isalpha())
    made = slots.abstract(f"the {term} is missing", LEXICON)
    assert made.text == f"the {{{kind}1}}{term} is missing" and made.values == {f"{kind}1": term}


def test_each_closed_class_has_its_own_kind_and_computed_letters_are_no_terms():
    kinds = dict(LEXICON.terms)
    assert kinds["French"] == kinds["Korean"] and len({kinds[t] for t in ("French", "dBTP", "true peak", "GB")}) == 4
    assert not [term for term in kinds if len(term) == 1]  # the check character of an identifier, which no one states
    one, other = (slots.abstract(text, LEXICON).values for text in (
        "A true peak of 5 dBTP for Qixolatu.", "Up to 5 dBTP of true peak for Qixolatu."))
    assert one == other


@pytest.mark.parametrize("one, other", [
    ("Loudness for Qixolatu is -23 LUFS, 1 LU off is fine.", "Up to 1 LU off -23 LUFS is fine for Qixolatu."),
    ("From 5 to 9 LUFS for Qixolatu.", "Qixolatu: lower limit 5 LUFS, upper limit 9 LUFS."),
    ("Width 600 pixels, height 900 for Qixolatu.", "600 by 900 pixels at Qixolatu.")])
def test_numbers_are_in_the_order_of_units_then_of_the_text(one, other):
    found = [{name: value for name, value in slots.abstract(text, LEXICON).values.items() if name.startswith("NUM")}
             for text in (one, other)]
    assert found[0] == found[1] and list(sorted(found[0])) == ["NUM1", "NUM2"]


def test_the_lexicon_comes_back_from_its_file(tmp_path):
    LEXICON.save(tmp_path / "lexicon.json")
    assert Lexicon.load(tmp_path / "lexicon.json") == LEXICON


def test_drafts_of_the_grammar_give_its_own_tests():
    made = [(r, slots.abstract(r.input, LEXICON)) for r in TRAIN[:200]]
    drafts = [(r, f, slots.drafted(r, f, MEDIA.families[r.family])) for r, f in made]
    kept = [(r, f, d) for r, f, d in drafts if d]
    assert len(kept) > 0.8 * len(drafts)
    assert all(slots.restore(d, f.values) == r.target for r, f, d in kept)
    assert all(name not in d for r, f, d in kept for name in [r.slots["partner"]] if re.search(r"\w{5}", name))


def test_any_pair_is_annotated_with_what_it_shares_and_small_steps():
    made = slots.abstract("Velora takes at most 30 files until 2026-03-01.", LEXICON)
    target = "Given Velora sends <n> files\n| n | day |\n| 30 | 2026-03-01 |\n| 31 | 2026-03-02 |\n| 29 | 77 |\n"
    draft = slots.annotate(target, made)
    assert draft == ("Given {NAME1} sends <n> files\n| n | day |\n| {NUM1} | {DATE1} |\n| {NUM1 + 1} | {DATE1 + 1} |\n"
                     "| {NUM1 - 1} | 77 |\n")
    assert slots.restore(draft, made.values) == target


def test_a_target_with_braces_is_not_annotated():
    assert slots.annotate("Given {x}", Abstract("", ())) is None


def test_an_unbound_placeholder_is_an_error():
    with pytest.raises(slots.ExpressionError, match="NUM2"):
        slots.restore("{NUM2 + 1}", {"NUM1": Decimal(1)})


def test_layout_puts_back_the_indentation_of_the_domain():
    for record in TRAIN[:50]:
        assert gherkin.layout(gherkin.flat(record.target)) == record.target


def test_bindings_name_their_surface():
    made = slots.abstract("1,000 files", EMPTY)
    assert made.bindings == (Binding("NUM1", "1,000", Decimal(1000)),)
