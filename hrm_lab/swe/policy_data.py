"""Examples for a policy without any test: bugs injected into functions of real code, the repair among its rivals.

    python -m hrm_lab.swe.policy_data --out data/built/policy --n 3000 --cache data/cache

Functions come from the training packages, larger packages that are only read, and the standard library (split "train"),
or from the validation packages ("valid"); those of another language (`--language`, `--corpus`) from a file of
corpus.py. No test is run, so what tests would say is simulated, and often withheld (always in other languages, where
nothing measures coverage): some blocks without the bug are called innocent, the rest suspect. Unusual: of thousands of
rival edits a sample is stored, with the logarithm of how many each stands for, so that a softmax over the sample
estimates the one over all (Bengio and Senecal 2008).
"""

import argparse
import ast
import io
import random
import re
import sysconfig
import tarfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

from hrm_lab.files import write_atomic
from hrm_lab.sources import LISTING, fetch
from hrm_lab.swe import corpus
from hrm_lab.swe.drawing import enumerable, fits
from hrm_lab.swe.edits import Edit, parses, proposals, sites
from hrm_lab.swe.evidence import Evidence
from hrm_lab.swe.features import features
from hrm_lab.swe.inject import inject
from hrm_lab.swe.languages import LANGUAGES, lex, root, valid
from hrm_lab.swe.package_table import PACKAGES, Function, checkout, functions
from hrm_lab.swe.reading import Reading
from hrm_lab.swe.scope import program

RIVALS = 159
SITES = 0.35
LINES = (4, 28)
TOKENS = (20, 120)  # the size of program that is repaired most; the rest takes long to enumerate
LARGER = ("sympy", "networkx", "mpmath", "nltk", "sqlalchemy", "django", "werkzeug", "rich", "twisted",
          "more-itertools", "statsmodels")  # read as archives, never unpacked
ELSEWHERE = re.compile(r"(?i)(^|[/_])(tests?|docs?|examples?)[/_.]")  # paths of no code of the package's own
CORPUS_TOKENS = (20, 220)  # of other languages, which write types and braces
PER_PACKAGE = 1200  # functions of a corpus that one package gives
HELD_OUT = frozenset({  # packages of a corpus that are split "valid"
    "XStatic-Graphlib", "XStatic-js-yaml", "dukpy", "jep", "pydoop", "kiwisolver", "contourpy", "jiter",
    "python-calamine", "safetensors", "gojsonnet"})
COMPUTES = frozenset({"for", "while", "if", "binary", "augassign", "subscript"})  # roles
FIELDS = ("tokens", "span", "kind", "added", "pointer", "wide", "weight")
LIBRARY = """
    _pydecimal abc argparse ast base64 bdb bisect calendar cmd codeop collections/__init__ colorsys configparser copy
    csv dataclasses datetime difflib dis email/_header_value_parser email/header email/quoprimime email/utils enum
    filecmp fileinput fnmatch fractions functools genericpath getopt gettext glob gzip hashlib heapq html/parser
    http/cookies imghdr inspect ipaddress json/decoder json/encoder json/scanner keyword linecache locale mailcap
    mimetypes netrc ntpath nturl2path numbers operator optparse pathlib pickletools pipes plistlib posixpath pprint
    pstats quopri random reprlib sched selectors shlex shutil sndhdr statistics string stringprep symtable tabnanny
    textwrap tokenize trace traceback turtle types typing urllib/parse uuid weakref wsgiref/util xml/dom/minidom
    xml/etree/ElementPath xml/etree/ElementTree zipfile""".split()


def library(names: list[str] = LIBRARY) -> list[str]:
    """Texts of the functions of the standard library of this Python, dedented; a fifth of it is for validation."""
    found = []
    for name in names:
        if crc32(Path(name).name.encode()) % 5 == 0:  # as in feedback_data.modules
            continue
        path = Path(sysconfig.get_path("stdlib")) / f"{name}.py"
        if not path.exists():  # removed from later Pythons
            continue
        found += cut(path.read_bytes().decode())
    return found


def cut(text: str) -> list[str]:
    """The functions of a module, dedented; none if it does not parse."""
    lines, found = text.split("\n"), []
    try:
        with warnings.catch_warnings(action="ignore"):
            nodes = list(ast.walk(ast.parse(text)))
    except SyntaxError:
        return []
    for node in nodes:
        if isinstance(node, ast.FunctionDef):
            body = "\n".join(lines[node.lineno - 1:node.end_lineno])
            if fits(Function("", node.name, node.lineno, 0, 0, body)):
                found.append(enumerable(body))
    return found


