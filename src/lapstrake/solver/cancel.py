"""Cancelling: one token per build, seen by threads and by poll loops."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class CancelToken:
    """Set once, never cleared.  ``fileno()`` becomes readable when set."""

    def __init__(self) -> None:
        self._set = False
        self._pipe: tuple[int, int] | None = None
        self._callbacks: list[Callable[[], None]] = []

    def is_set(self) -> bool:
        """Whether the build should stop."""
        return self._set

    def set(self) -> None:
        """Ask everything to stop; safe in a signal handler."""
        if self._set:
            return
        self._set = True
        if self._pipe is not None:
            os.write(self._pipe[1], b"x")
        for callback in self._callbacks:
            callback()

    def then(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once this is set; it may run in a signal handler, so it must take no lock."""
        self._callbacks.append(callback)
        if self._set:
            callback()

    def child(self) -> CancelToken:
        """A token that is set with this one, and can be set without it."""
        child = CancelToken()
        self._callbacks.append(child.set)
        if self._set:
            child.set()
        return child

    def fileno(self) -> int:
        """A descriptor that is readable once the token is set."""
        if self._pipe is None:
            self._pipe = os.pipe()
            if self._set:
                os.write(self._pipe[1], b"x")
        return self._pipe[0]

    def close(self) -> None:
        """Give the descriptors back."""
        if self._pipe is not None:
            for fd in self._pipe:
                os.close(fd)
            self._pipe = None
