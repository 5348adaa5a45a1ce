"""The real pipeline, once, with the preset `smoke`: every notebook runs, says what it found, and reads well."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup

from hrm_lab.inspect_notebook import ROOT
from hrm_lab.metrics import DIFFERENCE
from hrm_lab.notebooks import checked_metrics
from test_axe import axe, chromium, findings, serious  # noqa: F401 (axe: a fixture)
from test_report_html import browser, visit

pytestmark = pytest.mark.timeout(900)  # the fixture runs the whole pipeline
TASKS = yaml.safe_load((ROOT / "notebooks/presets.yaml").read_text())["smoke"]["02_puzzle_training"]["tasks"]
TRAINED = [f"02_puzzle_training-{task}" for task in TASKS]
RUNS = ["00_tour", "01_data_preparation", *TRAINED, "02_sweep", "03_swe_code_training", "04_test_generation",
        "05_llama_adapters", "06_evaluation", "07_report"]
PAGES = ["index", *RUNS]


def snakemake(work):
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--snakefile", str(ROOT / "Snakefile"),
               "--directory", str(work), "--config", "preset=smoke"]
    found = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=800)
    return found.returncode, found.stdout


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """The working directory after a first run of everything."""
    work = tmp_path_factory.mktemp("pipeline")
    code, text = snakemake(work)
    assert code == 0, text[-6000:]
    return work


def read(work, run, file):
    return json.loads((work / "runs/notebooks" / run / file).read_text())


def soup(work, page):
    return BeautifulSoup((work / "reports" / f"{page}.html").read_text(), "html.parser")


# ---------------------------------------------------------------- what the notebooks found


@pytest.mark.parametrize("run", RUNS)
def test_a_notebook_succeeds_and_says_what_it_found(work, run):
    record = read(work, run, "run.json")
    assert (record["status"], record["error"], record["preset"]) == ("ok", None, "smoke")
    found = checked_metrics(read(work, run, "metrics.json"), run)
    assert found["headline"]
    for name, metric in found["metrics"].items():
        values = [metric[k] for k in ("low", "value", "high") if metric[k] is not None]
        lowest = {"share": 0, DIFFERENCE: -1}.get(metric["unit"])
        assert lowest is None or all(lowest <= x <= 1 for x in values), (name, metric)
        assert "minus_" not in name or metric["unit"] != "share", name


def test_the_tour_solves_repairs_and_forecasts(work):
    found = read(work, "00_tour", "metrics.json")["metrics"]
    assert found["repaired"]["value"] == 1 and 1 <= found["repair_executions"]["value"] <= 300
    assert found["forecast_inside_90"]["n"] >= 5
    text = soup(work, "00_tour").get_text(" ")
    assert "solved: the answer keeps every rule" in text and "tests pass, in a fresh pytest, too" in text
    assert len(soup(work, "00_tour").select(".hrm-scrub .frame")) >= 4


@pytest.mark.parametrize("run", TRAINED)
def test_training_is_judged_by_exact_match_with_n_and_interval(work, run):
    score = read(work, run, "metrics.json")["metrics"]["exact_match"]
    assert score["unit"] == "share" and score["n"] > 0
    assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1


def test_a_mean_hides_no_task(work):
    found = read(work, "02_puzzle_training-copy-increment", "metrics.json")["metrics"]
    parts = [found[f"exact_match/{task}"] for task in ("copy", "increment")]
    assert sum(part["n"] for part in parts) == found["exact_match"]["n"]
    right = sum(part["n"] * part["value"] for part in parts)
    assert right == pytest.approx(found["exact_match"]["n"] * found["exact_match"]["value"])


def test_the_ablation_is_on_one_page_and_the_others_say_where(work):
    found = read(work, "02_puzzle_training-sudoku-4x4", "metrics.json")["metrics"]
    n = TASKS["sudoku-4x4"]["ablation"]["seeds"] * found["exact_match"]["n"]
    for name in ("ablation/trm/exact_match", "ablation/loop/exact_match", "ablation/loop/minus_base"):
        assert found[name]["n"] == n, name
    assert "At equal CPU-seconds" in soup(work, "02_puzzle_training-sudoku-4x4").get_text()
    links = soup(work, "02_puzzle_training-copy-increment").find_all("a", href="02_puzzle_training-sudoku-4x4.html")
    assert any("The ablation is on the page of" in link.parent.get_text() for link in links)


@pytest.mark.parametrize("file", ["best/model.safetensors", "final/model.safetensors", "training_history.json",
                                  "training_metrics.png", "prediction_vs_groundtruth.png"])
def test_training_leaves_its_artefacts(work, file):
    path = work / "runs/notebooks/02_puzzle_training-copy-increment/train" / file
    assert path.stat().st_size > 100
    if path.suffix == ".png":
        assert path.read_bytes().startswith(b"\x89PNG")
    if path.suffix == ".json":
        assert json.loads(path.read_text())


def test_every_bug_of_the_smallest_preset_holds_when_run_again(work):
    found = read(work, "03_swe_code_training", "metrics.json")["metrics"]
    assert found["instances"]["value"] >= 20 and found["packages"]["value"] == 3
    for name in ("verified", "repair_in_space", "honest_after_hostile"):
        assert found[name]["value"] == 1 and found[name]["n"] >= 4, name
    assert found["unparsable_candidates"]["value"] == 0 and found["unparsable_candidates"]["n"] > 10_000


def test_repair_is_judged_on_held_out_bugs_beside_baselines(work):
    found = read(work, "03_swe_code_training", "metrics.json")["metrics"]
    orders = ("uniform", "kinds x suspicion", "linear", "HRM", "plain transformer", "HRM + tree", "linear + probe")
    for name in orders:
        scores = [found[f"solved@{limit}/{name}"] for limit in (1, 10)]
        assert [score["value"] for score in scores] == sorted(score["value"] for score in scores), name
        assert {score["n"] for score in scores} == {found[f"executions/{name}"]["n"]} != {0}, name
        assert 0 <= found[f"tier/{name}"]["value"] <= 5
    assert found["leaked"]["n"] >= 4 and found["red_flags"]["n"] >= 8
    assert {"rank/HRM_over_linear", "rank/plain transformer_over_linear", "training_seconds"} <= set(found)


def test_the_h_level_is_looked_at_after_every_cycle(work):
    found = read(work, "03_swe_code_training", "metrics.json")["metrics"]
    assert all(found[f"plan/place_after/{k}"]["n"] == found["plan/place_after/0"]["n"] for k in range(5))
    text = soup(work, "03_swe_code_training").get_text(" ")
    assert "A swap moves" in text and "With all H cycles minus none" in text


def test_a_search_is_drawn_and_the_live_view_keeps_its_last_state(work):
    html = soup(work, "03_swe_code_training")
    trees = html.select("figure svg[role=img][aria-label]")
    assert len(trees) == 2 and all("executions on" in tree["aria-label"] for tree in trees)
    assert "nothing was tried" not in trees[0]["aria-label"]


# ---------------------------------------------------------------- their pages


def test_there_is_a_page_for_every_run(work):
    assert {path.stem for path in (work / "reports").glob("*.html")} == set(PAGES)
    assert f"{len(RUNS)} ok" in soup(work, "index").select_one(".tally").get_text(" ")
    links = {a["href"] for a in soup(work, "index").find_all("a", href=True)}
    assert {f"{run}.html" for run in RUNS} <= links


@pytest.mark.parametrize("page", PAGES)
def test_a_page_fetches_nothing_and_describes_its_figures(work, page):
    html = soup(work, page)
    assert not html.find_all("script")
    for tag in html.find_all(True):
        for name in ("src", "href", "xlink:href"):
            if tag.name != "a":  # a link is followed by a click only
                assert not re.match(r"(https?:)?//", tag.get(name, "")), tag
    for image in html.find_all("img"):
        assert image["alt"].strip() and not image["alt"].startswith("Figure without a description"), image["alt"]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_no_folder_of_this_machine(work, page):
    text = (work / "reports" / f"{page}.html").read_text()
    text = re.sub(r"base64,[\w+/=\s]+", "", text)  # a picture may spell anything
    for folder in {str(p) for p in (work, work.resolve(), ROOT, ROOT.resolve(), Path.home())} - {"/"}:
        assert not re.search(re.escape(folder) + r"(?![\w.-])", text), folder


@browser
def test_a_browser_asks_for_nothing_and_complains_of_nothing(work, tmp_path):
    own = re.compile(r"https?://(?!fonts|ajax)[\w.-]*\.(google|googleapis|gvt1)\.com/|chrome")  # the browser's business
    for page in PAGES:
        path = work / "reports" / f"{page}.html"
        _, console, asked = visit(path, tmp_path / page)
        assert not console, (page, console)
        assert not [url for url in asked if not own.match(url) and url != path.as_uri()], page


@browser
def test_axe_has_no_serious_finding_on_any_page(work, axe, tmp_path):  # noqa: F811
    with chromium(tmp_path) as call:
        for page in PAGES:
            for dark in (False, True):
                assert not serious(findings(call, work / "reports" / f"{page}.html", axe, dark)), (page, dark)


# ---------------------------------------------------------------- again


def test_a_second_run_does_nothing(work):
    def times():
        files = (path for part in ("runs", "reports", "data") for path in (work / part).rglob("*"))
        return {path: path.stat().st_mtime_ns for path in files if path.is_file()}

    before = times()
    code, text = snakemake(work)
    assert code == 0 and "nothing to be done" in text.lower(), text[-3000:]
    assert times() == before and before
