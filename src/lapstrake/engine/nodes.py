"""Platforms built on other machines: each goes to a node that has it natively, the images come back.

A node is reached by ``ssh`` and needs Python and Lapstrake, nothing that listens.  Context files go
there and layers come back by digest, only those the other side lacks; base layers the node never
moved stay where they are, the client fetches them from their registry when it needs them.
"""

from __future__ import annotations

import os
import threading

from ..errors import BuildError, Cancelled, UsageError
from ..oci.platform import Platform, host_platform
from ..values import Value, replace
from .wire import VERSION, Codec, Lost, Pipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..export.base import BuiltImage
    from ..export.options import FormOptions
    from ..plan.request import NodeSpec
    from .build import Build
    from .contexts import Inputs

_SAFE_HOST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]%")


class Address(Value):
    """Where ``ssh`` goes."""

    host: str
    user: str = ""
    port: str = ""


def parse_endpoint(endpoint: str) -> Address:
    """``ssh://[USER@]HOST[:PORT]``.  Raises UsageError: the parts become arguments of ssh."""
    rest = endpoint.removeprefix("ssh://")
    user, at, host = rest.rpartition("@")
    port = ""
    if ":" in host and not host.endswith("]"):
        host, _, port = host.rpartition(":")
    bad = (
        rest == endpoint or not host or not set(host) <= _SAFE_HOST or host.startswith("-")
        or (at and (not user or not set(user) <= _SAFE_HOST or user.startswith("-")))
        or (port and not port.isdigit())
    )  # fmt: skip
    if bad:
        raise UsageError(f'invalid endpoint "{endpoint}"', hint="write ssh://[USER@]HOST[:PORT]")
    return Address(host.strip("[]"), user, port)


