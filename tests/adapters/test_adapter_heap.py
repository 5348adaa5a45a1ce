"""Memory of products whose shapes never come again, in a process of its own: caches read their size only once."""

import subprocess
import sys

from hrm_lab.inspect_notebook import ROOT

PRODUCTS = """
import torch
from hrm_lab.adapters import heap

def resident():
    heap.give_back()
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

weight, lines = torch.ones(192, 64).bfloat16(), torch.ones(900, 64).bfloat16()
torch.set_num_threads(1)
found = []
for size in range(1, 801):
    torch.nn.functional.linear(lines[:size], weight)
    if size in (200, 800):
        found.append(resident())
print(found[1] - found[0])
"""


def test_shapes_that_never_come_again_cost_no_memory():
    done = subprocess.run([sys.executable, "-c", PRODUCTS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 60  # megabytes; with the caches as torch makes them some 250
