"""What a target can say: its attributes, how they are read and how two of them merge (spec cli.md §3.2)."""

from __future__ import annotations

from ..errors import UsageError
from ..optspec import fields
from ..values import Value, replace
from .types import BOOL, STRING, STRING_MAP, STRINGS, ConversionError, Type, convert

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

#: attribute -> (how it is read, how it merges), in the order of ``--print``
ATTRIBUTES: dict[str, tuple[str, str]] = {
    "description": ("string", "replace"),
    "inherits": ("strings", "append"),
    "annotations": ("strings", "append"),
    "attest": ("attest", "type"),
    "context": ("string", "replace"),
    "contexts": ("map", "map"),
    "dockerfile": ("string", "replace"),
    "dockerfile-inline": ("string", "replace"),
    "args": ("map", "map"),
    "labels": ("map", "map"),
    "tags": ("strings", "replace"),
    "cache-from": ("cache", "append"),
    "cache-to": ("cache", "replace"),
    "target": ("string", "replace"),
    "secret": ("secret", "id"),
    "ssh": ("ssh", "id"),
    "platforms": ("strings", "replace"),
    "output": ("output", "replace"),
    "pull": ("bool", "replace"),
    "no-cache": ("bool", "replace"),
    "network": ("string", "replace"),
    "no-cache-filter": ("strings", "append"),
    "shm-size": ("string", "replace"),
    "ulimits": ("strings", "append"),
    "call": ("string", "replace"),
    "entitlements": ("strings", "append"),
    "extra-hosts": ("map", "map"),
    "resources": ("map", "map"),
    "policy": ("policy", "append"),
}
RESOURCES = ("memory", "memory-swap", "cpu-shares", "cpu-period", "cpu-quota", "cpuset-cpus", "cpuset-mems")
#: Attributes of a target block that are not the target's own.
EXPANSION = ("name", "matrix")


class Target(Value):
    """One target.  ``attrs`` holds what was said: strings, bools, lists of strings, maps of strings (a
    None value leaves the key alone) and lists of entries, which are maps too.  Never changed in place."""

    name: str
    attrs: Mapping[str, Any]
    linked: bool = False  # only there because another target builds on it

    def get(self, name: str, default: Any = None) -> Any:
        """One attribute."""
        return self.attrs.get(name, default)

    def with_(self, **changes: Any) -> Target:
        """Some attributes changed (``_`` for ``-``); None takes one away."""
        named = {k.replace("_", "-"): v for k, v in changes.items()}
        attrs = {k: v for k, v in {**self.attrs, **named}.items() if v is not None}
        return replace(self, attrs=attrs)


class Group(Value):
    """Targets and groups under one name."""

    name: str
    targets: tuple[str, ...] = ()
    description: str = ""


def merge(below: Target, above: Target) -> Target:
    """``above`` over ``below``, attribute by attribute; the name stays."""
    attrs = dict(below.attrs)
    for name, value in above.attrs.items():
        rule = ATTRIBUTES[name][1]
        held = attrs.get(name)
        if (held is None and rule != "map") or rule == "replace":
            attrs[name] = value
        elif rule == "map":
            fresh = {k: v for k, v in value.items() if v is not None}
            if fresh or held:
                attrs[name] = {**(held or {}), **fresh}
        else:
            attrs[name] = distinct([*(held or ()), *value], rule)
    return replace(below, attrs=attrs)


def distinct(items: list[Any], rule: str = "append") -> list[Any]:
    """Each once; of entries with one type or id the last, where the first was."""
    out: list[Any] = []
    for item in items:
        if rule in ("type", "id"):
            mark = item.get(rule)
            at = next((n for n, o in enumerate(out) if o.get(rule) == mark), None)
            if at is not None:
                out[at] = item
                continue
        elif item in out or item == "":
            continue
        out.append(item)
    return out


def normal(target: Target) -> Target:
    """Duplicates and empty entries gone; ``network = "host"`` asks for its entitlement."""
    attrs: dict[str, Any] = {}
    for name, value in target.attrs.items():
        rule = ATTRIBUTES[name][1]
        kept = (
            distinct(value, rule if rule in ("type", "id") else "append")
            if isinstance(value, list)
            else value
        )
        if name == "contexts":
            kept = {k: v for k, v in value.items() if v}
        if kept or not isinstance(kept, (list, dict)):
            attrs[name] = kept
    if attrs.get("network") == "host":
        attrs["entitlements"] = distinct([*attrs.get("entitlements", ()), "network.host"])
    return replace(target, attrs=attrs)


# -- reading ---------------------------------------------------------------------------------------