def command_of(node: NodeSpec, *, agent: bool = False) -> list[str]:
    """The words that reach a node."""
    from shlex import quote

    where, options = parse_endpoint(node.endpoint), dict(node.options)
    words = ["ssh", "-T", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15"]
    words += ["-F", options["ssh-config"]] if options.get("ssh-config") else []
    words += ["-p", where.port] if where.port else []
    words += ["-A"] if agent else ["-a"]
    remote = options.get("command") or "lapstrake"  # the user's own words, for the node's shell
    remote += "".join(f" --{k} {quote(options[k])}" for k in ("root", "config") if options.get(k))
    return [*words, "--", f"{where.user}@{where.host}" if where.user else where.host, f"{remote} dial-stdio"]


class Connection:
    """A node's ``dial-stdio``.  ``node.endpoint`` is checked before anything is started."""

    def __init__(self, node: NodeSpec, *, agent: bool = False) -> None:
        import subprocess

        self.node = node
        words = command_of(node, agent=agent)
        try:
            self._process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError:
            raise BuildError("ssh is not installed", hint="apt-get install openssh-client") from None
        self._said = b""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise BuildError(f"node {node.name}: no pipes")
        self.pipe = Pipe(stdout, stdin)  # type: ignore[arg-type]
        self.codec = Codec()
        self.platforms: tuple[str, ...] = ()

    def _listen(self) -> None:
        stream = self._process.stderr
        while stream is not None and (block := stream.read1(4096)):  # type: ignore[attr-defined]
            self._said = (self._said + block)[-4096:]

    def hello(self) -> None:
        """Greet; raises BuildError with what ssh said when nobody answers."""
        try:
            self.pipe.send({"op": "hello", "version": VERSION})
            answer = self.pipe.receive()
        except Lost:
            answer = None
        if answer is None or "hello" not in answer:
            self._process.wait(5) if self._process.poll() is None and answer is None else None
            self._listener.join(1)
            said = self._said.decode("utf-8", "replace").strip().splitlines()
            raise BuildError(
                f"node {self.node.name}: {self.node.endpoint} does not answer"
                + (f": {said[-1]}" if said else ""),
                hint="the node needs ssh access without a password, and `lapstrake` in its PATH "
                '(else --driver-opt command="/path/to/lapstrake")',
            )
        if answer["hello"] != VERSION:
            raise BuildError(
                f"node {self.node.name} speaks version {answer['hello']} of the protocol, this is version {VERSION}",
                hint="install the same Lapstrake on both",
            )
        self.platforms = tuple(str(p) for p in answer.get("platforms") or ())

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """A request with one answer."""
        self.pipe.send(message)
        answer = self.pipe.receive()
        if answer is None:
            raise Lost(f"the connection to node {self.node.name} was lost")
        if "error" in answer:
            raise self.codec.failure(answer["error"])
        return answer

    def close(self) -> None:
        """Hang up; whatever still runs there is cancelled by that."""
        process = self._process
        for stream in (process.stdin, process.stdout):
            try:
                if stream is not None:
                    stream.close()
            except OSError:
                pass
        try:
            process.wait(5)
        except Exception:
            process.kill()
            process.wait()
        self._listener.join(1)
        if process.stderr is not None:
            process.stderr.close()


def check_inputs(inputs: Inputs) -> None:
    """Contexts that exist on this machine only can't be named to another one."""
    for name, (scheme, ident) in inputs.named.items():
        if scheme == "target" or (scheme == "image" and ident.startswith("layout.lapstrake.invalid/")):
            raise UsageError(
                f"failed to get build context {name}: a {'target' if scheme == 'target' else 'OCI layout'} "
                "cannot be sent to another node",
                hint="push it to a registry and name it as docker-image://",
            )


def _default_form(epoch: int | None) -> FormOptions:
    from ..export.options import FormOptions

    return FormOptions(epoch=epoch)


class _LayersView:
    """The merged tree of an image that came from a node; its layers are extracted when somebody looks."""

    def __init__(self, build: Build, image: BuiltImage) -> None:
        self._build = build
        self._image = image
        self._view: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._view is None:
            self._view = self._build.worker.view(self._register())
        return getattr(self._view, name)

    def _register(self) -> list[str]:
        from json import loads

        from ..oci.descriptor import compression_of
        from ..store.layers import LayerBlob

        store, lazy, names = self._build.worker.p.layers, dict(self._image.lazy_sources), []
        diff_ids = loads(self._image.config)["rootfs"]["diff_ids"]
        for desc, diff_id in zip(self._image.layers, diff_ids, strict=True):
            name = "p" + str(diff_id).rpartition(":")[2]
            if desc.digest in lazy and not store.has_dir(name):
                self._build.exporting.fetch(desc, lazy[desc.digest])
            blob = LayerBlob(desc.media_type, desc.digest, desc.size, compression_of(desc.media_type), None)
            store.register_blob(name, diff_id, blob)
            names.append(name)
        return names


def assign(nodes: Sequence[NodeSpec], platforms: Sequence[Platform]) -> dict[str, list[Platform]]:
    """Platforms by name of the node that builds them: the first that claims one, else the first of all.

    A node that claims none has what it runs natively: for this machine known, for others asked."""
    own = {n.name: set(n.platforms) or set(_native(n)) for n in nodes}
    out: dict[str, list[Platform]] = {}
    for platform in platforms:
        name = next((n.name for n in nodes if platform in own[n.name]), nodes[0].name)
        out.setdefault(name, []).append(platform)
    return out


def _native(node: NodeSpec) -> list[Platform]:
    from ..oci.platform import compatible, parse

    if not node.endpoint:
        host = host_platform()
        return [p for p in compatible(host) if p.arch == host.arch]
    connection = Connection(node)
    try:
        connection.hello()
        return [parse(p) for p in connection.platforms]
    finally:
        connection.close()


class RemoteBuild:
    """The part of a build that one node does, in a thread of its own from the start."""

    def __init__(self, build: Build, node: NodeSpec, platforms: Sequence[Platform]) -> None:
        self.build = build
        self.node = node
        self.platforms = tuple(platforms)
        self.forms = build.exporting.forms() or [_default_form(build.epoch)]
        self._images: tuple[tuple[BuiltImage, ...], ...] = ()
        self._error: BaseException | None = None
        self._connection: Connection | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self, inputs: Inputs) -> None:
        """Begin; the rest happens beside our own part of the build."""
        self._thread = threading.Thread(target=self._work, args=(inputs,), name=f"node {self.node.name}")
        self._thread.start()

    def image(self, platform: Platform, form: FormOptions | None) -> BuiltImage:
        """One image, its own layers in our store, with its files to look at.  Raises what the node raised."""
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error
        at = self.forms.index(form) if form is not None else 0
        image = self._images[at][self.platforms.index(platform)]
        self._fetch_layers(image)
        return replace(image, rootfs=_LayersView(self.build, image))

    def close(self) -> None:
        """Hang up and wait for the thread."""
        if self._connection is not None:
            self._connection.close()
        if self._thread is not None:
            self._thread.join()

    # -- the thread -------------------------------------------------------------

    def _work(self, inputs: Inputs) -> None:
        try:
            agent = bool(self.build.request.ssh)
            connection = self._connection = Connection(self.node, agent=agent)
            connection.hello()
            contexts = {name: self._send(tree) for name, tree in inputs.contexts.items()}
            connection.pipe.send(
                {"op": "build", "build": connection.codec.encode(self._message(inputs, contexts))}
            )
            self._images = self._follow(connection)
        except BaseException as e:
            cancelled = self.build.cancel.is_set()
            self._error = Cancelled("the build was cancelled") if cancelled and isinstance(e, Lost) else e
            self.build.cancel.set()

    def _message(self, inputs: Inputs, contexts: dict[str, str]) -> dict[str, Any]:
        request, build = self.build.request, self.build
        held = build.secrets()
        values = {s.id: held.get(s.id) for s in request.secrets} if held is not None else {}
        return {
            "request": replace(
                request, platforms=self.platforms, context="sent", dockerfile=None, dockerfile_text=b"", stdin_head=b"",
                named_contexts=(), nodes=(), outputs=(), cache_from=(), cache_to=(), secrets=(), attests=(),
                ssh=tuple(replace(s, paths=()) for s in request.ssh),
            ),
            "dockerfile": inputs.dockerfile, "dockerfile_name": inputs.dockerfile_name, "contexts": contexts,
            "named": dict(inputs.named), "secrets": {k: v for k, v in values.items() if v is not None},
            "forms": list(self.forms),
        }  # fmt: skip

    def _send(self, tree: Any) -> str:
        """Make the node know a build context; the digest of its listing."""
        from hashlib import sha256

        from ..source.listing import make_listing

        connection = self._connection
        if connection is None:
            raise Lost("not connected")
        listing, files = make_listing(tree)
        digest = "sha256:" + sha256(listing).hexdigest()
        missing = connection.ask({"op": "missing", "digests": [digest, *files]})["missing"]
        for wanted in missing:
            if wanted == digest:
                connection.pipe.send({"op": "put", "digest": digest}, listing)
            elif wanted in files:
                with tree.open(files[wanted]) as f:
                    size = os.fstat(f.fileno()).st_size
                    if size:
                        connection.pipe.stream({"op": "put", "digest": wanted}, size, f)
                    else:
                        connection.pipe.send({"op": "put", "digest": wanted, "size": 0})
        return digest

    def _follow(self, connection: Connection) -> tuple[tuple[BuiltImage, ...], ...]:
        """Pass events on until the result is there; our cancelling is passed on too."""
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(connection, done), daemon=True)
        watcher.start()
        try:
            while (message := connection.pipe.receive()) is not None:
                if "event" in message:
                    self.build.emit(connection.codec.decode(message["event"]))
                elif "error" in message:
                    raise connection.codec.failure(message["error"])
                elif "result" in message:
                    images: tuple[tuple[BuiltImage, ...], ...] = connection.codec.decode(message["result"])
                    self._check(images)
                    return images
        finally:
            done.set()
            watcher.join()
        raise Lost(f"the connection to node {self.node.name} was lost")

    def _watch(self, connection: Connection, done: threading.Event) -> None:
        while not done.wait(0.1):
            if self.build.cancel.is_set():
                try:
                    connection.pipe.send({"op": "cancel"})
                except Lost:
                    pass
                return

    def _check(self, images: tuple[tuple[BuiltImage, ...], ...]) -> None:
        """A node may be wrong, but not about what bytes have which digest."""
        from ..export.base import BuiltImage
        from ..oci.digest import digest_of

        shape = len(images) == len(self.forms) and all(len(i) == len(self.platforms) for i in images)
        if not shape or not all(isinstance(x, BuiltImage) for i in images for x in i):
            raise BuildError(f"node {self.node.name} sent something else than images")
        for image in (x for i in images for x in i):
            right = (
                digest_of(image.config) == image.config_digest
                and digest_of(image.manifest) == image.manifest_desc.digest
            )
            if not right:
                raise BuildError(f"node {self.node.name} sent documents with wrong digests")

    # -- layers -------------------------------------------------------------------

    def _fetch_layers(self, image: BuiltImage) -> None:
        lazy = dict(image.lazy_sources)
        connection, content = self._connection, self.build.engine.content
        with self._lock:
            for layer in image.layers:
                if layer.digest in lazy or content.has(layer.digest):
                    continue
                if connection is None:
                    raise Lost(f"the connection to node {self.node.name} was lost")
                answer = connection.ask({"op": "get", "digest": layer.digest})
                if answer.get("size") != layer.size:
                    raise BuildError(f"node {self.node.name} sent a layer of another size than it promised")
                with content.writer(layer.digest, layer.size) as out:
                    connection.pipe.payload(layer.size, out.write)
