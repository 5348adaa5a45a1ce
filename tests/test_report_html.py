"""Reports: self-contained, accessible, and honest about what failed; the last part looks at them in a browser."""

import base64
import json
import os
import re
import shutil
import subprocess

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from hrm_lab import report, report_tables
from hrm_lab.inspect_notebook import ROOT
from hrm_lab.scrub import grid_svg, scrub

PIXEL = base64.b64encode(base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")).decode()
TABLE = """<style scoped>.dataframe thead th {text-align: right}</style><table border="1" class="dataframe">
<thead><tr style="text-align: right;"><th></th><th>score</th><th>note</th></tr>
<tr><th>task</th><th></th><th></th></tr></thead>
<tbody><tr><th>copy</th><td>1.00</td><td>solved</td></tr>
<tr><th>increment</th><td>-0.5 %</td><td>94.0 % (89.0 to 96.8)</td></tr></tbody></table>"""
HOSTILE = """<script src="https://cdn.example/x.js"></script><link rel="stylesheet" href="https://cdn.example/x.css">
<img src="https://cdn.example/x.png" onerror="alert(1)"><iframe src="//cdn.example"></iframe>
<style>@import url(https://cdn.example/y.css); p{background:url('https://cdn.example/z.png')}</style>
<svg><image href="https://cdn.example/i.png"/></svg><a href="https://arxiv.org">paper</a>
<div id="dup">1</div><div id="dup">2</div>"""
WIDGET = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "bar 100%"}
MATHS = "A formula $z_H^{i} = f(x)$ and\n\n$$\\mathcal{L} = \\frac{1}{2}$$\n\n$\\undefinedmacro{$"
SCRUBBER = scrub([grid_svg([["1", "2"]]), grid_svg([["1", "3"]])], ["1", "2"], "Steps").data
TRACE = ["\x1b[0;31mValueError\x1b[0m                    Traceback", "\x1b[0;31mValueError\x1b[0m: n: got -1 <b>"]
RUN = {"name": "02_toy-copy", "notebook": "notebooks/02_toy.ipynb", "title": "Toy <page>: copy", "preset": "laptop",
       "parameters": {}, "status": "ok", "started": "2026-11-21T04:37:58+00:00", "seconds": 245.2, "commit": "abc1234+",
       "versions": {"python": "3.11.7", "torch": "2.13.0"}, "threads": 2, "error": None}
SCORE = {"value": 0.993, "n": 1000, "low": 0.985, "high": 0.997, "unit": "share"}


def data(mime, value, **metadata):
    return new_output("display_data", {mime: value, "text/plain": "as text"}, metadata={mime: metadata})


def cell(source, *outputs, tags=(), ran=1):
    return new_code_cell(source, outputs=list(outputs), execution_count=ran, metadata={"tags": list(tags)})


def write_run(folder, failed=False, **changes):
    """A run directory with one executed notebook that shows everything a report has to cope with."""
    folder.mkdir(parents=True)
    nb = new_notebook(cells=[
        new_markdown_cell(f"# Toy <page>\n\n{MATHS}"),
        cell('preset = "smoke"\nsteps: int | None = None  # None: from the <preset>\nlr = 0.1', tags=["parameters"]),
        cell("# Parameters\npreset = \"laptop\"\nsteps = 3", tags=["injected-parameters"]),
        new_markdown_cell("## Results\n\nText\n\n### Results\n\n| a | b |\n|---|---|\n| 1 | x |"),
        cell("plot()", data("image/png", PIXEL, alt='Loss "falls"')), cell("plot()", data("image/png", PIXEL)),
        cell("table", new_output("execute_result", {"text/html": TABLE, "text/plain": "t"}, execution_count=1)),
        cell("hostile", data("text/html", HOSTILE), tags=["remove-input"]),
        cell("scrub", data("text/html", SCRUBBER)),
        cell("print()", new_output("stream", name="stdout", text="\x1b[32mgreen\x1b[0m & <raw>\n")),
        cell("widget", new_output("display_data", WIDGET)),
        *([cell("boom()", new_output("error", ename="ValueError", evalue="n", traceback=TRACE)),
           cell("never()", ran=None)] if failed else [])])
    nbformat.write(nb, folder / "executed.ipynb")
    record = RUN | {"name": folder.name}
    if failed:
        record |= {"status": "failed", "error": "cell 9: ValueError: n: got -1 <b>"}
    else:
        scores = {"headline": ["exact_match/copy"], "metrics": {"exact_match/copy": SCORE}}
        (folder / "metrics.json").write_text(json.dumps(scores))
    (folder / "run.json").write_text(json.dumps(record | changes))
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    runs = tmp_path_factory.mktemp("site")
    write_run(runs / "runs/01_good")
    write_run(runs / "runs/02_bad", failed=True)
    for name, file, text in (("03_cut", "run.json", '{"status":'), ("04_list", "run.json", "[]")):
        (runs / "runs" / name).mkdir()
        (runs / "runs" / name / file).write_text(text)
    write_run(runs / "runs/05_under_way", status="running", seconds=None)
    for name, text in (("06_no_numbers", None), ("07_corrupt", '{"headline": [}'),
                       ("08_invalid", '{"headline": ["m"], "metrics": {"m": {"value": 1}}}')):
        folder = write_run(runs / "runs" / name)
        (folder / "metrics.json").unlink()
        if text:
            (folder / "metrics.json").write_text(text)
    assert report.main(["site", str(runs / "runs"), str(runs / "reports")]) == 0
    return runs / "reports"


