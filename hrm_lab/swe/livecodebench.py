"""LiveCodeBench-style rows (Jain et al. 2024, arXiv 2403.07974): a problem with stdin/stdout or function tests.

Such a row holds no program; `program` is its starter code unless the row brings a wrong answer to repair (`program`).
Unusual: its private tests are usually a pickle in zlib in base64. Nothing unpickles here, so such a row is
refused; turn the tests into JSON with the publisher's own code first.
"""

import json

from hrm_lab.swe import diffs
from hrm_lab.swe.complexity import complexity
from hrm_lab.swe.domain import classify
from hrm_lab.swe.instances import Instance, InstanceError
from hrm_lab.swe.stdio import pack

FILE = "solution.py"
FUNCTION_TEST = '''def test_{name}():
    arguments = [json.loads(line) for line in {input!r}.split("\\n") if line.strip()]
    assert {call}(*arguments) == json.loads({output!r})
'''


def _cases(row: dict, field: str) -> list[dict]:
    """The tests of one field: a list, or JSON of it. Raises `InstanceError`."""
    value = row.get(field) or []
    if isinstance(value, str):
        if not value.lstrip().startswith("["):
            raise InstanceError(f"field {field} is {value!r:.24}, probably a compressed pickle; expected JSON "
                                "(nothing is unpickled here)")
        try:
            value = json.loads(value)
        except ValueError as error:
            raise InstanceError(f"field {field}: {error}; expected a JSON list") from None
    for case in value:
        if not isinstance(case, dict) or not all(isinstance(case.get(name), str) for name in ("input", "output")):
            raise InstanceError(f"field {field} holds {case!r:.60}; expected objects with strings input and output")
    return list(value)


def _function_name(row: dict) -> str:
    value = row.get("metadata") or {}
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise InstanceError(f"field metadata: {error}; expected a JSON object") from None
    name = value.get("func_name", "") if isinstance(value, dict) else ""
    if not isinstance(name, str) or not name.isidentifier():
        raise InstanceError(f"field metadata has func_name {name!r}; expected the name of the function under test")
    return name


def from_livecodebench(row: dict, split: str) -> Instance:
    """A row as an instance whose tests are pytest functions, or for programs on stdin `stdio.pack`'s JSON.

    Raises KeyError (a field is missing) and ValueError (it is not what it should be).
    """
    cases = [(name, case) for name in ("public", "private") for case in _cases(row, f"{name}_test_cases")]
    if not cases:
        raise InstanceError("fields public_test_cases and private_test_cases are empty; expected a test")
    starter, fixed = row.get("starter_code") or "", row.get("fixed") or ""
    program = row.get("program") or starter
    kinds = {case.get("testtype", "stdin") for _, case in cases}
    function = ""
    if kinds == {"functional"}:
        function = _function_name(row)
        call = f"Solution().{function}" if "class Solution" in (program or fixed) else function
        tests = "import json\n\n\n" + "\n\n".join(
            FUNCTION_TEST.format(name=f"{name}_{i}", call=call, input=case["input"], output=case["output"])
            for i, (name, case) in enumerate(cases))
    elif kinds == {"stdin"}:
        tests = pack([(f"{name}_{i}", case["input"], case["output"]) for i, (name, case) in enumerate(cases)])
    else:
        raise InstanceError(f"tests have testtype {', '.join(sorted(map(str, kinds)))}; expected all stdin or all "
                            "functional")
    return Instance(
        instance_id=f"livecodebench-{row['platform']}-{row['question_id']}", repo=f"livecodebench/{row['platform']}",
        version=str(row.get("contest_date") or ""), problem_statement=f"{row['question_title']}\n\n"
        f"{row['question_content']}", patch=diffs.make(program, fixed, FILE) if fixed else "", test_patch="",
        FAIL_TO_PASS=(), PASS_TO_PASS=(), language="python", domain=classify(program or row["question_content"]),
        complexity=complexity(program, fixed, "python", 0), tool_plan=(), file=FILE, function=function,
        program=program, fixed=fixed, tests=tests, kinds=(), source="human", split=split)
