"""Run one notebook as a batch job, with checked parameters; and what notebooks call in their first and last cells.

What is unusual:
- Parameters are checked against the notebook's own `parameters` cell before a kernel starts.
- The kernel talks over Unix sockets in a directory of its own: parallel kernels cannot race for TCP ports
  (papermill #511), and it is always this interpreter, whatever kernelspecs the user has installed.
- The executed copy and `run.json` are there from the first second and survive a failing cell, a dead kernel and
  an interruption; `metrics.json` exists only after a success.
- No absolute path reaches the executed copy: it is published as a report.

This module is imported by every notebook and by the Snakefile, so its heavy imports (papermill) are inside `run`.
"""

import argparse
import datetime
import itertools
import json
import logging
import math
import os
import platform
import re
import resource
import shutil
import signal
import sys
import sysconfig
import tempfile
import threading
import time
from html import escape
from importlib import metadata
from pathlib import Path

import yaml

from hrm_lab import energy
from hrm_lab.files import commit, write_atomic, write_json
from hrm_lab.inspect_notebook import ROOT, check, declared, read_notebook, sources, title

PRESETS = ROOT / "notebooks" / "presets.yaml"
METRIC_FIELDS = ("value", "n", "low", "high", "unit")


# ---------------------------------------------------------------- called from notebooks


def settings(stem, preset, task=None, **given):
    """The settings of notebook `stem` (and `task`): those of `preset`, overridden by the given ones that are not None.

    Raises ValueError where the preset, notebook or task is not in notebooks/presets.yaml, or a setting has no value.
    """
    where = f"notebooks/presets.yaml: {preset}/{stem}"
    notebooks = presets(preset)
    if stem not in notebooks:
        raise ValueError(f"{where}: no notebook {stem!r}, expected one of {', '.join(notebooks)}")
    chosen = notebooks[stem]
    if task is not None:
        tasks = chosen.get("tasks", {})
        if task not in tasks:
            raise ValueError(f"{where}: no task {task!r}, expected one of {', '.join(tasks)}")
        chosen = tasks[task]
    merged = {**chosen, **{name: value for name, value in given.items() if value is not None}}
    missing = [name for name in given if name not in merged]
    if missing:
        raise ValueError(f"{where}: no value for {', '.join(missing)}; give one, or set it for this preset")
    return merged


def presets(preset):
    """All settings of one preset: notebook stem -> mapping."""
    try:
        known = yaml.safe_load(PRESETS.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"notebooks/presets.yaml: {' '.join(str(error).split())[:200]}, expected YAML") from None
    if not isinstance(known, dict) or not all(isinstance(value, dict) for value in known.values()):
        raise ValueError(f"notebooks/presets.yaml: got {str(known)[:60]!r}, expected presets with their notebooks")
    if preset not in known:
        raise ValueError(f"notebooks/presets.yaml: unknown preset {preset!r}, expected one of {', '.join(known)}")
    return known[preset]


def finish(out, metrics, headline):
    """Write `out`/metrics.json and show its headline. The last cell of every notebook calls this.

    metrics: name -> {"value": float, "n": int, "low": float or None, "high": float or None, "unit": str}; low and high
    bound the 95 % interval; unit "share" is shown in percent, "difference of shares" in points. headline: names in
    `metrics`.
    """
    from IPython.display import display

    metrics = {name: {k: v.item() if hasattr(v, "item") else v for k, v in m.items()} for name, m in metrics.items()}
    record = {"headline": list(headline), "metrics": metrics, "cost": spent()}
    checked_metrics(record, f"{out}/metrics.json")
    Path(out).mkdir(parents=True, exist_ok=True)
    write_atomic(Path(out) / "metrics.json", json.dumps(record, indent=1, allow_nan=False))
    shown = [(metric_name(name), *shown_metric(metrics[name])) for name in headline]
    rows = "".join("<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td></tr>".format(*map(escape, row)) for row in shown)
    head = "<tr><th>Result</th><th>Value</th><th>95 % interval</th><th>n</th></tr>"
    html = f'<table class="headline"><thead>{head}</thead><tbody>{rows}</tbody></table>'
    display({"text/html": html, "text/plain": "\n".join("  ".join(row) for row in shown)}, raw=True)


