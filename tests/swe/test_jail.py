"""The jail: what a command can see and use, that it ends as a whole, and that each kind says which it is."""

import os
import subprocess
import sys
import time

import pytest

from hrm_lab.swe import jail, jail_init
from hrm_lab.swe.jail import JailError, Limits, works

PYTHON = [sys.executable, "-I", "-S", "-c"]


def run(code, timeout=30, **arguments):
    process = jail.start([*PYTHON, code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **arguments)
    try:
        return process.communicate(timeout=timeout)[0].decode().strip(), process.returncode
    finally:
        jail.kill(process)


@pytest.fixture(params=jail.KINDS)
def kind(request):
    if not works(request.param):
        pytest.skip(f"jail {request.param} does not work here")
    return request.param


def test_the_strongest_works_and_is_the_first_that_does():
    assert jail.strongest() == next(kind for kind in jail.KINDS if works(kind))


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
def test_where_user_namespaces_are_forbidden_nothing_is_left_that_holds_the_output():
    """As in many containers: the helper that waits to map ids must end with whoever asked for it."""
    code = f"""import sys
sys.path.insert(0, {os.path.dirname(jail_init.__file__)!r})
import jail_init
def call(name, *_): raise OSError(1, name)
jail_init.call = call
jail_init.map_ids(0, 0)"""
    ended = subprocess.run([*PYTHON, code], capture_output=True, text=True, timeout=20)
    assert ended.returncode == 1 and "PermissionError: [Errno 1] unshare" in ended.stderr


def test_a_command_runs_with_its_files_and_nothing_of_our_environment(kind, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "x")
    code = ("import os\n"
            "print(open('a/b.txt').read(), os.getuid(), os.getcwd() == os.environ['HOME'], sorted(os.environ))")
    out, status = run(code, jail=kind, files={"a/b.txt": "hello"})
    names = ["HOME", "LANG", "OMP_NUM_THREADS", "OPENSSL_CONF", "PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED",
             "TMPDIR"]
    assert status == 0 and out == f"hello {os.getuid() or jail_init.NOBODY} True {names}"


def test_the_environment_can_be_added_to(kind):
    assert run("import os; print(os.environ['X'])", jail=kind, env={"X": "1"}) == ("1", 0)


def test_the_end_of_a_command_is_passed_on(kind):
    assert run("raise SystemExit(3)", jail=kind)[1] == 3
    assert run("import os; os.kill(os.getpid(), 11)", jail=kind)[1] in (-11, 139)
    process = jail.start(["no-such-command"], jail=kind, stderr=subprocess.PIPE)
    assert b"no-such-command" in process.communicate()[1] and process.returncode == 127
    jail.kill(process)


def test_writable_and_readable_folders(kind, tmp_path):
    os.chmod(tmp_path, 0o755)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/data").write_text("data")
    (tmp_path / "out").mkdir()
    code = (f"import os; os.chdir({str(tmp_path)!r}); open('out/x', 'w').write(open('in/data').read())\n"
            "try: open('in/y', 'w'); print('written')\nexcept OSError: print('refused')")
    out, _ = run(code, jail=kind, writable=[tmp_path / "out"], readable=[tmp_path / "in", tmp_path])
    assert (tmp_path / "out/x").read_text() == "data"
    assert out == "refused" or kind == "limits"


def test_the_working_directory_can_be_read_and_is_not_written(kind, tmp_path):
    os.chmod(tmp_path, 0o755)
    (tmp_path / "data").write_text("data")
    code = "print(open('data').read())\ntry: open('y', 'w')\nexcept OSError: print('refused')"
    out, _ = run(code, jail=kind, cwd=tmp_path)
    assert out.split("\n") in (["data", "refused"], ["data"] if kind == "limits" else None)


def test_a_folder_of_a_home_is_hidden(kind):
    if kind == "limits":
        pytest.skip("limits hides nothing")
    code = f"import os\ntry: print(len(os.listdir({os.path.expanduser('~')!r})))\nexcept OSError: print('hidden')"
    out, _ = run(code, jail=kind)
    assert out == "hidden" or int(out) <= 1  # at most the way to this Python


def test_a_missing_folder_is_refused():
    with pytest.raises(JailError, match="no folder /does/not/exist; expected"):
        jail.start(["true"], readable=["/does/not/exist"])


def test_kill_reaches_a_daemon_and_removes_the_folder(kind, tmp_path):
    code = ("import os, time\nif not os.fork():\n    os.setsid()\n    if os.fork(): os._exit(0)\n"
            "    open('ready', 'w'); print('up', flush=True); time.sleep(600)\ntime.sleep(600)")
    process = jail.start([*PYTHON, code], jail=kind, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"up\n"
    inside = jail_init.descendants(process.pid)
    assert len(inside) >= 2
    jail.kill(process)
    alive = jail_init.parents()
    assert not [pid for pid in inside if pid in alive]
    assert not process.scratch or not os.path.exists(process.scratch)


def test_a_command_that_ended_before_it_read_what_was_sent_can_be_cleared_away(kind):
    process = jail.start([*PYTHON, "pass"], jail=kind, stdin=subprocess.PIPE)
    assert process.wait(30) == 0
    process.stdin.write(b"never read")  # and still in the buffer
    jail.kill(process)
    assert process.stdin.closed


def test_what_is_left_behind_dies_with_the_command(kind):
    code = "import os, time\nif not os.fork():\n    os.setsid(); os.close(1); os.close(2); time.sleep(600)"
    process = jail.start([*PYTHON, code], jail=kind, stdout=subprocess.PIPE)
    assert process.wait(30) == 0
    assert not jail_init.descendants(process.pid)
    jail.kill(process)


def test_the_jail_ends_when_its_owner_is_killed():
    owner = ("import subprocess, sys, time\nfrom hrm_lab.swe import jail\n"
             "p = jail.start([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
             "print(p.pid, flush=True); time.sleep(600)")
    process = subprocess.Popen([sys.executable, "-c", owner], stdout=subprocess.PIPE, env={**os.environ})
    pid = int(process.stdout.readline())
    deadline = time.monotonic() + 20
    while not (inside := jail_init.descendants(pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.communicate()
    while any(p in jail_init.parents() for p in inside) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert inside and not [p for p in inside if p in jail_init.parents()]


def test_limits_bind_also_root(kind):
    code = ("import os, resource, time\nn = 0\ntry:\n    while n < 200:\n        if not os.fork(): time.sleep(60)\n"
            "        n += 1\nexcept OSError: pass\nprint(n, resource.getrlimit(resource.RLIMIT_AS)[1] >> 20)")
    out, _ = run(code, jail=kind, limits=Limits(processes=5, memory_mb=256))
    forks, memory = map(int, out.split())
    most = 7 if kind in ("unshare+landlock", "bwrap") else 60  # else all jails of the user count, and they come and go
    assert 1 <= forks <= most and memory == 256


def test_the_clean_environment_has_no_secret():
    assert "TOKEN" not in str(jail.clean_environment("/x")) and len(jail.clean_environment("/x")) == 8
