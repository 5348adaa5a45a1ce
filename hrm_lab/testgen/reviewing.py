"""Who reviews: a panel for people in a notebook, and a simulated reviewer that runs the test.

All text of requirements and tests is escaped: it comes from models and files. The simulated reviewer is honest in that
it knows only what the executor finds, and knows it exactly; people know less and more.
"""

import sqlite3
from html import escape

from . import scores, store
from .domain import Domain
from .records import Record
from .writer import Written

EXECUTOR = "executor"  # the simulated reviewer's name


def simulated_reviewer(record: Record, text: str, domain: Domain) -> tuple[str, str, str]:
    """(verdict, fixed, reason) by execution: accept a test that is correct and kills every mutant.

    A test that can be run is edited into the record's own, as a tester would mend it; one that cannot is rejected.
    """
    found = scores.verdict(record, Written("", text, ""), domain)
    if found.correct and found.mutation == 1:
        return "accept", "", ""
    if not found.executable:
        return "reject", "", "cannot be run"
    if found.correct:
        return "edit", record.target, "missing boundary"
    for part, reason in (("the requirement says", "wrong value"), ("no case with outcome", "missing boundary"),
                         ("the reference", "wrong outcome")):
        if part in found.reason:
            return "edit", record.target, reason
    return "edit", record.target, "not in the requirement"


def simulate(db: sqlite3.Connection, record: Record, text: str, domain: Domain, checkpoint: str = "") -> str:
    """The simulated reviewer's verdict on one test, kept in the store: "accept", or "edit" into the record's own test.

    It mends what cannot be run as well. An empty text is mended and not stored: there was nothing to show.
    """
    verdict, fixed, reason = simulated_reviewer(record, text, domain)
    if verdict == "reject":
        verdict, fixed = "edit", record.target
    if text.strip():
        proposal = store.propose(db, record, text, checkpoint=checkpoint)
        if any(waiting.id == proposal for waiting in store.proposals(db, EXECUTOR)):
            store.decide(db, proposal, verdict, EXECUTOR, fixed=fixed, reason=reason)
    return verdict


def shown(proposal: store.Proposal, left: int) -> str:
    """A proposal as HTML, escaped."""
    scores = ", ".join(f"{name} {value}" for name, value in proposal.scores.items() if value != "")
    return (f"<p><b>{escape(proposal.record.id)}</b> ({left} to review) {escape(proposal.record.input)}</p>"
            f"<pre>{escape(proposal.proposed)}</pre><p>{escape(scores)}</p>")


def panel(db: sqlite3.Connection, reviewer: str):
    """An ipywidgets box that shows one test after the other; each button stores a verdict and goes on."""
    import ipywidgets as widgets

    waiting = store.proposals(db, reviewer)
    view, status = widgets.HTML(), widgets.HTML()
    reason = widgets.Dropdown(options=["", *store.REASONS], description="reason")
    comment = widgets.Text(placeholder="more words (optional)", description="comment")
    text = widgets.Textarea(description="test", layout=widgets.Layout(width="95%", height="16em"))
    buttons = {verdict: widgets.Button(description=label, tooltip=tip) for verdict, label, tip in (
        ("accept", "Accept", "the test is right"), ("edit", "Save my version", "the test below is right"),
        ("reject", "Reject", "the test is wrong"))}

    def show():
        one = waiting[0] if waiting else None
        view.value = shown(one, len(waiting)) if one else "Nothing waits for a verdict."
        text.value, comment.value, reason.value = one.proposed if one else "", "", ""
        for widget in (*buttons.values(), text, comment, reason):
            widget.disabled = one is None

    def press(verdict):
        try:
            store.decide(db, waiting[0].id, verdict, reviewer, fixed=text.value, comment=comment.value,
                         reason="" if verdict == "accept" else reason.value)
        except ValueError as error:
            status.value = escape(str(error))
            return
        status.value = f"{escape(waiting.pop(0).record.id)}: {verdict}"
        show()

    for verdict, button in buttons.items():
        button.on_click(lambda _, verdict=verdict: press(verdict))
    show()
    return widgets.VBox([view, text, reason, comment, widgets.HBox(list(buttons.values())), status])