def spent():
    """Cost of this process and of those that it waited for: {"cpu_seconds", "peak_gb" of the largest}."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    unit = 1e9 if sys.platform == "darwin" else 1e6  # bytes there, kilobytes here
    return {"cpu_seconds": round(sum(u.ru_utime + u.ru_stime for u in usage), 1),
            "peak_gb": round(max(u.ru_maxrss for u in usage) / unit, 2)}


def checked_metrics(record, where):
    """`record` if it is a valid metrics.json, else ValueError naming file, metric, field, value and expectation."""
    if not isinstance(record, dict) or not isinstance(record.get("metrics"), dict) or "headline" not in record:
        raise ValueError(f"{where}: expected an object with `headline` and `metrics`")
    for name, metric in record["metrics"].items():
        if not isinstance(metric, dict) or set(metric) != set(METRIC_FIELDS):
            raise ValueError(f"{where}: metric {name!r}: got {metric!r}, expected {', '.join(METRIC_FIELDS)}")
        numbers = [metric[k] for k in ("low", "value", "high") if k == "value" or metric[k] is not None]
        if not all(type(x) in (int, float) and math.isfinite(x) for x in numbers):
            raise ValueError(f"{where}: metric {name!r}: low, value, high are {numbers}, expected finite numbers")
        if any(a > b + 1e-9 for a, b in itertools.pairwise(numbers)):  # a bootstrap of equal values rounds
            raise ValueError(f"{where}: metric {name!r}: got {numbers}, expected low <= value <= high")
        if type(metric["n"]) is not int or metric["n"] < 0 or not isinstance(metric["unit"], str):
            got = f"n={metric['n']!r}, unit={metric['unit']!r}"
            raise ValueError(f"{where}: metric {name!r}: got {got}, expected a count and a str")
    if not isinstance(record["headline"], list):
        raise ValueError(f"{where}: headline: got {str(record['headline'])[:40]!r}, expected a list of metrics")
    for name in record["headline"]:
        if not isinstance(name, str) or name not in record["metrics"]:
            raise ValueError(f"{where}: headline {name!r}: expected one of the metrics {', '.join(record['metrics'])}")
    return record


def metric_name(name):
    """`exact_match/copy` as people read it: `exact match: copy`."""
    return name.replace("_", " ").replace("/", ": ")


def shown_metric(metric):
    """A metric as people read it: ("99.2 %", "98.8 to 99.5 %", "1,000")."""
    from hrm_lab.metrics import in_words  # numpy, which the runner does without

    value, low, high, unit = in_words(
        metric, "\u202f", lambda x: f"{x:,}" if type(x) is int else f"{x:,.4g}" if abs(x) < 10_000 else f"{x:,.0f}")
    interval = f"{low or '−∞'} to {high or '∞'}{unit}" if low or high else "–"
    return value + unit, interval, f"{metric['n']:,}"


# ---------------------------------------------------------------- running


def run(path, run_dir, params, threads=1, workdir="."):
    """Execute the notebook at `path` with `params` and the working directory `workdir`; return its run.json as a dict.

    Writes `run_dir`/executed.ipynb (after every cell) and run.json; the notebook writes metrics.json. A notebook that
    fails is no exception: the returned `status` is "failed" and `error` says why in one line.
    ValueError, before anything is started or written: a parameter the notebook does not have or of the wrong type.
    """
    path, run_dir, workdir = Path(path), Path(run_dir).resolve(), Path(workdir).resolve()
    if threads < 1:
        raise ValueError(f"threads: got {threads}, expected at least 1")
    if not run_dir.is_relative_to(workdir):
        raise ValueError(f"run directory: got {run_dir}, expected a folder inside the working directory {workdir}")
    given = check(path, {**params, "workdir": ".", "out": run_dir.relative_to(workdir).as_posix()})
    values = {name: parameter.default for name, parameter in declared(path).items()} | given
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "metrics.json").unlink(missing_ok=True)  # of an earlier success
    versions = {"python": platform.python_version(), "torch": metadata.version("torch")}
    heading = title(read_notebook(path), path.stem) + (f": {values['task']}" if values.get("task") else "")
    facts = {"name": run_dir.name, "notebook": f"notebooks/{path.name}", "title": heading,
             "parameters": values, "preset": values.get("preset"), "status": "running",
             "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "seconds": None,
             "commit": commit(path.parent), "versions": versions, "threads": threads, "error": None,
             "joules": None}
    write_json(run_dir / "run.json", facts)
    began = time.perf_counter()
    try:
        with energy.meter() as used:
            facts["error"] = _execute(path, run_dir / "executed.ipynb", given, threads, workdir)
        facts["joules"] = used.total
        if not facts["error"] and not (run_dir / "metrics.json").exists():
            facts["error"] = "wrote no metrics.json; expected its last cell to call hrm_lab.notebooks.finish(out, ...)"
    except BaseException as error:  # Ctrl-C or SIGTERM: say so, then let it through
        facts["error"] = f"stopped ({type(error).__name__})"
        raise
    finally:
        # A killed Snakemake's notebook may end after the next one has begun in the same folder: that is not ours then.
        ours = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))["started"] == facts["started"]
        if facts["error"] and ours:
            (run_dir / "metrics.json").unlink(missing_ok=True)
        facts |= {"status": "failed" if facts["error"] else "ok", "seconds": round(time.perf_counter() - began, 1)}
        if ours:
            _tidy(run_dir / "executed.ipynb", workdir, facts["error"])
            write_json(run_dir / "run.json", facts)
    return facts


def _execute(path, executed, params, threads, workdir):
    """Run the notebook; None, or in one line how it failed."""
    import papermill
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from papermill.iorw import LocalHandler, papermill_io

    class WholeFiles(LocalHandler):
        def write(self, buf, path):
            write_atomic(path.removeprefix("whole:"), buf)

    sockets = tempfile.mkdtemp(prefix="hrm-", dir="/tmp" if os.path.isdir("/tmp") else None)

    class Kernel(AsyncKernelManager):
        def __init__(self, **kw):
            # A short path: macOS caps a socket's at 104 bytes. The default is ./kernel-ipc for every kernel.
            super().__init__(transport="ipc", ip=f"{sockets}/k", **kw)

        def format_kernel_cmd(self, extra_arguments=None):
            return [sys.executable, "-m", "ipykernel_launcher", "-f", self.connection_file, *(extra_arguments or [])]

        async def _async_start_kernel(self, **kw):
            return await super()._async_start_kernel(**{**kw, "env": _environment(threads, sockets)})

        start_kernel = _async_start_kernel

    logging.getLogger("papermill").setLevel(logging.ERROR)
    papermill_io.register("whole:", WholeFiles())
    try:
        papermill.execute_notebook(path, f"whole:{executed}", params, kernel_name="python3", language="python",
                                   cwd=workdir, progress_bar=False, start_timeout=180, kernel_manager_class=Kernel,
                                   shutdown_kernel="immediate")
    except PapermillExecutionError as error:
        return f"cell {error.exec_count}: {error.ename}: {' '.join(error.evalue.split())[:300]}"
    except DeadKernelError:
        return "the kernel died: it was killed, ran out of memory, or crashed in compiled code"
    except Exception as error:  # whatever else nbclient or papermill meet, the run has failed and must be shown
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    finally:
        shutil.rmtree(sockets, ignore_errors=True)
    return None


def _environment(threads, home):
    """The kernel's environment: this job's threads, no progress bars, no user's IPython start-up files."""
    path = os.pathsep.join(filter(None, (str(ROOT.resolve()), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0", "IPYTHONDIR": f"{home}/ipython",
            "HRM_LAB_THREADS": str(threads), "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads),
            "OMP_WAIT_POLICY": "passive", "TQDM_DISABLE": "1",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline"}


def _tidy(executed, workdir, error):
    """Take absolute paths out of the executed copy, and put an error in it where the kernel left none."""
    if not executed.exists():
        return
    import nbformat
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    nb = nbformat.read(executed, 4)
    for key in ("input_path", "output_path"):
        nb["metadata"].get("papermill", {}).pop(key, None)
    nb["cells"] = [c for c in nb["cells"] if "papermill-error-cell-tag" not in c["metadata"].get("tags", [])]
    code = [c for c in nb["cells"] if c["cell_type"] == "code"]
    if error and not any(o["output_type"] == "error" for c in code for o in c["outputs"]):
        begun = [c for c in code if c["metadata"].get("papermill", {}).get("status") in ("running", "completed")]
        failure = nbformat.v4.new_output("error", ename="NotebookFailed", evalue=error, traceback=[error])
        (begun or code)[-1]["outputs"].append(failure)
    for cell in code:
        errors = [o for o in cell["outputs"] if o.get("name") == "stderr"]  # a progress bar runs on past a figure
        for o in errors[1:]:
            errors[0]["text"] += o["text"]
            cell["outputs"] = [other for other in cell["outputs"] if other is not o]
        CoalesceStreamsPreprocessor().preprocess_cell(cell, {}, 0)  # what was printed in pieces, a path among them
        cell["outputs"] = _without_paths(cell["outputs"], _own_paths(workdir))
    write_atomic(executed, json.dumps(nb, indent=1, ensure_ascii=False) + "\n")


def _own_paths(workdir):
    """This machine's folders, the longest first, with what stands for each in a report."""
    names = {str(workdir): ".", str(ROOT.resolve()): ".", sysconfig.get_path("purelib"): "site-packages",
             sysconfig.get_path("stdlib"): "python", sys.prefix: "python", tempfile.gettempdir(): "tmp",
             str(Path.home()): "~"}
    names |= {os.path.realpath(p): short for p, short in names.items()}
    short_home = {"~" + p.removeprefix(str(Path.home())): short for p, short in names.items()
                  if p.startswith(str(Path.home()) + "/")}  # as IPython's tracebacks write them
    return sorted(((p, s) for p, s in (names | short_home).items() if len(p) > 1), key=lambda pair: -len(pair[0]))


def _without_paths(value, paths):
    if isinstance(value, str):
        value = re.sub(r"/\S*ipykernel_\d+/\d+\.py", "cell", value)  # named so in warnings, differently in each run
        for path, short in paths:
            value = re.sub(re.escape(path) + r"(?![\w.-])", short, value)
        return value
    if isinstance(value, list):
        return [_without_paths(v, paths) for v in value]
    if isinstance(value, dict):
        binary = {"image/png", "image/jpeg"} & set(value)
        return {k: v if k in binary else _without_paths(v, paths) for k, v in value.items()}
    return value


# ---------------------------------------------------------------- command line


def stop_with_parent():
    """End this process, as SIGTERM does, once the one that started it is gone: a killed Snakemake leaves no orphan."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m hrm_lab.notebooks", description="Run a notebook as a batch job.")
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run", help="execute a notebook with checked parameters")
    runner.add_argument("notebook")
    runner.add_argument("--run-dir", required=True, help="where executed.ipynb, run.json and metrics.json go")
    runner.add_argument("--workdir", default=".", help="working directory of the notebook (default: this one)")
    runner.add_argument("--threads", type=int, default=1)
    runner.add_argument("--with-parent", action="store_true", help="stop when the starting process is gone")
    runner.add_argument("-p", dest="params", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    commands.add_parser("sources", help="the files of hrm_lab that a notebook imports").add_argument("notebook")
    given = parser.parse_args(argv)
    try:
        if given.command == "sources":
            print("\n".join(sources(given.notebook)))
            return 0
        if given.with_parent:
            stop_with_parent()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the kernel is ended and run.json written
        facts = run(given.notebook, given.run_dir, dict(given.params), given.threads, given.workdir)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if facts["status"] != "ok":
        print(f"{given.notebook}: failed: {facts['error']} (see {given.run_dir}/executed.ipynb)", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
