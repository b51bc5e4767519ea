"""Targets to build requests."""

from __future__ import annotations

import os

from .. import optspec
from ..errors import UsageError
from ..plan.request import AnnotationSpec, BuildRequest, OutputSpec, SecretSpec
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from .schema import Target

_IMAGES = ("image", "registry", "oci", "docker")
_REMOTE = ("http://", "https://", "git://", "git@", "ssh://", "github.com/")
_SCHEMES = ("docker-image://", "oci-layout://", "target:")


class Place(Value):
    """Where relative paths of a definition lead: ``base`` a directory, ``url`` what it came from (or "")."""

    base: str = ""
    url: str = ""


def to_request(target: Target, environ: Mapping[str, str], place: Place | None = None) -> BuildRequest:
    """One target as the engine takes it.  Raises UsageError with the target's name in it."""
    try:
        return _request(target, environ, place or Place())
    except UsageError as e:
        if not e.message.startswith(f"target {target.name}"):
            e.message = f"target {target.name}: {e.message}"
        raise


def _request(target: Target, environ: Mapping[str, str], place: Place) -> BuildRequest:
    get = target.get
    context, dockerfile = _inputs(target, place)
    inline = get("dockerfile-inline")
    args = {k: v for k, v in (get("args") or {}).items() if v is not None}
    annotations = tuple(a for text in get("annotations") or () for a in optspec.annotation(text))
    for entry in get("policy") or ():
        optspec.refuse_rego(csv(entry))
    network = get("network") or "default"
    if network not in ("default", "none", "host"):
        raise UsageError(
            f'network mode "{network}" not supported by buildkit - you can define a custom network for your builder using the network driver-opt in buildx create',
            hint="use default, none or host",
        )
    epoch = args.get("SOURCE_DATE_EPOCH", "") or environ.get("SOURCE_DATE_EPOCH", "")
    tags = tuple(dict.fromkeys(get("tags") or ()))
    for tag in tags:
        _check_tag(tag)
    platforms = optspec.platforms(get("platforms") or [environ.get("DOCKER_DEFAULT_PLATFORM", "")])
    return BuildRequest(
        context=context,
        dockerfile=None if inline is not None else dockerfile,
        dockerfile_text=inline.encode() if inline is not None else None,
        target=get("target") or "",
        platforms=platforms,
        build_args=tuple(args.items()),
        labels=tuple((k, v) for k, v in (get("labels") or {}).items() if v is not None),
        tags=tags,
        no_cache=bool(get("no-cache")),
        no_cache_filter=tuple(get("no-cache-filter") or ()),
        pull="always" if get("pull") else "",
        outputs=_outputs(target, tags, annotations),
        named_contexts=tuple((k, _context(v, place)) for k, v in (get("contexts") or {}).items()),
        network=network,
        add_hosts=tuple(
            h
            for k, v in (get("extra-hosts") or {}).items()
            if v is not None
            for h in optspec.add_host(f"{k}={v}")
        ),
        ulimits=tuple({u[0]: u for u in map(optspec.ulimit, get("ulimits") or ())}.values()),
        shm_size=optspec.size(get("shm-size"), "shm-size") if get("shm-size") else 0,
        resources=tuple(
            dict(optspec.resource(f"{k}={v}") for k, v in (get("resources") or {}).items() if v).items()
        ),
        secrets=tuple(_secret(s, environ) for s in get("secret") or ()),
        ssh=optspec.ssh([_ssh(s) for s in _agents(target, context)], environ),
        allow=tuple(get("entitlements") or ()),
        annotations=annotations,
        attests=optspec.attests([csv(_attest(a)) for a in get("attest") or ()]),
        cache_from=optspec.cache(csv(c) for c in get("cache-from") or ()),
        cache_to=optspec.cache(csv(c) for c in get("cache-to") or ()),
        source_date_epoch=optspec.epoch(epoch),
        call=optspec.call(get("call")) if get("call") else optspec.call("build"),
    )


def csv(entry: Mapping[str, Any]) -> str:
    """An entry as one CSV record, type first."""
    out = []
    for key in sorted(entry, key=lambda k: (k != "type", k)):
        field = f"{key}={entry[key]}"
        out.append('"' + field.replace('"', '""') + '"' if "," in field or '"' in field else field)
    return ",".join(out)


