"""Layers to blobs: packed in the background as soon as their step ends, each once for each form.

A layer's blob depends on more than the layer: its compression, the epoch its times are clamped to,
the layers it is merged with, whether Windows reads it.  Each such variant has a name of its own in
the store, because its diffID may be another one; what only compresses differently shares the name.
"""

from __future__ import annotations

import threading

from ..errors import ExportError
from ..oci.descriptor import Descriptor, compression_of, layer_media_type
from ..store.layers import LayerBlob
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from ..export.options import FormOptions
    from ..tree import Entry
    from ..worker.local import LocalWorker


class PackForm(Value):
    """What the bytes of a layer depend on.  ``epoch``: times are clamped to it, or with ``exact`` set to
    it; ``zstd``: allowed at all."""

    compression: str = "gzip"
    level: int | None = None
    force: bool = False
    epoch: int | None = None
    zstd: bool = True
    exact: bool = False


def pack_form(form: FormOptions) -> PackForm:
    """The part of an image's form that its layers depend on."""
    epoch = form.epoch if form.rewrite_timestamp else None
    return PackForm(
        form.compression, form.level, form.force_compression, epoch, form.oci, form.exact_timestamp
    )


class Blob(Value):
    """A layer as an image refers to it.  ``source``: the repository a lazy one can be had from."""

    diff_id: str
    descriptor: Descriptor
    source: str = ""


class Group(Value):
    """Layers that become one blob, lowest first.  ``bottom``: nothing lies below them."""

    layers: tuple[str, ...]
    bottom: bool = False
    windows: bool = False

    @property
    def name(self) -> str:
        """The store's name of the merged layer; of a single one its own."""
        if len(self.layers) == 1:
            base = self.layers[0]
        else:
            from hashlib import sha256

            text = "\0".join(("merge.v1", str(self.bottom), *self.layers))
            base = "m" + sha256(text.encode()).hexdigest()[:47]
        return f"{base}-w" if self.windows else base


