"""Any causal language model of `transformers` behind the contract of test generation; HRM-Text is one of them.

HRM-Text (Sapient 2026, `HrmTextForCausalLM`) reads the requirement as a prefix that sees itself in both directions, and
continues it; it is told by `token_type_ids` which tokens those are. Other models see every token causally. Source and
target are joined row by row at their true lengths, so that no padding stands between them, and the loss is that of
target tokens only. Why not `generate` of the library: a grammar has to choose the tokens of each row; and rows of equal
length go together here, so that no model needs to be told of padding on the left.
"""

from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrm_lab.testgen.batches import Batch, real
from hrm_lab.testgen.tokenizer import END, PAD


class PrefixLM(nn.Module):
    """(b) of the three forms. `prefix`: whether the model takes `token_type_ids` for a prefix."""

    def __init__(self, lm: nn.Module, prefix: bool):
        super().__init__()
        self.lm, self.prefix = lm, prefix

    def extra(self, is_source: Tensor) -> dict[str, Tensor]:
        return {"token_type_ids": is_source.long()} if self.prefix else {}

    def nll(self, batch: Batch, dtype: torch.dtype = torch.float32) -> Tensor:
        """(B, T) nats of each target token; 0 on padding."""
        joined, is_source = join(batch)
        total = batch.source_lengths + batch.target_lengths
        mask = real(total, joined.shape[1])
        with torch.autocast(joined.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits = self.lm(input_ids=joined, attention_mask=mask.long(), use_cache=False,
                             **self.extra(is_source)).logits
        T = batch.target.shape[1]
        at = (batch.source_lengths[:, None] - 1 + torch.arange(T, device=joined.device)).clamp(max=joined.shape[1] - 1)
        logits = logits.gather(1, at[..., None].expand(-1, -1, logits.shape[-1]))  # (B, T, vocab): what predicts each
        return F.cross_entropy(logits.float().transpose(1, 2), batch.target, ignore_index=PAD, reduction="none")

    @torch.no_grad()
    def generate(self, source: Tensor, lengths: Tensor, limit: int, choose=None,
                 dtype: torch.dtype = torch.float32) -> list[list[int]]:
        """As `Seq2Seq.generate`."""
        found: list[list[int]] = [[] for _ in range(len(source))]
        groups = defaultdict(list)
        for row, length in enumerate(lengths.tolist()):
            groups[length].append(row)
        for length, members in groups.items():
            rows = torch.tensor(members, device=source.device)
            ids, cache = source[rows, :length], None
            is_source, done = torch.ones_like(ids), torch.zeros(len(rows), dtype=torch.bool, device=source.device)
            for _ in range(limit):
                with torch.autocast(ids.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
                    out = self.lm(input_ids=ids, past_key_values=cache, use_cache=True, **self.extra(is_source))
                cache, logits = out.past_key_values, out.logits[:, -1].float()
                picked = torch.full((len(rows),), END, device=ids.device)
                going = (~done).nonzero().squeeze(1)
                picked[going] = choose(logits[going], rows[going]) if choose else logits[going].argmax(-1)
                done |= picked == END
                if done.all():
                    break
                for row, token, ended in zip(members, picked.tolist(), done.tolist(), strict=True):
                    if not ended:
                        found[row].append(token)
                ids, is_source = picked[:, None], torch.zeros_like(picked[:, None])
        return found


def join(batch: Batch) -> tuple[Tensor, Tensor]:
    """Source and target of each row without padding between them: ids (B, L) and where the source is (B, L) bool."""
    total = int((batch.source_lengths + batch.target_lengths).max())
    ids = torch.full((len(batch.source), total), PAD, device=batch.source.device)
    for b, (s, t) in enumerate(zip(batch.source_lengths.tolist(), batch.target_lengths.tolist(), strict=True)):
        ids[b, :s], ids[b, s:s + t] = batch.source[b, :s], batch.said[b, :t]
    return ids, real(batch.source_lengths, total)


def hrm_text(vocab_size: int, hidden: int = 96, heads: int = 4, layers: int = 1, H_cycles: int = 2,
             L_cycles: int = 2) -> PrefixLM:
    """A small HRM-Text from scratch, by the class that also loads the public checkpoint. Needs `transformers`."""
    from transformers import HrmTextConfig, HrmTextForCausalLM

    config = HrmTextConfig(vocab_size=vocab_size, hidden_size=hidden, intermediate_size=4 * hidden,
                           num_attention_heads=heads, num_key_value_heads=heads, head_dim=hidden // heads,
                           num_layers_per_stack=layers, H_cycles=H_cycles, L_cycles=L_cycles, pad_token_id=PAD,
                           bos_token_id=None, eos_token_id=END)
    return PrefixLM(HrmTextForCausalLM(config), prefix=True)


def plain_lm(vocab_size: int, hidden: int = 96, heads: int = 4, layers: int = 2) -> PrefixLM:
    """Its control: a Llama of as many blocks, every token once through each, from scratch. Needs `transformers`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=vocab_size, hidden_size=hidden, intermediate_size=4 * hidden,
                         num_attention_heads=heads, num_key_value_heads=heads, num_hidden_layers=layers,
                         pad_token_id=PAD, bos_token_id=None, eos_token_id=END)
    return PrefixLM(LlamaForCausalLM(config), prefix=False)
