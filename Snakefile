"""The notebooks as a graph: `snakemake --cores all` executes what is stale and renders reports/index.html.

    snakemake --cores all                            the laptop preset, here
    snakemake --cores all --config preset=smoke      another preset of notebooks/presets.yaml
    snakemake --cores all --directory /tmp/try       in another working directory
    snakemake --unlock && snakemake --cores all      go on after a kill or a power cut; finished work stays

A notebook is stale when its own text, a module of hrm_lab that it imports, its settings in presets.yaml or the results
it reads have changed: by content, so that saving a file unchanged runs nothing.
"""

import os
import sys
from pathlib import Path
from shlex import quote

sys.path.insert(0, workflow.basedir)
from hrm_lab.inspect_notebook import sources
from hrm_lab.notebooks import presets

HERE = Path(os.path.relpath(workflow.basedir))  # notebooks and package lie here, whatever --directory says
PRESET = config.get("preset", "laptop")
SETTINGS = presets(PRESET)
TRAINING = SETTINGS["02_puzzle_training"]["tasks"]  # task -> its settings
TRAINED = expand("02_puzzle_training-{task}", task=TRAINING)
SWEEP = SETTINGS["02_sweep"]
WORKERS = range(SWEEP.get("workers", 0))  # jobs that share the sweep's cells; 0: its notebook trains them itself
RUNS = ["00_tour", "01_data_preparation", *TRAINED, "02_sweep", "03_swe_code_training", "04_test_generation",
        "05_llama_adapters", "06_evaluation", "07_report"]

PYTHON = f"PYTHONPATH={quote(workflow.basedir)} exec {quote(sys.executable)} -m"
# `exec` and --with-parent: when Snakemake is killed, the notebook that it started ends too.
EXECUTE = (
    "{PYTHON} hrm_lab.notebooks run {input.notebook:q} --run-dir $(dirname {output:q})"
    " --threads {threads} --with-parent -p preset {PRESET:q}"
)
JUDGE = "({PYTHON} hrm_lab.notebooks run {HERE}/notebooks/{stem}.ipynb --run-dir runs/notebooks/{stem} -p preset {PRESET:q}) || :"
RENDER = "{PYTHON} hrm_lab.report site runs/notebooks reports"


def metrics(runs):
    return expand("runs/notebooks/{run}/metrics.json", run=runs)


def kept(run):  # as `log`: Snakemake deletes the outputs of a failed job, but not its logs
    return [f"runs/notebooks/{run}/{file}" for file in ("executed.ipynb", "run.json")]


def notebook(stem):
    path = HERE / "notebooks" / f"{stem}.ipynb"
    return {"notebook": str(path), "code": [os.path.relpath(file) for file in sources(path)]}


def before(wildcards):  # a task whose training begins with another's weights waits for it
    first = TRAINING[wildcards.task].get("after")
    return metrics([f"02_puzzle_training-{first}"]) if first else []


wildcard_constraints:
    task="|".join(TRAINING),


rule all:
    input:
        "reports/index.html",
        metrics(RUNS),  # a clone comes with the pages of the reference run, and without its runs


rule tour:
    message:
        "00: a tour with the weights that ship"
    input:
        **notebook("00_tour"),
    output:
        metrics("00_tour"),
    log:
        kept("00_tour"),
    params:
        settings=SETTINGS["00_tour"],
    shell:
        EXECUTE


rule prepare_data:
    message:
        "01: prepare the data"
    input:
        **notebook("01_data_preparation"),
    output:
        metrics("01_data_preparation"),
    log:
        kept("01_data_preparation"),
    params:
        settings=SETTINGS["01_data_preparation"],  # only to make the job stale: the notebook reads presets.yaml itself
    shell:
        EXECUTE


