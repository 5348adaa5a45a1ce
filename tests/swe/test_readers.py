"""Readers: each format gives a whole instance, and each kind of bad row is counted, named by its line, and kept out."""

import base64
import json
import pickle
import sys
import types
import zlib

import pytest

from hrm_lab.swe import diffs, instances, stdio
from hrm_lab.swe.instances import InstanceError, read
from hrm_lab.swe.languages import problems
from hrm_lab.swe.readers import changed_function, main, read_hub, read_pair, read_rows

BUGGY = "class Box:\n    def add(self, x):\n        return self.x - x\n\n\ndef other():\n    return 1\n"
FIXED = BUGGY.replace("self.x - x", "self.x + x")
SWE = {"instance_id": "demo__demo-1", "repo": "demo/demo", "base_commit": "abc", "version": "1.2",
       "patch": diffs.make(BUGGY, FIXED, "src/box.py"), "test_patch": "", "problem_statement": "Box.add subtracts",
       "FAIL_TO_PASS": '["tests/test_box.py::test_add"]', "PASS_TO_PASS": "[]"}
SMITH = {"instance_id": "demo__demo.abc.op__1", "repo": "swesmith/demo__demo.abc", "problem_statement": "",
         "patch": diffs.make(FIXED, BUGGY, "src/box.py"), "FAIL_TO_PASS": ["tests/test_box.py::test_add"],
         "PASS_TO_PASS": []}
PACK = {
    "python": ("Python", "def one(x: int) -> int:\n", "    return x - 1\n", "    return x + 1\n",
               "def check(one):\n    assert one(1) == 2\n\ncheck(one)\n"),
    "javascript": ("JavaScript", "const one = (x) => {\n", "  return x - 1;\n}\n", "  return x + 1;\n}\n",
                   "console.assert(one(1) === 2)\n"),
    "go": ("Go", "import (\n    \"math\"\n)\n\n// like strings.Map\nfunc One(x float64) float64 {\n",
           "    return x - 1\n}\n",
           "    return math.Floor(x) + 1\n}\n",
           "func TestOne(t *testing.T) {\n    assert := assert.New(t)\n    assert.Equal(2.0, One(1))\n}\n"),
    "java": ("Java", "class Solution {\n    public int one(int x) {\n", "        return x - 1;\n    }\n}",
             "        return x + 1;\n    }\n}", "public class Main { }\n"),
    "cpp": ("CPP", "#include<vector>\n#include<boost/any.hpp>\nint one(int x){\n",
            "    return x-1;\n}\n", "    return x+1;\n}\n",
            "#include<assert.h>\nint main(){ assert(one(1)==2); }\n"),
    "rust": ("Rust", "fn main(){}\n\nuse rand::Rng;\nuse md5;\nfn one(x: i32) -> i32{\n",
             "    x - 1\n}\n", "    x + 1\n}\n",
             "mod tests { fn t() { md5::compute(b\"a\"); } }\n")}


def pack_row(language):
    name, prompt, buggy, fixed, test = PACK[language]
    return {"task_id": f"{name}/0", "prompt": prompt, "buggy_solution": buggy, "canonical_solution": fixed,
            "test": test, "example_test": "assert True\n", "entry_point": "one", "instruction": "Write one.",
            "bug_type": "operator misuse"}


LIVE = {"question_title": "Sum", "question_content": "Add two numbers.", "platform": "atcoder", "question_id": "abc_a",
        "contest_date": "2024-01-01", "starter_code": "", "metadata": "{}",
        "public_test_cases": json.dumps([{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]),
        "private_test_cases": [{"input": "2 2\n", "output": "4\n", "testtype": "stdin"}],
        "program": "a, b = map(int, input().split())\nprint(a - b)\n",
        "fixed": "a, b = map(int, input().split())\nprint(a + b)\n"}


def save(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows))
    return path


def only(reading):
    assert reading.problems == []
    return reading.instances[0]


@pytest.fixture
def checkouts(tmp_path):
    for name, text in (("demo__demo@abc", BUGGY), ("demo__demo.abc", FIXED)):
        (tmp_path / "repos" / name / "src").mkdir(parents=True)
        (tmp_path / "repos" / name / "src/box.py").write_text(text)
    return tmp_path / "repos"


