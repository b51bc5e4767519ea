"""Compose files: each service with a ``build`` is a target (spec cli.md §3.4)."""

from __future__ import annotations

import os
import posixpath

from ..errors import BuildError, UsageError
from . import interpolate, yamlsafe
from .composemerge import merged
from .schema import Group, Target, distinct, entries
from .source import MAX_FILE, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .files import File, Inputs
    from .load import Config

_SERVICE = ("image", "build", "environment", "env_file", "extends")
_LABEL = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
_BUILD = (
    "context", "dockerfile", "dockerfile_inline", "args", "labels", "target", "tags", "platforms", "cache_from",
    "cache_to", "additional_contexts", "network", "no_cache", "pull", "shm_size", "ulimits", "extra_hosts", "secrets",
    "ssh", "sbom", "provenance", "isolation", "privileged", "entitlements", "no_cache_filter",
)  # fmt: skip
_XBAKE = {
    "tags": "tags", "cache-from": "cache-from", "cache-to": "cache-to", "secret": "secret", "ssh": "ssh",
    "platforms": "platforms", "output": "output", "no-cache-filter": "no-cache-filter",
}  # fmt: skip
MAX_INCLUDES = 64


def looks_like(source: Source) -> bool:
    """Is a file without a telling name one?"""
    return any(line.startswith(("services:", "include:")) for line in source.text.split("\n"))


def load(files: Sequence[File], inputs: Inputs) -> Config:
    """The targets of the services, and the group ``default`` of them all.  Raises BuildError."""
    from .load import Config, based

    env = environment(inputs)
    reader = _Reader(env)
    document: dict[str, Any] = {}
    for file in files:
        document = merged(document, reader.document(file.name, file.data))
    if not any(key in document for key in ("services", "secrets")):
        raise UsageError("empty compose file", hint=f"{files[0].name} has no services")
    services = document.get("services") or {}
    targets = {}
    for name in services:
        service = reader.extended(name, services, files[0].name, ())
        if service.get("build") is None:
            continue
        target = _target(name, service, document.get("secrets") or {}, env)
        targets[target.name] = target
    groups = {"default": Group("default", tuple(targets))} if services else {}
    base = inputs.base(files[0].name)
    if base:
        targets = {n: based(t, base) for n, t in targets.items()}
    return Config(targets, groups, bases=dict.fromkeys(targets, base) if base else {})


def environment(inputs: Inputs) -> dict[str, str]:
    """What interpolation sees: ``.env`` of the current directory under the process's environment, under ``--var``."""
    env = dict(inputs.environ) if inputs.env_allowed else {}
    path = os.path.join(inputs.cwd or ".", ".env")
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as f:
            found = interpolate.dotenv(f.read(MAX_FILE), env)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        found = {}
    except OSError as e:
        raise UsageError(f"failed to read .env: {e.strerror}") from None
    out = {**found, **env, **inputs.given}
    out.setdefault("COMPOSE_PROJECT_NAME", "bake")
    return out