rule train:
    message:
        "02: train on {wildcards.task}"
    input:
        before,
        **notebook("02_puzzle_training"),
        data=metrics("01_data_preparation"),
    output:
        metrics("02_puzzle_training-{task}"),
    log:
        kept("02_puzzle_training-{task}"),
    params:
        settings=lambda wildcards: TRAINING[wildcards.task],
    threads: lambda wildcards: TRAINING[wildcards.task].get("threads", 1)
    shell:
        EXECUTE + " -p task {wildcards.task:q}"


rule sweep_cells:
    message:
        "02: cells of the sweep, worker {wildcards.worker}"
    input:
        code=notebook("02_sweep")["code"],
        data=metrics("01_data_preparation"),
    output:
        "runs/notebooks/02_sweep/sweep/worker-{worker}.json",
    params:
        settings=SWEEP["sweep"],
    shell:
        "{PYTHON} hrm_lab.sweep_study --preset {PRESET:q} --out $(dirname {output:q}) --done {output:q} --with-parent"


rule sweep:
    message:
        "02: sweep and strategies"
    input:
        **notebook("02_sweep"),
        data=metrics("01_data_preparation"),
        cells=expand("runs/notebooks/02_sweep/sweep/worker-{worker}.json", worker=WORKERS),
    output:
        metrics("02_sweep"),
    log:
        kept("02_sweep"),
    params:
        settings=SWEEP,
    shell:
        EXECUTE


rule software_engineering:
    message:
        "03: real code to repair"
    input:
        **notebook("03_swe_code_training"),
    output:
        metrics("03_swe_code_training"),
    log:
        kept("03_swe_code_training"),
    params:
        settings=SETTINGS["03_swe_code_training"],
    priority: 1  # the longest first
    threads: SETTINGS["03_swe_code_training"].get("threads", 1)
    shell:
        EXECUTE


rule test_generation:
    message:
        "04: tests from requirements"
    input:
        **notebook("04_test_generation"),
    output:
        metrics("04_test_generation"),
    log:
        kept("04_test_generation"),
    params:
        settings=SETTINGS["04_test_generation"],
    threads: SETTINGS["04_test_generation"].get("threads", 1)
    shell:
        EXECUTE


rule adapters:
    message:
        "05: function-calling adapters"
    input:
        **notebook("05_llama_adapters"),
    output:
        metrics("05_llama_adapters"),
    log:
        kept("05_llama_adapters"),
    params:
        settings=SETTINGS["05_llama_adapters"],
    priority: 2  # the longest first
    threads: SETTINGS["05_llama_adapters"].get("threads", 1)
    shell:
        EXECUTE


rule evaluate:
    message:
        "06: evaluate"
    input:
        **notebook("06_evaluation"),
        results=metrics(RUNS[:-2]),
    output:
        metrics("06_evaluation"),
    log:
        kept("06_evaluation"),
    params:
        settings=SETTINGS["06_evaluation"],
    shell:
        EXECUTE


rule report:
    message:
        "07: report"
    input:
        **notebook("07_report"),
        results=metrics(RUNS[:-1]),
    output:
        metrics("07_report"),
    log:
        kept("07_report"),
    params:
        settings=SETTINGS["07_report"],
    shell:
        EXECUTE


rule render:
    message:
        "render the HTML reports"
    input:
        metrics(RUNS),
        HERE / "hrm_lab" / "report.py",
        HERE / "hrm_lab" / "report_tables.py",
        sorted((HERE / "hrm_lab" / "templates" / "report").iterdir()),
    output:
        "reports/index.html",
        expand("reports/{run}.html", run=RUNS),
    shell:
        RENDER


def failed(run):  # by itself, not because it was stopped
    record = Path(kept(run)[1])
    return record.exists() and '"status": "failed"' in record.read_text() and "stopped (" not in record.read_text()


onerror:  # what failed is shown, with its traceback, beside what did not; a track that failed keeps no other from its judge
    if any(map(failed, RUNS[:-2])) and all(Path(file).exists() for file in metrics(TRAINED)):
        for stem in RUNS[-2:]:
            shell(JUDGE)
    shell(RENDER)
