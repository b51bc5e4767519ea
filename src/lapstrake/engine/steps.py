"""Internal steps on the display."""

from __future__ import annotations

import time

from ..errors import BuildError
from ..events import LogChunk, Progress, VertexDone, VertexFailed, VertexStarted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..events import EventSink


class Step:
    """``with Step(emit, name) as step``: started, then done or failed."""

    def __init__(self, emit: EventSink, name: str) -> None:
        from hashlib import sha256

        self.emit = emit
        self.name = name
        self.digest = "sha256:" + sha256(name.encode()).hexdigest()

    def __enter__(self) -> Step:
        self.emit(VertexStarted(self.digest, self.name, time.time()))
        return self

    def __exit__(self, kind: object, exc: BaseException | None, tb: object) -> None:
        now = time.time()
        if exc is None:
            self.emit(VertexDone(self.digest, self.name, now))
        else:
            message = exc.message if isinstance(exc, BuildError) else str(exc)
            self.emit(VertexFailed(self.digest, self.name, now, message))

    def log(self, stream: int, data: bytes) -> None:
        """Output of what runs in the step."""
        self.emit(LogChunk(self.digest, stream, data, time.time()))

    def begin(self, item: str) -> None:
        """A sub-status that takes a while; ``status`` ends it."""
        now = time.time()
        self.emit(Progress(self.digest, item, 0, 0, now, now))

    def status(self, item: str, since: float | None = None) -> None:
        """A sub-status that is over: ``naming to docker.io/library/app:1``."""
        now = time.time()
        self.emit(Progress(self.digest, item, 0, 0, now, now if since is None else since, completed=True))
