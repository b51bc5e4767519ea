"""Cache mounts from outside: list, export, import, remove."""

from __future__ import annotations

import os

from ..errors import StoreError, UsageError
from ..ids import ids
from ..store import cachemounts
from ..store.locks import KeyLocks
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from ..config import Settings


class Owner(Value):
    """Whose an imported mount is."""

    uid: int = 0
    gid: int = 0
    mode: int = 0o755


class MountInfo(Value):
    """One mount.  ``size``: bytes on disk."""

    id: str
    name: str
    target: str
    size: int
    created: float
    last_used: float
    in_use: bool


def listing(settings: Settings) -> list[MountInfo]:
    """All mounts, by id."""
    from .usage import tree_size

    rows = [
        MountInfo(m.id, m.name, m.target, tree_size(m.path), m.created, m.last_used, m.in_use)
        for m in cachemounts.listing(settings.root)
    ]
    return sorted(rows, key=lambda m: (m.id, m.name))


def _find(settings: Settings, ident: str) -> cachemounts.CacheMount:
    """The mount with an id (or a name of ``cache ls``); of several, the one used last."""
    found = [m for m in cachemounts.listing(settings.root) if ident in (m.id, m.name)]
    if not found:
        raise UsageError(f"no cache mount with id {ident}", hint="`lapstrake cache ls` lists them")
    return max(found, key=lambda m: m.last_used)


def export(settings: Settings, ident: str, out: BinaryIO, compression: str = "uncompressed") -> int:
    """Write a mount as a tar to ``out``; its size before compression.

    A step with the mount to itself is waited for, so that nothing half-written is exported."""
    from ..layer.compress import pack
    from ..layer.diff import changes

    mount = _find(settings, ident)
    locks = KeyLocks(settings.root)
    with locks.hold(cachemounts.lock_key(mount.name)), locks.shared(f"mountuse-{mount.name}"):
        if os.path.exists(f"{mount.path}/dirty"):
            raise StoreError(f"the cache mount {ident} was left half-written by a killed step")
        return pack(changes(f"{mount.path}/data"), _Counting(out), compression).uncompressed_size


class _Counting:
    """A stream as the packer wants it."""

    digest = ""  # nobody asks

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self.size = 0

    def write(self, data: bytes | memoryview, /) -> int:
        self._out.write(data)
        self.size += len(data)
        return len(data)


def load(settings: Settings, ident: str, source: BinaryIO, owner: Owner) -> int:
    """Make the tar ``source`` (compressed or not) the content of the mount ``ident``; entries read.

    The old content goes only when the new one is complete."""
    from ..layer.apply import apply
    from ..layer.compress import decompressor

    done = 0

    def make(path: str) -> dict[str, object]:
        nonlocal done
        done = apply(decompressor(source), path, limit_bytes=1 << 42).entries
        os.chmod(path, owner.mode)
        if ids().chown:
            os.chown(path, owner.uid, owner.gid)
        return {"id": ident, "target": ""}

    os.makedirs(settings.root, mode=0o700, exist_ok=True)
    try:
        fine = cachemounts.replace(
            settings.root, KeyLocks(settings.root), cachemounts.mount_name(ident), make
        )
    except OSError as e:
        from ..store.failures import cannot_write

        raise cannot_write(settings.root, e) from e
    finally:
        _sweep(settings)
    if not fine:
        raise UsageError(f"the cache mount {ident} is in use", hint="wait for the build that uses it")
    return done


def _sweep(settings: Settings) -> None:
    from ..store.content import ContentStore
    from ..store.index import Index
    from ..store.layers import LayerStore

    LayerStore(settings.root, ContentStore(settings.root), Index(settings.root)).sweep()


def remove(settings: Settings, ident: str) -> list[str]:
    """Remove every mount with an id; the names of those removed.  One in use is an error."""
    _find(settings, ident)
    gone = []
    locks = KeyLocks(settings.root)
    for m in cachemounts.listing(settings.root):
        if ident in (m.id, m.name):
            if not cachemounts.remove(settings.root, locks, m.name):
                raise UsageError(f"the cache mount {ident} is in use", hint="wait for the build that uses it")
            gone.append(m.name)
    _sweep(settings)
    return gone
