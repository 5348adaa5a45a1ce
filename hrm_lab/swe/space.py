"""How good the space of edits is: is the known repair a candidate, and how many candidates are there in all?"""

from hrm_lab.swe.drawing import enumerable
from hrm_lab.swe.edits import Edit, Text, candidates
from hrm_lab.swe.instances import Instance


def measure(instances: list[Instance]) -> list[dict]:
    """For each instance: id, kind, lines, candidates, and `inside`: one of them has the repaired program's tokens."""
    rows = []
    for one in instances:
        program, fixed = enumerable(one.program), enumerable(one.fixed)
        found, text = candidates(program, one.language), Text(program, one.language)
        wanted = text.key(Edit("", 0, len(program), fixed))
        rows.append({"id": one.instance_id, "kind": ", ".join(one.kinds), "lines": len(program.strip().splitlines()),
                     "candidates": len(found), "inside": any(text.key(edit) == wanted for edit in found)})
    return rows
