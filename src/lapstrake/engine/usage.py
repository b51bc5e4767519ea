"""What the store takes on disk, a row for each thing that can go on its own (spec cli.md §4).

The rows add up to what ``du -s`` says of the root: whatever is no layer, blob or cache mount is one
row of its own that can't be removed.
"""

from __future__ import annotations

import os

from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..store.content import ContentStore
    from ..store.index import Index
    from ..store.layers import LayerInfo

LAYER, BLOB, MOUNT, STAT, TREE = "layer", "blob", "mount", "stat", "tree"
SIZES = "du"  # the index's namespace of measured layer directories, which never change
_DOCUMENT = 4 << 20


class Part(Value):
    """Something on disk.  ``kind``: layer (a directory), blob, mount, stat (a context's stat cache), tree."""

    kind: str
    name: str
    size: int


class Usage(Value):
    """One row.  Sizes in bytes on disk, times in seconds since the epoch (0: unknown).

    ``type``: BuildKit's record types.  ``shared``: an image of the local store needs it too.
    ``in_use``: by a build that runs now.  ``parents``: the row it was made on."""

    id: str
    type: str
    description: str
    parts: tuple[Part, ...] = ()
    created: float = 0.0
    last_used: float = 0.0
    count: int = 0
    in_use: bool = False
    shared: bool = False
    mutable: bool = False
    removable: bool = True
    parents: tuple[str, ...] = ()
    depth: int = 0  # layers below it

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(p.size for p in self.parts)

    @property
    def reclaimable(self) -> bool:
        """Whether a prune may remove it now."""
        return self.removable and not self.in_use


class _Step(Value):
    """What the cache records say of a layer."""

    name: str
    created: float
    last_used: float
    count: int
    parents: tuple[str, ...]
    depth: int


def tree_size(path: str) -> int:
    """Bytes on disk below ``path``, hard links once, as ``du -s`` counts them."""
    total = 0
    seen: set[tuple[int, int]] = set()
    stack = [path]
    while stack:
        here = stack.pop()
        try:
            total += os.lstat(here).st_blocks * 512
            with os.scandir(here) as entries:
                for entry in entries:
                    st = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
                        continue
                    if st.st_nlink > 1:
                        if (st.st_dev, st.st_ino) in seen:
                            continue
                        seen.add((st.st_dev, st.st_ino))
                    total += st.st_blocks * 512
        except OSError:
            continue
    return total


