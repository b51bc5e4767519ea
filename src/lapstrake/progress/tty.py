"""``--progress=tty``: the live view (spec cli.md §2.10).

Events only change the model; one small thread draws, at most once a tick, and nothing is drawn before the
first tick, so that a build answered from the cache writes its picture once.  Cursor and wrapping are given
back with every picture: a killed build leaves a terminal as it was.
"""

from __future__ import annotations

import _thread  # ``threading`` costs a no-op build more than the locks it needs
import os
from time import time

from ..events import LogChunk, Progress
from .frame import Line, Look, Picture, draw
from .model import Model
from .text import parse_colors, write_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from ..events import Event, Warned

TAIL_BYTES = 16 << 10  # of a running step's output, enough for the lines on display
_BEGIN, _END = "\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h"


class TtyRenderer:
    """Draws on ``stream``.  ``clock``: seconds since the epoch; ``size``: (columns, rows) of the terminal."""

    def __init__(
        self, stream: TextIO, *, corner: str = "", colors: str = "", color: bool = True, log_lines: int = 6,
        rate: float = 0.1, explain: bool = False, clock: Callable[[], float] = time,
        size: Callable[[], tuple[int, int]] | None = None, background: bool = True,
    ) -> None:  # fmt: skip
        self._out = stream
        self._clock = clock
        self._rate = rate
        self._size = size or (lambda: terminal_size(stream))
        self._background = background
        self._look = Look(
            corner,
            parse_colors(colors) if color else {},
            log_lines,
            explain,
            "\u2026" if _is_unicode(stream) else "...",
        )
        self._model = Model()
        self._tails: dict[str, bytes] = {}
        self._lock = _thread.allocate_lock()
        self._stop = _thread.allocate_lock()  # held while the drawing thread is to go on
        self._gone = _thread.allocate_lock()  # held while it lives
        self._running = False
        self._closed = False
        self._dead = False
        self._started = 0.0
        self._drawn: list[Line] = []

    @property
    def warnings(self) -> list[Warned]:
        """All warnings so far."""
        return self._model.warnings

    def emit(self, event: Event, /) -> None:
        """Take in one event; it is seen at the next tick."""
        with self._lock:
            if isinstance(event, LogChunk):
                old = self._tails.get(event.digest, b"")
                new = event.data
                self._tails[event.digest] = (
                    new[-TAIL_BYTES:] if len(new) >= TAIL_BYTES else (old + new)[-TAIL_BYTES:]
                )
                self._model.step(event.digest, "", event.at)
                return
            step = self._model.apply(event)
            if isinstance(event, Progress) and step is not None:
                step.statuses[event.item] = event
            if not self._started:
                self._started = self._clock()
            if self._running or self._closed or not self._background:
                return
            self._running = True
            self._stop.acquire()
            self._gone.acquire()
        _thread.start_new_thread(self._tend, ())

    def close(self, error: BaseException | None = None, /) -> None:
        """Stop drawing and leave the last picture, with every step, on the screen."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            running = self._running
        if running:
            self._stop.release()
            self._gone.acquire()
        if self._model.steps:
            self._redraw(final=True)

    def tick(self) -> None:
        """Draw the present state."""
        self._redraw(final=False)

    def _tend(self) -> None:
        try:
            while not self._stop.acquire(timeout=self._rate):
                self.tick()
        finally:
            self._gone.release()

    def _redraw(self, *, final: bool) -> None:
        if self._dead:
            return
        columns, rows = self._size()
        try:
            with self._lock:
                picture = Picture(
                    list(self._model.steps.values()), self._tails, self._started, self._clock(),
                    columns, 0 if final else max(rows - 1, 2),
                )  # fmt: skip
                lines = draw(picture, self._look)
        except Exception as exc:  # a fault of the display is no fault of the build
            self._write(f"{_END}\r\nWARNING: the live view stopped: {type(exc).__name__}: {exc}\r\n")
            self._dead = True
            return
        self._write(_frame(self._drawn, lines, columns))
        self._drawn = lines

    def _write(self, text: str) -> None:
        if not write_text(self._out, text):
            self._dead = True


def _frame(old: list[Line], new: list[Line], columns: int) -> str:
    """One write that turns the old picture into the new one."""
    parts = [_BEGIN]
    # A terminal made narrower has broken the old lines: they take more rows now.
    up = sum(max(1, -(-line.width // columns)) for line in old)
    if up:
        parts.append(f"\x1b[{up}A\r")
    # At the right edge the cursor waits on the last column: erasing would take the last character.
    parts += [line.text + ("\x1b[K\r\n" if line.width < columns else "\r\n") for line in new]
    if up > len(new):
        parts.append("\x1b[J")
    parts.append(_END)
    return "".join(parts)


def terminal_size(stream: TextIO) -> tuple[int, int]:
    """(columns, rows) of the terminal behind ``stream``; 80 by 24 when it does not say."""
    try:
        columns, rows = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError, AttributeError):
        columns, rows = 0, 0
    return columns or 80, rows or 24


def _is_unicode(stream: TextIO) -> bool:
    code = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "").replace("_", "")
    return code.startswith("utf")