def read(name: str, value: Any) -> Any:
    """The value of an attribute as it is kept, None when it says nothing.  Raises ConversionError, UsageError."""
    if value is None:
        return None
    kind = ATTRIBUTES[name][0]
    if kind == "string":
        return convert(value, STRING)
    if kind == "bool":
        return convert(value, BOOL)
    if kind == "strings":
        return [v for v in convert(value, STRINGS) if v is not None]
    if kind == "map":
        found = dict(convert(value, STRING_MAP))
        if name == "resources":
            for key in found:
                if key not in RESOURCES:
                    raise ConversionError(f'unknown resource "{key}"; known are {", ".join(RESOURCES)}')
        return found
    if not isinstance(value, tuple):
        raise ConversionError(f"{Type('list')} of strings or objects required")
    out: list[Any] = []
    for n, item in enumerate(value):
        if item is None:
            continue
        try:
            out += entries(kind, item)
        except ConversionError as e:
            raise ConversionError(f"element {n}: {e}") from None
    return out


def entries(kind: str, item: Any) -> list[dict[str, Any]]:
    """One element of a list of entries: a CSV string, or an object."""
    if isinstance(item, str):
        return _TEXTS[kind](item) if item else []
    if not isinstance(item, dict):
        raise ConversionError("string or object required")
    found: dict[str, Any] = {}
    for key, value in item.items():
        if kind == "ssh" and key == "paths":
            found[key] = [p for p in convert(value, STRINGS) if p is not None] if value is not None else []
        elif value is not None:
            found[key] = convert(value, STRING)
    return [_checked(kind, found)]


def _checked(kind: str, entry: dict[str, Any]) -> dict[str, Any]:
    if kind in ("output", "cache", "attest") and not entry.get("type"):
        if kind == "output":
            raise UsageError("type is required for output")
        if kind == "attest":
            raise UsageError("attestation type not specified")
        shown = ",".join(f"{k}={v}" for k, v in entry.items())
        raise UsageError(f'type required for "{shown}"')
    if kind == "attest":
        if "disabled" in entry:
            disabled = boolean(str(entry.pop("disabled")), "disabled")
            if disabled:
                entry["disabled"] = True
        return entry
    if kind in ("secret", "ssh"):
        known = ("id", "src", "env") if kind == "secret" else ("id", "paths")
        for key, value in entry.items():
            if key not in known:
                raise UsageError(f"unexpected key '{key}' in '{key}={value}'")
        return {k: entry[k] for k in known if entry.get(k)}
    return entry


def boolean(text: str, key: str) -> bool:
    """As Go's ``ParseBool``; raises UsageError."""
    from ..dockerfile.numbers import parse_bool

    try:
        return parse_bool(text)
    except ValueError:
        raise UsageError(f"invalid value {text} for boolean key {key}") from None


def _pairs(text: str, lower: bool = True) -> list[tuple[str, str]]:
    out = []
    for field in fields(text):
        key, eq, value = field.partition("=")
        if not eq:
            raise UsageError(f"invalid value {field}", hint=f"key=value is needed, in {text}")
        key = key.strip()
        out.append((key.lower() if lower and not key.lower().startswith("annotation") else key, value))
    return out


def _output(text: str) -> list[dict[str, Any]]:
    parts = fields(text)
    if len(parts) == 1 and parts[0] == text and not text.startswith("type="):
        if text == "-":
            return [{"type": "tar", "dest": "-"}]
        return [{"type": "local", "dest": text}]
    return [_checked("output", dict(_pairs(text)))]


def _cache(text: str) -> list[dict[str, Any]]:
    if "=" not in text:
        return [{"type": "registry", "ref": part} for part in fields(text) if part]
    found = dict(_pairs(text))
    if not found.get("type"):
        raise UsageError(f'type required for "{text}"')
    return [found]


def _attest(text: str) -> list[dict[str, Any]]:
    return [_checked("attest", dict(_pairs(text, lower=False)))]


def _secret(text: str) -> list[dict[str, Any]]:
    found: dict[str, Any] = {}
    kind = ""
    for key, value in _pairs(text):
        if key == "type":
            if value not in ("file", "env"):
                raise UsageError(f'unsupported secret type "{value}"')
            kind = value
        else:
            found["src" if key == "source" else key] = value
    if kind == "env" and not found.get("env"):
        found["env"] = found.pop("src", "")
    return [_checked("secret", found)]


def _ssh(text: str) -> list[dict[str, Any]]:
    ident, _, paths = text.partition("=")
    return [_checked("ssh", {"id": ident, "paths": [p for p in paths.split(",") if p]})]


def _policy(text: str) -> list[dict[str, Any]]:
    return [dict(_pairs(text))]


_TEXTS: dict[str, Callable[[str], list[dict[str, Any]]]] = {
    "output": _output, "cache": _cache, "attest": _attest, "secret": _secret, "ssh": _ssh, "policy": _policy,
}  # fmt: skip
