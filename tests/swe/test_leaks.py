"""What was trained on is found among what is judged: the same text, other names, a near-duplicate, the repair alone."""

import json

import pytest

from hrm_lab.swe import leaks

TOTAL = '''def total(values, start=0):
    """Sum."""
    result = start
    for index, value in enumerate(values):
        if index % 2 == 0:
            result += value
        else:
            result -= value
    return result
'''
WORDS = '''def words(text, low=2):
    found = []
    for word in text.split():
        if len(word) >= low and word not in found:
            found.append(word.lower())
    return found
'''
BUG = TOTAL.replace("% 2", "% 3")
RENAMED = TOTAL.replace("result", "r").replace("value", "v").replace("index", "i").replace("total", "f")


def test_what_is_apart_is_clean():
    found = leaks.check([WORDS], [("one", BUG, TOTAL)])
    assert found.clean and (found.training, found.evaluation) == (1, 1)
    assert str(found).endswith("no program, near-duplicate or fix among them") and found.closest is None
    near = leaks.check([WORDS, WORDS.replace("for word in text.split():", "while text:") + TOTAL[:95]],
                       [("one", BUG, TOTAL)])
    assert near.clean and 0.1 < near.closest.shared <= 0.5 and near.closest.training.startswith("1: def words")
    assert "the closest, below 50 %: one (" in str(near)


@pytest.mark.parametrize("training", [TOTAL, "# said\n" + TOTAL, TOTAL.replace("result", "answer", 1),
                                      WORDS + "\n\n" + TOTAL])
def test_a_text_its_copy_and_a_longer_text_with_it_are_found(training):
    found = leaks.check([WORDS, training], [("one", BUG, TOTAL), ("two", "def f(x):\n    return x", "")])
    assert {(hit.name, hit.what) for hit in found.hits} == {("one", "program"), ("one", "fix")}
    assert "one (fix) shares" in str(found) and "training text 1: " in str(found) and "1 leaked" in str(found)


def test_other_names_and_another_docstring_hide_nothing():
    training = RENAMED.replace('"""Sum."""', "'''Another\n    text.'''")
    found = leaks.check([training], [("one", BUG, TOTAL)])
    assert {hit.what for hit in found.hits if hit.shared == 1} == {"fix"}
    assert leaks.check([training.replace("enumerate", "sorted")], [("one", "", TOTAL)]).clean


def test_the_repair_alone_is_found():
    program = "def total(values):\n    raise NotImplementedError('not written yet, for the want of a better idea')"
    found = leaks.check([TOTAL], [("one", program, TOTAL)])
    assert [(hit.name, hit.what) for hit in found.hits] == [("one", "fix")]


def test_other_languages_are_read_as_they_are():
    script = "function total(values) { let r = 0; for (const v of values) { r += v * v - 1; } return r; }"
    assert leaks.check([TOTAL], [("js", script, script)], "javascript").clean
    assert not leaks.check([script], [("js", script, "")], "javascript", "javascript").clean
    renamed = script.replace("values", "list").replace("total", "sum")
    assert not leaks.check([renamed], [("js", script, "")], "javascript", "javascript").clean


def test_the_command_says_what_leaks(tmp_path, monkeypatch, capsys):
    row = {"task_id": "Python/0", "prompt": "def total(values, start=0):\n", "entry_point": "total",
           "instruction": "Sum.", "buggy_solution": BUG.split("\n", 1)[1],
           "canonical_solution": TOTAL.split("\n", 1)[1],
           "test": "assert total([1]) == 1\n", "example_test": "assert total([1]) == 1\n"}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    monkeypatch.setattr(leaks, "pool", lambda split, cache, larger: [WORDS])
    assert leaks.main(["--rows", str(path), "--cache", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "python: 1 evaluation programs and their fixes against 1 training texts: no program" in said
    monkeypatch.setattr(leaks, "pool", lambda split, cache, larger: [WORDS, RENAMED])
    assert leaks.main(["--rows", str(path), "--cache", str(tmp_path)]) == 1
    assert "humanevalpack-python-0" in capsys.readouterr().out
