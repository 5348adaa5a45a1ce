"""Training of a text model on pairs: AdamW, clipping, weight average, early stopping, the best epoch, exact resume.

Pre-training and fine-tuning are the same call on other pairs. The checkpoint that counts has its epoch in its name
(`checkpoints/best-epoch-007.safetensors`). A run that was killed goes on from its last whole epoch and ends with the
same bits (CPU, same thread count): the order of batches and the hidden source tokens depend on seed and step alone.
Unusual: the best epoch is chosen by a task score where the caller gives one (`check`), by the loss only where it ties.
Some words of the source are hidden in training, so that a paraphrase may lack the words that gave a family away, and
some of the target's earlier words, so that the decoder must look at the requirement (Bowman et al. 2016, arXiv
1511.06349).
"""

import copy
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hrm_lab import optim, runs
from hrm_lab.files import write_json
from hrm_lab.testgen.batches import Batch, Pair, collate, epoch_order
from hrm_lab.testgen.seq2seq import Seq2Seq, Seq2SeqConfig
from hrm_lab.testgen.tokenizer import HIDDEN, SPECIAL


@dataclass(frozen=True)
class Training:
    """One run. `hide`: share of source tokens hidden, placeholders (ids from `visible_from` on) never.

    hide_said: share of the target's own earlier tokens hidden.
    """

    epochs: int = 12
    batch: int = 32
    lr: float = 3e-3
    lr_min_ratio: float = 0.05
    warmup: int = 50  # steps
    weight_decay: float = 0.05
    clip: float = 1.0
    ema: float = 0.98
    hide: float = 0.1
    hide_said: float = 0.1
    visible_from: int = 10**9
    patience: int = 4  # epochs without a better one
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "batch", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"Training.{name}: got {getattr(self, name)}, expected at least 1")
        if self.precision not in ("auto", "bf16", "fp32"):
            raise ValueError(f"Training.precision: got {self.precision!r}, expected auto, bf16 or fp32")


