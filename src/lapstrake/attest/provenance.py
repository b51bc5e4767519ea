"""SLSA provenance, v1 and v0.2, at two levels of detail (spec oci.md §9.3, §9.4).

``min`` never holds values of build arguments or labels, and never names of secrets.
"""

from __future__ import annotations

from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..oci.platform import Platform

SLSA_V1 = "https://slsa.dev/provenance/v1"
SLSA_V02 = "https://slsa.dev/provenance/v0.2"
BUILD_TYPE_V1 = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
BUILD_TYPE_V02 = "https://mobyproject.org/buildkit@v1"
_HIDDEN = frozenset(("cgroup-parent", "image-resolve-mode", "platform", "cache-imports"))
_PRIVATE = ("build-arg:", "label:")

Digests = tuple[tuple[str, str], ...]  # (algorithm, hex)


class Material(Value):
    """Something the build used.  ``local``: a directory of the caller's, not to be listed."""

    uri: str
    digest: Digests = ()
    local: bool = False


class BuildFacts(Value):
    """What happened, as plain values; everything time- and id-like is given, nothing is invented."""

    platform: Platform
    builder_platform: Platform
    config: Material = Material("")
    entry_point: str = "Dockerfile"
    args: tuple[tuple[str, str], ...] = ()
    locals: tuple[str, ...] = ()
    materials: tuple[Material, ...] = ()
    started: float = 0.0
    finished: float = 0.0
    invocation_id: str = ""
    hermetic: bool = False
    details: Details | None = None


class Details(Value):
    """What only ``max`` shows, and what version control says.

    ``steps``: (id, op, inputs) ready for JSON.  ``sources``: (file name, text, language).
    """

    secrets: tuple[tuple[str, bool], ...] = ()  # (id, optional)
    ssh: tuple[tuple[str, bool], ...] = ()
    steps: tuple[dict[str, Any], ...] = ()
    digest_mapping: tuple[tuple[str, str], ...] = ()
    layers: tuple[tuple[str, tuple[dict[str, Any], ...]], ...] = ()
    sources: tuple[tuple[str, bytes, str], ...] = ()
    locations: tuple[tuple[str, dict[str, Any]], ...] = ()
    vcs: tuple[tuple[str, str], ...] = ()  # source, revision
    environment: tuple[tuple[str, str], ...] = ()


class Mode(Value):
    """How provenance was asked for."""

    max: bool = True
    version: str = "v1"
    builder_id: str = ""
    reproducible: bool = False


def redact(uri: str) -> str:
    """The URI without user names, passwords and tokens."""
    scheme, sep, rest = uri.partition("://")
    if not sep:
        return uri
    end = min((i for i in (rest.find(c) for c in "/?#") if i >= 0), default=len(rest))
    authority, tail = rest[:end], rest[end:]
    user, at, host = authority.rpartition("@")
    if at and not (user == "git" and scheme == "ssh"):
        authority = host
    path, mark, query = tail.partition("?")
    if mark:
        query, hash_, fragment = query.partition("#")
        kept = [
            p
            for p in query.split("&")
            if not any(
                w in p.partition("=")[0].lower()
                for w in ("token", "secret", "signature", "password", "credential", "key", "sig")
            )
        ]
        tail = path + ("?" + "&".join(kept) if kept else "") + hash_ + fragment
    return f"{scheme}://{authority}{tail}"


