"""What an edit did to one program of a search is told to its twin, the same edit of another of its programs.

A search for two bugs tries edits of the given program and of those that one edit mended in part. Where the two edits
of a repair mend different tests, each shows what it is alone: after one of them, the twin of the other is the patch.
And what crashed or changed nothing alone seldom mends the rest. `ODDS` are log-likelihood ratios, P(outcome alone | its
twin ends the search) / P(outcome alone | it is another probable edit), counted in pairs of bugs in training packages.
Unusual: within one program an outcome says little of other edits (feedback.py); here it speaks of the same one.
"""

from .edits import Edit
from .feedback import CLASSES, Seen, changes, classify

ODDS = {"same": 0.0, "crash": -1.5, "broke": -1.5, "away": -0.4, "moved": 0.3, "closer": 1.0, "mixed": 0.0,
        "mended": 0.6, "mends the rest": 4.7}


def twin(edit: Edit, made: Edit) -> Edit | None:
    """The same edit of the program that another one made of this; None where they touch."""
    moved = len(made.text) - (made.end - made.start)
    if edit.end <= made.start:
        return edit
    return Edit(edit.kind, edit.start + moved, edit.end + moved, edit.text) if edit.start >= made.end else None


def odds(before: Seen, after: Seen, here: Seen) -> float:
    """Log-odds that the twin ends the search. before, after: of the edit; here: of the program that it is told to."""
    left = [n for n, outcome in enumerate(here.outcomes) if outcome != "passed"]
    if all(after.outcomes[n] == "passed" for n in left) and not changes(before, after)[1]:
        return ODDS["mends the rest"]
    return ODDS[CLASSES[classify(before, after)]]
