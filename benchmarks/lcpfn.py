"""A small LC-PFN, trained here, on the curves that judge our forecasts.

    python benchmarks/lcpfn.py --curves data/forecast/held_out.csv --seconds 240 [--hidden 64 --layers 3]

LC-PFN (Adriaensen et al. 2023, arXiv 2310.20447) is a transformer that has learnt, on curves drawn from a prior, to
give the distribution of a curve's later values. The weights that its authors published (26M parameters, 10M curves)
are not part of any package: `lcpfn` 0.1.3 downloads them at import. So this trains one of its kind from the same
prior: pow3 + ilog2 + janoschek with uniform weights, kept where the curve rises and stays in [0, 1], with Gaussian
noise. It is far smaller and saw far fewer curves, and says nothing about the published one; more seconds, or a GPU,
make it fairer.

Unlike there, attention is causal and the place asked for is always the curve's end (epoch 50), so that one curve
teaches a forecast from each of its prefixes. Losses enter as 1 - loss / (1.05 max seen). The last line is one JSON
object.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from hrm_lab import forecast_bank, forecast_curves, metrics, runs  # noqa: E402
from hrm_lab.forecast import forecast  # noqa: E402
from hrm_lab.forecast_ledger import crps  # noqa: E402

END, LONGEST, BINS, COUNTS = 50, 40, 200, (5, 10, 20)


def prior(n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, END) noisy curves."""
    x, kept, many = np.arange(1, END + 1.0), [], 8 * n
    while sum(map(len, kept)) < n:
        def uniform(low, high):
            return rng.uniform(low, high, (many, 1))

        def lognormal(mean, deviation):
            return rng.lognormal(mean, deviation, (many, 1))

        top, drop = uniform(0, 1), uniform(0, 2)
        y = uniform(0, 1) * (uniform(0, 1.25) - uniform(-0.6, 0.6) * x ** -lognormal(0, 2))
        y += uniform(0, 1) * (uniform(0, 1) - uniform(-0.5, 0.5) / np.log(x + 1))
        y += uniform(0, 1) * (top - (top - drop) * np.exp(-lognormal(-2, 1) * x ** lognormal(0, 0.5)))
        y = y[(y[:, -1] > y[:, 0]) & (y >= 0).all(1) & (y <= 1).all(1)]
        kept.append(y + rng.lognormal(-4, 1, (len(y), 1)) * rng.standard_normal(y.shape))
    return np.concatenate(kept)[:n]


class Net(nn.Module):
    """Value and epoch of each evaluation in, logits over BINS of the value at END out, after each evaluation."""

    def __init__(self, hidden: int, layers: int):
        super().__init__()
        self.read = nn.Linear(2, hidden)
        block = nn.TransformerEncoderLayer(hidden, 4, 2 * hidden, dropout=0.0, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.head = nn.Linear(hidden, BINS)

    def forward(self, y):  # (B, T) -> (B, T, BINS)
        x = torch.arange(1, y.shape[1] + 1).expand(y.shape) / END
        mask = nn.Transformer.generate_square_subsequent_mask(y.shape[1])
        return self.head(self.body(self.read(torch.stack((x, y), -1)), mask=mask, is_causal=True))


def train(hidden: int, layers: int, seconds: float, seed: int) -> tuple[Net, dict]:
    torch.manual_seed(seed)
    rng, began, step, batch = np.random.default_rng(seed), time.process_time(), 0, 64
    net = Net(hidden, layers)
    optimizer, pool, seen = torch.optim.AdamW(net.parameters(), 1e-3), prior(4096, rng), []
    while (spent := (time.process_time() - began) / seconds) < 1:
        if step % (4096 // batch) == 0:
            pool = prior(4096, rng)
        start = step * batch % 4096
        y = torch.tensor(pool[start:start + batch], dtype=torch.float32)
        target = (y[:, -1].clip(0, 1) * BINS).long().clip(max=BINS - 1)
        logits = net(y[:, :LONGEST])
        loss = nn.functional.cross_entropy(logits.transpose(1, 2), target[:, None].expand(-1, LONGEST))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, (step + 1) / 100) * (1 - spent)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        seen.append(loss.item())
        step += 1
    return net, {"steps": step, "curves": step * batch, "nats_first": round(float(np.mean(seen[:20])), 3),
                 "nats_last": round(float(np.mean(seen[-200:])), 3)}


@torch.no_grad()
def quantiles(net: Net, z: np.ndarray, kind: str) -> np.ndarray:
    """(5,) at the levels of forecasts, of the end of a curve of shares z (K,)."""
    unit = 1.05 * max(1.0, z.max())
    y = torch.tensor(z if kind == "accuracy" else 1 - z / unit, dtype=torch.float32)
    share = net(y[None])[0, -1].softmax(-1).double().numpy().cumsum()
    q = np.interp((0.05, 0.25, 0.5, 0.75, 0.95), np.concatenate(([0.0], share)), np.linspace(0, 1, BINS + 1))
    return q if kind == "accuracy" else unit * (1 - q[::-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, default=ROOT / "data" / "forecast" / "held_out.csv")
    parser.add_argument("--seconds", type=float, default=240, help="CPU-seconds of training")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    runs.set_threads()
    net, training = train(args.hidden, args.layers, args.seconds, args.seed)
    rows = []
    for c in forecast_curves.read(args.curves):
        if len(c.values) != END:
            continue
        z = np.array(c.values) / (c.values[0] if c.kind == "loss" else 1)
        for k in COUNTS:
            ours = forecast(range(1, k + 1), z[:k], c.n or None, [END], c.kind, forecast_bank.shipped())
            for name, q in (("lcpfn", quantiles(net, z[:k], c.kind)), ("ours", ours.quantiles[0])):
                rows.append({"who": name, "kind": c.kind, "count": k, "error": abs(q[2] - z[-1]),
                             "inside": bool(q[0] <= z[-1] <= q[4]), "crps": crps(q, z[-1])})
    lines = []
    for kind in ("loss", "accuracy"):
        for k in COUNTS:
            for who in ("lcpfn", "ours"):
                mine = [r for r in rows if (r["who"], r["kind"], r["count"]) == (who, kind, k)]
                if mine:
                    lines.append({"kind": kind, "count": k, "who": who, "n": len(mine),
                                  "coverage90": metrics.proportion(sum(r["inside"] for r in mine), len(mine)),
                                  "mae": metrics.bootstrap([r["error"] for r in mine]),
                                  "crps": metrics.bootstrap([r["crps"] for r in mine])})
                    print(f"{kind:8s} k={k:<2d} {who:5s} n={len(mine)} " + "  ".join(
                        f"{name} {lines[-1][name]['value']:.3f}" for name in ("coverage90", "mae", "crps")))
    print(json.dumps({"parameters": sum(p.numel() for p in net.parameters()), **training, "seconds": args.seconds,
                      "lines": lines}))


if __name__ == "__main__":
    main()
