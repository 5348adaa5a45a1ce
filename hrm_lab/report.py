"""Executed notebooks as HTML: one self-contained page a run, and an index of all runs.

What is unusual: a page holds no script and makes no request. Maths is MathML, code folds by <details>, the contents
are static, light and dark follow the reader's setting, and a content security policy forbids the rest. nbconvert's
own templates load MathJax, RequireJS and a widget manager from three hosts and drop the alt text of PNG outputs
(measured with nbconvert 7.17.2). Failed and unfinished runs are rendered like the others, with what went wrong on top.

Called by the Snakefile as `python -m hrm_lab.report site RUNS REPORTS`.
"""

import argparse
import json
import re
import sys
from datetime import datetime
from html import escape
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup
from bs4.element import Doctype, PreformattedString
from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from traitlets.config import Config

from hrm_lab import downloads
from hrm_lab.files import write_atomic
from hrm_lab.inspect_notebook import read_parameters
from hrm_lab.notebooks import checked_metrics, metric_name, shown_metric
from hrm_lab.report_tables import frame, section

TEMPLATES = Path(__file__).parent / "templates"
ACTIVE = ["script", "link", "iframe", "object", "embed", "base", "meta", "audio", "video", "template", "noscript",
          "form", "xmp", "plaintext", "noembed", "noframes", "textarea"]
SCRIPTS = ("javascript:", "vbscript:", "data:text/html")
STATUSES = ("ok", "failed", "running")
FETCHING = ("src", "srcset", "poster", "background", "xlink:href")
SHOWN = ["text/html", "image/svg+xml", "image/png", "image/jpeg", "text/markdown", "text/latex", "text/plain"]


# ---------------------------------------------------------------- one page


class Renderer(IPythonRenderer):
    """Markdown with its maths as MathML; what cannot be converted stays as its TeX source."""

    def inline_math(self, body):
        return _mathml(body, "inline")

    def block_math(self, body):
        return _mathml(body, "block")

    def latex_environment(self, name, body):
        return _mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")


def _mathml(tex, display):
    try:
        return convert(tex.strip(), display=display)
    except Exception:  # latex2mathml raises a dozen kinds; the reader still gets the formula as it was typed
        return f'<code class="tex">{escape(tex)}</code>'


@pass_context
def _markdown(context, source):
    attachments = context.get("cell", {}).get("attachments", {})
    return MarkdownWithMath(Renderer(escape=False, exclude_anchor_links=True, attachments=attachments)).render(source)


def _exporter():
    config = Config()
    config.NbConvertBase.display_data_priority = SHOWN
    config.HTMLExporter.template_name = "report"
    config.HTMLExporter.extra_template_basedirs = [str(TEMPLATES)]
    exporter = HTMLExporter(config=config)
    exporter.register_filter("markdown2html", _markdown)
    return exporter


def render(executed, html_path, run, previous=None, following=None, exporter=None):
    """Write the page of the run (`load_run`) whose notebook is `executed`; previous, following: {"href", "name"}."""
    nb = nbformat.read(executed, as_version=4)
    failed = [c for c in nb.cells if c.cell_type == "code" and any(o.output_type == "error" for o in c.outputs)]
    if failed:
        failed[0].metadata["failure"] = True
    page = {"title": f"{run['title']} · hrm-lab", "facts": facts(run), "run": run,
            "parameters": _parameters(nb), "failure": bool(failed), "previous": previous, "next": following}
    html, _ = (exporter or _exporter()).from_notebook_node(nb, {"page": page})
    write_atomic(html_path, polished(html, run["title"]))


def facts(run):
    """(name, HTML) pairs for the head of a page."""
    versions = run["versions"]
    pairs = [("Status", f'<span class="badge {run["status"]}">{run["status"]}</span>'), ("Preset", run["preset"]),
             ("Started", when(run["started"])), ("Took", duration(run["seconds"])), ("Threads", run["threads"]),
             ("Commit", run["commit"]), ("Python", versions.get("python")), ("PyTorch", versions.get("torch")),
             ("Notebook", run["notebook"].removeprefix("notebooks/"))]
    return pairs[:1] + [(name, escape(str(value))) for name, value in pairs[1:] if value not in (None, "")]


def _parameters(nb):
    """The `parameters` cell as a table: value in this run, default where it differs, the comment as a note."""
    def tagged(tag):
        return "\n".join(c.source for c in nb.cells if tag in c.metadata.get("tags", []))

    declared, given = (read_parameters(tagged(tag), tag) for tag in ("parameters", "injected-parameters"))
    rows = ""
    for name, parameter in declared.items():
        value = given[name].default if name in given else parameter.default
        changed = value != parameter.default
        default = f' <span class="sub">default {_code(parameter.default)}</span>' if changed else ""
        cells = f"<td><code>{name}</code></td><td>{_code(value)}{default}</td><td>{escape(parameter.note)}</td>"
        rows += f'<tr{" class=changed" if changed else ""}>{cells}</tr>'
    head = "<tr><th>Parameter</th><th>Value</th><th>Note</th></tr>"
    caption = "<caption>Parameters of this run; bold where they differ from the notebook's defaults</caption>"
    return f'<table class="parameters">{caption}<thead>{head}</thead><tbody>{rows}</tbody></table>'