class _Reader:
    """Reads documents and what they include and extend."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env
        self.documents: dict[str, dict[str, Any]] = {}
        self.active: list[str] = []

    def document(self, name: str, data: bytes) -> dict[str, Any]:
        """One file, interpolated, in long form."""
        source = Source.decode(name, data)
        raw = yamlsafe.read(source)
        if raw is None:
            raise UsageError(f"empty compose file {name}" if name != "-" else "empty compose file")
        if not isinstance(raw, dict):
            raise UsageError(f"failed to parse compose file: {name}: top-level object must be a mapping")
        out: dict[str, Any] = {}
        for item in _listed(interpolate.expand_all(raw.get("include"), self.env, "include"), "include"):
            out = merged(out, self.include(item, name))
        kept = {
            "services": {
                service: {k: v for k, v in _mapping(body, f"services.{service}").items() if k in _SERVICE}
                for service, body in _mapping(raw.get("services"), "services").items()
            },
            "secrets": _mapping(raw.get("secrets"), "secrets"),
        }
        kept = {k: v for k, v in kept.items() if k in raw}
        try:
            kept = interpolate.expand_all(kept, self.env, "")
        except UsageError as e:
            raise UsageError(f"failed to parse compose file: {name}: {e.message}", hint=e.hint) from None
        for service, body in (kept.get("services") or {}).items():
            kept["services"][service] = _long(body, f"services.{service}")
        out = merged(out, kept)
        for service, body in (out.get("services") or {}).items():
            extends = body.get("extends")
            if isinstance(extends, dict) and extends.get("file"):
                out["services"][service] = self.extended(service, out["services"], name, ())
        return out

    def read(self, path: str, after: str) -> dict[str, Any]:
        """Another file, relative to the one that names it."""
        full = os.path.normpath(os.path.join(os.path.dirname(after), path))
        if full in self.active:
            raise UsageError(f"failed to parse compose file: {full} includes itself")
        if len(self.documents) > MAX_INCLUDES:
            raise UsageError("failed to parse compose file: too many files are included")
        if full not in self.documents:
            self.active.append(full)
            try:
                with open(full, "rb") as f:
                    self.documents[full] = self.document(full, f.read(MAX_FILE + 1))
            except OSError as e:
                raise UsageError(
                    f"failed to parse compose file: {after}: open {full}: {(e.strerror or '').lower()}"
                ) from None
            finally:
                self.active.remove(full)
        return self.documents[full]

    def include(self, item: Any, after: str) -> dict[str, Any]:
        """One ``include``: a path, or ``{path: …}``; its relative contexts start at its own directory."""
        paths = _listed(item.get("path") if isinstance(item, dict) else item, "include.path")
        out: dict[str, Any] = {}
        for path in paths:
            out = merged(out, _moved(self.read(str(path), after), os.path.dirname(str(path))))
        return out

    def extended(
        self, name: str, services: Mapping[str, Any], after: str, path: tuple[str, ...]
    ) -> dict[str, Any]:
        """A service over the one it extends."""
        own: dict[str, Any] = services[name]
        extends = own.get("extends")
        if extends is None:
            return own
        wanted = (
            {"service": extends}
            if isinstance(extends, str)
            else _mapping(extends, f"services.{name}.extends")
        )
        other, file = str(wanted.get("service") or name), wanted.get("file")
        if other in (*path, name) and not file:
            raise UsageError(f"failed to parse compose file: circular reference in extends of service {name}")
        pool: Mapping[str, Any] = services
        if file:
            document = self.read(str(file), after)
            full = {
                n: self.extended(n, document["services"], str(file), ())
                for n in document.get("services") or {}
            }
            pool = _moved({"services": full}, os.path.dirname(str(file)))["services"]
        if other not in pool:
            raise UsageError(
                f'failed to parse compose file: cannot extend service "{name}": service "{other}" not found'
            )
        below = self.extended(other, pool, after, (*path, name)) if not file else pool[other]
        rest = {k: v for k, v in own.items() if k != "extends"}
        both: dict[str, Any] = merged({k: v for k, v in below.items() if k != "extends"}, rest)
        return both


def _moved(document: dict[str, Any], directory: str) -> dict[str, Any]:
    """Relative build contexts seen from another directory."""
    if not directory:
        return document
    services = {}
    for name, service in (document.get("services") or {}).items():
        build = service.get("build")
        if isinstance(build, dict) and not _absolute(str(build.get("context", "."))):
            context = posixpath.join(directory, str(build.get("context", ".")))
            services[name] = {**service, "build": {**build, "context": context}}
        else:
            services[name] = service
    return {**document, "services": services}


def _absolute(path: str) -> bool:
    return path.startswith(("/", "http://", "https://", "git://", "git@", "ssh://", "github.com/"))


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"failed to parse compose file: {where} must be a mapping")
    return value


def _listed(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, (str, dict)):
        return [value]
    if not isinstance(value, list):
        raise UsageError(f"failed to parse compose file: {where} must be a list")
    return value


def _long(service: dict[str, Any], where: str) -> dict[str, Any]:
    """Short forms written out, so that documents merge."""
    out = dict(service)
    build = out.get("build")
    if isinstance(build, str):
        out["build"] = {"context": build}
    elif build is not None:
        build = dict(_mapping(build, f"{where}.build"))
        for key in build:
            if key not in _BUILD and not key.startswith("x-"):
                from .source import meant

                raise UsageError(
                    f"failed to parse compose file: {where}.build has no property {key}",
                    hint=meant(key, _BUILD).strip() or None,
                )
        for key in ("args", "labels", "additional_contexts", "ssh"):
            if key in build:
                build[key] = _pairs(build[key], f"{where}.build.{key}")
        if "extra_hosts" in build:
            build["extra_hosts"] = _hosts(build["extra_hosts"], f"{where}.build.extra_hosts")
        for key in (
            "tags",
            "platforms",
            "cache_from",
            "cache_to",
            "secrets",
            "entitlements",
            "no_cache_filter",
        ):
            if key in build:
                build[key] = _listed(build[key], f"{where}.build.{key}")
        out["build"] = build
    if "environment" in out:
        out["environment"] = _pairs(out["environment"], f"{where}.environment")
    if "env_file" in out:
        out["env_file"] = _listed(out["env_file"], f"{where}.env_file")
    return out


def _pairs(value: Any, where: str) -> dict[str, Any]:
    """``K=V`` items, or a mapping; a name alone has no value."""
    if isinstance(value, list):
        found: dict[str, Any] = {}
        for item in value:
            key, eq, text = str(item).partition("=")
            found[key] = text if eq else None
        return found
    return _mapping(value, where)


def _hosts(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, list):
        found: dict[str, Any] = {}
        for item in map(str, value):
            at = min((i for i in (item.find("="), item.find(":")) if i > 0), default=-1)
            if at < 0:
                raise UsageError(f"failed to parse compose file: {where}: invalid host {item}")
            name, ip = item[:at], item[at + 1 :].strip("[]")
            found[name] = f"{found[name]},{ip}" if name in found else ip
        return found
    return {k: ",".join(map(str, v)) if isinstance(v, list) else v for k, v in _mapping(value, where).items()}


def scalar(value: Any) -> str:
    """A YAML scalar as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return "" if value is None else str(value)