def _attest(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {k: ("true" if v else "false") if isinstance(v, bool) else v for k, v in entry.items()}


def is_remote(path: str) -> bool:
    """A git or HTTP URL."""
    return path.startswith(_REMOTE)


def is_local(path: str) -> bool:
    """A path of this machine."""
    return not is_remote(path) and not path.startswith(_SCHEMES)


def _inputs(target: Target, place: Place) -> tuple[str, str | None]:
    """(context, Dockerfile as the engine wants it)."""
    given, dockerfile = target.get("context") or ".", target.get("dockerfile") or "Dockerfile"
    if given == "-":
        raise UsageError("context from stdin not allowed in bake")
    if dockerfile == "-":
        raise UsageError("dockerfile from stdin not allowed in bake")
    context = _context(given, place)
    if dockerfile.startswith("cwd://"):
        return context, os.path.abspath(dockerfile[len("cwd://") :])
    if is_remote(dockerfile):
        return context, dockerfile
    if os.path.isabs(dockerfile):
        return context, _confined(dockerfile.lstrip("/"), place) if place.url else dockerfile
    if is_remote(context):
        return context, None if dockerfile == "Dockerfile" else dockerfile
    path = os.path.normpath(os.path.join(context, dockerfile))
    return context, _confined(path, place) if place.url and not given.startswith("cwd://") else path


def _context(value: str, place: Place) -> str:
    """Where a context is: ``cwd://`` and remote ones as they are, others below the definition's place."""
    if value.startswith("cwd://"):
        return os.path.normpath(value[len("cwd://") :] or ".")
    if value.startswith(_SCHEMES) or is_remote(value):
        return value
    if place.url:
        from .remote import inside

        return inside(place.base, value)
    return os.path.normpath(os.path.join(place.base, value))


def _confined(path: str, place: Place) -> str:
    from .remote import inside

    return inside(place.base, os.path.relpath(path, place.base)) if place.url else path


def _check_tag(tag: str) -> None:
    from ..errors import BuildError
    from ..oci import reference

    try:
        reference.parse(tag)
    except BuildError:
        raise UsageError(
            f'invalid tag "{tag}": invalid reference format',
            hint="write [registry/]name[:tag] with a name in lower case",
        ) from None


def _outputs(
    target: Target, tags: tuple[str, ...], annotations: Iterable[AnnotationSpec]
) -> tuple[OutputSpec, ...]:
    out = []
    for entry in target.get("output") or ():
        spec = optspec.parse_output(csv(entry))
        if spec.type in _IMAGES:
            attrs = {**dict(spec.attrs), **{a.attribute: a.value for a in annotations}}
            spec = OutputSpec(spec.type, spec.dest, tuple(attrs.items()))
        pushes = spec.type == "registry" or (
            spec.type == "image" and spec.get("push", "false").lower() in ("true", "1", "t", "")
        )
        if pushes and not tags and not spec.get("name"):
            raise UsageError(
                "tag is needed when pushing to registry", hint='add tags = ["registry.example/name:tag"]'
            )
        out.append(spec)
    return tuple(out)


def _secret(entry: Mapping[str, str], environ: Mapping[str, str]) -> SecretSpec:
    ident, source, env = entry.get("id", ""), entry.get("src", ""), entry.get("env", "")
    if not ident:
        raise UsageError(
            "secret missing ID", hint='for example secret = [{ id = "token", src = "token.txt" }]'
        )
    if env:
        return SecretSpec(ident, "env", env)
    if not source and ident in environ:
        return SecretSpec(ident, "env", ident)
    return SecretSpec(ident, "file", os.path.expanduser(source or ident))


def _agents(target: Target, context: str) -> list[Mapping[str, Any]]:
    listed: list[Mapping[str, Any]] = list(target.get("ssh") or ())
    if not listed and context.startswith(("git@", "ssh://")):
        listed = [{"id": "default"}]
    return listed


def _ssh(entry: Mapping[str, Any]) -> str:
    paths = ",".join(entry.get("paths", ()))
    return f"{entry.get('id') or 'default'}={paths}" if paths else str(entry.get("id") or "default")
