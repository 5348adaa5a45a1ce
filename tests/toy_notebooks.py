"""Notebooks of a few lines, written by the tests of the runner, the reports and the Snakefile."""

import nbformat

PARAMETERS = '''preset = "laptop"  # smoke, laptop or full
workdir = ".."
out = "runs/toy"
steps: int | None = None  # None: from the preset
lr = 1e-3  # peak
fast = False
mode = "ok"
'''
FINISH = '''from hrm_lab.notebooks import finish
finish(out, {"exact_match": dict(value=0.5, n=10, low=0.3, high=0.7, unit="share")}, ["exact_match"])'''


def write(path, *code, parameters=PARAMETERS, heading="Toy", finish=True):
    """A notebook with a heading, a `parameters` cell, the given code cells and, at its end, a call of `finish`."""
    nb = nbformat.v4.new_notebook()
    nb.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    first = nbformat.v4.new_code_cell(parameters)
    first.metadata["tags"] = ["parameters"]
    nb.cells = [nbformat.v4.new_markdown_cell(f"# {heading}"), first, *map(nbformat.v4.new_code_cell, code)]
    if finish:
        nb.cells.append(nbformat.v4.new_code_cell(FINISH))
    for i, cell in enumerate(nb.cells):
        cell["id"] = f"cell-{i}"  # the same file for the same arguments
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, path)
    return path
