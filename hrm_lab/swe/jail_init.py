"""What runs between `jail.start` and the jailed command. Standard library only: it is a script, `python -I -S FILE FD`.

It reads its orders (JSON) from file descriptor FD, builds the jail, starts the command in it, waits, kills whatever
the command left behind, and ends as the command ended. Kinds of jail, strongest first:
- unshare+landlock: new user, mount, pid, network, IPC and UTS namespaces; an empty root that holds only the readable
  folders (read-only), the writable ones, a small tmpfs on /tmp, a /proc of its own; Landlock on top.
- bwrap: the same from bubblewrap, which some systems allow where they forbid the above.
- landlock: files and TCP by Landlock; processes are found by walking the tree of children.
- limits: resource limits and a clean environment alone; files and network stay open.

Unusual: RLIMIT_NPROC does not bind the kernel's uid 0, whatever a user namespace calls it, so that root becomes
`nobody` here, and keeps CAP_DAC_READ_SEARCH alone, so that folders closed to others (root's own Python) can be read.
Since Linux 5.14 that limit counts within one user namespace. Landlock: docs.kernel.org/userspace-api/landlock.html
"""

import contextlib
import ctypes
import json
import os
import platform
import resource
import select
import shutil
import signal
import sys
import time

NOBODY, CAP_DAC_READ_SEARCH = 65534, 2
LIBC = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_SET_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 1, 8, 36, 38, 47
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
READ, FILE_RIGHTS = 0b1101, 0b1100000000000111  # execute, read file, read folder; the rights that a file can have


def call(name: str, *arguments):
    """A function of the C library, or a system call by number; OSError names it."""
    function = getattr(LIBC, name.split()[0])
    if (result := function(*(a.encode() if isinstance(a, str) else a for a in arguments))) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def landlock_abi() -> int:
    """Version of Landlock that the kernel offers, 0 for none."""
    return max(0, LIBC.syscall(444, None, 0, 1)) if sys.platform == "linux" else 0


def landlock(readable: list[str], writable: list[str]):
    """Deny files outside the lists, TCP, signals and abstract sockets to the outside, as far as the kernel can."""
    abi = landlock_abi()
    rights = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)) - 1
    size = 8 if abi < 4 else 16 if abi < 6 else 24  # files; TCP; signals and abstract sockets
    ruleset = call("syscall landlock_create_ruleset", 444, (ctypes.c_uint64 * 3)(rights, 3, 3), size, 0)
    for paths, allowed in ((readable, READ), (writable, rights)):
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
                here = allowed & rights if os.path.isdir(path) else allowed & rights & FILE_RIGHTS
                rule = here.to_bytes(8, sys.byteorder) + fd.to_bytes(4, sys.byteorder)
                call("syscall landlock_add_rule", 445, ruleset, 1, rule, 0)
                os.close(fd)
    call("syscall landlock_restrict_self", 446, ruleset, 0)
    os.close(ruleset)


def cpu_limit(limits: dict) -> tuple[int, int]:
    return int(limits["cpu_seconds"]) + 1, int(limits["cpu_seconds"]) + 2  # it counts seconds: soft warns, hard kills


def set_limits(limits: dict, others: int = 0, without: str = ""):
    """Resource limits of this process and its children. `others`: processes of the jail that are not the command's."""
    mb = 1 << 20
    wanted = {"RLIMIT_CPU": cpu_limit(limits), "RLIMIT_FSIZE": limits["file_mb"] * mb, "RLIMIT_CORE": 0,
              "RLIMIT_DATA": limits["memory_mb"] * mb, "RLIMIT_NOFILE": limits["open_files"],
              "RLIMIT_AS": (limits["address_mb"] or limits["memory_mb"]) * mb,
              "RLIMIT_NPROC": limits["processes"] + others}
    wanted.pop(without, None)
    for name, value in wanted.items():
        soft, hard = value if isinstance(value, tuple) else (value, value)
        ceiling = resource.getrlimit(getattr(resource, name))[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        try:
            resource.setrlimit(getattr(resource, name), (soft, hard))
        except (ValueError, OSError):
            if sys.platform == "linux":  # macOS refuses some, as jail.py warns
                raise


def parents() -> dict[int, int]:
    """pid -> parent's pid of every process that can be seen."""
    if not os.path.isdir("/proc/self"):
        with os.popen("ps -axo pid=,ppid=") as listing:
            return {int(pid): int(parent) for pid, parent in map(str.split, listing)}
    found = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:  # it may have ended
            found[pid] = int(file.read().rpartition(b")")[2].split()[1])
    return found


def own_tasks() -> int:
    """Processes and threads of this user, which is what RLIMIT_NPROC counts where no namespace of its own does."""
    count = 0
    for pid in parents():
        with contextlib.suppress(OSError):
            count += os.stat(f"/proc/{pid}").st_uid == os.getuid() and len(os.listdir(f"/proc/{pid}/task"))
    return count


def descendants(root: int) -> list[int]:
    """All processes below `root`, parents first."""
    tree, found = parents(), [root]
    for pid in found:  # grows while it is walked
        found += [child for child, parent in tree.items() if parent == pid]
    return found[1:]


def kill_the_rest():
    """Kill and reap every other process of the jail: all of the namespace for its init, else all descendants."""
    for _ in range(1000):
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:  # orphans become children of the init, or of the subreaper, so that none is left
            return
        with contextlib.suppress(ProcessLookupError):
            for pid in [-1] if os.getpid() == 1 else descendants(os.getpid()):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)


