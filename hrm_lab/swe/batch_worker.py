"""The process inside the jail that compiles many candidates at once and runs each by itself; batches.py starts it.

A script of the standard library alone: `python -I -S FILE`, in a folder that holds `spec.json`. It prints one JSON
object: id -> [outcome, CPU seconds, message]. Unusual: what does not compile is found by the lines that the compiler
names, dropped, and the rest compiled again; if it names none, the batch is halved.
"""

import json
import os
import re
import resource
import secrets
import signal
import subprocess
import sys

ERRORS = {"cpp": re.compile(r"^main\d+\.cpp:(\d+):\d+:\s+(?:error|fatal error|required from)\b.*", re.MULTILINE),
          "rust": re.compile(r"^main\d+\.rs:(\d+):\d+: error\b.*", re.MULTILINE),
          "java": re.compile(r"^c(\d+)x \d+ .*", re.MULTILINE),
          "go": re.compile(r"^c(\d+)x/\w+\.go:\d+.*", re.MULTILINE)}
SUFFIX = {"cpp": ".cpp", "rust": ".rs", "go": ""}  # a binary of Go is made from a folder
PACKAGE = re.compile(r"^package \w+", re.MULTILINE)
GO_TESTS = re.compile(r"^func (Test\w*)\(\w+ \*testing\.T\)", re.MULTILINE)
GO_LATE = 240  # the code of a Go candidate that took too long
ROUNDS = 12  # compilations of one batch before it is halved all the same
RAN = re.compile(rb"test result: ok\. [1-9]\d* passed; 0 failed")


def run(argv: list[str], stdin: str = "", limits: dict | None = None) -> tuple[int, bytes, bytes, float]:
    """(return code, stdout, stderr, CPU seconds) of a command; with limits those of a candidate apply to it."""
    def bound():
        signal.setitimer(signal.ITIMER_PROF, limits["cpu_seconds"])  # survives exec; its signal ends the process
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        ceiling = resource.getrlimit(resource.RLIMIT_DATA)[1]
        memory = min(limits["memory_mb"] << 20, ceiling if ceiling != resource.RLIM_INFINITY else 1 << 62)
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open("stdout", "w+b") as out, open("stderr", "w+b") as err:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=out, stderr=err, start_new_session=True,
                                   preexec_fn=bound if limits else None)
        try:
            process.communicate(stdin.encode(), timeout=limits["wall_seconds"] if limits else None)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        out.seek(0)
        err.seek(0)
        texts = out.read(1 << 20), err.read(1 << 20)
    return process.returncode, *texts, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


# ---------------------------------------------------------------- compiled together


class Batch:
    """Candidates of a language with a compiler, and what became of those that are settled."""

    def __init__(self, spec: dict):
        self.spec, self.language, self.found, self.binaries = spec, spec["language"], {}, []
        self.bodies = {int(number): body for number, body in spec["bodies"].items()}

    def write(self, numbers: list[int], name: str) -> list[int]:
        """The source of some candidates; the first line of each."""
        lines, firsts = self.spec["head"].split("\n"), []
        for number in numbers:
            firsts.append(len(lines) + 1)
            opening = "mod" if self.language == "rust" else "namespace"
            lines += [f"{opening} c{number}x {{", *self.bodies[number].split("\n"), "}"]
        if self.language == "cpp":
            cases = "".join(f"case {n}: c{n}x::main(); break;" for n in numbers)
            lines.append("int main(int n, char** v) { switch (atoi(v[1])) { " + cases + " } _exit(atoi(v[2])); }")
        with open(name, "w", encoding="utf-8", newline="") as file:
            file.write("\n".join(lines) + "\n")
        return firsts

    def write_go(self, numbers: list[int], folder: str):
        """Each candidate as a package with its tests, and the program that imports them."""
        tests = GO_TESTS.findall(self.spec["tests"])
        for number in numbers:
            os.makedirs(f"c{number}x", exist_ok=True)
            for name, text in (("main", self.bodies[number]), ("tests", self.spec["tests"])):
                with open(f"c{number}x/{name}.go", "w", encoding="utf-8", newline="") as file:
                    file.write(PACKAGE.sub(f"package c{number}x", text, count=1))
        imports = [*(f"batch/c{number}x" for number in numbers), "os", "runtime/debug", "strconv", "syscall", "testing",
                   "time"]
        lines = ["package main", "", *(f'import "{name}"' for name in imports), "",
                 "var all = map[int][]testing.InternalTest{"]
        lines += [f"{n}: {{" + ", ".join(f'{{"{one}", c{n}x.{one}}}' for one in tests) + "}," for n in numbers]
        os.makedirs(folder, exist_ok=True)
        with open(f"{folder}/main.go", "w", encoding="utf-8") as file:
            file.write("\n".join([*lines, "}", self.spec["head"]]))

    def blame(self, text: str, numbers: list[int], firsts: list[int]) -> dict[int, str]:
        """Which candidates a compiler complains about, and its first word on each."""
        bad = {}
        for match in ERRORS[self.language].finditer(text):
            at = int(match[1]) if self.language == "go" else sum(first <= int(match[1]) for first in firsts) - 1
            if at >= 0:
                bad.setdefault(at if self.language == "go" else numbers[at], match[0].partition(" ")[2])
        return bad

    def compile(self, numbers: list[int]):
        """Fills `binaries` with (file, numbers), and `found` with what does not compile."""
        for _ in range(ROUNDS):
            if not numbers:
                return
            k = len(self.binaries)
            name = f"./main{k}{SUFFIX[self.language]}"
            firsts = (self.write_go if self.language == "go" else self.write)(numbers, name)
            code, _, err, seconds = run([*self.spec["compiler"], "-o", f"run{k}", name])
            if code == 0:
                self.binaries.append((f"./run{k}", numbers))
                return
            text = err.decode("utf-8", "replace")
            bad = self.blame(text, numbers, firsts)
            if len(numbers) == 1:
                bad = {numbers[0]: bad.get(numbers[0], text[-300:])}
            for number, message in bad.items():
                self.found[number] = ["error", seconds / len(numbers), message[:200]]
            numbers = [number for number in numbers if number not in bad]
            if not bad:
                break
        for half in (numbers[::2], numbers[1::2]):
            self.compile(half)

    def execute(self):
        for binary, numbers in self.binaries:
            for number in numbers:
                right = 20 + secrets.randbelow(200)  # so that a candidate that exits has not passed
                last = [f"c{number}x::", "-q", "--test-threads=1"] if self.language == "rust" else [
                    str(number), str(right), str(GO_LATE), str(int(1000 * self.spec["limits"]["cpu_seconds"]))]
                code, out, err, seconds = run([binary, *last], limits=self.spec["limits"])
                good = code == 0 and RAN.search(out) if self.language == "rust" else code == right
                message = (out if self.language == "rust" else err).decode("utf-8", "replace")
                self.found[number] = ["passed" if good else ended(code, self.language), seconds, message[:300]]


