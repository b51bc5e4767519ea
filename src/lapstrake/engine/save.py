"""Writing caches outside the store: each step as soon as it is finished, in the background.

A record is put only after its layers, so whatever ends the build, what was written is whole.  There
is nothing to do at the end but wait for the last step's upload and name the list of what was written.
"""

from __future__ import annotations

import queue
import threading

from ..errors import BuildError, CacheError, Cancelled
from ..events import Warned
from ..graph.ops import SourceOp
from ..oci.descriptor import Descriptor
from ..values import Value
from .remote import platform_of
from .steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, BinaryIO

    from ..events import EventSink
    from ..graph.vertex import Vertex
    from ..remotecache.base import CacheForm, Sink
    from ..remotecache.record import RemoteLayer, RemoteRecord
    from ..solver.ports import Record
    from ..worker.local import LocalWorker
    from .pack import Packer

THREADS = 3
MAX_ERRORS = 3
_NAMES = {"registry": "registry", "local": "client directory", "s3": "Amazon S3"}


class _Job(Value):
    vertex: Vertex
    record: Record
    keys: tuple[str, ...]


class Target:
    """One ``--cache-to``: where it goes, which steps it takes, what became of it."""

    def __init__(self, kind: str, sink: Sink, form: CacheForm, packer: Packer, wanted: set[str]) -> None:
        self.kind = kind
        self.sink = sink
        self.form = form
        self.packer = packer
        self.wanted = wanted
        self.records: dict[str, RemoteRecord] = {}
        self.errors: list[BaseException] = []
        self.uploaded = 0
        self.written = 0
        self.guard = threading.Lock()
        self.blobs: dict[str, threading.Lock] = {}
        self.sent: set[str] = set()

    @property
    def dead(self) -> bool:
        """Whether it failed too often to go on."""
        return len(self.errors) >= MAX_ERRORS


class Saver:
    """All the caches a run writes."""

    def __init__(self, targets: Sequence[Target], worker: LocalWorker, emit: EventSink) -> None:
        self.targets = targets
        self.worker = worker
        self.emit = emit
        self._queue: queue.SimpleQueue[tuple[Target, _Job] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._seen: set[tuple[int, str]] = set()
        self._dropped = False

    def add(self, vertex: Vertex, record: Record, keys: tuple[str, ...]) -> None:
        """A step's result is known: write it where it is wanted."""
        if isinstance(vertex.op, SourceOp):
            return
        for n, target in enumerate(self.targets):
            if vertex.digest in target.wanted and (n, record.identity) not in self._seen:
                self._seen.add((n, record.identity))
                self._start()
                self._queue.put((target, _Job(vertex, record, keys)))

    def finish(self) -> dict[str, Any]:
        """Wait, then name what was written; gives the metadata.  Raises CacheError of a failed export."""
        self.join()
        if self._dropped:
            raise Cancelled("the build was cancelled")
        metadata: dict[str, Any] = {}
        failed: CacheError | None = None
        for target in self.targets:
            try:
                with Step(self.emit, f"exporting cache to {_NAMES.get(target.kind, target.kind)}") as step:
                    self._finish_one(target, metadata)
                    text = f"{len(target.records)} records ({target.written} new), {target.uploaded} bytes uploaded"
                    step.status(text)
            except CacheError as e:
                if target.form.ignore_error:
                    self.emit(Warned("", f"{e.message} (ignored)"))
                else:
                    failed = failed or e
        if failed is not None:
            raise failed
        return metadata

    def _finish_one(self, target: Target, metadata: dict[str, Any]) -> None:
        error: BaseException | None = target.errors[0] if target.errors else None
        if error is None:
            try:
                told = target.sink.finish(target.records.values())
                if told:
                    metadata["cache.manifest"] = told
            except Cancelled:
                raise
            except (BuildError, OSError) as e:
                error = e
        if error is not None:
            message = error.message if isinstance(error, BuildError) else str(error)
            hint = error.hint if isinstance(error, BuildError) else None
            raise CacheError(f"exporting cache to {target.sink.title}: {message}", hint=hint) from error

    def join(self, *, drop: bool = False) -> None:
        """Wait for what is being written.  ``drop``: forget what has not begun (the user is waiting)."""
        self._dropped = self._dropped or drop
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []

    # -- in the background -----------------------------------------------------

    def _start(self) -> None:
        if len(self._threads) < THREADS:
            thread = threading.Thread(target=self._work, name="cache export", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            target, job = item
            if self._dropped or target.dead:
                continue
            try:
                self._save(target, job)
            except Cancelled:
                self._dropped = True
            except Exception as e:  # told at the end, by finish
                target.errors.append(e)

    def _save(self, target: Target, job: _Job) -> None:
        from ..remotecache.record import RemoteRecord

        if not job.vertex.ignore_cache:
            known = target.sink.known(job.keys[0])
            if known is not None:
                target.records[known.identity] = known
                return
        layers = tuple(self._layer(target, x) for x in job.record.layers)
        record = RemoteRecord(
            job.keys, job.record.identity, type(job.vertex.op).__name__, layers, platform_of(job.vertex),
            job.vertex.name[:1000], job.record.created,
        )  # fmt: skip
        target.sink.put(record)
        target.records[record.identity] = record
        target.written += 1

    def _layer(self, target: Target, layer: str) -> RemoteLayer:
        from ..remotecache.record import RemoteLayer
        from .pack import Group

        if layer.startswith("p"):
            info = self.worker.p.images.pull_info(layer)
            if info is None:
                raise CacheError(f"nothing is known of base layer {layer}")
            return RemoteLayer(
                str(info["diff_id"]),
                str(info["digest"]),
                int(info["size"]),
                str(info["mediaType"]),
                base=True,
            )
        blob = target.packer.blob(Group((layer,)))
        desc = blob.descriptor
        with target.guard:
            lock = target.blobs.setdefault(desc.digest, threading.Lock())
        with lock:
            if desc.digest not in target.sent:
                self._send(target, layer, desc)
                target.sent.add(desc.digest)
        return RemoteLayer(blob.diff_id, desc.digest, desc.size, desc.media_type)

    def _send(self, target: Target, layer: str, desc: Descriptor) -> None:
        content = self.worker.p.content

        def opened() -> BinaryIO:
            if not content.has(desc.digest):
                self.worker.fetch(layer)
            return content.open(desc.digest)

        if target.sink.blob(desc, opened):
            target.uploaded += desc.size
