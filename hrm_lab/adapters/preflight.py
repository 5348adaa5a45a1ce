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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from .examples import Example
from .formats import Format, Row, ending, prompt_text, template, training_row
from .scoring import Verdict, judge


class PreflightError(ValueError):
    """Errors were found and the run was not forced; the message lists them."""


@dataclass(frozen=True)
class Plan:
    """A fine-tuning run and its evaluation, before the first step."""

    tokenizer: object
    form: Format  # of the evaluation
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    rows: tuple[Row, ...]  # what the trainer sees, one for each of `train`
    prompts: Mapping[str, Mapping[str, str]]  # system -> test id -> prompt; "tuned" is the model to be trained
    max_length: int  # tokens of a training row at most
    max_new: int  # tokens generated at most
    stop_ids: tuple[int, ...]  # that end a generation
    grade: Callable[[Example, str, Format], Verdict] = judge
    model: object = None  # the base, for the checks of likelihood
    step: Callable[[Row], object] | None = None  # the loss of one row, as the trainer will compute it


@dataclass(frozen=True)
class Finding:
    """What was found. `where` names the first places; "error" stops a training, "warning" does not."""

    check: str
    what: str
    where: str
    consequence: str
    cure: str
    severity: str

    def __str__(self):
        return (f"{self.severity} {self.check}: {self.what} ({self.where}). {self.consequence} Cure: {self.cure}")


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


@dataclass(frozen=True)
class Seen:
    """One training row beside what the evaluation will give for the same example."""

    example: Example
    row: Row
    reference: Row  # as the chat template renders it, whole
    prompt_length: int  # of the evaluation's prompt, in tokens
    taught: str | None  # the answer that carries loss, end token cut off; None: it cannot be told from the prompt
    labelled: tuple[int, ...] = field(default=())  # ids that carry loss

    @property
    def starts(self) -> bool:
        """Whether the row begins with the ids of the evaluation's prompt."""
        return self.row.ids[:self.prompt_length] == self.reference.ids[:self.prompt_length]


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


def decoded(tokenizer, ids: Sequence[int]) -> str:
    """The text of ids to the byte, control tokens too; some tokenizers would tidy the blanks before punctuation."""
    return tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def some(check: str, what: str, ids: Sequence[str], of: Sequence, consequence: str, cure: str, rows: str = "train rows",
         severity: str = "error") -> list[Finding]:
    """One finding where there are any ids, with their number and the first three; else none."""
    where = f"{len(ids)} of {len(of)} {rows}, first {', '.join(ids[:3])}"
    return [Finding(check, what, where, consequence, cure, severity)] if ids else []


def check(p: Plan) -> Report:
    """All checks on a plan. Raises ValueError: the tokenizer has no chat template."""
    from . import preflight_data, preflight_model, preflight_tokens  # they import this module

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
