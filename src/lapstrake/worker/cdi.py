"""``RUN --device``: names of the Container Device Interface to what a step is given (spec dockerfile.md §8.2).

A CDI file describes devices of one kind (``vendor/class``): device nodes, environment variables
and mounts.  Files are read only when a step asks for a device.
"""

from __future__ import annotations

import os

from ..errors import SandboxError
from ..sandbox.spec import Mount
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

DIRECTORIES = ("/etc/cdi", "/var/run/cdi")
CLASS = "org.mobyproject.buildkit.device.class"
_MAX_FILE = 4 << 20


class Edits(Value):
    """What devices add to a step.  ``nodes``: ``host:inside:permissions``."""

    env: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()


def resolve(names: tuple[str, ...], directories: tuple[str, ...] = DIRECTORIES) -> Edits:
    """The edits of the ``--device`` values given; an optional device that is not there adds nothing."""
    from ..dockerfile.runflags import parse_device

    env: list[str] = []
    nodes: list[str] = []
    mounts: list[Mount] = []
    specs: list[dict[str, Any]] | None = None
    for text in names:
        wanted = parse_device(text)
        if specs is None:
            specs = list(_specs(directories))
        found = list(_match(specs, wanted.name))
        if not found and wanted.required:
            raise SandboxError(
                f"device {wanted.name} is required but no CDI specification describes it",
                hint=f"put one into {' or '.join(directories)}",
            )
        for edits in found:
            env += _strings(edits.get("env"))
            nodes += [node for d in _objects(edits.get("deviceNodes")) if (node := _node(d))]
            mounts += [m for d in _objects(edits.get("mounts")) if (m := _mount(d)) is not None]
    return Edits(
        tuple(dict.fromkeys(env)), tuple(dict.fromkeys(nodes)), tuple({m.target: m for m in mounts}.values())
    )


def _specs(directories: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The specifications found, later directories before earlier ones: the more specific wins."""
    for directory in reversed(directories):
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        for name in names:
            if name.endswith((".json", ".yaml", ".yml")):
                document = _read(os.path.join(directory, name))
                if isinstance(document.get("kind"), str):
                    yield document


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as f:
            text = f.read(_MAX_FILE)
        if path.endswith(".json"):
            import json

            document = json.loads(text)
        else:
            import yaml

            document = yaml.safe_load(text)
    except ImportError:
        return {}
    except (OSError, ValueError, RecursionError) as exc:
        raise SandboxError(f"{path} is no CDI specification: {exc}") from exc
    except Exception as exc:  # yaml's errors are of its own family
        raise SandboxError(f"{path} is no CDI specification: {exc}") from exc
    return document if isinstance(document, dict) else {}


def _match(specs: list[dict[str, Any]], name: str) -> Iterator[dict[str, Any]]:
    """The container edits of what ``name`` means: ``kind`` (its first device), ``kind=device``, ``kind=*``, a class."""
    kind, equals, device = name.partition("=")
    for spec in specs:
        devices = _objects(spec.get("devices"))
        if "/" not in name:
            chosen = [d for d in devices if _class_of(spec, d) == name]
        elif spec["kind"] != kind:
            continue
        elif not equals:
            chosen = devices[:1]
        else:
            chosen = [d for d in devices if device in ("*", d.get("name"))]
        if chosen:
            yield _edits(spec)
            yield from map(_edits, chosen)
            if device != "*" and "/" in name:
                return


def _class_of(spec: dict[str, Any], device: dict[str, Any]) -> object:
    for owner in (device, spec):
        annotations = owner.get("annotations")
        if isinstance(annotations, dict) and CLASS in annotations:
            return annotations[CLASS]
    return None


def _edits(owner: dict[str, Any]) -> dict[str, Any]:
    found = owner.get("containerEdits")
    return found if isinstance(found, dict) else {}


def _objects(value: object) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _strings(value: object) -> list[str]:
    return [v for v in value if isinstance(v, str) and "=" in v] if isinstance(value, list) else []


def _node(device: dict[str, Any]) -> str:
    inside = device.get("path")
    if not isinstance(inside, str) or not inside.startswith("/"):
        return ""
    return f"{device.get('hostPath') or inside}:{inside}:{device.get('permissions') or 'rwm'}"


def _mount(given: dict[str, Any]) -> Mount | None:
    source, target = given.get("hostPath"), given.get("containerPath")
    if not isinstance(source, str) or not isinstance(target, str):
        return None
    options = given.get("options")
    return Mount(target, "bind", source=source, readonly=not isinstance(options, list) or "rw" not in options)
