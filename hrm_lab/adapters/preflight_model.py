"""Pre-flight checks that need the model: what a loss comes back as, and how the base reads the rendered rows.

Of the likelihoods, what was measured on SmolLM2-135M-Instruct: the chance of the end token after a gold answer fell
from 0.20 to 0.017 under made-up role markers; the mean likelihood of the gold itself hardly moved, and that of its
first token moved the wrong way. A mean over the prompt hides the markers among hundreds of words (0.2 nats a token);
the whole prompt, beside the template's with the same words, does not: made-up markers cost 52 to 63 nats, Llama 2's 71
to 102, while plain paragraphs, headings or a missing line break cost -34 to 25 (10 rows, two formats).
"""

import math

from .formats import ending
from .preflight_plan import Finding, Plan, Seen, some

PROBED = 6  # rows that the base reads: the shortest ones
END_RATIO = 4.0  # times less probable than after the template: below what a change of words makes
PROMPT_NATS = 35.0  # a prompt, more than the template's: above what other words for the roles cost


def loss(p: Plan, seen: list[Seen]) -> list[Finding]:
    """The loss of one row is a scalar tensor with a gradient, finite and above zero."""
    import torch

    if not seen:
        return []
    row = min((s.row for s in seen), key=lambda r: len(r.ids))
    value = p.step(row)
    cure = "return the model's loss itself (no .item(), and no division that makes it a number)"

    def finding(what, consequence):
        return [Finding("loss", what, f"first step, row {row.id}", consequence, cure, "error")]

    if not isinstance(value, torch.Tensor):
        return finding(f"the loss came back as a plain {type(value).__name__}", "The trainer fails at step 0, as in "
                       "\"'int' object has no attribute 'mean'\".")
    if value.numel() != 1 or not value.requires_grad:
        return finding(f"the loss has shape {tuple(value.shape)} and requires_grad={value.requires_grad}",
                       "Nothing is learnt.")
    if not math.isfinite(value.item()) or value.item() <= 0:
        return finding(f"the loss is {value.item()}", "No label counts, or the numbers overflow.")
    return []


def _read(model, prompt: tuple[int, ...], answer: tuple[int, ...], end: int) -> tuple[float, float]:
    """(log-likelihood of the prompt in nats, chance of `end` after the answer)."""
    import torch

    ids = torch.tensor([[*prompt, *answer]], device=model.device)
    with torch.inference_mode():
        logs = model(input_ids=ids).logits[0].float().log_softmax(-1)  # (T, V)
    read = logs[:len(prompt) - 1].gather(1, ids[0, 1:len(prompt), None]).sum().item()
    return read, logs[-1, end].exp().item()


def likelihood(p: Plan, seen: list[Seen]) -> list[Finding]:
    """Under the base, the prompt, and the end token after a gold answer, are about as probable as the template makes
    them."""
    end = ending(p.tokenizer)[1]
    probed = sorted((s for s in seen if len(s.row.ids) > 2), key=lambda s: len(s.row.ids))[:PROBED]
    mine, theirs = [], []
    for s in probed:
        answer = s.reference.ids[s.prompt_length:-1]
        at = next((i for i, label in enumerate(s.row.labels) if label >= 0), s.prompt_length)
        prompt = s.row.ids[:at] if 0 < at < len(s.row.ids) else s.row.ids[:max(2, len(s.row.ids) - len(answer) - 1)]
        wanted = s.reference.ids[:s.prompt_length]
        theirs.append(_read(p.model, wanted, answer, end))
        mine.append(theirs[-1] if prompt == wanted else _read(p.model, prompt, answer, end))
    if not probed:
        return []
    stop, wanted = (sum(x[1] for x in side) / len(side) for side in (mine, theirs))
    read, usual = (sum(x[0] for x in side) / len(side) for side in (mine, theirs))
    ids, cure = [s.example.id for s in probed], "render rows with the chat template"
    return [
        *some("likelihood", f"after a gold answer the base ends its turn with chance {stop:.3f}, after the chat "
              f"template's prompt with {wanted:.3f}", ids if stop * END_RATIO < wanted else [], seen,
              "It must learn anew where a turn ends.", cure, severity="warning"),
        *some("likelihood", f"the rendered prompt is {usual - read:.0f} nats less likely under the base than the chat "
              "template's", ids if usual - read > PROMPT_NATS else [], seen,
              "The text is foreign to the model.", cure, severity="warning")]


CHECKS = {"loss": loss, "likelihood": likelihood}
