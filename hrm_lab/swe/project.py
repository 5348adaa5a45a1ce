"""Where a user's program and its tests are, what pytest would see of them, and a copy of it all to work on.

Unusual: what belongs to a project is found as pytest finds it, from its configuration files upwards; of a large project
only the files nearest to the program and its tests are copied, and a sentence says so.
"""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MARKS = ("pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg", "conftest.py", ".git")
SKIPPED = {"__pycache__", ".git", ".hg", ".tox", ".nox", ".venv", "venv", "node_modules", ".pytest_cache",
           ".mypy_cache", ".ruff_cache", ".ipynb_checkpoints"}
MOST_FILES, MOST_BYTES = 3000, 100 << 20  # of a project that are copied, the nearest to PROGRAM and TESTS first


@dataclass(frozen=True)
class Project:
    """Where a program and its tests are: both lie below `root`."""

    root: Path
    program: Path
    tests: Path

    @classmethod
    def of(cls, program: Path | str, tests: Path | str) -> "Project":
        """Raises ValueError: a path that does not exist, a program that is no file."""
        program, tests = Path(program), Path(tests)
        if not program.is_file():
            raise ValueError(f"PROGRAM: {program} is {'a folder' if program.is_dir() else 'not there'}; expected a "
                             "Python file")
        if not tests.exists():
            raise ValueError(f"--tests: {tests} is not there; expected a pytest file or a folder of them")
        program, tests = program.resolve(), tests.resolve()
        if program == tests:
            raise ValueError(f"--tests: {tests} is PROGRAM itself; expected tests that import it")
        root = Path(os.path.commonpath([program.parent, tests if tests.is_dir() else tests.parent]))
        while (root / "__init__.py").exists():
            root = root.parent
        above = named_above(program, tests)
        root = above if above in root.parents else root
        marked = (folder for folder in (root, *root.parents) if any((folder / mark).exists() for mark in MARKS))
        found, home = next(marked, root), Path.home()
        return cls(root if found in (home, *home.parents) else found, program, tests)

    def path_in(self, copy: str, path: Path) -> str:
        return os.path.join(copy, path.relative_to(self.root))

    def import_root(self, copy: str) -> str:
        """The folder from which the program is imported by its full name."""
        folder = self.program.parent
        while (folder / "__init__.py").exists() and folder != self.root:
            folder = folder.parent
        return self.path_in(copy, folder)

    def options(self) -> list[str]:
        """pytest's options: of the project's `addopts` only the way to import is kept."""
        said = "".join((self.root / mark).read_text(errors="replace") for mark in MARKS[:4]
                       if (self.root / mark).is_file())
        mode = re.search(r"--import-mode[= ]\w+", said)
        return ["-o", f"addopts={mode[0].replace(' ', '=') if mode else ''}"]

    def orders(self, copy: str, mode: str, program: str) -> dict:
        return {"mode": mode, "root": copy, "program": program, "path": [self.import_root(copy), copy],
                "programs": [self.path_in(copy, self.program), str(self.program)],
                "tests": [self.path_in(copy, self.tests)],
                "options": [f"--rootdir={copy}", f"--confcutdir={copy}", *self.options()]}

    def copy(self, folder: str) -> str:
        """Copy the project into `folder`; a sentence on what was left out, or ""."""
        spent, files, bytes_ = set(), 0, 0
        near = [self.program, *below(self.tests), *below(self.program.parent)]
        for path in (path for paths in (near, below(self.root)) for path in paths):
            if path in spent or not path.is_file():
                continue
            spent.add(path)
            size = path.stat().st_size
            files, bytes_ = files + 1, bytes_ + size
            if files > MOST_FILES or bytes_ > MOST_BYTES:
                return (f"{self.root} is large: only {files - 1} files, those nearest to PROGRAM and TESTS first, "
                        "are seen by the tests")
            target = self.path_in(folder, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(path, target)
            shutil.copymode(path, target)
        return ""


def named_above(program: Path, tests: Path) -> Path:
    """The folder from which tests import the program by a name with dots, as far up as one does."""
    stem, found = re.escape(program.stem), program.parent
    forms = [rf"^\s*(?:from|import)\s+([\w.]+)\.{stem}\b", rf"^\s*from\s+([\w.]+)\s+import\s.*\b{stem}\b"]
    for path in (path for path in below(tests) if path.suffix == ".py"):
        text = path.read_text(errors="replace")
        for name in (name for form in forms for name in re.findall(form, text, re.MULTILINE)):
            parts = tuple(name.split("."))
            if program.parent.parts[-len(parts):] == parts and len(parts) < len(program.parts) - 1:
                found = min(found, program.parents[len(parts)], key=lambda folder: len(folder.parts))
    return found


def below(folder: Path) -> Iterator[Path]:
    """The files below a folder, the upper ones first; caches and environments left out."""
    if folder.is_file():
        yield folder
        return
    level = [folder]
    while level:
        lower = []
        for parent in level:
            try:
                entries = sorted(os.scandir(parent), key=lambda entry: entry.name)
            except OSError:  # closed to us, as it would be to pytest
                continue
            lower += [Path(entry) for entry in entries if entry.is_dir(follow_symlinks=False)
                      and entry.name not in SKIPPED and not os.path.exists(os.path.join(entry, "pyvenv.cfg"))]
            yield from (Path(entry) for entry in entries if not entry.is_dir(follow_symlinks=False))
        level = lower