def _code(value):
    return f"<code>{escape(value if isinstance(value, str) and value else repr(value))}</code>"


def when(iso):
    """`21 Nov 2026, 04:37 UTC`, or an empty text."""
    try:
        return f"{datetime.fromisoformat(iso):%-d %b %Y, %H:%M} UTC"
    except (TypeError, ValueError):
        return ""


def duration(seconds):
    """`7.3 s`, `4 min 05 s`, `2 h 10 min`, or an empty text."""
    if not isinstance(seconds, int | float):
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


# ---------------------------------------------------------------- what nbconvert leaves to do


def polished(html, heading):
    """The page with its title on top, contents, unique ids, framed tables, alt texts, and nothing to fetch or run."""
    soup = BeautifulSoup(html, "html.parser")
    head = soup.head.extract()  # our own; an output may well close <main> or <body>, so that all else is disarmed
    _disarm(soup)
    soup.html.insert(0, head)
    main = soup.find("main")
    if main.find("h1"):
        main.find("h1").decompose()  # the page's own heading also names the task
    _name_ids(soup, main)
    _describe_images(soup, main)
    frame(soup, main)
    _hold_together(main)
    for pre in main.find_all("pre"):
        pre["tabindex"] = "0"  # wide ones scroll, also by keyboard
    page = str(soup).replace("<!--title-->", f"<h1>{escape(heading)}</h1>", 1)
    return page.replace("<!--contents-->", _contents(main), 1)


def _disarm(soup):
    """Remove everything that runs or fetches. The notebooks are our own, their libraries' HTML is not."""
    for tag in soup.find_all(ACTIVE):
        tag.decompose()
    for text in soup.find_all(string=lambda text: isinstance(text, PreformattedString)):
        if not isinstance(text, Doctype) and text not in ("title", "contents"):
            text.replace_with("")  # `<!--><script>` is a comment here, and an empty one before a script to a browser
    for style in soup.find_all("style"):
        if style.has_attr("scoped"):  # pandas' own, which aligns all heads right
            style.decompose()
            continue
        style.string = _local_css(style.string or "")
    for tag in soup.find_all(True):
        for name, value in list(tag.attrs.items()):
            fetches = name in FETCHING or (name == "href" and tag.name != "a")
            text = re.sub(r"[\x00-\x20]", "", str(value)).lower()  # browsers skip them in "java\tscript:"
            local = text.startswith(("data:", "#"))
            if name.startswith("on") or text.startswith(SCRIPTS) or (fetches and not local):
                del tag.attrs[name]
                if tag.name == "img" and name == "src":  # in its place a link, which only a click follows
                    tag.name, tag.attrs = "a", {"href": str(value)}
                    tag.string = f"image: {value}"
            elif name == "style":
                tag["style"] = _local_css(str(value))


def _hold_together(main):
    """No line ends between a number and its percent sign, or within `n = 100`."""
    for text in main.find_all(string=re.compile(r"\d %|\bn = \d")):
        if not text.find_parent(["pre", "code"]):
            text.replace_with(re.sub(r"\bn = (?=\d)", "n\u00a0=\u00a0", re.sub(r"(?<=\d) %", "\u202f%", text)))


def _local_css(css):
    css = re.sub(r"@import[^;]*;?|<", "", css, flags=re.I)  # inside <math> a browser reads tags in a <style>
    return re.sub(r"url\(\s*['\"]?(?!data:|#)[^)]*\)", "none", css, flags=re.I)


def _name_ids(soup, main):
    """Headings get an id from their text; an id that occurs twice gets a number."""
    for heading in main.find_all(["h2", "h3", "h4"]):
        heading["id"] = re.sub(r"[^\w]+", "-", heading.get_text().lower()).strip("-") or "section"
    seen = set()
    for tag in soup.find_all(id=True):
        base, number = tag["id"], 1
        while tag["id"] in seen:
            number += 1
            tag["id"] = f"{base}-{number}"
        seen.add(tag["id"])


def _contents(main):
    """The table of contents twice, for a wide page and folded for a narrow one: CSS alone cannot open <details>."""
    heads = main.find_all(["h2", "h3"])
    if not heads:
        return '<div class="toc"></div>'
    deep = {"h2": "", "h3": ' class="deep"'}
    items = "".join(f'<li{deep[h.name]}><a href="#{h["id"]}">{escape(h.get_text())}</a></li>' for h in heads)
    narrow = f"<details><summary>Contents</summary><ol>{items}</ol></details>"
    return (f'<nav class="toc" aria-label="Contents"><p>Contents</p><ol>{items}</ol></nav>'
            f'<nav class="toc-small" aria-label="Contents">{narrow}</nav>')


