"""What a record says of a request: everything but secret values, and a name people know the build by."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..plan.request import BuildRequest

HIDDEN = "<hidden>"
_SECRET_WORDS = (
    "secret",
    "token",
    "password",
    "passwd",
    "pword",
    "apikey",
    "api_key",
    "credential",
    "auth",
    "private",
)


def request_document(r: BuildRequest) -> dict[str, Any]:
    """What was asked, without secret values: secrets by id, and what looks like one hidden."""
    out: dict[str, Any] = {"context": without_user(r.context)}
    local = "://" not in r.context and r.context not in ("", "-") and not r.context.startswith("git@")
    if local:
        out["context"] = os.path.abspath(r.context)
    for field in ("dockerfile", "target", "no_cache", "pull", "source_date_epoch", "jobs", "isolation"):
        if (value := getattr(r, field)) not in (None, "", 0, False):
            out[field] = value
    if r.dockerfile_text is not None:
        out["dockerfile"] = "-"
    for field in ("tags", "no_cache_filter", "allow"):
        if value := getattr(r, field):
            out[field] = list(value)
    if r.platforms:
        out["platforms"] = [str(p) for p in r.platforms]
    for field in ("build_args", "labels", "named_contexts"):
        if value := getattr(r, field):
            out[field] = {k: _shown(k, v) for k, v in value}
    for field in ("outputs", "cache_from", "cache_to", "attests"):
        if value := getattr(r, field):
            out[field] = [_spec(s) for s in value]
    if r.secrets:
        out["secrets"] = [s.id for s in r.secrets]
    if r.ssh:
        out["ssh"] = [s.id for s in r.ssh]
    if r.network != "default":
        out["network"] = r.network
    return out


def _spec(spec: Any) -> dict[str, str]:
    out = {"type": spec.type, **{k: _shown(k, v) for k, v in spec.attrs}}
    if getattr(spec, "dest", ""):
        out["dest"] = spec.dest
    return out


def _shown(name: str, value: str) -> str:
    plain = name.lower().replace("-", "_")
    if (
        any(word in plain for word in _SECRET_WORDS)
        or plain.endswith(("_key", "_pass"))
        or plain in ("key", "pass")
    ):
        return HIDDEN
    return without_user(value)


def without_user(url: str) -> str:
    """A URL without the user and password in it."""
    scheme, sep, rest = url.partition("://")
    if not sep:
        return url
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def build_name(r: BuildRequest, name: str) -> str:
    given = dict(r.build_args).get("BUILDKIT_BUILD_NAME", "")
    if given:
        return given
    where = without_user(r.context)
    if where and where != "-" and "://" not in where and not where.startswith("git@"):
        where = os.path.basename(os.path.abspath(where)) or "/"
    out = where or "Dockerfile"
    if r.dockerfile and os.path.basename(r.dockerfile) != "Dockerfile":
        out += f" ({os.path.basename(r.dockerfile)})"
    if name or r.target:
        out += f" ({name or r.target})"
    return out