def ended(code: int, language: str) -> str:
    """What the return code of a candidate that did not pass means."""
    if code == -signal.SIGPROF or language == "go" and code == GO_LATE:
        return "cpu"
    if code == -signal.SIGABRT or language == "rust" and code == 101 or language == "go" and code in (1, 2):
        return "failed"  # an assertion
    return "killed" if code < 0 else "exited"


# ---------------------------------------------------------------- one after the other in one virtual machine


def serve(spec: dict, numbers: list[int]) -> dict:
    """Candidates by a runner that prints "NONCE NUMBER" when it begins one and "NONCE NUMBER OUTCOME SECONDS MESSAGE"
    when it ends; one in which the runner dies is settled by that, and the next has a fresh runner."""
    found, limits = {}, dict(spec["limits"])
    cpu, wall = limits["cpu_seconds"], limits["wall_seconds"]
    limits |= {"wall_seconds": wall * (2 + len(numbers)), "cpu_seconds": (cpu + 1) * (2 + len(numbers)),
               "memory_mb": 1 << 20}  # the runner's own limits are per candidate; it bounds its heap
    while numbers:
        nonce = secrets.token_hex(8)
        orders = f"{nonce} {cpu} {wall}\n" + "".join(f"{number}\n" for number in numbers)
        code, out, _, seconds = run(spec["runner"], orders, limits)
        begun = None
        for line in out.decode("utf-8", "replace").split("\n"):
            bearer, number, outcome, used, message = (*line.split(" ", 4), "", "", "", "")[:5]
            if bearer == nonce:
                begun = int(number)
                if outcome:
                    found[begun], begun = [outcome, float(used), message], None
        if begun is not None:
            found[begun] = ["killed" if code < 0 or code == 134 else "exited", seconds, f"the runner ended with {code}"]
        elif numbers[0] not in found:
            found[numbers[0]] = ["killed", seconds, f"the runner ended with {code}"]
        numbers = [number for number in numbers if number not in found]
    return found


def main():
    with open("spec.json", encoding="utf-8") as file:
        spec = json.load(file)
    if spec["language"] in SUFFIX:
        batch = Batch(spec)
        batch.compile(list(batch.bodies))
        batch.execute()
        found = batch.found
    else:
        found, numbers = {}, [int(number) for number in spec["bodies"]]
        for number in numbers:
            path = spec["file"].format(number)
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            with open(path, "w", encoding="utf-8", newline="") as file:
                file.write(spec["bodies"][str(number)])
        if spec["compiler"]:
            os.makedirs("out")
            code, out, err, seconds = run(spec["compiler"], "".join(f"{number}\n" for number in numbers))
            if code:
                sys.exit(f"compiler: {code}: {err[-500:].decode(errors='replace')}")
            for match in ERRORS["java"].finditer(out.decode("utf-8", "replace")):
                found[int(match[1])] = ["error", seconds / len(numbers), match[0].partition(" ")[2][:200]]
        found |= serve(spec, [number for number in numbers if number not in found])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