def _texts(value: Any) -> list[str]:
    return [scalar(v) for v in value or []]


def _bool(value: Any, where: str) -> bool:
    if isinstance(value, bool):
        return value
    text = scalar(value).lower()
    if text in ("true", "1", "yes", "on", "y"):
        return True
    if text in ("false", "0", "no", "off", "n", ""):
        return False
    raise UsageError(f"failed to parse compose file: {where} must be a boolean, not {value}")


# -- targets -----------------------------------------------------------------------------------------


def _target(
    name: str, service: Mapping[str, Any], secrets: Mapping[str, Any], env: Mapping[str, str]
) -> Target:
    if not name or not set(name) <= _LABEL:
        raise UsageError(f'invalid service name "{name}": only "[a-zA-Z0-9_-]+" are allowed')
    build, where = service["build"], f"services.{name}.build"
    try:
        attrs = _attrs(build, service, env, where)
        attrs["secret"] = [_secret(item, secrets, where) for item in build.get("secrets", ())]
        _extension(attrs, build.get("x-bake"), where)
    except BuildError as e:
        if where not in e.message and "compose" not in e.message:
            e.message = f"failed to parse compose file: {where}: {e.message}"
        raise
    if not attrs.get("tags") and service.get("image"):
        attrs["tags"] = [str(service["image"])]
    return Target(name.replace(".", "_"), {k: v for k, v in attrs.items() if v or v is False})


def _attrs(
    build: Mapping[str, Any], service: Mapping[str, Any], env: Mapping[str, str], where: str
) -> dict[str, Any]:
    get = build.get
    context = scalar(get("context"))
    attrs: dict[str, Any] = {
        "context": context if not context or _absolute(context) else posixpath.normpath(context),
        "contexts": {k: _context(scalar(v)) for k, v in (get("additional_contexts") or {}).items()},
        "dockerfile": scalar(get("dockerfile")),
        "dockerfile-inline": scalar(get("dockerfile_inline")),
        "args": _args(get("args") or {}, service, env),
        "labels": {k: scalar(v) for k, v in (get("labels") or {}).items()},
        "tags": _texts(get("tags")),
        "cache-from": [e for t in _texts(get("cache_from")) for e in entries("cache", t)],
        "cache-to": [e for t in _texts(get("cache_to")) for e in entries("cache", t)],
        "target": scalar(get("target")),
        "ssh": _agents(get("ssh") or {}),
        "platforms": _texts(get("platforms")),
        "network": scalar(get("network")),
        "no-cache-filter": _texts(get("no_cache_filter")),
        "entitlements": _texts(get("entitlements")),
        "shm-size": _size(get("shm_size")),
        "ulimits": [_ulimit(k, v, where) for k, v in _mapping(get("ulimits"), f"{where}.ulimits").items()],
        "extra-hosts": {k: scalar(v) for k, v in (get("extra_hosts") or {}).items()},
        "attest": [e for kind in ("sbom", "provenance") for e in _attest(kind, get(kind))],
    }
    for key, attribute in (("pull", "pull"), ("no_cache", "no-cache")):
        if get(key) is not None and _bool(get(key), f"{where}.{key}"):
            attrs[attribute] = True
    return attrs


def _context(value: str) -> str:
    for scheme in ("service:", "target:"):
        if value.startswith(scheme):
            return "target:" + value[len(scheme) :].replace(".", "_")
    if "://" in value or _absolute(value):
        return value
    return posixpath.normpath(value)


