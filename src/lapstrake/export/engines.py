"""``--load``: hand the image to a container engine that is there, else keep it (spec cli.md §2.3)."""

from __future__ import annotations

from ..errors import ExportError
from .base import ResultBlobs
from .dockerarchive import LISTS_TO_ENGINE, manifest_json, single
from .layout import OCI_LAYOUT, index_json, metadata, named_descriptors, write_tar
from .store import ImageStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .base import BuiltResult, ExportEnv
    from .options import ImageOptions

ENGINES = ("docker", "podman", "nerdctl")


def find_engines(search: Sequence[str]) -> list[str]:
    """Paths of the engine programs, best first."""
    import os

    found = []
    for name in ENGINES:
        for folder in search:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and os.access(path, os.X_OK):
                found.append(path)
                break
    return found


class EngineLoader:
    """``type=docker`` without a destination."""

    def __init__(self, options: ImageOptions, env: ExportEnv, context: str = "") -> None:
        self._options = options
        self._env = env
        self._context = context
        self._engines = find_engines(env.search)
        self._store = ImageStore(options, env) if not self._engines and env.index is not None else None
        if context:
            self._engines = [e for e in self._engines if e.endswith("/docker")]
            if not self._engines:
                raise ExportError(f"cannot load into docker context {context}: no docker program found")
        self._result: BuiltResult | None = None

    def prepare(self, result: BuiltResult) -> None:
        """Nothing is loaded yet."""
        if self._engines:
            single(result, LISTS_TO_ENGINE)
        self._result = result
        if self._store is not None:
            self._store.prepare(result)

    def commit(self) -> dict[str, Any]:
        """Load, or put the image into the local store and say so."""
        if self._result is None:
            raise ExportError("nothing was prepared")
        if self._store is not None:
            if self._env.note is not None:
                self._env.note("no docker, podman or nerdctl found: the image is in Lapstrake's own store")
            return self._store.commit()
        failures = []
        for engine in self._engines:
            fault = self._load(engine, self._result)
            if not fault:
                return metadata(self._result, self._options.names)
            failures.append(f"{engine}: {fault}")
        raise ExportError(
            "failed to load the image: " + ("; ".join(failures) or "no engine found"),
            hint="use --output type=docker,dest=FILE to write an archive instead",
        )

    def _load(self, engine: str, result: BuiltResult) -> str:
        """Why ``engine load`` failed, or an empty string."""
        import subprocess
        import tempfile

        command = [engine, *(["--context", self._context] if self._context else []), "load"]
        extra = {
            "index.json": index_json([d.to_json() for d in named_descriptors(result, self._options.names)]),
            "oci-layout": OCI_LAYOUT,
            "manifest.json": manifest_json(result, self._options.names),
        }
        with tempfile.TemporaryFile() as log:
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=log, stderr=log, close_fds=True
                )
            except OSError as e:
                return str(e.strerror)
            with process:
                try:
                    if process.stdin is not None:
                        with process.stdin as pipe:
                            write_tar(
                                pipe,
                                (result.descriptor,),
                                ResultBlobs(result, self._env.content, self._env.fetch),
                                extra,
                            )
                except BrokenPipeError:
                    pass  # its own message says why it stopped reading
                except BaseException:
                    process.kill()
                    raise
                status = process.wait()
            if status == 0:
                return ""
            log.seek(0)
            text = log.read(4096).decode("utf-8", "replace").strip()
            return text or f"exit status {status}"

    def abort(self) -> None:
        """Nothing was loaded."""
