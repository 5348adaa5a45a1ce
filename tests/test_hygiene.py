"""What the repository promises of itself: stripped notebooks of prose, one-way imports, one list of dependencies."""

import ast
import re
import subprocess
from graphlib import TopologicalSorter

import pytest
import yaml

from hrm_lab.inspect_notebook import ROOT, declared, read_notebook

STEMS = ["00_tour", "01_data_preparation", "02_puzzle_training", "02_sweep", "03_swe_code_training",
         "04_test_generation", "05_llama_adapters", "06_evaluation", "07_report"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in (ROOT / "hrm_lab").rglob("*.py")}
CORE = {f"hrm_lab.{name}" for name in ("act", "checks", "metrics", "model", "optim", "ranks", "runs")}
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def files():
    """Every file that is tracked, or would be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


# ---------------------------------------------------------------- notebooks


def code(path):
    """The code of a notebook as one syntax tree, IPython's own lines left out."""
    cells = ("".join(c["source"]) for c in read_notebook(path)["cells"] if c["cell_type"] == "code")
    return ast.parse(re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", "\n".join(cells)))


def test_there_are_the_notebooks_that_the_snakefile_lists():
    assert set(STEMS) <= {path.stem for path in NOTEBOOKS}


@each_notebook
def test_a_notebook_is_stripped(path):
    for cell in read_notebook(path)["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None), "".join(cell["source"])[:80]


@each_notebook
def test_a_notebook_declares_its_parameters(path):
    assert {"preset", "workdir", "out"} <= set(declared(path))  # ValueError: not one such cell, or not literal


@each_notebook
def test_about_half_of_a_notebook_is_prose(path):
    kinds = [cell["cell_type"] for cell in read_notebook(path)["cells"]]
    assert 0.35 <= kinds.count("markdown") / len(kinds) <= 0.7


@each_notebook
def test_a_notebook_holds_no_class_and_no_long_loop(path):
    for node in ast.walk(code(path)):
        assert not isinstance(node, ast.ClassDef), node.name
        if isinstance(node, ast.For | ast.While):
            assert node.body[-1].end_lineno - node.body[0].lineno < 20, ast.unparse(node)[:80]


def test_every_preset_sets_every_notebook_and_task():
    presets = yaml.safe_load((ROOT / "notebooks/presets.yaml").read_text())
    assert set(presets) == {"smoke", "laptop", "full"}
    for name, preset in presets.items():
        assert set(preset) == set(STEMS), name
        tasks = preset["02_puzzle_training"]["tasks"]
        assert "copy-increment" in tasks
        for task, settings in tasks.items():
            assert all(isinstance(settings[part], dict) for part in ("model", "train")), (name, task)


# ---------------------------------------------------------------- the package


def imports(module):
    """The modules of hrm_lab that `module` imports anywhere in its text."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[:-node.level] if node.level else []
            base = ".".join([*package, *filter(None, [node.module])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found & set(MODULES)


def test_imports_are_found():
    assert imports("hrm_lab.train") >= {"hrm_lab.act", "hrm_lab.model", "hrm_lab.puzzles.dataset"}


def test_imports_go_one_way():
    for module in MODULES:
        allowed = set(MODULES)
        if module in ("hrm_lab.metrics", "hrm_lab.runs", "hrm_lab.files", "hrm_lab.sources"):
            allowed = {"hrm_lab.files"} - {module}
        elif module.startswith("hrm_lab.puzzles"):
            allowed = {name for name in MODULES if name.startswith(("hrm_lab.puzzles", "hrm_lab.sources"))}
        elif module == "hrm_lab.train":
            allowed = CORE | {name for name in MODULES if name.startswith("hrm_lab.puzzles")}
        assert imports(module) <= allowed, module
    list(TopologicalSorter({module: imports(module) for module in MODULES}).static_order())  # CycleError names it


@pytest.mark.parametrize("module", MODULES)
def test_a_module_fits_in_a_head(module):
    assert len(MODULES[module].read_text().splitlines()) <= 350


# ---------------------------------------------------------------- the repository


def test_no_file_names_a_folder_of_a_machine():
    found = []
    for path in files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # weights, pictures
            continue
        found += [(path.name, m.group()) for m in re.finditer(r"(?<![\w.])/(work|root|farm)/\w+", text)]
    assert not found


def test_pyproject_is_the_only_list_of_dependencies():
    text = (ROOT / "environment.yml").read_text()
    assert len(text.splitlines()) == 6
    python, *rest = yaml.safe_load(text)["dependencies"]
    assert re.fullmatch(r"python=3\.\d+", python) and rest == ["pip", {"pip": ["-e .[test]"]}]
    others = re.compile(r"(requirements.*\.txt|setup\.(py|cfg)|Pipfile.*|.*\.lock)")
    assert not [path.name for path in files() if others.fullmatch(path.name)]
