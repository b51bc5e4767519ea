"""``--load``: hand the image to a container engine that is there, else keep it (spec cli.md §2.3).

Podman is given an OCI layout to pull from and takes only the layers it lacks.  The others read an
archive from their standard input.  Docker's client without a daemon behind it is no engine.
"""

from __future__ import annotations

import os

from ..errors import ExportError
from ..values import Value
from .base import ResultBlobs, walk
from .dockerarchive import LISTS_TO_ENGINE, manifest_json, single
from .layout import OCI_LAYOUT, index_json, named_descriptors, write_tar
from .names import familiar, metadata, with_tag
from .store import ImageStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import IO, Any

    from ..oci.descriptor import Descriptor
    from .base import BuiltResult, ExportEnv
    from .options import ImageOptions

ENGINES = ("docker", "podman", "nerdctl", "ctr")
# how to ask whether the daemon behind a client answers; podman has none
_PROBES = {
    "docker": ("version", "--format", "{{.Server.Version}}"),
    "nerdctl": ("info",),
    "ctr": ("version",),
}
_LOADS = {"docker": ("load",), "podman": ("load",), "nerdctl": ("load",), "ctr": ("images", "import", "-")}


class Engine(Value):
    """A container engine's program.  ``options`` stand before its commands."""

    path: str
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The program's name."""
        return self.path.rpartition("/")[2]

    def run(self, *words: str, timeout: float = 600) -> tuple[int, str]:
        """(exit status, what it said)."""
        import subprocess

        try:
            done = subprocess.run(
                [self.path, *self.options, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, timeout=timeout, check=False,
            )  # fmt: skip
        except OSError as e:
            return 127, str(e.strerror)
        except subprocess.TimeoutExpired:
            return 124, "it did not answer"
        return done.returncode, done.stdout[-8192:].decode("utf-8", "replace").strip()

    def answers(self) -> bool:
        """Whether it can load anything."""
        probe = _PROBES.get(self.name)
        return probe is None or self.run(*probe, timeout=20)[0] == 0


def find_engines(search: Sequence[str], context: str = "") -> list[Engine]:
    """The engine programs there are, best first; with a docker ``context`` only docker."""
    found = []
    for name in ("docker",) if context else ENGINES:
        for folder in search:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and os.access(path, os.X_OK):
                found.append(Engine(path, ("--context", context) if context else ()))
                break
    return found


class EngineLoader:
    """``type=docker`` without a destination."""

    def __init__(self, options: ImageOptions, env: ExportEnv, context: str = "") -> None:
        self._options = options
        self._env = env
        self._context = context
        self._found = find_engines(env.search, context)
        if context and not self._found:
            raise ExportError(f"cannot load into docker context {context}: no docker program found")
        self._engine: Engine | None = None
        self._store: ImageStore | None = None
        self._result: BuiltResult | None = None

    def prepare(self, result: BuiltResult) -> None:
        """Choose who gets it.  Nothing is loaded yet."""
        self._result = result
        self._engine = next((e for e in self._found if e.answers()), None)
        if self._engine is not None:
            single(result, LISTS_TO_ENGINE)
            return
        if self._context:
            raise ExportError(f"cannot load into docker context {self._context}: its engine does not answer")
        if self._env.index is None:
            raise ExportError("no engine to load the image into", hint="use --output type=docker,dest=FILE")
        self._store = ImageStore(self._options, self._env)
        self._store.prepare(result)

    def commit(self) -> dict[str, Any]:
        """Load, or put the image into the local store and say so."""
        result, engine = self._result, self._engine
        if result is None:
            raise ExportError("nothing was prepared")
        if engine is None:
            self._note("no container engine answers: the image is in Lapstrake's own store")
            return self._store.commit() if self._store is not None else {}
        blobs = ResultBlobs(result, self._env.content, self._env.fetch)
        load = _pull if engine.name == "podman" else _load
        fault = load(engine, result, blobs, self._options.names, self._env.tmp)
        if fault:
            raise ExportError(
                f"failed to load the image: {engine.path}: {fault}",
                hint="use --output type=docker,dest=FILE to write an archive instead",
            )
        return metadata(result, self._options.names)

    def _note(self, text: str) -> None:
        if self._env.note is not None:
            self._env.note(text)

    def abort(self) -> None:
        """Nothing was loaded."""


def _load(engine: Engine, result: BuiltResult, blobs: ResultBlobs, names: tuple[str, ...], _tmp: str) -> str:
    """Stream an archive; why that failed, or an empty string."""
    extra = {
        "index.json": index_json([d.to_json() for d in named_descriptors(result, names)]),
        "oci-layout": OCI_LAYOUT,
        "manifest.json": manifest_json(result, names),
    }
    return _stream(
        [engine.path, *engine.options, *_LOADS[engine.name]],
        lambda pipe: write_tar(pipe, (result.descriptor,), blobs, extra),
    )


def _stream(command: list[str], write: Callable[[IO[bytes]], None]) -> str:
    import subprocess
    import tempfile

    with tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, close_fds=True)
        except OSError as e:
            return str(e.strerror)
        with process:
            try:
                if process.stdin is not None:
                    with process.stdin as pipe:
                        write(pipe)
            except BrokenPipeError:
                pass  # its own message says why it stopped reading
            except BaseException:
                process.kill()
                raise
            status = process.wait()
        if status == 0:
            return ""
        log.seek(0)
        return log.read(4096).decode("utf-8", "replace").strip() or f"exit status {status}"


