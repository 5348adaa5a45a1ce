"""A search drawn as a tree: line -> kind of edit -> new text, numbered in the order of the executions.

`tree` draws an ended search, `live` one that runs: repair(..., watch=live(program)). Unusual: SVG in the page's own
text colour, so that it reads in light and in dark, with a sign beside each colour; and a live view that is one display
which is replaced, so that a notebook executed without a browser keeps its last state.
"""

from collections.abc import Callable, Sequence
from html import escape

from IPython.display import HTML, display

from .search import Step

SIGNS = {
    "same": ("\u00b7", "#808080", "the tests say the same"), "crash": ("!", "#c76a12", "crashes"),
    "broke": ("\u2212", "#d55e00", "breaks tests"), "away": ("\u2190", "#c0639a", "further from what is expected"),
    "moved": ("\u2194", "#3f97c9", "fails otherwise"), "closer": ("\u2192", "#2b7fd0", "nearer to what is expected"),
    "mixed": ("\u00b1", "#c98500", "mends some, breaks some"), "mended": ("+", "#12936b", "mends some, breaks none"),
    "resolved": ("\u2713", "#12936b", "all tests pass")}  # colours that stand out on white and on black
ROW, SMALL = 22, 12  # units of the SVG: of a row, of the text
COLUMNS = {"line": 8, "kind": 92, "text": 268, "end": 860}
LETTERS = 62  # of a text that are shown
MOST = 40  # executions drawn


def outcome(step: Step) -> str:
    """A key of SIGNS."""
    return "resolved" if step.resolved else step.outcome


def drawn(steps: Sequence[Step], most: int) -> list[int]:
    """Indices of the executions that are drawn: the first half and the last."""
    n, half = len(steps), most // 2
    return list(range(n)) if n <= most else [*range(half), *range(n - most + half, n)]


def words(step: Step, program: str) -> str:
    """`old -> new` on one line, shortened. The old text is known for edits of the given program alone."""
    old = program[step.edit.start:step.edit.end] if step.parent == -1 else ""
    old, new = (" ".join(text.split()) for text in (old, step.edit.text))
    half = LETTERS // 2 if old else LETTERS
    old, new = (text if len(text) <= half else text[:half - 1] + "\u2026" for text in (old, new))
    return f"{old or '(nothing)'} \u2192 {new or '(nothing)'}" if program and step.parent == -1 else new or "(nothing)"


def tree(steps: Sequence[Step], program: str = "", title: str = "Search", most: int = MOST) -> str:
    """The executions as HTML with one SVG, the most `most` of them; `program`: the text that was given.

    Lines and kinds stand in the order in which they were first tried. An edit of a program that was partly mended
    before bears the number of the execution that did ("after 7").
    """
    shown = drawn(steps, most)
    lines: dict[tuple, dict[str, list[int]]] = {}
    for i in shown:
        key = steps[i].parent, steps[i].line
        lines.setdefault(key, {}).setdefault(steps[i].edit.kind, []).append(i)
    parts, y = [], ROW
    for (parent, line), kinds in lines.items():
        height = sum(map(len, kinds.values()))
        label = f"line {line}" + (f", after {parent + 1}" if parent >= 0 else "")
        parts.append(text(COLUMNS["line"], y, label, "font-weight='600'"))
        parts.append(rule(COLUMNS["line"], y + ROW * height - 16, COLUMNS["end"]))
        top = y
        for kind, tried in kinds.items():
            parts.append(text(COLUMNS["kind"], y, kind))
            parts.append(link(COLUMNS["line"] + 66, top, COLUMNS["kind"] - 4, y))
            head = y
            for i in tried:
                parts += leaf(i, steps[i], program, y)
                parts.append(link(COLUMNS["text"] - 14, head, COLUMNS["text"] - 2, y))
                y += ROW
    key = "".join(f'<span style="margin-right:1.1em"><b style="color:{colour}">{sign}</b> {what}</span> '
                  for name, (sign, colour, what) in SIGNS.items() if name in {outcome(steps[i]) for i in shown})
    note = f"{len(steps)} executions" + (f"; drawn: the first {most // 2} and the last {most - most // 2}"
                                         if len(shown) < len(steps) else "")
    return (f'<figure style="margin:1em 0"><figcaption><b>{escape(title)}</b>: {note}</figcaption>'
            f'<div tabindex="0" style="overflow-x:auto">'
            f'<svg viewBox="0 0 {COLUMNS["end"]} {max(y, 2 * ROW) - ROW // 2}" width="{COLUMNS["end"]}" role="img" '
            f'aria-label="{escape(alt(steps, title))}" fill="currentColor" font-size="{SMALL}" '
            f'font-family="system-ui,sans-serif">{"".join(parts)}</svg></div>'
            f'<div style="font-size:.85em">{key}</div></figure>')


def leaf(i: int, step: Step, program: str, y: float) -> list[str]:
    """One execution: its number in a circle, its sign, its text."""
    sign, colour, _ = SIGNS[outcome(step)]
    x = COLUMNS["text"]
    strong = "font-weight='700'" if step.resolved else ""
    pill = f"x='{x}' y='{y - 14}' width='44' height='18' rx='9' fill='none' stroke='{colour}' stroke-width='2'"
    return [f"<rect {pill}/>",
            text(x + 6, y, f"{i + 1}", strong),
            f"<text x='{x + 36}' y='{y}' fill='{colour}' text-anchor='middle' font-weight='700'>{sign}</text>",
            text(x + 52, y, words(step, program), f"font-family='ui-monospace,monospace' {strong}")]


def text(x: float, y: float, words: str, look: str = "") -> str:
    return f"<text x='{x}' y='{y}' {look} xml:space='preserve'>{escape(words)}</text>"


def link(x0: float, y0: float, x1: float, y1: float) -> str:
    bend = (x0 + x1) / 2
    return (f"<path d='M{x0} {y0 - 4}C{bend} {y0 - 4} {bend} {y1 - 4} {x1} {y1 - 4}' fill='none' stroke='currentColor' "
            "stroke-opacity='.45'/>")


def rule(x0: float, y: float, x1: float) -> str:
    return f"<path d='M{x0} {y}H{x1}' stroke='currentColor' stroke-opacity='.15'/>"


def alt(steps: Sequence[Step], title: str) -> str:
    """What the picture shows, for those who do not see it."""
    counts: dict[str, int] = {}
    for step in steps:
        counts[SIGNS[outcome(step)][2]] = counts.get(SIGNS[outcome(step)][2], 0) + 1
    found = next((i for i, step in enumerate(steps) if step.resolved), None)
    end = (f"number {found + 1}, {steps[found].edit.kind} in line {steps[found].line}, passes all tests"
           if found is not None else "none passes all tests")
    return (f"{title}: {len(steps)} executions on {len({step.line for step in steps})} lines; "
            f"{', '.join(f'{n} {what}' for what, n in counts.items()) or 'nothing was tried'}; {end}.")


def live(program: str = "", title: str = "Search", most: int = MOST) -> Callable[[Step], None]:
    """A `watch` for `search` and `repair` that draws the tree anew after each execution, in one place."""
    steps: list[Step] = []
    handle = display(HTML(tree(steps, program, title, most)), display_id=True)

    def watch(step: Step):
        steps.append(step)
        if handle is not None:  # None outside a notebook
            handle.update(HTML(tree(steps, program, title, most)))

    return watch
