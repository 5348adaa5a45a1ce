"""Unified diffs: make, parse, apply exactly, turn round.

Unusual: a hunk applies at its own line number and only where every context line is the same, or not at all: no fuzz,
no offset, because a patch that lands elsewhere makes another bug. Lines end at "\\n" and nowhere else (a form feed or
a lone "\\r" is text), and a missing newline at the end of a file is kept. SWE-bench's `patch` repairs and SWE-smith's
makes the bug, so `reverse` is what stands between the two.
"""

import difflib
import re
from dataclasses import dataclass

NO_NEWLINE = "\\ No newline at end of file"
HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@(.*)")
SWAPPED = {"new file mode": "deleted file mode", "rename from": "rename to", "copy from": "copy to",
           "old mode": "new mode"}
SWAPPED |= {new: old for old, new in SWAPPED.items()}


class PatchError(ValueError):
    """A patch that cannot be read or does not apply; one line."""


def _bare(name: str) -> str:
    return name[2:] if name[:2] in ("a/", "b/") else name


@dataclass(frozen=True)
class Hunk:
    old_start: int  # first line, from 1; for an empty side the line before it, as in the format
    new_start: int
    lines: tuple[str, ...]  # each " ", "-" or "+", the text, and "\n" unless it is a last line without one
    section: str = ""  # what stands after the second @@


@dataclass(frozen=True)
class FilePatch:
    """What happens to one file; `old` or `new` is "/dev/null" for a file made or deleted."""

    old: str
    new: str
    hunks: tuple[Hunk, ...]
    head: tuple[str, ...] = ()  # git's lines before "---"

    @property
    def path(self) -> str:
        """Path relative to the root of the repository, without git's a/ and b/; of a deleted file the old one."""
        return _bare(self.old if self.new == "/dev/null" else self.new)

    @property
    def origin(self) -> str:
        """Path before the patch (another one if it renames), or "" if it makes the file."""
        return "" if self.old == "/dev/null" else _bare(self.old)


