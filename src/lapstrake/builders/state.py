"""Named builders on disk, in the files and the layout buildx uses (``instances/NAME``, ``current``).

A builder here is a name with settings: nothing runs between builds.  ``docker`` and
``docker-container`` are accepted as other names of ``local``, so that scripts keep working.
"""

from __future__ import annotations

import json
import os

from ..errors import BuildError, UsageError
from ..values import Value, replace
from ..whole import write_whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT = "default"
LOCAL_DRIVERS = ("local", "docker", "docker-container")
DRIVERS = (*LOCAL_DRIVERS, "ssh")
_MAX_FILE = 1 << 20
_OK = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


class Node(Value):
    """One member of a builder."""

    name: str
    endpoint: str = ""
    platforms: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    config: str = ""


class Builder(Value):
    """A named set of nodes."""

    name: str
    driver: str = "local"
    nodes: tuple[Node, ...] = ()
    dynamic: bool = False  # always there, never on disk


def check_name(name: str, what: str = "builder") -> str:
    """A name that is a plain file name."""
    if not name or not set(name) <= _OK or name[0] in ".-_" or len(name) > 128:
        raise UsageError(
            f'invalid {what} name "{name}"', hint="letters, digits and . _ - after the first character"
        )
    return name


class BuilderStore:
    """All builders under one directory."""

    def __init__(self, directory: str) -> None:
        self._dir = directory
        self._instances = os.path.join(directory, "instances")

    def default(self) -> Builder:
        """The builder that is always there."""
        return Builder(DEFAULT, "local", (Node(DEFAULT, DEFAULT),), dynamic=True)

    def find(self, name: str) -> Builder | None:
        """A builder by name, or None."""
        if name == DEFAULT:
            return self.default()
        if not name or not set(name) <= _OK or name[0] in ".-_":
            return None
        doc = self._read(os.path.join(self._instances, name))
        return _decode(doc, name) if doc is not None else None

    def get(self, name: str) -> Builder:
        """A builder by name; the current one for an empty name."""
        wanted = name or self.current()
        found = self.find(wanted)
        if found is None:
            raise UsageError(f'no builder "{wanted}" found', hint="`lapstrake ls` lists them", exit_code=1)
        return found

    def all(self) -> list[Builder]:
        """Every builder, the default one first."""
        try:
            names = sorted(os.listdir(self._instances))
        except OSError:
            names = []
        found = [b for n in names if n != DEFAULT and (b := self.find(n)) is not None]
        return [self.default(), *found]

    def current(self) -> str:
        """The name of the builder in use."""
        doc = self._read(os.path.join(self._dir, "current"))
        name = str(doc.get("Name") or DEFAULT) if doc else DEFAULT
        return name if self.find(name) is not None else DEFAULT

    def use(self, name: str, *, everywhere: bool = False) -> None:
        """Make a builder the current one."""
        self.get(name)
        self._write(
            os.path.join(self._dir, "current"),
            {"Key": "", "Name": "" if name == DEFAULT else name, "Global": everywhere},
        )

    def save(self, builder: Builder) -> None:
        """Store a builder."""
        check_name(builder.name)
        if builder.name == DEFAULT:
            raise UsageError('"default" is a reserved name and cannot be used to identify builder instance')
        self._write(os.path.join(self._instances, builder.name), _encode(builder))

    def remove(self, name: str) -> None:
        """Forget a builder."""
        builder = self.get(name)
        if builder.dynamic:
            raise UsageError(f'builder "{builder.name}" cannot be removed: it is always there')
        was_current = self.current() == builder.name
        os.unlink(os.path.join(self._instances, builder.name))
        if was_current:
            self.use(DEFAULT)

    def _read(self, path: str) -> dict[str, Any] | None:
        try:
            with open(path, "rb") as f:
                doc = json.loads(f.read(_MAX_FILE))
        except (OSError, ValueError):
            return None
        return doc if isinstance(doc, dict) else None

    def _write(self, path: str, doc: dict[str, object]) -> None:
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            write_whole(path, json.dumps(doc).encode())
        except OSError as e:
            raise BuildError(f"failed to write {path}: {e.strerror}") from e


def add_node(builder: Builder, node: Node) -> Builder:
    """Append a node, or change the one of that name."""
    check_name(node.name, "node")
    if any(n.name == node.name for n in builder.nodes):
        return replace(builder, nodes=tuple(node if n.name == node.name else n for n in builder.nodes))
    return replace(builder, nodes=(*builder.nodes, node))


def drop_node(builder: Builder, name: str) -> Builder:
    """Take a node away."""
    left = tuple(n for n in builder.nodes if n.name != name)
    if len(left) == len(builder.nodes):
        raise BuildError(f'unable to find node "{name}" for instance "{builder.name}"')
    return replace(builder, nodes=left)


def next_node_name(builder: Builder) -> str:
    """``NAME0``, ``NAME1``, …"""
    taken = {n.name for n in builder.nodes}
    i = 0
    while f"{builder.name}{i}" in taken:
        i += 1
    return f"{builder.name}{i}"


def _encode(b: Builder) -> dict[str, object]:
    nodes: list[dict[str, object]] = []
    for n in b.nodes:
        platforms = [
            dict(zip(("os", "architecture", "variant"), p.split("/"), strict=False)) for p in n.platforms
        ]
        nodes.append({
            "Name": n.name, "Endpoint": n.endpoint, "Platforms": platforms or None, "DriverOpts": dict(n.options),
            "Flags": None, "Files": None, "ConfigFile": n.config,
        })  # fmt: skip
    return {"Name": b.name, "Driver": b.driver, "Nodes": nodes, "Dynamic": False}


def _decode(doc: dict[str, Any], name: str) -> Builder:
    nodes = []
    for raw in doc.get("Nodes") or []:
        if not isinstance(raw, dict):
            continue
        platforms = tuple(
            "/".join(str(p[k]) for k in ("os", "architecture", "variant") if p.get(k))
            for p in raw.get("Platforms") or []
            if isinstance(p, dict)
        )
        options = raw.get("DriverOpts") if isinstance(raw.get("DriverOpts"), dict) else {}
        nodes.append(Node(
            str(raw.get("Name") or name), str(raw.get("Endpoint") or ""), platforms,
            tuple((str(k), str(v)) for k, v in (options or {}).items()), str(raw.get("ConfigFile") or ""),
        ))  # fmt: skip
    return Builder(name, str(doc.get("Driver") or "local"), tuple(nodes))
