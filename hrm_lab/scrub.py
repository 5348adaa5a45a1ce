"""Step through a model's reasoning without a script: radio buttons, `:has(:checked)`, and grids as inline SVG.

The same output works in JupyterLab and in a static page, with the arrow keys, in light and in dark (it draws in the
text's own colour). Nothing is told by colour alone: wrong cells are struck out, changed ones have a marked corner.
"""

import hashlib
from collections import Counter
from html import escape

import numpy as np
from IPython.display import HTML

# The colours 0..9 of the Abstraction and Reasoning Corpus, as its own web page shows them.
ARC_COLOURS = ("#000000", "#0074d9", "#ff4136", "#2ecc40", "#ffdc00",
               "#aaaaaa", "#f012be", "#ff851b", "#7fdbff", "#870c25")
CELL = 28  # units of the SVG
_shown = Counter()  # how often each scrubber was made in this process: keeps ids unique and the same in every run

KEY = (
    ("given", '<rect width="16" height="16" fill="currentColor" fill-opacity=".14"/>'),
    ("wrong", '<rect width="16" height="16" fill="#d55e00" fill-opacity=".22"/><path d="M2 14L14 2" stroke="#d55e00" '
              'stroke-width="2"/>'),
    ("changed in this step", '<path d="M0 0h10L0 10z" fill="#2b8fd6"/>'),
)

STYLE = """
.hrm-scrub{margin:1rem 0;font-family:system-ui,-apple-system,"Segoe UI",sans-serif}
.hrm-scrub fieldset{border:0;margin:0;padding:0;min-width:0}
.hrm-scrub legend{font-weight:600;padding:0;margin:0 0 .5rem}
.hrm-scrub .steps{display:flex;flex-wrap:wrap;gap:.3rem}.hrm-scrub .steps label{position:relative;cursor:pointer}
.hrm-scrub input{position:absolute;inset:0;margin:0;opacity:0;cursor:pointer}
.hrm-scrub .steps span{display:block;min-width:2rem;padding:.15rem .5rem;text-align:center;border:1px solid #8888;
border-radius:.5rem;font-variant-numeric:tabular-nums}
.hrm-scrub .steps label:hover span{border-color:currentColor}
.hrm-scrub input:checked+span{background:#0b5cad;border-color:#0b5cad;color:#fff;font-weight:600}
.hrm-scrub input:focus-visible+span{outline:3px solid #e69f00;outline-offset:1px}
.hrm-scrub .frame{display:none;margin:.7rem 0}.hrm-scrub .frame p{margin:0 0 .5rem}
.hrm-scrub .frame svg{width:100%;max-width:22rem;height:auto;margin-right:1rem}
.hrm-scrub .key{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;margin:0;font-size:.85rem;opacity:.85}
.hrm-scrub .key span{display:inline-flex;align-items:center;gap:.4rem}.hrm-scrub .key svg{border:1px solid #8888}
"""


def scrub(frames: list[str], labels: list[str], title: str) -> HTML:
    """A row of buttons, one a step, that shows one frame at a time, the last at first.

    frames: HTML, one string a step, most often `grid_svg(...)`; labels: what each step is called. Buttons bear labels
    of up to three letters; longer ones stand over the frame and the buttons are numbered from 1.
    """
    if not frames or len(frames) != len(labels):
        raise ValueError(f"frames and labels: got {len(frames)} and {len(labels)}, expected the same number, not zero")
    name = "scrub-" + hashlib.sha256("\0".join([title, *labels, *frames]).encode()).hexdigest()[:10]
    _shown[name] += 1
    if _shown[name] > 1:
        name += f"-{_shown[name]}"
    short = all(len(label) <= 3 for label in labels)
    last = len(frames) - 1
    buttons = "".join(
        f'<label><input type="radio" name="{name}" value="{i}" aria-label="{escape(label)}"{" checked" * (i == last)}>'
        f"<span>{escape(label) if short else i + 1}</span></label>"
        for i, label in enumerate(labels)
    )
    views = "".join(
        f'<div class="frame f{i}">{"" if short else f"<p>{escape(label)}</p>"}{frame}</div>'
        for i, (label, frame) in enumerate(zip(labels, frames, strict=True))
    )
    chosen = ",".join(f'#{name}:has([value="{i}"]:checked) .f{i}' for i in range(len(frames)))
    swatch = '<span><svg width="16" height="16" aria-hidden="true">{}</svg>{}</span>'
    key = "".join(swatch.format(mark, word) for word, mark in KEY)
    return HTML(
        f'<div class="hrm-scrub" id="{name}"><style>{STYLE}{chosen}{{display:block}}</style>'
        f'<fieldset><legend>{escape(title)}</legend><div class="steps">{buttons}</div></fieldset>{views}'
        f'<p class="key">{key}</p></div>'
    )


