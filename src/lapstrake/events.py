"""What happens in a build, as frozen records (BuildKit's Vertex, Status, Log, Warning).

Times are seconds since the epoch as float.  ``digest`` names a vertex for the whole build.
"""

from __future__ import annotations

from .errors import Span
from .values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object


def rfc3339(at: float) -> str:
    """A time in UTC; a fraction, of microseconds at the most, only when there is one."""
    from time import gmtime, strftime

    seconds, rest = divmod(round(at * 1e6), 1_000_000)  # a float holds no more of this century
    fraction = f".{rest:06d}".rstrip("0").rstrip(".")
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(seconds)) + fraction + "Z"


class VertexStarted(Value):
    """A vertex is shown and its work begins."""

    digest: str
    name: str
    at: float
    inputs: tuple[str, ...] = ()


class VertexCached(Value):
    """A vertex's result was taken from the cache; nothing ran."""

    digest: str
    name: str
    at: float
    inputs: tuple[str, ...] = ()


class VertexDone(Value):
    """A vertex finished.  ``stats``: free numbers (wall, cpu, peak_rss, bytes_added)."""

    digest: str
    name: str
    at: float
    stats: tuple[tuple[str, float], ...] = ()
    reason: str = ""  # why it was not cached (explain), one line


class VertexFailed(Value):
    """A vertex failed, or was cancelled because another one did."""

    digest: str
    name: str
    at: float
    error: str
    cancelled: bool = False
    stats: tuple[tuple[str, float], ...] = ()


class Progress(Value):
    """A sub-status of a vertex: ``current`` of ``total`` bytes (0: unknown) of ``item``."""

    digest: str
    item: str
    current: int
    total: int
    at: float
    started: float
    completed: bool = False


class LogChunk(Value):
    """Raw output of a step.  ``stream``: 1 stdout, 2 stderr."""

    digest: str
    stream: int
    data: bytes
    at: float


class Warned(Value):
    """A lint or build warning.  ``short``: ``<RuleName>: <message> (line N)``."""

    digest: str
    short: str
    detail: str = ""
    url: str = ""
    span: Span | None = None


Event = VertexStarted | VertexCached | VertexDone | VertexFailed | Progress | LogChunk | Warned


class EventSink(Protocol):
    """Called from any thread; must be quick and never raise."""

    def __call__(self, event: Event, /) -> None: ...
