"""Agents: who proposes what, what the evidence says of them, and the coordinator's mix."""

import numpy as np
import pytest

from hrm_lab.swe import feedback_train
from hrm_lab.swe.agents import EDITORS, SIGNS, Coordinator, Editor, Localiser, Split, editors, sign, signs, team
from hrm_lab.swe.edits import KINDS, Edit, candidates
from hrm_lab.swe.evidence import Evidence
from hrm_lab.swe.features import SIZE
from hrm_lab.swe.feedback import Seen
from hrm_lab.swe.feedback_data import Task
from hrm_lab.swe.linear import LinearPrior
from hrm_lab.swe.orders import KindBalanced
from hrm_lab.swe.probe import UNKNOWN, Facts
from hrm_lab.swe.search import search

BUGGY = "def clamp(x, low, high):\n    if x < low:\n        return low\n    return max(x, high)\n"
EDITS = candidates(BUGGY)
SAID = Evidence(("a", "b"), ("c",), {"a": "AssertionError: assert 5 == 4", "b": "TypeError: no"}, {2: 0.9, 4: 0.3})


def test_every_kind_has_one_editor_and_no_editor_a_kind_that_is_not():
    named = [kind for kinds in EDITORS.values() for kind in kinds.split()]
    assert len(named) == len(set(named)) and set(named) <= set(KINDS)
    who = editors([Edit(kind, 0, 0, "") for kind in KINDS])
    assert set(who.tolist()) == set(range(len(EDITORS)))
    assert list(EDITORS)[editors([Edit("insert-guard", 0, 0, "")])[0]] == "insertions"


@pytest.mark.parametrize("message, wanted", [
    ("AssertionError: assert None == 3", "none for a value"),
    ("AssertionError: assert True == False", "true for false"),
    ("AssertionError: assert 3 == 4", "one off"), ("AssertionError: assert 3 == 40.5", "another number"),
    ("AssertionError: assert [1] == [2]", "as long"), ("AssertionError: assert 'ab' == 'a'", "not as long"),
    ("AssertionError: assert f(x) == 1", "another value"), ("AssertionError: assert {1} == {2}", "as long"),
    ("AssertionError: assert 3 == [2]", "another value"), ("AssertionError", "another value"),
    ("IndexError: list index out of range", "IndexError or KeyError"), ("re.error: missing )", "another error"),
    ("UnboundLocalError: x", "unknown name"), ("ZeroDivisionError: x", "another error"), ("fuel", "no end"),
    ("", "no end")])
def test_signs_of_messages(message, wanted):
    assert sign(message) == wanted


def test_signs_are_shares():
    found = dict(zip(SIGNS, signs(SAID), strict=True))
    assert found["one off"] == found["TypeError"] == 0.5 and found["always"] == 1
    assert found["share of tests that pass"] == pytest.approx(1 / 3) and not signs(Evidence.none()).any()


def test_the_localiser_is_a_distribution_over_lines():
    lines = Localiser().lines(BUGGY, SAID)
    assert sum(lines.values()) == pytest.approx(1) and max(lines, key=lines.get) == 2
    scores = Localiser().scores(BUGGY, EDITS, SAID)
    assert np.exp(scores).sum() == pytest.approx(1)


@pytest.mark.parametrize("name", EDITORS)
def test_an_editor_proposes_its_own_first_and_all_in_the_end(name):
    order = np.argsort(-Editor(name, KindBalanced()).scores(BUGGY, EDITS, SAID))
    own = editors(EDITS)[order] == list(EDITORS).index(name)
    assert own[:own.sum()].all() and len(order) == len(EDITS)


def test_a_uniform_split_takes_turns():
    order = np.argsort(-Split(KindBalanced()).scores(BUGGY, EDITS, SAID))
    present = len(set(editors(EDITS).tolist()))
    assert len(set(editors(EDITS)[order[:present]].tolist())) == present


def test_the_coordinator_moves_the_budget_by_the_evidence_and_never_within_an_editor(tmp_path):
    weights = np.zeros((len(EDITORS), len(SIGNS)))
    weights[list(EDITORS).index("names"), SIGNS.index("TypeError")] = 4
    given, prior = Coordinator(KindBalanced(), weights), KindBalanced()
    shares = given.shares(BUGGY, EDITS, SAID)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["names"] > Coordinator(prior, 0 * weights).shares(BUGGY, EDITS, SAID)["names"]
    assert np.allclose(given.scores(BUGGY, EDITS, Evidence.none()), prior.scores(BUGGY, EDITS, Evidence.none()))
    shift = given.scores(BUGGY, EDITS, SAID) - prior.scores(BUGGY, EDITS, SAID)
    for agent in set(editors(EDITS).tolist()):
        assert np.ptp(shift[editors(EDITS) == agent]) < 1e-9
    given.save(tmp_path / "c.safetensors")
    assert np.allclose(Coordinator.load(tmp_path / "c.safetensors", prior).weights, weights)
    Coordinator(prior, np.zeros((2, 3))).save(tmp_path / "d.safetensors")
    with pytest.raises(ValueError, match=r"weights have shape \(2, 3\); expected"):
        Coordinator.load(tmp_path / "d.safetensors", prior)


def test_it_is_a_prior_of_a_search():
    tests = "assert clamp(5, 0, 10) == 5\nassert clamp(-1, 0, 10) == 0\nassert clamp(11, 0, 10) == 10\n"
    prior = Coordinator(KindBalanced(), np.zeros((len(EDITORS), len(SIGNS))))
    found = search(BUGGY, tests, prior, tree=False, budget=5)
    assert found.executions == 5 or found.resolved


def test_the_fit_learns_which_editor_a_message_calls_for():
    edits = [Edit("constant", 4, 5, "3"), Edit("name", 4, 5, "b"), Edit("delete", 0, 5, "pass")]
    assert team(edits, SAID).shape == (3, len(EDITORS) * len(SIGNS))

    def task(n):
        message = ("AssertionError: assert 3 == 4", "TypeError: no")[n % 2]
        before, after = (Seen.from_lists([o], [message if o != "passed" else ""]) for o in ("failed", "passed"))
        return Task(f"t{n}", "a = 1\n", "", edits, before, [after if i == n % 2 else before for i in range(3)],
                    Evidence(("t",), (), {"t": message}), Facts(np.full((3, 1), UNKNOWN), 1), [0, 1, 2])

    given = [task(n) for n in range(8)]
    known = [feedback_train.wide(one) for one in given]
    fitted = feedback_train.fit_coordinator(given, known, LinearPrior(np.zeros(SIZE)))
    for n in range(2):
        one = task(n)
        assert np.argmax(fitted.scores(one.program, edits, one.evidence)) == n
