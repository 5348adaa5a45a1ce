"""Repairs of several tokens that people make as one thought are candidates, and of the kind that is said."""

import random

import pytest

from hrm_lab.swe import idioms
from hrm_lab.swe.edits import apply, candidates
from hrm_lab.swe.inject import inject
from hrm_lab.swe.languages import normalise
from hrm_lab.swe.scope import program

REPAIRS = {  # kind: (program, what is wrong, what is right)
    "operator": ("def pages(items, size):\n    return len(items) // size\n", "len(items) // size",
                 "-(-len(items) // size)"),
    "sign": ("def rank(counts):\n    return sorted(counts.items(), key=lambda item: (item[1], item[0]))\n",
             "(item[1], item[0])", "(-item[1], item[0])"),
    "comparison": ("def same(a, b):\n    return 2 * a == 3 * b\n", "2 * a == 3 * b", "abs(2 * a - 3 * b) < 1e-9"),
    "add-operand": ("def pay(price, discount):\n    return price * discount\n", "* discount", "* (1 - discount)"),
    "add-operand, a remainder": ("def shift(x, base, by):\n    return chr((x - base + by) + base)\n",
                                 "(x - base + by)", "(x - base + by) % 26"),
    "add-operand, an index": ("def after(items, i):\n    return items[i + 1]\n", "[i + 1]", "[(i + 1) % len(items)]"),
    "wrap-min-max": ("def merge(out, start, end):\n    if start <= out[-1][1]:\n        out[-1] = (out[-1][0], end)\n",
                     "[0], end)", "[0], max(out[-1][1], end))"),
    "assignment": ("def group(rows, key):\n    out = {}\n    for row in rows:\n        out[row[key]] = [row]\n"
                   "    return out\n", "out[row[key]] = [row]", "out.setdefault(row[key], []).append(row)"),
    "assignment, a count": ("def count(words):\n    n = {}\n    for w in words:\n        n[w] += 1\n",
                            "n[w] += 1", "n[w] = n.get(w, 0) + 1"),
    "function": ("def count(n, word):\n    n = {}\n    return n[word]\n", "n[word]", "n.get(word, 0)"),
    "function, a list": ("def index(rows, key):\n    out = {}\n    for x in rows:\n        out[key(x)].append(x)\n"
                         "    return out\n", "out[key(x)]", "out.setdefault(key(x), [])"),
    "function, an error": ("def known(d, key):\n    return d.get(key, 0)\n", "d.get(key, 0)", "d[key]"),
    "element": ("def nested(x):\n    return isinstance(x, list)\n", ", list)", ", (list, tuple))"),
    "comprehension": ("def table(n):\n    return [[0] * n] * n\n", "[[0] * n] * n", "[[0] * n for _ in range(n)]"),
    "wrap-call": ("def words(text):\n    return find(text)\n", "find(text)", "find(text.lower())"),
    "add-argument": ("def oldest(items):\n    items.popitem()\n", "popitem()", "popitem(last=False)"),
    "add-argument, the key of a dictionary": ("def winner(votes):\n    return max(votes)\n", "max(votes)",
                                              "max(votes, key=votes.get)"),
    "dedent": ("def find(xs, x):\n    for i, y in enumerate(xs):\n        if y == x:\n            return i\n"
               "        else:\n            return -1\n", "        else:\n            return -1\n", "    return -1\n"),
    "insert-update": ("def rotate(xs, n):\n    return xs[n:] + xs[:n]\n", "    return", "    n %= len(xs)\n    return"),
    "insert-assignment": ("def add(x, xs):\n    xs.append(x)\n    return xs\n", "    xs.append",
                          "    xs = xs[:]\n    xs.append"),
    "wrap-call, a copy": ("def merge(a, b):\n    out = a\n    out.update(b)\n    return out\n", "out = a\n",
                          "out = a.copy()\n"),
    "add-else": ("def run(ts):\n    best = now = 0\n    for t in ts:\n        if t < 0:\n            now += 1\n"
                 "            best = max(best, now)\n    return best\n", "            best = max(best, now)\n",
                 "            best = max(best, now)\n        else:\n            now = 0\n"),
    "insert-call": ("def walk(graph, node):\n    done, out = set(), []\n    out.append(node)\n    return done\n",
                    "    out.append(node)\n", "    out.append(node)\n    done.add(node)\n"),
}


@pytest.mark.parametrize("name", REPAIRS)
def test_a_repair_is_a_candidate(name):
    code, wrong, right = REPAIRS[name]
    wanted = normalise(code.replace(wrong, right), "python")
    assert wanted != normalise(code, "python")
    kinds = {edit.kind for edit in candidates(code) if normalise(apply(code, edit), "python") == wanted}
    assert kinds == {name.split(",")[0]}


def test_the_two_names_of_an_assignment_have_their_own_types():
    p = program("def f():\n    seen, total, (a, b) = set(), 0, c\n    return seen\n", "python")
    assert [p.type_at(60, name) for name in ("seen", "total", "a")] == ["set", "num", "any"]


def test_first_values_are_those_of_names_that_the_branch_changes():
    p = program("def f(xs):\n    a = b = 0\n    c = ''\n    for x in xs:\n        if x:\n            a += 1\n"
                "            c = x\n", "python")
    branch = next(node for node in p.nodes if node.role == "if")
    assert idioms.starts(p, branch) == ["a = 0", "c = ''"]


def test_other_languages_have_none():
    p = program("function f(a, b) { return a * b; }\n", "javascript")
    assert not [edit for node in p.nodes for edit in (*idioms.numbers(p, node), *idioms.containers(p, node))]


@pytest.mark.parametrize("kind, code, bug", [
    ("add-else", REPAIRS["add-else"][0].replace(*REPAIRS["add-else"][1:]), "best = max(best, now)\n    return"),
    ("wrap-min-max", REPAIRS["wrap-min-max"][0].replace(*REPAIRS["wrap-min-max"][1:]), "(out[-1][0], end)"),
    ("assignment", "def f(d, k, v):\n    d[k] = d.get(k, 0) + v\n    return d\n", "d[k] = v\n")])
def test_bugs_that_they_repair_are_made(kind, code, bug):
    made = {inject(code, random.Random(seed), kind=kind).code for seed in range(12)}
    assert any(bug in text for text in made)
