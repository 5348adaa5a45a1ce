"""The threat model (docs/THREAT_MODEL.md), one test for each thing that must not happen and has none elsewhere."""

import ast
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from types import SimpleNamespace

import pytest
from bs4 import BeautifulSoup
from nbformat import write as write_notebook
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from hrm_lab import report, runs
from hrm_lab.inspect_notebook import ROOT
from hrm_lab.scrub import grid_svg, scrub
from hrm_lab.sources import SourceError, unpack
from hrm_lab.swe import diffs, reviews
from hrm_lab.swe.evidence import Evidence
from test_report_html import browser, visit
from toy_notebooks import write

PACKAGE = sorted((ROOT / "hrm_lab").rglob("*.py"))
DOCUMENT = ROOT / "docs" / "THREAT_MODEL.md"

# ---------------------------------------------------------------- no script from data reaches a report

ATTACKS = ["<script>hit()</script>", "<ScRiPt src=//evil.example/x.js></sCrIpT>", "<img src=x onerror=hit()>",
           "<svg onload=hit()><script>hit()</script></svg>", "<a href=' java\tscript:hit()'>x</a>",
           "<a href='&#106;avascript:hit()'>x</a>", "<iframe srcdoc='<script>hit()</script>'></iframe>",
           "<math><mtext><style><img src=x onerror=hit()></style></mtext></math>", "</title><script>hit()</script>",
           "</main><script>hit()</script><main>", "\"><script>hit()</script>", "<!--><script>hit()</script>-->",
           "<form action=javascript:hit()><button formaction=javascript:hit()>x</button></form>",
           "<meta http-equiv=refresh content='0;url=javascript:hit()'>", "<details open ontoggle=hit()>x</details>",
           "<base href=//evil.example>", "<object data='data:text/html,<script>hit()</script>'></object>",
           "<xmp><p title='</xmp><script>hit()</script>'></xmp>", "<textarea><p title='</textarea><script>hit()'>",
           "<template><script>hit()</script></template>", "<noscript><p title='</noscript><script>hit()</script>'>"]


def hostile_run(folder, status):
    """A run whose every field that could come from data is an attack."""
    folder.mkdir(parents=True)
    text, html = " ".join(ATTACKS), "\n".join(ATTACKS)
    outputs = [new_output("stream", name="stdout", text=text), new_output("stream", name="stderr", text=text),
               *(new_output("display_data", {mime: html, "text/plain": text}) for mime in
                 ("text/html", "text/markdown", "text/latex", "image/svg+xml", "text/plain")),
               new_output("display_data", {"image/png": "AAAA\"><script>hit()</script>"},
                          metadata={"image/png": {"alt": text}}),
               new_output("display_data", {"text/html": reviews.coloured(text), "text/plain": ""}),
               new_output("display_data", {"text/html": scrub([grid_svg([[text]], label=text)], [text], text).data}),
               new_output("error", ename=text, evalue=text, traceback=[text])]
    cells = [new_markdown_cell(f"# {text}\n\n## {text}\n\n{html}"),
             new_code_cell(f"task = {text!r}  # {text}".replace("\n", " "), metadata={"tags": ["parameters"]}),
             new_code_cell(f"print({text!r})", outputs=outputs, execution_count=1)]
    write_notebook(new_notebook(cells=cells), folder / "executed.ipynb")
    runs.write_json(folder / "run.json", {
        "name": folder.name, "notebook": text, "title": text, "preset": text, "status": status,
        "started": text, "seconds": text, "commit": text, "versions": {"python": text, "torch": text}, "threads": text,
        "error": text, "parameters": {"task": text}})
    metric = {"value": 1.0, "n": 1, "low": None, "high": None, "unit": text}
    runs.write_json(folder / "metrics.json", {"headline": [text], "metrics": {text: metric}})


@pytest.fixture(scope="module")
def hostile_site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    for name, status in (("1", "ok"), ("2", "failed"), ("3", "running"), ("4", "<script>hit()</script>")):
        hostile_run(folder / "runs" / name, status)
    assert report.main(["site", str(folder / "runs"), str(folder / "reports")]) == 0
    return folder / "reports"


