"""A problem statement out of what the failing tests really printed, without the repair in it.

Unusual: a traceback quotes source lines, and where a bug was put into a live function they are read from the file,
which holds the repaired text. So lines that only the repaired text has are dropped from the output, and `leaks` says
whether a statement still holds one.
"""

import re
from collections.abc import Sequence

LIMIT = 1500  # characters of output in a statement
NAMED = 10  # failing tests that are named
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}")
FOLDER = re.compile(r"(?<![\w./<])(?:/[\w.+@~-]+)+/(?=(?:[\w.+@-]+/){0,3}[\w.+@-]+\.\w+)")
SHORT = 8  # a line of fewer characters ("else:", "i += 1") gives nothing away inside another one
QUOTED = re.compile(r"^(?:[>E]\s|[>E]$)?\s*")


def _secret_lines(program: str, fixed: str) -> set[str]:
    """Lines that the repaired text has and the buggy one has not, stripped."""
    old, new = ({line.strip() for line in text.splitlines()} for text in (program, fixed))
    return {line for line in new - old if line}


def _gives_away(line: str, secrets: set[str]) -> bool:
    bare = QUOTED.sub("", line).strip()
    return bare in secrets or any(len(secret) >= SHORT and secret in bare for secret in secrets)


def leaks(statement: str, program: str, fixed: str) -> bool:
    """Whether a line of the repaired text that the buggy one lacks stands in the statement."""
    secrets = _secret_lines(program, fixed)
    return any(_gives_away(line, secrets) for line in statement.splitlines())


def clean(output: str, roots: Sequence[str] = ()) -> str:
    """Output of a test without colours, addresses and folders of this machine. roots: folders to cut from paths."""
    text = ANSI.sub("", output).replace("\r\n", "\n")
    for folder in sorted(map(str, roots), key=len, reverse=True):
        text = text.replace(folder.rstrip("/") + "/", "")
    return ADDRESS.sub("0x...", FOLDER.sub("", text)).strip("\n")


def cut(text: str, limit: int = LIMIT) -> str:
    """The first third and the last two thirds of `limit` characters: tracebacks end with what matters."""
    if len(text) <= limit:
        return text
    return f"{text[:limit // 3]}\n[... {len(text) - limit} characters cut ...]\n{text[-(limit - limit // 3):]}"


def problem_statement(where: str, failures: Sequence[tuple[str, str]], program: str = "", fixed: str = "",
                      roots: Sequence[str] = ()) -> str:
    """Statement of a bug from its failing tests.

    where: what is broken, such as "`slugify` in `boltons/strutils.py`"; failures: (test id, its output), the first
    one is shown; program, fixed: both texts, so that the repair can be kept out; roots: folders to cut from paths.
    Raises ValueError without a failure.
    """
    if not failures:
        raise ValueError(f"problem_statement of {where}: no failing test; expected at least one")
    secrets = _secret_lines(program, fixed)
    test, output = failures[0]
    shown = "\n".join(line for line in clean(output, roots).split("\n") if not _gives_away(line, secrets))
    count = "One test fails" if len(failures) == 1 else f"{len(failures)} tests fail"
    lines = [f"{where} does not do what its tests expect. {count}; `{test}` says:", "", "```", cut(shown), "```"]
    if others := [f"`{name}`" for name, _ in failures[1:1 + NAMED]]:
        more = len(failures) - 1 - len(others)
        lines += ["", "Also failing: " + ", ".join(others) + (f" and {more} more." if more else ".")]
    return "\n".join(lines) + "\n"
