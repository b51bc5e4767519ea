"""Pieces of the page that are drawn: the timeline, the graph, logs."""

from __future__ import annotations

from html import escape

from ...values import Value
from ..model import short_size, short_time
from ..text import clip, safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence
    from typing import Any

    Step = Mapping[str, Any]

MAX_NODES = 300
_NODE_W, _NODE_H, _GAP_X, _GAP_Y = 250, 46, 26, 26
STATES = {"done": "ran", "cached": "cached", "error": "failed", "canceled": "canceled", "running": "running"}


class LogView(Value):
    """A step's log as shown: ``lines`` are (seconds since its start, stream, text); ``cut``: bytes left out
    between the first ``head`` lines and the rest."""

    lines: tuple[tuple[float, int, str], ...]
    size: int
    cut: int = 0
    head: int = 0


def e(text: object) -> str:
    """Text for the page: what is foreign is without control characters, and escaped."""
    shown = safe(str(text))
    return escape("".join(c if c.isprintable() or c == " " else "\ufffd" for c in shown), quote=True)


def state(step: Step) -> str:
    """A step's state, one of those the style knows."""
    found = str(step.get("state", "done"))
    return found if found in STATES else "done"


def short(name: object) -> str:
    """A name without the digest of a pinned image."""
    head, at, rest = str(name).partition("@sha256:")
    return head + rest[64:] if at and len(rest) >= 64 else str(name)


def seconds(value: float) -> str:
    """``0.03s``, ``2.4s``, ``3m12s``."""
    return short_time(value, 2)


def span(step: Step) -> tuple[float, float]:
    """(start, end)."""
    start = float(step.get("started", 0.0))
    return start, max(float(step.get("completed", start)), start)


def timeline(steps: Sequence[Step], start: float, end: float, linked: Container[int]) -> str:
    """A bar for each step on the build's time; ``linked``: the numbers of those told of further down."""
    whole = max(end - start, 1e-3)
    rows = []
    for n, step in enumerate(steps):
        a, b = span(step)
        left = min(max((a - start) / whole * 100, 0), 99.7)
        width = min(max((b - a) / whole * 100, 0), 100 - left)
        name = e(short(step["name"]))
        link = f'a href="#s{n}"' if n in linked else "span"
        rows.append(
            f'<{link} class="row {state(step)}" title="{name}"><span class="nm">{name}</span>'
            f'<span class="track"><i style="left:{left:.2f}%;width:{width:.2f}%"></i></span>'
            f'<span class="tm">{"" if state(step) == "cached" else seconds(b - a)}</span></{link.split(maxsplit=1)[0]}>'
        )
    marks = "".join(f"<span>{seconds(whole * i / 5)}</span>" for i in range(6))
    legend = "".join(
        f'<span><span class="key {k}"></span>{v}</span>'
        for k, v in STATES.items()
        if any(state(s) == k for s in steps)
    )
    return (
        f'<div class="tl">{"".join(rows)}</div><div class="scale" style="margin-left:calc(38% - 4px);margin-right:74px">{marks}</div>'
        f'<div class="legend" style="margin-top:10px">{legend}</div>'
    )


def place(steps: Sequence[Step]) -> dict[str, tuple[int, int]]:
    """(column, row) of each step: below its inputs, a stage's steps in one column."""
    known = {s["digest"]: s for s in steps}
    rows: dict[str, int] = {}
    columns: dict[str, int] = {}
    taken: set[str] = set()  # inputs whose column a user goes on with
    free = 0
    for step in steps:
        inputs = [i for i in step.get("inputs", ()) if i in rows and i in known]
        row = max((rows[i] for i in inputs), default=-1) + 1
        follow = next((i for i in inputs if i not in taken), None)
        if follow is not None:
            taken.add(follow)
            column = columns[follow]
            if any(columns[d] == column and rows[d] == row for d in rows):
                follow = None
        if follow is None:
            column = free
            free += 1
        rows[step["digest"]], columns[step["digest"]] = row, column
    for step in steps:  # a root stands just above who uses it
        digest = step["digest"]
        users = [rows[s["digest"]] for s in steps if digest in s.get("inputs", ())]
        if not rows[digest] and users and min(users) > 1:
            rows[digest] = min(users) - 1
    return {d: (columns[d], rows[d]) for d in rows}


