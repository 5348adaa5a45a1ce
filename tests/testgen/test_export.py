"""What leaves the lab can be read by others, and says what is missing or unclear."""

import csv
from dataclasses import replace

import pytest

from hrm_lab.testgen import export, gherkin
from hrm_lab.testgen.domain import ROOT, draw, load

MEDIA = load(ROOT / "media")
RECORDS = draw(MEDIA, 6, 2)
TESTS = [(record, record.target) for record in RECORDS]


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_feature_files_parse_and_name_their_requirement(tmp_path):
    paths = export.feature_files(tmp_path, TESTS)
    assert len(set(paths)) == 6
    for path, (record, text) in zip(paths, TESTS, strict=True):
        assert gherkin.cases(path.read_text()) == gherkin.cases(text)
        assert path.read_text().splitlines()[0] == f"# requirement {record.group}: {record.input}"


def test_a_file_name_leads_nowhere_else_and_is_not_used_twice(tmp_path):
    evil = replace(RECORDS[0], id="../../etc/pass wd")
    (path,) = export.feature_files(tmp_path / "out", [(evil, RECORDS[0].target)])
    assert path.parent == tmp_path / "out" and path.is_file()
    with pytest.raises(ValueError, match="twice"):
        export.feature_files(tmp_path, [TESTS[0], TESTS[0]])
    with pytest.raises(ValueError, match="expected a test in Gherkin"):
        export.feature_files(tmp_path / "none", [TESTS[0], (RECORDS[1], "nonsense")])
    assert not (tmp_path / "none").exists()


def test_each_case_is_a_row_for_a_test_management_tool(tmp_path):
    count = export.management_csv(tmp_path / "cases.csv", TESTS)
    rows = table(tmp_path / "cases.csv")
    assert len(rows) == count == sum(len(gherkin.cases(text)) for _, text in TESTS)
    assert tuple(rows[0]) == export.COLUMNS and len({row["ID"] for row in rows}) == count
    assert all(row["Expected Result"] and row["Requirement"] and "<" not in row["Steps"] for row in rows)


@pytest.mark.parametrize("text, safe", [("=1+1", "'=1+1"), ("@sum", "'@sum"), ("+1", "'+1"), ("-cmd", "'-cmd"),
                                        ("-12.5", "-12.5"), ("plain", "plain"), ("", "")])
def test_no_cell_is_a_formula(text, safe):
    assert export.cell(text) == safe


def test_the_matrix_has_a_row_for_a_requirement_without_a_test(tmp_path):
    again = replace(RECORDS[0], id="other", input="The same in other words.")
    rows = export.traceability([*RECORDS[:3], again], {RECORDS[0].id: RECORDS[0].target, "other": RECORDS[0].target,
                                                       RECORDS[1].id: "nonsense"})
    assert [(row["wordings"], len(row["tests"]), row["gap"]) for row in rows] == [
        (2, 2, ""), (1, 1, f"not valid: {RECORDS[1].id}"), (1, 0, "no test")]
    assert rows[0]["cases"] == 2 * len(gherkin.cases(RECORDS[0].target))
    export.traceability_csv(tmp_path / "matrix.csv", rows)
    assert [row["Gap"] for row in table(tmp_path / "matrix.csv")] == [row["gap"] for row in rows]


@pytest.mark.parametrize("text, kinds", [
    ("Delivery should take no more than 3 hours.", ["weak verb"]), ("Transcoding must be fast.", ["vague word"]),
    ("Files shall be delivered within the agreed time.", ["bound without a number"]),
    ("Loudness shall be between -24 and -22 LUFS.", ["two readings"]),
    ("The title is available until 2027-01-31.", ["two readings"]),
    ("Subtitles and/or dubs are needed.", ["two readings"]),
    ("It should normally be deleted within a reasonable time.", ["weak verb", "vague word", "vague word",
                                                                 "bound without a number"]),
    ("Loudness shall be between -24 and -22 LUFS, limits included.", []), ("At most 3 retries.", []),
    ("Should a check fail, the file is refused.", []), ("Publish as soon as one dub exists.", []),
    ("Do not publish it until 2027-01-31.", []), ("A transfer is retried at most three times.", []),
])
def test_ambiguities(text, kinds):
    assert [one.kind for one in export.ambiguities(text)] == kinds


def test_ambiguous_requirements_are_listed_once_with_a_question():
    unclear = replace(RECORDS[0], input="It should be fast.")
    rows = export.ambiguous([unclear, unclear, replace(RECORDS[1], input="At most 3 retries.")])
    assert [row["words"] for row in rows] == ["should", "fast"] and all("?" in row["question"] or "open" in
                                                                       row["question"] for row in rows)


def test_all_of_it_lies_in_one_folder_and_what_is_not_valid_is_a_gap(tmp_path):
    records = [*RECORDS, replace(RECORDS[0], id="u", group="u", input="=It should be fast.")]
    made = export.deliver(tmp_path, {RECORDS[0].id: RECORDS[0].target, RECORDS[1].id: "nonsense"}, records)
    assert made == {"features": 1, "cases": len(gherkin.cases(RECORDS[0].target)), "requirements": 7,
                    "without a valid test": 6, "ambiguous": 1}
    assert {path.name for path in tmp_path.iterdir()} == {"features", "tests.csv", "traceability.csv", "ambiguous.csv"}
    assert [row["text"] for row in table(tmp_path / "ambiguous.csv")] == ["'=It should be fast."] * 2
    assert len(table(tmp_path / "tests.csv")) == made["cases"] and len(table(tmp_path / "traceability.csv")) == 7
