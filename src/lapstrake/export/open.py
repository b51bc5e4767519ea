"""From one ``--output`` record to the exporter that serves it."""

from __future__ import annotations

from ..errors import UsageError
from .options import attributes, check_outputs, file_options, image_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .base import BuiltResult, ExportEnv, Exporter, OutputLike
    from .options import ImageOptions


class CacheOnly:
    """``type=cacheonly``: the build itself is the output."""

    def prepare(self, result: BuiltResult) -> None:
        """Nothing."""

    def commit(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def abort(self) -> None:
        """Nothing."""


class Several:
    """Exporters that stand or fall together: all prepare before any commits."""

    def __init__(self, exporters: Sequence[Exporter]) -> None:
        self._exporters = list(exporters)

    def prepare(self, result: BuiltResult) -> None:
        """Prepare all; when one fails, abort all."""
        try:
            for exporter in self._exporters:
                exporter.prepare(result)
        except BaseException:
            self.abort()
            raise

    def commit(self) -> dict[str, Any]:
        """Commit in order; what follows a failure is aborted."""
        out: dict[str, Any] = {}
        for n, exporter in enumerate(self._exporters):
            try:
                out.update(exporter.commit())
            except BaseException:
                for rest in self._exporters[n:]:
                    rest.abort()
                raise
        return out

    def abort(self) -> None:
        """Abort all."""
        for exporter in self._exporters:
            exporter.abort()


def open_exporter(spec: OutputLike, names: Sequence[str], env: ExportEnv) -> Exporter:
    """The exporter for one output.  Raises UsageError for what can't work."""
    check_outputs([spec])
    attrs = attributes(spec)
    dest = spec.dest or attrs.get("dest", "")
    if spec.type == "cacheonly":
        return CacheOnly()
    if spec.type == "local":
        from .files import LocalExporter

        return LocalExporter(dest, file_options(attrs), env)
    if spec.type == "tar":
        from .files import TarExporter

        return TarExporter(dest, file_options(attrs), env)
    options = image_options(spec.type, attrs, names)
    if spec.type in ("oci", "docker"):
        return _archive(spec.type, dest, options, attrs, env)
    return _image(spec.type, options, env)


def _archive(kind: str, dest: str, options: ImageOptions, attrs: dict[str, str], env: ExportEnv) -> Exporter:
    if not options.tar:
        if dest in ("", "-"):
            raise UsageError(f"dest is required for {kind} exporter with tar=false")
        from .layout import LayoutDirectory

        return LayoutDirectory(dest, options, env)
    if kind == "docker":
        if not dest:
            from .engines import EngineLoader

            return EngineLoader(options, env, attrs.get("context", ""))
        from .dockerarchive import DockerArchive

        return DockerArchive(dest, options, env)
    from .layout import LayoutTar

    return LayoutTar(dest, options, env)


def _image(kind: str, options: ImageOptions, env: ExportEnv) -> Exporter:
    exporters: list[Exporter] = []
    if kind == "image" and options.store:
        from .store import ImageStore

        exporters.append(ImageStore(options, env))
    if options.push:
        from .registry import RegistryExporter

        exporters.insert(0, RegistryExporter(options, env))
    if len(exporters) == 1:
        return exporters[0]
    return Several(exporters)