def archived(name: str, cache: Path) -> list[str]:
    """Functions of a package's sdist, its tests left out."""
    found = []
    with tarfile.open(fetch(name, cache)) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(".py") and not ELSEWHERE.search(member.name):
                found += cut(archive.extractfile(member).read().decode("utf-8", "replace"))
    return found


def pool(split: str, cache: Path, packages: Iterable[str] = tuple(PACKAGES), larger: Iterable[str] = ()) -> list[str]:
    """Functions of those packages that are of a split, and for "train" of the standard library and of larger packages;
    each text once."""
    found = library() + [text for name in larger for text in archived(name, cache)] if split == "train" else []
    for package in map(PACKAGES.get, packages):
        if package.split == split:
            found += [enumerable(f.text) for f in functions(package, checkout(package.name, cache)) if fits(f)]
    return [text for text in dict.fromkeys(found) if LINES[0] <= text.count("\n") + 1 <= LINES[1]
            and TOKENS[0] <= len(lex(text, "python")) <= TOKENS[1]]


def corpus_pool(split: str, path: Path, language: str) -> list[str]:
    """Functions of one language from a file of corpus.py that stand alone; its packages `HELD_OUT` are "valid"."""
    found, taken = [], Counter()
    for snippet in corpus.read(path):
        text = enumerable(snippet.text)
        if (snippet.language == language and (snippet.package in HELD_OUT) == (split == "valid")
                and taken[snippet.package] < PER_PACKAGE and LINES[0] <= text.count("\n") + 1 <= LINES[1]
                and CORPUS_TOKENS[0] <= len(lex(text, language)) <= CORPUS_TOKENS[1] and valid(text, language)):
            taken[snippet.package] += 1
            found.append(text)
    return found


def interest(text: str, language: str = "python") -> float:
    """Chance that a drawn function is taken: loops, sums and comparisons are where a repair is hard to guess."""
    if language != "python":
        return min(6, sum(node.role in COMPUTES for node in root(text, language).walk())) / 6
    nodes = Counter(type(node) for node in ast.walk(ast.parse(text)))
    count = sum(nodes[kind] for kind in (ast.For, ast.While, ast.If, ast.BinOp, ast.Compare, ast.Subscript))
    return min(6, count) / 6 * (0.4 if "self" in text else 1.0)


def simulated(code: str, line: int, rng: random.Random):
    """Made-up evidence for a bug in `line`: None (30 %), every line suspect (30 %), or some blocks innocent."""
    draw = rng.random()
    if draw < 0.3:
        return None
    texts = code.split("\n")
    levels = {n: 1.0 for n, text in enumerate(texts, 1) if text.strip()}
    if draw > 0.6:
        margins = [len(text) - len(text.lstrip()) for text in texts]
        n = 1
        while n <= len(texts):
            m = n
            while m < len(texts) and (margins[m] > margins[n - 1] or not texts[m].strip()):
                m += 1
            if not n <= line <= m and rng.random() < 0.3:
                level = rng.choice((0.0, 0.0, 0.5, 0.7))
                levels.update({k: level for k in range(n, m + 1) if k in levels})
                n = m + 1
            else:
                n += 1
        if rng.random() < 0.1:  # tests mislead
            levels[line] = 0.7
    return Evidence(suspicion=levels)


@dataclass(frozen=True)
class Example:
    """A bug as arrays: `Reading.token_ids`, `Reading.edit_ids`, `features`; row 0 of the edits is the repair."""

    tokens: np.ndarray
    span: np.ndarray
    kind: np.ndarray
    added: np.ndarray
    pointer: np.ndarray
    wide: np.ndarray
    weight: np.ndarray  # (n,) float: log of how many edits a row stands for


def example(code: str, edits: list[Edit], evidence, rng: random.Random, language: str = "python",
            rivals: int = RIVALS) -> Example:
    """The repair, edits[0], and a sample of its rivals that parse."""
    reading, p, rows, tried = Reading(code, language, evidence), program(code, language), [0], 0
    for n in rng.sample(range(1, len(edits)), len(edits) - 1):
        tried += 1
        if parses(p, edits[n]):
            rows.append(n)
        if len(rows) > rivals:
            break
    weight = np.full(len(rows), np.log((len(edits) - 1) / tried / SITES), np.float32)
    weight[0] = 0
    return Example(reading.token_ids(), wide=features(reading, edits, rows=rows, share=SITES), weight=weight,
                   **reading.edit_ids([edits[n] for n in rows]))


