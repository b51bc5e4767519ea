"""``--progress=plain``: one block per step, as BuildKit prints it (spec cli.md §2.10).

Lines are written by whoever emits, under a lock: a no-op build pays for no thread.  Steps run in
parallel but print in blocks; a step whose turn has not come is held back until the shown one ends,
pauses, or had the stage long enough.  Only when something is held a small thread looks after it.
"""

from __future__ import annotations

import _thread  # the lock alone; ``threading`` waits until a step is held
from time import time

from ..events import LogChunk, Progress, Warned
from .folds import Folds
from .model import MAX_HELD, Model, Step, log_time, status_text
from .text import write_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from typing import TextIO

    from ..events import Event

QUIET_AFTER = 1.0  # the shown step printed nothing for so long: another one may
STAGE_TIME = 5.0  # a block that chatters on gives way after so long
STATUS_STEP = 0.05
STATUS_TIME = 5.0


class PlainRenderer:
    """Writes to ``stream``.  ``clock`` gives seconds since the epoch."""

    def __init__(
        self, stream: TextIO, *, title: str = "", truncate: bool = False, explain: bool = False,
        fold: str = "", clock: Callable[[], float] = time, background: bool = True,
    ) -> None:  # fmt: skip
        self._out = stream
        self._clock = clock
        self._truncate = truncate
        self._explain = explain
        self._background = background
        self._model = Model()
        self._lock = _thread.allocate_lock()
        self._current: Step | None = None
        self._since = self._spoke = 0.0
        self._waiting: dict[str, Step] = {}
        self._shown: dict[tuple[str, str], Progress] = {}
        self._dead = False
        self._first = True
        self._thread: threading.Thread | None = None
        self._stop: threading.Event | None = None
        self._title = title
        self._head = ""
        self._folds = Folds(fold, clock) if fold else None

    @property
    def warnings(self) -> list[Warned]:
        """All warnings so far."""
        return self._model.warnings

    def emit(self, event: Event, /) -> None:
        """Show one event, now or when its step's turn comes."""
        with self._lock:
            buffer: list[str] = []
            self._take(event, buffer)
            self._write(buffer)
        if self._waiting and self._thread is None and self._background:
            self._start_thread()

    def close(self, error: BaseException | None = None, /) -> None:
        """Print what was held, stop the thread."""
        if self._stop is not None and self._thread is not None:
            self._stop.set()
            self._thread.join()
        with self._lock:
            buffer: list[str] = []
            for step in list(self._waiting.values()):
                self._show(step, buffer)
            self._end(buffer)
            self._write(buffer)

    def _take(self, event: Event, buffer: list[str]) -> None:
        step = self._model.apply(event)
        if step is None:
            return
        if isinstance(event, LogChunk):
            at = log_time(event.at - step.started) + " "
            step.hold([at + line for line in step.add_log(event)])
            if not step.lines and step is not self._current:
                return
        elif isinstance(event, Progress):
            if not self._worth(event):
                return
            step.hold([status_text(event, event.at)])
        elif isinstance(event, Warned):
            step.hold([f"WARN: {event.short}"])
        if step.closed and not step.lines:
            return  # asked for a second time, and nothing new to say
        if step.finished:
            self._show(step, buffer)
            self._next(buffer)
        elif self._current in (None, step) or self._may_switch() or step.held > MAX_HELD:
            self._show(step, buffer)
        else:
            self._waiting.setdefault(step.digest, step)

    def _worth(self, p: Progress) -> bool:
        key = (p.digest, p.item)
        last = self._shown.get(key)
        if last is not None and last.completed and p.completed:
            return False
        if last is not None and not p.completed:
            moved = abs(p.current - last.current) / p.total if p.total else 0.0
            if moved < STATUS_STEP and p.at - last.at < STATUS_TIME:
                return False
        self._shown[key] = p
        return True

    def _may_switch(self) -> bool:
        now = self._clock()
        return now - self._spoke >= QUIET_AFTER or now - self._since >= STAGE_TIME

    def _show(self, step: Step, buffer: list[str]) -> None:
        self._waiting.pop(step.digest, None)
        number = self._model.number(step)
        now = self._clock()
        if step is not self._current:
            self._leave(buffer)
            name = step.name
            if self._truncate and len(name) > 72:
                name = name[:69] + "..."
            self._head = f"#{number} {name}"
            if self._folds is None:
                self._begin(buffer)
            self._current, self._since, self._spoke = step, now, now
        if step.finished:
            at = log_time((step.ended or now) - step.started)
            step.hold([f"{at} {line}" for line in step.flush_log()])
        if step.lines:
            self._spoke = now
            self._begin(buffer)
            buffer.append(f"#{number} " + f"\n#{number} ".join(step.take()) + "\n")
        if step.finished:
            self._end(buffer)
            if not step.closed:
                self._ending(step, buffer)
            step.closed = True
            self._current = None

    def _begin(self, buffer: list[str], *, fold: bool = True) -> None:
        """The first line of a block, unless it was printed.  Where a CI folds, it waits for something to fold."""
        if not self._head:
            return
        if not self._first:
            buffer.append("\n")
        self._first = False
        buffer.append(
            self._folds.begin(self._head) if fold and self._folds is not None else self._head + "\n"
        )
        self._head = ""

    def _end(self, buffer: list[str]) -> None:
        """The block ends: what comes now is seen when it is folded."""
        self._begin(buffer, fold=False)
        if self._folds is not None:
            buffer.append(self._folds.end())

    def _leave(self, buffer: list[str]) -> None:
        """Another step takes over; a block that has not begun leaves no trace."""
        if self._current is not None and not self._head:
            self._end(buffer)
            buffer.append(f"#{self._current.number} ...\n")
        self._head = ""

    def _ending(self, step: Step, buffer: list[str]) -> None:
        n = step.number
        if self._explain and step.reason:
            buffer.append(f"#{n} NOT CACHED: {step.reason}\n")
        if step.state == "cached":
            buffer.append(f"#{n} CACHED\n")
        elif step.state == "canceled":
            buffer.append(f"#{n} CANCELED\n")
        elif step.state == "error":
            buffer.append(f"#{n} ERROR: {step.error}\n")
        else:
            spent = (step.ended or step.started) - step.started
            buffer.append(f"#{n} DONE {spent:.1f}s\n" if step.started else f"#{n} DONE\n")

    def _next(self, buffer: list[str]) -> None:
        if self._current is None and self._waiting:
            self._show(next(iter(self._waiting.values())), buffer)

    def _write(self, buffer: list[str]) -> None:
        if not buffer or self._dead:
            return
        if self._title:
            buffer.insert(0, f"#0 {self._title}\n\n")
            self._title = ""
        text = "".join(buffer)
        self._dead = not write_text(self._out, text)

    def _start_thread(self) -> None:
        import threading

        with self._lock:
            if self._thread is not None:
                return
            self._stop = threading.Event()
            self._thread = threading.Thread(
                target=self._tend, args=(self._stop,), name="progress", daemon=True
            )
        self._thread.start()

    def _tend(self, stop: threading.Event) -> None:
        while not stop.wait(0.25):
            with self._lock:
                if self._waiting and (self._current is None or self._may_switch()):
                    buffer: list[str] = []
                    self._show(next(iter(self._waiting.values())), buffer)
                    self._write(buffer)
