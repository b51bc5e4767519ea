"""What running builds use, so that nobody deletes it under them.

Each process appends the names of layers and blobs to a file of its own *before* it looks whether they
are there.  Deleting happens with the gate held exclusively: a name is then either in a lease already,
or will be looked for only after it is gone.  The gate is held for microseconds; deleting itself is a
rename away.  A lease is live while its file is locked, so a killed build's lease ends with it.
"""

from __future__ import annotations

import os
import threading

from ..errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def _gate(root: str) -> int:
    path = f"{root}/leases/gate"
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o644)
    except FileNotFoundError:
        os.makedirs(f"{root}/leases", exist_ok=True)
        return os.open(path, flags, 0o644)


class Lease:
    """What this process uses.  Thread-safe; made on first use, gone with ``close`` or the process."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._names: set[str] = set()
        self._guard = threading.Lock()  # a gate lock belongs to the descriptor, which threads share
        self._gate = -1
        self._fd = -1
        self._path = ""

    def add(self, *names: str) -> None:
        """Keep these from now on.  Cheap for names already kept.  Raises StoreError."""
        fresh = [n for n in names if n not in self._names]
        if not fresh:
            return
        import fcntl

        try:
            with self._guard:
                if self._fd < 0:
                    self._open()
                fcntl.flock(self._gate, fcntl.LOCK_SH)
                try:
                    os.write(self._fd, ("\n".join(fresh) + "\n").encode())
                finally:
                    fcntl.flock(self._gate, fcntl.LOCK_UN)
                self._names.update(fresh)
        except OSError as e:
            raise StoreError(f"cannot use the store {self.root}: {e.strerror}") from e

    def _open(self) -> None:
        import fcntl

        self._gate = _gate(self.root)
        fcntl.flock(self._gate, fcntl.LOCK_SH)  # nobody takes the new file for a dead one meanwhile
        try:
            self._path = f"{self.root}/leases/{os.urandom(12).hex()}"
            self._fd = os.open(self._path, _NEW | os.O_APPEND, 0o644)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let everything go; the next ``add`` begins anew."""
        with self._guard:
            fd, self._fd = self._fd, -1
            gate, self._gate = self._gate, -1
            self._names = set()
        if fd >= 0:
            try:
                os.unlink(self._path)
            except OSError:
                pass
            os.close(fd)
        if gate >= 0:
            os.close(gate)


class Closed:
    """The gate held exclusively, for as short as can be: nothing new comes into use meanwhile.

    ``names``: what live leases hold.  ``live``: how many of them there are.  Dead ones are removed."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.names: frozenset[str] = frozenset()
        self.live = 0
        self._fd = -1

    def __enter__(self) -> Closed:
        import fcntl

        self._fd = _gate(self.root)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            names: set[str] = set()
            for path, data in _leases(self.root):
                if data is None:
                    os.unlink(path)
                else:
                    self.live += 1
                    names.update(data.decode("utf-8", "replace").split("\n"))
            names.discard("")
            self.names = frozenset(names)
        except BaseException:
            os.close(self._fd)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        os.close(self._fd)


def in_use(root: str) -> frozenset[str]:
    """What live leases hold just now; creates and removes nothing."""
    names: set[str] = set()
    for _, data in _leases(root):
        names.update((data or b"").decode("utf-8", "replace").split("\n"))
    names.discard("")
    return frozenset(names)


def dead(root: str) -> list[str]:
    """Lease files left by killed processes."""
    return [path for path, data in _leases(root) if data is None]


def _leases(root: str) -> Iterator[tuple[str, bytes | None]]:
    """(path, content) of each lease; None for a dead one."""
    import fcntl

    try:
        found = os.listdir(f"{root}/leases")
    except FileNotFoundError:
        return
    for name in found:
        if name == "gate":
            continue
        path = f"{root}/leases/{name}"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            with os.fdopen(fd, "rb") as f:
                yield path, f.read()
            continue
        os.close(fd)
        yield path, None
