"""Feature files, whole archives of them, and real requirements with their tests."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrm_lab.sources import Source, SourceError
from hrm_lab.testgen import ebu, feature_files, gherkin, harvest
from hrm_lab.testgen.gherkin import GherkinError

FEATURE = """Feature: Accounts
  As a bank.

  More words that are not taken.

  Background:
    Given an account with
      | name | a\\|b |

  Scenario Outline: money is <what> again
    When it is <what>
      \"\"\"
      text
      \"\"\"
    Then all is <result>
    Examples:
      | what | result |
      | lent | fine |
      | lost | bad |

  Rule: of thumb
    Background:
      Given a rule
    Scenario: inside of a rule
      Then it holds
"""


def test_an_outline_a_background_and_a_rule_become_cases():
    first, second, third = gherkin.cases(FEATURE)
    assert [kind for kind, _ in first.steps] == ["given", "when", "then"] and first.tables == 2
    assert second.steps[2] == ("then", "all is bad") and len(third.steps) == 3


def test_scenarios_are_written_so_that_they_parse_to_the_same_cases():
    made = feature_files.records(FEATURE, source="s", licence="MIT", domain="d", family="f", group="g")
    assert [r.input for r in made] == ["Accounts. As a bank. money is <what> again.",
                                       "Accounts. As a bank. inside of a rule."]
    again = [case for record in made for case in gherkin.cases(record.target)]
    assert [case.steps for case in again] == [case.steps for case in gherkin.cases(FEATURE)]
    assert "a\\|b" in made[0].target and '"""' in made[0].target


@pytest.mark.parametrize("text, why", [
    ("", "no feature"), ("Feature: f\n", "no scenario"), ("Feature: f\n  Scenario: s\n", "without Then"),
    ("Feature: f\n  Scenario: s\n    Given a\n    When b\n", "without Then"), ("words", "line 1"),
    ("Feature: f\n  Scenario: s\n    Then a\n    Then b\nrubbish\n", "line 5"), ("x" * 100_000, "100,000 characters"),
    ("Feature: f\n  Scenario Outline: s\n    Then <a>\n    Examples:\n      | a |\n", "without rows"),
    ("Feature: f\n  Scenario: s\n    Then \n", "without Then"),
])
def test_why_a_text_is_no_test(text, why):
    assert why in gherkin.valid(text)


@given(st.text("Feature: Scnoi|Gvhe\n\"<>@#*\\", max_size=80))
def test_any_text_is_valid_or_has_a_reason_in_one_line(text):
    assert "\n" not in gherkin.valid(text)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    def add(tar, name, content):
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))

    path = tmp_path / "p-1.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        add(tar, "p-1/b/a.feature", FEATURE.encode())
        add(tar, "p-1/b/same.feature", FEATURE.encode())
        add(tar, "p-1/bad.feature", b"no feature here")
        add(tar, "p-1/latin.feature", b"Feature: \xe9\n")
        add(tar, "p-1/../up.py", b"raise SystemExit")
    monkeypatch.setattr(harvest, "listed", lambda: {"p": Source("p", "1", "sdist", "", "MIT", "w")})
    monkeypatch.setattr(harvest, "fetch", lambda name, cache: path)
    return path


def test_a_harvest_keeps_what_is_useful_once_and_counts_the_rest(archive, tmp_path):
    made, counts = harvest.harvest(tmp_path, ("p",))
    assert [(r.id, r.source, r.licence, r.group) for r in made] == [
        ("p/b/a.feature#10", "p-1/b/a.feature:10", "MIT", "p/b/a.feature"),
        ("p/b/a.feature#24", "p-1/b/a.feature:24", "MIT", "p/b/a.feature")]
    assert counts == {"p": {"does not parse": 1, "files": 4, "not UTF-8": 1, "scenarios": 4, "seen before": 2,
                            "useful": 2}}


def test_no_archive_is_refused(archive, tmp_path):
    archive.write_bytes(b"junk")
    with pytest.raises(SourceError, match="expected a .tar.gz"):
        harvest.harvest(tmp_path, ("p",))


LIST = """| ID | Section | Statement | Feature file |
|--|--|--|--|
|R1|2.2|A document shall be `active` ~~or not~~.|`/bdd/features/a/x.feature` `In a document`|
|R2|2.3|~~Gone entirely~~|`bdd/features/a/x.feature`|
|R3|2.4|Everything shall be tested.|`bdd/features/a/x.feature`|
|R4|2.5|Nothing tests this.|Implicit in R1|
"""


def test_requirements_are_paired_with_the_scenarios_that_they_name(tmp_path):
    folder = tmp_path / "bdd" / "features" / "a"
    folder.mkdir(parents=True)
    (folder / "x.feature").write_text("Feature: x\n  Scenario: In a document\n    Given a file 'a.xml'\n    Then ok\n"
                                      "  Scenario: Outside\n    Given 7 files\n    Then fine\n")
    (folder / "bad.feature").write_text("nonsense")
    (tmp_path / "SPEC-CONFORMANCE.md").write_text(LIST)
    pairs, library, counts = ebu.read(tmp_path)
    assert [(p.id, p.requirement, len(p.scenarios)) for p in pairs] == [
        ("R1", "A document shall be active .", 1), ("R3", "Everything shall be tested.", 2)]
    assert counts == {"statements": 4, "struck out": 1, "without a feature file": 1, "file does not parse": 1,
                      "pairs": 3}
    assert library == {"a file *", "ok", "* files", "fine"}
    same = ebu.score(pairs, {"R1": pairs[0].scenarios[0], "R3": pairs[1].scenarios[1]}, library)
    assert [same[name]["value"] for name in ("chrf", "step_match", "valid")] == [1.0, 1.0, 1.0]
    near = "Feature: y\n  Scenario: z\n    Given a file \"b\"\n    Then no\n"
    half = ebu.score(pairs, {"R1": near, "R3": "?"}, library)
    assert half["step_match"]["value"] == 0.25 and half["valid"]["value"] == 0.5 and half["chrf"]["value"] < 0.9
    table = ebu.compare(pairs, library, {"same": lambda texts: [pairs[0].scenarios[0], pairs[1].scenarios[1]],
                                         "broken": lambda texts: ["?" for _ in texts]})
    assert table["same"] == same and table["broken"]["valid"]["value"] == 0 and len(table) == 2
    with pytest.raises(ValueError, match="R3"):
        ebu.score(pairs, {"R1": ""}, library)


def test_a_folder_without_the_list_is_refused(tmp_path):
    with pytest.raises(ValueError, match="SPEC-CONFORMANCE"):
        ebu.read(tmp_path)


def test_what_does_not_parse_is_raised_and_counted():
    with pytest.raises(GherkinError):
        feature_files.records("nonsense", source="", licence="", domain="", family="", group="")


def test_a_column_that_the_compiler_takes_for_a_pattern_is_no_valid_test():
    text = ("Feature: f\n  Scenario Outline: o\n    Given a <x)> b\n    Then c\n    Examples:\n      | x) |\n"
            "      | 1 |\n")
    assert "compiler" in gherkin.valid(text)
    with pytest.raises(GherkinError, match="compiler"):
        gherkin.cases(text)
