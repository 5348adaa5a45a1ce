"""The steps of notebook 05: which rows, which prompts, who is judged on them, and what is kept for the next run."""

import os
import random
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context, parent_process
from pathlib import Path

from hrm_lab import runs
from hrm_lab.metrics import plain

from . import baseline, bfcl, decode, experiments, finetune, lora, models, preflight, verdict
from .examples import Example, read_splits
from .formats import FORMATS, Format, encode, prompt_text, training_row
from .judging import WAYS
from .packing import ATTENTION
from .scoring import Verdict, compare, scores

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "adapters"
MEASURED = SHIPPED / "measured_faults.json"
FULL = SHIPPED / "measured_full.json"
_HERE: dict = {}  # of a process of `ahead`


def parts(settings: Mapping, tokenizer, seed: int = 0) -> dict[str, list[Example]]:
    """{"train", "validation", "test"}: BFCL's single calls split by component, or the shipped sample; cut to `rows`.

    settings: data ("bfcl" or "sample"), cache; and for each split longest (tokens of a hermes row at most, its answer
    included) and rows (how many at most; of training rows as many as the format that takes most of them). Training rows
    are drawn so that a function comes again as late as possible; where too few are short enough, longer ones follow
    without so many of their unneeded functions. Of the others those are left out whose gold answer has no room in
    max_new tokens.
    Raises ValueError: data that is neither, or a split that is empty under the limit.
    """
    if settings["data"] == "sample":
        whole = read_splits(SHIPPED)
    elif settings["data"] == "bfcl":
        whole = bfcl.split(bfcl.load(settings["cache"], bfcl.CALLS)[0])
    else:
        raise ValueError(f"data: got {settings['data']!r}, expected bfcl or sample")
    rows = settings["rows"] | {"train": max(_rows(settings, name) for name in FORMATS)}
    chosen = {}
    for name, found in whole.items():
        limit = settings["longest"][name]

        def fits(e: Example, limit=limit) -> bool:
            return len(training_row(tokenizer, e, FORMATS["hermes"]).ids) <= limit

        short = [e for e in found if fits(e)]
        random.Random(seed).shuffle(short)
        if name == "train":
            seen: Counter = Counter()
            _spread(short, seen)
            if len(short) < rows[name]:
                kept = {e.id for e in short}
                more = [cut for e in found if e.id not in kept and (cut := _fewer_tools(e, fits))]
                random.Random(seed).shuffle(more)
                _spread(more, seen)
                short += more
        else:
            short = [e for e in short
                     if len(encode(tokenizer, FORMATS["hermes"].answer(e))) < settings["max_new"]]
        chosen[name] = short[:rows[name]]
        if not chosen[name]:
            raise ValueError(f"{name}: none of {len(found)} rows has at most longest = {limit} tokens")
    return chosen


def _spread(examples: list[Example], seen: Counter):
    """Sort in place, so that a function comes again as late as possible; `seen`: its rows so far, added to."""
    turn = {}
    for e in examples:
        turn[e.id] = seen[e.calls[0].name]
        seen[e.calls[0].name] += 1
    examples.sort(key=lambda e: turn[e.id])


def _fewer_tools(example: Example, fits: Callable[[Example], bool]) -> Example | None:
    """The example without its last functions that are not called, as many as must go; None where that does not do."""
    called = {call.name for call in example.calls}
    while not fits(example):
        others = [tool for tool in example.tools if tool["name"] not in called]
        if not others:
            return None
        example = replace(example, tools=tuple(tool for tool in example.tools if tool is not others[-1]))
    return example


def counts(chosen: Mapping[str, Sequence[Example]]) -> dict[str, dict]:
    """Rows by split and source, and how many functions they call."""
    return {name: {"rows": len(found), "functions called": len({c.name for e in found for c in e.calls}),
                   **Counter(e.source for e in found)} for name, found in chosen.items()}


def shown(tokenizer, example: Example, form: Format) -> str:
    """An example in a format: the prompt and the answer, with their numbers of tokens."""
    prompt, answer = prompt_text(tokenizer, example, form), form.answer(example)
    sizes = [len(encode(tokenizer, text)) for text in (prompt, answer)]
    line = f"--- {form.name}: {sizes[0]} tokens, answer {sizes[1]} "
    return f"{line:-<80}\n{prompt}{answer}\n"


def _rows(settings: Mapping, name: str) -> int:
    """Training rows of a format: those of all formats, or its own."""
    return settings.get("own", {}).get(name, {}).get("rows", settings["rows"]["train"])


def config(settings: Mapping, name: str, seed: int = 0) -> finetune.Config:
    """How the adapter of a format is trained: `training` of all formats, changed by its own."""
    own = settings.get("own", {}).get(name, {}).get("training", {})
    return finetune.Config(**settings["training"] | own, seed=seed)


