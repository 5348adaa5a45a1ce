"""Train a LoRA adapter in a plain loop: loss on answers alone, judged by the task, exact resume.

A run directory holds run.json, metrics.jsonl, best/ and final/ (adapters in peft's format) and resume/. Unusual:
- The task metric beside the loss costs no generation: one pass says whether the model's first choice is the gold
  answer at every place, end token included, which holds exactly where greedy decoding would write the gold answer. It
  is a lower bound of exact match (other acceptable answers do not count) and chooses `best/`, on validation rows alone.
- Rows of a step are packed without padding, their common beginning once (`packing`); the loss is the mean over all
  labels of the step, however its rows fall into packs, and however many processes share them.
- All order comes from the seed and the step: killed at any moment and resumed, a run ends with the same bits (CPU).
Source: Hu et al. 2021 (LoRA, arXiv 2106.09685).
"""

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from hrm_lab import checks, runs
from hrm_lab.ranks import Ranks
from hrm_lab.train import learning_rate

from . import heap, lora, packing
from .formats import Row

JUDGED_AT_ONCE = 2048  # tokens of a pack without gradients
WINDOW = 8  # batches among which rows are sorted by length
MODULES = ("finetune.py", "lora.py", "packing.py")


@dataclass(frozen=True)
class Config:
    """How one adapter is trained."""

    steps: int = 60
    batch: int = 8  # rows a step, of all processes together
    pack: int = 640  # tokens of a pack at most: what memory is spent on
    rank: int = 16
    alpha: float = 32.0
    targets: str | tuple[str, ...] = "all-linear"
    top: int = 0  # adapters on the last `top` layers only; 0: on all
    dropout: float = 0.0
    lr: float = 1e-3
    lr_min_ratio: float = 0.05  # the cosine ends at lr * lr_min_ratio
    warmup: int = 5  # steps
    weight_decay: float = 0.0
    clip: float = 1.0  # largest gradient norm; 0: off
    eval_every: int = 20  # steps
    checkpointing: bool = False  # keep no activations inside layers, compute them again: slower, less memory
    seed: int = 0


def order(lengths: Sequence[int], batch: int, steps: int, seed: int) -> list[list[int]]:
    """Indices of the rows of each step: every epoch a new shuffle, rows of like length together."""
    plan: list[list[int]] = []
    if not 0 < batch <= len(lengths):
        raise ValueError(f"Config.batch: got {batch} for {len(lengths)} rows, expected 1 to {len(lengths)}")
    rng = np.random.default_rng(seed)
    while len(plan) < steps:
        drawn = rng.permutation(len(lengths))
        whole = len(drawn) // batch * batch  # a rest shorter than a batch waits for another epoch
        epoch = []
        for start in range(0, whole, WINDOW * batch):
            window = sorted(drawn[start:min(start + WINDOW * batch, whole)].tolist(), key=lambda i: (lengths[i], i))
            epoch += [window[at:at + batch] for at in range(0, len(window), batch)]
        plan += [epoch[i] for i in rng.permutation(len(epoch))]
    return plan[:steps]


def losses(model, packed: packing.Pack) -> tuple[torch.Tensor, torch.Tensor]:
    """(negative log-likelihood (N,) in fp32, whether the first choice is the label (N,)) of each label of a pack."""
    logits = packing.logits(model, packed)
    return F.cross_entropy(logits.float(), packed.labels, reduction="none"), logits.argmax(-1) == packed.labels


@torch.inference_mode()
def evaluate(model, rows: Sequence[Row]) -> dict:
    """`loss` (mean over labels), `token_accuracy`, and for each row, in their order, `exact` and `mean_loss`, (N,)."""
    device = next(model.parameters()).device
    was, exact, mean = model.training, np.zeros(len(rows), bool), np.zeros(len(rows))
    model.eval()
    total = right = count = 0
    for chosen in packing.split(rows, JUDGED_AT_ONCE):
        packed = packing.pack([rows[i] for i in chosen], device)
        nll, hit = losses(model, packed)
        total, right, count = total + float(nll.double().sum()), right + int(hit.sum()), count + len(nll)
        for at, i in enumerate(chosen):
            mine = packed.row == at
            exact[i], mean[i] = bool(hit[mine].all()), float(nll[mine].mean())
    model.train(was)
    heap.give_back()
    return {"loss": total / max(1, count), "token_accuracy": right / max(1, count), "exact": exact, "mean_loss": mean}


def fingerprint(rows: Sequence[Row]) -> str:
    """SHA-256 over ids and labels of rows, short."""
    whole = hashlib.sha256()
    for row in rows:
        whole.update(json.dumps([row.ids, row.labels]).encode())
    return whole.hexdigest()[:16]


def code_fingerprint() -> str:
    """SHA-256 over the modules that decide what training does, short."""
    here = Path(__file__).parent
    return hashlib.sha256(b"".join((here / name).read_bytes() for name in MODULES)).hexdigest()[:16]


