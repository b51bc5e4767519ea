"""The Python API: what the command line does, typed.  (Not root: a build runs in a process of its own.)

from lapstrake import build
result = build(".", tags=["app:1"], platforms=["linux/amd64"], on_event=print)
print(result.digest)
"""

from __future__ import annotations

__all__ = ["BuildRequest", "BuildResult", "OutputSpec", "bake", "build", "open_settings"]

from .engine.apart import call
from .engine.build import BuildResult
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
    result: BuildResult = call("run_build", request, open_settings(root, config), on_event or _ignore)
    return result


def bake(
    *targets: str,
    files: Sequence[str] = (),
    overrides: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    allow: Sequence[str] = (),
    root: str | None = None,
    config: str | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> dict[str, BuildResult]:
    """Build the targets of bake files as one build; the results by target.

    ``targets``: names and patterns, after a URL for a remote definition; ``files``: ``-f``; ``overrides``:
    ``--set`` texts, ``*.push=true`` among them; ``allow``: ``--allow`` values, as nobody is asked here.
    Raises BuildError."""
    import tempfile

    from .bake import definition
    from .engine.joint import Job
    from .errors import UsageError
    from .oci.platform import host_platform

    settings = open_settings(root, config)
    ask = definition.Ask(
        settings.environ, tuple(targets), tuple(files), tuple(overrides),
        tuple(f"{k}={v}" for k, v in (variables or {}).items()), tuple(allow), str(host_platform()),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="lapstrake-bake-", dir=settings.tmp) as scratch:
        found = definition.read(ask, lambda: scratch)
        selection = definition.select(found, ask)
        pairs = definition.build_requests(selection, found, ask)
        wanted = definition.ungranted(pairs, selection, ask, found.place)
        if wanted.flags:
            raise UsageError(
                "additional privileges requested",
                hint="allow " + ", ".join(f.removeprefix("--allow=") for f in wanted.flags),
            )
        jobs = [Job(t.name, definition.with_allowed(r, ask)) for t, r in pairs]
        results = call("run_jobs", jobs, settings, on_event or _ignore)
    return {job.name: result for job, result in zip(jobs, results, strict=True)}


def _ignore(event: Event, /) -> None:
    """Nobody asked for events."""
