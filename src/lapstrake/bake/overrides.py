"""``--set pattern.key[.sub]=value`` and ``+=`` (spec cli.md §3.3)."""

from __future__ import annotations

from ..errors import UsageError
from ..values import Value
from .schema import ATTRIBUTES, RESOURCES, Target, boolean, distinct, entries

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

#: key of ``--set`` -> attribute, where their names differ
_NAMES = {"platform": "platforms", "secrets": "secret"}
_LISTS = (
    "annotations", "attest", "cache-from", "cache-to", "entitlements", "no-cache-filter", "output", "platform",
    "policy", "secrets", "ssh", "tags", "ulimits",
)  # fmt: skip
_ALWAYS_APPEND = ("annotations", "attest", "entitlements")
_MAPS = ("args", "contexts", "labels", "extra-hosts", "resources", "secret")
_TEXTS = ("call", "context", "dockerfile", "network", "shm-size", "target")
_FLAGS = ("no-cache", "pull", "push", "load")


class Override(Value):
    """One key of one target: all values that were given, in order."""

    key: str
    sub: str
    values: tuple[str, ...]
    append: bool


def parse(
    given: Iterable[str], targets: Sequence[str], environ: Mapping[str, str]
) -> dict[str, list[Override]]:
    """Overrides by target name.  Raises UsageError."""
    out: dict[str, dict[tuple[str, str], Override]] = {}
    for text in given:
        left, eq, value = text.partition("=")
        append = left.endswith("+")
        words = left.removesuffix("+").split(".", 2)
        if len(words) < 2:
            raise UsageError(
                f"invalid override key {left.removesuffix('+')}, expected target.name",
                hint="for example --set app.args.VERSION=2 or --set *.platform=linux/arm64",
            )
        pattern, key, sub = words[0], words[1], words[2] if len(words) > 2 else ""
        if not eq and key != "args":
            raise UsageError(f"invalid override {text}, expected target.name=value")
        _check(key, sub, left)
        if not eq:
            if sub not in environ:
                continue
            value = environ[sub]
        for name in matching(pattern, targets):
            held = out.setdefault(name, {}).get((key, sub))
            before = held.values if held is not None and key in _LISTS else ()
            out[name][(key, sub)] = Override(key, sub, (*before, value), append)
    return {name: list(found.values()) for name, found in out.items()}


def _check(key: str, sub: str, left: str) -> None:
    if key in _MAPS:
        if not sub:
            raise UsageError(
                f"invalid key {left}, {key} requires name", hint=f"write TARGET.{key}.NAME=VALUE"
            )
    elif key not in (*_LISTS, *_TEXTS, *_FLAGS):
        from .source import meant

        known = (*_LISTS, *_MAPS, *_TEXTS, *_FLAGS)
        raise UsageError(
            f"unknown key: {key}", hint=meant(key, known).strip() or f"known are {', '.join(sorted(known))}"
        )


def matching(pattern: str, names: Sequence[str]) -> list[str]:
    """The names a pattern stands for; raises UsageError when there is none."""
    if pattern in names:
        return [pattern]
    found = [n for n in names if glob(pattern, n)]
    if not found:
        raise UsageError(f"could not find any target matching '{pattern}'", hint=known_names(names))
    return found


def glob(pattern: str, name: str) -> bool:
    """``*``, ``?`` and ``[…]``."""
    from fnmatch import fnmatchcase

    return fnmatchcase(name, pattern.replace("[^", "[!"))


def known_names(names: Sequence[str]) -> str | None:
    """A hint that lists what there is."""
    shown = sorted(names)
    if not shown:
        return None
    more = f" and {len(shown) - 12} more" if len(shown) > 12 else ""
    return "targets are: " + ", ".join(shown[:12]) + more


