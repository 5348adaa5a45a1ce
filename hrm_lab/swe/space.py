"""How good the space of edits is: is the known repair a candidate, and how many candidates are there in all?"""

from hrm_lab.swe.drawing import enumerable
from hrm_lab.swe.edits import apply, candidates
from hrm_lab.swe.instances import Instance
from hrm_lab.swe.languages import normalise


def measure(instances: list[Instance]) -> list[dict]:
    """For each instance: id, kind, lines, candidates, and `inside`: one of them has the repaired program's tokens."""
    rows = []
    for one in instances:
        program, fixed = enumerable(one.program), enumerable(one.fixed)
        found, wanted = candidates(program, one.language), normalise(fixed, one.language)
        near = (edit for edit in found if len(program) + len(edit.text) - (edit.end - edit.start) <= 2 * len(fixed))
        rows.append({"id": one.instance_id, "kind": ", ".join(one.kinds), "lines": len(program.strip().splitlines()),
                     "candidates": len(found),
                     "inside": any(normalise(apply(program, edit), one.language) == wanted for edit in near)})
    return rows