def _describe_images(soup, main):
    for image in main.find_all("img"):
        if not image.get("alt"):
            image["alt"] = f"Figure without a description, in the section “{section(image)}”"


# ---------------------------------------------------------------- the index


def load_run(folder):
    """The run.json of a run directory with every field present, and `problem` for what is missing or broken in it."""
    folder = Path(folder)
    run = {"name": folder.name, "title": folder.name, "notebook": "", "preset": "", "status": "unfinished",
           "started": "", "seconds": None, "commit": "", "versions": {}, "threads": "", "error": "", "problem": "",
           "headline": []}
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        run |= {name: value for name, value in record.items() if value is not None} | {"name": folder.name}
    except (OSError, ValueError, AttributeError) as error:
        return run | {"problem": f"run.json: {_reason(error)}"}
    if run["status"] not in STATUSES or not isinstance(run["versions"], dict):
        problem = f"run.json: status {str(run['status'])[:40]!r}, versions {str(run['versions'])[:40]}"
        return run | {"status": "unfinished", "versions": {},
                      "problem": f"{problem}; expected {', '.join(STATUSES)} and an object"}
    if run["status"] == "running":
        return run | {"status": "unfinished", "problem": "under way, or killed"}
    if run["status"] == "failed":
        return run | {"problem": run["error"]}
    try:
        record = checked_metrics(json.loads((folder / "metrics.json").read_text(encoding="utf-8")), "metrics.json")
    except (OSError, ValueError) as error:
        return run | {"problem": f"metrics.json: {_reason(error)}"}
    shown = [(metric_name(name), *shown_metric(record["metrics"][name])) for name in record["headline"]]
    return run | {"headline": [dict(zip(("name", "value", "interval", "n"), row, strict=True)) for row in shown]}


def _reason(error):
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON (line {error.lineno}: {error.msg})"
    text = error.strerror if isinstance(error, OSError) else str(error)
    return (text or type(error).__name__).removeprefix("metrics.json: ")


def index(runs_dir, html_path, exporter=None):
    """Write the index of all run directories in `runs_dir`; a run that failed or broke off is listed as such."""
    runs = [load_run(folder) for folder in run_folders(runs_dir)]
    for run in runs:
        page = f"{run['name']}.html" if (Path(runs_dir) / run["name"] / "executed.ipynb").exists() else ""
        run |= {"href": page, "when": when(run["started"]), "took": duration(run["seconds"])}
    cards = [{"run": run["title"], "href": run["href"], **run["headline"][0]} for run in runs if run["headline"]]
    counted = [(word, sum(run["status"] == word for run in runs)) for word in ("ok", "failed", "unfinished")]
    environment = (exporter or _exporter()).environment
    html = environment.get_template("runs.html.j2").render(
        page={"title": "Hierarchical reasoning, judged honestly"}, runs=runs, cards=cards,
        files=[name for name in downloads.FILES if (Path(html_path).parent / name).exists()],
        tally=[pair for pair in counted if pair[1]], newest=when(max((run["started"] for run in runs), default="")))
    write_atomic(html_path, html)


def run_folders(runs_dir):
    """The run directories in `runs_dir`, in the order of their names."""
    return sorted(path.parent for path in Path(runs_dir).glob("*/run.json"))


def site(runs_dir, reports_dir):
    """Render every run in `runs_dir`, finished or not, and the index, into `reports_dir`."""
    folders = [f for f in run_folders(runs_dir) if (f / "executed.ipynb").exists()]
    Path(reports_dir).mkdir(parents=True, exist_ok=True)
    exporter = _exporter()
    links = [{"href": f"{f.name}.html", "name": f.name} for f in folders]
    for i, folder in enumerate(folders):
        around = (links[i - 1] if i else None, links[i + 1] if i + 1 < len(links) else None)
        page = Path(reports_dir) / f"{folder.name}.html"
        render(folder / "executed.ipynb", page, load_run(folder), *around, exporter)
    downloads.write(runs_dir, reports_dir)
    index(runs_dir, Path(reports_dir) / "index.html", exporter)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m hrm_lab.report", description="Render executed notebooks as HTML.")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("render", help="one run directory as one page")
    one.add_argument("run_dir")
    one.add_argument("html")
    for name, text in (("index", "the index of all runs"), ("site", "all pages and the index")):
        several = commands.add_parser(name, help=text)
        several.add_argument("runs_dir")
        several.add_argument("target", help="the HTML file (index) or folder (site) to write")
    given = parser.parse_args(argv)
    try:
        if given.command == "render":
            render(Path(given.run_dir) / "executed.ipynb", given.html, load_run(given.run_dir))
        else:
            {"index": index, "site": site}[given.command](given.runs_dir, given.target)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
