"""Patches: exact to the last newline, turned round and back, refused where the text is not the expected one."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrm_lab.swe import diffs
from hrm_lab.swe.diffs import PatchError

LINES = st.sampled_from(["a", "b", "--- a/x", "+++ b/x", "@@ -1 +1 @@", "", " ", "\x0c", "c\r", "é", "\\ No newline"])
ENDS = st.sampled_from(["", "\n", "\n\n"])
TEXTS = st.builds(lambda lines, end: "\n".join(lines) + end, st.lists(LINES, max_size=30), ENDS)
OLD = "def f(x):\n    return x + 1\n"
NEW = "def f(x):\n    return x - 1\n"


@given(TEXTS, TEXTS)
def test_apply_gives_the_new_text_and_the_reverse_gives_the_old(old, new):
    if old == new:
        assert diffs.make(old, new, "f.py") == ""
        return
    patch = diffs.make(old, new, "f.py")
    assert diffs.apply(patch, old) == new
    assert diffs.apply(diffs.reverse(patch), new) == old
    assert diffs.reverse(diffs.reverse(patch)) == patch


@given(TEXTS)
def test_lines_put_together_are_the_text(text):
    assert "".join(diffs.split_lines(text)) == text


def test_git_agrees(tmp_path):
    (tmp_path / "f.py").write_text(OLD)
    command = ["git", "-C", tmp_path, "apply", "-"]
    subprocess.run(command, input=diffs.make(OLD, NEW.rstrip("\n"), "f.py"), text=True, check=True)
    assert (tmp_path / "f.py").read_text() == NEW.rstrip("\n")


def test_a_git_patch_of_several_files_turns_round():
    patch = ("diff --git a/new.py b/new.py\nnew file mode 100644\nindex 000..abc\n--- /dev/null\n+++ b/new.py\n"
             "@@ -0,0 +1,2 @@\n+x\n+y\ndiff --git a/f.py b/f.py\nindex 1..2 100644\n" + diffs.make(OLD, NEW, "f.py"))
    new, changed = diffs.parse(patch)
    assert (new.path, changed.path) == ("new.py", "f.py") and diffs.apply_file(new, "") == "x\ny\n"
    gone, back = diffs.parse(diffs.reverse(patch))
    assert "deleted file mode 100644" in gone.head and gone.new == "/dev/null" and gone.path == "new.py"
    assert diffs.apply_file(gone, "x\ny\n") == "" and diffs.apply_file(back, NEW) == OLD
    with pytest.raises(PatchError, match="changes 2 files"):
        diffs.apply(patch, OLD)


def test_stripped_context_is_taken_as_empty_lines():
    patch = diffs.make("a\n\nb\n", "a\n\nc\n", "f")
    assert diffs.apply(patch.replace("\n \n", "\n\n"), "a\n\nb\n") == "a\n\nc\n"


@pytest.mark.parametrize("patch, text, message", [
    (diffs.make(OLD, NEW, "f.py"), OLD.replace("x + 1", "x + 2"), r"f.py:2: .*x \+ 2.*the patch expected .*x \+ 1"),
    (diffs.make(OLD, NEW, "f.py"), OLD.rstrip("\n"), "f.py:2"),
    (diffs.make(OLD, NEW, "f.py"), "", "f.py:1: ''"),
    (diffs.make(OLD, NEW, "f.py").replace("@@ -1", "@@ -9"), OLD, "inside the file"),
    ("no patch", OLD, "no file in it"),
    ("--- a/f\n+++ b/f\n", OLD, "no hunk for b/f"),
    ("--- a/f\n+++ b/f\n@@ one @@\n", OLD, "line 3: '@@ one @@'"),
    ("--- a/f\n+++ b/f\n@@ -1,2 +1 @@\n-a\n", OLD, "expected 1 more old"),
    ("--- a/f\n+++ b/f\n@@ -1 +1,2 @@\n-a\n-b\n", OLD, "no more such lines"),
    ("@@ -1 +1 @@\n-a\n+b\n", OLD, "expected --- and"),
    ("diff --git a/f b/f\nGIT binary patch\n", OLD, "expected text")])
def test_a_patch_that_does_not_fit_names_the_line(patch, text, message):
    with pytest.raises(PatchError, match=message):
        diffs.apply(patch, text)
