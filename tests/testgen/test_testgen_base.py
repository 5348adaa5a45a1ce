"""The shipped base: it loads, its tokens are those of the code, and it is small; its card says where it comes from."""

from pathlib import Path

import pytest

from hrm_lab.testgen import gherkin, slots, study, writer
from hrm_lab.testgen.tokenizer import SPECIAL

FOLDER = Path(__file__).resolve().parents[2] / "weights" / "testgen-base"


@pytest.fixture(scope="module")
def base():
    return study.load_base(FOLDER)


def test_its_vocabulary_holds_every_placeholder_as_one_token(base):
    codec, model = base
    assert [codec.tokenizer.token_to_id(token) for token in SPECIAL] == list(range(len(SPECIAL)))
    assert all(len(codec.tokenizer.encode(token).ids) == 1 for token in writer.PLACEHOLDERS)
    assert model.config.vocab_size == codec.size


def test_it_knows_the_terms_of_the_domain_and_writes_under_its_grammar(base):
    codec, model = base
    found = slots.abstract("Qixolatu takes masters with a true peak of -3 dBTP at most.", codec.lexicon)
    assert {name[:-1] for name in found.values} >= {"NAME", "NUM", dict(codec.lexicon.terms)["dBTP"]}
    (made,) = writer.write(model, codec, ["A true peak of -3 dBTP for Qixolatu."], limit=20)
    assert gherkin.valid(made.text) == ""


def test_it_is_small_and_has_a_card():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 20e6
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for part in ("BSD-2-Clause", "MIT", "Apache-2.0", "-p preset full"):
        assert part in card
