"""Candidates that mean harm: nothing gets out, the result names what happened, the next candidate judged as usual."""

import os
import signal
import socket
import sys
import textwrap
from dataclasses import replace

import pytest

from hrm_lab.swe import jail, jail_init, sandbox
from hrm_lab.swe.sandbox import Limits, Server, confirm, run_command

GOOD = "def f(x):\n    return x + 1\n"
BAD = "def f(x):\n    return x\n"
TESTS = "import math\n\ndef check(f):\n    assert f(1) == 2\n    assert math.isclose(abs(f(2)), 3)\n\ncheck(f)\n"
# the wall limit is far above what CPU time allows, however busy the machine is
LIMITS = Limits(cpu_seconds=0.5, wall_seconds=60, memory_mb=256, file_mb=1, fuel=200_000)
INSIDE = jail.strongest() in ("unshare+landlock", "bwrap")
needs_namespaces = pytest.mark.skipif(not INSIDE, reason=f"jail {jail.strongest()} hides neither files nor processes")
needs_file_jail = pytest.mark.skipif(jail.strongest() == "limits", reason="jail limits hides no files and no network")


@pytest.fixture(scope="module")
def server():
    with Server(TESTS, limits=LIMITS) as server:
        yield server


def attack(body: str) -> str:
    """A candidate that does `body` when it is first called, and is right otherwise."""
    return "def f(x):\n" + textwrap.indent(textwrap.dedent(body), "    ") + "\n    return x + 1\n"


def runs_on(server):
    right, wrong = server.run(GOOD), server.run(BAD)
    assert (right.outcome, right.tier, wrong.outcome, wrong.tier) == ("passed", "all", "failed", "runs")
    assert set(right.tests.values()) == {"passed"} and set(wrong.tests.values()) == {"failed"}


@pytest.mark.parametrize("body,outcome", [
    ("while True: pass", "fuel"),
    ("f(x)\nreturn f(x)", None),  # a recursion error, which is an ordinary error
    ("while True:\n    try:\n        f(x)\n    except BaseException: pass", "fuel"),
    ("[0 for a in range(10**9)]", "fuel"),
    ("sum(range(10**12))", "cpu"),
    ("x = 10**10**8", "cpu"),
    ("import re; re.match('(a+)+$', 'a' * 60 + 'b')", "cpu"),
    ("import signal; signal.signal(signal.SIGPROF, signal.SIG_IGN); sum(range(10**12))", "cpu"),
    ("x = [0] * 10**10", "memory"),
    ("x = bytearray(300 * 2**20)", "memory"),
    ("import mmap; m = mmap.mmap(-1, 300 * 2**20)", None),  # an OSError
    ("while True: print('x' * 10000)", "output"),
    ("import os; os._exit(0)", "exited"),
    ("raise SystemExit", "exited"),
    ("import sys; sys.exit(0)", "exited"),
    ("import os; os.kill(os.getpid(), 9)", "killed"),
    ("import os; os.abort()", "killed"),
    ("import ctypes; ctypes.string_at(0)", "killed"),
])
def test_a_candidate_that_does_not_end_well_is_named(server, body, outcome):
    found = server.run(attack(body))
    assert found.outcome == (outcome or "failed"), found
    assert set(found.tests.values()) <= {outcome or "error", "error", "fuel", "memory"} and found.jail == server.jail
    runs_on(server)


@pytest.mark.parametrize("body", ["import time; time.sleep(1000)",
                                  "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"])
def test_a_candidate_that_sleeps_is_ended_by_the_wall_limit(body):
    with Server(TESTS, limits=replace(LIMITS, wall_seconds=2)) as server:
        found = server.run(attack(body))
        assert found.outcome == "wall" and set(found.tests.values()) == {"wall"}, found
        assert server.run(BAD).outcome == "failed"


FORGERIES = {
    "patches a builtin": "import builtins; builtins.abs = lambda x: 3",
    "patches a module": "import math; math.isclose = lambda *a: True",
    "writes to every pipe": "import os\nfor fd in range(64):\n    try: os.write(fd, b'0 passed\\n' * 3)\n"
                            "    except OSError: pass",
    "writes half a line": "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'zz')\n"
                          "    except OSError: pass\nos._exit(0)",
}


