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
    inputs = files.Inputs(
        given=_variables(ask.variables), environ=ask.environ, context=arguments.context, platform=ask.platform,
        env_allowed=not _switch(ask, "BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP"),
        file_relative=not arguments.url and _switch(ask, "BUILDX_BAKE_FILE_RELATIVE_PATHS"),
    )  # fmt: skip
    return Definition(files.load(found, inputs), arguments.targets, place)


def _switch(ask: Ask, name: str) -> bool:
    return ask.environ.get(name, "").lower() in ("1", "t", "true")


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
        request = requests.to_request(own, ask.environ, place)
        out.append((target, _with_git_secrets(request, place, ask)))
    return out


def _with_git_secrets(request: BuildRequest, place: Place, ask: Ask) -> BuildRequest:
    """What fetched the definition fetches a context of the same host too."""
    from ..plan.request import SecretSpec

    if not place.url or not requests.is_remote(request.context) or _host(place.url) != _host(request.context):
        return request
    given = {s.id for s in request.secrets}
    extra = tuple(
        SecretSpec(name, "env", f"BUILDX_BAKE_{name}")
        for name in ("GIT_AUTH_TOKEN", "GIT_AUTH_HEADER")
        if name not in given and ask.environ.get(f"BUILDX_BAKE_{name}")
    )
    return replace(request, secrets=(*request.secrets, *extra)) if extra else request


def _host(url: str) -> str:
    return (
        url.partition("://")[2].partition("/")[0].rpartition("@")[2]
        or url.partition("/")[0].partition(":")[0]
    )


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