@pytest.fixture(scope="module")
def good(site):
    return BeautifulSoup((site / "01_good.html").read_text(), "html.parser")


@pytest.fixture(scope="module")
def bad(site):
    return BeautifulSoup((site / "02_bad.html").read_text(), "html.parser")


# ---------------------------------------------------------------- one page


def test_pages_run_nothing_and_fetch_nothing(site):
    for path in site.glob("*.html"):
        soup = BeautifulSoup(path.read_text(), "html.parser")
        assert not soup.find_all(["script", "iframe", "object", "embed"]), path.name
        for tag in soup.find_all(True):
            for name, value in tag.attrs.items():
                assert not name.startswith("on"), (path.name, tag)
                if name in ("src", "srcset", "poster") or (name == "href" and tag.name != "a"):
                    assert str(value).startswith("data:"), (path.name, tag.name, value)
        for css in [s.get_text() for s in soup.find_all("style")] + [t["style"] for t in soup.find_all(style=True)]:
            assert "@import" not in css and "http" not in css
        assert "default-src 'none'" in soup.find("meta", {"http-equiv": "Content-Security-Policy"})["content"]


def test_ids_are_unique_and_links_within_lead_somewhere(site):
    for path in site.glob("*.html"):
        soup = BeautifulSoup(path.read_text(), "html.parser")
        ids = [tag["id"] for tag in soup.find_all(id=True)]
        assert len(ids) == len(set(ids)), path.name
        for link in soup.find_all("a", href=True):
            target = link["href"]
            assert target.removeprefix("#") in ids or target.startswith("http") or (site / target).is_file(), target


def test_a_page_is_laid_out_for_readers_of_all_kinds(good):
    assert good.html["lang"] == "en" and good.title.get_text() == "Toy <page>: copy · hrm-lab"
    assert [h.get_text() for h in good.find_all("h1")] == ["Toy <page>: copy"]
    assert good.find("a", class_="skip")["href"] == "#report" == "#" + good.find("main")["id"]
    assert [a["href"] for a in good.select("nav.toc a")] == ["#results", "#results-2"]
    assert not good.select_one("nav.toc-small details").has_attr("open")
    alts = [image["alt"] for image in good.find_all("img")]
    assert alts == ['Loss "falls"', "Figure without a description, in the section “Results”"]
    assert good.figcaption.get_text() == 'Loss "falls"'
    assert [a["href"] for a in good.select(".around a")] == ["02_bad.html"]


def test_maths_is_mathml_and_what_is_not_tex_stays_readable(good):
    assert [m.get("display") for m in good.find_all("math")][:2] == ["inline", "block"]
    assert good.select_one("math msubsup") and "undefinedmacro" in good.get_text()


def test_parameters_are_a_table(good):
    table = good.select_one("table.parameters")
    rows = [[td.get_text() for td in tr.find_all("td")] for tr in table.tbody.find_all("tr")]
    assert rows == [["preset", "laptop default smoke", ""], ["steps", "3 default None", "None: from the <preset>"],
                    ["lr", "0.1", ""]]
    assert [tr.get("class") for tr in table.tbody.find_all("tr")] == [["changed"], ["changed"], None]
    assert "# Parameters" not in good.get_text()


def test_facts_of_the_run_are_on_top(good):
    facts = dict(zip([d.get_text() for d in good.select(".facts dt")], [d.get_text() for d in good.select(".facts dd")],
                     strict=True))
    assert facts == {"Status": "ok", "Preset": "laptop", "Started": "21 Nov 2026, 04:37 UTC", "Took": "4 min 05 s",
                     "Threads": "2", "Commit": "abc1234+", "Python": "3.11.7", "PyTorch": "2.13.0",
                     "Notebook": "02_toy.ipynb"}


