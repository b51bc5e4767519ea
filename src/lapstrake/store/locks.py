"""Advisory locks by key, across threads and processes.

``flock`` belongs to an open file, so two threads that open it apart exclude each other just as
two processes do, and the kernel frees it whatever way its holder dies.  A lock's file is removed
by its last exclusive holder; whoever waited for it notices and starts again with the new file.
"""

from __future__ import annotations

import os

from ..errors import Cancelled, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Protocol

    class _Cancel(Protocol):
        def is_set(self) -> bool: ...


_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-:=@+")
_LOCK_SH, _LOCK_EX, _LOCK_NB = 1, 2, 4


class Lock:
    """A held lock; released by ``release`` or the end of its ``with`` block."""

    def __init__(self, path: str, fd: int, exclusive: bool) -> None:
        self.path = path
        self._fd = fd
        self._exclusive = exclusive

    def release(self) -> None:
        """Let go; idempotent."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        if self._exclusive:
            try:
                os.unlink(self.path)  # before the lock goes, so that nobody can hold this file afterwards
            except FileNotFoundError:
                pass
        os.close(fd)

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.release()


class KeyLocks:
    """Locks under ``root/locks``, one file per key while it is held."""

    def __init__(self, root: str) -> None:
        self.root = f"{root}/locks"

    def hold(self, key: str, cancel: _Cancel | None = None) -> Lock:
        """Wait for the key's exclusive lock.  Raises Cancelled once ``cancel`` is set."""
        lock = self._take(key, _LOCK_EX, True, cancel)
        if lock is None:
            raise StoreError(f"lost the lock {key!r}")
        return lock

    exclusive = hold

    def shared(self, key: str, cancel: _Cancel | None = None) -> Lock:
        """Wait for the key's shared lock: any number of holders, none of them exclusive."""
        lock = self._take(key, _LOCK_SH, True, cancel)
        if lock is None:
            raise StoreError(f"lost the lock {key!r}")
        return lock

    def try_hold(self, key: str) -> Lock | None:
        """The key's exclusive lock if it is free."""
        return self._take(key, _LOCK_EX, False, None)

    def held(self, key: str) -> bool:
        """Whether anybody holds the key just now."""
        import fcntl

        try:
            fd = os.open(self.path(key), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, _LOCK_EX | _LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(fd)

    def leftovers(self) -> list[str]:
        """Lock files nobody holds: of killed processes."""
        try:
            return [n for n in os.listdir(self.root) if not self.held(n)]
        except FileNotFoundError:
            return []

    def sweep(self) -> int:
        """Remove the lock files of killed processes; how many."""
        done = 0
        for name in self.leftovers():
            lock = self._take(name, _LOCK_EX, False, None)  # a name is its own key: see ``path``
            if lock is not None:
                lock.release()
                done += 1
        return done

    def path(self, key: str) -> str:
        """The lock file's path."""
        if 0 < len(key) <= 200 and _SAFE.issuperset(key):  # a hash, as below, names itself
            return f"{self.root}/{key}"
        import hashlib

        return f"{self.root}/={hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()}"

    def _take(self, key: str, kind: int, wait: bool, cancel: _Cancel | None) -> Lock | None:
        import fcntl

        path = self.path(key)
        while True:
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            except FileNotFoundError:
                os.makedirs(self.root, exist_ok=True)
                continue
            except OSError as e:
                from .failures import cannot_write

                raise cannot_write(os.path.dirname(self.root), e) from e
            try:
                if not _wait(fcntl, fd, kind, wait, cancel):
                    os.close(fd)
                    return None
                if _same(fd, path):
                    return Lock(path, fd, kind == _LOCK_EX)
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)


def _same(fd: int, path: str) -> bool:
    """Whether ``path`` still names the file we locked."""
    try:
        a, b = os.fstat(fd), os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (a.st_ino, a.st_dev) == (b.st_ino, b.st_dev)


def _wait(fcntl: object, fd: int, kind: int, wait: bool, cancel: _Cancel | None) -> bool:
    flock = fcntl.flock  # type: ignore[attr-defined]  # the module, passed by its lazy importer
    if wait and cancel is None:
        flock(fd, kind)
        return True
    pause = 0.001
    while True:
        try:
            flock(fd, kind | _LOCK_NB)
            return True
        except BlockingIOError:
            if not wait:
                return False
        if cancel is not None and cancel.is_set():
            raise Cancelled("cancelled while waiting for another build")
        import time

        time.sleep(pause)
        pause = min(pause * 2, 0.05)
