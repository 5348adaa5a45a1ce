"""Test generation measured: cycles on boundaries, the three forms, what the base is worth, slots in new wordings.

    python benchmarks/testgen.py --part cycles --n 1500 --epochs 8 --test 300 --seeds 1
    python benchmarks/testgen.py --part forms --n 1500 --seconds 70 --test 150
    python benchmarks/testgen.py --part start --n 2000 --epochs 7 --test 150
    python benchmarks/testgen.py --part slots --n 3000 --test 2600

cycles: recursion over the source in four depths at equal parameters, and more layers without it, on the arithmetic that
expressions usually do.
forms: HRM encoder and decoder, its control without recursion, HRM-Text and a plain causal Llama of `transformers`, from
scratch on the same examples for as many CPU-seconds each, judged on new values and on validation wordings.
start: the network without recursion from the shipped base and from random weights, fine-tuned alike as in notebook 04;
judged without a grammar, on fresh wordings too (data/testgen/fresh_media.json).
slots: requirements whose test can be written over their placeholders, where the lexicon has never seen their wording:
one wording in five held back, five times; and with the shipped lexicon those in fresh wordings.
Each row is printed when it is there. The last line is one JSON object.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from hrm_lab import metrics, runs
from hrm_lab.model import count_parameters
from hrm_lab.testgen import arithmetic, finetune, prefix_lm, scores, slots, study, writer
from hrm_lab.testgen.domain import draw
from hrm_lab.testgen.finetune import Training

ROOT = Path(__file__).resolve().parents[1]
SHAPE = {"H_cycles": 1, "L_cycles": 2}


def cycles(codec, media, plan, arguments, folder: Path) -> dict:
    arms = {"no recursion": {"H_cycles": 0}, "1 x 2": {}, "2 x 2": {"H_cycles": 2}, "1 x 4": {"L_cycles": 4},
            "no recursion, twice the layers": {"H_cycles": 0, "H_layers": 2, "L_layers": 2}}
    made = {}
    for seed in range(arguments.seeds):
        found = arithmetic.compare(codec, media, SHAPE, arms, replace(plan, seed=seed), arguments.n, arguments.test,
                                   folder / str(seed))
        for name, row in found.items():
            for kind, score in row["correct"].items():
                less = row["minus_first"][kind]
                print(f"seed {seed}, {name}, {kind}: correct {metrics.format_score(score)}, minus no recursion "
                      f"{100 * less['value']:+.1f} points ({100 * less['low']:+.1f} to {100 * less['high']:+.1f}), "
                      f"{row['cpu_seconds']:.0f} CPU-s", flush=True)
        made[seed] = found
    return made


def forms(codec, data, plan, arguments, folder: Path) -> dict:
    """Each form trains for `arguments.seconds`, in whole epochs: what one takes is measured on 384 examples before."""
    made = {"HRM encoder": lambda: study.build(codec, SHAPE),
            "its control": lambda: study.build(codec, SHAPE | {"H_cycles": 0}),
            "HRM-Text": lambda: prefix_lm.hrm_text(codec.size), "Llama": lambda: prefix_lm.plain_lm(codec.size)}
    held = {"values": data.held["values"], "validation wordings": data.valid[:arguments.test]}
    learn, valid = (writer.pairs(writer.examples(rows, codec.lexicon, data.domain), codec)
                    for rows in (data.train, data.valid[arguments.test:]))
    found = {}
    for name, make in ((name, make) for name, make in made.items() if name in (arguments.only or made)):
        def fit(epochs: int, pairs: list, seed: int, make=make, name=name) -> tuple:
            torch.manual_seed(seed)
            model, own = make(), replace(plan, epochs=epochs, patience=epochs, seed=seed)
            return model, finetune.fit(model, own, pairs, valid[:50], folder / f"{name} {len(pairs)}")

        warm, timed = (row["cpu_seconds"] for row in fit(2, learn[:384], 1)[1]["history"])
        epoch = (timed - warm) * len(learn) / 384
        model, run = fit(max(1, round(arguments.seconds / epoch)), learn, 0)
        row = {"parameters": count_parameters(model), "epochs": len(run["history"]),
               "train_cpu_seconds": run["cpu_seconds"]}
        for axis, records in held.items():
            clock = runs.Clock()
            texts = writer.write(model, codec, [r.input for r in records])
            judged = scores.executed(records, texts, data.domain)
            row[axis] = {"write_cpu_ms": 1000 * clock.cpu / len(records),
                         **{key: judged[key] for key in ("correct", "mutation", "valid")}}
        found[name] = row
        print(f"{name}: {row['parameters']:,} parameters, {row['epochs']} epochs, {row['train_cpu_seconds']:.0f} CPU-s"
              + "".join(f"; correct on {axis} {metrics.format_score(row[axis]['correct'])}" for axis in held),
              flush=True)
    return found


def fresh(media, n: int) -> list:
    """Requirements in wordings that were written after all others."""
    new = runs.read_json(ROOT / "data" / "testgen" / "fresh_media.json")
    return draw(replace(media, families={name: replace(media.families[name], paraphrases=tuple(texts))
                                         for name, texts in new.items()}), n, 5, "paraphrase")


def new_wordings(codec, media, arguments) -> dict:
    train, test = draw(media, 2 * arguments.n, 0), draw(media, arguments.test, 1)
    new, kept = fresh(media, 520), 0
    for fold in range(5):
        inside = {r.id for r in (*train, *test) if (study.wording(r) + sum(map(ord, r.family))) % 5 == fold}
        lexicon = slots.learn([r for r in train if r.id not in inside][:arguments.n])
        kept += len(writer.examples([r for r in test if r.id in inside], lexicon, media))
    found = {"held back": metrics.proportion(kept, len(test)),
             "fresh": metrics.proportion(len(writer.examples(new, codec.lexicon, media)), len(new))}
    for name, score in found.items():
        print(f"{name}: {metrics.format_score(score)}", flush=True)
    return found


def start(base, codec, data, plan, folder: Path) -> dict:
    made = {"from the base": lambda: study.tuned_from(base, H_cycles=0),
            "from random weights": lambda: study.build(codec, SHAPE | {"H_cycles": 0})}
    found = {}
    for name, make in made.items():
        model = make()
        run = study.train(model, codec, data, plan, folder / name)
        free, row = study.model_rival(model, codec, False), {"correct_by_epoch": [h["correct"] for h in run["history"]],
                                                             "train_cpu_seconds": run["cpu_seconds"]}
        for axis, records in {**data.held, "validation wordings": data.valid[:len(data.held["values"])],
                              "fresh wordings": fresh(data.domain, 520)}.items():
            row[axis] = {key: score for key, score in study.judged(free, codec, data.domain, records).items()
                         if key in ("correct", "mutation", "valid", "perplexity")}
            print(f"{name}, {axis}: " + "; ".join(f"{key} {metrics.format_score(s)}" for key, s in row[axis].items()),
                  flush=True)
        print(f"{name}: correct validation wordings by epoch {row['correct_by_epoch']}", flush=True)
        found[name] = row
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", choices=("cycles", "forms", "start", "slots"), required=True)
    parser.add_argument("--n", type=int, default=1500, help="training examples")
    parser.add_argument("--epochs", type=int, default=12, help="of cycles and start")
    parser.add_argument("--seconds", type=float, default=80, help="of forms: CPU-seconds that each trains")
    parser.add_argument("--only", action="append", help="of forms: one by its name; may be given again")
    parser.add_argument("--test", type=int, default=200, help="requirements an axis")
    parser.add_argument("--seeds", type=int, default=1, help="of cycles")
    given = parser.parse_args()
    runs.set_threads()
    media = study.media()
    data = None if given.part == "slots" else study.prepare(media, given.n, given.test + 50, given.test)
    if given.part in ("start", "slots"):
        codec, base = study.load_base(ROOT / "weights" / "testgen-base")
    else:
        codec = study.learn_codec([], data.train, [media], 2600)
    plan = Training(epochs=given.epochs, patience=given.epochs, visible_from=codec.first_placeholder)
    with tempfile.TemporaryDirectory() as folder:
        if given.part == "cycles":
            found = cycles(codec, media, plan, given, Path(folder))
        elif given.part == "slots":
            found = new_wordings(codec, media, given)
        elif given.part == "start":
            found = start(base, codec, data, plan, Path(folder))
        else:
            found = forms(codec, data, plan, given, Path(folder))
    print(json.dumps({"part": given.part, "n": given.n, "vocabulary": codec.size,
                      "results": found, **runs.facts()}))


if __name__ == "__main__":
    main()
