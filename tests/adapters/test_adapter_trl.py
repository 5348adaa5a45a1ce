"""TRL's SFTTrainer and the plain loop take the same steps: same rows in, same losses and adapter out."""

import numpy as np
import pytest
import torch

pytest.importorskip("trl", reason="the extra `trl` is not installed")
pytest.importorskip("peft")

from hrm_lab.adapters import finetune, lora, models
from hrm_lab.adapters.formats import IGNORE, Row

CONFIG = finetune.Config(steps=4, batch=4, pack=60, rank=4, lr=2e-2, warmup=0, lr_min_ratio=1.0, clip=1.0)


def rows(n=16):
    rng = np.random.default_rng(0)
    made = []
    for i in range(n):
        prompt, answer = rng.integers(5, 250, rng.integers(6, 14)).tolist(), [*rng.integers(5, 250, 3).tolist(), 2]
        made.append(Row(str(i), tuple(prompt + answer), tuple([IGNORE] * len(prompt) + answer)))
    return made


@pytest.mark.filterwarnings("ignore")
def test_both_take_the_same_steps(tmp_path):
    import pyarrow
    from datasets import Dataset
    from datasets.table import InMemoryTable
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    data = rows()
    ours = finetune.Trainer(models.load("tiny", dtype="fp32", device="cpu")[0], data, CONFIG)
    start = {k: v.clone() for k, v in lora.weights(ours.model).items()}
    losses = [ours.advance()["loss"] for _ in range(CONFIG.steps)]

    plain, tokenizer = models.load("tiny", dtype="fp32", device="cpu", attention="eager")
    adapted = lora.attach(plain, CONFIG.rank, CONFIG.alpha)
    lora.put(adapted, start)
    for module in adapted.modules():
        vars(module).pop("forward", None)  # peft's own forward
    theirs = []

    class Watch(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **_):
            theirs.extend([logs["loss"]] if "loss" in logs else [])

    class InOrder(SFTTrainer):
        def _get_train_sampler(self, *_):
            return SequentialSampler(self.train_dataset)

    order = [i for step in ours.plan for i in step]
    columns = [{"input_ids": list(data[i].ids), "labels": list(data[i].labels)} for i in order]
    table = Dataset(InMemoryTable(pyarrow.Table.from_pylist(columns)), fingerprint="rows")  # else it is pickled
    given = SFTConfig(output_dir=str(tmp_path), per_device_train_batch_size=2, gradient_accumulation_steps=2,
                      max_steps=CONFIG.steps, learning_rate=CONFIG.lr, lr_scheduler_type="constant", adam_beta2=0.99,
                      weight_decay=0.0, max_grad_norm=1.0, logging_steps=1, report_to=[], save_strategy="no",
                      use_cpu=True, bf16=False, gradient_checkpointing=False, max_length=None, disable_tqdm=True,
                      dataset_kwargs={"skip_prepare_dataset": True})
    InOrder(model=adapted, args=given, train_dataset=table, processing_class=tokenizer, callbacks=[Watch()]).train()
    assert theirs == pytest.approx(losses, abs=1e-4)
    for name, found in lora.weights(adapted).items():
        torch.testing.assert_close(found, lora.weights(ours.model)[name], atol=1e-3, rtol=1e-2)