def test_tables_scroll_apart_and_numbers_align_right(good):
    table = good.select_one("table.dataframe")
    assert table.parent["role"] == "region" and table.parent["tabindex"] == "0" and table.parent["aria-label"]
    assert [th.get_text() for th in table.thead.find_all("th")] == ["task", "score", "note"]  # one row of heads
    assert [c.get_text() for c in table.select(".num")] == ["score", "1.00", "-0.5\u202f%"]
    assert not table.find_previous_sibling("style") and not table.has_attr("border")
    assert "94.0\u202f% (89.0\u00a0to\u00a096.8)" in [c.get_text() for c in table.find_all("td")]  # at most two lines


def test_every_preformatted_text_can_be_scrolled_by_keyboard(good, bad):
    texts = [*good.find_all("pre"), *bad.find_all("pre")]
    assert texts and all(pre.get("tabindex") == "0" for pre in texts)


def test_an_index_of_two_levels_has_one_row_of_heads():
    frame = pd.DataFrame({str(i): [1, 2] for i in range(7)},
                         index=pd.MultiIndex.from_product([["cep"], ["base", "tuned"]], names=["format", "system"]))
    soup = BeautifulSoup(f"<main>{frame.to_html()}</main>", "html.parser")
    report_tables.frame(soup, soup.main)
    assert [th.get_text() for th in soup.thead.find_all("th")] == ["format", "system", *"0123456"]
    assert [th.get_text() for th in soup.select("th.inner")] == ["tuned"] and "many" in soup.table["class"]


def test_a_wide_table_is_set_close_and_names_break_after_underscores():
    wide = pd.DataFrame({f"exact_match/{i}": ["94.0 % (n = 200, 89.0-96.8)"] for i in range(5)}, index=["one pass"])
    soup = BeautifulSoup(f"<main>{wide.to_html()}{wide.iloc[:, :2].to_html()}</main>", "html.parser")
    report_tables.frame(soup, soup.main)
    assert ["many" in table["class"] for table in soup.find_all("table")] == [True, False]
    assert soup.td.get_text() == "94.0 % (n\u00a0=\u00a0200,\u00a089.0-96.8)"
    assert soup.td.span["class"] == ["interval"] and soup.td.span.get_text().startswith("(n")
    short = BeautifulSoup("<main><table><thead><tr><th>CPU-s</th></tr></thead></table></main>", "html.parser")
    report_tables.frame(short, short.main)
    assert short.th.get_text() == "CPU\u2011s"
    assert str(soup.thead.find_all("th")[1]) == "<th>exact_<wbr/>match/<wbr/>0</th>"


def test_outputs_are_text_where_nothing_better_is_static(good):
    streams = [pre.get_text() for pre in good.select("pre.stream")]
    assert streams == ["green & <raw>\n", "bar 100%"] and "\x1b" not in str(good)
    assert good.find("a", string="image: https://cdn.example/x.png")  # a link to click, not a request
    assert good.find("a", href="https://arxiv.org")
    assert "hostile" not in [d.get_text() for d in good.select("details.code .highlight")]


def test_a_failure_is_on_top_and_in_its_place(bad):
    assert "cell 9: ValueError: n: got -1 <b>" in bad.select_one(".banner.failed").get_text()
    failure = bad.find(id="failure")
    assert "ValueError: n: got -1 <b>" in failure.select_one("pre.traceback").get_text()
    assert failure.select_one("details.code").has_attr("open") and "\x1b" not in str(bad)
    assert bad.select("details.code")[-1].summary.get_text(strip=True).endswith("not run")


def test_one_page_alone(tmp_path, capsys):
    folder = write_run(tmp_path / "02_toy")
    assert report.main(["render", str(folder), str(tmp_path / "x.html")]) == 0
    assert "<h1>Toy &lt;page&gt;: copy</h1>" in (tmp_path / "x.html").read_text()
    assert report.main(["render", str(tmp_path / "none"), str(tmp_path / "y.html")]) == 2
    assert capsys.readouterr().err.startswith("error: ") and not (tmp_path / "y.html").exists()


# ---------------------------------------------------------------- the index