class Packer:
    """Gives each group of layers a blob, at most two at a time."""

    def __init__(self, worker: LocalWorker, form: PackForm) -> None:
        self.worker = worker
        self.form = form
        self.slots = threading.Semaphore(2)
        self.threads: dict[str, threading.Thread] = {}
        self.errors: dict[str, BaseException] = {}

    def start(self, group: Group) -> None:
        """Pack in the background, unless that was done before."""
        name = group.name
        if name in self.threads or self._have(group) is not None:
            return

        def work() -> None:
            try:
                with self.slots:
                    self._pack(group)
            except BaseException as exc:  # raised again where the blob is asked for
                self.errors[name] = exc

        thread = self.threads[name] = threading.Thread(target=work, name=f"pack {name[:12]}", daemon=True)
        thread.start()

    def blob(self, group: Group) -> Blob:
        """The group's blob, packed now if nobody did."""
        thread = self.threads.get(group.name)
        if thread is not None:
            thread.join()
        if group.name in self.errors:
            raise self.errors[group.name]
        found = self._have(group)
        if found is None:
            self._pack(group)
            found = self._have(group)
        if found is None:
            raise ExportError(f"layer {group.name} has no content")
        if group.layers[0][0] == "r" and not found.source:
            self.worker.fetch(group.layers[0])  # in a cache that is no registry: nobody else can get at it
        return found

    def join(self) -> None:
        """Wait for the background work."""
        for thread in self.threads.values():
            thread.join()

    # -- what is there already --------------------------------------------------

    def _pulled(self, group: Group) -> dict[str, Any] | None:
        """Where a layer of a base image comes from; those stay as they are, whatever their platform."""
        if len(group.layers) != 1 or group.layers[0][0] not in "pr":
            return None
        layer = group.layers[0]
        if layer[0] == "r" and (group.windows or self.form.epoch is not None):
            return None  # a step's layer, though from a cache: it is changed like any other
        info = self.worker.p.images.pull_info(layer)
        if info is not None and layer[0] == "r":
            self.worker.p.images.borrowed[str(info["digest"])] = layer
        return info

    def _recompressed(self, media_type: str) -> bool:
        """Whether a base's layer of this type must be packed again."""
        form = self.form
        kind = compression_of(media_type)
        if form.force:
            return form.level is not None or form.compression == "estargz" or kind != form.compression
        return kind == "zstd" and not form.zstd

    def _have(self, group: Group) -> Blob | None:
        pulled = self._pulled(group)
        if pulled is not None and not self._recompressed(pulled["mediaType"]):
            desc = Descriptor(pulled["mediaType"], pulled["digest"], int(pulled["size"]))
            self.worker.p.content.has(desc.digest, desc.size)  # a copy cut short goes: it is fetched anew
            return Blob(str(pulled["diff_id"]), desc, str(pulled["ref"]))
        info = self.worker.p.layers.info(self._name(group, pulled))
        if info is None or not info.diff_id:
            return None
        form = self.form
        for blob in info.blobs:
            if (
                blob.compression == form.compression
                and blob.level == form.level
                and self.worker.p.content.has(blob.digest, blob.size)
            ):
                return Blob(
                    info.diff_id, Descriptor(blob.media_type, blob.digest, blob.size, None, blob.annotations)
                )
        return None

    def _name(self, group: Group, pulled: object = None) -> str:
        """The name of the variant that is wanted."""
        name = group.name
        if pulled is None and self.form.epoch is not None:
            name += f"-{'x' if self.form.exact else 't'}{self.form.epoch}"
        return name + ("-e" if self.form.compression == "estargz" else "")

    # -- packing ----------------------------------------------------------------

    def _pack(self, group: Group) -> None:
        """Write one blob and register it."""
        worker, form = self.worker, self.form
        pulled = self._pulled(group)
        name = self._name(group, pulled)
        if pulled is not None:
            worker.p.images.fetch_layer(group.layers[0])
            self._from_blob(name, str(pulled["digest"]), str(pulled["diff_id"]))
            return
        info = worker.p.layers.info(name.removesuffix("-e"))
        if info is not None and info.diff_id:
            for blob in info.blobs:
                if worker.p.content.has(blob.digest, blob.size):
                    self._from_blob(name, blob.digest, info.diff_id)
                    return
        from ..layer.compress import pack

        entries = self._entries(group)
        with worker.p.content.writer() as out:
            if form.compression == "estargz":
                from ..layer.estargz import pack_estargz

                result = pack_estargz(entries, out, form.level, form.epoch, clamp=not form.exact)
            else:
                result = pack(entries, out, form.compression, form.level, form.epoch, clamp=not form.exact)
        self._register(name, result)

    def _from_blob(self, name: str, digest: str, diff_id: str) -> None:
        """The same tar compressed another way: the diffID stays."""
        from ..layer.compress import repack

        form, content = self.form, self.worker.p.content
        with content.open(digest) as src, content.writer() as out:
            if form.compression == "estargz":
                from ..layer.estargz import repack_estargz

                result = repack_estargz(src, out, form.level, diff_id)
            else:
                result = repack(src, out, form.compression, form.level, diff_id)
        self._register(name, result)

    def _register(self, name: str, result: Any) -> None:
        form = self.form
        blob = LayerBlob(
            layer_media_type(form.compression), result.digest, result.size, form.compression, form.level,
            tuple(result.annotations),
        )  # fmt: skip
        self.worker.p.layers.register_blob(name, result.diff_id, blob)

    def _entries(self, group: Group) -> Iterable[Entry]:
        if len(group.layers) == 1:
            entries = self._layer_entries(group.layers[0])
        else:
            from ..layer.merge import merge

            entries = merge([self._layer_entries(x) for x in group.layers], whiteouts=not group.bottom)
        if group.windows:
            from ..layer.windows import windows_entries

            entries = windows_entries(entries)
        return entries

    def _layer_entries(self, layer: str) -> Iterable[Entry]:
        entries = self.worker.pending.get(layer)
        if entries is not None and not self.worker.p.layers.has_dir(layer):
            return entries
        from ..layer.diff import changes

        return changes(self.worker.ensure_dir(layer))


def groups(
    layers: Sequence[str], base: int, stages: Sequence[str], how: str, *, windows: bool = False
) -> list[Group]:
    """Which layers become one.

    ``base``: how many belong to the base image; ``stages``: of each further layer the stage that made it.
    ``how``: all | stage | squash | squash-above-base | a number, the most layers there may be (the last
    one takes the rest).
    """
    if how == "all" or len(layers) < 2:
        cuts = list(range(len(layers)))
    elif how == "squash":
        cuts = [0]
    elif how == "squash-above-base":
        cuts = list(range(min(base + 1, len(layers))))
    elif how == "stage":
        cuts = [n for n in range(len(layers)) if n <= base or stages[n - base] != stages[n - base - 1]]
    else:
        cuts = list(range(min(int(how), len(layers))))
    ends = [*cuts[1:], len(layers)] if cuts else []
    return [Group(tuple(layers[a:b]), a == 0, windows) for a, b in zip(cuts, ends, strict=True)]