def graph(steps: Sequence[Step], numbers: Mapping[str, int]) -> str:
    """The steps and what they stand on, as SVG; ``numbers``: of each step's place on the page."""
    used = {i for s in steps for i in s.get("inputs", ())}
    shown = [s for s in steps if s.get("inputs") or s["digest"] in used]
    if not shown:
        return ""
    if len(shown) > MAX_NODES:
        return f'<p class="note">The graph has {len(shown)} steps: too many to draw.</p>'
    at = place(shown)
    width = (max(c for c, _ in at.values()) + 1) * (_NODE_W + _GAP_X) - _GAP_X + 4
    height = (max(r for _, r in at.values()) + 1) * (_NODE_H + _GAP_Y) - _GAP_Y + 4
    out = [
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" aria-label="graph of the steps">'
    ]
    for step in shown:
        out += [_edge(at[i], at[step["digest"]]) for i in step.get("inputs", ()) if i in at]
    out += [_node(step, at[step["digest"]], numbers.get(step["digest"], 0)) for step in shown]
    return "".join(out) + "</svg>"


def _corner(at: tuple[int, int]) -> tuple[int, int]:
    return 2 + at[0] * (_NODE_W + _GAP_X), 2 + at[1] * (_NODE_H + _GAP_Y)


def _edge(a: tuple[int, int], b: tuple[int, int]) -> str:
    (x1, y1), (x2, y2) = _corner(a), _corner(b)
    x1, y1, x2 = x1 + _NODE_W // 2, y1 + _NODE_H, x2 + _NODE_W // 2
    bend = _GAP_Y if a[0] == b[0] else max((y2 - y1) // 2, _GAP_Y)
    if a[0] == b[0] and b[1] - a[1] > 1:  # around what is between them
        side = x1 + _NODE_W // 2 + _GAP_X // 2
        return f'<path class="edge" d="M{x1} {y1}C{side} {y1},{side} {y1},{side} {y1 + 20}V{y2 - 20}C{side} {y2},{side} {y2},{x2} {y2}"/>'
    return f'<path class="edge" d="M{x1} {y1}C{x1} {y1 + bend},{x2} {y2 - bend},{x2} {y2}"/>'


def _node(step: Step, at: tuple[int, int], number: int) -> str:
    x, y = _corner(at)
    name = short(step["name"])
    stage, bracket, rest = name.partition("] ")
    label, head = (rest, stage + "]") if bracket and stage.startswith("[") else (name, "")
    a, b = span(step)
    detail = STATES[state(step)] if state(step) in ("cached", "canceled") else seconds(b - a)
    box = f'<svg x="{x}" y="{y}" width="{_NODE_W - 6}" height="{_NODE_H}">'  # it cuts what is too long
    return (
        f'<a href="#s{number}"><g class="{state(step)}"><title>{e(name)}</title>'
        f'<rect x="{x}" y="{y}" width="{_NODE_W}" height="{_NODE_H}" rx="7"/>'
        f'{box}<text x="10" y="19">{e(clip(safe(label), 60))}</text></svg>'
        f'<text class="d" x="{x + 10}" y="{y + 36}">{e(clip(safe(head), 30))}</text>'
        f'<text class="d" x="{x + _NODE_W - 10}" y="{y + 36}" text-anchor="end">{detail}</text></g></a>'
    )


def log(view: LogView, path: str) -> str:
    """A step's output with the time of each line."""
    lines = [_line(*line) for line in view.lines]
    if view.cut:
        where = f"; the whole log is {e(path)}" if path else ""
        lines.insert(view.head, f'<span class="note">… {short_size(view.cut)} left out here{where} …</span>')
    return '<pre class="log">' + "\n".join(lines) + "</pre>"


def _line(at: float, stream: int, text: str) -> str:
    body = e(text)
    return f"<u>{at:.2f}</u>" + (f'<span class="e">{body}</span>' if stream == 2 else body)


def table(
    head: Iterable[tuple[str, str]], rows: Iterable[Iterable[tuple[str, str]]], ids: Sequence[str] = ()
) -> str:
    """``head`` and cells are (class, HTML); ``ids``: of the rows, "" for none."""
    top = "".join(f'<th class="{c}">{h}</th>' for c, h in head)
    body = []
    for n, row in enumerate(rows):
        ident = f' id="{ids[n]}"' if n < len(ids) and ids[n] else ""
        body.append(f"<tr{ident}>" + "".join(f'<td class="{c}">{h}</td>' for c, h in row) + "</tr>")
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