# ---------------------------------------------------------------- the root of the unshared jail


def map_ids(uid: int, gid: int):
    """Enter a user namespace where root's ids and nobody's mean themselves, or, for a user, the own ones."""
    me, (wait, go) = os.getpid(), os.pipe()
    if not (helper := os.fork()):  # stays outside: only from there may root map more than itself
        os.close(go)  # so that it ends with whoever asked, also where a container forbids user namespaces
        os.read(wait, 1) or os._exit(1)
        with contextlib.suppress(OSError):  # the exit status tells
            if uid:
                with open(f"/proc/{me}/setgroups", "w") as file:
                    file.write("deny")
            for name, own in (("uid_map", uid), ("gid_map", gid)):
                with open(f"/proc/{me}/{name}", "w") as file:
                    file.write("\n".join(f"{i} {i} 1" for i in ([own] if uid else [0, NOBODY])))
            os._exit(0)
        os._exit(1)
    call("unshare", NEWUSER)
    os.write(go, b"1")
    if os.waitpid(helper, 0)[1]:
        raise OSError("user namespace: the ids could not be mapped")


def read_only(path: str, recursive: bool):
    flags = (ctypes.c_uint64 * 4)(MS_RDONLY | MS_NOSUID | MS_NODEV, 0, 0, 0)
    call("syscall mount_setattr", 442, -100, path, 0x8000 if recursive else 0, flags, 32)


def place(path: str, read: bool):
    """Put the host's file or folder `path` at the same place of the new root; symbolic links as they are."""
    real = os.path.realpath("/old" + path)
    real = real if real.startswith("/old/") else "/old" + real  # an absolute link leads out of /old
    target = real[4:]
    if not os.path.exists(real):
        return
    if target != path and not os.path.lexists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(target, path)
    if os.path.ismount(target):
        return
    os.makedirs(target if os.path.isdir(real) else os.path.dirname(target), exist_ok=True)
    if not os.path.exists(target):
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
    call("mount", real, target, None, MS_BIND | MS_REC, None)
    if read:
        read_only(target, recursive=True)


