"""The benchmarks of repair run from nothing to their JSON: on two small rows, and on instances of a shipped package.

They run in this process, because torch takes longer to import than they take.
"""

import json
import runpy
import sys

import pytest

from hrm_lab.inspect_notebook import ROOT

CLAMP = "    if x < low:\n        return low\n    return min(x, high)\n"
ROWS = [
    {"task_id": "Python/0", "prompt": "def clamp(x, low, high):\n", "entry_point": "clamp", "instruction": "Clamp.",
     "buggy_solution": CLAMP.replace("min", "max"), "canonical_solution": CLAMP,
     "example_test": "def check(f):\n    assert f(2, 1, 3) == 2\n    assert f(0, 1, 3) == 1\n\ncheck(clamp)\n",
     "test": "def check(f):\n    assert f(2, 1, 3) == 2\n    assert f(9, 1, 3) == 3\n\ncheck(clamp)\n"},
    {"task_id": "Python/2", "prompt": "def sign(x):\n", "entry_point": "sign", "instruction": "Sign.",
     "buggy_solution": "    return x > 1\n", "canonical_solution": "    return x > 0\n",
     "example_test": "def check(f):\n    assert f(-1) == False\n\ncheck(sign)\n",  # does not show the bug
     "test": "def check(f):\n    assert f(1) == True\n\ncheck(sign)\n"}]


@pytest.fixture
def last_line(monkeypatch, capsys):
    def run(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        runpy.run_path(str(ROOT / "benchmarks" / script), run_name="__main__")
        text = capsys.readouterr().out
        return json.loads(text.splitlines()[-1]), text

    return run


def test_repair_makes_its_tables_and_replays_them(tmp_path, last_line):
    rows, cache = tmp_path / "rows.jsonl", tmp_path / "cache"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    common = ("--rows", str(rows), "--cache", str(cache), "--seeds", "2", "--budget", "30")
    weights = f"{ROOT}/weights/swe-python/linear.safetensors"
    linear = ("--prior", f"linear={weights}", f"same={weights}")
    found, text = last_line("repair.py", *common, "--tables", *linear)
    assert (found["bugs"], found["shown"]) == (2, 1) and "Python/0: " in text
    assert {f"{prior} {kind}{probe}" for prior in ("uniform", "kinds", "linear") for kind in ("sorted", "tree")
            for probe in ("", " + probe")} < set(found)
    table = json.loads((cache / "Python-0.json").read_text())
    fix = next(line for line in table if line[3] == "min")
    assert (fix[4], fix[5], fix[7]) == ("PP", "PP", []) and any(line[7] for line in table if "P" not in line[4])
    scores = found["linear sorted"]
    assert scores["solved@30"]["n"] == 2 and scores["plausible@1"]["value"] <= scores["plausible@30"]["value"] <= 0.5
    assert {"ratio", "gain@30"} <= set(found["linear tree"]) and "ratio" not in scores
    assert found["same tree"]["ratio_to_linear"]["value"] == 1 and "ratio_to_same" not in found["linear tree"]
    again, text = last_line("repair.py", *common, *linear, "--whole", "--only", "linear", "uniform", "--searches",
                            "sorted", "sorted + probe")
    assert again["whole"] and set(again) == {"bugs", "shown", "whole", "depth", *(
        f"{prior} sorted{probe}" for prior in ("uniform", "linear") for probe in ("", " + probe"))}
    assert "Python/0: " not in text  # the tables were there


def test_with_all_tests_every_bug_shows_and_what_passes_is_right(tmp_path, last_line):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    found, _ = last_line("repair.py", "--rows", str(rows), "--cache", str(tmp_path / "all"), "--tables", "--all-tests",
                         "--seeds", "1", "--budget", "30", "--only", "kinds", "--searches", "sorted")
    assert found["shown"] == 2
    assert found["kinds sorted"]["solved@30"] == found["kinds sorted"]["plausible@30"]


def test_repair_finds_two_edits_and_goes_on_where_it_was(tmp_path, last_line):
    fixed = "    return x >= low, x <= high\n"
    test = ("def check(f):\n    assert f(0, 0, 9)[0]\n    assert f(9, 0, 9)[1]\n    assert not f(-1, 0, 9)[0]\n"
            "    assert not f(10, 0, 9)[1]\n\ncheck(inside)\n")
    row = {"task_id": "Python/4", "prompt": "def inside(x, low, high):\n", "entry_point": "inside",
           "instruction": "Inside?", "buggy_solution": fixed.replace("=", ""), "canonical_solution": fixed,
           "example_test": test, "test": test.replace("(0, 0, 9)", "(3, 3, 3)")}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    kept = tmp_path / "kept.jsonl"
    common = ("repair.py", "--rows", str(tmp_path / "rows.jsonl"), "--cache", str(tmp_path), "--budget", "60", "--kept",
              str(kept), "--prior", f"linear={ROOT}/weights/swe-python/linear.safetensors", "--only", "linear",
              "--searches", "sorted + probe")
    one, _ = last_line(*common, "--tables")
    two, _ = last_line(*common, "--depth", "2")
    assert [found["linear sorted + probe"]["solved@30"]["value"] for found in (one, two)] == [0, 1]
    text = kept.read_text()
    kept.write_text(text[:-20])  # a kill while the second was written
    assert last_line(*common, "--depth", "2")[0] == last_line(*common, "--depth", "2")[0] == two
    assert len(text.splitlines()) + 1 == len(kept.read_text().splitlines())


def test_repair_without_a_table_says_so(tmp_path, last_line, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(ROWS[0]) + "\n")
    with pytest.raises(SystemExit):
        last_line("repair.py", "--rows", str(rows), "--cache", str(tmp_path / "none"))
    assert "expected some (--tables)" in capsys.readouterr().err


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    from hrm_lab.swe import synthesis

    folder = tmp_path_factory.mktemp("built")
    synthesis.build(synthesis.Config(str(folder / "swe"), 4, 1, 0, ("itsdangerous",), str(folder / "cache")))
    return folder


def test_held_out_judges_searches_and_goes_on_where_it_was(built, tmp_path, last_line):
    common = ("--instances", str(built / "swe/instances.jsonl"), "--cache", str(built / "cache"), "--kept",
              str(tmp_path / "kept"), "--two", "0", "--budget", "10", "--against", "uniform")
    found, text = last_line("held_out.py", *common, "--n", "1", "--searches", "uniform", "linear+probe")
    assert (found["split"], found["budget"]) == ("test", 10) and "two edits" not in found
    assert found["one edit"]["uniform"]["solved@10"]["n"] == 1 and "ratio" in found["one edit"]["linear+probe"]
    kept = next((tmp_path / "kept").glob("depth1-*.jsonl"))
    lines = kept.read_text().splitlines()
    assert [json.loads(line)["search"] for line in lines] == ["uniform", "linear+probe"]
    kept.write_text(lines[0] + "\n" + lines[1][:50])  # a kill while the second was written
    again, text = last_line("held_out.py", *common, "--n", "1", "--searches", "uniform", "linear+probe")
    assert again == found and len(kept.read_text().splitlines()) == 2 + 1


def test_held_out_refuses_a_prior_that_it_does_not_know(built, tmp_path, last_line):
    with pytest.raises(SystemExit, match="got best, sorted; expected priors among uniform, kinds, linear, hrm"):
        last_line("held_out.py", "--instances", str(built / "swe/instances.jsonl"), "--kept", str(tmp_path / "kept"),
                  "--searches", "uniform", "best+tree", "linear+sorted")
