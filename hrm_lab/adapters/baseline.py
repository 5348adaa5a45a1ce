"""What a tuned adapter must beat: the untuned base, free, constrained by a grammar, with examples; or an endpoint.

A baseline is asked what the adapter is asked: the same examples through the same format, and a hash over the prompts
stands in each result. Unusual: the grammar-constrained base is the one to beat. An untuned model of 135 million
parameters writes 0 % valid calls when free and 98 % under a grammar, so that "from 0 to 36 %" says little about
learning.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hrm_lab.metrics import format_score

from .examples import Example
from .formats import Format, messages_hash, prompt_hash, prompt_text
from .scoring import Verdict, compare, judge, scores


@dataclass(frozen=True)
class Generation:
    """A generated answer, its end token cut off."""

    text: str
    stopped: bool  # the model ended its turn itself
    prompt_tokens: int
    tokens: int  # generated


Generate = Callable[[Sequence[str], Sequence[str] | None], Sequence[Generation]]  # (prompts, grammars or None)


@dataclass(frozen=True)
class Result:
    """One system's answers to a list of examples."""

    system: str
    format: str
    constrained: bool
    shots: int
    questions: str  # hash over ids and messages: the same for all systems that are compared
    prompts: str  # hash over ids and rendered prompts; "" where an endpoint renders them
    prompt_tokens: int
    tokens: int
    verdicts: tuple[Verdict, ...]

    def json(self) -> dict:
        """Everything but the verdicts, with their scores."""
        return {key: value for key,
                value in vars(self).items() if key != "verdicts"} | {"scores": scores(self.verdicts)}


def few_shot(form: Format, train: Sequence[Example], k: int = 2, seed: int = 0) -> Format:
    """The format with k answered examples of the training split before each question, of the shortest quarter.

    Each comes with its own context, so that a prompt has k + 1 system messages; a chat template that allows one
    refuses. Raises ValueError: fewer than k rows with a call.
    """
    able = sorted((e for e in train if e.calls), key=lambda e: (len(form.context(e)), e.id))
    if len(able) < k:
        raise ValueError(f"few_shot: {len(able)} training rows with a call; expected at least k = {k}")
    return replace(form, shots=tuple(random.Random(seed).sample(able[:max(k, len(able) // 4)], k)))


def ask(system: str, examples: Sequence[Example], form: Format, tokenizer, generate: Generate, *,
        constrained: bool = False, single: bool = True) -> Result:
    """A local model's answers, judged. `single`: under the grammar exactly one call may be written."""
    prompts = [prompt_text(tokenizer, e, form) for e in examples]
    grammars = [form.grammar(e, single) for e in examples] if constrained else None
    made = generate(prompts, grammars)
    if len(made) != len(examples):
        raise ValueError(f"ask: {len(made)} answers to {len(examples)} prompts; expected one each")
    return judged(system, examples, form, made, prompts, constrained, prompt_hash(tokenizer, examples, form))


def judged(system: str, examples: Sequence[Example], form: Format, made: Sequence[Generation], prompts: Sequence[str],
           constrained: bool, digest: str) -> Result:
    """The result of answers that were generated elsewhere; `digest`: of the rendered prompts."""
    verdicts = tuple(judge(e, g.text, form, g.stopped, text)
                     for e, g, text in zip(examples, made, prompts, strict=True))
    return Result(system, form.name, constrained, len(form.shots), messages_hash(examples, form), digest,
                  sum(g.prompt_tokens for g in made),
                  sum(g.tokens for g in made), verdicts)


def compared(results: Sequence[Result], against: str) -> list[dict]:
    """One row a result: its scores, and where it is not `against` itself the paired difference in exact match and in
    arguments, with p. Raises ValueError: `against` is not there, or systems answered other questions."""
    base = next((r for r in results if r.system == against), None)
    if base is None:
        raise ValueError(f"compared: no system {against!r}; expected one of {', '.join(r.system for r in results)}")
    rows = []
    for r in results:
        row = {"system": r.system, "format": r.format, "constrained": r.constrained, "shots": r.shots,
               "questions": r.questions, **scores(r.verdicts)}
        if r is not base:
            for field in ("exact", "arguments"):
                row[f"{field} - {against}"] = compare(r.verdicts, base.verdicts, field)
        rows.append(row)
    return rows


SHOWN = ("valid_json", "name", "arguments", "exact", "argument_f1", "stopped")


def markdown(rows: Sequence[dict], fields: Sequence[str] = SHOWN) -> str:
    """A table of `compared` rows: each score with n and interval, and p where there is a difference."""
    differences = sorted({key for row in rows for key in row if key.startswith("exact - ")})
    head = ["system", "format", *fields, *(f"{key}, p" for key in differences)]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    for row in rows:
        cells = [row["system"], row["format"], *(format_score(row[f]) if f in row else "–" for f in fields)]
        cells += [f"{format_score(row[key])}, p = {row[key]['p']:.2g}" if key in row else "–" for key in differences]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