def plan(tokenizer, form: Format, chosen: Mapping[str, Sequence[Example]], settings: Mapping) -> preflight.Plan:
    """All that the run of a format will do, for the pre-flight check."""
    train = chosen["train"][:_rows(settings, form.name)]
    longest = max(len(training_row(tokenizer, e, form).ids) for e in train)
    return preflight.plan(tokenizer, form, train, chosen["validation"], chosen["test"],
                          max_length=longest, max_new=settings["max_new"])


def preflight_table(reports: Mapping[str, preflight.Report]) -> list[dict]:
    """A row for each finding, and one for each format with none."""
    rows = []
    for name, report in reports.items():
        head = {"format": name, "checks": len(report.checks), "seconds": report.seconds}
        rows += [head | {"severity": f.severity, "what": f.what, "where": f.where, "consequence": f.consequence,
                         "cure": f.cure} for f in report.findings]
        rows += [] if report.findings else [head | {"severity": "none", "what": "no finding"}]
    return rows


def baselines(folder: Path, model, tokenizer, settings: Mapping, own: preflight.Plan) -> dict[str, list[Verdict]]:
    """System -> verdicts of the untuned model: on the adapter's prompts, and with examples before the question."""
    name = settings["model"]
    found = experiments.judged(folder, "base", model, tokenizer, name, own)
    systems = {f"base, {way}": verdicts for way, verdicts in found.items()}
    if settings["shots"]:
        form = baseline.few_shot(own.form, own.train, settings["shots"])
        asked = {e.id: prompt_text(tokenizer, e, form) for e in own.test}
        found = experiments.judged(folder, f"base-{settings['shots']}-shot", model, tokenizer, name, own, asked)
        systems |= {f"base + {settings['shots']} examples, {way}": verdicts for way, verdicts in found.items()}
    return systems


def ahead(folder: Path, settings: Mapping, seed: int, device, processes: int):
    """Judge the baselines and train all formats in several processes at once; `baselines` and `experiments.arm` then
    find what these left.

    Unusual: processes of one thread each, for two threads of one process gain nothing (a step of 1,000 tokens took
    2.7 s with one and 2.9 s with two), while two processes did 1.5 times the work of one. Nothing happens for one
    process, nor on an accelerator, which they would only share.
    """
    if processes < 2 or device.type != "cpu":
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), _begin, (dict(settings), seed)) as pool:
        jobs = [pool.submit(_piece, Path(folder) / name, name, kind) for kind in ("base", "tuned") for name in FORMATS]
        for job in jobs:
            job.result()


def _begin(settings: Mapping, seed: int):
    """In a process of `ahead`: what all its pieces need."""
    _end_with_parent()
    runs.set_threads(1)
    model, tokenizer = models.load(settings["model"], settings["cache"], dtype=settings["dtype"], seed=seed)
    _HERE.update(settings=settings, seed=seed, model=model, tokenizer=tokenizer,
                 chosen=parts(settings, tokenizer, seed))


def _end_with_parent():
    """This process ends when the kernel is killed: else it would train on, beside the one that begins anew."""
    threading.Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()


def _piece(folder: Path, name: str, kind: str):
    """The baselines or the adapter of one format, left in `folder`."""
    settings, model, tokenizer = _HERE["settings"], _HERE["model"], _HERE["tokenizer"]
    own = plan(tokenizer, FORMATS[name], _HERE["chosen"], settings)
    if kind == "base":
        baselines(folder, model, tokenizer, settings, own)
    else:
        experiments.arm(folder, "tuned", model, tokenizer, settings["model"], own,
                        config(settings, name, _HERE["seed"]))


def hashes(systems: Mapping[str, Sequence[Verdict]]) -> dict[str, str]:
    """System -> hash of the prompts that it was really given; those with examples are others by design."""
    return {name: experiments.texts_hash(found) for name, found in systems.items() if "examples" not in name}


def fault_results(settings: Mapping, folder: Path, model, tokenizer,
                  plans: Mapping[str, preflight.Plan]) -> tuple[list[dict], str]:
    """(rows of `experiments.fault_table`, where they come from): trained here if the preset names faults, else those
    that were measured before and ship with the lab."""
    chosen = settings["faults"]
    if not chosen["names"]:
        if not MEASURED.exists():
            return [], "Not measured by this preset, and no earlier measurement ships; preset full makes one."
        kept = runs.read_json(MEASURED)
        return kept["rows"], f"**Measured earlier, not in this run:** {kept['what']} `{kept['command']}`"
    own = plans[chosen["form"]]
    rows, test = min(chosen["rows"], len(own.train)), own.test[:chosen["test"]]
    asked = {e.id: own.prompts["tuned"][e.id] for e in test}
    small = replace(own, train=own.train[:rows], rows=own.rows[:rows], test=test,
                    prompts=dict.fromkeys(own.prompts, asked))
    arms = experiments.faulty(folder, model, tokenizer, settings["model"], small,
                              finetune.Config(**chosen["training"]), chosen["names"])
    return experiments.fault_table(arms), (
        f"Measured in this run: format {chosen['form']}, {rows} training rows, "
        f"{chosen['training']['steps']} steps an arm, n = {len(test)}.")


