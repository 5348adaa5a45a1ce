"""What networks add to a linear prior, and whether their H level is a plan, on bugs injected into held-out packages.

    python benchmarks/planning.py --cache data/cache [--networks hrm=weights/swe-python/hrm ...]
    python benchmarks/planning.py --cache data/cache --train 390 --examples 12000   # trains the controls first
    python benchmarks/planning.py --language java --corpus data/built/corpus.jsonl --linear ... --networks hrm=...

`rank`: of the repair among a sample of its rivals, geometric mean; `over_linear`: that of a network over that of the
linear prior, paired by bug (below 1 the network adds something). No test is run, and no choice is made on these bugs:
the packages are of the split "test", in languages other than Python those that are held out of the corpus. With
`--train`, three networks are trained for so many seconds each on bugs of the training packages, and measured against
the linear prior that is fitted to the same bugs: the HRM and a plain transformer of its size on top of it, and an HRM
that learns alone. `plan/...` is of `hrm_lab.swe.planning`: the share of bugs whose place is ranked first with H frozen
after so many of its cycles, and what the H state of another bug moves, in nats. The last line is one JSON object.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from hrm_lab.metrics import bootstrap, format_score, proportion
from hrm_lab.runs import set_threads
from hrm_lab.sources import LISTING
from hrm_lab.swe import planning, policy_data, policy_train, trial
from hrm_lab.swe.languages import LANGUAGES
from hrm_lab.swe.linear import LinearPrior
from hrm_lab.swe.policy import PRESETS, Policy
from hrm_lab.swe.recommend import rank_ratio

PLANNED = ("plan/place_after", "plan/place_full", "plan/swap")


def bugs(split: str, n: int, seed: int, options) -> list[policy_data.Example]:
    """Injected bugs of a split; of other languages those of held-out packages are "valid"."""
    if options.corpus:
        texts = policy_data.corpus_pool("train" if split == "train" else "valid", options.corpus, options.language)
    else:
        texts = policy_data.pool(split, options.cache)
    return list(policy_data.generate(texts, n, seed, language=options.language))


def trained(options) -> tuple[LinearPrior, dict[str, Policy]]:
    """The linear prior and the networks, fitted to the same bugs."""
    data = bugs("train", options.examples, options.seed + 1, options)
    valid, shape = bugs("valid", options.n // 2, options.seed + 2, options), PRESETS[options.preset]
    shapes = {"HRM": shape, "plain": replace(shape, variant="plain", segments=1),
              "HRM alone": replace(shape, wide=False)}
    recipe = policy_train.PolicyTraining(seconds=options.train, every=50)
    with tempfile.TemporaryDirectory() as folder:
        made = {name: policy_train.train(one, recipe, data, valid, Path(folder) / str(n), "cpu")
                for n, (name, one) in enumerate(shapes.items())}
    return LinearPrior(made["HRM"].wide.numpy()), made


def scores(networks: dict[str, Policy], linear: LinearPrior, found: list[policy_data.Example]) -> dict[str, dict]:
    """Prior -> its ranks, and what its H level does if it has one."""
    placed = {"linear": trial.ranks(linear, found)} | {name: trial.ranks(one, found) for name, one in networks.items()}
    report = {}
    for name, own in placed.items():
        report[name] = {"rank": bootstrap(np.log(own), "", lambda logs: float(np.exp(logs.mean())))}
        report[name] |= {f"in_{k}": proportion(int((own <= k).sum()), len(own)) for k in (1, 10, 30, 100)}
        if name != "linear":
            report[name]["over_linear"] = rank_ratio(own, placed["linear"])
            if networks[name].config.variant == "hrm":
                plan = planning.summary(planning.after_cycles(networks[name], found),
                                        planning.swap(networks[name], found))
                report[name] |= {f"plan/{what}": score for what, score in plan.items()} | {
                    "plan/verdict": planning.verdict(plan)}
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=LISTING.parent / "cache", help="where sdists are fetched")
    parser.add_argument("--language", default="python", choices=list(LANGUAGES))
    parser.add_argument("--corpus", type=Path, help="file of corpus.py, for a language other than Python")
    parser.add_argument("--linear", type=Path, default=Path("weights/swe-python/linear.safetensors"))
    parser.add_argument("--networks", nargs="+", default=["hrm=weights/swe-python/hrm"], metavar="NAME=FOLDER")
    parser.add_argument("--train", type=float, help="seconds to train networks for, in place of --networks")
    parser.add_argument("--examples", type=int, default=3000, help="bugs to train on")
    parser.add_argument("--preset", default="laptop", choices=tuple(PRESETS), help="size of what is trained")
    parser.add_argument("--n", type=int, default=120)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    if (options.language == "python") != (options.corpus is None):
        parser.error(f"--language {options.language}: a corpus is for other languages than Python, and they need one")
    set_threads()
    if options.train:
        linear, networks = trained(options)
    else:
        linear = LinearPrior.load(options.linear)
        networks = {name: Policy.load(folder) for name, _, folder in (one.partition("=") for one in options.networks)}
    found = bugs("test", options.n, options.seed, options)
    report = {"language": options.language, "n": len(found), "priors": scores(networks, linear, found)}
    for name, own in report["priors"].items():
        print(f"{name:12} rank {format_score(own['rank'])}", *(
            f"| over linear {format_score(own['over_linear'])}" for _ in range("over_linear" in own)))
        for what, score in own.items():
            if what.startswith(PLANNED):
                print(f"{'':12} {what} {format_score(score)}")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