# ---------------------------------------------------------------- SWE-bench and SWE-smith


@pytest.mark.parametrize("row, format, source", [(SWE, "swe-bench", "human"), (SMITH, "swe-smith", "synthetic")])
def test_swe_rows_repair(tmp_path, checkouts, row, format, source):
    path = save(tmp_path, row)
    bare = only(read_rows(path, format))
    assert (bare.program, bare.function, bare.source, bare.file) == ("", "", source, "src/box.py")
    assert diffs.apply(bare.patch, BUGGY) == FIXED and bare.FAIL_TO_PASS == ("tests/test_box.py::test_add",)
    whole = only(read_rows(path, format, checkouts=checkouts, split="train"))
    assert whole.function == "Box.add" and whole.program == "    def add(self, x):\n        return self.x - x"
    assert whole.fixed == whole.program.replace("-", "+") and whole.split == "train" and whole.patch == bare.patch
    assert instances.from_row(json.loads(json.dumps(vars(whole)))) == whole


def test_changes_in_two_functions_are_a_file():
    assert changed_function(BUGGY, FIXED.replace("return 1", "return 2"), "python")[0] == ""
    nested = "def f():\n    def g():\n        return 1\n    return g\n"
    name, old, new = changed_function(nested, nested.replace("1", "12"), "python")
    assert (name, old, new) == ("f.g", "    def g():\n        return 1", "    def g():\n        return 12")


# ---------------------------------------------------------------- HumanEvalPack


@pytest.mark.parametrize("language", PACK)
def test_a_pack_row_stands_alone(tmp_path, language):
    instance = only(read_rows(save(tmp_path, pack_row(language)), "humanevalpack"))
    assert instance.language == language and instance.function == "one" and instance.source == "human"
    assert not problems(instance.program, language) and not problems(instance.fixed, language)
    assert diffs.apply(instance.patch, instance.program) == instance.fixed
    assert "boost" not in instance.program and "use rand" not in instance.program
    assert language != "rust" or "use md5;" in instance.program  # the tests use it
    assert only(read_rows(tmp_path / "rows.jsonl", "humanevalpack", tests="example_test")).tests != instance.tests


def test_go_files_import_what_they_use(tmp_path):
    instance = only(read_rows(save(tmp_path, pack_row("go")), "humanevalpack"))
    assert instance.program.startswith('package main\n\nimport "math"\n') and instance.program.count("import") == 1
    assert instance.tests.startswith('package main\n\nimport "testing"\nimport "github.com/stretchr/testify/assert"\n')


# ---------------------------------------------------------------- LiveCodeBench


def test_live_rows_on_stdin(tmp_path):
    instance = only(read_rows(save(tmp_path, LIVE), "livecodebench"))
    assert stdio.unpack(instance.tests) == [("public_0", "1 2\n", "3\n"), ("private_1", "2 2\n", "4\n")]
    assert instance.instance_id == "livecodebench-atcoder-abc_a" and "Add two numbers." in instance.problem_statement
    assert diffs.apply(instance.patch, instance.program) == instance.fixed
    bare = {name: value for name, value in LIVE.items() if name not in ("program", "fixed")}
    assert only(read_rows(save(tmp_path, bare), "livecodebench")).patch == ""


def test_live_rows_with_a_function(tmp_path):
    row = {**LIVE, "metadata": json.dumps({"func_name": "add"}), "private_test_cases": "", "fixed": "",
           "program": "class Solution:\n    def add(self, a, b):\n        return a + b\n",
           "public_test_cases": [{"input": '[1]\n[2, "x"]', "output": '[1, 2, "x"]', "testtype": "functional"}]}
    instance = only(read_rows(save(tmp_path, row), "livecodebench"))
    names = {}
    exec(instance.program + instance.tests, names)
    names["test_public_0"]()
    wrong = {}
    exec(instance.program.replace("a + b", "b + a") + instance.tests, wrong)
    with pytest.raises(AssertionError):
        wrong["test_public_0"]()