class Survey:
    """Looks at a store once.  Opens nothing that it isn't given, changes nothing but measured sizes."""

    def __init__(self, root: str, content: ContentStore, index: Index) -> None:
        self.root = root
        self.content = content
        self.index = index
        self._children: dict[str, tuple[str, ...]] = {}

    # -- what must stay --------------------------------------------------------------------

    def held(self) -> dict[str, str]:
        """Blobs that images of the local store need: digest -> an image's name."""
        import json

        held: dict[str, str] = {}
        for name, raw in self.index.items("image"):
            try:
                value = json.loads(raw)
                stack = [str(value.get("descriptor", value)["digest"])]
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # a damaged record; fsck tells
            while stack:
                digest = stack.pop()
                if digest not in held:
                    held[digest] = name
                    stack += self._below(digest)
        return held

    def _below(self, digest: str) -> tuple[str, ...]:
        found = self._children.get(digest)
        if found is None:
            found = self._children[digest] = tuple(_children(self.content, digest))
        return found

    # -- rows ------------------------------------------------------------------------------

    def rows(self) -> list[Usage]:
        """Everything, largest first."""
        from ..store.lease import in_use

        used = in_use(self.root)
        held = self.held()
        blobs = self._blobs()
        rows = self._layers(used, held, blobs)
        rows += [self._blob(d, size, used, held) for d, size in blobs.items()]
        rows += self._mounts()
        rows += self._contexts()
        rows += self._rest(sum(r.size for r in rows))
        return sorted(rows, key=lambda r: (-r.size, r.id))

    def total(self) -> int:
        """Bytes on disk, quickly: measured layers are not walked again."""
        return sum(r.size for r in self.rows())

    def _blobs(self) -> dict[str, int]:
        out = {}
        for algorithm in ("sha256", "sha512"):
            try:
                with os.scandir(f"{self.root}/blobs/{algorithm}") as entries:
                    for e in entries:
                        out[f"{algorithm}:{e.name}"] = e.stat(follow_symlinks=False).st_blocks * 512
            except OSError:
                continue
        return out

    def _layers(self, used: frozenset[str], held: dict[str, str], blobs: dict[str, int]) -> list[Usage]:
        """A row for each layer: its directory and those of its blobs no image needs (taken from ``blobs``)."""
        from ..store.layers import NAMESPACE, LayerInfo

        steps = self._steps()
        infos: dict[str, LayerInfo] = {}
        for key, raw in self.index.items(NAMESPACE):
            infos[key] = LayerInfo.from_bytes(raw)
        sizes = self._sizes()
        rows = []
        for name in sorted({*sizes, *infos}):
            info = infos.get(name)
            parts = [Part(LAYER, name, sizes[name])] if name in sizes else []
            shared = False
            for blob in info.blobs if info is not None else ():
                if blob.digest in held:
                    shared = True
                elif blob.digest in blobs:
                    parts.append(Part(BLOB, blob.digest, blobs.pop(blob.digest)))
            if parts:
                rows.append(self._layer(name, tuple(parts), steps, shared=shared, used=used))
        return rows

    def _layer(
        self,
        name: str,
        parts: tuple[Part, ...],
        steps: dict[str, _Step],
        *,
        shared: bool,
        used: frozenset[str],
    ) -> Usage:
        step = steps.get(name) or steps.get(name.partition("-t")[0])
        try:
            made = os.lstat(f"{self.root}/layers/{name}").st_mtime
        except OSError:
            made = 0.0
        in_use = any(p.name in used for p in parts) or name in used
        if step is None:
            return Usage(name, "regular", self._pulled(name), parts, made, made, in_use=in_use, shared=shared)
        about = self._pulled(name) if name.startswith("p") else step.name
        return Usage(
            name, "regular", about, parts, step.created, step.last_used, step.count, in_use, shared,
            parents=step.parents, depth=step.depth,
        )  # fmt: skip

    def _pulled(self, name: str) -> str:
        import json

        raw = self.index.get("pull", name) if name.startswith("p") else None
        return f"pulled from {json.loads(raw)['ref']}" if raw else ""

    def _steps(self) -> dict[str, _Step]:
        out: dict[str, _Step] = {}
        for _, value, created, last_used, hits in self.index.records():
            layers = [str(x) for x in value.get("layers") or ()]
            own = range(len(layers)) if value.get("op") == "SourceOp" else range(len(layers) - 1, len(layers))
            for i in own:
                if i < 0:
                    continue
                old = out.get(layers[i])
                if old is None or old.last_used < last_used:
                    below = tuple(layers[i - 1 : i])
                    out[layers[i]] = _Step(str(value.get("name", "")), created, last_used, hits, below, i)
        return out

    def _sizes(self) -> dict[str, int]:
        known = {k: int(v) for k, v in self.index.items(SIZES)}
        try:
            names = os.listdir(f"{self.root}/layers")
        except FileNotFoundError:
            names = []
        new = {n: tree_size(f"{self.root}/layers/{n}") for n in names if n not in known}
        if new:
            try:
                self.index.put_many(SIZES, [(n, str(size).encode()) for n, size in new.items()])
            except Exception:  # a store that can't be written can still be looked at
                known = {}
        return {n: new.get(n, known.get(n, 0)) for n in names}

    def _blob(self, digest: str, size: int, used: frozenset[str], held: dict[str, str]) -> Usage:
        path = self.content.path(digest)
        try:
            when = os.lstat(path).st_mtime
        except OSError:
            when = 0.0
        document = _is_document(path)
        owner = held.get(digest)
        what = "metadata" if document else "a layer"
        about = f"{what} of {owner}" if owner else f"{what} of no image here"
        return Usage(
            digest, "internal" if document else "regular", about, (Part(BLOB, digest, size),), when, when,
            in_use=digest in used, shared=owner is not None, removable=owner is None,
        )  # fmt: skip

    def _mounts(self) -> list[Usage]:
        from ..store import cachemounts

        return [
            Usage(
                m.name,
                "exec.cachemount",
                f"cached mount {m.target} with id {m.id!r}",
                (Part(MOUNT, m.name, tree_size(m.path)),),
                m.created,
                m.last_used,
                in_use=m.in_use,
                mutable=True,
            )
            for m in cachemounts.listing(self.root)
        ]

    def _contexts(self) -> list[Usage]:
        from hashlib import sha256

        return [
            Usage(
                sha256(root.encode()).hexdigest()[:25],
                "source.local",
                f"what was hashed of {root}",
                (Part(STAT, root, len(data)),),
            )
            for root, data in self.index.items("stat")
        ]

    def _rest(self, known: int) -> list[Usage]:
        rows = []
        for name, about in (("trash", "waits for deletion"), ("active", "scratch of running builds")):
            path = f"{self.root}/{name}"
            size = tree_size(path) - _own(path)
            if size > 0:
                rows.append(
                    Usage(name, "internal", about, (Part(TREE, name, size),), removable=name == "trash")
                )
        known += sum(r.size for r in rows)
        contexts = sum(p.size for r in self._contexts() for p in r.parts)  # they are kept in the index
        self.index.close()  # SQLite's own working files go with its last user
        other = self._bookkeeping() - contexts
        return [
            *rows,
            Usage(
                "index",
                "internal",
                "index, history and bookkeeping",
                (Part(TREE, "", other),),
                removable=False,
            ),
        ]

    def _bookkeeping(self) -> int:
        """Files and directories of the root that belong to no other row."""
        total = _own(self.root)
        deep = {"layers", "blobs", "trash", "active", "cachemounts"}
        try:
            with os.scandir(self.root) as entries:
                found = [(e.name, e.path, e.is_dir(follow_symlinks=False)) for e in entries]
        except OSError:
            return total
        for name, path, is_dir in found:
            if not is_dir or name in deep:
                total += _own(path)
            else:
                total += tree_size(path)
        for path in (f"{self.root}/blobs/sha256", f"{self.root}/blobs/sha512"):
            total += _own(path)
        from ..store import cachemounts

        return total + cachemounts.bookkeeping(self.root)


def _own(path: str) -> int:
    try:
        return os.lstat(path).st_blocks * 512
    except OSError:
        return 0


def _is_document(path: str) -> bool:
    try:
        with open(path, "rb") as f:
            return f.read(1) == b"{"
    except OSError:
        return False


def _children(content: ContentStore, digest: str) -> Iterable[str]:
    """What a manifest or index refers to; nothing for anything else."""
    import json

    path = content.path(digest)
    try:
        if os.stat(path).st_size > _DOCUMENT or not _is_document(path):
            return
        with open(path, "rb") as f:
            document = json.load(f)
    except (OSError, ValueError):
        return
    for child in (
        *(document.get("manifests") or ()),
        *(document.get("layers") or ()),
        document.get("config"),
        document.get("subject"),
    ):
        if isinstance(child, dict) and isinstance(child.get("digest"), str):
            yield child["digest"]
