"""The Python API: what the command line does, typed, without a subprocess.

from lapstrake import build
result = build(".", tags=["app:1"], platforms=["linux/amd64"], on_event=print)
print(result.digest)
"""

from __future__ import annotations

__all__ = ["BuildRequest", "BuildResult", "OutputSpec", "build", "open_settings"]

from .engine.build import BuildResult, run_build
from .oci.platform import parse as parse_platform
from .plan.request import BuildRequest, OutputSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from .config import Settings
    from .events import Event


def open_settings(root: str | None = None, config: str | None = None) -> Settings:
    """The settings the command line would use."""
    import os

    from .config import load

    return load(root, config, os.environ)


def build(
    context: str,
    *,
    dockerfile: str | None = None,
    tags: Sequence[str] = (),
    platforms: Sequence[str] = (),
    target: str = "",
    build_args: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    outputs: Sequence[str | OutputSpec] = (),
    no_cache: bool = False,
    pull: str = "",
    root: str | None = None,
    config: str | None = None,
    on_event: Callable[[Event], None] | None = None,
    **more: Any,
) -> BuildResult:
    """Build images from a Dockerfile.

    ``context``: a directory or URL; ``outputs``: ``--output`` texts or OutputSpec values; ``more``: any other
    field of ``BuildRequest``.  ``on_event`` gets every event record, from any thread.  Raises BuildError."""
    from .optspec import parse_output

    request = BuildRequest(
        context=context, dockerfile=dockerfile, tags=tuple(tags), platforms=tuple(parse_platform(p) for p in platforms), target=target,
        build_args=tuple((build_args or {}).items()), labels=tuple((labels or {}).items()), no_cache=no_cache, pull=pull,
        outputs=tuple(o if isinstance(o, OutputSpec) else parse_output(o) for o in outputs), **more,
    )  # fmt: skip
    return run_build(request, open_settings(root, config), on_event or _ignore)


def _ignore(event: Event, /) -> None:
    """Nobody asked for events."""
