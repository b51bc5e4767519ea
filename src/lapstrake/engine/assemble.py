"""Layers to blobs, image states to images: the last part of a build, without an export phase.

Layers of the result are packed in the background as soon as their step ends; here the rest is done
and everything is joined.
"""

from __future__ import annotations

import threading

from ..errors import ExportError
from ..oci.descriptor import Descriptor, layer_media_type
from ..solver.ports import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..export.base import BuiltImage
    from ..export.options import FormOptions
    from ..plan.lower import Plan
    from ..tree import Entry
    from ..worker.local import LocalWorker


class Packer:
    """Gives each layer a blob, at most two at a time, each layer once."""

    def __init__(self, worker: LocalWorker, form: FormOptions) -> None:
        self.worker = worker
        self.form = form
        self.slots = threading.Semaphore(2)
        self.threads: dict[str, threading.Thread] = {}
        self.errors: dict[str, BaseException] = {}

    def start(self, layer: str) -> None:
        """Pack ``layer`` in the background."""
        if layer in self.threads or self._have(layer) is not None:
            return

        def work() -> None:
            try:
                with self.slots:
                    self.pack(layer)
            except BaseException as exc:
                self.errors[layer] = exc

        thread = self.threads[layer] = threading.Thread(target=work, name=f"pack {layer[:12]}", daemon=True)
        thread.start()

    def blob(self, layer: str) -> tuple[str, Descriptor]:
        """(diffID, descriptor) of a layer, packing it now if nobody did."""
        thread = self.threads.get(layer)
        if thread is not None:
            thread.join()
        if layer in self.errors:
            raise self.errors[layer]
        found = self._have(layer)
        if found is None:
            self.pack(layer)
            found = self._have(layer)
        if found is None:
            raise ExportError(f"layer {layer} has no content")
        return found

    def _have(self, layer: str) -> tuple[str, Descriptor] | None:
        pulled = self.worker.p.images.pull_info(layer) if layer.startswith("p") else None
        if pulled is not None and not self.form.force_compression:
            return str(pulled["diff_id"]), Descriptor(
                pulled["mediaType"], pulled["digest"], int(pulled["size"])
            )
        info = self.worker.p.layers.info(self._name(layer))
        if info is None or not info.diff_id:
            return None
        for blob in info.blobs:
            if (
                blob.compression == self.form.compression
                and blob.level == self.form.level
                and self.worker.p.content.has(blob.digest)
            ):
                return info.diff_id, Descriptor(blob.media_type, blob.digest, blob.size)
        return None

    def _epoch(self) -> int | None:
        return self.form.epoch if self.form.rewrite_timestamp else None

    def _name(self, layer: str) -> str:
        """A layer with rewritten times is another layer: it has its own name and diffID."""
        epoch = self._epoch()
        return layer if epoch is None else f"{layer}-t{epoch}"

    def pack(self, layer: str) -> None:
        """Write one layer's blob and register it."""
        from ..layer.compress import pack
        from ..store.layers import LayerBlob

        worker, form = self.worker, self.form
        entries: Iterable[Entry] | None = worker.pending.get(layer)
        if entries is None or worker.p.layers.has_dir(layer):
            from ..layer.diff import changes

            entries = changes(worker.ensure_dir(layer))
        with worker.p.content.writer() as out:
            result = pack(entries, out, form.compression, form.level, self._epoch())
        blob = LayerBlob(
            layer_media_type(form.compression), result.digest, result.size, form.compression, form.level
        )
        worker.p.layers.register_blob(self._name(layer), result.diff_id, blob)

    def join(self) -> None:
        """Wait for the background work."""
        for thread in self.threads.values():
            thread.join()


def rfc3339(seconds: float) -> str:
    """UTC, nanoseconds only when there are any."""
    import time

    whole = int(seconds)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    nanos = round((seconds - whole) * 1e9)
    return f"{text}.{nanos:09d}".rstrip("0") + "Z" if nanos else text + "Z"


def finish_config(plan: Plan, diff_ids: list[str], times: list[float], epoch: int | None) -> dict[str, Any]:
    """The complete image config: diffIDs, history times, ``created`` (spec dockerfile.md §15)."""
    config = dict(plan.image.config)
    config["config"] = {k: v for k, v in plan.image.c.items() if v not in (None, [], {}, "")}
    if plan.image.c.get("Cmd") == []:
        config["config"]["Cmd"] = []
    config["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    history = []
    own = [
        h
        for h in config.get("history", [])
        if h.get("comment") == "buildkit.dockerfile.v0" and "created" not in h
    ]
    pending = list(times)
    current = pending[0] if pending else float(epoch or 0)
    for entry in config.get("history", []):
        if not any(entry is o for o in own):
            history.append(entry)
            continue
        if not entry.get("empty_layer") and pending:
            current = pending.pop(0)
        stamp = min(current, epoch) if epoch is not None else current
        history.append({"created": rfc3339(stamp), **entry})
    config["history"] = history
    created = (
        rfc3339(epoch)
        if epoch is not None
        else next((h["created"] for h in reversed(history) if h.get("created")), None)
    )
    if created:
        config["created"] = created
    return config


def assemble(
    plan: Plan, record: Record | None, records: dict[str, Record], packer: Packer, epoch: int | None
) -> BuiltImage:
    """One platform's image from its plan and result."""
    from ..export.join import assemble_image

    layers = record.layers if record is not None else ()
    if plan.target is None:
        layers = ()
    for layer in layers:
        if not layer.startswith("p"):
            packer.start(layer)
    blobs = [packer.blob(x) for x in layers]
    diff_ids = [d for d, _ in blobs]
    times = [records[v.digest].created if v.digest in records else 0.0 for v in plan.layer_vertices]
    config = finish_config(plan, diff_ids, times, epoch)
    form = packer.form
    wanted = str(plan.platform)
    notes = [a for a in form.annotations if not a.platform or a.platform == wanted]
    image = assemble_image(
        config, [b for _, b in blobs], oci=form.oci,
        annotations=[(a.key, a.value) for a in notes if a.level == "manifest"],
        descriptor_annotations=[(a.key, a.value) for a in notes if a.level == "manifest-descriptor"],
    )  # fmt: skip
    lazy = []
    for layer in layers:
        info = packer.worker.p.images.pull_info(layer) if layer.startswith("p") else None
        if info is not None:
            lazy.append((str(info["digest"]), str(info["ref"])))
    from ..values import replace

    return replace(image, lazy_sources=tuple(lazy))
