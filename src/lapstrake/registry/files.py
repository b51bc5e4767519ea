"""What other programs' files on this machine say of registries (spec oci.md §10.5).

containers' registries.conf (version 2), dockerd's daemon.json, buildkitd.toml's ``[registry]``:
read once, when a client is made.  The paths come from ``config``; nothing here looks for any.
"""

from __future__ import annotations

from ..errors import UsageError
from ..values import Value, replace
from .config import Proxies, RegistryConfig, Rule, RuleMirror, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_MAX_FILE = 1 << 20


class RegistryFiles(Value):
    """Where to read, and what the environment and the command line say.

    ``registries_conf``: read in order, a later file's rule for a prefix replaces an earlier one's;
    a name that ends in ``.d`` is a directory of such files.  ``creds``: (registry, user, password).
    """

    registries_conf: tuple[str, ...] = ()
    daemon_json: tuple[str, ...] = ()
    auth_files: tuple[str, ...] = ()
    certs_dirs: tuple[str, ...] = ()
    cert_dir: str = ""
    ca_bundle: str = ""
    proxies: Proxies = Proxies()
    tls_verify: bool | None = None
    creds: tuple[tuple[str, str, str], ...] = ()
    short_names: bool = False
    helper_path: str = ""

    def __repr__(self) -> str:
        return f"RegistryFiles(auth_files={self.auth_files!r})"  # creds are secret


def load(tables: Mapping[str, object], files: RegistryFiles) -> RegistryConfig:
    """Everything together.  ``tables``: the user's own ``[registry]``.  Raises UsageError for a damaged file."""
    rules: dict[str, Rule] = {}
    aliases: dict[str, str] = {}
    for path in _expand(files.registries_conf):
        found, names = read_registries_conf(_toml(path), path)
        rules.update((r.prefix, r) for r in found)
        aliases.update(names)
    mirrors: list[str] = []
    insecure: list[str] = []
    for path in files.daemon_json:
        doc = _json(path)
        mirrors += _strings(doc, "registry-mirrors", path)
        insecure += _strings(doc, "insecure-registries", path)
    return replace(
        parse(tables),
        rules=tuple(rules.values()),
        aliases=tuple(sorted(aliases.items())) if files.short_names else (),
        hub_mirrors=tuple(m.rstrip("/") for m in mirrors),
        insecure_hosts=tuple(insecure),
        tls_verify=files.tls_verify,
        proxies=files.proxies,
        ca_bundle=files.ca_bundle,
        certs_dirs=files.certs_dirs,
        cert_dir=files.cert_dir,
    )


def read_registries_conf(doc: Mapping[str, Any], source: str) -> tuple[list[Rule], dict[str, str]]:
    """(rules, short-name aliases) of one file.  The old version 1 tables are passed over."""
    tables = doc.get("registry", [])
    if not isinstance(tables, list):
        return [], {}  # not this format
    rules = []
    for n, table in enumerate(tables, 1):
        where = f"{source}: [[registry]] number {n}"
        if not isinstance(table, dict):
            raise UsageError(f"{where} must be a table")
        location, prefix = _text(table, "location", where), _text(table, "prefix", where)
        if not (location or prefix):
            raise UsageError(f"{where} has neither prefix nor location")
        if prefix.startswith("*.") and location:
            raise UsageError(f"{where}: a prefix with a wildcard can't have a location")
        only = _flag(table, "mirror-by-digest-only", where)
        rules.append(
            Rule(
                _trim(prefix or location),
                _trim(location),
                tuple(_mirror(m, where, only) for m in _tables(table, "mirror", where)),
                _flag(table, "insecure", where),
                _flag(table, "blocked", where),
                source,
            )
        )
    names = doc.get("aliases", {})
    known = {str(k): v for k, v in names.items() if isinstance(v, str)} if isinstance(names, dict) else {}
    return rules, known


def _mirror(table: dict[str, Any], where: str, digest_only: bool) -> RuleMirror:
    location = _trim(_text(table, "location", f"{where}, mirror"))
    if not location or "@" in location or any(c.isspace() for c in location):
        raise UsageError(f"{where}: invalid mirror location {location!r}", hint="write host[:port][/path]")
    pulls = _text(table, "pull-from-mirror", where) or ("digest-only" if digest_only else "all")
    if pulls not in ("all", "digest-only", "tag-only"):
        raise UsageError(f"{where}: pull-from-mirror must be all, digest-only or tag-only, not {pulls!r}")
    return RuleMirror(location, _flag(table, "insecure", where), pulls)


def _trim(location: str) -> str:
    """containers allows a trailing slash and, in old files, a scheme."""
    return (location.partition("://")[2] or location).rstrip("/")


def _tables(table: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise UsageError(f"{where}: {key} must be tables")
    return value


def _text(table: dict[str, Any], key: str, where: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise UsageError(f"{where}: {key} must be a string")
    return value


def _flag(table: dict[str, Any], key: str, where: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise UsageError(f"{where}: {key} must be true or false")
    return value


def _strings(doc: Mapping[str, Any], key: str, path: str) -> list[str]:
    value = doc.get(key) or []
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise UsageError(f"{path}: {key} must be a list of strings")
    return value


def _expand(paths: tuple[str, ...]) -> list[str]:
    import os

    out = []
    for path in paths:
        if path.endswith(".d"):
            try:
                names = sorted(n for n in os.listdir(path) if n.endswith(".conf"))
            except OSError:
                names = []
            out += [os.path.join(path, n) for n in names]
        else:
            out.append(path)
    return out


def _read(path: str) -> bytes:
    """A file's content; nothing when it isn't there or isn't ours to read."""
    try:
        with open(path, "rb") as f:
            raw = f.read(_MAX_FILE + 1)
    except OSError:
        return b""
    if len(raw) > _MAX_FILE:
        raise UsageError(f"{path} is larger than 1 MiB")
    return raw


def _toml(path: str) -> dict[str, Any]:
    raw = _read(path)
    if not raw.strip():
        return {}
    import tomllib

    try:
        return tomllib.loads(raw.decode())
    except ValueError as e:
        raise UsageError(f"failed to read {path}: {e}") from None


def _json(path: str) -> dict[str, Any]:
    raw = _read(path)
    if not raw.strip():
        return {}
    import json

    try:
        doc = json.loads(raw)
    except (ValueError, RecursionError) as e:
        raise UsageError(f"failed to read {path}: {e}") from None
    if not isinstance(doc, dict):
        raise UsageError(f"failed to read {path}: not a JSON object")
    return doc
