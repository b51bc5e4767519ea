"""Lapstrake: build container images from Dockerfiles, without a daemon and without root."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["BuildError", "BuildRequest", "BuildResult", "OutputSpec", "__version__", "bake", "build"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .api import BuildRequest, BuildResult, OutputSpec, bake, build
    from .errors import BuildError


def __getattr__(name: str) -> object:
    """Import the API only when it is used: ``lapstrake --version`` needs none of it."""
    if name == "BuildError":
        from .errors import BuildError

        return BuildError
    if name in __all__:
        from . import api

        return getattr(api, name)
    raise AttributeError(f"module 'lapstrake' has no attribute {name!r}")
