"""Layers: one directory each, in overlayfs' upper format, never changed once committed.

``layers/<id>/diff`` is the layer, ``active/<random>`` a scratch directory of a running step,
``trash/`` what awaits deletion.  All on one file system, so that every change is a rename.
"""

from __future__ import annotations

import os

from ..errors import StoreError
from ..values import Value, replace
from .index import dumps, loads
from .locks import KeyLocks, Lock
from .remove import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Any, BinaryIO, Protocol

    from .content import ContentStore
    from .index import Index
    from .lease import Lease

    class Unpack(Protocol):
        """Extracts a blob into a directory, checking ``diff_id`` when it is known; the true diffID."""

        def __call__(self, blob: BinaryIO, media_type: str, dest: str, diff_id: str | None) -> str: ...


_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:")
NAMESPACE = "layer"


class LayerBlob(Value):
    """One packed form of a layer.  ``level``: the compressor's, None for one we pulled.
    ``annotations``: what its descriptor must carry (estargz)."""

    media_type: str
    digest: str
    size: int
    compression: str = "gzip"
    level: int | None = None
    annotations: tuple[tuple[str, str], ...] = ()


class LayerInfo(Value):
    """What is known of a layer.  ``size``: bytes of its files; ``sources``: opaque records that
    say where its blob may be fetched from."""

    id: str
    diff_id: str | None = None
    blobs: tuple[LayerBlob, ...] = ()
    size: int = 0
    sources: tuple[dict[str, Any], ...] = ()

    def to_bytes(self) -> bytes:
        """The index's form."""
        blobs = [
            {
                "media_type": b.media_type,
                "digest": b.digest,
                "size": b.size,
                "compression": b.compression,
                "level": b.level,
                **({"annotations": dict(b.annotations)} if b.annotations else {}),
            }
            for b in self.blobs
        ]
        return dumps(
            {
                "id": self.id,
                "diff_id": self.diff_id,
                "blobs": blobs,
                "size": self.size,
                "sources": list(self.sources),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> LayerInfo:
        """From the index's form."""
        d = loads(data)
        blobs = tuple(
            LayerBlob(**{**b, "annotations": tuple(b.get("annotations", {}).items())}) for b in d["blobs"]
        )
        return cls(d["id"], d["diff_id"], blobs, d["size"], tuple(d["sources"]))


class Active:
    """A scratch directory of a running step: ``upper`` and ``work``.  Closing it discards both."""

    def __init__(self, store: LayerStore, path: str, lock: Lock) -> None:
        self.path = path
        self.upper = f"{path}/upper"
        self.work = f"{path}/work"
        self._store = store
        self._lock = lock

    def close(self) -> None:
        """Discard what was not committed (by a rename; the deleting happens in ``sweep``)."""
        try:
            for name in (f"{self.work}/work", self.work, self.path):  # all that a committed step leaves
                os.rmdir(name)
        except OSError:
            self._store._discard(self.path)
        self._lock.release()

    def __enter__(self) -> Active:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


class LayerStore:
    """The layers of one store.  Thread-safe; any number of processes may share the root.

    ``unpack`` extracts a blob (given by whoever wires the adapters together); ``remove`` deletes a
    tree, for a rootless store with files of subordinate ids.
    """

    def __init__(
        self,
        root: str,
        content: ContentStore,
        index: Index,
        *,
        unpack: Unpack | None = None,
        locks: KeyLocks | None = None,
        lease: Lease | None = None,
        remove: Callable[[str, Callable[[], bool] | None], None] = remove_tree,
    ) -> None:
        self.root = root
        self.content = content
        self.index = index
        self.locks = locks or KeyLocks(root)
        self.lease = lease
        self.admit: Callable[[], None] | None = None  # asked before a directory becomes a layer
        self.wrote = False
        self._unpack = unpack
        self._remove = remove

    # -- directories -----------------------------------------------------------------------

    def dir(self, layer_id: str) -> str:
        """Where the layer's directory is, or would be."""
        return f"{self._home(layer_id)}/diff"

    def has_dir(self, layer_id: str) -> bool:
        """Whether the directory is here."""
        path = self.dir(layer_id)
        self._keep(layer_id)
        return os.path.isdir(path)

    def new_active(self) -> Active:
        """A scratch directory, locked for as long as it or its process lives."""
        name = os.urandom(12).hex()
        lock = self.locks.hold(
            f"active-{name}"
        )  # first the lock, then the directory: sweep sees no unlocked one
        path = f"{self.root}/active/{name}"
        try:
            os.makedirs(path, 0o700)
            for sub in ("upper", "work"):
                os.mkdir(f"{path}/{sub}", 0o755)
                os.chmod(f"{path}/{sub}", 0o755)  # whatever the umask: this becomes an image's root
        except OSError as e:
            self._discard(path)
            lock.release()
            from .failures import cannot_write

            raise cannot_write(self.root, e) from e
        return Active(self, path, lock)

    def commit(self, active: Active | str, layer_id: str) -> LayerInfo:
        """Make a directory the layer ``layer_id`` by renaming it.  If the layer is there already it
        stays, and the given directory is discarded with its ``Active``."""
        upper = active if isinstance(active, str) else active.upper
        target = self.dir(layer_id)
        self._keep(layer_id)
        if not os.path.isdir(target):
            if self.admit is not None:
                self.admit()
            self.wrote = True
            try:
                self._settle(upper, self._home(layer_id))
            except OSError as e:
                if not os.path.isdir(target):  # another build was faster
                    from .failures import cannot_write

                    raise cannot_write(self.root, e) from e
        return self.info(layer_id) or self.update(layer_id, lambda i: i)

    @staticmethod
    def _settle(upper: str, home: str) -> None:
        """Make ``upper`` the ``diff`` of ``home`` in one step: a home is never seen without it."""
        new = f"{os.path.dirname(upper)}/home"
        os.mkdir(new, 0o755)
        os.rename(upper, f"{new}/diff")
        try:
            os.rename(new, home)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(home), exist_ok=True)
            os.rename(new, home)

    def ensure_dir(self, layer_id: str, fetch: Callable[[LayerInfo], None] | None = None) -> str:
        """The layer's directory, extracted from its blob if need be; many callers, one extraction.

        ``fetch`` must put a blob into the content store (and ``register_blob`` it if it is new).
        """
        path = self.dir(layer_id)
        if self.has_dir(layer_id):
            return path
        with self.locks.hold(f"layer-{layer_id}"):
            if os.path.isdir(path):
                return path
            if not self._extract(layer_id, fetch):
                self._extract(layer_id, fetch, again=False)
        return path

    def _extract(
        self, layer_id: str, fetch: Callable[[LayerInfo], None] | None, *, again: bool = True
    ) -> bool:
        """Extract a layer's blob.  False: the blob was damaged on disk and removed, so fetch it ``again``."""
        info = self.info(layer_id) or LayerInfo(layer_id)
        blob = self._present(info)
        if blob is None and fetch is not None:
            fetch(info)
            info = self.info(layer_id) or info
            blob = self._present(info)
        if blob is None:
            raise StoreError(
                f"layer {layer_id} is neither in the store nor to be had from its sources",
                hint="run the build again: the step that makes it will run",
            )
        if self._unpack is None:
            raise StoreError(f"layer {layer_id} has no directory, and this store cannot extract")
        with self.new_active() as active:
            try:
                with self.content.open(blob.digest) as f:
                    diff_id = self._unpack(f, blob.media_type, active.upper, info.diff_id)
            except StoreError:
                if not again or self.content.verify(blob.digest):
                    raise
                self.content.delete(blob.digest)
                return False
            if info.diff_id is None:
                self.update(layer_id, lambda i: replace(i, diff_id=diff_id))
            self.commit(active, layer_id)
        return True

    # -- what is known ---------------------------------------------------------------------

    def info(self, layer_id: str) -> LayerInfo | None:
        """What is known of a layer."""
        data = self.index.get(NAMESPACE, layer_id)
        return None if data is None else LayerInfo.from_bytes(data)

    def infos(self) -> list[LayerInfo]:
        """All layers known, by id."""
        return [LayerInfo.from_bytes(v) for _, v in self.index.items(NAMESPACE)]

    def update(self, layer_id: str, change: Callable[[LayerInfo], LayerInfo]) -> LayerInfo:
        """Change what is known of a layer, atomically; an unknown one begins empty."""
        self._home(layer_id)
        new: list[LayerInfo] = []

        def apply(old: bytes | None) -> bytes:
            new.append(change(LayerInfo(layer_id) if old is None else LayerInfo.from_bytes(old)))
            return new[-1].to_bytes()

        self.index.update(NAMESPACE, layer_id, apply)
        return new[-1]

    def renew(self, layer_id: str) -> None:
        """The step that makes the layer ran again: what was known of it, and of its variants
        (``<id>-…``), is about other bytes.  A directory that is there stays what it is."""
        if not os.path.isdir(self.dir(layer_id)):
            self.index.delete_range(NAMESPACE, layer_id, layer_id + ".")  # "." follows "-"

    def register_blob(
        self, layer_id: str, diff_id: str | None, blob: LayerBlob, sources: Iterable[dict[str, Any]] = ()
    ) -> LayerInfo:
        """Note a packed form (which may not be in the content store yet) and where it comes from."""
        more = tuple(sources)

        def change(info: LayerInfo) -> LayerInfo:
            if diff_id is not None and info.diff_id is not None and diff_id != info.diff_id:
                if os.path.isdir(self.dir(layer_id)) or layer_id.startswith("p"):
                    raise StoreError(
                        f"layer {layer_id} has diffID {info.diff_id}, not {diff_id}: it was changed on disk",
                        hint="`lapstrake fsck --repair` removes what is damaged",
                    )
                info = LayerInfo(layer_id)  # made anew: what was known is about other bytes
            blobs = (*(b for b in info.blobs if b.digest != blob.digest), blob)
            known = (*info.sources, *(s for s in more if s not in info.sources))
            return replace(info, diff_id=info.diff_id or diff_id, blobs=blobs, sources=known)

        return self.update(layer_id, change)

    # -- deleting --------------------------------------------------------------------------

    def remove(self, layer_id: str) -> None:
        """Forget a layer: out of sight at once, deleted by :meth:`sweep`.  Blobs stay."""
        self.index.delete(NAMESPACE, layer_id)
        self._discard(self._home(layer_id))

    def remove_dir(self, layer_id: str) -> None:
        """Let go of a layer's directory alone: what is known stays, and it can be extracted again."""
        self._discard(self._home(layer_id))

    def forget(self, layer_id: str) -> None:
        """Drop what is known of a layer unless it has come back meanwhile."""
        if not os.path.isdir(self.dir(layer_id)):
            self.index.update(
                NAMESPACE,
                layer_id,
                lambda old: old if old and self._present(LayerInfo.from_bytes(old)) else None,
            )

    def sweep(self, stop: Callable[[], bool] | None = None) -> int:
        """Delete the trash and what killed processes left; how many trees.  Not in a build's path.

        Safe beside any number of builds.  ``stop`` is asked now and then; what is left waits for the
        next time."""
        for name in self.leftovers():
            lock = self.locks.try_hold(f"active-{name}")
            if lock is not None:
                with lock:
                    self._discard(f"{self.root}/active/{name}")
        done = 0
        for name in _names(f"{self.root}/trash"):
            if stop is not None and stop():
                break
            lock = self.locks.try_hold(f"trash-{name}")
            if lock is None:
                continue
            with lock:
                self._remove(f"{self.root}/trash/{name}", stop)
            done += 1
        return done

    def leftovers(self) -> list[str]:
        """Scratch directories whose owner is gone."""
        return [n for n in _names(f"{self.root}/active") if not self.locks.held(f"active-{n}")]

    def _keep(self, layer_id: str) -> None:
        if self.lease is not None:
            self.lease.add(layer_id)

    def discard(self, path: str) -> None:
        """Make a tree of ours disappear; the deleting happens in ``sweep``."""
        self._discard(path)

    def _discard(self, path: str) -> None:
        trash = f"{self.root}/trash"
        target = f"{trash}/{os.urandom(12).hex()}"
        try:
            os.rename(path, target)
        except FileNotFoundError:
            if not os.path.lexists(path):
                return
            os.makedirs(trash, mode=0o700, exist_ok=True)
            os.rename(path, target)

    def _home(self, layer_id: str) -> str:
        if not 0 < len(layer_id) <= 200 or not _SAFE.issuperset(layer_id) or layer_id[0] == ".":
            raise StoreError(f"not a layer id: {layer_id[:210]!r}")
        return f"{self.root}/layers/{layer_id.replace(':', '-')}"  # a colon would split a lowerdir list

    def _present(self, info: LayerInfo) -> LayerBlob | None:
        for blob in info.blobs:
            if self.content.has(blob.digest, blob.size):
                return blob
        return None


def _names(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []
