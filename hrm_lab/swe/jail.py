"""Start a command that is not trusted: no network, a bounded view of the file system, limits, killed as a whole.

The strongest of four jails that works on this machine is used, and every result says which (jail_init.py builds
them): "unshare+landlock" and "bwrap" hide all files but the readable ones, all processes and the network; "landlock"
denies files and TCP (UDP stays open, other processes of the same user stay visible); "limits" denies nothing but
memory, CPU time, file sizes and processes, and says so once in a warning. macOS has "limits" only.

Unusual: it holds as root, too, where it is needed most (CI): root becomes nobody before the command starts, since
neither RLIMIT_NPROC nor file modes bind root; then writable folders are given to nobody. The command sees the system's
libraries and this Python, and of its home nothing: the readable folders are a list, not the file system less secrets.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache

from . import jail_init

KINDS = ("unshare+landlock", "bwrap", "landlock", "limits")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives", "/etc/ld.so.cache",
          "/etc/localtime", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/mime.types")
SCRATCH = "/tmp/scratch"  # inside the two strongest jails, whose /tmp is memory
PATH = "/usr/local/bin:/usr/bin:/bin"


class JailError(RuntimeError):
    """No jail, or not with these folders; one line."""


@dataclass(frozen=True)
class Limits:
    """What one command, or one candidate of a server, may use. A process limit counts what the command starts."""

    cpu_seconds: float = 1.0
    wall_seconds: float = 20.0  # a backstop against sleeping, far above what CPU time allows
    idle_seconds: float = 0.0  # of a server's candidate: wall time in a row with no CPU time and no child; 0: no limit
    memory_mb: int = 512  # of each process
    address_mb: int = 0  # of each process; 0: memory_mb. Virtual machines reserve far more than they use
    file_mb: int = 8
    processes: int = 16
    open_files: int = 64
    fuel: int = 2_000_000  # loop turns, calls and comprehension turns of a candidate; see fuel.py
    output_bytes: int = 10_000  # kept of the output


def system_folders() -> list[str]:
    """Readable in every jail: libraries, compilers and this Python with its packages; no home, no /etc at large."""
    python = {sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable)), jail_init.__file__}
    return sorted({os.path.abspath(path) for path in (*SYSTEM, *python)})


def clean_environment(scratch: str) -> dict[str, str]:
    """Nothing of the caller's environment, where keys and tokens live."""
    return {"PATH": f"{os.path.dirname(sys.executable)}:{PATH}", "HOME": scratch, "TMPDIR": scratch, "LANG": "C.UTF-8",
            "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1",
            "OPENSSL_CONF": os.devnull}  # node gives up where it may not read the system's


@lru_cache
def strongest() -> str:
    """The first of `KINDS` in which a command starts here, found by starting one in each."""
    for kind in KINDS:
        if works(kind):
            if kind == "limits":
                warnings.warn("jail: neither namespaces nor Landlock work here; candidates run with resource limits "
                              "only and can read files and open sockets", stacklevel=2)
            return kind
    raise JailError(f"jail: no command starts in any of {', '.join(KINDS)}; expected one at least (as root, "
                    f"{sys.prefix} must be readable by everyone where neither namespaces nor Landlock work)")


@lru_cache
def works(kind: str) -> bool:
    """Whether Python starts in a jail of this kind."""
    if (kind == "bwrap" and not shutil.which("bwrap") or kind != "limits" and sys.platform != "linux"
            or "landlock" in kind and not jail_init.landlock_abi()):
        return False
    if kind == "bwrap" and os.getuid() == 0:
        return False  # bubblewrap maps root to root, which the process limit does not bind
    process = start([sys.executable, "-I", "-S", "-c", "print(42)"], jail=kind, stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL)
    try:
        return process.communicate(timeout=60)[0] == b"42\n"
    except subprocess.TimeoutExpired:
        return False
    finally:
        kill(process)


def start(argv, *, cwd=None, writable=(), readable=(), env: dict | None = None, limits: Limits | None = None,
          files: dict[str, str] | None = None, server: bool = False, jail: str | None = None,
          **popen) -> subprocess.Popen:
    """Start `argv` in a jail; `kill` it when done, in any case: that also removes what belongs to it.

    The command begins in `cwd`, or in a throw-away folder, its HOME and TMPDIR, which holds `files` (relative path ->
    text). It may write there and in the folders `writable`, and read those, `cwd`, the folders `readable` and
    `system_folders()`. `env` is added to a clean environment. A `server` has no init above it: it reaps orphans itself
    (`jail_init.kill_the_rest`), and in the two strongest jails no process of the jail can signal it. Without `limits`
    there are none but the jail's: a server limits its children itself (`jail_init.set_limits`). The other arguments
    are `subprocess.Popen`'s. The process has the attribute `jail`, the kind; its return code is the command's, 127 if
    it could not start (a line on stderr says why).
    Raises `JailError`: no jail works, or a folder that does not exist.
    """
    kind = jail or strongest()
    folders = [os.path.abspath(path) for path in (*readable, *writable, *([cwd] if cwd else []))]
    for folder in folders:
        if not os.path.exists(folder):
            raise JailError(f"jail: no folder {folder}; expected it to exist, to be seen inside")
    inside = kind in ("unshare+landlock", "bwrap")
    own = None if inside else tempfile.mkdtemp(prefix="jail-")
    given = [os.path.abspath(path) for path in writable]
    if os.getuid() == 0:
        for folder in [*given, *([own] if own else [])]:
            give_to_nobody(folder)
    scratch = own or SCRATCH
    lifeline, held = os.pipe()  # its end tells the jail that we ended, however that happened
    orders = {"jail": kind, "argv": [str(a) for a in argv], "cwd": os.path.abspath(cwd) if cwd else None,
              "env": clean_environment(scratch) | (env or {}), "readable": sorted({*system_folders(), *folders}),
              "writable": given, "limits": asdict(limits) if limits else None, "files": files or {}, "server": server,
              "scratch": scratch, "remove": own, "lifeline": lifeline,
              "scratch_mb": 16 * limits.file_mb if limits else 256}
    if kind == "bwrap":
        orders["bwrap"] = bwrap(orders)
    with tempfile.TemporaryFile() as order:
        order.write(json.dumps(orders).encode())
        order.flush()
        fds = (*popen.pop("pass_fds", ()), order.fileno(), lifeline)
        process = subprocess.Popen([sys.executable, "-I", "-S", jail_init.__file__, str(order.fileno())],
                                   pass_fds=fds, start_new_session=True, env=clean_environment("/"), **popen)
    os.close(lifeline)
    process.jail, process.scratch, process.lifeline = kind, own, held
    return process


def bwrap(orders: dict) -> list[str]:
    """The command line of bubblewrap that runs the last steps inside."""
    line = [shutil.which("bwrap"), "--unshare-all", "--die-with-parent", "--new-session", "--dev", "/dev",
            "--proc", "/proc", "--size", str(orders["scratch_mb"] << 20), "--tmpfs", "/tmp"]
    for path in sorted({*orders["readable"], *orders["writable"]}):
        real = os.path.realpath(path)
        if path in orders["writable"]:
            line += ["--bind", path, path]
        elif os.path.exists(real):
            line += ["--ro-bind", real, real] + (["--symlink", real, path] if real != path else [])
    first = ["--as-pid-1"] if orders["server"] else []
    return [*line, *first, "--", sys.executable, "-I", "-S", jail_init.__file__]


def give_to_nobody(folder: str):
    for parent, folders, names in os.walk(folder):
        for path in [parent, *(os.path.join(parent, name) for name in folders + names)]:
            os.chown(path, jail_init.NOBODY, jail_init.NOBODY, follow_symlinks=False)


def release(process: subprocess.Popen):
    """Let everything in the jail be killed, without waiting: its first process sees the end of its lifeline."""
    held, process.lifeline = process.lifeline, None
    if held is not None:
        os.close(held)


def kill(process: subprocess.Popen):
    """End everything in the jail, daemons that left its session included, and remove its throw-away folder."""
    release(process)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            with suppress(BrokenPipeError):  # a command that it did not live to read; the stream is closed all the same
                stream.close()
    if process.scratch:
        shutil.rmtree(process.scratch, ignore_errors=True)
