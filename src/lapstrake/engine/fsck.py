"""``fsck``: whether everything the store holds is what it says it is.

Reads every blob, every layer that can be compared with something, the index and the images, and looks
for what killed processes left.  Safe beside running builds; only ``repair`` changes anything, and what
it removes is made or fetched anew by the next build that needs it.
"""

from __future__ import annotations

import os

from ..errors import BuildError, StoreError
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import Settings
    from ..store.layers import LayerInfo


class Problem(Value):
    """Something wrong.  ``kind``: blob, layer, index, image, leftover."""

    kind: str
    id: str
    message: str
    repaired: bool = False


class Report(Value):
    """What was looked at and what was found."""

    blobs: int
    layers: int
    unverified: int  # layers whose content nothing is known to compare with
    records: int
    images: int
    problems: tuple[Problem, ...]


def fsck(settings: Settings, *, repair: bool = False) -> Report:
    """Check the store under ``settings.root``."""
    check = _Check(settings.root, repair)
    try:
        return check.run()
    finally:
        check.close()


class _Check:
    def __init__(self, root: str, repair: bool) -> None:
        from ..store.content import ContentStore
        from ..store.index import Index
        from ..store.layers import LayerStore
        from .engine import unpack

        self.root = root
        self.repair = repair
        self.problems: list[Problem] = []
        self.content = ContentStore(root)
        self.index = Index(root, restart=False)
        self.layers = LayerStore(root, self.content, self.index, unpack=unpack)
        self.unverified = 0

    def close(self) -> None:
        self.index.close()

    def run(self) -> Report:
        whole = self._index()
        digests = self.content.digests()
        for digest in digests:
            self._blob(digest)
        names = _names(f"{self.root}/layers")
        for name in names:
            self._layer(name)
        images = self._images() if whole else 0
        self._leftovers()
        records = len(self.index.records()) if whole else 0
        return Report(len(digests), len(names), self.unverified, records, images, tuple(self.problems))

    def _found(self, kind: str, ident: str, message: str, mend: Callable[[], object] | None = None) -> None:
        repaired = False
        if self.repair and mend is not None:
            mend()
            repaired = True
        self.problems.append(Problem(kind, ident, message, repaired))

    # -- index -----------------------------------------------------------------------------

    def _index(self) -> bool:
        try:
            for line in self.index.integrity():
                self._found("index", self.index.path, line, self.index.set_aside)
                return False
            self.index.records()
            self.layers.infos()
        except StoreError as e:
            self._found("index", self.index.path, e.message, self.index.set_aside)
            return self.repair
        except (ValueError, KeyError, TypeError) as e:
            self._found("index", self.index.path, f"a record can't be read: {e}", self.index.set_aside)
            return self.repair
        return True

    # -- blobs -----------------------------------------------------------------------------

    def _blob(self, digest: str) -> None:
        try:
            good = self.content.verify(digest)
        except StoreError:
            return  # pruned meanwhile
        if not good:
            self._found("blob", digest, "its content has another digest", lambda: self.content.delete(digest))

    # -- layers ----------------------------------------------------------------------------

    def _layer(self, name: str) -> None:
        home = f"{self.root}/layers/{name}"
        if not os.path.isdir(f"{home}/diff"):
            if os.path.isdir(home):
                self._found("leftover", name, "a layer without content", lambda: self.layers.remove(name))
            return
        try:
            info = self.layers.info(name)
            message = self._compare(name, info)
        except (BuildError, OSError) as e:
            message = e.message if isinstance(e, BuildError) else str(e)
        if message and os.path.isdir(f"{home}/diff"):
            self._found("layer", name, message, lambda: self.layers.remove(name))

    def _compare(self, name: str, info: LayerInfo | None) -> str:
        """What is wrong with a layer's directory; empty when nothing is, or nothing can be known."""
        path = self.layers.dir(name)
        if info is None or info.diff_id is None:
            diff_id_of(path)  # readable at least
            self.unverified += 1
            return ""
        if name[0] not in "pr":
            found = diff_id_of(path)
            return "" if found == info.diff_id else f"its files make diffID {found}, not {info.diff_id}"
        blob = next((b for b in info.blobs if self.content.has(b.digest)), None)
        if blob is None or not os.access(self.root, os.W_OK):  # compared with a second extraction
            self.unverified += 1
            return ""
        with self.layers.new_active() as active:
            with self.content.open(blob.digest) as f:
                from ..layer.unpack import unpack

                unpack(f, blob.media_type, active.upper, info.diff_id)
            same = diff_id_of(active.upper) == diff_id_of(path)
        return "" if same else "its files differ from the blob it was extracted from"

    # -- images ----------------------------------------------------------------------------

    def _images(self) -> int:
        from ..export.store import NAMESPACE, decode

        rows = self.index.items(NAMESPACE)
        for name, raw in rows:
            try:
                missing = self._missing(decode(name, raw))
            except BuildError as e:
                missing = e.message
            if missing:
                self._found("image", name, missing, lambda name=name: self.index.delete(NAMESPACE, name))  # type: ignore[misc]
        return len(rows)

    def _missing(self, image: object) -> str:
        from ..export.base import walk
        from ..export.store import StoredImage

        if not isinstance(image, StoredImage):
            return ""
        sources = dict(image.sources)
        for desc, raw in walk(image.descriptor, self.content):
            if raw is None and not self.content.has(desc.digest) and desc.digest not in sources:
                return f"{desc.digest} is missing"
        return ""

    # -- leftovers -------------------------------------------------------------------------

    def _leftovers(self) -> None:
        from ..store.lease import dead
        from .tidy import probes, sweep_leases, sweep_probes

        for path in self.content.leftovers():
            self._found("leftover", path, "an unfinished blob", self.content.sweep)
        for name in self.layers.leftovers():
            self._found("leftover", f"{self.root}/active/{name}", "a scratch directory", self.layers.sweep)
        for name in self.layers.locks.leftovers():
            self._found(
                "leftover", f"{self.root}/locks/{name}", "a lock nobody holds", self.layers.locks.sweep
            )
        for path in dead(self.root):
            self._found("leftover", path, "a lease nobody holds", lambda: sweep_leases(self.root))
        for path in probes(self.root) if os.path.isdir(self.root) else []:
            self._found("leftover", path, "a test of overlayfs", lambda: sweep_probes(self.root))


def diff_id_of(path: str) -> str:
    """What a layer directory's files make; reads them all."""
    from hashlib import sha256

    from ..layer.diff import changes
    from ..layer.tar import write

    found = sha256()
    write(changes(path), found.update)
    return f"sha256:{found.hexdigest()}"


def _names(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []
