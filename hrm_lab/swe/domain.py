"""Which of seven domains code belongs to: naive Bayes over the words of its names, imports and comments.

The sample that it learns from is shipped (data/domains.jsonl, with its card): functions of the standard library and of
packages on PyPI, labelled by hand, kept as words without order. Unusual: a domain is mostly said by the module around a
function, so `context` matters; `accuracy` measures the classifier with and without it on packages that it has not seen,
beside the most frequent domain and a list of keywords. Words are split at underscores and capitals, so they serve any
language. A word counts once a text; the multinomial form and the smoothing are those of McCallum & Nigam (1998).
"""

import json
import re
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np

from hrm_lab.metrics import paired_difference, proportion
from hrm_lab.swe.instances import DOMAINS

SAMPLE = Path(__file__).resolve().parents[2] / "data" / "domains.jsonl"
SMOOTHING = 0.3
CONTEXT_CHARACTERS = 3000  # of the file's head that are read: licence lines left out, then docstring and imports
FOLDS = 20
WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
COMMENT = re.compile(r"(?m)^[ \t]*(#(?!include)|//|/?\*).*\n?")  # licences open files in every language
COMMON = frozenset(WORD.findall("""
    self def return if else elif for while in not and or is none true false import from class try
    except raise pass with as the of to an be this that it cls args kwargs lambda yield str int bool list dict len
    isinstance type object value values name param are by will"""))
KEYWORDS = {
    "security": "password crypto cipher encrypt decrypt hash hmac token secret certificate ssl auth signature key",
    "web": "http url html request response server client cookie header socket web uri mail css",
    "systems": "file path os process thread socket directory lock memory disk signal fd async terminal",
    "data science": "array matrix plot figure axis dataframe mean distribution tensor model statistics numpy",
    "developer tools": "parser command debug test module source ast compile package config frame traceback notebook",
    "text": "string text line encoding unicode regex format token parse char markup json",
    "algorithms": "graph tree node sort heap search queue edge set combinatorics prime cache path",
}


def words(text: str) -> frozenset[str]:
    """Lower-case words of 3 to 20 letters, without Python's commonest."""
    found = (word.lower() for word in WORD.findall(text))
    return frozenset(word for word in found if 3 <= len(word) <= 20 and word not in COMMON)


def context_words(context: str, path: str) -> frozenset[str]:
    """Words of a path and of the head of a file."""
    return words(path) | words(COMMENT.sub("", context)[:CONTEXT_CHARACTERS])


@lru_cache(1)
def sample() -> tuple[dict, ...]:
    """The labelled functions: package, version, licence, path, function, domain, words, context (both sets)."""
    rows = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    return tuple({**row, "words": frozenset(row["words"].split()), "context": frozenset(row["context"].split())}
                 for row in rows)


def fit(rows: list[dict]) -> tuple[dict[str, int], np.ndarray]:
    """Vocabulary (V words that occur in two packages) and log weights (V + 1, 7); the last row is the prior."""
    packages = {}
    for row in rows:
        for word in row["words"] | row["context"]:
            packages.setdefault(word, set()).add(row["package"])
    vocabulary = {word: i for i, word in enumerate(sorted(w for w, seen in packages.items() if len(seen) > 1))}
    counts = np.full((len(vocabulary) + 1, len(DOMAINS)), SMOOTHING)  # (V + 1, 7)
    for row in rows:
        places = [vocabulary[word] for word in row["words"] | row["context"] if word in vocabulary]
        counts[[*places, -1], DOMAINS.index(row["domain"])] += 1
    counts[:-1] /= counts[:-1].sum(0)
    counts[-1] /= counts[-1].sum()
    return vocabulary, np.log(counts)


def _predict(model: tuple[dict[str, int], np.ndarray], found: frozenset[str]) -> str:
    vocabulary, weights = model
    places = sorted(vocabulary[word] for word in found if word in vocabulary)
    return DOMAINS[int(weights[[*places, -1]].sum(0).argmax())]


@lru_cache(1)
def _model():
    return fit(list(sample()))


def classify(program: str, context: str = "", path: str = "") -> str:
    """Domain of a function or file. context: text of the file around it; path: its path. Any language."""
    return _predict(_model(), words(program) | context_words(context, path))


def by_keywords(found: frozenset[str]) -> str:
    """Baseline: the domain whose keywords occur most; the first in `DOMAINS` of several."""
    return max(DOMAINS, key=lambda domain: len(found & frozenset(KEYWORDS[domain].split())))


def accuracy() -> dict:
    """Scores on the labelled sample, each package predicted by a model that has not seen it (20 folds of packages)."""
    rows = list(sample())
    packages = sorted({row["package"] for row in rows})
    np.random.default_rng(0).shuffle(packages)
    fold = {package: i % FOLDS for i, package in enumerate(packages)}
    answers = {name: np.zeros(len(rows), bool) for name in ("context", "function", "keywords", "majority")}
    for k in range(FOLDS):
        seen = [row for row in rows if fold[row["package"]] != k]
        model, majority = fit(seen), Counter(row["domain"] for row in seen).most_common(1)[0][0]
        for i, row in enumerate(rows):
            if fold[row["package"]] == k:
                everything = row["words"] | row["context"]
                said = {"context": _predict(model, everything), "function": _predict(model, row["words"]),
                        "keywords": by_keywords(everything), "majority": majority}
                for name, domain in said.items():
                    answers[name][i] = domain == row["domain"]
    scores = {f"domain_accuracy/{name}": proportion(int(right.sum()), len(rows)) for name, right in answers.items()}
    for domain in DOMAINS:
        mine = answers["context"][[row["domain"] == domain for row in rows]]
        scores[f"domain_accuracy/context/{domain}"] = proportion(int(mine.sum()), len(mine))
    scores["domain_accuracy/context_minus_keywords"] = paired_difference(answers["context"], answers["keywords"])
    return scores
