"""Names on the command line to targets, complete: groups, inheritance, overrides, links (spec cli.md §3.2)."""

from __future__ import annotations

from ..errors import UsageError
from ..values import Value, replace
from . import overrides
from .schema import ATTRIBUTES, Group, Target, merge, normal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from .load import Config
    from .overrides import Override

LINK = "target:"


class Selection(Value):
    """What is to be built.  ``targets``: those asked for and those they build on, by name."""

    targets: Mapping[str, Target]
    groups: Mapping[str, Group]
    read_allowed: tuple[str, ...] = ()
    write_allowed: tuple[str, ...] = ()
    granted: tuple[str, ...] = ()


class Resolver:
    """Resolves targets of one configuration, each once."""

    def __init__(self, config: Config, found: Mapping[str, list[Override]]) -> None:
        self.config = config
        self.found = found

    def target(self, name: str) -> Target:
        """A target with all it inherits; raises UsageError."""
        out = self._inherit(name, {})
        if out is None:
            raise UsageError(f"failed to find target {name}")
        attrs = {k: v for k, v in out.attrs.items() if k != "inherits"}
        attrs.setdefault("context", self.config.bases.get(name) or ".")
        attrs["dockerfile"] = attrs.get("dockerfile") or "Dockerfile"
        return replace(out, attrs=attrs)

    def _inherit(self, name: str, visited: dict[str, Target | None], by: str = "") -> Target | None:
        if name in visited:
            return visited[name]
        visited[name] = None
        own = self.config.targets.get(name)
        if own is None:
            from .source import meant

            known = [*self.config.targets, *self.config.groups]
            hint = meant(name, known).strip() or overrides.known_names(known) or ""
            whose = f"target {by} inherits it. " if by else ""
            raise UsageError(f"failed to find target {name}", hint=f"{whose}{hint}" or None)
        below = Target(name, {})
        for parent in own.get("inherits", ()):
            got = self._inherit(parent, visited, name)
            if got is not None:
                below = merge(below, got)
        out = merge(below, own)
        if name in self.found:
            out = overrides.apply(out, self.found[name])
        visited[name] = normal(out)
        return visited[name]

    def group(self, name: str) -> tuple[list[str], list[str]]:
        """(targets, groups) that a name stands for, each once."""
        targets, groups = self._group(name, {})
        return list(dict.fromkeys(targets)), list(dict.fromkeys(groups))

    def _group(
        self, name: str, visited: dict[str, tuple[list[str], list[str]]]
    ) -> tuple[list[str], list[str]]:
        if name in visited:
            return visited[name]
        found = self.config.groups.get(name)
        if found is None:
            return [name], []
        visited[name] = ([], [])
        targets: list[str] = []
        groups = [name]
        for one in found.targets:
            if one == name and one in self.config.targets:
                targets.append(one)  # a group may hold the target it hides
                continue
            below, inner = self._group(one, visited)
            targets += below
            groups += inner
        visited[name] = (targets, groups)
        return targets, groups

    def link(self, name: str, targets: dict[str, Target], path: tuple[str, ...]) -> None:
        """Bring in what a target builds on; raises UsageError on loops and on platforms that don't fit."""
        path = (*path, name)
        for value in (targets[name].get("contexts") or {}).values():
            if not value.startswith(LINK):
                continue
            other = value[len(LINK) :]
            if other == name:
                raise UsageError(f"target {name} cannot link to itself")
            if other in path:
                raise UsageError(f"infinite loop from {name} to {other}")
            if other not in targets:
                targets[other] = replace(self.target(other), linked=True).with_(
                    output=[{"type": "cacheonly"}]
                )
            self.link(other, targets, path)
            self._fits(name, other, targets)

    def _fits(self, name: str, other: str, targets: dict[str, Target]) -> None:
        mine, theirs = targets[name], targets[other]
        wanted = [e for e in theirs.get("entitlements", ()) if e not in mine.get("entitlements", ())]
        if wanted:
            targets[name] = mine.with_(entitlements=[*mine.get("entitlements", ()), *wanted])
        a, b = mine.get("platforms") or [], theirs.get("platforms") or []
        if len(a) > 1 and len(b) > 1 and not set(a) <= set(b):
            raise UsageError(
                f"target {other} can't be used by {name} because its platforms {_go_list(a)} are not a subset of {_go_list(b)}"
            )


def _go_list(items: Iterable[str]) -> str:
    return "[" + " ".join(items) + "]"


def select(
    config: Config, names: Sequence[str], given: Sequence[str], environ: Mapping[str, str]
) -> Selection:
    """The targets behind ``names``, with the overrides ``given`` applied.  Raises UsageError."""
    wanted: list[str] = []
    for pattern in [n.replace(".", "_") for n in names] or ["default"]:
        wanted += _match(config, pattern)
    wanted = list(dict.fromkeys(wanted))
    found = overrides.parse(given, list(config.targets), environ)
    resolver = Resolver(config, found)
    targets: dict[str, Target] = {}
    groups: dict[str, Group] = {}
    for name in wanted:
        below, inner = resolver.group(name)
        for one in below:
            targets.setdefault(one, resolver.target(one))
        groups.update((g, config.groups[g]) for g in inner)
    extra = [n for n in wanted if not (n == "default" and "default" in groups)]
    if extra:
        held = groups.get("default", Group("default"))
        groups["default"] = replace(held, targets=(*held.targets, *extra))
    if "default" in groups:
        default = groups["default"]
        groups["default"] = replace(default, targets=tuple(sorted(set(default.targets))))
    for name in list(targets):
        resolver.link(name, targets, ())
    read, write = overrides.paths_allowed(found)
    granted = [v for items in found.values() for o in items if o.key == "entitlements" for v in o.values]
    return Selection(targets, groups, tuple(read), tuple(write), tuple(granted))


def _match(config: Config, pattern: str) -> list[str]:
    if not set(pattern) & set("*?[]"):
        return [pattern]
    known = [*config.groups, *config.targets]
    found = [n for n in known if overrides.glob(pattern, n)]
    if not found:
        raise UsageError(f'could not find any target matching "{pattern}"', hint=overrides.known_names(known))
    return found


# -- printing --------------------------------------------------------------------------------------


def print_json(selection: Selection) -> str:
    """What ``--print`` shows: a JSON bake file that gives the same targets again."""
    import json

    text = json.dumps(as_document(selection), indent=2, ensure_ascii=False)
    for c in "<>&\u2028\u2029":
        text = text.replace(c, f"\\u{ord(c):04x}")
    return text


def as_document(selection: Selection) -> dict[str, Any]:
    """Groups and targets by name, sorted."""
    document: dict[str, Any] = {}
    if selection.groups:
        document["group"] = {
            name: {**({"description": g.description} if g.description else {}), "targets": list(g.targets)}
            for name, g in sorted(selection.groups.items())
        }
    document["target"] = {name: printed(t) for name, t in sorted(selection.targets.items())}
    return document


def printed(target: Target) -> dict[str, Any]:
    """A target's attributes as JSON has them, in their order, templates escaped."""
    out: dict[str, Any] = {}
    for name in ATTRIBUTES:
        value = target.attrs.get(name)
        if value is None or (isinstance(value, (list, dict, str)) and not value):
            continue
        out[name] = _escaped(value)
    return out


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("${", "$${").replace("%{", "%%{")
    if isinstance(value, list):
        return [_escaped(v) for v in value]
    if isinstance(value, dict):
        keys = list(value) if "paths" in value or "id" in value else sorted(value)
        return {k: _escaped(value[k]) for k in keys if value[k] is not None}
    return value