@pytest.mark.parametrize("body", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_result_is_named(server, body):
    found = server.run(attack(body))
    assert found.outcome == "forged" and set(found.tests.values()) == {"forged"}, found
    runs_on(server)


PATCHED = ["import sys\nfor m in list(sys.modules.values()):\n    for n in ('run_one', 'child', 'report'):\n"
           "        if hasattr(m, n): setattr(m, n, lambda *a, **k: ('passed', ''))",
           "import _pytest.runner as r\nr.call_and_report = r.call_runtest_hook = lambda *a, **k: None",
           "import os, glob\nfor p in glob.glob('*.py') + glob.glob('/tmp/*.py'): os.unlink(p)"]


@pytest.mark.parametrize("body", PATCHED, ids=["server's runner", "pytest's runner", "deletes its tests"])
def test_a_wrong_candidate_that_patches_its_runner_is_not_passed(server, body):
    wrong = textwrap.dedent(body) + "\ndef f(x):\n    return x\n"
    assert server.run(wrong).outcome != "passed"
    runs_on(server)
    found = confirm(wrong, TESTS, LIMITS)
    assert found.outcome != "passed" and "passed" not in found.tests.values(), found


def test_a_fork_bomb_stops_at_its_limit(server):
    with Server(TESTS, limits=replace(LIMITS, cpu_seconds=0.1)) as short:  # each of its processes may take this long
        found = short.run(attack("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"))
        assert found.outcome in ("fuel", "cpu", "forged"), found
        assert short.run(BAD).outcome == "failed"
    found = server.run("import os\n" + attack("""
        n = 0
        try:
            for _ in range(100):
                if not os.fork():
                    import time; time.sleep(60)
                n += 1
        except OSError:
            print('forks', n)
            n = -1
        assert n == -1, 'no limit'"""))
    assert found.outcome in ("failed", "passed"), found  # "failed": the other test had no processes left to try
    assert int(found.output.split("forks ")[1].split()[0]) <= LIMITS.processes + 2, found
    runs_on(server)


@pytest.mark.parametrize("daemon", ["", "os.setsid()\n    if os.fork(): os._exit(0)\n    "])
def test_processes_left_behind_are_killed_even_as_daemons(server, daemon):
    body = f"import os\nif not os.fork():\n    {daemon}import time; time.sleep(600)"
    assert server.run(attack(body)).outcome in ("passed", "forged")
    below = jail_init.descendants(server.process.pid)
    assert len(below) <= (2 if server.jail == "bwrap" else 1), below  # the server alone, below bubblewrap's own
    runs_on(server)


@pytest.mark.parametrize("body", [
    "import os; os.kill(os.getppid(), 9)",
    "import os; os.killpg(os.getpgid(os.getppid()), 9)",
    "import os; os.kill(1, 9); os.kill(1, 15); os.kill(1, 11)",
])
@needs_namespaces
def test_the_server_survives_being_killed(server, body):
    process = server.process
    server.run(attack(body))
    runs_on(server)
    assert server.process is process


def test_kill_minus_one_reaches_nobody_outside():
    """In its own server: without namespaces the signal may reach that server, and no more."""
    if not INSIDE:
        pytest.skip("without namespaces, all processes of the user are within reach")
    with Server(TESTS, limits=LIMITS) as server:
        server.run(attack("import os; os.kill(-1, 9)"))
        runs_on(server)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_server_that_dies_is_replaced(server):
    runs_on(server)
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    assert server.run(GOOD).outcome in ("killed", "passed")
    runs_on(server)


def test_a_server_that_ends_at_once_is_named(monkeypatch, tmp_path):
    (tmp_path / "worker.py").write_text("")
    monkeypatch.setattr(sandbox, "WORKER", tmp_path / "worker.py")
    tests = TESTS + "assert f(1) == 2\n" * 10_000  # more than a pipe holds
    with pytest.raises(ValueError, match="the server ended"):
        Server(tests, limits=LIMITS).begin()


@needs_namespaces
def test_a_server_whose_limits_were_changed_is_replaced(server):
    process = server.process
    server.run(attack("import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (3, 3))"))
    runs_on(server)
    assert server.process is not process


@needs_file_jail
def test_nothing_is_written_outside(server, tmp_path):
    target = tmp_path / "written"
    os.chmod(tmp_path, 0o777)
    places = [str(target), "/usr/x", "/etc/x", os.path.abspath(__file__), os.path.dirname(jail.__file__) + "/x"]
    found = server.run("P = " + repr(places) + "\n" + attack("""
        done = []
        for p in P:
            try:
                open(p, 'a').close()
                done.append(p)
            except OSError: pass
        assert not done, done"""))
    assert found.outcome == "passed", found
    assert not target.exists()


def test_the_disk_is_not_filled(server):
    found = server.run(attack("""
        open('big', 'wb').write(b'x' * (2 << 20))"""))
    assert found.outcome == "failed" and "too large" in found.output, found
    runs_on(server)


@needs_namespaces
def test_many_files_do_not_fill_the_disk():
    """The throw-away folder is memory of bounded size, whatever the number of files."""
    with Server(TESTS, limits=Limits(cpu_seconds=3, file_mb=1)) as server:
        found = server.run(attack("""
            n = 0
            try:
                for n in range(2000):
                    with open(f'part{n}', 'wb') as file: file.write(bytes(1 << 20))
            except OSError as error:
                print('stopped', n, error)"""))
        assert "No space left" in found.output and int(found.output.split()[1]) <= 256, found
        found = server.run("import os\n" + attack("assert not os.listdir('.'), os.listdir('.')"))
        assert found.outcome == "passed", found


@needs_file_jail
def test_secrets_are_not_read(server, monkeypatch, tmp_path):
    secret = tmp_path / "token"
    secret.write_text("s3cret")
    monkeypatch.setenv("HRM_LAB_TEST_TOKEN", "s3cret")
    with Server(TESTS, limits=LIMITS) as fresh:  # started with the secret in our environment
        places = [str(secret), os.path.expanduser("~/.bashrc"), os.path.expanduser("~/.ssh"), "/etc/shadow",
                  "/etc/hostname", f"/proc/{os.getpid()}/environ", f"/proc/{fresh.process.pid}/environ"]
        found = fresh.run(f"P = {places!r}\nimport glob, os\n" + attack("""
            seen = [k for k, v in os.environ.items() if 's3cret' in v]
            for p in P + glob.glob('/proc/[0-9]*/environ'):
                try:
                    data = str(os.listdir(p) if os.path.isdir(p) else open(p, 'rb').read())
                    if p in P or 's3cret' in data: seen.append(p)
                except OSError: pass
            assert not seen, seen"""))
    assert found.outcome == "passed", found


@needs_file_jail
def test_no_socket_leads_out(server):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = server.run(f"PORT = {listener.getsockname()[1]}\nimport socket\n" + attack("""
            for place in (('127.0.0.1', PORT), ('1.1.1.1', 53)):
                try:
                    socket.create_connection(place, timeout=1)
                    assert False, place
                except OSError: pass"""))
    assert found.outcome == "passed", found


@needs_file_jail
def test_a_command_is_jailed_like_a_candidate(tmp_path):
    code = "import os, socket\ntry: socket.create_connection(('1.1.1.1', 53), 1)\nexcept OSError: print('no net')\n" \
           f"try: open({str(tmp_path / 'x')!r}, 'w')\nexcept OSError: print('no file')\nprint(sorted(os.environ))"
    found = run_command([sys.executable, "main.py"], {"main.py": code}, Limits(cpu_seconds=5))
    assert found.outcome == "passed" and found.output.startswith("no net\nno file\n['HOME',"), found


LEAKS = {
    "builtins": "import builtins; builtins.sum = builtins.len = None",
    "a module": "import math, functools; math.sqrt = math.isclose = functools.reduce = None",
    "sys.modules": "import sys; sys.modules['math'] = None; sys.modules.pop('re', None); sys.path[:] = []",
    "environment": "import os; os.environ['LEAK'] = '1'",
    "a file in the folder": "open('leak', 'w').write('1'); import os; os.makedirs('a/b'); os.chmod('a', 0)",
    "a file in tmp": "import tempfile, os; tempfile.mkstemp(); os.mkfifo(tempfile.gettempdir() + '/pipe')",
    "the folder": "import os; os.chdir('/')",
    "a thread": "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
    "signal handlers": "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); signal.alarm(1)",
    "recursion limit": "import sys; sys.setrecursionlimit(50)",
    "random seed": "import random; random.seed(7); random.random = lambda: 0.5",
    "a child": "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])",
    "limits": "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (10, 10))",
    "umask": "import os; os.umask(0o777)",
    "tracing": "import sys; sys.settrace(lambda *a: None); sys.setswitchinterval(10)",
    "exit handlers": "import atexit, os; atexit.register(print, 'leak'); os.register_at_fork(after_in_child=print)",
    "decimal context": "import decimal; decimal.getcontext().prec = 1",
    "collector": "import gc; gc.disable(); gc.unfreeze()",
}
PROBE = """
import builtins, decimal, functools, gc, math, os, random, re, signal, sys, tempfile, threading, resource
def state():
    umask = os.umask(0); os.umask(umask)
    return [len([1]), sum([1]), math.sqrt(4), functools.reduce(max, [1, 2]), sys.modules['math'] is math,
            len(sys.path), sorted(os.environ), os.getcwd() == os.path.realpath(os.environ['TMPDIR']), os.listdir('.'),
            os.listdir(tempfile.gettempdir()), threading.active_count(), signal.getsignal(signal.SIGCHLD),
            signal.getsignal(signal.SIGALRM), sys.getrecursionlimit(), random.random(),
            resource.getrlimit(resource.RLIMIT_NOFILE), umask, sys.gettrace(), sys.getswitchinterval(),
            decimal.getcontext().prec, gc.isenabled(), len(gc.callbacks)]
print(state())
def f(x):
    return x + 1
"""


@pytest.mark.parametrize("body", LEAKS.values(), ids=LEAKS)
def test_nothing_leaks_into_the_next_candidate(server, body):
    before = server.run(PROBE)
    server.run(body + "\n" + GOOD)
    server.run(attack(body))
    after = server.run(PROBE)
    assert before.outcome == "passed" and after.output == before.output and after.tests == before.tests, after
    runs_on(server)