def grid_svg(cells, given=None, wrong=None, changed=None, grid=None, colours=None, label="") -> str:
    """One grid as inline SVG that says in its aria-label what it shows.

    cells: (R, C) texts, or (T,) with `grid`; given, wrong, changed: bool arrays of the same shape, or None.
    grid: `Meta.grid`, (rows, columns, rows of a box, columns of a box), for the thick lines; a plain sequence without.
    colours: text -> CSS colour; those cells are filled instead of lettered (mazes, ARC).
    """
    cells = np.atleast_2d(np.asarray(cells, dtype=str))
    if grid:
        cells = cells.reshape(grid[:2])
    rows, columns = cells.shape
    marks = [np.zeros(cells.shape, bool) if m is None else np.asarray(m, bool).reshape(cells.shape)
             for m in (given, wrong, changed)]
    given, wrong, changed = marks
    at = [(r, c, c * CELL, r * CELL) for r in range(rows) for c in range(columns)]
    words = f"{label + ': ' if label else ''}{rows} by {columns} grid"
    counts = ", ".join(f"{m.sum()} {w}" for m, w in zip(marks, ("given", "wrong", "changed"), strict=True) if m.any())
    colours = colours or {}
    square = f"h{CELL}v{CELL}h-{CELL}z"
    parts = [
        _group("stroke='none'", (f'<path d="M{x} {y}{square}" fill="{colours[cells[r, c]]}"/>'
                                 for r, c, x, y in at if cells[r, c] in colours)),
        _path("fill='currentColor' fill-opacity='.14'", (f"M{x} {y}{square}" for r, c, x, y in at
                                                         if given[r, c] and cells[r, c] not in colours)),
        _path("fill='#d55e00' fill-opacity='.22'", (f"M{x} {y}{square}" for r, c, x, y in at if wrong[r, c])),
        _path("fill='#2b8fd6'", (f"M{x} {y}h9l-9 9z" for r, c, x, y in at if changed[r, c])),
        _lines(rows, columns, 1, 1, ".25", 1) if rows * columns <= 400 else "",
        _lines(rows, columns, *_boxes(rows, columns, grid), ".75", 2),
    ]
    for bold in (True, False):
        texts = (f'<text x="{x + CELL / 2:g}" y="{y + CELL * 0.69:g}">{escape(cells[r, c])}</text>' for r, c, x, y in at
                 if given[r, c] == bold and cells[r, c].strip() and cells[r, c] not in colours)
        weight = "font-weight='700'" if bold else ""
        parts.append(_group(f"font-family='system-ui,sans-serif' font-size='16' text-anchor='middle' {weight}", texts))
    strikes = (f"M{x + 4} {y + CELL - 4}L{x + CELL - 4} {y + 4}" for r, c, x, y in at if wrong[r, c])
    parts.append(_path("stroke='#d55e00' stroke-width='2.5' fill='none'", strikes))
    alt = escape(words + (f", {counts}" if counts else ""))
    size = f'viewBox="-1 -1 {columns * CELL + 2} {rows * CELL + 2}" width="{min(columns * CELL, 640)}"'
    return f'<svg {size} role="img" aria-label="{alt}" fill="currentColor">{"".join(parts)}</svg>'


def _boxes(rows, columns, grid):
    box = grid[2:] if grid else (1, 1)
    return (box[0] if box[0] > 1 else rows, box[1] if box[1] > 1 else columns)


def _lines(rows, columns, step_r, step_c, opacity, width):
    d = "".join(f"M0 {r * CELL}H{columns * CELL}" for r in range(0, rows + 1, step_r))
    d += "".join(f"M{c * CELL} 0V{rows * CELL}" for c in range(0, columns + 1, step_c))
    return _path(f"stroke='currentColor' stroke-opacity='{opacity}' stroke-width='{width}' fill='none'", [d])


def _group(attributes, parts):
    inside = "".join(parts)
    return f"<g {attributes}>{inside}</g>" if inside else ""


def _path(attributes, parts):
    d = "".join(parts)
    return f'<path {attributes} d="{d}"/>' if d else ""


def trace_frames(frames: list[dict], inputs: np.ndarray, labels: np.ndarray, meta) -> tuple[list[str], list[str]]:
    """SVGs and labels for `scrub`, from `act.trace`: frames with `segment`, `update`, `answer` (T,), `halt`.

    inputs and labels (T,) token ids; a cell is given where the input already holds its label; unscored cells show
    their input. `meta` is the dataset's (tokens, grid).
    """
    scored = labels >= 0
    names = np.array(meta.tokens or [str(i) for i in range(meta.vocab_size)])
    given = (inputs == labels) if meta.grid else np.zeros(len(inputs), bool)
    svgs, told, before = [], [], None
    for frame in frames:
        answer = np.where(scored, frame["answer"], inputs)
        changed = np.zeros(len(answer), bool) if before is None else answer != before
        before = answer
        wrong = scored & (answer != labels)
        title = (f"segment {frame['segment']}, update {frame['update']}: {wrong.sum()} wrong, "
                 f"{100 * frame['halt']:.0f} % sure")
        svgs.append(grid_svg(names[answer], given, wrong, changed, meta.grid, label=title))
        told.append(title)
    return svgs, told
