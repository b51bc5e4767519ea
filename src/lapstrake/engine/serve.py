"""The node's side of a build that somebody else's Lapstrake asked for (``lapstrake dial-stdio``).

The client sends what we lack of its build contexts, by digest, then one build; we answer with
events, then with the images' documents, and hand out layer blobs by digest until it hangs up.
Nothing of the client's is kept but content-addressed blobs and the cache records of the build.
"""

from __future__ import annotations

import threading

from ..errors import BuildError, Cancelled
from ..oci.platform import host_platform
from ..solver.cancel import CancelToken
from ..values import replace
from .build import Build
from .export import Export, Output
from .wire import VERSION, Codec, Lost, Pipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

    from ..config import Settings
    from ..dockerfile.instructions import Dockerfile
    from ..events import Event
    from ..export.base import BuiltImage
    from ..export.options import FormOptions
    from ..plan.lower import Plan
    from ..solver.solve import Solver
    from ..tree import Tree
    from .contexts import Inputs
    from .engine import Engine

MAX_LISTING = 1 << 30


def serve(settings: Settings, source: BinaryIO, sink: BinaryIO) -> None:
    """Answer one client until it hangs up."""
    from .engine import Engine

    pipe = Pipe(source, sink)
    with Engine(settings) as engine:
        _Session(engine, pipe).run()


class _Given:
    """Secrets that came with the request, in memory only."""

    def __init__(self, values: dict[str, bytes]) -> None:
        self._values = values

    def get(self, secret_id: str) -> bytes | None:
        return self._values.get(secret_id)


class NodeBuild(Build):
    """A build whose inputs were sent, and whose images go back instead of being exported."""

    sent: Any  # the decoded "build" message

    def secrets(self) -> Any:
        """The values that came along."""
        return _Given(self.sent["secrets"]) if self.sent["secrets"] else None

    def open_export(self) -> Export:
        """No outputs of our own, only images in the forms the client needs."""
        return NodeExport(self)

    def inputs_of(self) -> Inputs:
        """Contexts from their listings."""
        from ..source.listing import ListingTree
        from .contexts import Inputs

        trees: dict[str, Tree] = {}
        for name, digest in self.sent["contexts"].items():
            tree = ListingTree(_read(self.engine, digest), self.engine.content)
            missing = [d for d in tree.digests if not self.engine.content.has(d)]
            if missing:
                raise BuildError(f"{len(missing)} files of the build context {name} were not sent")
            trees[name] = tree
        return Inputs(self.sent["dockerfile"], self.sent["dockerfile_name"], trees, dict(self.sent["named"]))

    def _load(self, open_inputs: object) -> tuple[Inputs, Dockerfile]:
        return super()._load(lambda _engine, _request: self.inputs_of())

    def export(self, solver: Solver) -> Any:
        """The images of each form, in the order of platforms, without their layers."""
        records = solver.records

        def image(plan: Plan, form: FormOptions) -> BuiltImage:
            record = records.get(plan.target.digest) if plan.target is not None else None
            return self.exporting.image(plan, record, records, form)

        return tuple(tuple(image(plan, form) for plan in self.plans) for form in self.sent["forms"])


class NodeExport(Export):
    """Packs layers as the client's outputs need them, and writes nothing."""

    def _open(self) -> list[Output]:
        from ..plan.request import OutputSpec

        spec = OutputSpec("cacheonly")
        forms = self.build.sent["forms"]  # type: ignore[attr-defined]
        return [Output(spec, None, form) for form in forms]


def _read(engine: Engine, digest: str) -> bytes:
    if engine.content.size(digest) > MAX_LISTING:
        raise BuildError("the listing of a build context is too large")
    data: bytes = engine.content.read(digest, MAX_LISTING)
    return data


class _Session:
    """One client."""

    def __init__(self, engine: Engine, pipe: Pipe) -> None:
        self.engine = engine
        self.pipe = pipe
        self.codec = Codec()
        self.cancel = CancelToken()
        self.lock = threading.Lock()
        self.building: threading.Thread | None = None

    def run(self) -> None:
        """Until the client hangs up; what it left running is cancelled."""
        try:
            while (message := self.pipe.receive()) is not None:
                self.answer(message)
        except Lost:
            pass
        finally:
            self.cancel.set()
            if self.building is not None:
                self.building.join()
            self.cancel.close()

    def send(self, message: dict[str, Any]) -> None:
        """A frame, from any thread."""
        with self.lock:
            self.pipe.send(message)

    def answer(self, message: dict[str, Any]) -> None:
        """One request of the client."""
        op = message.get("op")
        try:
            if op == "hello":
                self.send({"hello": VERSION, "platforms": self.platforms()})
            elif op == "missing":
                has = self.engine.content.has
                self.send({"missing": [d for d in message["digests"] if not has(str(d))]})
            elif op == "put":
                self.put(str(message["digest"]), int(message["size"]))
            elif op == "build":
                self.building = threading.Thread(target=self.build, args=(message,), name="build")
                self.building.start()
            elif op == "cancel":
                self.cancel.set()
            elif op == "get":
                self.get(str(message["digest"]))
            else:
                raise BuildError(f"unknown request {op!r}")
        except Lost:
            raise
        except (KeyError, TypeError, ValueError) as e:
            self.send({"error": self.codec.error(BuildError(f"malformed request: {e}"))})
        except BuildError as e:
            self.send({"error": self.codec.error(e)})

    def platforms(self) -> list[str]:
        """What this machine runs by itself."""
        from ..oci.platform import compatible

        host = host_platform()
        return [str(p) for p in compatible(host) if p.arch == host.arch]

    def put(self, digest: str, size: int) -> None:
        """Take one blob; a wrong digest leaves nothing.  Not answered."""
        with self.engine.content.writer(digest, size) as out:
            self.pipe.payload(size, out.write)

    def get(self, digest: str) -> None:
        """Send one blob."""
        size = self.engine.content.size(digest)
        with self.engine.content.open(digest) as f, self.lock:
            self.pipe.stream({"blob": digest}, size, f)

    def build(self, message: dict[str, Any]) -> None:
        """Run the build; its result or failure is the last thing sent for it."""
        from .joint import Shared, solve

        def emit(event: Event) -> None:
            try:
                self.send({"event": self.codec.encode(event)})
            except Lost:
                self.cancel.set()

        try:
            sent = self.codec.decode(message["build"])
            request = replace(sent["request"], nodes=(), outputs=())
            build = NodeBuild(self.engine, request, emit, self.cancel)
            build.sent = sent
            build.prepare(Shared(self.engine, emit))
            images: Any = solve([build], self.engine, emit, self.cancel)[0]
            self.send({"result": self.codec.encode(images)})
        except Lost:
            self.cancel.set()
        except BaseException as e:
            self._failed(e)

    def _failed(self, error: BaseException) -> None:
        if not isinstance(error, (BuildError, Cancelled)):
            import traceback

            traceback.print_exception(error)  # to the ssh client's standard error: a bug of ours
        try:
            self.send({"error": self.codec.error(error)})
        except Lost:
            pass
