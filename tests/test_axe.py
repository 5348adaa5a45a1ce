"""Accessibility of the reports by axe-core (Deque, MPL-2.0) in headless Chromium: WCAG 2.2 A and AA, light and dark.

axe-core comes out of a pinned wheel (data/sources.txt) as a file and is never part of a report. It is driven over the
browser's own debugging protocol, which is exempt from the page's content security policy.
"""

import itertools
import json
import os
import subprocess
import time
import zipfile
from contextlib import contextmanager

import pytest

from hrm_lab.inspect_notebook import ROOT
from hrm_lab.sources import SourceError, fetch
from test_report_html import CHROMIUM, browser, site  # noqa: F401 (site: a fixture)

SERIOUS = ("serious", "critical")
RUN = """axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
resultTypes: ["violations"]}).then(r => JSON.stringify({passes: r.passes.length, violations: r.violations.map(v => ({
id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.map(n => n.target.join(" ") + ": " +
n.html.slice(0, 160))}))}))"""


def cache():
    return os.environ.get("HRM_LAB_CACHE", ROOT / "data" / "cache")


@pytest.fixture(scope="module")
def axe():
    """The source of axe-core."""
    try:
        with zipfile.ZipFile(fetch("axe-playwright-python", cache())) as wheel:
            return wheel.read("axe_playwright_python/axe.min.js").decode()
    except SourceError as error:
        pytest.skip(f"no axe-core: {error}")


@contextmanager
def chromium(folder):
    """A function (method, **parameters) -> result over the debugging protocol of one page."""
    import websocket

    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
               "--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND",
               "--remote-debugging-port=0", "--remote-allow-origins=*", f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        port, end = folder / "DevToolsActivePort", time.monotonic() + 40
        while not (port.exists() and len(port.read_text().splitlines()) == 2):
            assert process.poll() is None and time.monotonic() < end, "Chromium does not answer"
            time.sleep(0.05)
        number, path = port.read_text().splitlines()
        socket = websocket.create_connection(f"ws://127.0.0.1:{number}{path}", timeout=60)
        numbers, session = itertools.count(1), {}

        def call(method, **parameters):
            own = next(numbers)
            socket.send(json.dumps({"id": own, "method": method, "params": parameters, **session}))
            while (answer := json.loads(socket.recv())).get("id") != own:
                pass
            assert "error" not in answer, (method, answer["error"])
            return answer["result"]

        target = call("Target.createTarget", url="about:blank")["targetId"]
        session["sessionId"] = call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        call("Page.enable")
        yield call
        socket.close()
    finally:
        process.kill()
        process.wait()


def findings(call, page, axe, dark):
    """axe's violations on a page: a list of dicts with id, impact, help, nodes."""
    call("Emulation.setEmulatedMedia",
         features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
    call("Page.navigate", url=page.as_uri())

    def evaluate(text):
        answer = call("Runtime.evaluate", expression=text, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    end = time.monotonic() + 30
    while evaluate("location.href + ' ' + document.readyState") != f"{page.as_uri()} complete":
        assert time.monotonic() < end, "the page does not load"
        time.sleep(0.05)
    evaluate(axe + "; 0")
    found = json.loads(evaluate(RUN))
    assert found["passes"] > 0  # it did look
    return found["violations"]


def serious(found):
    return [(f["id"], f["help"], f["nodes"][:3]) for f in found if f["impact"] in SERIOUS]


@browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_no_page_has_a_serious_finding(site, axe, tmp_path, dark):  # noqa: F811
    with chromium(tmp_path) as call:
        for page in sorted(site.glob("*.html")):
            assert not serious(findings(call, page, axe, dark)), page.name


@browser
def test_axe_would_find_what_is_wrong(axe, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text("<html><body><img src='data:,'><p style='color:#ccc;background:#fff'>pale</p></body></html>")
    (tmp_path / "profile").mkdir()
    with chromium(tmp_path / "profile") as call:
        found = {f["id"] for f in findings(call, page, axe, False) if f["impact"] in SERIOUS}
    assert {"image-alt", "color-contrast", "html-has-lang"} <= found