def test_the_index_lists_every_run_whatever_became_of_it(site):
    soup = BeautifulSoup((site / "index.html").read_text(), "html.parser")
    rows = {tr.select_one("th .sub").get_text(): tr for tr in soup.select("table.runs tbody tr")}
    assert list(rows) == ["01_good", "02_bad", "03_cut", "04_list", "05_under_way", "06_no_numbers", "07_corrupt",
                          "08_invalid"]
    headline = rows["01_good"].dl.get_text(" ", strip=True)
    assert headline == "exact match: copy 99.3\u202f% 98.5 to 99.7\u202f%, n\xa0=\xa01,000"
    problems = {name: row.select_one(".problem").get_text() for name, row in rows.items() if row.select_one(".problem")}
    assert problems["02_bad"] == "cell 9: ValueError: n: got -1 <b>"
    assert problems["03_cut"].startswith("run.json: not JSON (line 1") and problems["04_list"].startswith("run.json: ")
    assert problems["05_under_way"] == "under way, or killed"
    assert problems["06_no_numbers"] == "metrics.json: No such file or directory"
    assert problems["07_corrupt"].startswith("metrics.json: not JSON") and "expected value, n" in problems["08_invalid"]
    tally = [badge.get_text() for badge in soup.select(".tally .badge")]
    assert tally == ["4 ok", "1 failed", "3 unfinished"]
    assert [a["href"] for a in soup.select(".cards a")] == ["01_good.html"]


def test_an_index_of_nothing_says_how_to_begin(tmp_path):
    report.index(tmp_path / "none", tmp_path / "index.html")
    assert "No runs yet." in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize("seconds, text", [(7.34, "7.3 s"), (245.2, "4 min 05 s"), (7860, "2 h 11 min"), (None, "")])
def test_duration(seconds, text):
    assert report.duration(seconds) == text


def test_colours_have_contrast_in_both_schemes():
    """WCAG AA: 4.5 to 1 for every text colour on every ground it stands on."""
    css = (ROOT / "hrm_lab/templates/report/report.css").read_text()
    blocks = re.findall(r":root \{([^}]*--bg[^}]*--comment[^}]*)\}", css)
    assert len(blocks) == 2
    for block in blocks:
        colour = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
        pairs = [(text, ground) for text in ("fg", "muted", "accent") for ground in ("bg", "card", "soft")]
        pairs += [(text, f"{text}-bg") for text in ("ok", "bad", "wait")] + [("fg", "bad-bg"), ("muted", "bad-bg")]
        code = ("keyword", "string", "number", "comment", "name")
        pairs += [(text, ground) for text in code for ground in ("card", "soft")]
        for text, ground in pairs:
            a, b = sorted((luminance(colour[text]), luminance(colour[ground])))
            assert (b + 0.05) / (a + 0.05) >= 4.5, (text, ground, (b + 0.05) / (a + 0.05))


def luminance(colour):
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# ---------------------------------------------------------------- in a browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
browser = pytest.mark.skipif(not CHROMIUM and not os.environ.get("CI"), reason="no Chromium on this machine")


def visit(page, folder, dark=False):
    """Screenshot (PNG bytes), what was written to the console, and every URL that the page asked for."""
    assert CHROMIUM, "CI needs Chromium to check the reports"
    folder.mkdir()
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={folder / 'profile'}", f"--log-net-log={folder / 'net.json'}", "--enable-logging=stderr",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--window-size=1300,900",
        f"--screenshot={folder / 'page.png'}", page.as_uri()]
    found = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60, check=True)
    console = [line for line in found.stderr.splitlines() if ":CONSOLE" in line]
    asked = set(re.findall(r'"url":"([^"]+)"', (folder / "net.json").read_text()))
    return (folder / "page.png").read_bytes(), console, {url for url in asked if not url.startswith("data:")}


@browser
def test_a_browser_asks_for_nothing_and_complains_of_nothing(site, tmp_path):
    # What the browser asks for by itself:
    own = re.compile(r"https?://(?!fonts|ajax)[\w.-]*\.(google|googleapis|gvt1)\.com/|chrome")
    shots = {}
    for name in ("01_good.html", "index.html"):
        for dark in (False, True):
            shots[name, dark], console, asked = visit(site / name, tmp_path / f"{name}-{dark}", dark)
            assert not console
            assert not [url for url in asked if not own.match(url) and url != (site / name).as_uri()]
    assert len(set(shots.values())) == 4  # light and dark differ


@browser
def test_a_browser_would_notice(tmp_path):
    page = tmp_path / "x.html"
    page.write_text('<img src="https://cdn.example/x.png"><script>console.error("no")</script>')
    _, console, asked = visit(page, tmp_path / "visit")
    assert any("no" in line for line in console) and "https://cdn.example/x.png" in asked


@browser
def test_the_scrubber_shows_the_chosen_step(tmp_path):
    first = SCRUBBER.replace(" checked", "").replace('value="0"', 'value="0" checked')
    shots = []
    for i, text in enumerate((SCRUBBER, first)):
        page = tmp_path / f"{i}.html"
        # The buttons themselves are hidden, so that only the chosen frame can differ.
        page.write_text(f"<style>fieldset{{visibility:hidden}}</style>{text}")
        shots.append(visit(page, tmp_path / f"visit{i}")[0])
    assert shots[0] != shots[1]