def test_outputs_are_compared_by_tokens():
    assert stdio.same("1 2\n3.0\n\n", "1  2\n3") and stdio.same("", "\n")
    assert not stdio.same("1\n2", "1 2") and not stdio.same("a", "b") and not stdio.same("1", "1.5")


# ---------------------------------------------------------------- a pair of files


def test_a_pair(tmp_path):
    for name, text in (("box.py", BUGGY), ("test_box.py", "def test(): pass\n"), ("fixed.py", FIXED)):
        (tmp_path / name).write_text(text)
    instance = read_pair(tmp_path / "box.py", tmp_path / "test_box.py", tmp_path / "fixed.py")
    assert (instance.function, instance.language, instance.file) == ("Box.add", "python", "box.py")
    assert diffs.apply(instance.patch, instance.program) == instance.fixed == FIXED
    assert read_pair(tmp_path / "box.py", tmp_path / "test_box.py").patch == ""
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9\n")
    for program, tests, fixed, message in (
            ("latin.py", "test_box.py", None, "latin.py: byte 5 is 0xe9; expected UTF-8"),
            ("gone.py", "test_box.py", None, "gone.py: No such file"),
            ("box.py", "test_box.py", "box.py", "the same text")):
        with pytest.raises(InstanceError, match=message):
            read_pair(tmp_path / program, tmp_path / tests, fixed and tmp_path / fixed)


# ---------------------------------------------------------------- malformed rows


def without(row, field):
    return {name: value for name, value in row.items() if name != field}


PICKLED = base64.b64encode(zlib.compress(pickle.dumps("[]"))).decode()
BAD = [
    ("swe-bench", SWE, without(SWE, "FAIL_TO_PASS"), "field FAIL_TO_PASS is missing"),
    ("swe-bench", SWE, {**SWE, "FAIL_TO_PASS": "test_a"}, "field FAIL_TO_PASS is 'test_a'; expected a JSON list"),
    ("swe-bench", SWE, {**SWE, "patch": "oops"}, "no file in it"),
    ("swe-bench", SWE, {**SWE, "patch": SWE["patch"].replace("-        return", "         return")}, "patch line"),
    ("swe-bench", SWE, {**SWE, "patch": SWE["patch"].replace("self.x - x", "self.y - x")},
     "src/box.py:3: '        return self.x - x\\n'; the patch expected"),
    ("swe-bench", SWE, {**SWE, "patch": diffs.make(BUGGY, FIXED, "src/gone.py")}, "'src/gone.py': No such file"),
    ("swe-bench", SWE, {**SWE, "patch": diffs.make(BUGGY, FIXED, "../secret.py")}, "expected a path inside"),
    ("swe-bench", SWE, {**SWE, "patch": diffs.make(BUGGY, FIXED, "notes.txt")}, "notes.txt: extension of none of"),
    ("swe-bench", SWE, {**SWE, "repo": "demo/gone", "instance_id": "x"}, "no checkout of demo/gone"),
    ("swe-smith", SMITH, {**SMITH, "patch": SWE["patch"]}, "the patch expected"),
    ("swe-smith", SMITH, {**SMITH, "patch": None}, "field patch is None; expected a string"),
    ("humanevalpack", pack_row("go"), without(pack_row("go"), "prompt"), "field prompt is missing"),
    ("humanevalpack", pack_row("go"), {**pack_row("go"), "task_id": "Cobol/1"}, "field task_id is 'Cobol/1'"),
    ("humanevalpack", pack_row("go"), {**pack_row("go"), "test": ""}, "field test is ''"),
    ("humanevalpack", pack_row("java"), {**pack_row("java"), "buggy_solution": PACK["java"][3]}, "expected a bug"),
    ("livecodebench", LIVE, without(LIVE, "platform"), "field platform is missing"),
    ("livecodebench", LIVE, {**LIVE, "private_test_cases": PICKLED}, "nothing is unpickled here"),
    ("livecodebench", LIVE, {**LIVE, "private_test_cases": "[{]"}, "field private_test_cases: Expecting"),
    ("livecodebench", LIVE, {**LIVE, "public_test_cases": [{"input": 1}]}, "expected objects with strings"),
    ("livecodebench", LIVE, {**LIVE, "public_test_cases": [], "private_test_cases": []}, "expected a test"),
    ("humanevalpack", pack_row("go"), b'{"task_id": "Go/1", ', "expected one JSON object a line"),
    ("humanevalpack", pack_row("go"), b"3", "row is a int; expected an object"),
    ("humanevalpack", pack_row("go"), '{"task_id": "caf\u00e9"}'.encode("latin-1"), "is 0xe9; expected UTF-8")]