def _pull(engine: Engine, result: BuiltResult, blobs: ResultBlobs, names: tuple[str, ...], tmp: str) -> str:
    """Let podman take what it lacks out of a layout that holds what is at hand; fetch the rest only if
    it asks for it.  Where that fails (a temporary directory whose path makes no image name), an archive
    does.  Why that failed too, or an empty string."""
    import shutil

    # podman makes an image name of the path for a moment: no underscores, as tempfile would give it
    folder = os.path.join(tmp, f"lapstrake-load-{os.urandom(8).hex()}")
    try:
        os.mkdir(folder, 0o700)
        said = _pull_from(engine, folder, result, blobs, names)
    except OSError as e:
        said = str(e)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not said:
        return ""
    # out of an archive with several names podman calls them localhost/NAME; a config's digest is its image's id
    return _load(engine, result, blobs, names, tmp) or _rename(
        engine, result.images[0].config_digest[7:], names
    )


def _pull_from(
    engine: Engine, folder: str, result: BuiltResult, blobs: ResultBlobs, names: tuple[str, ...]
) -> str:
    _layout(folder, result, blobs)
    status, said = engine.run("pull", "-q", f"oci:{folder}")
    missing = [d for d in _reached(result, blobs) if not blobs.has(d.digest)]
    if status and missing:
        for desc in missing:
            blobs.need(desc.digest)
        _layout(folder, result, blobs)
        status, said = engine.run("pull", "-q", f"oci:{folder}")
    if status:
        return said or f"exit status {status}"
    image = said.split()[-1] if said else ""
    return _rename(engine, image, names) if image else "it did not name what it pulled"


def _rename(engine: Engine, image: str, names: tuple[str, ...]) -> str:
    """Give the image its own names in place of that of the folder it came from."""
    if names:
        status, said = engine.run("tag", image, *(with_tag(n) for n in names))
        if status:
            return said
    status, said = engine.run(
        "image", "inspect", "--format", "{{range .RepoTags}}{{println .}}{{end}}", image
    )
    local = {f"localhost/{familiar(n)}" for n in names} - {with_tag(n) for n in names}
    ours = [t for t in said.split() if "lapstrake-load-" in t or t in local] if status == 0 else []
    for tag in ours:
        status, said = engine.run("untag", image, tag)
        if status:
            return said
    return ""


def _reached(result: BuiltResult, blobs: ResultBlobs) -> Iterator[Descriptor]:
    return (d for d, _ in walk(result.descriptor, blobs))


def _layout(folder: str, result: BuiltResult, blobs: ResultBlobs) -> None:
    """A layout in ``folder`` of what is at hand: links where the file system allows, else copies."""
    place = os.path.join(folder, "blobs", "sha256")
    os.makedirs(place, exist_ok=True)
    for desc in _reached(result, blobs):
        target = os.path.join(place, desc.digest[7:])
        if os.path.exists(target) or not blobs.has(desc.digest):
            continue
        path = blobs.path(desc.digest)
        if path:
            os.symlink(path, target)
            continue
        with blobs.open(desc.digest) as src, open(target, "wb") as dst:
            while block := src.read(1 << 20):
                dst.write(block)
    with open(os.path.join(folder, "oci-layout"), "wb") as f:
        f.write(OCI_LAYOUT)
    with open(os.path.join(folder, "index.json"), "wb") as f:
        f.write(index_json([result.descriptor.to_json()]))
