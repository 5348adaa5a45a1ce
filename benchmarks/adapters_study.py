"""The study of notebook 05 in parts, each of which can be killed and goes on: answers of the base, adapters, faults.

    python benchmarks/adapters_study.py --preset full --part tuned --format hermes
    python benchmarks/adapters_study.py --preset full --part faults --keep data/adapters/measured_faults.json
    python benchmarks/adapters_study.py --preset full --part summary --keep data/adapters/measured_full.json

Parts: base (answers of the untuned model), shots (the same after examples), tuned (training and answers), faults (sound
data, each fault alone, all together), summary (what all kept answers add up to). What they leave is what the notebook
leaves at that place, so that it finds it there. --keep writes the rows of the faults, or the summary, with their
command. The last line is one JSON object: scores with n and interval, CPU-seconds.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from hrm_lab import notebooks, runs
from hrm_lab.files import write_json
from hrm_lab.metrics import format_score

STEM = "05_llama_adapters"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="full")
    parser.add_argument("--part", required=True, choices=["base", "shots", "tuned", "faults", "summary"])
    parser.add_argument("--format", default="hermes")
    parser.add_argument("--out", type=Path, default=Path("runs/notebooks") / STEM)
    parser.add_argument("--cache")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    from hrm_lab.adapters import experiments, models, study, verdict  # torch is not imported for --help
    from hrm_lab.adapters.formats import FORMATS

    command = f"python benchmarks/{Path(__file__).name} --preset {given.preset} --part"
    if given.part == "summary":
        found = study.summary(given.out / "adapters")
        trained = [f"{name} {own['training']['steps']} of {own['training']['planned']} steps"
                   for name, own in found.items()]
        kept = {"what": f"SmolLM2-135M-Instruct, one seed; {', '.join(trained)}.", "date": runs.facts()["started"][:10],
                "command": f"{command} base|shots|tuned --format FORMAT", "formats": found}
        if given.keep:
            write_json(given.keep, kept)
        for name, own in found.items():
            for way, gain in own["gains"].items():
                print(verdict.told(name, way, gain))
        print(json.dumps(kept))
        return 0
    began = time.process_time()
    runs.set_threads()
    settings = notebooks.settings(STEM, given.preset, cache=given.cache)
    model, tokenizer = models.load(settings["model"], settings["cache"], dtype=settings["dtype"])
    chosen = study.parts(settings, tokenizer)
    folder, found = given.out / "adapters", {}
    name = settings["faults"]["form"] if given.part == "faults" else given.format
    plan = study.plan(tokenizer, FORMATS[name], chosen, settings)
    if given.part in ("base", "shots"):
        own = settings | ({"shots": 0} if given.part == "base" else {})
        systems = study.baselines(folder / name, model, tokenizer, own, plan)
        found = study.scored(systems)
    elif given.part == "tuned":
        arm = experiments.arm(folder / name, "tuned", model, tokenizer, settings["model"], plan,
                              study.config(settings, name), progress=True)
        found = study.scored({f"tuned, {way}": own for way, own in arm.verdicts.items()})
        print(json.dumps(arm.history))
    else:
        rows, what = study.fault_results(settings, folder / "faults", model, tokenizer, {name: plan})
        for row in verdict.fault_rows(rows):
            print(row)
        if given.keep:
            write_json(given.keep, {"what": what, "command": f"{command} faults", "rows": rows})
    for key, score in found.items():
        print(key, format_score(score))
    print(json.dumps({"part": given.part, "format": name, "scores": found, "facts": runs.facts(),
                      "cpu_seconds": round(time.process_time() - began, 1)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
