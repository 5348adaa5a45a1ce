"""What notebook 03 shows of the sandbox: candidates that mean harm, each followed by an honest one, and its speed.

The tests hold many more of them (tests/swe/test_hostile.py); these are the ones whose names people ask for.
"""

import time

from hrm_lab.swe.jail import Limits
from hrm_lab.swe.sandbox import Result, Server, confirm

GOOD = "def f(x):\n    return x + 1\n"
TESTS = "import math\n\ndef check(f):\n    assert f(1) == 2\n    assert math.isclose(f(2), 3)\n\ncheck(f)\n"
LIMITS = Limits(cpu_seconds=0.3, wall_seconds=3, memory_mb=256, file_mb=1, fuel=200_000)
HARM = {
    "loops for ever": "while True: pass",
    "loops for ever in C": "sum(range(10**12))",
    "forks for ever": "import os\n    while True:\n        try: os.fork()\n        except OSError: pass",
    "allocates all memory": "x = [0] * 10**10",
    "prints for ever": "while True: print('x' * 10000)",
    "fills the disk": "open('big', 'wb').write(b'x' * (64 << 20))",
    "writes outside": "open('/usr/written', 'w')",
    "reads a user's files": "import os; os.listdir(os.path.expanduser('~/.ssh'))",
    "opens a socket": "import socket; socket.create_connection(('1.1.1.1', 53), timeout=1)",
    "kills its parent": "import os; os.kill(os.getppid(), 9); os._exit(0)",
    "leaves as if all were well": "import os; os._exit(0)",
    "patches what the tests use": "import math; math.isclose = lambda *a: True",
    "sleeps": "import time; time.sleep(1000)",
}


def hostile() -> list[dict]:
    """One row for each harm: what it was called by the sandbox, and whether the honest candidate after it passed."""
    rows = []
    with Server(TESTS, limits=LIMITS) as server:
        for name, body in HARM.items():
            found = server.run(f"def f(x):\n    {body}\n    return x\n")
            after = server.run(GOOD)
            said = found.output.strip().splitlines()
            rows.append({"the candidate": name, "outcome": found.outcome, "CPU-s": round(found.seconds, 2),
                         "what it met": said[-1][:90] if said and found.outcome == "failed" else "",
                         "the next, honest one": after.outcome})
    return rows


def speed(n: int) -> dict:
    """Candidates a CPU-second through the fork server, half right and half wrong, and CPU-seconds of a pytest each."""
    programs = [GOOD if i % 2 else GOOD.replace("1", "2") for i in range(n)]
    began = time.process_time()
    with Server(TESTS) as server:
        results: list[Result] = list(server.run_many(programs))
    own = time.process_time() - began
    apart = confirm(GOOD, TESTS).seconds
    per = n / (own + sum(result.seconds for result in results))
    return {"per_cpu_second": per, "n": n, "pytest_cpu_seconds": apart, "ratio": apart * per}
