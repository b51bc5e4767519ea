"""The worker on this machine: runs vertices and owns their layers.

A layer's content is in one of three states, and may be in several: a directory in the store, a
compressed blob, or ``pending``: a list of entries that still point into the build context, which
becomes a blob or a directory only when somebody needs it.
"""

from __future__ import annotations

import threading

from ..errors import BuildError, Cancelled
from ..events import LogChunk, Progress, Warned
from ..graph.ops import CopyOp, ExecOp, MkdirOp, SourceOp
from ..graph.vertex import Vertex
from ..solver.ports import LostLayer, Record
from ..source.image import is_borrowed
from ..tree import FILE

_TELL = 0.1  # seconds between two words about a transfer
_PULLS = 5  # layers fetched at once
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..events import EventSink
    from ..sandbox.spec import Cancel, Executor
    from ..session import Secrets, SshAgents
    from ..snapshot.base import Snapshotter
    from ..source.image import ImageSource
    from ..store.content import ContentStore
    from ..store.layers import Active, LayerInfo, LayerStore
    from ..tree import Entry, Tree


class _Promised:
    """``with``: what fails of a layer that a cache promised is that layer's loss."""

    def __init__(self, layer: str) -> None:
        self.layer = layer

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, BuildError) and not isinstance(error, Cancelled) and is_borrowed(self.layer):
            raise LostLayer(self.layer, error.message) from error


class WorkerParts:
    """What a worker is put together from.  The callables are made only when first needed."""

    def __init__(
        self,
        *,
        root: str,
        content: ContentStore,
        layers: LayerStore,
        images: ImageSource,
        executor: Callable[[], Executor],
        snapshotter: Callable[[], Snapshotter],
        new_active: Callable[[], Active],
        emit: EventSink,
        clock: Callable[[], float],
        secrets: Secrets | None = None,
        ssh: SshAgents | None = None,
        contexts: dict[str, Tree] | None = None,
        epoch: int | None = None,
        cache_dirs: dict[str, str] | None = None,
    ) -> None:
        self.root = root
        self.content = content
        self.layers = layers
        self.images = images
        self.executor = executor
        self.snapshotter = snapshotter
        self.new_active = new_active
        self.emit = emit
        self.clock = clock
        self.secrets = secrets
        self.ssh = ssh
        self.contexts = contexts if contexts is not None else {}
        self.epoch = epoch
        self.cache_dirs = cache_dirs if cache_dirs is not None else {}  # cache mount id -> host directory
        self.step_timeout = 0.0  # seconds a RUN may take; 0: as long as it likes
        self.keep_failed = False  # a failed RUN's state stays for ``lapstrake debug``