def _args(args: Mapping[str, Any], service: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, str]:
    """Arguments without a value come from the service's environment, then from ours; else they are left out."""
    own: dict[str, Any] = {}
    if any(v is None for v in args.values()):
        for item in service.get("env_file", ()):
            own.update(_env_file(item, env))
        own.update(service.get("environment") or {})
    out = {}
    for name, value in args.items():
        found = value
        if found is None:
            found = own.get(name)
        if found is None:
            found = env.get(name)
        if found is not None:
            out[name] = scalar(found)
    return out


def _env_file(item: Any, env: Mapping[str, str]) -> dict[str, str]:
    path = str(item.get("path", "")) if isinstance(item, dict) else str(item)
    required = not isinstance(item, dict) or _bool(item.get("required", True), "env_file.required")
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as f:
            return interpolate.dotenv(f.read(MAX_FILE), env, path)
    except OSError as e:
        if required:
            raise UsageError(
                f"failed to parse compose file: env file {path}: {(e.strerror or '').lower()}"
            ) from None
        return {}


def _agents(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    out = [{"id": k, **({"paths": [scalar(v)]} if v else {})} for k, v in found.items()]
    return sorted(out, key=lambda e: str(e["id"]))


def _size(value: Any) -> str:
    """As docker prints sizes: ``128MiB``."""
    if value in (None, ""):
        return ""
    from ..optspec import size

    number = float(size(scalar(value), "shm_size"))
    if not number:
        return ""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if number < 1024 or unit == "TiB":
            return f"{number:.4g}{unit}"
        number /= 1024
    return ""


def _ulimit(name: str, value: Any, where: str) -> str:
    soft = hard = value
    if isinstance(value, dict):
        soft, hard = value.get("soft"), value.get("hard")
    try:
        return f"{name}={int(soft)}:{int(hard)}"
    except (TypeError, ValueError):
        raise UsageError(f"failed to parse compose file: {where}.ulimits.{name} is not a number") from None


def _attest(kind: str, value: Any) -> list[dict[str, Any]]:
    if value in (None, ""):
        return []
    text = scalar(value)
    if text.lower() in ("true", "false", "1", "0", "t", "f"):
        return entries(
            "attest", f"type={kind},disabled={'false' if text.lower() in ('true', '1', 't') else 'true'}"
        )
    return entries("attest", f"type={kind},{text}")


def _secret(item: Any, declared: Mapping[str, Any], where: str) -> dict[str, str]:
    name = scalar(item.get("source")) if isinstance(item, dict) else scalar(item)
    if name not in declared:
        raise UsageError(
            f"failed to parse compose file: {where} refers to undefined secret {name}",
            hint=f"declare it: secrets: {{ {name}: {{ file: … }} }} at the end of the file",
        )
    said = _mapping(declared[name], f"secrets.{name}")
    if said.get("external"):
        raise UsageError(f"unsupported external secret {name}")
    found = {"id": name}
    if said.get("file"):
        found["src"] = scalar(said["file"])
    if said.get("environment"):
        found["env"] = scalar(said["environment"])
    if len(found) == 1:
        raise UsageError(
            f"failed to parse compose file: secret {name} must declare either file or environment"
        )
    return found


def _extension(attrs: dict[str, Any], extension: Any, where: str) -> None:
    """``x-bake``: what Compose has no words for."""
    for key, value in _mapping(extension, f"{where}.x-bake").items():
        if key in _XBAKE:
            texts = (
                value.split() if isinstance(value, str) else _texts(_listed(value, f"{where}.x-bake.{key}"))
            )
            kind = {
                "cache-from": "cache",
                "cache-to": "cache",
                "secret": "secret",
                "ssh": "ssh",
                "output": "output",
            }.get(key)
            fresh: list[Any] = [e for t in texts for e in entries(kind, t)] if kind else list(texts)
            rule = "id" if kind in ("secret", "ssh") else "append"
            attrs[_XBAKE[key]] = distinct([*(attrs.get(_XBAKE[key]) or []), *fresh], rule)
        elif key in ("pull", "no-cache"):
            attrs[key] = _bool(value, f"{where}.x-bake.{key}")
        elif key == "contexts":
            given = {k: _context(scalar(v)) for k, v in _pairs(value, f"{where}.x-bake.contexts").items()}
            attrs["contexts"] = {**given, **(attrs.get("contexts") or {})}
    if attrs.get("ssh"):
        attrs["ssh"] = sorted(attrs["ssh"], key=lambda e: str(e.get("id", "")))
