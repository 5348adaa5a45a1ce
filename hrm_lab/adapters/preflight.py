"""Pre-flight: refuse a fine-tuning run that cannot succeed, before its first step.

A `Plan` says all that a run will do: examples of three splits, the very ids and labels that the trainer will see, the
prompts that each compared system will be given, the lengths, what stops a generation, how answers are graded. Each
check looks at it and returns findings: what, where, consequence, cure. Errors stop the training; `force` is recorded.

Why: a published run scored 0 % and its authors blamed made-up role markers. All of its gold answers were Python
literals graded as JSON, a third of its training rows lost the answer to truncation, and no end token was taught: each
is seen here in seconds. Unusual: what is graded first is not a model but the labels themselves, decoded: what the rows
teach must score 100 % by the grader that will judge the model.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from . import preflight_data, preflight_model, preflight_tokens
from .examples import Example
from .formats import Format, ending, prompt_text, template, training_row
from .preflight_plan import Finding, Plan, Seen, decoded


class PreflightError(ValueError):
    """Errors were found and the run was not forced; the message lists them."""


@dataclass(frozen=True)
class Report:
    """Findings of one plan; `forced`: there were errors and the run goes on all the same."""

    findings: tuple[Finding, ...]
    checks: tuple[str, ...]  # all that were made
    skipped: tuple[str, ...]  # that the plan has nothing to make them with
    seconds: float
    forced: bool = False

    @property
    def errors(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "error"]

    def json(self) -> dict:
        return asdict(self) | {"errors": len(self.errors)}


def plan(tokenizer, form: Format, train: Sequence[Example], validation: Sequence[Example], test: Sequence[Example], *,
         systems: Sequence[str] = ("tuned", "base"), max_length: int = 2048, max_new: int = 128, model=None,
         step=None) -> Plan:
    """The sound plan: rows and prompts by the chat template. A trainer with its own rows replaces `rows`.

    Raises ValueError where the tokenizer has no chat template, or one that cannot be continued.
    """
    prompts = {e.id: prompt_text(tokenizer, e, form) for e in test}
    return Plan(tokenizer, form, tuple(train), tuple(validation), tuple(test),
                tuple(training_row(tokenizer, e, form) for e in train), dict.fromkeys(systems, prompts), max_length,
                max_new, (ending(tokenizer)[1],), model=model, step=step)


def _see(p: Plan) -> list[Seen]:
    rows = {row.id: row for row in p.rows}
    end = ending(p.tokenizer)[1]
    seen = []
    for example in p.train:
        if example.id not in rows:
            continue
        row, reference = rows[example.id], training_row(p.tokenizer, example, p.form)
        length = sum(label < 0 for label in reference.labels)
        labelled = tuple(label for label in row.labels if label >= 0)
        masked = len(labelled) < len(row.labels)
        starts = row.ids[:length] == reference.ids[:length]
        region = labelled if masked else row.ids[length:] if starts else None
        if region is None:  # loss everywhere, and roles of its own: what looks like a call after the user's words
            rest = decoded(p.tokenizer, row.ids).rpartition(example.turns[-1]["content"])[2]
            at = rest.find(p.form.wrap[0].strip() or "{")
            taught = rest[at:].removesuffix(decoded(p.tokenizer, [end])).strip() if at >= 0 else None
        else:
            taught = decoded(p.tokenizer, region[:region.index(end)] if end in region else region)
        seen.append(Seen(example, row, reference, length, taught, labelled))
    return seen


def check(p: Plan) -> Report:
    """All checks on a plan. Raises ValueError: the tokenizer has no chat template."""
    start = time.perf_counter()
    template(p.tokenizer, [{"role": "user", "content": "u"}], ask=True)
    seen = _see(p)
    made = {**preflight_data.CHECKS, **preflight_tokens.CHECKS}
    skipped = []
    for name, one in preflight_model.CHECKS.items():
        needs = {"loss": p.step, "likelihood": p.model}[name]
        if needs is None:
            skipped.append(name)
        else:
            made[name] = one
    findings = [finding for one in made.values() for finding in one(p, seen)]
    findings.sort(key=lambda f: f.severity != "error")
    return Report(tuple(findings), tuple(made), tuple(skipped), round(time.perf_counter() - start, 2))


def require(report: Report, force: bool = False) -> Report:
    """The report if training may start; with `force` it is marked so. Raises `PreflightError` listing the errors."""
    if not report.errors:
        return report
    if not force:
        listed = "\n".join(f"  {finding}" for finding in report.errors)
        raise PreflightError(f"pre-flight found {len(report.errors)} errors; training refused (force=True goes on, and "
                             f"says so in the report)\n{listed}")
    return replace(report, forced=True)
