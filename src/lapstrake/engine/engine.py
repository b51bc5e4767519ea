"""One engine: a store, an image source, a worker; wired once for each process."""

from __future__ import annotations

import os
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, BinaryIO

    from ..config import Settings
    from ..events import EventSink
    from ..oci.descriptor import Descriptor
    from ..registry.client import Client
    from ..remotecache.base import Source
    from ..sandbox.spec import Executor
    from ..session import Secrets, SshAgents
    from ..snapshot.base import Snapshotter
    from ..store.layers import Active
    from ..worker.local import LocalWorker


class Engine:
    """Everything that lives under ``--root``, opened lazily.  Use as a context manager."""

    def __init__(self, settings: Settings) -> None:
        from ..ids import check_store
        from ..source.image import ImageSource
        from ..store.content import ContentStore
        from ..store.index import Index
        from ..store.layers import LayerStore
        from ..store.lease import Lease
        from .recover import recover

        self.settings = settings
        self.root = settings.root
        _make_root(self.root)
        check_store(self.root)
        recover(self.root)
        self.lease = Lease(self.root)
        self.content = ContentStore(self.root, lease=self.lease)
        self.index = Index(self.root)
        self.layers = LayerStore(self.root, self.content, self.index, unpack=unpack, lease=self.lease)
        self._collects = True
        if "store" in settings.config or "worker" in settings.config:
            self._limit()
        self._closers: list[Callable[[], None]] = []
        self.images = ImageSource(self.content, self.index, self.client)
        self.images.from_cache = self._fetch_from_cache
        self.caches: dict[str, Source] = {}  # caches outside the store that are open, by where they are
        self._clients: dict[str, Client] = {}
        self._client_lock = threading.Lock()
        self._stopped = False
        self._executor: Executor | None = None
        self._snapshotter: Snapshotter | None = None
        self._choosing = threading.RLock()
        self.say: Callable[[str], None] | None = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _limit(self) -> None:
        """What the configuration says of the store's size; wrong settings are told before the work."""
        from .gcpolicy import max_size, policies

        self._collects = bool(policies(self.settings.config, self.root))
        limit = max_size(self.settings.config, self.root)
        if limit:
            from .cap import Cap

            cap = Cap(self.root, limit)
            self.content.reserve = cap.reserve
            self.layers.admit = cap.check

    def client(self, host: str = "", insecure: bool = False) -> Client:
        """The registry client, made on first use.  ``insecure``: one that is lax with ``host`` (registry.insecure)."""
        lax = host if insecure else ""
        with self._client_lock:
            client = self._clients.get(lax)
            if client is None:
                from .network import open_client

                auth = self._clients[""].auth if "" in self._clients else None
                client = open_client(self.settings, lax, auth)
                self._clients[lax] = client
                if self._stopped:
                    client.cancel()
        return client

    def stop_network(self) -> None:
        """End every request under way: the user has said stop.  Safe in a signal handler."""
        self._stopped = True

        def stop() -> None:
            with self._client_lock:
                clients = list(self._clients.values())
            for client in clients:
                client.cancel()

        threading.Thread(target=stop, name="stop network", daemon=True).start()

    def executor(self) -> Executor:
        """The sandbox, chosen once; ``say`` is told which and why."""
        with self._choosing:
            if self._executor is None:
                from ..sandbox.select import Wanted, choose

                s = self.settings
                self._executor, text = choose(
                    Wanted(
                        s.isolation or "auto", s.min_isolation, self.root, s.ids_note, s.no_namespace, s.mend
                    )
                )
                if self.say is not None:
                    self.say(text)
            return self._executor

    def snapshotter(self) -> Snapshotter:
        """The snapshotter, chosen once."""
        with self._choosing:
            if self._snapshotter is None:
                from ..snapshot.base import choose

                plain = self.executor().name in ("chroot", "none")  # it can't mount
                self._snapshotter = choose(self.root, "copying" if plain else self.settings.snapshotter)
            return self._snapshotter

    def worker(
        self,
        emit: EventSink,
        *,
        secrets: Secrets | None = None,
        ssh: SshAgents | None = None,
        epoch: int | None = None,
    ) -> LocalWorker:
        """A worker over this engine's store."""
        from ..worker.local import LocalWorker, WorkerParts

        return LocalWorker(
            WorkerParts(
                root=self.root, content=self.content, layers=self.layers, images=self.images, executor=self.executor,
                snapshotter=self.snapshotter, new_active=self.new_active, emit=emit, clock=time.time, secrets=secrets, ssh=ssh, epoch=epoch,
            )
        )  # fmt: skip

    def close(self) -> None:
        """Stop the sandbox helper and let go of the store."""
        if self._executor is not None:
            self._executor.close()
            self._executor = None
        for client in self._clients.values():
            client.close()
        for closer in reversed(self._closers):
            closer()
        self._closers = []
        self.index.close()
        self.lease.close()
        if self._collects and (self.content.wrote or self.layers.wrote):
            from .gcpolicy import after_build

            after_build(self.settings.config, self.root)
        from .tidy import tidy

        tidy(self.root, self.content, self.layers)

    def _fetch_from_cache(
        self, origin: dict[str, Any], desc: Descriptor, write: Callable[[bytes | memoryview], object]
    ) -> None:
        """A layer from the cache it was found in, in this build or an earlier one."""
        from .remote import fetch_from_cache

        fetch_from_cache(self, origin, desc, write)

    def on_close(self, closer: Callable[[], None]) -> None:
        """Run ``closer`` when the engine closes."""
        self._closers.append(closer)

    def new_active(self) -> Active:
        """A scratch directory that goes with the engine."""
        active = self.layers.new_active()
        self._closers.append(active.close)
        return active


def _make_root(root: str) -> None:
    try:
        os.makedirs(root, mode=0o700, exist_ok=True)
    except OSError as e:
        from ..store.failures import cannot_write

        raise cannot_write(root, e) from e


def unpack(blob: BinaryIO, media_type: str, dest: str, diff_id: str | None) -> str:
    """Extract a layer blob, verified; imported only when a layer is extracted."""
    from ..layer import unpack as layer

    return layer.unpack(blob, media_type, dest, diff_id)