class LocalWorker:
    """Implements ``solver.ports.Worker``."""

    def __init__(self, parts: WorkerParts) -> None:
        self.p = parts
        self.pending: dict[str, list[Entry]] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        self._content_keys: dict[tuple[object, ...], str] = {}
        self.stats: dict[str, object] = {}
        self.measured: dict[str, dict[str, float]] = {}  # by vertex: wall, cpu, peak_rss, bytes_added
        self.origins: dict[str, str] = {}  # layer of an image -> the vertex that names the image
        self.sizes: dict[str, int] = {}  # by layer, of those made or looked up in this build

    def beside(self, *, secrets: Secrets | None, ssh: SshAgents | None, epoch: int | None) -> LocalWorker:
        """A worker for another request of the same run: its own secrets and times, all else shared."""
        parts, other = object.__new__(WorkerParts), object.__new__(LocalWorker)
        vars(parts).update(vars(self.p), secrets=secrets, ssh=ssh, epoch=epoch)
        vars(other).update(vars(self), p=parts)
        return other

    # -- figures --------------------------------------------------------------

    def figures(self, vertex: Vertex) -> tuple[tuple[str, float], ...]:
        """What is known of a vertex that ran: seconds and bytes by name."""
        return tuple(self.measured.get(vertex.digest, {}).items())

    def measure(self, vertex: Vertex, **figures: float) -> None:
        """Note figures of a vertex."""
        self.measured.setdefault(vertex.digest, {}).update(figures)

    # -- keys -----------------------------------------------------------------

    def source_key(self, vertex: Vertex) -> str | None:
        """The content identity of a root input: a pinned image is its reference."""
        op = vertex.op
        if not isinstance(op, SourceOp):
            return None
        if op.scheme == "image":
            return op.identifier.rpartition("@")[2]
        if op.scheme in ("git", "http"):
            from . import run_source

            return run_source.remote_key(self, vertex)
        return op.identifier

    def content_key(self, source: Vertex, record: Record, vertex: Vertex, index: int) -> str:
        """Digest of what ``vertex`` selects from its input ``index``."""
        from .run_file import selection_key

        memo = (source.digest, record.identity, vertex.op_digest, index)
        found = self._content_keys.get(memo)
        if found is None:
            found = self._content_keys[memo] = selection_key(
                self.tree_of(source, record), vertex, index, lambda text: self.warn(vertex, text)
            )
        return found

    # -- trees ----------------------------------------------------------------

    def tree_of(self, source: Vertex, record: Record) -> Tree:
        """The file tree of an input."""
        op = source.op
        if isinstance(op, SourceOp) and op.scheme == "local":
            tree = self.p.contexts.get(op.identifier)
            if tree is None:
                raise BuildError(f"unknown build context {op.identifier}")
            return tree
        self._note_origin(source, record)
        return self.view(record.layers)

    def view(self, layers: Sequence[str]) -> Tree:
        """The merged tree of a stack of layers (lowest first)."""
        from ..snapshot.view import StackView

        # Layers that are still entries stay so: a COPY after a COPY need not write the first one.
        split = len(layers)
        while split and layers[split - 1] in self.pending and not self.p.layers.has_dir(layers[split - 1]):
            split -= 1
        tree: Tree = StackView(self.dirs(layers[:split]))
        if split < len(layers):
            from ..layer.stacked import EntriesTree

            for layer in layers[split:]:
                tree = EntriesTree(self.pending[layer], tree)
        return tree

    def dirs(self, layers: Sequence[str]) -> list[str]:
        """Their directories, topmost first, each once: overlayfs refuses the same one twice, and whatever
        a lower occurrence of a layer shows or hides, its topmost one shows or hides as well."""
        missing = [x for x in layers if not self.p.layers.has_dir(x)]
        if len(missing) > 1 and not any(x in self.pending for x in missing):
            self._fetch_all(missing)
        return [self.ensure_dir(x) for x in dict.fromkeys(reversed(layers))]

    def _fetch_all(self, layers: list[str]) -> None:
        """A few at a time, as registries tolerate; the first error stops the rest."""
        todo = list(reversed(layers))
        errors: list[BaseException] = []

        def some() -> None:
            while not errors:
                try:
                    layer = todo.pop()
                except IndexError:
                    return
                try:
                    self.ensure_dir(layer)
                except BaseException as exc:
                    errors.append(exc)

        threads = [threading.Thread(target=some, daemon=True) for _ in range(min(len(layers), _PULLS))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if errors:
            raise errors[0]

    def lock_for(self, name: str) -> threading.Lock:
        """One lock per layer or mount inside this process."""
        with self._guard:
            return self._locks.setdefault(name, threading.Lock())

    def ensure_dir(self, layer: str) -> str:
        """The layer as a directory."""
        store = self.p.layers
        if store.has_dir(layer):
            return store.dir(layer)
        with self.lock_for(layer):
            if store.has_dir(layer):
                return store.dir(layer)
            entries = self.pending.get(layer)
            if entries is not None:
                from ..layer.materialize import materialize

                with store.new_active() as active:
                    materialize(entries, active.upper)
                    store.commit(active, layer)
                return store.dir(layer)
            with _Promised(layer):
                return store.ensure_dir(layer, self._fetch if self.p.images.pull_info(layer) else None)

    def _pull(self, layer: str) -> None:
        """Fetch a layer, told as a status of the image's vertex where that is known."""
        vertex = self.origins.get(layer)
        if vertex is None:
            self.p.images.fetch_layer(layer)
            return
        started = last = self.p.clock()

        def told(digest: str, done: int, size: int) -> None:
            nonlocal last
            now = self.p.clock()
            if done >= size or now - last >= _TELL:
                last = now
                self.p.emit(Progress(vertex, digest, done, size, now, started, done >= size))

        self.p.images.fetch_layer(layer, told)

    def _note_origin(self, source: Vertex, record: Record) -> None:
        if isinstance(source.op, SourceOp):
            for layer in record.layers:
                self.origins.setdefault(layer, source.digest)

    def fetch(self, layer: str) -> None:
        """Bring a layer's blob in.  Raises LostLayer when a cache can't give what it promised."""
        with self.lock_for(f"blob {layer}"), _Promised(layer):
            self._pull(layer)
            if is_borrowed(layer):
                self._verify(layer)

    def _verify(self, layer: str) -> None:
        """A cache said which tar the blob holds: an image must not repeat that unchecked."""
        from ..errors import StoreError
        from ..layer.compress import HashingReader, decompressor

        source = self.p.images.pull_info(layer) or {}
        if source.get("checked"):
            return
        with self.p.content.open(str(source["digest"])) as f:
            reader = HashingReader(decompressor(f, str(source["mediaType"]), limit=1 << 40))
            while reader.read(1 << 20):
                pass
        if reader.digest != source["diff_id"]:
            raise StoreError(f"the layer's content has diffID {reader.digest}, expected {source['diff_id']}")
        self.p.images.mark_checked(layer)

    def _fetch(self, info: LayerInfo) -> None:
        """Bring a pulled layer's blob in and say which it is."""
        from ..oci.descriptor import compression_of
        from ..store.layers import LayerBlob

        source = self.p.images.pull_info(info.id)
        if source is None:
            return
        self._pull(info.id)
        blob = LayerBlob(
            source["mediaType"],
            source["digest"],
            int(source["size"]),
            compression_of(source["mediaType"]),
            None,
        )
        self.p.layers.register_blob(info.id, source["diff_id"], blob)

    def usable(self, layer: str) -> bool:
        """Whether the layer's content can still be had."""
        store = self.p.layers
        if layer in self.pending or store.has_dir(layer):
            return True
        info = store.info(layer)
        if info is not None and any(self.p.content.has(b.digest, b.size) for b in info.blobs):
            return True
        return self.p.images.pull_info(layer) is not None

    # -- running ----------------------------------------------------------------

    def run(self, vertex: Vertex, key: str, inputs: tuple[Record, ...], cancel: Cancel) -> Record:
        """Run one vertex; its result is stored under ``key``."""
        if cancel.is_set():
            raise Cancelled("the build was cancelled")
        op = vertex.op
        if isinstance(op, SourceOp):
            from .run_source import run_source

            return run_source(self, vertex, key)
        for source, record in zip(vertex.inputs, inputs, strict=False):
            self._note_origin(source, record)
        base = inputs[0].layers
        if isinstance(op, MkdirOp):
            from .run_file import run_mkdir

            new = run_mkdir(self, op, key, base)
        elif isinstance(op, CopyOp):
            from .run_file import run_copy

            sources = tuple(self.tree_of(v, r) for v, r in zip(vertex.inputs[1:], inputs[1:], strict=True))
            new = run_copy(self, op, key, base, sources)
        elif isinstance(op, ExecOp):
            from .run_exec import run_exec

            new = run_exec(self, vertex, key, inputs, cancel)
        else:
            raise BuildError(f"unknown operation {type(op).__name__}")
        if new in self.pending:
            self.sizes[new] = sum(
                e.node.size for e in self.pending[new] if e.node.kind == FILE and not e.hardlink
            )
        if new in self.sizes:
            self.measure(vertex, bytes_added=self.sizes[new])
        return Record(key, (*base, new), False, self.p.clock())

    def scratch(self) -> str:
        """A directory for temporary files, gone with the build."""
        return self.p.new_active().upper

    def now_ns(self) -> int:
        """The time created directories get: the epoch when one is given."""
        return int(self.p.epoch * 10**9 if self.p.epoch is not None else self.p.clock() * 10**9)

    def remark(self, note: str) -> None:
        """Tell the user something about the sandbox, once."""
        with self._guard:
            if f"remark:{note}" in self.stats:
                return
            self.stats[f"remark:{note}"] = True
        self.p.emit(Warned("", note))

    def log(self, vertex: Vertex, stream: int, data: bytes) -> None:
        """Output of a step."""
        self.p.emit(LogChunk(vertex.digest, stream, data, self.p.clock()))

    def warn(self, vertex: Vertex, text: str) -> None:
        """Something to tell about a vertex that is no failure; once per build."""
        memo = f"warned:{vertex.name}:{text}"
        if memo not in self.stats:
            self.stats[memo] = True
            line = f" (line {vertex.span.first})" if vertex.span is not None else ""
            self.p.emit(Warned(vertex.digest, f"{text}{line}", "", "", vertex.span))

    def progress(
        self, vertex: Vertex, item: str, current: int, total: int, started: float, *, done: bool = False
    ) -> None:
        """A sub-status of a vertex."""
        self.p.emit(Progress(vertex.digest, item, current, total, self.p.clock(), started, done))