def test_no_script_from_data_reaches_a_report(hostile_site):
    pages = sorted(hostile_site.glob("*.html"))
    assert len(pages) == 5
    for path in pages:
        soup = BeautifulSoup(path.read_text(), "html.parser")
        assert not soup.find_all(["script", "iframe", "object", "embed", "base", "template"]), path.name
        heads = [meta["http-equiv"] for meta in soup.find_all("meta", {"http-equiv": True})]
        assert heads == ["Content-Security-Policy"], path.name
        for tag in soup.find_all(True):
            for name, value in tag.attrs.items():
                told = re.sub(r"[\x00-\x20]", "", str(value)).lower()
                assert not name.startswith("on") and not told.startswith(("javascript:", "vbscript:")), (path.name, tag)


@browser
def test_a_browser_runs_no_script_from_data(hostile_site, tmp_path):
    """The reports with `hit` defined would say so in the console; nothing is asked for either."""
    for path in sorted(hostile_site.glob("*.html")):
        _, console, asked = visit(path, tmp_path / path.stem)
        assert not [line for line in console if "hit" in line], console
        assert not [url for url in asked if "evil.example" in url]


# ---------------------------------------------------------------- nothing unpickles, nothing runs


def calls(path):
    """(dotted name, keywords, line) of each call in a module; keywords also hold "": all literals, "n": how many."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            fixed = all(isinstance(argument, ast.Constant) for argument in node.args)
            given = {"": fixed, "n": len(node.args)} | {k.arg: ast.unparse(k.value) for k in node.keywords}
            yield ast.unparse(node.func), given, node.lineno


def test_nothing_in_the_package_unpickles():
    banned = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for path in PACKAGE:
        for node in ast.walk(ast.parse(path.read_text())):
            names = ([alias.name for alias in node.names] if isinstance(node, ast.Import) else
                     [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
            assert not banned & {name.split(".")[0] for name in names}, (path.name, node.lineno)
        for name, keywords, line in calls(path):
            assert name not in ("torch.load", "yaml.load", "yaml.unsafe_load", "pd.read_pickle"), (path.name, line)
            if name.endswith(("np.load", "numpy.load")):
                assert keywords.get("allow_pickle") == "False", (path.name, line)
            assert keywords.get("trust_remote_code", "False") == "False", (path.name, line)


RUNS_CODE = {  # who may call eval, exec or compile in "exec" mode, and why
    "package_swap.py": "in the jail", "tool_plan.py": "in the jail", "batch_worker.py": "in the jail",
    "package_worker.py": "in the jail", "project_worker.py": "in the jail", "sandbox_worker.py": "in the jail",
    "jail_init.py": "starts the jailed program", "fuel.py": "compiles for the jail", "probe.py": "in the jail"}


def test_text_is_run_as_code_inside_the_sandbox_alone():
    for path in PACKAGE:
        for name, given, line in calls(path):
            if name in ("eval", "exec"):
                assert path.name in RUNS_CODE, (path.name, line)
            assert given[""] or name not in ("os.system", "os.popen", "subprocess.getoutput"), (path.name, line)
        for _, keywords, line in calls(path):
            assert keywords.get("shell", "False") == "False", (path.name, line)


# ---------------------------------------------------------------- unpacking


@pytest.mark.parametrize("member", [
    dict(name="root/../../escaped"), dict(name="/tmp/escaped-absolutely"),
    dict(name="root/link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    dict(name="root/link", type=tarfile.SYMTYPE, linkname="../../../etc/passwd"),
    dict(name="root/hard", type=tarfile.LNKTYPE, linkname="../../etc/passwd"),
    dict(name="root/device", type=tarfile.CHRTYPE), dict(name="root/pipe", type=tarfile.FIFOTYPE)],
    ids=lambda member: member.get("linkname", "") + member["name"])
def test_no_path_leads_out_of_the_folder_that_is_unpacked_into(tmp_path, member):
    path = tmp_path / "evil.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for info, data in ((tarfile.TarInfo("root/a"), b"a"), (tarfile.TarInfo(member["name"]), b"")):
            for key, value in member.items() if info.name == member["name"] else ():
                setattr(info, key, value)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with pytest.raises(SourceError) as error:
        unpack(path, tmp_path / "out")
    assert "\n" not in str(error.value) and not list((tmp_path / "out").iterdir())
    assert not (tmp_path / "escaped").exists() and not os.path.exists("/tmp/escaped-absolutely")


def test_wheels_are_read_by_member_and_never_unpacked():
    """A zip member with `..` in its name has nowhere to go: no module extracts a zip."""
    for path in PACKAGE:
        for name, keywords, line in calls(path):
            if name.endswith(".extractall") or name.endswith(".extract") and keywords["n"]:
                assert keywords.get("filter") == "'data'", (path.name, line)
            assert not name.endswith("unpack_archive"), (path.name, line)


# ---------------------------------------------------------------- secrets

SECRET = "s3cr3t-0f-the-environment"
LOOKING = """import os, subprocess
assert os.environ["HRM_TEST_TOKEN"]
print(steps, sorted(name for name in os.environ if name.startswith("HRM_LAB")))
raise ValueError("a failure, whose traceback is kept, too")"""


def test_no_secret_of_the_environment_is_in_what_a_run_leaves(tmp_path):
    """A notebook sees the user's environment, as in Jupyter; what the lab records and renders does not hold it."""
    path = write(tmp_path / "01_toy.ipynb", LOOKING)
    here = {**os.environ, "HRM_TEST_TOKEN": SECRET, "PYTHONPATH": str(ROOT)}
    for command in (["hrm_lab.notebooks", "run", str(path), "--run-dir", "runs/01_toy"],
                    ["hrm_lab.report", "site", "runs", "reports"]):
        done = subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, env=here, text=True, capture_output=True)
        assert SECRET not in done.stdout + done.stderr
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {"executed.ipynb", "run.json", "01_toy.html", "index.html"} <= {file.name for file in files}
    assert not [file.name for file in files if SECRET.encode() in file.read_bytes()]


