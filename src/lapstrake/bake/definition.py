"""From what was asked for to build requests: the whole of bake but building (spec cli.md §3)."""

from __future__ import annotations

import os
import posixpath

from ..errors import UsageError
from ..values import Value, replace
from . import entitlements, files, remote, requests, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from ..plan.request import BuildRequest
    from .entitlements import Wanted
    from .load import Config
    from .requests import Place
    from .resolve import Selection
    from .schema import Target


class Ask(Value):
    """What was asked for.  ``words``: ``[URL [CONTEXT]] [TARGET…]``; ``overrides``: ``--set`` texts;
    ``environ``: the client's environment; ``platform``: of this machine."""

    environ: Mapping[str, str]
    words: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    platform: str = ""


class Definition(Value):
    """Files, evaluated.  ``targets``: the names asked for; ``place``: where relative paths lead."""

    config: Config
    targets: tuple[str, ...]
    place: Place


def read(ask: Ask, scratch: Callable[[], str]) -> Definition:
    """Read and evaluate the files.  ``scratch`` makes a directory for a fetched definition.  Raises BuildError."""
    arguments = remote.split(ask.words)
    names, required = files.names_of(ask.files, ask.environ)
    if arguments.url:
        found, place = remote.fetch(arguments.url, names if required else [], scratch(), ask.environ)
    else:
        found, place = files.read_local(names, required=required), requests.Place()
    off = ask.environ.get("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP", "").lower() in ("1", "t", "true")
    inputs = files.Inputs(
        given=_variables(ask.variables), environ=ask.environ, context=arguments.context, platform=ask.platform,
        env_allowed=not off,
    )  # fmt: skip
    return Definition(files.load(found, inputs), arguments.targets, place)


def _variables(texts: Sequence[str]) -> dict[str, str]:
    given = {}
    for text in texts:
        name, eq, value = text.partition("=")
        if not name or not eq:
            raise UsageError(f"invalid variable {text}", hint="write --var NAME=VALUE")
        given[name] = value
    return given


def select(definition: Definition, ask: Ask) -> Selection:
    """The targets asked for, complete, as ``--print`` shows them.  Raises UsageError."""
    found = resolve.select(definition.config, definition.targets, ask.overrides, ask.environ)
    return replace(found, targets={n: _shown(t, definition.place, ask) for n, t in found.targets.items()})


def _shown(target: Target, place: Place, ask: Ask) -> Target:
    """Paths cleaned, the epoch of the environment as an argument."""
    changes: dict[str, Any] = {}
    context = str(target.get("context"))
    if not requests.is_remote(context) and not context.startswith("cwd://") and context != "-":
        changes["context"] = place.url if place.url and context == "." else posixpath.normpath(context)
    epoch = ask.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch and "SOURCE_DATE_EPOCH" not in (target.get("args") or {}):
        changes["args"] = {**(target.get("args") or {}), "SOURCE_DATE_EPOCH": epoch}
    return target.with_(**changes) if changes else target


def build_requests(
    selection: Selection, definition: Definition, ask: Ask
) -> list[tuple[Target, BuildRequest]]:
    """Each target with its request.  Raises UsageError."""
    place = definition.place
    out = []
    for target in selection.targets.values():
        own = target.with_(context=".") if place.url and target.get("context") == place.url else target
        out.append((target, requests.to_request(own, ask.environ, place)))
    return out


def ungranted(
    pairs: Sequence[tuple[Target, BuildRequest]], selection: Selection, ask: Ask, place: Place
) -> Wanted:
    """What the targets ask for and nobody allowed.  Raises UsageError."""
    switch = ask.environ.get("BUILDX_BAKE_ENTITLEMENTS_FS", "").lower()
    granted = entitlements.parse(
        [*ask.allow, *(g for g in selection.granted if g in ("network.host", "security.insecure"))],
        [p for p in selection.read_allowed if requests.is_local(p)], selection.write_allowed, os.getcwd(),
    )  # fmt: skip
    return entitlements.wanted(pairs, granted, check_fs=switch not in ("0", "f", "false"), base=place.base)


def with_allowed(request: BuildRequest, ask: Ask) -> BuildRequest:
    """``--allow`` values that the engine itself asks about."""
    extra = [a for a in ask.allow if a == "buildx.local.delete"]
    return replace(request, allow=tuple(dict.fromkeys((*request.allow, *extra)))) if extra else request
