"""One format from pre-flight to verdict, and the faults of failed runs trained one by one at equal budget.

Unusual: every step leaves its answers as lines of JSON beside a key (model, prompts, way, adapter), and is not repeated
where the key is the same, so that a long study can be killed and go on, and a page shows what a run measured. Baselines
are judged before anything is trained, on the very prompts that the adapter will get.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from hrm_lab import runs
from hrm_lab.files import write_atomic

from . import finetune, lora, models, preflight
from .examples import Example
from .faults import EXPERIMENTS, inject
from .formats import Format, Row, training_row
from .judging import WAYS, answers
from .scoring import Verdict, compare, scores

ROLES = "made-up roles"


@dataclass(frozen=True)
class Arm:
    """A trained adapter and what it showed."""

    name: str
    record: dict  # run.json
    history: list[dict]  # metrics.jsonl
    report: preflight.Report
    verdicts: dict[str, list[Verdict]]  # way -> one for each test example


def write_verdicts(path: Path, key: dict, found: dict[str, list[Verdict]]):
    """A first line with the key, then one line a verdict."""
    lines = [json.dumps({"key": key})]
    lines += [json.dumps({"way": way} | asdict(v), ensure_ascii=False) for way, own in found.items() for v in own]
    write_atomic(path, "\n".join(lines) + "\n")


def read_verdicts(path: Path) -> tuple[dict, dict[str, list[Verdict]]]:
    """(key, way -> verdicts) of a file that `write_verdicts` made. Raises ValueError naming file and line."""
    found: dict[str, list[Verdict]] = {}
    key: dict = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            if number == 1:
                key = row["key"]
                continue
            way = row.pop("way")
            found.setdefault(way, []).append(Verdict(**{f.name: tuple(row[f.name]) if isinstance(row[f.name], list)
                                                        else row[f.name] for f in fields(Verdict)}))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: {line[:60]!r} ({error}); expected a key, then verdicts") from None
    return key, found


def kept(path: Path, key: dict, make: Callable[[], dict[str, list[Verdict]]]) -> dict[str, list[Verdict]]:
    """What `make` returns, or what `path` holds of an earlier call with the same key."""
    key = json.loads(json.dumps(key))
    if Path(path).exists():
        before, found = read_verdicts(path)
        if before == key:
            return found
    made = make()
    write_verdicts(path, key, made)
    return made


def texts_hash(found: Sequence[Verdict]) -> str:
    """16 hex digits over the ids and prompts that answers were given to, in order."""
    return _hash([[v.id, v.prompt] for v in found])


def _hash(pairs: list) -> str:
    return hashlib.sha256(json.dumps(pairs, ensure_ascii=False).encode()).hexdigest()[:16]


def judged(folder: Path, system: str, model, tokenizer, name: str, plan: preflight.Plan, prompts=None,
           ways: Sequence[str] = WAYS, extra: dict | None = None) -> dict[str, list[Verdict]]:
    """Way -> verdicts of a system on the plan's test examples, kept in `<folder>/<system>.jsonl`.

    prompts: id -> text; those of the plan's tuned model if None. extra: what else the answers depend on.
    """
    asked = prompts or plan.prompts["tuned"]
    key = {"model": models.facts(model, name) | {"device": "", "parameters": 0}, "form": plan.form.name,
           "prompts": _hash([[e.id, asked[e.id]] for e in plan.test]), "ways": list(ways), "max_new": plan.max_new,
           **(extra or {})}
    return kept(Path(folder) / f"{system}.jsonl", key,
                lambda: answers(model, tokenizer, plan.test, plan.form, asked, ways, plan.max_new))


def checked(plan: preflight.Plan, force: bool = False, model=None) -> preflight.Report:
    """The pre-flight report of a plan that may be trained. Raises `preflight.PreflightError`; force: it is noted.

    model: the base, which is then asked how it reads the rendered rows.
    """
    return preflight.require(preflight.check(replace(plan, model=model or plan.model)), force)


def arm(folder: Path, label: str, model, tokenizer, name: str, plan: preflight.Plan, config: finetune.Config,
        force: bool = False, ways: Sequence[str] = WAYS, valid: Sequence[Row] = (), progress: bool = False) -> Arm:
    """Pre-flight, training on the plan's rows, and the best adapter's answers to its test prompts.

    The run lies in `<folder>/<label>`; an unfinished one goes on, a finished one of the same settings is read. valid:
    rows that choose the best adapter; sound ones of the validation examples, if there are none given.
    Raises `preflight.PreflightError` where there are errors and `force` is not set.
    """
    report = checked(plan, force)
    folder = Path(folder)
    valid = valid or rows_of(tokenizer, plan.validation, plan.form)
    notes = {"preflight": [f"{f.severity} {f.check}" for f in report.findings], "forced": report.forced}
    adapted, record = finetune.train(model, plan.rows, valid, folder / label, config, name, resume="same",
                                     progress=progress, notes=notes)
    try:
        trained = {"train": record["train"], "data": record["data"], "code_of": record["code_of"]}
        verdicts = judged(folder, f"{label}-answers", adapted.get_base_model(), tokenizer, name, plan, ways=ways,
                          extra=trained)
    finally:
        lora.detach(adapted)
    return Arm(label, record, runs.read_metrics(folder / label), report, verdicts)


def faulty(folder: Path, model, tokenizer, name: str, sound: preflight.Plan, config: finetune.Config,
           names: Sequence[str] = EXPERIMENTS, together: bool = True, progress: bool = False) -> dict[str, Arm]:
    """The sound plan, each fault alone and all of them together, trained with one configuration and judged freely.

    Validation rows are sound in all arms, but for made-up roles, which are the evaluation's too in that arm: what is
    measured is the markers, not a change between training and evaluation.
    """
    wanted = {"sound": (), **{fault: (fault,) for fault in names}}
    if together and len(names) > 1:
        wanted["all together"] = tuple(names)
    held = replace(sound, train=sound.validation, rows=tuple(rows_of(tokenizer, sound.validation, sound.form)))
    return {label: arm(folder, label.replace(" ", "-"), model, tokenizer, name, inject(sound, chosen), config,
                       force=True, ways=("free",), progress=progress,
                       valid=inject(held, [fault for fault in chosen if fault == ROLES]).rows)
            for label, chosen in wanted.items()}


def fault_table(arms: dict[str, Arm]) -> list[dict]:
    """A row for each arm of `faulty`: what happened to the loss and to the task, and what pre-flight had said.

    Training losses of different faults are means over different tokens and cannot be compared; validation losses are
    over the sound answers, and can.
    """
    sound, table = arms["sound"].verdicts["free"], []
    for label, one in arms.items():
        found = one.verdicts["free"]
        own = scores(found)
        said = sorted({f.check for f in one.report.errors})
        row = {"fault": label, "preflight": ", ".join(said) or "no error",
               "train_loss": [one.history[1].get("train_loss"), one.history[-1].get("train_loss")],
               "loss": [one.history[0]["loss"], one.history[-1]["loss"]],
               **{key: own[key] for key in ("exact", "arguments", "valid_json", "stopped", "argument_f1")}}
        if label != "sound":
            row |= {"minus_sound": compare(found, sound), "arguments_minus_sound": compare(found, sound, "arguments")}
        table.append(row)
    return table


def rows_of(tokenizer, examples: Sequence[Example], form: Format) -> list[Row]:
    """Training rows of examples."""
    return [training_row(tokenizer, e, form) for e in examples]
