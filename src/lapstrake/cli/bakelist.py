"""``bake --list``: the targets or the variables of bake files."""

from __future__ import annotations

from .. import optspec
from ..errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TextIO

    from ..bake.load import Config


def show_list(what: str, config: Config, out: TextIO) -> int:
    """``--list=targets|variables``, also as ``type=…,format=json``."""
    said: Mapping[str, str] = {"type": what} if "=" not in what else dict(optspec.key_values(what))
    kind, form = said.get("type", ""), said.get("format", "table")
    if kind not in ("targets", "variables") or form not in ("table", "json"):
        raise UsageError(
            f"invalid list {what}", hint="use targets or variables, or type=variables,format=json"
        )
    rows, document = _targets(config) if kind == "targets" else _variables(config)
    if form == "json":
        import json

        out.write(json.dumps(document, indent=2) + "\n")
    else:
        from ..dockerfile.outline import table

        out.write(table(rows))
    return 0


def _targets(config: Config) -> tuple[list[tuple[str, ...]], list[dict[str, Any]]]:
    rows: list[tuple[str, ...]] = [("TARGET", "DESCRIPTION")]
    document: list[dict[str, Any]] = []
    for name in sorted({*config.groups, *config.targets}):
        group = config.groups.get(name)
        about = group.description if group is not None else config.targets[name].get("description", "")
        shown = about
        if group is not None:
            shown = f"{about} ({', '.join(group.targets)})" if about else ", ".join(group.targets)
        rows.append((name, shown))
        entry: dict[str, Any] = {"name": name}
        if about:
            entry["description"] = about
        if group is not None:
            entry |= {"group": True, "targets": list(group.targets)}
        document.append(entry)
    return rows, document


def _variables(config: Config) -> tuple[list[tuple[str, ...]], list[dict[str, Any]]]:
    rows: list[tuple[str, ...]] = [("VARIABLE", "TYPE", "VALUE", "DESCRIPTION")]
    document = []
    for v in config.variables:
        rows.append((v.name, v.type, "<null>" if v.value is None else v.value, v.description))
        entry = {"name": v.name, "type": v.type, "description": v.description, "value": v.value}
        document.append({k: x for k, x in entry.items() if x not in (None, "") or k == "name"})
    return rows, document