def tmpfs(path: str, size_mb: int):
    os.makedirs(path, exist_ok=True)
    call("mount", "tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, f"size={size_mb}m,nr_inodes=16384,mode=0777")


def new_root(orders: dict):
    """An empty root of this mount namespace with what the orders allow. Sources and order: bubblewrap's way."""
    call("unshare", NEWNS)
    call("mount", None, "/", None, MS_REC | MS_PRIVATE, None)
    call("mount", "tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    os.mkdir("/tmp/old")
    call("syscall pivot_root", PIVOT_ROOT[platform.machine()], "/tmp", "/tmp/old")
    os.chdir("/")
    tmpfs("/tmp", orders["scratch_mb"])
    tmpfs("/dev/shm", orders["scratch_mb"])
    for target in ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"):
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
        call("mount", "/old" + target, target, None, MS_BIND, None)
    os.mkdir("/proc")
    with contextlib.suppress(OSError):  # a container that hides parts of its /proc; most commands do without
        call("mount", "proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, None)
    for path in sorted({*orders["readable"], *orders["writable"]}):  # inner ones after those around them
        place(path, read=path not in orders["writable"])
    call("umount2", "/old", 2)  # detached: no path leads there any more
    os.rmdir("/old")
    read_only("/", recursive=False)


# ---------------------------------------------------------------- the command


def drop_root(keep_reading: bool):
    """From root to nobody, with the one capability to read if files are hidden anyhow; no more rights by any exec."""
    if os.geteuid() == 0:
        os.setgroups([])
        if keep_reading:
            call("prctl", PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        if keep_reading:
            one = 1 << CAP_DAC_READ_SEARCH
            call("capset", (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(one, one, one, 0, 0, 0))
            call("prctl", PR_CAP_AMBIENT, 2, CAP_DAC_READ_SEARCH, 0, 0)
    if sys.platform == "linux":
        call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def become(orders: dict):
    """The last steps inside: identity, files, Landlock, limits, exec. Never returns."""
    try:
        jail, inside = orders["jail"], orders["jail"] in ("unshare+landlock", "bwrap")
        if jail != "unshare+landlock":
            drop_root(keep_reading=jail == "landlock")
        os.umask(0o022)
        scratch = orders["scratch"]
        os.makedirs(scratch, exist_ok=True)
        for name, text in orders["files"].items():
            path = os.path.join(scratch, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8", newline="") as file:
                file.write(text)
        os.chdir(orders["cwd"] or scratch)
        writable = [*orders["writable"], scratch, "/dev/null"]
        others = 2 if inside else own_tasks()
        if "landlock" in jail:
            seen = [*orders["readable"], "/dev/urandom", "/dev/zero", *["/proc"] * orders["server"]]  # counts, kills
            landlock(["/"] if inside else seen, [*writable, "/dev/shm"] if inside else writable)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        if orders["limits"]:
            set_limits(orders["limits"], others)
        os.execvpe(orders["argv"][0], orders["argv"], orders["env"])
    except BaseException as error:
        os.write(2, f"jail: {orders['argv'][0]}: {type(error).__name__}: {error}\n".encode())
    os._exit(127)


def first_process(orders: dict, status: int):
    """pid 1 of the unshared jail: the command itself, or an init that starts it and writes its wait status."""
    new_root(orders)
    drop_root(keep_reading=True)
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.write(status, b"ready\n")
    if orders["server"]:
        become(orders)
    if not (child := os.fork()):
        os.setsid()
        become(orders)
    for fd in range(3):
        os.dup2(os.open("/dev/null", os.O_RDWR), fd)
    while True:
        pid, ended = os.waitpid(-1, 0)
        if pid == child:
            os.write(status, f"{ended}\n".encode())
            os._exit(0)


def run(orders: dict, fd: int, lifeline: int) -> int:
    """Start the command in its jail, wait for it or for the end of whoever holds the lifeline; its wait status."""
    (read_status, write_status), (wake, poke) = os.pipe(), os.pipe()
    os.set_blocking(poke, False)
    signal.set_wakeup_fd(poke)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # so that the wake-up pipe is written
    unshared = orders["jail"] == "unshare+landlock"
    if unshared:
        map_ids(os.getuid(), os.getgid())
        call("unshare", NEWPID | NEWNET | NEWIPC | NEWUTS)
    elif sys.platform == "linux":
        call("prctl", PR_SET_SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if not child:
        signal.set_wakeup_fd(-1)
        os.close(read_status)  # only its reader holds it: a write fails once that is gone
        if unshared:
            try:
                first_process(orders, write_status)
            except BaseException as error:
                os.write(2, f"jail: {type(error).__name__}: {error}\n".encode())
            os._exit(127)
        os.setsid()
        if orders["jail"] == "bwrap":
            os.set_inheritable(fd, True)
            os.lseek(fd, 0, os.SEEK_SET)
            os.execv(orders["bwrap"][0], [*orders["bwrap"], str(fd), "inner"])
        become(orders)
    os.close(write_status)
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    poll.register(lifeline, select.POLLIN)
    while True:
        events = poll.poll()
        pid, ended = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        if any(ready == lifeline for ready, _ in events):
            os.kill(child, signal.SIGKILL)
            ended = os.waitpid(child, 0)[1]
            break
        os.read(wake, 4096)
    lines = b"" if not unshared else os.read(read_status, 4096)
    kill_the_rest()
    if orders["remove"]:
        shutil.rmtree(orders["remove"], ignore_errors=True)
    return int(lines.split()[1]) if len(lines.split()) == 2 else ended


def main():
    fd = int(sys.argv[1])
    with os.fdopen(fd, encoding="utf-8", closefd=False) as file:
        file.seek(0)
        orders = json.load(file)
    os.set_inheritable(fd, False)
    if sys.argv[2:] == ["inner"]:
        become(orders)
    os.set_inheritable(orders["lifeline"], False)
    ended = run(orders, fd, orders["lifeline"])
    if os.WIFSIGNALED(ended):  # end as the command ended
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError):  # SIGKILL has no handler to reset
            signal.signal(os.WTERMSIG(ended), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(ended))
    os._exit(os.waitstatus_to_exitcode(ended))


if __name__ == "__main__":
    main()
