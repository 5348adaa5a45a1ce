"""Test generation measured: cycles on boundaries that the model computes itself, the three forms, speed of writing.

    python benchmarks/testgen.py --part cycles --n 1500 --epochs 12 --test 300 --seeds 3
    python benchmarks/testgen.py --part forms --n 1500 --epochs 12 --test 200

cycles: recursion over the source 0, 1 and 2 times at equal parameters, on the arithmetic that expressions usually do.
forms: HRM encoder and decoder, its control without recursion, HRM-Text and a plain Llama of `transformers`, from
scratch on the same examples, judged on new values and on validation wordings; and a Llama that trains for as many CPU-
seconds as HRM-Text took. Each row is printed when it is there. The last line is one JSON object.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from hrm_lab import metrics, runs
from hrm_lab.model import count_parameters
from hrm_lab.testgen import arithmetic, prefix_lm, scores, study, writer
from hrm_lab.testgen.finetune import Training

SHAPE = {"H_cycles": 1, "L_cycles": 2}
AS_LONG = "Llama, as long as HRM-Text"


def cycles(codec, media, plan, arguments, folder: Path) -> dict:
    arms = {"0": {"H_cycles": 0}, "1": {"H_cycles": 1}, "2": {"H_cycles": 2}}
    made = {}
    for seed in range(arguments.seeds):
        found = arithmetic.compare(codec, media, SHAPE, arms, replace(plan, seed=seed), arguments.n, arguments.test,
                                   folder / str(seed))
        for name, row in found.items():
            print(f"seed {seed}, {name} cycles: correct {metrics.format_score(row['correct'])}, minus none "
                  f"{100 * row['minus_first']['value']:+.1f} points ({100 * row['minus_first']['low']:+.1f} to "
                  f"{100 * row['minus_first']['high']:+.1f}), {row['cpu_seconds']:.0f} CPU-s", flush=True)
        made[seed] = {name: {k: v for k, v in row.items() if k != "right"} for name, row in found.items()}
    return made


def forms(codec, data, plan, arguments, folder: Path) -> dict:
    made = {"HRM encoder": lambda: study.build(codec, SHAPE),
            "its control": lambda: study.build(codec, SHAPE | {"H_cycles": 0}),
            "HRM-Text": lambda: prefix_lm.hrm_text(codec.size), "Llama": lambda: prefix_lm.plain_lm(codec.size),
            AS_LONG: lambda: prefix_lm.plain_lm(codec.size)}
    held = {"values": data.held["values"], "validation wordings": data.valid[:arguments.test]}
    found = {}
    for name, make in made.items():
        torch.manual_seed(0)
        model, clock = make(), runs.Clock()
        epochs = plan.epochs if name != AS_LONG else round(
            plan.epochs * found["HRM-Text"]["train_cpu_seconds"] / found["Llama"]["train_cpu_seconds"])
        study.train(model, codec, data, replace(plan, epochs=epochs, patience=epochs), folder / name, check_n=1)
        spent, row = clock.cpu, {"epochs": epochs}
        for axis, records in held.items():
            clock = runs.Clock()
            texts = writer.write(model, codec, [r.input for r in records])
            row[axis] = {"write_cpu_ms": 1000 * clock.cpu / len(records),
                         "correct": scores.executed(records, texts, data.domain)["correct"]}
        found[name] = {"parameters": count_parameters(model), "train_cpu_seconds": spent, **row}
        print(f"{name}: {found[name]['parameters']:,} parameters, {epochs} epochs, {spent:.0f} CPU-s; "
              + "; ".join(f"correct on {axis} {metrics.format_score(row[axis]['correct'])}" for axis in held),
              flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", choices=("cycles", "forms"), required=True)
    parser.add_argument("--n", type=int, default=1500, help="training examples")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--test", type=int, default=200, help="requirements an axis")
    parser.add_argument("--seeds", type=int, default=1, help="of cycles")
    given = parser.parse_args()
    runs.set_threads()
    media = study.media()
    data = study.prepare(media, given.n, max(40, given.test), given.test)
    codec = study.learn_codec([], data.train, [media], 2600)
    plan = Training(epochs=given.epochs, patience=given.epochs, visible_from=codec.first_placeholder)
    with tempfile.TemporaryDirectory() as folder:
        if given.part == "cycles":
            found = cycles(codec, media, plan, given, Path(folder))
        else:
            found = forms(codec, data, plan, given, Path(folder))
    print(json.dumps({"part": given.part, "n": given.n, "epochs": given.epochs, "vocabulary": codec.size,
                      "results": found, **runs.facts()}))


if __name__ == "__main__":
    main()