def test_a_program_under_repair_sees_no_secret(tmp_path, monkeypatch):
    """Its tests fail with the environment in their message, which becomes evidence and is printed."""
    from hrm_lab.swe.repair import repair

    monkeypatch.setenv("HRM_TEST_TOKEN", SECRET)
    (tmp_path / "a.py").write_text("def f():\n    return 1\n")
    (tmp_path / "test_a.py").write_text("import os\nfrom a import f\n\ndef test():\n"
                                        "    assert f() == 2, dict(os.environ)\n")
    found = repair(tmp_path / "a.py", tmp_path / "test_a.py", budget=1)
    assert SECRET not in str(found) + json.dumps(found.json()) + repr(found)


# ---------------------------------------------------------------- feedback


def test_feedback_is_data_in_html_and_in_sql(tmp_path):
    """Comments, names and programs of reviewers come back as they went in, and are shown as text."""
    attack = "'); drop table reviews; -- </span></pre><script>hit()</script>"
    program = f"def f(x):\n    return 'a'  # {attack}\n"
    fixed = program.replace("'a'", "'b'")
    found = SimpleNamespace(patch=diffs.make(program, fixed, attack), program=fixed, evidence=Evidence.none(),
                            executions=1, resolved=True, tests_after={attack: "passed"},
                            outcome=SimpleNamespace(edits=()))
    db = reviews.connect(tmp_path / "reviews.sqlite")
    number = reviews.propose(db, found, file=attack, instance_id=attack, model=attack)
    reviews.decide(db, number, "reject", attack, comment=attack)
    (row,) = reviews.verdicts(db)
    assert (row["reviewer"], row["comment"], row["file"], row["program"]) == (attack, attack, attack, program)
    assert reviews.proposals(db, attack) == [] and len(reviews.proposals(db)) == 1
    shown = BeautifulSoup(reviews.coloured(found.patch), "html.parser")
    assert not shown.find("script") and attack in shown.get_text()
    db.close()


# ---------------------------------------------------------------- the document


def test_the_threat_model_names_tests_that_exist():
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DOCUMENT.read_text()))
    assert len(named) >= 15
    for file, test in named:
        assert re.search(rf"^def {test}\(", (ROOT / file).read_text(), re.M), f"{file}::{test}"