def _time(seconds: float) -> str:
    import time

    whole = int(seconds // 1)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int((seconds - whole) * 1e9):09d}Z"


def _args(facts: BuildFacts, mode: Mode) -> tuple[dict[str, str], bool]:
    """(arguments shown, whether some were dropped)."""
    shown, dropped = {}, False
    for key, value in facts.args:
        if key in _HIDDEN or key.startswith("attest:"):
            continue
        if not mode.max and key.startswith(_PRIVATE):
            dropped = True
            continue
        shown[key] = redact(value)  # of arguments too: a proxy's URL may hold a password
    return dict(sorted(shown.items())), dropped


def _request(facts: BuildFacts, mode: Mode) -> tuple[dict[str, Any], bool]:
    args, dropped = _args(facts, mode)
    request: dict[str, Any] = {"frontend": "dockerfile.v0"}
    if args:
        request["args"] = args
    details = facts.details or Details()
    if mode.max:
        for key, items in (("secrets", details.secrets), ("ssh", details.ssh)):
            if items:
                request[key] = [
                    {"id": i, **({"optional": True} if optional else {})} for i, optional in sorted(items)
                ]
    if facts.locals:
        request["locals"] = [{"name": n} for n in sorted(facts.locals)]
    return request, not dropped


def _materials(materials: Iterable[Material]) -> list[dict[str, Any]]:
    """Sorted by URI, each once, local directories left out."""
    found: dict[tuple[str, Digests], dict[str, Any]] = {}
    for m in materials:
        if not m.local:
            uri = redact(m.uri)
            found[(uri, m.digest)] = {"uri": uri, **({"digest": dict(m.digest)} if m.digest else {})}
    return [found[k] for k in sorted(found)]


def _config_source(facts: BuildFacts, path_key: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if facts.config.uri and not facts.config.local:
        out["uri"] = redact(facts.config.uri)
    if facts.config.digest:
        out["digest"] = dict(facts.config.digest)
    out[path_key] = facts.entry_point
    return out


def _complete_materials(facts: BuildFacts) -> bool:
    return not facts.locals and not facts.config.local and not any(m.local for m in facts.materials)


def _build_config(details: Details) -> dict[str, Any]:
    return {"llbDefinition": list(details.steps), "digestMapping": dict(details.digest_mapping)}


def _extra_metadata(facts: BuildFacts, mode: Mode) -> dict[str, Any]:
    details = facts.details
    out: dict[str, Any] = {}
    if details is None:
        return out
    if details.vcs:
        out["vcs"] = {k: redact(v) for k, v in details.vcs}
    if mode.max:
        if details.sources:
            from base64 import b64encode

            infos = [
                {"filename": n, "language": lang, "data": b64encode(text).decode("ascii")}
                for n, text, lang in details.sources
            ]
            out["source"] = {"infos": infos, "locations": dict(details.locations)}
        if details.layers:
            out["layers"] = {k: list(v) for k, v in details.layers}
    return out


def provenance_v1(facts: BuildFacts, mode: Mode) -> dict[str, Any]:
    """The v1 predicate."""
    request, complete = _request(facts, mode)
    details = facts.details or Details()
    internal: dict[str, Any] = {"builderPlatform": str(facts.builder_platform)}
    if mode.max:
        internal.update(sorted(details.environment))
        if details.steps:
            internal["buildConfig"] = _build_config(details)
    metadata: dict[str, Any] = {
        "invocationId": facts.invocation_id,
        "startedOn": _time(facts.started),
        "finishedOn": _time(facts.finished),
        "buildkit_hermetic": facts.hermetic,
        "buildkit_completeness": {"request": complete, "resolvedDependencies": _complete_materials(facts)},
        "buildkit_reproducible": mode.reproducible,
    }
    extra = _extra_metadata(facts, mode)
    if extra:
        metadata["buildkit_metadata"] = extra
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE_V1,
            "externalParameters": {"configSource": _config_source(facts, "path"), "request": request},
            "internalParameters": internal,
            "resolvedDependencies": _materials(facts.materials),
        },
        "runDetails": {"builder": {"id": mode.builder_id}, "metadata": metadata},
    }


def provenance_v02(facts: BuildFacts, mode: Mode) -> dict[str, Any]:
    """The v0.2 predicate."""
    request, complete = _request(facts, mode)
    details = facts.details or Details()
    metadata: dict[str, Any] = {
        "buildInvocationID": facts.invocation_id,
        "buildStartedOn": _time(facts.started),
        "buildFinishedOn": _time(facts.finished),
        "completeness": {
            "parameters": complete,
            "environment": True,
            "materials": _complete_materials(facts),
        },
        "reproducible": mode.reproducible,
        BUILD_TYPE_V02 + "#hermetic": facts.hermetic,
    }
    extra = _extra_metadata(facts, mode)
    if extra:
        metadata[BUILD_TYPE_V02 + "#metadata"] = extra
    out: dict[str, Any] = {
        "builder": {"id": mode.builder_id},
        "buildType": BUILD_TYPE_V02,
        "invocation": {
            "configSource": _config_source(facts, "entryPoint"),
            "parameters": request,
            "environment": {"platform": str(facts.builder_platform)},
        },
        "materials": _materials(facts.materials),
        "metadata": metadata,
    }
    if mode.max and details.steps:
        out["buildConfig"] = _build_config(details)
    return out


def provenance(facts: BuildFacts, mode: Mode) -> tuple[str, dict[str, Any]]:
    """(predicate type, predicate)."""
    if mode.version == "v0.2":
        return SLSA_V02, provenance_v02(facts, mode)
    return SLSA_V1, provenance_v1(facts, mode)


def mode_of(attrs: dict[str, str]) -> Mode:
    """From ``--provenance`` attributes (spec cli.md §2.7)."""
    from ..errors import UsageError

    level = attrs.get("mode", "max")
    if level not in ("min", "max"):
        raise UsageError(f'invalid provenance mode "{level}"', hint="use mode=min or mode=max")
    version = attrs.get("version", "v1")
    if version not in ("v1", "v0.2"):
        raise UsageError(f'invalid provenance version "{version}"', hint="use version=v1 or version=v0.2")
    return Mode(
        level == "max",
        version,
        attrs.get("builder-id", ""),
        attrs.get("reproducible", "").lower() in ("1", "t", "true"),
    )