def proposed(code: str, reading: Reading, repair: Edit, rng: random.Random, language: str = "python") -> list[Edit]:
    """What `candidates` would list at a share `SITES` of its places, unchecked; the repair first, each change once."""
    p, (i, j, new) = program(code, language), reading.added(repair)
    seen, found = {(i, j, tuple(new)) if (i, j, new) != (i, i, []) else repair}, [repair]
    nodes = [node for node in sites(p, 0, len(code)) if rng.random() < SITES]
    for node in sorted(nodes, key=lambda node: node.end - node.start):
        for proposal in proposals(p, node):
            edit = Edit(*proposal)
            i, j, new = reading.added(edit)
            key = (i, j, tuple(new)) if j > i or new else (edit.start, edit.end, edit.text)  # the latter moves blocks
            if key not in seen and code[edit.start:edit.end] != edit.text:
                seen.add(key)
                found.append(edit)
    return found


def drawn(text: str, rng: random.Random, language: str = "python") -> tuple[str, list[Edit]] | None:
    """(program with a bug, its candidates, the repair first), or None if no bug could be made."""
    bug = inject(text, rng, language)
    if bug is None:
        return None
    edits = proposed(bug.code, Reading(bug.code, language), bug.repair, rng, language)
    return (bug.code, edits) if len(edits) >= 20 else None


def generate(texts: list[str], n: int, seed: int, seconds: float = 1e9, rivals: int = RIVALS,
             language: str = "python"):
    """Up to n examples from functions drawn by `interest`, for at most `seconds`."""
    rng, until, made = random.Random(seed), time.monotonic() + seconds, 0
    while made < n and time.monotonic() < until:
        text = rng.choice(texts)
        if rng.random() > interest(text, language):
            continue
        other = rng.choice(texts)
        if rng.random() < 0.15 and len(text) + len(other) < 1200:
            text = "\n\n\n".join(rng.sample([text, other], 2))
        if found := drawn(text, rng, language):
            code, edits = found
            line = code.count("\n", 0, edits[0].start) + 1
            evidence = simulated(code, line, rng) if language == "python" else None
            yield example(code, edits, evidence, rng, language, rivals)
            made += 1


def save(path: Path, examples: list[Example]):
    """Examples as one .npz of joined arrays with their lengths."""
    arrays = {name: np.concatenate([getattr(e, name) for e in examples]) for name in FIELDS}
    arrays = {name: a if name == "weight" else a.astype(np.uint16) for name, a in arrays.items()}
    arrays["lengths"] = np.array([len(e.tokens) for e in examples])
    arrays["counts"] = np.array([len(e.kind) for e in examples])
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomic(path, buffer.getvalue())


def load(path: Path) -> list[Example]:
    """What `save` wrote, as views of its arrays."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in (*FIELDS, "lengths", "counts")}
    token_ends, edit_ends = np.cumsum(arrays["lengths"]), np.cumsum(arrays["counts"])
    found = []
    for t, n, e, m in zip(token_ends, arrays["lengths"], edit_ends, arrays["counts"], strict=True):
        found.append(Example(arrays["tokens"][t - n:t], *(arrays[name][e - m:e] for name in FIELDS[1:])))
    return found


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(prog="python -m hrm_lab.swe.policy_data", description=__doc__.split("\n")[0])
    parser.add_argument("--out", required=True, help="folder for <split>-<seed>.npz")
    parser.add_argument("--split", default="train", choices=("train", "valid"))
    parser.add_argument("--n", type=int, default=3000)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rivals", type=int, default=RIVALS, help="rival edits kept of each example")
    parser.add_argument("--larger", nargs="*", default=[], choices=LARGER, help="larger packages to draw from, too")
    parser.add_argument("--cache", default=str(LISTING.parent / "cache"), help="where sdists are fetched and unpacked")
    parser.add_argument("--language", default="python", choices=list(LANGUAGES))
    parser.add_argument("--corpus", type=Path, help="file of corpus.py: functions of a language other than Python")
    given = parser.parse_args(arguments)
    if (given.language == "python") != (given.corpus is None):
        parser.error(f"--language {given.language}: a corpus is for other languages than Python, and they need one")
    started = time.monotonic()
    texts = (corpus_pool(given.split, given.corpus, given.language) if given.corpus
             else pool(given.split, Path(given.cache), larger=given.larger))
    print(f"{len(texts)} functions", flush=True)
    found = list(generate(texts, given.n, given.seed, given.seconds, given.rivals, given.language))
    save(Path(given.out) / f"{given.split}-{given.seed}.npz", found)
    print(f"{len(found)} examples in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
