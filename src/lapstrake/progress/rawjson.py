"""``--progress=rawjson``: one BuildKit ``SolveStatus`` object per line (spec cli.md §2.10)."""

from __future__ import annotations

import _thread
import json
from binascii import b2a_base64

from ..events import (
    LogChunk,
    Progress,
    VertexCached,
    VertexDone,
    VertexFailed,
    VertexStarted,
    Warned,
    rfc3339,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from ..events import Event


def b64(data: bytes) -> str:
    """Standard base64."""
    return b2a_base64(data, newline=False).decode()


class RawJsonRenderer:
    """Writes a line per event."""

    def __init__(self, stream: TextIO) -> None:
        self._out = stream
        self._lock = _thread.allocate_lock()
        self._vertexes: dict[str, dict[str, object]] = {}
        self.warnings: list[Warned] = []
        self._dead = False

    def emit(self, event: Event, /) -> None:
        """Write one event."""
        with self._lock:
            record = self._record(event)
            if self._dead:
                return
            try:
                self._out.write(json.dumps(record, separators=(",", ":")) + "\n")
                self._out.flush()
            except (OSError, ValueError):
                self._dead = True

    def close(self, error: BaseException | None = None, /) -> None:
        """Nothing is held back."""

    def _record(self, event: Event) -> dict[str, object]:
        if isinstance(event, LogChunk):
            log = {
                "vertex": event.digest,
                "stream": event.stream,
                "data": b64(event.data),
                "timestamp": rfc3339(event.at),
            }
            return {"logs": [log]}
        if isinstance(event, Progress):
            return {"statuses": [self._status(event)]}
        if isinstance(event, Warned):
            self.warnings.append(event)
            return {"warnings": [_warning(event)]}
        return {"vertexes": [self._vertex(event)]}

    def _status(self, p: Progress) -> dict[str, object]:
        out: dict[str, object] = {"id": p.item, "vertex": p.digest}
        if p.total:
            out["total"] = p.total
        out |= {"current": p.current, "timestamp": rfc3339(p.at), "started": rfc3339(p.started)}
        if p.completed:
            out["completed"] = rfc3339(p.at)
        return out

    def _vertex(self, event: VertexStarted | VertexCached | VertexDone | VertexFailed) -> dict[str, object]:
        v = self._vertexes.setdefault(event.digest, {"digest": event.digest})
        if isinstance(event, (VertexStarted, VertexCached)) and event.inputs:
            v["inputs"] = list(event.inputs)
        v["name"] = event.name
        if isinstance(event, VertexStarted):
            v.pop("completed", None)
        v.setdefault("started", rfc3339(event.at))
        if not isinstance(event, VertexStarted):
            v["completed"] = rfc3339(event.at)
        if isinstance(event, VertexCached):
            v["cached"] = True
        if isinstance(event, VertexFailed):
            v["error"] = f"{event.error}: context canceled" if event.cancelled else event.error
        return v


def _warning(w: Warned) -> dict[str, object]:
    out: dict[str, object] = {"vertex": w.digest, "level": 1, "short": b64(w.short.encode())}
    if w.detail:
        out["detail"] = [b64(w.detail.encode())]
    if w.url:
        out["url"] = w.url
    if w.span is not None:
        source = {
            "filename": w.span.filename,
            "data": b64(w.span.source.encode("utf-8", "surrogateescape")),
            "language": "Dockerfile",
        }
        out["sourceInfo"] = source
        out["range"] = [{"start": {"line": w.span.first}, "end": {"line": w.span.last}}]
    return out
