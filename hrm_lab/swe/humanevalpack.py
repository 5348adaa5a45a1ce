"""HumanEvalPack rows (Muennighoff et al. 2023, arXiv 2308.07124) as programs and tests that stand as files.

A row holds a human-written bug in one of six languages: `prompt + buggy_solution`, `prompt + canonical_solution`,
`test`. Unusual: the rows were cut for one runner, which pastes imports around them; here each text gets what its
language needs once (Go: a package line and the imports that are used, for the program and the test file apart), and
imports of what a row does not use and many machines lack (Rust's crates, C++'s boost) are left out.
"""

import re

from hrm_lab.swe import diffs
from hrm_lab.swe.complexity import complexity
from hrm_lab.swe.domain import classify
from hrm_lab.swe.instances import Instance, InstanceError

NAMES = {"Python": "python", "JavaScript": "javascript", "Java": "java", "Go": "go", "CPP": "cpp", "Rust": "rust"}
FILES = {"python": "solution.py", "javascript": "solution.js", "java": "Solution.java", "go": "solution.go",
         "cpp": "solution.cpp", "rust": "solution.rs"}
OPTIONAL = {  # a line to leave out -> what would need it
    "rust": {"use rand::Rng;": r"\brand::|\bRng\b|\bthread_rng\b", "use regex::Regex;": r"\bRegex\b",
             "use md5;": r"\bmd5::"},
    "cpp": {"#include<boost/any.hpp>": r"\bboost::"}}
GO_PACKAGES = ("bytes", "crypto/md5", "errors", "fmt", "math", "math/rand", "regexp", "sort", "strconv", "strings",
               "testing", "time", "unicode")
GO_ASSERT = "github.com/stretchr/testify/assert"


def _without_unused(code: str, tests: str, language: str) -> str:
    for line, use in OPTIONAL.get(language, {}).items():
        rest = code.replace(line, "") + tests
        if line in code and not re.search(use, rest):
            code = code.replace(line + "\n", "")
    return code


def _go_file(code: str, like: str) -> str:
    """A Go file of declarations: package line, the imports that `like` uses, `code` without its own."""
    bare = re.sub(r"//[^\n]*", "", like)
    names = [name for name in GO_PACKAGES if re.search(rf"(?<![\w.]){name.split('/')[-1]}\.", bare)]
    names += [GO_ASSERT] * bool(re.search(r"\bassert\.New\(", bare))
    imports = "".join(f'import "{name}"\n' for name in names)
    code = re.sub(r"(?m)^(package \w+|import (\([^)]*\)|\"[^\"]*\"))\n", "", code)
    return f"package main\n\n{imports}\n{code.strip()}\n"


def assemble(row: dict, solution: str, tests: str = "test") -> tuple[str, str]:
    """(program, tests) of a row with one of its solutions; tests: "test" or "example_test". Raises KeyError."""
    language = _language(row)
    program, test = row["prompt"] + row[solution], row[tests]
    if language == "go":
        fixed = row["prompt"] + row["canonical_solution"]
        return _go_file(program, fixed), _go_file(test, test)
    return _without_unused(program, test, language), test


def _language(row: dict) -> str:
    name = str(row["task_id"]).split("/")[0]
    if name not in NAMES:
        raise InstanceError(f"field task_id is {row['task_id']!r:.60}; expected <language>/<number>, the language one "
                            f"of {', '.join(NAMES)}")
    return NAMES[name]


def from_humanevalpack(row: dict, split: str, tests: str = "test") -> Instance:
    """A row as an instance; what it fails and passes is known once it has been run. Raises KeyError, ValueError."""
    wanted = ("task_id", "prompt", "buggy_solution", "canonical_solution", "entry_point", "instruction", tests)
    for field in wanted:
        if not isinstance(row[field], str) or not row[field]:
            raise InstanceError(f"field {field} is {row[field]!r:.60}; expected a string that is not empty")
    language = _language(row)
    program, test = assemble(row, "buggy_solution", tests)
    fixed, _ = assemble(row, "canonical_solution", tests)
    if program == fixed:
        raise InstanceError("buggy_solution and canonical_solution are the same; expected a bug")
    return Instance(
        instance_id=f"humanevalpack-{row['task_id'].replace('/', '-').lower()}", repo="bigcode/humanevalpack",
        version="", problem_statement=f"Fix the bug in `{row['entry_point']}`.\n\n"
        f"{row['instruction'].strip()}\n", patch=diffs.make(program, fixed, FILES[language]), test_patch="",
        FAIL_TO_PASS=(), PASS_TO_PASS=(), language=language, domain=classify(program),
        complexity=complexity(program, fixed, language, 0), tool_plan=(), file=FILES[language],
        function=row["entry_point"], program=program, fixed=fixed, tests=test, kinds=(), source="human", split=split)