def split_lines(text: str) -> list[str]:
    """Lines with their "\\n"; unlike `str.splitlines` at no other character."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def make(old: str, new: str, path: str) -> str:
    """Unified diff from `old` to `new`, the texts of `path`, with three lines of context; "" if they are equal."""
    body = list(difflib.unified_diff(split_lines(old), split_lines(new), f"a/{path}", f"b/{path}"))
    return "".join(line if line.endswith("\n") else f"{line}\n{NO_NEWLINE}\n" for line in body)


def _count(text: str | None) -> int:
    return 1 if text is None else int(text)


def _hunk(lines: list[str], at: int) -> tuple[Hunk, int]:
    """The hunk whose "@@" line is `lines[at]`, and the index after it."""
    match = HUNK.fullmatch(lines[at])
    if not match:
        raise PatchError(f"patch line {at + 1}: {lines[at][:60]!r}; expected @@ -line,count +line,count @@")
    old_left, new_left, start, found = _count(match[2]), _count(match[4]), at, []
    at += 1
    while old_left or new_left:
        line = lines[at] if at < len(lines) else None
        if line == "" and at < len(lines) - 1:
            line = " "  # an empty context line whose blank was stripped on the way, as patch(1) takes it
        if line is None or line[:1] not in (" ", "-", "+"):
            raise PatchError(f"patch line {at + 1}: {(line or 'end')[:60]!r}; expected {old_left} more old and "
                             f"{new_left} more new lines of the hunk in line {start + 1}")
        old_left, new_left = old_left - (line[0] != "+"), new_left - (line[0] != "-")
        if min(old_left, new_left) < 0:
            raise PatchError(f"patch line {at + 1}: {line[:60]!r}; expected no more such lines in the hunk of line "
                             f"{start + 1}")
        at += 1
        ends = at < len(lines) and lines[at].startswith("\\ ")
        found.append(line if ends else line + "\n")
        at += ends
    return Hunk(int(match[1]), int(match[3]), tuple(found), match[5]), at


def _name(line: str) -> str:
    return line[4:].split("\t")[0].rstrip("\r")


def parse(patch: str) -> list[FilePatch]:
    """The files of a unified diff (plain or git's). Raises `PatchError` naming the line of the patch."""
    lines, files, head, at = patch.split("\n"), [], [], 0
    while at < len(lines):
        line = lines[at]
        if line.startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ "):
            old, new, hunks = _name(line), _name(lines[at + 1]), []
            at += 2
            while at < len(lines) and lines[at].startswith("@@"):
                hunk, at = _hunk(lines, at)
                hunks.append(hunk)
            if not hunks:
                raise PatchError(f"patch line {at + 1}: no hunk for {new}; expected @@ -line,count +line,count @@")
            files.append(FilePatch(old, new, tuple(hunks), tuple(head)))
            head = []
        elif line.startswith(("GIT binary patch", "Binary files ")):
            raise PatchError(f"patch line {at + 1}: {line[:60]!r}; expected text")
        elif line.startswith(("@@ ", "+++ ")):
            raise PatchError(f"patch line {at + 1}: {line[:60]!r}; expected --- and +++ lines before it")
        else:
            head = [line] if line.startswith("diff --git ") else head + [line] * bool(head and line)
            at += 1
    if not files:
        raise PatchError("patch: no file in it; expected a unified diff with --- and +++ lines")
    return files


def _render(file: FilePatch) -> str:
    parts = [*file.head, f"--- {file.old}", f"+++ {file.new}"]
    for hunk in file.hunks:
        old, new = (sum(line[0] != sign for line in hunk.lines) for sign in "+-")
        sides = ((hunk.old_start, old), (hunk.new_start, new))
        spans = [f"{start}" if n == 1 else f"{start},{n}" for start, n in sides]
        parts.append(f"@@ -{spans[0]} +{spans[1]} @@{hunk.section}")
        for line in hunk.lines:
            parts += [line[:-1]] if line.endswith("\n") else [line, NO_NEWLINE]
    return "\n".join(parts) + "\n"


def _turned(hunk: Hunk) -> Hunk:
    lines, removed, added = [], [], []
    for line in (*hunk.lines, " "):  # the last one only flushes
        if line[0] == " ":
            lines += removed + added + [line]
            removed, added = [], []
        else:
            side, sign = (added, "+") if line[0] == "-" else (removed, "-")
            side.append(sign + line[1:])
    return Hunk(hunk.new_start, hunk.old_start, tuple(lines[:-1]), hunk.section)


def _side(name: str, prefix: str) -> str:
    return prefix + name[2:] if name[:2] in ("a/", "b/") else name


def _turned_head(line: str) -> str:
    if match := re.fullmatch(r"diff --git a/(.*) b/(.*)", line):
        return f"diff --git a/{match[2]} b/{match[1]}"
    if match := re.fullmatch(r"index (\w+)\.\.(\w+)(.*)", line):
        return f"index {match[2]}..{match[1]}{match[3]}"
    for old, new in SWAPPED.items():
        if line.startswith(old + " "):
            return new + line[len(old):]
    return line


def reverse(patch: str) -> str:
    """The patch that undoes `patch`. Raises `PatchError`."""
    return "".join(
        _render(FilePatch(_side(file.new, "a/"), _side(file.old, "b/"), tuple(map(_turned, file.hunks)),
                          tuple(map(_turned_head, file.head))))
        for file in parse(patch))


def apply_file(file: FilePatch, text: str) -> str:
    """`text` after the hunks of one file. Raises `PatchError` naming the file, the line and both texts."""
    lines, result, done = split_lines(text), [], 0
    for hunk in file.hunks:
        before = [line[1:] for line in hunk.lines if line[0] != "+"]
        start = hunk.old_start - 1 if before else hunk.old_start
        if start < done or start > len(lines):
            raise PatchError(f"{file.path}:{hunk.old_start}: hunk starts before line {done + 1} or after the last "
                             f"line {len(lines)}; expected hunks in order and inside the file")
        for i, expected in enumerate(before, start):
            if (seen := lines[i] if i < len(lines) else "") != expected:
                raise PatchError(f"{file.path}:{i + 1}: {seen[:60]!r}; the patch expected {expected[:60]!r}")
        result += lines[done:start] + [line[1:] for line in hunk.lines if line[0] != "-"]
        done = start + len(before)
    result += lines[done:]
    if any(not line.endswith("\n") for line in result[:-1]):
        raise PatchError(f"{file.path}: {NO_NEWLINE!r} before the last line; expected it at the end only")
    return "".join(result)


def apply(patch: str, text: str) -> str:
    """`text` after a patch of one file. Raises `PatchError`: unreadable, several files, or the context differs."""
    files = parse(patch)
    if len(files) != 1:
        raise PatchError(f"patch changes {len(files)} files ({', '.join(f.path for f in files)}); expected one")
    return apply_file(files[0], text)