def exported(settings: Mapping, adapter: Path, own: preflight.Plan, seed: int = 0, asked: int = 3,
             longest: int = 24) -> dict[str, str]:
    """Load the adapter by peft alone and merged by transformers alone, and compare what they answer.

    In fp32, in which a merge is exact to rounding; a model that is not one of the lab's own keeps its dtype and device.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    prompts = [encode(own.tokenizer, own.prompts["tuned"][e.id]) for e in own.test[:asked]]

    def load():
        own_model = settings["model"] in (models.SMALL, models.TINY)
        kind = ("cpu", "fp32") if own_model else ("auto", settings["dtype"])
        return models.load(settings["model"], settings["cache"], *kind, seed=seed)

    base, tokenizer = load()
    ends, device, kind = models.stop_ids(base, tokenizer), base.device, base.dtype
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for an attribute by its old name
        by_peft = PeftModel.from_pretrained(base, adapter).eval()
    first = decode.generate(by_peft.get_base_model(), prompts, ends, longest)
    size = sum(f.stat().st_size for f in Path(adapter).iterdir()) / 2**20
    with tempfile.TemporaryDirectory(dir=Path(adapter).parent) as whole:
        lora.merge(by_peft, tokenizer, whole)
        del by_peft, base
        plain_model = AutoModelForCausalLM.from_pretrained(whole, attn_implementation=ATTENTION, dtype=kind).eval()
        plain_model.to(device)
        second = decode.generate(plain_model, prompts, ends, longest)
    same = sum(a == b for a, b in zip(first, second, strict=True))
    return {"adapter": f"{size:.1f} MB in {len(list(Path(adapter).iterdir()))} files, read by PeftModel",
            "merged": "read by AutoModelForCausalLM, without peft", "equal answers": f"{same} of {len(first)}"}


def scored(own: Mapping[str, Sequence[Verdict]]) -> dict[str, dict]:
    """`<system>/<score>` -> score, of the systems of one format."""
    found = {}
    for system, verdicts in own.items():
        slug, table = system.replace(", ", "_").replace(" + ", "_").replace(" ", "_"), scores(verdicts)
        found |= {f"{slug}/{key}": table[key] for key in verdict.SHOWN}
    return found


def summary(folder: Path) -> dict:
    """What the answers that a study left under `folder` add up to, by format; those without a tuned model are left out.

    {format: {"scores": system -> score -> value, "gains": way -> tuned minus base, "training": how far it went}}.
    """
    found = {}
    for name in FORMATS:
        own = Path(folder) / name
        if not (own / "tuned-answers.jsonl").exists():
            continue
        kept = {"base.jsonl": "base", "base-2-shot.jsonl": "base + 2 examples", "tuned-answers.jsonl": "tuned"}
        systems = {f"{system}, {way}": verdicts for file, system in kept.items() if (own / file).exists()
                   for way, verdicts in experiments.read_verdicts(own / file)[1].items()}
        record, last = runs.read_json(own / "tuned" / "run.json"), runs.read_metrics(own / "tuned")[-1]
        found[name] = {
            "scores": {system: {key: scores(v)[key] for key in verdict.SHOWN} for system, v in systems.items()},
            "gains": {way: compare(systems[f"tuned, {way}"], systems[f"base, {way}"]) for way in WAYS
                      if f"base, {way}" in systems},
            "training": {"rows": record["n_train"], "steps": last["step"], "planned": record["train"]["steps"],
                         "cpu_seconds": last["cpu_seconds"]}}
    return found


def measured(folder: Path = SHIPPED) -> tuple[list[dict], str]:
    """(rows of `verdict.table_of`, words) of preset full, as it was measured before and ships with the lab."""
    path = Path(folder) / FULL.name
    if not path.exists():
        return [], "Preset `full` has not been measured."
    kept = runs.read_json(path)
    said = [f"**Measured at preset `full` on {kept['date']}, not in this run:** {kept['what']} `{kept['command']}`"]
    said += ["- " + verdict.told(name, way, gain) for name, own in kept["formats"].items()
             for way, gain in own["gains"].items()]
    return verdict.table_of({name: own["scores"] for name, own in kept["formats"].items()}), "\n".join(said)


def results(systems: Mapping[str, Mapping[str, Sequence[Verdict]]],
            arms: Mapping[str, experiments.Arm]) -> dict[str, dict]:
    """Flat scores for metrics.json."""
    found = {}
    for form, own in systems.items():
        found |= {f"{form}/{key}": score for key, score in scored(own).items()}
        record = arms[form].record
        found[f"{form}/training_cpu_seconds"] = plain(record["cpu_seconds"], record["steps"], "CPU-s")
    return found
