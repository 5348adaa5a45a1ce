"""Run HumanEvalPack-style rows of the other languages: program + tests, compiled and run in the jail.

A row is one test, "main": the languages' assertions end the program at the first that fails. Unusual: nothing is
installed or fetched for it, so that what a row may use is what the toolchain brings. HumanEvalPack's Rust header names
three crates that nearly no row uses; those lines are left out. Its Go tests use one type of the module testify: what
they use of it stands in batch_runners.py. Go below 1.20 brings its library compiled; others compile it each time.
"""

import glob
import os
import re
import shutil
import signal
import subprocess
from dataclasses import replace
from functools import lru_cache

from . import jail
from .batch_runners import GO_FILES
from .jail import Limits
from .sandbox import Result, run_command

COMPILE_FAILED = 125
# compilers and virtual machines reserve far more than they use, and take more of everything than a candidate may
LIMITS = Limits(cpu_seconds=60, wall_seconds=180, memory_mb=2048, address_mb=1 << 20, file_mb=64, processes=64,
                open_files=256)
CRATES = re.compile(r"^use (rand::Rng|regex::Regex|md5);\n", re.MULTILINE)
THROW = "console.assert = (holds, ...rest) => { if (!holds) throw new Error('Assertion failed ' + rest) };\n"
# language -> file, how its version is asked for, how it is compiled, how it is run
COMMANDS = {
    "javascript": ("main.js", "node --version", "node --check main.js", "node main.js"),
    "java": ("Main.java", "javac --version", "javac -J-Xmx512m -nowarn -d . Main.java",
             "java -Xmx256m -Xss8m -XX:+UseSerialGC Main"),
    "go": ("main.go", "go version", "go test -vet=off -c -o main .", "./main"),
    "cpp": ("main.cpp", "g++ --version", "g++ -std=c++17 -w -o main main.cpp", "./main"),
    "rust": ("main.rs", "rustc --version", "rustc --edition 2021 -A warnings --test -o main main.rs", "./main -q"),
}
ROOTS = {"rust": "rustc --print sysroot", "go": "go env GOROOT"}
ENVIRONMENT = {"go": {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOTOOLCHAIN": "local",
                      "TMPDIR": "."}}  # go takes no module in the folder for temporary files


@lru_cache
def available() -> dict[str, str | None]:
    """language -> first line that its toolchain says of itself; None if there is none, or none that can be used."""
    found: dict[str, str | None] = {}
    for language, (_, ask, _, _) in COMMANDS.items():
        found[language] = None
        if shutil.which(ask.split()[0]):
            done = subprocess.run(ask.split(), capture_output=True, text=True)
            found[language] = done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout else None
    return dict(sorted(found.items()))


@lru_cache
def folders(language: str) -> tuple[str, ...]:
    """What a toolchain reads outside the system's folders: rustup keeps Rust in the home, Debian Java's settings."""
    if language in ROOTS:
        root = subprocess.run(ROOTS[language].split(), capture_output=True, text=True, check=True).stdout
        return (root.strip(),)
    if language == "java":
        return tuple(sorted(glob.glob("/etc/java-*")))
    return ()


def environment(language: str) -> dict[str, str]:
    """What a toolchain needs of the environment in the jail."""
    path = [*(f"{folder}/bin" for folder in folders(language)), jail.PATH]
    return {"PATH": os.pathsep.join(path), **ENVIRONMENT.get(language, {})}


def source(language: str, program: str, tests: str) -> str:
    if language == "javascript":
        return THROW + program + "\n" + tests
    return (CRATES.sub("", program) if language == "rust" else program) + "\n" + tests


def run_tests(language: str, program: str, tests: str, limits: Limits = Limits(cpu_seconds=5)) -> Result:  # noqa: B008
    """Compile and run one program with its tests; the limit of CPU time is the running program's.

    Tiers: "parses" (does not compile), "runs", "all". Outcomes as for `sandbox.run_command`; "no toolchain" where
    `available` has none. Raises ValueError: unknown language.
    """
    if language not in available():
        raise ValueError(f"language: got {language!r}, expected one of {', '.join(available())}")
    if not available()[language]:
        return Result("unparsed", "no toolchain", {"main": "no toolchain"}, jail=jail.strongest(),
                      output=f"{language}: no toolchain on this machine")
    name, _, build, start = COMMANDS[language]
    files = GO_FILES | {name: program, "main_test.go": tests} if language == "go" else {
        name: source(language, program, tests)}
    script = f"{build} || exit {COMPILE_FAILED}\nulimit -t {int(limits.cpu_seconds) + 1}\nexec {start}\n"
    found = run_command(["sh", "-c", script], files, replace(LIMITS, output_bytes=limits.output_bytes),
                        readable=folders(language), env=environment(language))
    outcome = "failed" if found.code == -signal.SIGABRT else found.outcome  # how an assertion of C++ ends
    if found.code == COMPILE_FAILED:
        return replace(found, tier="parses", tests={"main": "error"})
    return replace(found, tier="all" if outcome == "passed" else "runs", outcome=outcome, tests={"main": outcome})