@pytest.mark.parametrize("format, good, bad, message", BAD, ids=[f"{b[0]}-{b[3][:24]}" for b in BAD])
def test_a_bad_row_is_counted_and_the_rest_kept(tmp_path, checkouts, capsys, format, good, bad, message):
    key = {"humanevalpack": "task_id", "livecodebench": "question_id"}.get(format, "instance_id")
    other = {**good, key: good[key] + "9"}
    path, out = save(tmp_path, good, bad, other), tmp_path / "out" / "set.jsonl"
    reading = read_rows(path, format, checkouts=checkouts)
    assert len(reading.instances) == 2 and reading.summary() == "2 instances, 1 rows refused"
    assert reading.problems[0].startswith("rows.jsonl:2: ") and message in reading.problems[0]
    with pytest.raises(InstanceError, match="^rows.jsonl:2: "):
        read_rows(path, format, checkouts=checkouts, strict=True)
    arguments = [str(path), "--format", format, "--out", str(out), "--checkouts", str(checkouts)]
    assert main([*arguments, "--strict"]) == 1 and message in capsys.readouterr().err and not out.exists()
    assert main(arguments) == 0 and "2 instances, 1 rows refused" in capsys.readouterr().out
    assert read(out, strict=True).instances == reading.instances and out.with_suffix(".md").exists()


def test_unknown_formats_and_suffixes_are_refused(tmp_path):
    with pytest.raises(InstanceError, match="format is 'csv'; expected one of swe-bench"):
        read_rows(tmp_path / "a.jsonl", "csv")
    with pytest.raises(InstanceError, match=r"a.csv: suffix '.csv'; expected .jsonl or .parquet"):
        read_rows(tmp_path / "a.csv", "swe-bench")


# ---------------------------------------------------------------- parquet and the Hub


def test_parquet(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    pandas.DataFrame([SMITH, {**SMITH, "instance_id": "b", "patch": "oops"}]).to_parquet(tmp_path / "rows.parquet")
    reading = read_rows(tmp_path / "rows.parquet", "swe-smith")
    assert reading.instances[0].FAIL_TO_PASS == ("tests/test_box.py::test_add",)
    assert reading.problems[0].startswith("rows.parquet:2: patch: no file in it")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InstanceError, match="bad.parquet: .*; expected a parquet file"):
        read_rows(tmp_path / "bad.parquet", "swe-smith")


def test_parquet_without_the_extra_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "rows.parquet").write_bytes(b"")
    with pytest.raises(InstanceError, match=r'pyarrow is not installed; expected the extra "data"'):
        read_rows(tmp_path / "rows.parquet", "swe-smith")


def hub(monkeypatch, files, get):
    module = types.ModuleType("huggingface_hub")
    module.HfApi = lambda: types.SimpleNamespace(
        list_repo_files=lambda name, **_: files() if callable(files) else files)
    module.hf_hub_download = get
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)


def test_the_hub(tmp_path, monkeypatch):
    path = save(tmp_path, SWE, b"{")
    hub(monkeypatch, ["README.md", "data/test.jsonl", "data/train.jsonl", "run.py"], lambda name, file, **_: path)
    reading = read_hub("demo/demo", "swe-bench")
    assert len(reading.instances) == 1 and len(reading.problems) == 1
    hub(monkeypatch, ["run.py"], None)
    with pytest.raises(InstanceError, match="demo/demo: 1 files, no .parquet or .jsonl with 'test'"):
        read_hub("demo/demo", "swe-bench")

    def offline():
        raise ConnectionError("no route")

    hub(monkeypatch, offline, None)
    with pytest.raises(InstanceError, match=r"the Hub did not answer \(no route\); without a network"):
        read_hub("demo/demo", "swe-bench")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InstanceError, match='expected the extra "data"'):
        read_hub("demo/demo", "swe-bench")