def rate(c: Training, step: int, steps: int) -> float:
    """Linear warm-up, then cosine down to lr_min_ratio."""
    warmup = min(c.warmup, steps // 4)
    if step < warmup:
        return c.lr * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return c.lr * (c.lr_min_ratio + (1 - c.lr_min_ratio) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def dtype_of(c: Training, device: torch.device) -> torch.dtype:
    fast = c.precision == "bf16" or (c.precision == "auto" and runs.fast_in_bf16(device))
    return torch.bfloat16 if fast else torch.float32


def hide(batch: Batch, c: Training, step: int):
    """Hide some of the source tokens and of the target tokens that the model reads, in place."""
    rng = np.random.default_rng((c.seed, 7, step))
    for ids, share, end in ((batch.source, c.hide, c.visible_from), (batch.said, c.hide_said, 10**9)):
        drawn = torch.from_numpy(rng.random(tuple(ids.shape))).to(ids.device)
        ids[(drawn < share) & (ids >= len(SPECIAL)) & (ids < end)] = HIDDEN


def token_nll(model: nn.Module, pairs: list[Pair], dtype: torch.dtype = torch.float32,
              size: int = 64) -> list[np.ndarray]:
    """The nats of every target token of each pair, (T,) each, without padding."""
    found: list[np.ndarray | None] = [None] * len(pairs)
    order = sorted(range(len(pairs)), key=lambda n: len(pairs[n].target))
    device = next(model.parameters()).device
    with torch.no_grad():
        for at in range(0, len(order), size):
            rows = order[at:at + size]
            nll = model.nll(collate([pairs[n] for n in rows]).to(device), dtype).float().cpu().numpy()
            for n, row in zip(rows, nll, strict=True):
                found[n] = row[:len(pairs[n].target)].astype(np.float64)
    return found


def loss_of(model: nn.Module, batch: Batch, dtype: torch.dtype) -> Tensor:
    """Mean nats a target token, examples by their weight."""
    weight = batch.weight[:, None]
    return (model.nll(batch, dtype) * weight).sum() / (batch.target_mask * weight).sum()


def fit(model: nn.Module, c: Training, train: list[Pair], valid: list[Pair], run: Path | str, check=None,
        resume: bool = False, describe: dict | None = None, stop_after: int = 0) -> dict:
    """Train into the folder `run`; the model ends with the weights of the best epoch.

    check(model) -> {"merit": float, ...}: a task score on validation data, logged each epoch; the highest merit is
    best. resume: go on from the last whole epoch, if there is one; otherwise the folder's earlier history is dropped.
    describe: what the checkpoint says of itself. stop_after: leave off after this epoch, to be resumed. Returns the
    best epoch, its path, the epochs' rows and the seconds. Raises ValueError: no data; CheckpointError: a checkpoint
    of another configuration; FloatingPointError: a loss that is no longer finite.
    """
    run = Path(run)
    if not train or not valid:
        raise ValueError(f"{run}: got {len(train)} training and {len(valid)} validation pairs, expected some of each")
    device = next(model.parameters()).device
    dtype, params = dtype_of(c, device), dict(model.named_parameters())
    torch.manual_seed(c.seed)
    average = copy.deepcopy(model)
    (optimizer,) = optim.build("adamw", model, c.lr, c.weight_decay, (0.9, 0.98), 0.0)
    steps = c.epochs * len(epoch_order(train, c.batch, c.seed, 0))
    best = {"merit": -math.inf, "loss": math.inf, "epoch": 0, "path": ""}
    start, step, spent, reason = 0, 0, (0.0, 0.0), ""
    state = run / "resume" / "state.safetensors"
    configs = {"training": asdict(c), "describe": describe or {}, "train": len(train), "valid": len(valid)}
    if resume and state.exists():
        tensors, meta = runs.load_checkpoint(state)
        if meta["configs"] != configs:
            raise runs.CheckpointError(f"{state}: made by another configuration or other data; expected {configs}")
        load_state(tensors, model, average, optimizer, params)
        start, step, best, spent, reason = (meta[k] for k in ("epoch", "step", "best", "spent", "reason"))
    run.mkdir(parents=True, exist_ok=True)
    runs.rewind_metrics(run, step)
    for stale in () if step else (run / "checkpoints").glob("best-epoch-*.safetensors"):  # of an earlier run
        stale.unlink()
    clock = runs.Clock(*spent)
    for epoch in range(start + 1, c.epochs + 1):
        if reason or (stop_after and epoch > stop_after):
            break
        total = tokens = 0.0
        model.train()
        for rows in epoch_order(train, c.batch, c.seed, epoch):
            batch = collate([train[n] for n in rows]).to(device)
            hide(batch, c, step)
            loss = loss_of(model, batch, dtype)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(params.values(), c.clip)
            for group in optimizer.param_groups:
                group["lr"] = rate(c, step, steps)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            with torch.no_grad():
                torch._foreach_lerp_(list(average.parameters()), list(params.values()),
                                     1 - min(c.ema, (1 + step) / (10 + step)))
            total, tokens = total + float(loss.detach()) * int(batch.target_lengths.sum()), tokens + int(
                batch.target_lengths.sum())
        if not math.isfinite(total):
            raise FloatingPointError(f"{run}: the loss is {total} in epoch {epoch}; expected a finite number "
                                     f"(a lower lr than {c.lr} may help)")
        average.eval()
        loss = float(np.concatenate(token_nll(average, valid, dtype)).mean())
        row = {"step": step, "epoch": epoch, "seconds": round(clock.wall, 2), "cpu_seconds": round(clock.cpu, 2),
               "lr": rate(c, step - 1, steps), "train_loss": total / tokens, "loss": loss, "perplexity": math.exp(loss),
               **(check(average) if check else {})}
        runs.append_metrics(run, row)
        merit = row.get("merit", -loss)
        if (merit, -loss) > (best["merit"], -best["loss"]):
            old, best = best, {"merit": merit, "loss": loss, "epoch": epoch,
                               "path": f"checkpoints/best-epoch-{epoch:03d}.safetensors"}
            runs.save_checkpoint(run / best["path"], average.state_dict(),
                                 {"config": describe or {}, "epoch": epoch, "loss": loss})
            if old["path"]:
                (run / old["path"]).unlink(missing_ok=True)
        if epoch - best["epoch"] >= c.patience:
            reason = f"no better epoch in {c.patience}; the best was {best['epoch']}"
        runs.save_checkpoint(state, tensors_of(model, average, optimizer, params),
                             {"epoch": epoch, "step": step, "best": best, "configs": configs, "reason": reason,
                              "spent": (clock.wall, clock.cpu)})
    if best["path"]:
        model.load_state_dict(runs.load_checkpoint(run / best["path"])[0])
    model.eval()
    history = runs.read_metrics(run)
    found = {"best_epoch": best["epoch"], "checkpoint": best["path"], "history": history, "seconds": clock.wall,
             "cpu_seconds": clock.cpu, "reason": reason or f"all {c.epochs} epochs done", "examples": len(train)}
    told = {k: v for k, v in found.items() if k != "history"}
    write_json(run / "run.json", {**configs, **runs.facts(device), **told})
    return found


def tensors_of(model, average, optimizer, params) -> dict[str, Tensor]:
    """The whole state of a run as named tensors."""
    found = {f"model/{k}": v for k, v in model.state_dict().items()}
    found |= {f"average/{k}": v for k, v in average.state_dict().items()}
    return found | {f"optimizer/{name}/{k}": v for name, p in params.items() for k, v in optimizer.state[p].items()}


def load_state(tensors: dict[str, Tensor], model, average, optimizer, params):
    def part(prefix: str) -> dict[str, Tensor]:
        return {k[len(prefix):]: v for k, v in tensors.items() if k.startswith(prefix)}

    model.load_state_dict(part("model/"))
    average.load_state_dict(part("average/"))
    for name, p in params.items():
        optimizer.state[p] = part(f"optimizer/{name}/")


def load_model(path: Path | str, device: str = "cpu") -> Seq2Seq:
    """A model from its checkpoint. CheckpointError: missing, cut, altered, or of another kind of model."""
    tensors, meta = runs.load_checkpoint(Path(path))
    try:
        model = Seq2Seq(Seq2SeqConfig(**meta["config"]))
        model.load_state_dict(tensors)
    except (TypeError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise runs.CheckpointError(f"{path}: {reason}; expected the weights of a Seq2Seq") from None
    return model.to(device).eval()
