"""Test generation measured: cycles on boundaries that the model computes itself, the three forms, speed of writing.

    python benchmarks/testgen.py --part cycles --n 1500 --epochs 12 --test 300
    python benchmarks/testgen.py --part forms --n 1500 --epochs 12 --test 200

cycles: recursion over the source 0, 1 and 2 times at equal parameters, on the arithmetic that expressions usually do.
forms: HRM encoder and decoder, its control without recursion, HRM-Text and a plain Llama of `transformers`, from
scratch on the same examples, judged on new values and on held-out paraphrases. The last line is one JSON object.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch

from hrm_lab import metrics, runs
from hrm_lab.model import count_parameters
from hrm_lab.testgen import arithmetic, prefix_lm, scores, study, writer
from hrm_lab.testgen.finetune import Training

SHAPE = {"H_cycles": 1, "L_cycles": 2}


def cycles(codec, media, plan, arguments, folder: Path) -> dict:
    arms = {"0": {"H_cycles": 0}, "1": {"H_cycles": 1}, "2": {"H_cycles": 2}}
    found = arithmetic.compare(codec, media, SHAPE, arms, plan, arguments.n, arguments.test, folder)
    for name, row in found.items():
        print(f"{name} cycles: correct {metrics.format_score(row['correct'])}, minus none "
              f"{100 * row['minus_first']['value']:+.1f} points ({100 * row['minus_first']['low']:+.1f} to "
              f"{100 * row['minus_first']['high']:+.1f}), {row['cpu_seconds']:.0f} CPU-s")
    return {name: {k: v for k, v in row.items() if k != "right"} for name, row in found.items()}


def forms(codec, data, plan, arguments, folder: Path) -> dict:
    made = {"HRM encoder": lambda: study.build(codec, SHAPE),
            "its control": lambda: study.build(codec, SHAPE | {"H_cycles": 0}),
            "HRM-Text": lambda: prefix_lm.hrm_text(codec.size), "Llama": lambda: prefix_lm.plain_lm(codec.size)}
    found = {}
    for name, make in made.items():
        torch.manual_seed(0)
        model, clock = make(), runs.Clock()
        study.train(model, codec, data, plan, folder / name, check_n=20)
        spent, row = clock.cpu, {}
        for axis in ("values", "paraphrase"):
            records, clock = data.held[axis], runs.Clock()
            texts = writer.write(model, codec, [r.input for r in records])
            row[axis] = {"write_cpu_ms": 1000 * clock.cpu / len(records),
                         "correct": scores.executed(records, texts, data.domain)["correct"]}
        found[name] = {"parameters": count_parameters(model), "train_cpu_seconds": spent, **row}
        print(f"{name}: {found[name]['parameters']:,} parameters, {spent:.0f} CPU-s; correct on values "
              f"{metrics.format_score(row['values']['correct'])}, on paraphrases "
              f"{metrics.format_score(row['paraphrase']['correct'])}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", choices=("cycles", "forms"), required=True)
    parser.add_argument("--n", type=int, default=1500, help="training examples")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--test", type=int, default=200, help="requirements an axis")
    given = parser.parse_args()
    runs.set_threads()
    media = study.media()
    data = study.prepare(media, given.n, 40, given.test)
    codec = study.learn_codec([], data.train, [media], 2400)
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
