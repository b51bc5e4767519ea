"""What the live view shows at one moment, as lines: pure, from the model to text (spec cli.md §2.10)."""

from __future__ import annotations

from ..values import Value
from .model import Step, decode_line, one_line, size_text
from .text import RESET, clip, justify, safe, width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..events import Progress

_STATES = {"cached": "CACHED ", "error": "ERROR ", "canceled": "CANCELED "}
_COLORS = {"done": "run", "cached": "run", "error": "error", "canceled": "cancel"}


class Look(Value):
    """How a live view looks.  ``colors``: SGR parameters by role, empty without colour; ``ellipsis``: what
    the stream's encoding can show for text that was cut."""

    corner: str = ""
    colors: Mapping[str, str] = {}
    log_lines: int = 6
    explain: bool = False
    ellipsis: str = "\u2026"


class Line(Value):
    """One line of a frame.  ``width``: columns it takes; ``text``: with its colour."""

    text: str
    width: int


class Picture(Value):
    """What to draw.  ``columns``/``rows`` of the terminal; ``rows`` 0: everything, however long."""

    steps: Sequence[Step]
    tails: Mapping[str, bytes]
    started: float
    now: float
    columns: int
    rows: int = 0


def draw(picture: Picture, look: Look) -> list[Line]:
    """The header and the steps, in at most ``rows`` lines; running steps are kept before finished ones."""
    p = picture
    done = sum(s.finished for s in p.steps)
    head = f"[+] Building {max(p.now - p.started, 0.0):.1f}s ({done}/{len(p.steps)})"
    if done == len(p.steps) and not p.rows:
        head += " FINISHED"
    corner = look.corner if len(head) + width(look.corner) < p.columns else ""  # the state matters more
    lines = [_line(justify(head, corner, p.columns, look.ellipsis), "", look)]
    for step, detail, logs in _fit(p, look):
        lines += _block(step, detail, logs, p, look)
    return lines[: p.rows] if p.rows else lines


def _fit(p: Picture, look: Look) -> list[tuple[Step, int, int]]:
    """Which steps are shown, with which sub-statuses (0 none, 1 unfinished, 2 all) and how many log lines."""
    shown = [(s, 2, 0 if s.finished else look.log_lines) for s in p.steps]
    room = p.rows - 1
    if not p.rows or _total(shown, p, look) <= room:
        return shown
    shown = [(s, 0 if s.finished else 2, logs) for s, _, logs in shown]
    excess = _total(shown, p, look) - room
    kept = []
    for item in shown:  # the oldest finished steps go first
        if excess > 0 and item[0].finished:
            excess -= 1
        else:
            kept.append(item)
    for detail, logs in ((1, look.log_lines), (1, 3), (1, 2), (1, 1), (1, 0), (0, 0)):
        if _total(kept, p, look) <= room:
            return kept
        kept = [(s, min(d, detail), min(n, logs)) for s, d, n in kept]
    return kept[-room:]


def _total(shown: list[tuple[Step, int, int]], p: Picture, look: Look) -> int:
    return sum(len(_block(s, detail, logs, p, look)) for s, detail, logs in shown)


def _block(step: Step, detail: int, logs: int, p: Picture, look: Look) -> list[Line]:
    end = step.ended if step.ended is not None else p.now
    spent = f"{max(end - step.started, 0.0):.1f}s"
    name = " => " + _STATES.get(step.state, "") + step.name
    lines = [_line(justify(name, spent, p.columns, look.ellipsis), _COLORS.get(step.state, ""), look)]
    lines += [
        _status(status, p, look)
        for status in step.statuses.values()
        if detail >= 2 or (detail and not status.completed)
    ]
    below = []
    if look.explain and step.reason and detail >= 2:
        below.append(f" => => not cached: {one_line(step.reason)}")
    if logs and not step.finished:
        below += [" => => # " + text for text in tail_lines(p.tails.get(step.digest, b""), logs)]
    return lines + [_line(clip(text, p.columns, look.ellipsis), "", look) for text in below]


def _status(status: Progress, p: Picture, look: Look) -> Line:
    text = " => => " + one_line(status.item)
    if status.total:
        text += f" {size_text(status.current)} / {size_text(status.total)}"
    elif status.current:
        text += f" {size_text(status.current)}"
    end = status.at if status.completed else max(p.now, status.at)
    spent = f"{max(end - status.started, 0.0):.1f}s"
    return _line(justify(text, spent, p.columns, look.ellipsis), "run" if status.completed else "", look)


def tail_lines(data: bytes, limit: int) -> list[str]:
    """The last ``limit`` lines of raw output that are not empty, safe to print."""
    if not data or limit <= 0:
        return []
    found = [safe(decode_line(raw)).rstrip() for raw in data.split(b"\n")]
    return [text for text in found if text][-limit:]


def _line(text: str, role: str, look: Look) -> Line:
    columns = width(text)
    code = look.colors.get(role, "")
    return Line(f"\x1b[{code}m{text}{RESET}" if code else text, columns)
