"""Mixed formats become one record; what cannot be used is refused by file, line and field; groups stay whole."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrm_lab.testgen import collector, records
from hrm_lab.testgen.collector import collect, grouped, split, write_set
from hrm_lab.testgen.records import Record, RecordError, key

TEST = "Feature: f\n  Scenario: s\n    Given a\n    When b\n    Then c\n"
OTHER = TEST.replace("Then c", "Then d")
ONE = Record("r1", "g1", "hand", "MIT", "media", "", "It shall work.", TEST)


def jsonl(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_three_formats_and_a_feature_file_in_one_folder(tmp_path):
    jsonl(tmp_path / "a.jsonl", {"prompt": collector.INSTRUCTION + "First.", "completion": TEST, "group": "G1"}, "",
          {"input_sequence": "Second, of another length.", "target_sequence": OTHER, "id": "x"})
    records.write(tmp_path / "b.jsonl", [ONE])
    (tmp_path / "c.feature").write_text("Feature: Login\n  A story.\n\n  Background:\n    Given a user\n\n"
                                        "  Scenario: the user logs in\n    When he logs in\n    Then he is in\n"
                                        "  Scenario: short\n    Then nothing\n")
    (tmp_path / "notes.txt").write_text("not read")
    found = collect([tmp_path], licence="BSD-3-Clause", domain="web", strict=True)
    assert [r.input for r in found.records] == ["First.", "Second, of another length.", "It shall work.",
                                                "Login. A story. the user logs in."]
    first, second, third, fourth = found.records
    assert (first.group, first.id, first.licence, first.domain) == ("G1", "a:1", "BSD-3-Clause", "web")
    assert (second.id, second.group) == ("x", key(second.input)) and third == ONE
    assert "Given a user\n    When he logs in" in fourth.target and fourth.source == "c.feature:7"
    assert found.counts["c.feature"] == {"a name of fewer than three words": 1, "kept": 1}


LONG = {"prompt": "x" * 100_000, "completion": TEST}


@pytest.mark.parametrize("row, field", [
    ({"prompt": "p"}, "field 'completion' is missing"),
    ({"prompt": "p", "completion": ""}, "field 'completion' is empty"),
    ({"prompt": " \n", "completion": TEST}, "field 'prompt' is empty"), (LONG, "field 'input' is 100,000 characters"),
    ({"input_sequence": [1, 2], "target_sequence": TEST}, "field 'input_sequence' is a list"),
    ({"prompt": "p", "completion": "not Gherkin"}, "field 'completion' is no test"),
    ({"prompt": "p", "completion": TEST, "color": 1}, "field 'color' is not known"),
    ({"prompt": "p", "completion": TEST, "weight": -1}, "field 'weight'"),
    ({"prompt": "p", "completion": TEST, "slots": {"a": 1}}, "field 'slots'"),
    ({"prompt": "p", "completion": TEST, "group": " "}, "field 'group' is empty"),
    ({"prompt": "a\0b", "completion": TEST}, "null character"), ({"question": "q"}, "expected one of the pairs"),
    ({"prompt": "\ud800", "completion": TEST}, "no UTF-8 form"), ("{", "expected a JSON object"), ("[1]", "a list"),
    ("[" * 100_000, "expected a JSON object"),
    ({"requirement": "p", "proposed": "x", "verdict": "maybe", "fixed": TEST}, "field 'verdict'"),
])
def test_a_bad_line_is_refused_by_file_line_and_field_and_the_rest_is_used(tmp_path, row, field):
    path = jsonl(tmp_path / "in.jsonl", {"prompt": "good", "completion": TEST}, row)
    found = collect([path])
    assert len(found.records) == 1 and found.counts["in.jsonl"] == {"kept": 1, "refused": 1}
    (message,) = found.refused
    assert message.startswith(f"{path}: line 2: ") and field in message and "\n" not in message
    with pytest.raises(RecordError, match="line 2"):
        collect([path], strict=True)


def test_bytes_that_are_not_utf_8_are_refused_with_their_line(tmp_path):
    good = json.dumps({"prompt": "gut", "completion": TEST}).encode()
    (tmp_path / "in.jsonl").write_bytes(b"\xef\xbb\xbf" + good + b"\n" + b'{"prompt": "s\xfc\xdf"}' + b"\r\n")
    (tmp_path / "x.feature").write_bytes(b"Feature: f\n  Scenario: \xff\n")
    (tmp_path / "y.feature").write_text("Feature: f\n  Scenario: x\n    Then y\n    nonsense\n")
    found = collect([tmp_path])
    assert [r.input for r in found.records] == ["gut"]
    assert ["line 2: byte 13 is 0xfc" in found.refused[0], "line 2: byte 0xff" in found.refused[1],
            "line 4" in found.refused[2]] == [True] * 3


def test_what_is_there_twice_is_kept_once_and_a_conflict_is_refused(tmp_path):
    path = jsonl(tmp_path / "in.jsonl", {"prompt": "Do it.", "completion": TEST},
                 {"input_sequence": "do  IT.", "target_sequence": TEST}, {"prompt": "Do it.", "completion": OTHER})
    found = collect([path])
    assert [r.target for r in found.records] == [TEST]
    assert found.counts["in.jsonl"] == {"duplicate": 1, "kept": 1, "refused": 1}
    assert "line 3: field 'target' differs" in found.refused[0] and "line 1" in found.refused[0]


def test_an_edit_of_the_feedback_store_goes_before_what_was_there(tmp_path):
    say = {"requirement": "Do it.", "proposed": "x", "reviewer": "ada"}
    plain = jsonl(tmp_path / "a.jsonl", {"prompt": "Do it.", "completion": TEST})
    rows = [{**say, "verdict": "edit", "fixed": OTHER}, {**say, "requirement": "b", "verdict": "accept", "fixed": TEST},
            {**say, "requirement": "c", "verdict": "reject", "fixed": ""}]
    for order in ([plain, tmp_path / "z.jsonl"], [tmp_path / "z.jsonl", plain]):
        jsonl(tmp_path / "z.jsonl", *rows)
        found = collect(order)
        assert sorted((r.input, r.target, r.weight) for r in found.records) == [
            ("Do it.", OTHER, 2.0), ("b", TEST, 1.0)]
        assert found.counts["z.jsonl"] == {"kept": 2, "rejected by a reviewer": 1}


def test_a_path_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RecordError, match="not there"):
        collect([tmp_path / "nothing.jsonl"])


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("ABCDE")), max_size=30), st.floats(0, 1),
       st.integers(0, 99))
def test_no_requirement_and_no_group_is_ever_on_both_sides(pairs, share, seed):
    made = [replace(ONE, id=str(i), input=text, group=group) for i, (text, group) in enumerate(pairs)]
    train, out = split(made, share, seed)
    assert len(train) + len(out) == len(made)
    assert not {r.group for r in train} & {r.group for r in out}
    assert not {key(r.input) for r in train} & {key(r.input) for r in out}
    assert grouped(grouped(made)) == grouped(made)


def test_a_split_by_name_and_its_files(tmp_path):
    made = [replace(ONE, id=str(i), input=str(i), group=f"g{i % 3}") for i in range(9)]
    train, out = split(made, 0.0, held_out=["g1"])
    assert {r.group for r in out} == {"g1"} and len(train) == 6
    found = collect([jsonl(tmp_path / "in.jsonl", {"prompt": "p", "completion": "x"})])
    write_set(tmp_path / "set", train, out, found)
    assert records.read(tmp_path / "set" / "train.jsonl") == train
    card = (tmp_path / "set" / "card.md").read_text()
    assert "6 records to train on (2 requirement groups), 3 held out" in card
    assert "refused: 1" in card and "MIT 9" in card
    with pytest.raises(RecordError, match="both"):
        write_set(tmp_path / "set", train, train, found)
    with pytest.raises(RecordError, match="'nobody'"):
        split(made, 0.0, held_out=["nobody"])


def test_the_command_writes_the_set_and_says_what_it_refused(tmp_path, capsys):
    path = jsonl(tmp_path / "in.jsonl", *({"prompt": f"p{i}", "completion": TEST} for i in range(10)), {"prompt": ""})
    assert collector.main([str(path), "--out", str(tmp_path / "set"), "--held-out", "0.3"]) == 0
    said = capsys.readouterr()
    assert "7 records to train on, 3 held out, 1 refused" in said.out and "line 11" in said.err
    assert len(records.read(tmp_path / "set" / "held_out.jsonl")) == 3
    assert collector.main([str(path), "--out", str(tmp_path / "other"), "--strict"]) == 1
    assert not (tmp_path / "other").exists()


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)


@given(st.lists(st.builds(Record, *[text] * 8, slots=st.dictionaries(text, st.one_of(text, st.lists(text))),
                          weight=st.floats(0.1, 9)), max_size=4))
def test_records_come_back_from_their_file(tmp_path_factory, made):
    path = tmp_path_factory.mktemp("records") / "r.jsonl"
    records.write(path, made)
    assert records.read(path) == made


def test_a_file_of_records_is_strict(tmp_path):
    path = jsonl(tmp_path / "r.jsonl", {"id": "1", "group": "g"})
    with pytest.raises(RecordError, match=r"r\.jsonl: line 1: missing .*'source'"):
        records.read(path)
    row = {**{name: getattr(ONE, name) for name in ("id", "group", "source", "licence", "domain", "family", "input",
                                                    "target")}}
    for extra, named in (({"axis": "other"}, "axis"), ({"weight": True}, "weight"), ({"colour": 1}, "colour"),
                         ({"id": 3}, "id")):
        with pytest.raises(RecordError, match=f"line 1: field '{named}'"):
            records.read(jsonl(path, row | extra))
