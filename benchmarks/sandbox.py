"""Candidates a CPU second through the fork server, beside a pytest process for each candidate.

    python benchmarks/sandbox.py --rows humanevalpack/python.jsonl [--limit 20] [--pytest 10]

For each row: the right program, the buggy one, one-token variants of both, and some that loop for ever, in the shares
of --mix (right, wrong, looping). The fuel is what a search would set: --fuel-factor times what the buggy program took,
and 20,000 at least (100,000 where that program itself does not end). CPU seconds are those of all processes: this one,
the server with its jail, the children; starting a server for each row is counted, too. Without rows a small built-in
one is measured. The last line is one JSON object.
"""

import argparse
import ast
import json
import platform
import random
import resource
import statistics
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from hrm_lab.swe.sandbox import Server, confirm

BUILT_IN = {"prompt": "def middle(xs):\n", "canonical_solution": "    return sorted(xs)[len(xs) // 2]\n",
            "buggy_solution": "    return sorted(xs)[len(xs) - 1 // 2]\n", "task_id": "middle",
            "test": "def check(f):\n    assert f([3, 1, 2]) == 2\n    assert f([1]) == 1\ncheck(middle)\n"}


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def variant(program: str, rng: random.Random) -> str:
    """One operator, constant or name of the program changed: the size and the fate of a search's candidates."""
    tree = ast.parse(program)
    names = sorted({n.id for n in ast.walk(tree) if isinstance(n, ast.Name)})
    spots = [n for n in ast.walk(tree) if isinstance(n, ast.BinOp | ast.Name | ast.Compare) or
             isinstance(n, ast.Constant) and type(n.value) is int]
    if not spots:
        return program
    node = rng.choice(spots)
    if isinstance(node, ast.BinOp):
        node.op = rng.choice([ast.Add(), ast.Sub(), ast.Mult(), ast.FloorDiv()])
    elif isinstance(node, ast.Compare):
        node.ops[0] = rng.choice([ast.Lt(), ast.LtE(), ast.Gt(), ast.Eq(), ast.NotEq()])
    elif isinstance(node, ast.Name):
        node.id = rng.choice(names)
    else:
        node.value += rng.choice([-1, 1])
    return ast.unparse(tree)


def looping(program: str) -> str:
    """The program with a loop without end as first statement of its last function."""
    tree = ast.parse(program)
    [*_, function] = [n for n in tree.body if isinstance(n, ast.FunctionDef)]
    function.body.insert(0, ast.parse("while True:\n    pass").body[0])
    return ast.unparse(ast.fix_missing_locations(tree))


def candidates(row: dict, n: int, mix: tuple[float, float, float], rng: random.Random) -> list[str]:
    right, wrong = row["prompt"] + row["canonical_solution"], row["prompt"] + row["buggy_solution"]
    kinds = rng.choices(("right", "wrong", "looping"), mix, k=n)
    made = {"right": lambda: right, "wrong": lambda: variant(rng.choice([right, wrong]), rng),
            "looping": lambda: looping(wrong)}
    return [made[kind]() + f"\n# {i}\n" for i, kind in enumerate(kinds)]


def measure(row: dict, a: argparse.Namespace, rng: random.Random) -> dict:
    programs = candidates(row, a.candidates, a.mix, rng)
    buggy = row["prompt"] + row["buggy_solution"]
    before = cpu_seconds()
    with Server(row["test"]) as server:
        first = server.run(buggy)
        fuel = max(20_000, a.fuel_factor * first.ticks) if first.outcome != "fuel" else 100_000
        server.limits = replace(server.limits, fuel=min(fuel, server.limits.fuel))
        results = list(server.run_many(programs))
        jail = server.jail
    used = cpu_seconds() - before  # the server's own share is known once it has ended
    outcomes = Counter(r.outcome for r in results)
    return {"cpu": used, "n": len(programs), "outcomes": outcomes, "jail": jail,
            "children": sum(r.seconds for r in results)}


def machine() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines()
             if line.startswith("model name")] if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=Path, help="HumanEvalPack rows in JSONL (default: one built-in row)")
    parser.add_argument("--limit", type=int, default=0, help="rows used (default: all)")
    parser.add_argument("--candidates", type=int, default=300, help="for each row")
    parser.add_argument("--mix", default="0.1,0.87,0.03", help="shares of right, wrong and looping candidates")
    parser.add_argument("--fuel-factor", type=int, default=20)
    parser.add_argument("--pytest", type=int, default=5, help="candidates that are also run by pytest")
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    try:
        a.mix = tuple(float(share) for share in a.mix.split(","))
        right, wrong, loops = a.mix
    except ValueError:
        parser.error(f"--mix: got {a.mix!r}, expected three numbers, as in 0.1,0.87,0.03")
    rows = [json.loads(line) for line in a.rows.read_text().splitlines()] if a.rows else [BUILT_IN]
    rows = rows[:a.limit or None]
    rng, found = random.Random(a.seed), []
    for row in rows:
        r = measure(row, a, rng)
        found.append(r)
        print(f"{row['task_id']:15} {r['n'] / r['cpu']:7.0f} candidates a CPU second, children alone "
              f"{r['n'] / r['children']:7.0f}; {dict(sorted(r['outcomes'].items()))}", flush=True)
    processes = []
    for row in rows[:a.pytest]:
        before = cpu_seconds()
        confirm(row["prompt"] + row["buggy_solution"], row["test"])
        processes.append(cpu_seconds() - before)
    n, cpu = sum(r["n"] for r in found), sum(r["cpu"] for r in found)
    one = statistics.median(processes)
    outcomes = dict(sorted(sum((Counter(r["outcomes"]) for r in found), Counter()).items()))
    print(json.dumps({"candidates_per_cpu_second": n / cpu, "n": n, "rows": len(rows), "jail": found[0]["jail"],
                      "children_per_cpu_second": n / sum(r["children"] for r in found),
                      "median_row": statistics.median(r["n"] / r["cpu"] for r in found), "outcomes": outcomes,
                      "pytest_subprocess_cpu_seconds": one, "pytest_n": len(processes), "ratio": one * n / cpu,
                      "mix": a.mix, "seed": a.seed, "machine": machine(), "python": sys.version.split()[0]}))


if __name__ == "__main__":
    main()
