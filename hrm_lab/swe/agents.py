"""Coordinated agents: a localiser, editors, a verifier, and a coordinator that splits the executions among the editors.

An editor proposes the candidates of some KINDS (operators, values, names, ...), in the order of a prior; the localiser
reads the coverage of failing against passing tests; the verifier is the sandbox with the probe (search.py). The
coordinator says how much of the budget each editor is worth, from what the failing tests say: its score of a candidate
is the prior's + the weight of the candidate's editor on `signs` of the evidence, a conditional logit fitted to injected
bugs. Unusual: no messages and no roles; an agent is a distribution over candidates, and to coordinate is to mix them,
so that one `scores` plugs into any search. That mix is off by default (the card of the weights says why); what is on is
the split of the budget between the probe, the given program's edits and those of mended ones (nodes.most_likely).
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from .edits import Edit
from .evidence import Evidence, lines_at
from .orders import FLOOR, POWER, normalised
from .symptoms import words

EDITORS = {  # agent -> kinds of edit; those not named here and not insertions are the last's
    "operators": "comparison boolean operator assignment swap-operands brackets negate sign none-test exchange",
    "values": "off-by-one constant truth string default constant-to-name name-to-constant index slice add-index "
              "drop-index",
    "names": "name target attribute function rename replace-all add-attribute drop-attribute swap-arguments "
             "drop-argument add-argument swap-elements element",
    "conditions": "drop-condition add-condition replace-condition truth-condition swap-branches drop-branch",
    "flow": "unguard guard loop drop-else else add-else dedent indent delete duplicate swap-statements move return "
            "assign-result",
    "insertions": "",
    "expressions": ""}
SHOWN = {  # sign -> the words (symptoms.py) that show it; the first sign that any word shows is the message's
    "none for a value": "got None|wanted None", "true for false": "got True|got False|bool for|.* for bool",
    "one off": "number by one", "another number": "number", "not as long": "(list|text) (longer|shorter|empty)",
    "as long": "list|text|dict|set", "another value": "untrue|not |.* for ", "TypeError": "raises TypeError",
    "IndexError or KeyError": "raises (Index|Key)Error",
    "unknown name": "raises (Name|UnboundLocal|Attribute)Error", "another error": "raises", "no end": "hangs"}
SIGNS = ("always", *SHOWN, "share of tests that pass")
_EDITOR = {kind: n for n, kinds in enumerate(EDITORS.values()) for kind in kinds.split()}


def editors(edits: list[Edit]) -> np.ndarray:
    """(n_edits,) index into EDITORS of the agent that proposes an edit."""
    names = list(EDITORS)
    other, added = names.index("expressions"), names.index("insertions")
    return np.array([_EDITOR.get(e.kind, added if e.kind.startswith("insert-") else other) for e in edits], int)


def sign(message: str) -> str:
    """Which of SHOWN a failing test's message is."""
    found = words(message)
    if not found:  # values that cannot be read, an error of a class with an unusual name, or nothing at all
        return "another value" if "AssertionError" in message else "another error" if message else "no end"
    return next(name for name, shown in SHOWN.items() if any(re.match(shown, word) for word in found))


def signs(evidence: Evidence) -> np.ndarray:
    """(n_signs,): 1, the share of failing tests with each sign, the share of tests that pass; 0 without evidence."""
    found = np.zeros(len(SIGNS))
    for name in evidence.failing:
        found[SIGNS.index(sign(evidence.messages.get(name, "")))] += 1 / len(evidence.failing)
    found[0] = bool(evidence.failing)
    found[-1] = len(evidence.passing) / max(1, len(evidence.passing) + len(evidence.failing))
    return found


@dataclass(frozen=True)
class Localiser:
    """Where the bug is, by the lines that failing tests run and passing ones do not."""

    def lines(self, program: str, evidence: Evidence) -> dict[int, float]:
        """Line (1-based) -> probability; every line alike where nothing is known."""
        lines = range(1, program.count("\n") + 2)
        weights = {line: FLOOR + (1 - FLOOR) * evidence.suspicion.get(line, 0.0) ** POWER for line in lines}
        return {line: weight / sum(weights.values()) for line, weight in weights.items()}

    def scores(self, program, edits, evidence, language="python") -> np.ndarray:
        """(n_edits,) log-probabilities: a line's share falls to its candidates alike."""
        at = lines_at(program, [edit.start for edit in edits])
        where, count = self.lines(program, evidence), np.bincount(at)
        return normalised(np.array([np.log(where[line] / count[line]) for line in at]))


@dataclass(frozen=True)
class Editor:
    """An agent that proposes edits of its kinds by a prior, and others after them."""

    name: str
    prior: object

    def scores(self, program, edits, evidence, language="python") -> np.ndarray:
        own = editors(edits) == list(EDITORS).index(self.name)
        return normalised(np.asarray(self.prior.scores(program, edits, evidence, language)) - 1e3 * ~own)


@dataclass(frozen=True)
class Split:
    """Every editor gets every n-th execution: its candidates by a prior, editor after editor."""

    prior: object

    def scores(self, program, edits, evidence, language="python") -> np.ndarray:
        scores, who = np.asarray(self.prior.scores(program, edits, evidence, language)), editors(edits)
        turn = np.zeros(len(edits))
        for agent in range(len(EDITORS)):
            own = np.flatnonzero(who == agent)
            turn[own[np.argsort(-scores[own], kind="stable")]] = np.arange(len(own)) * len(EDITORS) + agent
        return normalised(-turn)


@dataclass(frozen=True)
class Coordinator:
    """A prior whose editors are worth more or less by the evidence. `weights`: (n_editors, n_signs)."""

    prior: object
    weights: np.ndarray

    def scores(self, program, edits, evidence, language="python") -> np.ndarray:
        worth = self.weights @ signs(evidence)
        return normalised(np.asarray(self.prior.scores(program, edits, evidence, language)) + worth[editors(edits)])

    def shares(self, program: str, edits: list[Edit], evidence: Evidence, language: str = "python") -> dict[str, float]:
        """Editor -> the share of the plan that is its."""
        mass = np.bincount(editors(edits), np.exp(self.scores(program, edits, evidence, language)), len(EDITORS))
        return dict(zip(EDITORS, mass.tolist(), strict=True))

    def save(self, path: Path):
        save_file({"weights": self.weights.astype(np.float32)}, path)

    @classmethod
    def load(cls, path: Path, prior) -> "Coordinator":
        """Raises ValueError: weights of other editors or signs."""
        weights, expected = load_file(path)["weights"], (len(EDITORS), len(SIGNS))
        if weights.shape != expected:
            raise ValueError(f"{path}: weights have shape {weights.shape}; expected {expected}")
        return cls(prior, weights)


def team(edits: list[Edit], evidence: Evidence) -> np.ndarray:
    """(n_edits, n_editors * n_signs): what the coordinator's weights are fitted on."""
    one = np.eye(len(EDITORS))[editors(edits)]
    return (one[:, :, None] * signs(evidence)).reshape(len(edits), -1)
