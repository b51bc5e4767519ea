"""A recorded build as the events it had, in the order of their times; logs are read as they are needed."""

from __future__ import annotations

import heapq

from ..events import LogChunk, Progress, VertexCached, VertexDone, VertexFailed, VertexStarted, Warned
from .steplog import read_log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..events import Event
    from .history import History


def replay(history: History, record: dict[str, Any]) -> Iterator[Event]:
    """All events of a build, oldest first."""
    streams = (_numbered(_step(history, record, step), n) for n, step in enumerate(record["steps"]))
    for _, _, event in heapq.merge(*streams):
        yield event
    known = {step["digest"] for step in record["steps"]}
    yield from (_warned(w) for w in record.get("warnings", ()) if w.get("vertex") not in known)


def _warned(w: dict[str, Any]) -> Warned:
    return Warned(w.get("vertex", ""), w.get("short", ""), w.get("detail", ""), w.get("url", ""))


def _numbered(
    stream: Iterator[tuple[float, Event]], n: int
) -> Iterator[tuple[float, tuple[int, int], Event]]:
    for i, (at, event) in enumerate(stream):
        yield at, (n, i), event


def _step(history: History, record: dict[str, Any], step: dict[str, Any]) -> Iterator[tuple[float, Event]]:
    digest, name = step["digest"], step["name"]
    start = float(step.get("started", record["started"]))
    end = float(step.get("completed", record.get("completed", start)))
    inputs = tuple(step.get("inputs", ()))
    state = step.get("state", "done")
    if state == "cached":
        yield start, VertexCached(digest, name, start, inputs)
        return
    yield start, VertexStarted(digest, name, start, inputs)
    for p in sorted(step.get("statuses", ()), key=lambda p: float(p["at"])):
        at = max(float(p["at"]), start)
        yield start, Progress(digest, p["item"], p["current"], p["total"], at, float(p["started"]), True)
    path = history.log_path(record, step)
    last = start
    for at, stream, data in read_log(path) if path else ():
        last = max(last, at)  # the clock may have been set back
        yield last, LogChunk(digest, stream, data, at)
    end = max(end, last)
    for w in record.get("warnings", ()):
        if w.get("vertex") == digest:
            yield end, _warned(w)
    if state in ("error", "canceled"):
        yield end, VertexFailed(digest, name, end, step.get("error", state), state == "canceled")
    elif state == "done":
        yield end, VertexDone(digest, name, end, tuple(step.get("stats", {}).items()), step.get("reason", ""))
