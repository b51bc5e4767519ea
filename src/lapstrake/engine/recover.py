"""After the machine stopped without warning: what may not have reached the disk is not believed.

Nothing is synced while a build runs (docs/reliability.md has the figures).  The kernel writes what is
half a minute old; so when the machine was started anew, everything written shortly before the store's
last change is looked at: a blob must have its digest, a layer must make its diffID, and what can't be
told goes.  It is made or fetched again by the build that needs it.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .gc import Stores

WINDOW_S = (
    120.0  # the kernel's own limits: 35 s (vm.dirty_expire_centisecs and its writer), 5-30 s of the journal
)
_BOOT = "/proc/sys/kernel/random/boot_id"


def recover(root: str, warn: Callable[[str], None] | None = None) -> int:
    """Look at the store if this is another boot than the last one's; how many things were let go."""
    now = _read(_BOOT)
    if not now or _read(f"{root}/boot") == now:
        return 0
    from ..store.locks import KeyLocks

    with KeyLocks(root).hold("boot"):
        if _read(f"{root}/boot") == now:
            return 0
        gone = 0
        if any(os.path.exists(f"{root}/{name}") for name in ("index.db", "layers", "blobs")):
            gone = _distrust(root)
            if gone and warn is not None:
                warn(f"the machine stopped while {root} was in use: {gone} unfinished things were let go")
        _write(f"{root}/boot", now)
        return gone


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as f:
            return f.read(100).strip()
    except OSError:
        return ""


def _write(path: str, text: str) -> None:
    from ..whole import write_whole

    try:
        write_whole(path, f"{text}\n".encode("ascii"), sync=True)
    except OSError:
        pass  # read-only: looked at again next time


def _distrust(root: str) -> int:
    from ..store.lease import Closed
    from .gc import Stores

    with Stores(root) as stores:
        gone = 0
        if _index_damaged(stores):
            stores.index.set_aside("it was damaged when the machine stopped")
            gone += 1
        places = [
            *_entries(f"{root}/layers"),
            *_entries(f"{root}/blobs/sha256"),
            *_entries(f"{root}/blobs/sha512"),
        ]
        places += _entries(f"{root}/cachemounts")
        changed = {path: _changed(path) for path in places}
        last = max([*changed.values(), _changed(f"{root}/index.db"), _changed(f"{root}/index.db-wal")])
        recent = sorted(p for p, when in changed.items() if when > last - WINDOW_S)
        with Closed(root) as closed:  # on a shared file system another machine may be building
            for path in recent:
                gone += _judge(stores, path, closed.names)
        return gone


def _index_damaged(stores: Stores) -> bool:
    from ..errors import StoreError

    try:
        return bool(stores.index.integrity())
    except StoreError:
        return True


def _entries(path: str) -> list[str]:
    try:
        return [f"{path}/{n}" for n in os.listdir(path)]
    except OSError:
        return []


def _changed(path: str) -> float:
    try:
        return os.lstat(path).st_ctime
    except OSError:
        return 0.0


def _judge(stores: Stores, path: str, leased: frozenset[str]) -> int:
    """Keep one thing if it is whole; 1 if it was let go."""
    from ..store import cachemounts
    from .usage import SIZES

    parent, name = os.path.split(path)
    kind = os.path.basename(parent)
    if kind == "cachemounts":
        return int(cachemounts.remove(stores.root, stores.layers.locks, name))
    if kind == "layers":
        if name in leased or _whole_layer(stores, name):
            return 0
        stores.layers.remove_dir(name)
        stores.index.delete(SIZES, name)
        return 1
    digest = f"{kind}:{name}"
    if digest in leased or stores.content.verify(digest):
        return 0
    stores.content.delete(digest)
    return 1


def _whole_layer(stores: Stores, name: str) -> bool:
    """Whether a layer's files are known to be what they were."""
    from ..errors import BuildError
    from .fsck import diff_id_of

    if name[0] in "pr":
        return False  # extracted from a blob, and extracted again when needed
    try:
        info = stores.layers.info(name)
        return (
            info is not None
            and info.diff_id is not None
            and diff_id_of(stores.layers.dir(name)) == info.diff_id
        )
    except (BuildError, OSError, ValueError):
        return False
