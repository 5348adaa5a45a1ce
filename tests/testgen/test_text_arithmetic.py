"""Boundaries without expressions: numbers stand as digits, results in place of expressions; the test is the same."""

from hrm_lab.testgen import arithmetic, slots, study, writer
from hrm_lab.testgen.domain import draw

MEDIA = study.media()
RECORDS = draw(MEDIA, 60, 0, "train", arithmetic.FAMILIES)
EXAMPLES = writer.examples(RECORDS, slots.learn(RECORDS), MEDIA)


def test_the_model_has_to_compute_and_the_test_stays_the_same():
    assert len(EXAMPLES) > 40
    for e in EXAMPLES:
        plain = arithmetic.literal(e)
        assert "NUM" not in plain.found.text and "NUM" not in plain.draft
        assert writer.restored(plain.draft, plain.found).text == e.record.target
        assert slots.PLACEHOLDER.sub(lambda m: "", plain.found.text) != plain.found.text  # names stay placeholders
