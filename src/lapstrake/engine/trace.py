"""A recorded build as a trace: Chrome's trace events (Perfetto, chrome://tracing) or OTLP as JSON."""

from __future__ import annotations

from hashlib import sha256

from ..version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

_STATUS_OK, _STATUS_ERROR = 1, 2


def lanes(steps: Iterable[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    """(lane, step): steps that overlap are in different lanes, as few lanes as possible."""
    free: list[float] = []
    out = []
    for step in sorted(steps, key=lambda s: float(s.get("started", 0.0))):
        start, end = span_of(step)
        lane = next((i for i, until in enumerate(free) if until <= start), len(free))
        if lane == len(free):
            free.append(end)
        free[lane] = end
        out.append((lane, step))
    return out


def span_of(step: dict[str, Any]) -> tuple[float, float]:
    """(start, end) of a step in seconds since the epoch."""
    start = float(step.get("started", 0.0))
    return start, max(float(step.get("completed", start)), start)


def chrome(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Trace events; each build is a process, each lane of parallel steps a thread."""
    events: list[dict[str, Any]] = []
    for pid, record in enumerate(records, 1):
        events.append(_meta(pid, 0, "process_name", f"{record['name']} {record['id']}"))
        zero = float(record["started"])
        seen: set[int] = set()
        for lane, step in lanes(record["steps"]):
            if lane not in seen:
                seen.add(lane)
                events.append(_meta(pid, lane + 1, "thread_name", f"lane {lane + 1}"))
            start, end = span_of(step)
            events.append(
                {
                    "name": step["name"], "cat": step.get("state", "done"), "ph": "X", "pid": pid, "tid": lane + 1,
                    "ts": round((start - zero) * 1e6), "dur": round((end - start) * 1e6), "args": _attributes(step),
                }
            )  # fmt: skip
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _meta(pid: int, tid: int, kind: str, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}}


def _attributes(step: dict[str, Any]) -> dict[str, Any]:
    found = {"vertex": step["digest"], "state": step.get("state", "done"), **step.get("stats", {})}
    for key in ("reason", "error"):
        if step.get(key):
            found[key] = step[key]
    return found


def otlp(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """``ExportTraceServiceRequest`` in OTLP's JSON form: a root span for each build, a span for each step."""
    spans: list[dict[str, Any]] = []
    for record in records:
        trace = sha256(record["id"].encode()).hexdigest()[:32]
        root = sha256((record["id"] + "/root").encode()).hexdigest()[:16]
        failed = record.get("status") == "error"
        spans.append(
            _span(trace, root, "", f"build {record['name']}", (float(record["started"]), float(record.get("completed", record["started"]))), failed)
            | {"attributes": _pairs({"build.ref": record["id"], "build.status": record.get("status", "")})}
        )  # fmt: skip
        for n, step in enumerate(record["steps"]):
            ident = sha256(f"{record['id']}/{n}/{step['digest']}".encode()).hexdigest()[:16]
            spans.append(
                _span(trace, ident, root, step["name"], span_of(step), step.get("state") == "error", step.get("error", ""))
                | {"attributes": _pairs(_attributes(step))}
            )  # fmt: skip
    resource = _pairs({"service.name": "lapstrake", "service.version": VERSION})
    scope = {"scope": {"name": "lapstrake", "version": VERSION}, "spans": spans}
    return {"resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": [scope]}]}


def _span(
    trace: str, ident: str, parent: str, name: str, times: tuple[float, float], failed: bool, message: str = ""
) -> dict[str, Any]:  # fmt: skip
    status: dict[str, Any] = {"code": _STATUS_ERROR if failed else _STATUS_OK}
    if message:
        status["message"] = message
    out = {
        "traceId": trace, "spanId": ident, "name": name, "kind": 1,
        "startTimeUnixNano": _nanoseconds(times[0]), "endTimeUnixNano": _nanoseconds(times[1]), "status": status,
    }  # fmt: skip
    return out | ({"parentSpanId": parent} if parent else {})


def _nanoseconds(at: float) -> str:
    return str(round(at * 1e6) * 1000)


def _pairs(values: dict[str, Any]) -> list[dict[str, Any]]:
    out = []
    for key, value in values.items():
        if isinstance(value, str):
            typed: dict[str, Any] = {"stringValue": value}
        elif isinstance(value, int):
            typed = {"intValue": str(value)}
        else:
            typed = {"doubleValue": value}
        out.append({"key": key, "value": typed})
    return out