class Trainer:
    """Everything that a step changes, so that saving and loading it is saving and loading the run."""

    def __init__(self, model, rows: Sequence[Row], config: Config, ranks: Ranks | None = None, name: str = ""):
        self.rows, self.config, self.ranks = rows, config, ranks or Ranks()
        self.plan = order([len(r.ids) for r in rows], config.batch, config.steps, config.seed)
        self.model = lora.attach(model, config.rank, config.alpha, config.targets, config.top, config.dropout,
                                 config.seed, name)
        if config.checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.params = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.params, lr=config.lr, betas=(0.9, 0.99),
                                           weight_decay=config.weight_decay, foreach=True)
        self.device = self.params[0].device
        self.step, self.best, self.best_step = 0, -math.inf, 0
        heap.hold()

    def advance(self) -> dict:
        """One optimiser step; the loss of its rows before it, and tokens: of the rows, and computed."""
        c, chosen = self.config, [self.rows[i] for i in self.plan[self.step]]
        self.model.train()
        torch.manual_seed(c.seed * 1_000_003 + self.step)  # dropout depends on the step alone
        packs = packing.split(chosen, c.pack)
        labels = sum(y != packing.IGNORE for r in chosen for y in r.labels[1:]) or 1  # a fault may leave none
        total, computed = 0.0, 0
        for p in self.params:
            p.grad = torch.zeros_like(p)
        for mine in packs[self.ranks.rank::self.ranks.count]:
            packed = packing.pack([chosen[i] for i in mine], self.device)
            nll, _ = losses(self.model.get_base_model(), packed)
            loss = nll.sum() / labels
            loss.backward()
            total, computed = total + float(loss.detach()), computed + packed.ids.shape[1]
            del nll, loss
        heap.give_back()
        self.ranks.average([p.grad for p in self.params])
        if self.ranks.count > 1:
            torch._foreach_mul_([p.grad for p in self.params], float(self.ranks.count))  # shares of one mean
        norm = torch.nn.utils.clip_grad_norm_(self.params, c.clip or math.inf)
        self.optimizer.param_groups[0]["lr"] = c.lr * learning_rate(c, self.step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        seen = self.ranks.table([total, computed]).sum(0)
        return {"loss": float(seen[0]), "grad_norm": float(norm), "labels": labels,
                "tokens": sum(len(r.ids) for r in chosen), "computed": int(seen[1])}

    def tensors(self) -> tuple[dict[str, torch.Tensor], dict]:
        """The whole state as named tensors and JSON-able metadata."""
        out = {f"adapter/{k}": v for k, v in lora.weights(self.model).items()}
        for i, p in enumerate(self.params):
            out |= {f"optimizer/{i}/{k}": v for k, v in self.optimizer.state[p].items()}
        return out, {"step": self.step, "best": self.best, "best_step": self.best_step}

    def load(self, tensors: dict[str, torch.Tensor], meta: dict):
        lora.put(self.model, {k.removeprefix("adapter/"): v for k, v in tensors.items() if k.startswith("adapter/")})
        for i, p in enumerate(self.params):
            start = f"optimizer/{i}/"
            self.optimizer.state[p] = {k.removeprefix(start): v.to(self.device if v.dim() else "cpu")
                                       for k, v in tensors.items() if k.startswith(start)}
        self.step, self.best, self.best_step = meta["step"], meta["best"], meta["best_step"]


def train(model, rows: Sequence[Row], valid: Sequence[Row], run: Path, config: Config, name: str = "",
          resume: bool | str = False, progress: bool = True, stop_after: int = 0, ranks: Ranks | None = None,
          notes: dict | None = None) -> tuple[object, dict]:
    """Train an adapter into the directory `run`; returns (the model with the best adapter, what run.json says).

    model: frozen, with attention `packing.ATTENTION`; peft changes it in place, `lora.detach` undoes that. name: what
    the adapter calls its base. resume: False refuses a directory that holds a run; True goes on from its last
    checkpoint; "same" takes a finished run of the same rows, configuration and code as it is, goes on with an
    unfinished one, and otherwise starts anew.
    stop_after: leave off after this step with a checkpoint. notes: kept in run.json (findings of the pre-flight check).
    Raises ValueError, `runs.CheckpointError`, and FloatingPointError when the loss is no longer finite.
    """
    run, ranks = Path(run), ranks or Ranks()
    configs = {"train": asdict(config), "data": {"train": fingerprint(rows), "valid": fingerprint(valid)},
               "model": {"name": name, "dtype": str(next(model.parameters()).dtype)},
               "code_of": {"adapters": code_fingerprint()}}
    if resume == "same" and (record := _same(run, configs, "ok")):
        adapted = lora.attach(model, config.rank, config.alpha, config.targets, config.top, config.dropout,
                              config.seed, name)
        lora.load(adapted, run / "best")
        return adapted.eval(), record
    if ranks.chief:
        if resume == "same" and not _same(run, configs, "running", "failed"):
            shutil.rmtree(run, ignore_errors=True)
        checks.open_run(run, configs, bool(resume))
    ranks.wait()
    trainer = Trainer(model, rows, config, ranks, name)
    state, clock, seen = run / "resume" / "state.safetensors", runs.Clock(), []
    if resume and state.exists():
        tensors, meta = runs.load_checkpoint(state)
        if meta["configs"] != json.loads(json.dumps(configs)):
            raise runs.CheckpointError(f"{state}: made by another configuration: "
                                       f"{checks.differences(meta['configs'], configs)}")
        trainer.load(tensors, meta)
        clock, seen = runs.Clock(**meta["spent"]), meta["seen"]
    record = {**configs, **runs.facts(trainer.device), "processes": ranks.count, "notes": notes or {},
              "status": "running", "n_train": len(rows), "n_valid": len(valid),
              "trainable": sum(p.numel() for p in trainer.params)}
    if ranks.chief:
        runs.rewind_metrics(run, trainer.step)
        runs.write_json(run / "run.json", record)
    ranks.wait()
    bar = tqdm(total=config.steps, initial=trainer.step, disable=not (progress and ranks.chief), unit="step",
               mininterval=1.0)
    try:
        if trainer.step == 0:
            _judge(trainer, valid, run, seen, clock)
        while trainer.step < config.steps:
            seen.append(trainer.advance())
            bar.update()
            if not math.isfinite(seen[-1]["loss"]):
                raise FloatingPointError(f"{run}: the loss is {seen[-1]['loss']} at step {trainer.step}; expected a "
                                         f"finite number (a lower lr than {config.lr} may help)")
            if trainer.step % config.eval_every == 0 or trainer.step == config.steps:
                _judge(trainer, valid, run, seen, clock)
                seen = []
                _keep(trainer, state, configs, clock, seen)
            if stop_after and trainer.step >= stop_after:
                _keep(trainer, state, configs, clock, seen)
                return trainer.model, record
    except BaseException as error:
        lora.detach(trainer.model)  # the caller's model is as it was
        if ranks.chief:
            runs.write_json(run / "run.json", {**record, "status": "failed",
                                               "reason": f"{type(error).__name__}: {error}"})
        raise
    finally:
        bar.close()
    record |= {"status": "ok", "steps": trainer.step, "best_step": trainer.best_step,
               "seconds": round(clock.wall, 3), "cpu_seconds": round(float(ranks.table([clock.cpu]).sum()), 3)}
    if ranks.chief:
        lora.save(trainer.model, run / "final")
        runs.write_json(run / "run.json", record)
    ranks.wait()
    lora.load(trainer.model, run / "best")
    return trainer.model.eval(), record


def _same(run: Path, configs: dict, *statuses: str) -> dict:
    """run.json of a run of these configurations (rows and code among them) with one of these statuses, else {}."""
    try:
        record = runs.read_json(run / "run.json")
    except (OSError, ValueError):
        return {}
    same = {part: record.get(part) for part in configs} == json.loads(json.dumps(configs))
    return record if same and record.get("status") in statuses else {}


def _judge(trainer: Trainer, valid: Sequence[Row], run: Path, seen: list[dict], clock: runs.Clock):
    """Score validation rows, append a line of metrics, keep the best adapter; by the first process alone."""
    if trainer.ranks.chief:
        found = evaluate(trainer.model.get_base_model(), valid)
        row = {"step": trainer.step, "epoch": round(trainer.step * trainer.config.batch / len(trainer.rows), 4),
               "seconds": round(clock.wall, 3), "cpu_seconds": round(clock.cpu, 3), "split": "valid",
               "loss": found["loss"], "token_accuracy": found["token_accuracy"],
               "exact_match": float(found["exact"].mean()), "n": len(valid)}
        if seen:
            row |= {"train_loss": float(np.mean([s["loss"] for s in seen])),
                    "tokens": sum(s["tokens"] for s in seen), "computed": sum(s["computed"] for s in seen)}
        runs.append_metrics(run, row)
        merit = row["exact_match"] - 1e-4 * min(row["loss"], 100.0)  # the loss decides between equals
        if merit > trainer.best:
            trainer.best, trainer.best_step = merit, trainer.step
            lora.save(trainer.model, run / "best")
    trainer.ranks.wait()


def _keep(trainer: Trainer, path: Path, configs: dict, clock: runs.Clock, seen: list[dict]):
    spent = {"wall": clock.wall, "cpu": float(trainer.ranks.table([clock.cpu]).sum())}
    if trainer.ranks.chief:
        tensors, meta = trainer.tensors()
        meta |= {"configs": configs, "spent": spent, "seen": seen}
        runs.save_checkpoint(path, tensors, meta, keep_previous=True)
