"""The complete output of a step on disk: raw bytes in one file, when and where from in a second one.

``NAME.log`` holds every byte as it came, for people and their tools.  ``NAME.idx`` holds a record for each
piece (seconds since the epoch as a double, stream, length), so that a log can be replayed with its times.
"""

from __future__ import annotations

import _thread
import os
from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE = Struct("<dBI")
_FLUSH = 4096  # bytes of index held before they are written
_JOIN = 0.005  # pieces of one stream closer together than this (seconds) are one


class StepLog:
    """Writes one step's log.  Thread-safe.  A full disk makes it incomplete, never the build fail."""

    def __init__(self, directory: str, name: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self.path = f"{directory}/{name}.log"
        self.size = 0
        self.complete = True
        self._fd = os.open(self.path, flags, 0o600)
        self._index_fd = os.open(f"{directory}/{name}.idx", flags, 0o600)
        self._index = bytearray()
        self._last = (0.0, 0, 0)
        self._lock = _thread.allocate_lock()

    def write(self, stream: int, data: bytes, at: float) -> None:
        """Append one piece of output."""
        with self._lock:
            if not self.complete or self._fd < 0:
                return
            try:
                self._write(self._fd, data)
            except OSError:
                self.complete = False
                return
            self.size += len(data)
            last_at, last_stream, length = self._last
            if stream == last_stream and at - last_at < _JOIN and length < 1 << 24:
                self._last = (last_at, stream, length + len(data))
                return
            self._push()
            self._last = (at, stream, len(data))

    def close(self) -> None:
        """Finish both files."""
        with self._lock:
            if self._fd < 0:
                return
            self._push(flush=True)
            os.close(self._fd)
            os.close(self._index_fd)
            self._fd = -1

    def _push(self, *, flush: bool = False) -> None:
        if self._last[2]:
            self._index += PIECE.pack(*self._last)
            self._last = (0.0, 0, 0)
        if flush or len(self._index) >= _FLUSH:
            try:
                self._write(self._index_fd, bytes(self._index))
            except OSError:
                self.complete = False
            self._index.clear()

    @staticmethod
    def _write(fd: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]


def read_log(path: str, limit: int = 1 << 16) -> Iterator[tuple[float, int, bytes]]:
    """(time, stream, bytes) of a log, in pieces of at most ``limit`` bytes; what the index lacks comes last."""
    index_path = path[: -len(".log")] + ".idx"
    at, stream = 0.0, 1
    with (
        open(path, "rb") as log,
        open(index_path if os.path.exists(index_path) else os.devnull, "rb") as index,
    ):
        while len(raw := index.read(PIECE.size)) == PIECE.size:
            at, stream, left = PIECE.unpack(raw)
            while left and (data := log.read(min(left, limit))):
                left -= len(data)
                yield at, stream, data
        while data := log.read(limit):
            yield at, stream, data


def tail(path: str, size: int) -> tuple[bytes, int]:
    """(the last ``size`` bytes, the whole size) of a log."""
    with open(path, "rb") as f:
        whole = f.seek(0, os.SEEK_END)
        f.seek(max(whole - size, 0))
        return f.read(size), whole