def apply(target: Target, found: Iterable[Override]) -> Target:
    """The target with its overrides.  Raises UsageError."""
    attrs = dict(target.attrs)
    for o in found:
        name = _NAMES.get(o.key, o.key)
        if o.key in _FLAGS:
            _flag(attrs, o)
        elif o.key in _LISTS:
            attrs[name] = _list(name, o, attrs.get(name))
        elif o.key == "secret":
            attrs["secret"] = _secret(o, attrs.get("secret"))
        elif o.key in _MAPS:
            if o.key == "resources" and o.sub not in RESOURCES:
                raise UsageError(f"unknown resource: {o.sub}", hint="known are " + ", ".join(RESOURCES))
            attrs[name] = {**(attrs.get(name) or {}), o.sub: o.values[-1]}
        else:
            attrs[name] = o.values[-1]
    return Target(target.name, attrs, target.linked)


def _list(name: str, o: Override, held: Any) -> Any:
    kind, rule = ATTRIBUTES[name]
    values: list[Any] = list(o.values)
    if kind != "strings":
        values = [entry for text in o.values for entry in entries(kind, text)]
    elif name == "platforms":
        values = [p.strip() for text in o.values for p in text.split(",")]
    if o.append or o.key in _ALWAYS_APPEND:
        return distinct([*(held or []), *values], rule if rule in ("type", "id") else "append")
    return values


def _flag(attrs: dict[str, Any], o: Override) -> None:
    on = boolean(o.values[-1], o.key)
    if o.key in ("push", "load"):
        outputs = [dict(e) for e in attrs.get("output") or []]
        attrs["output"] = (push if o.key == "push" else load)(outputs, on)
    else:
        attrs[o.key] = on


def push(outputs: list[dict[str, Any]], on: bool) -> list[dict[str, Any]]:
    """Image outputs push, and one is added where there is none but loads; off: none of them does."""
    if not on:
        kept = [o for o in outputs if o["type"] != "registry"]
        return [{**o, "push": "false"} if o["type"] == "image" else o for o in kept]
    out = [{**o, "push": "true"} if o["type"] == "image" else o for o in outputs]
    if all(o["type"] == "docker" for o in out):
        out.append({"type": "image", "push": "true"})
    return out


def load(outputs: list[dict[str, Any]], on: bool) -> list[dict[str, Any]]:
    """The image is loaded too, unless files are asked for."""
    if not on:
        return outputs
    if any(o["type"] == "docker" and not o.get("dest") for o in outputs):
        return outputs
    if any(o["type"] not in ("docker", "image", "registry", "oci") for o in outputs):
        return outputs
    return [*outputs, {"type": "docker"}]


def _secret(o: Override, held: Any) -> Any:
    declared = [dict(s) for s in held or []]
    at = next((n for n, s in enumerate(declared) if s.get("id") == o.sub), None)
    if at is None:
        raise UsageError(
            f'secret "{o.sub}" must be declared before it can be overridden',
            hint="declare it in the bake file, or give it whole: --set TARGET.secrets=id=…",
        )
    kind, eq, value = o.values[-1].partition("=")
    if not eq or kind not in ("env", "src"):
        raise UsageError(
            f"invalid value {o.values[-1]} for secret {o.sub}", hint="write env=NAME or src=FILE"
        )
    declared[at] = {"id": o.sub, kind: value}
    return declared


def paths_allowed(found: Mapping[str, Iterable[Override]]) -> tuple[list[str], list[str]]:
    """(read, written): what ``--set`` names is allowed by naming it."""
    read, write = [], []
    for o in (o for items in found.values() for o in items):
        for value in o.values:
            if o.key in ("secrets", "cache-from", "cache-to", "output", "ssh"):
                kind = ATTRIBUTES[_NAMES.get(o.key, o.key)][0]
                for entry in entries(kind, value):
                    read += [entry[k] for k in ("src",) if entry.get(k)] + list(entry.get("paths", ()))
                    write += [entry["dest"]] if entry.get("dest") else []
            elif o.key == "secret" and value.startswith("src="):
                read.append(value[4:])
            elif o.key in ("context", "contexts"):
                read.append(value)
    return read, write
