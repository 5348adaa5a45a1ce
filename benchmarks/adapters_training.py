"""LoRA training beside TRL's SFTTrainer, and batched generation beside one by one: tokens a second, memory.

    python benchmarks/adapters_training.py --cache data/cache [--dtype fp32|bf16] [--rows 48] [--batch 8] [--steps 5]

Each system runs in a process of its own, so that its peak memory is its own, on the same rows (BFCL, hermes format), in
the same batches and order, with the same LoRA (rank 16 on all linear layers), learning rate and loss (on answers).
Tokens are those of the rows, whatever a system computes; seconds are CPU-seconds of steps after the first. TRL takes
--micro rows at once. The losses of the steps are printed, so that one sees that all train the same. The last line is
one JSON object.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SYSTEMS = ("ours", "rows one by one", "trl")


def peak_rss_mb() -> float:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def data(s: dict, tokenizer):
    """Test rows are not touched: (rows, examples) of the training split, at most `longest` tokens each."""
    from hrm_lab.adapters import study
    from hrm_lab.adapters.formats import FORMATS, training_row

    parts = ("train", "validation", "test")
    chosen = study.parts({"data": s["data"], "cache": s["cache"], "longest": dict.fromkeys(parts, s["longest"]),
                          "rows": dict.fromkeys(parts, s["rows"]), "max_new": s["longest"]}, tokenizer)
    pairs = [(training_row(tokenizer, e, FORMATS[s["format"]]), e) for e in chosen["train"]]
    return [row for row, _ in pairs], [e for _, e in pairs]


def timer(steps: list):
    """A function to call after each step: CPU-seconds since the last."""
    last = [time.process_time()]

    def step():
        now = time.process_time()
        steps.append(now - last[0])
        last[0] = now

    return step


def train_ours(s: dict, alone: bool) -> dict:
    from hrm_lab.adapters import finetune, models

    model, tokenizer = models.load(s["model"], s["cache"], "cpu", s["dtype"])
    rows, _ = data(s, tokenizer)
    pack = 1 if alone else finetune.Config().pack  # without sharing and packing
    trainer = finetune.Trainer(model, rows, finetune.Config(steps=s["steps"], batch=s["batch"], pack=pack, lr=s["lr"],
                                                            warmup=0, lr_min_ratio=1.0, clip=1.0))
    seconds, losses, tokens = [], [], []
    after = timer(seconds)
    for _ in range(s["steps"]):
        found = trainer.advance()
        after()
        losses.append(found["loss"])
        tokens.append(found["tokens"])
    return {"losses": losses, "tokens": tokens, "seconds": seconds}


def train_trl(s: dict) -> dict:
    import pyarrow
    import torch
    from datasets import Dataset
    from datasets.table import InMemoryTable
    from peft import LoraConfig
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from hrm_lab.adapters import finetune, models

    model, tokenizer = models.load(s["model"], s["cache"], "cpu", s["dtype"], attention="sdpa")
    rows, _ = data(s, tokenizer)
    plan = finetune.order([len(r.ids) for r in rows], s["batch"], s["steps"], 0)
    chosen = [rows[i] for step in plan for i in step]
    columns = [{"input_ids": list(r.ids), "labels": list(r.labels)} for r in chosen]
    table = Dataset(InMemoryTable(pyarrow.Table.from_pylist(columns)), fingerprint="rows")  # else it is pickled
    seconds, losses = [], []
    after = timer(seconds)

    class Watch(TrainerCallback):
        def on_step_end(self, *_, **__):
            after()

        def on_log(self, args, state, control, logs=None, **_):
            losses.extend([logs["loss"]] if "loss" in logs else [])

    class InOrder(SFTTrainer):
        def _get_train_sampler(self, *_):
            return SequentialSampler(self.train_dataset)

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as out:
        config = SFTConfig(output_dir=out, per_device_train_batch_size=s["micro"], max_steps=s["steps"],
                           gradient_accumulation_steps=s["batch"] // s["micro"], learning_rate=s["lr"], use_cpu=True,
                           lr_scheduler_type="constant", logging_steps=1, report_to=[], save_strategy="no", bf16=False,
                           max_length=None, packing=False, gradient_checkpointing=False, max_grad_norm=1.0,
                           adam_beta2=0.99, weight_decay=0.0, disable_tqdm=True,
                           dataset_kwargs={"skip_prepare_dataset": True})
        lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
        trainer = InOrder(model=model, args=config, train_dataset=table, processing_class=tokenizer, peft_config=lora,
                          callbacks=[Watch()])
        trainer.train()
    tokens = [sum(len(rows[i].ids) for i in step) for step in plan]
    return {"losses": losses, "tokens": tokens, "seconds": seconds}


def generation(s: dict) -> dict:
    """Batched against one by one: tokens a CPU-second, and the share of equal answers."""
    from hrm_lab.adapters import decode, models
    from hrm_lab.adapters.formats import FORMATS, encode, prompt_text

    model, tokenizer = models.load(s["model"], s["cache"], "cpu", s["dtype"])
    _, examples = data(s, tokenizer)
    prompts = [encode(tokenizer, prompt_text(tokenizer, e, FORMATS[s["format"]])) for e in examples]
    ends, found = frozenset(), {}
    for name, batch, asked in (("one by one", 1, prompts[:s["alone"]]), ("batched", s["together"], prompts)):
        start = time.process_time()
        made = decode.generate(model, asked, ends, s["new"], batch)
        seconds = time.process_time() - start
        found[name] = {"answers": len(asked), "tokens": sum(len(o.ids) for o in made), "cpu_seconds": seconds,
                       "cpu_seconds_an_answer": seconds / len(asked)}
        found[f"{name} ids"] = [o.ids for o in made]
    one, many = found.pop("one by one ids"), found.pop("batched ids")
    found["same_answers"] = sum(a == b for a, b in zip(one, many, strict=False)) / len(one)
    found["times"] = found["one by one"]["cpu_seconds_an_answer"] / found["batched"]["cpu_seconds_an_answer"]
    return found


def measure(s: dict) -> dict:
    import torch

    torch.set_num_threads(1)
    if s["system"] == "generation":
        return generation(s) | {"peak_rss_mb": peak_rss_mb()}
    found = train_trl(s) if s["system"] == "trl" else train_ours(s, s["system"] != "ours")
    rates = [t / x for t, x in zip(found["tokens"][1:], found["seconds"][1:], strict=True)]  # the first step warms up
    return {"losses": found["losses"], "tokens_per_cpu_second": sum(found["tokens"][1:]) / sum(found["seconds"][1:]),
            "median": statistics.median(rates), "n": len(rates), "peak_rss_mb": peak_rss_mb()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", default="data/cache")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--format", default="hermes")
    parser.add_argument("--data", default="bfcl", choices=["bfcl", "sample"])
    parser.add_argument("--systems", default=",".join([*SYSTEMS, "generation"]))
    for name, value in (("rows", 48), ("batch", 8), ("steps", 5), ("micro", 2), ("longest", 420), ("together", 16),
                        ("alone", 3), ("new", 40)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(json.loads(given.one))))
        return 0
    settings = {k: v for k, v in vars(given).items() if k not in ("one", "systems")}
    results = {}
    for system in given.systems.split(","):
        done = subprocess.run([sys.executable, __file__, "--one", json.dumps(settings | {"system": system})],
                              capture_output=True, text=True)
        if done.returncode:
            print(f"{system}: failed: {done.stderr.strip()[-1500:]}", file=sys.stderr)
            results[system] = {"failed": done.stderr.strip().splitlines()[-1:]}
            continue
        results[system] = json.loads(done.stdout.splitlines()[-1])
        print(system, json.dumps(results[system]))
    rates = {name: found.get("tokens_per_cpu_second") for name, found in results.items()}
    ratio = rates["ours"] / rates["trl"] if rates.get("ours") and rates.get("trl") else None
    print(json.dumps({"settings": settings, "results": results, "ours_over_trl": ratio}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
