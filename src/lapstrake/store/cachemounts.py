"""Cache mounts: directories that outlive steps (``RUN --mount=type=cache``).

``cachemounts/<hash>/data`` is what a step sees, ``meta`` says what it is.  A name is a hash of the id
(and of what it was seeded from): an id is never part of a path.  A mount is made beside its place and
renamed; while a step with a private mount runs, ``dirty`` marks it, and what a killed one leaves behind
is thrown away by the next user.
"""

from __future__ import annotations

import os

from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .locks import KeyLocks, Lock

_PRIVATE = 64  # more steps than this never use one private mount at a time


class CacheMount(Value):
    """A mount as ``du`` and ``cache ls`` show it."""

    name: str
    path: str
    id: str
    target: str
    created: float
    last_used: float
    in_use: bool


def mount_name(ident: str, seed: str = "") -> str:
    """The directory's name.  ``seed``: what its first content comes from, if anything."""
    from hashlib import sha256

    return sha256(f"{ident}{seed}".encode("utf-8", "surrogateescape")).hexdigest()[:40]


def home(root: str, name: str) -> str:
    """Where the mount is, or would be."""
    return f"{root}/cachemounts/{name}"


class Held:
    """A mount a step uses, until ``release``."""

    def __init__(self, path: str, locks: list[Lock], *, private: bool) -> None:
        self.path = path
        self.data = f"{path}/data"
        self._locks = locks
        self._private = private
        self.complete = False  # the step came to its own end, well or not

    def release(self) -> None:
        """The step is over.  What an interrupted one wrote to a private mount is thrown away.  Idempotent."""
        if self._private and self.complete:
            try:
                os.unlink(f"{self.path}/dirty")
            except FileNotFoundError:
                pass
        for lock in reversed(self._locks):
            lock.release()
        self._locks = []


def hold(
    root: str, locks: KeyLocks, name: str, sharing: str, make: Callable[[str], dict[str, object]]
) -> Held:
    """Take a mount for one step.

    ``make`` fills a new, empty directory and says what to note about it.  The exclusive lock of a
    ``locked`` mount is the caller's (``lock_key``).  A ``private`` one in use gives way to another."""
    held: list[Lock] = []
    if sharing == "private":
        for n in range(_PRIVATE):
            instance = name if n == 0 else f"{name}-{n}"
            own = locks.try_hold(lock_key(instance))
            if own is not None:
                held.append(own)
                name = instance
                break
    try:
        held.append(locks.shared(f"mountuse-{name}"))
        path = home(root, name)
        private = sharing == "private"
        if private and os.path.exists(f"{path}/dirty"):
            discard(root, name)
        if not os.path.isdir(f"{path}/data"):
            _create(root, locks, name, make)
        if private:
            with open(f"{path}/dirty", "wb"):
                pass
        os.utime(path)
        return Held(path, held, private=private)
    except BaseException:
        for each in reversed(held):
            each.release()
        raise


def lock_key(name: str) -> str:
    """The key of the lock that makes a mount one step's own."""
    return f"mount-{name}"


def _create(root: str, locks: KeyLocks, name: str, make: Callable[[str], dict[str, object]]) -> None:
    path = home(root, name)
    with locks.hold(f"mountmake-{name}"):
        if os.path.isdir(f"{path}/data"):
            return

        def settle(new: str) -> bool:
            discard(root, name)  # of somebody killed in between: not complete, so not used
            os.rename(new, path)
            return True

        _made(root, locks, make, settle)


def _made(
    root: str,
    locks: KeyLocks,
    make: Callable[[str], dict[str, object]],
    settle: Callable[[str], bool],
) -> bool:
    """Make a mount in a scratch directory and hand it to ``settle``; what that leaves is swept later."""
    import json
    import time

    new = f"{root}/active/mount-{os.urandom(8).hex()}"
    with locks.hold(f"active-{os.path.basename(new)}"):
        os.makedirs(f"{new}/data")
        meta = make(f"{new}/data") | {"created": time.time()}
        with open(f"{new}/meta", "w", encoding="utf-8", errors="surrogateescape") as f:
            json.dump(meta, f)
        os.makedirs(f"{root}/cachemounts", mode=0o700, exist_ok=True)
        return settle(new)


def replace(root: str, locks: KeyLocks, name: str, make: Callable[[str], dict[str, object]]) -> bool:
    """Give a mount new content once that is complete; False while a step uses it."""

    def settle(new: str) -> bool:
        lock = locks.try_hold(f"mountuse-{name}")
        if lock is None:
            return False
        with lock:
            discard(root, name)
            os.rename(new, home(root, name))
        return True

    return _made(root, locks, make, settle)


def remove(root: str, locks: KeyLocks, name: str) -> bool:
    """Remove a mount by a rename (``LayerStore.sweep`` deletes); False while a step uses it."""
    lock = locks.try_hold(f"mountuse-{name}")
    if lock is None:
        return False
    with lock:
        discard(root, name)
    return True


def discard(root: str, name: str) -> None:
    """Out of sight; whoever calls has it for himself."""
    path = home(root, name)
    trash = f"{root}/trash"
    if not os.path.lexists(path):
        return
    os.makedirs(trash, mode=0o700, exist_ok=True)
    try:
        os.rename(path, f"{trash}/{os.urandom(12).hex()}")
    except FileNotFoundError:
        pass


def listing(root: str) -> list[CacheMount]:
    """All mounts, by name."""
    import json

    from .locks import KeyLocks

    locks = KeyLocks(root)
    out = []
    try:
        names = sorted(os.listdir(f"{root}/cachemounts"))
    except FileNotFoundError:
        return []
    for name in names:
        path = home(root, name)
        try:
            used = os.stat(path).st_mtime
            with open(f"{path}/meta", encoding="utf-8", errors="surrogateescape") as f:
                meta = json.loads(f.read(65536))
        except (OSError, ValueError):
            continue
        out.append(
            CacheMount(
                name, path, str(meta.get("id", "")), str(meta.get("target", "")), float(meta.get("created", 0)), used,
                locks.held(f"mountuse-{name}"),
            )
        )  # fmt: skip
    return out


def bookkeeping(root: str) -> int:
    """Bytes on disk of what is below ``cachemounts`` without being a mount."""
    known = {m.name for m in listing(root)}
    base = f"{root}/cachemounts"
    try:
        return sum(os.lstat(f"{base}/{n}").st_blocks * 512 for n in os.listdir(base) if n not in known)
    except OSError:
        return 0
