"""Many candidates of one program in one compilation: what makes hundreds of executions affordable outside Python.

A start of a compiler or a virtual machine costs 0.1 to 1.5 CPU-seconds, a test of such a program a millisecond. So a
batch is one file: in C++ each candidate with its tests is in a namespace and in Rust in a module, run in a process
of its own, as in Go in a package; in Java it is in a package and in JavaScript in a context of its own, in one virtual
machine. What does not compile is dropped, what loops or crashes is cut off, and the others do not notice
(batch_worker.py, in the jail).

Unusual: a batch of k costs k executions, and a verdict does not depend on who else is in the batch. Virtual machines
share a heap among candidates that mean no harm: a patch is final only after `toolchains.run_tests`, which starts
afresh. Tests of JavaScript are synchronous, a test of C++ fails by assertion or signal and not by what `main` returns.
"""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from . import jail
from .batch_runners import GO_FILES, GO_MAIN, JAVA, NODE
from .jail import Limits
from .languages import functions
from .sandbox import Result, run_command
from .toolchains import CRATES, LIMITS, available, environment, folders, source

WORKER = Path(__file__).with_name("batch_worker.py")
JVM = ["-Xss8m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-XX:-UsePerfData"]
COMPILERS = {
    "cpp": ["g++", "-std=c++17", "-w", "-fmax-errors=0", "-fdiagnostics-plain-output"],
    "rust": ["rustc", "--edition", "2021", "-A", "warnings", "--test", "--error-format=short", "-C", "debuginfo=0"],
    "go": ["go", "build"], "java": ["java", "-Xmx768m", *JVM, "Batch.java", "compile"], "javascript": []}
RUNNERS = {"java": ["java", "-Xmx256m", *JVM, "-cp", "out", "Batch", "run"],
           "javascript": ["node", "--max-old-space-size=256", "batch.js"]}
LINES = re.compile(r"^[ \t]*(?:#.*|using namespace [\w:]+;)[ \t]*\n?", re.MULTILINE)  # of C++, for a whole file


def bodies(language: str, programs: Sequence[str], tests: str) -> tuple[str, list[str]]:
    """(what a file begins with, what stands for each program in it)."""
    if language == "cpp":
        checks = LINES.sub("\n", tests)
        for function in functions(checks, "cpp"):
            if function.name == "main":  # only the one of the whole file returns by itself
                checks = f"{checks[:function.end - 1]} return 0; {checks[function.end - 1:]}"
        head = dict.fromkeys(line.strip() for text in (*programs, tests) for line in LINES.findall(text))
        return ("\n".join([*head, "#include <stdlib.h>", "#include <unistd.h>"]),
                [LINES.sub("\n", program) + "\n" + checks for program in programs])
    if language == "rust":
        return "", [CRATES.sub("", program) + "\n" + tests for program in programs]
    if language == "go":  # the tests are a file of their own
        return GO_MAIN, list(programs)
    if language == "java":
        return "", [f"package c{n}x;\n{program}\n{tests}" for n, program in enumerate(programs)]
    return "", [source(language, program, tests) for program in programs]


def run_batch(language: str, programs: Sequence[str], tests: str,
              limits: Limits = Limits(cpu_seconds=1, wall_seconds=10)) -> list[Result]:  # noqa: B008 (frozen)
    """The results of the programs, in their order, as `toolchains.run_tests` would give them one by one.

    The limits are of one candidate: CPU and wall seconds, and memory where it has a process of its own. Raises
    ValueError: unknown language; RuntimeError: the batch as a whole came to no end.
    """
    if language not in available():
        raise ValueError(f"language: got {language!r}, expected one of {', '.join(available())}")
    if not available()[language]:
        return [Result("unparsed", "no toolchain", {"main": "no toolchain"}, jail=jail.strongest(),
                       output=f"{language}: no toolchain on this machine")] * len(programs)
    if not programs:
        return []
    head, texts = bodies(language, programs, tests)
    spec = {"language": language, "head": head, "tests": tests, "bodies": dict(enumerate(texts)),
            "compiler": COMPILERS[language],
            "runner": RUNNERS.get(language), "file": "c{}x/Main.java" if language == "java" else "c{}.js",
            "limits": {name: getattr(limits, name) for name in ("cpu_seconds", "wall_seconds", "memory_mb")}}
    files = {"spec.json": json.dumps(spec), "batch.js": NODE, "Batch.java": JAVA, **GO_FILES}
    whole = replace(LIMITS, cpu_seconds=120 + len(programs) * (limits.cpu_seconds + 1), file_mb=256, processes=96,
                    wall_seconds=600 + len(programs) * limits.wall_seconds, output_bytes=1 << 22)
    done = run_command([sys.executable, "-I", "-S", str(WORKER)], files, whole, env=environment(language),
                       readable=(*folders(language), str(WORKER.parent)))
    if done.outcome != "passed":
        raise RuntimeError(f"batch of {len(programs)} in {language}: {done.outcome}: {done.output[-300:]}; expected "
                           "the worker to come to its end")
    found = json.loads(done.output)
    return [result(*found[str(number)], done.jail) for number in range(len(programs))]


def result(outcome: str, seconds: float, message: str, kind: str) -> Result:
    tier = {"passed": "all", "error": "parses"}.get(outcome, "runs")
    return Result(tier, "failed" if outcome == "error" else outcome, {"main": outcome}, seconds, message, kind)
