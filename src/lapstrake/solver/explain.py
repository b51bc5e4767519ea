"""Why a vertex was not cached: its key's parts against those of the nearest earlier run.

Parts are plain strings by name.  Values that may be private (environment) are kept as short hashes:
a reason names what changed, never what it changed to.
"""

from __future__ import annotations

from hashlib import sha256

from ..graph.ops import CopyOp, ExecOp, MkdirOp
from ..graph.vertex import Vertex, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def _short(value: object) -> str:
    return sha256(encode(value)).hexdigest()[:16]


def slot(vertex: Vertex) -> str:
    """What makes two runs "the same step": stage and number, not the text."""
    head, sep, _ = vertex.name.partition("]")
    return head.rpartition("/")[0] if sep and "/" in head else vertex.name


def parts_of(vertex: Vertex, identities: tuple[str, ...]) -> dict[str, str]:
    """The named parts of a vertex's key.  ``identities``: what each input is known by."""
    op = vertex.op
    parts: dict[str, str] = {}
    rest: tuple[str, ...]
    if isinstance(op, ExecOp):
        parts["command"] = _short(op.args)
        for item in op.env:
            name, _, value = item.partition("=")
            parts[f"env {name}"] = _short(value)
        for mount in op.mounts:
            parts[f"mount {mount.target or mount.id}"] = _short(mount)
        parts["platform"] = str(op.platform)
        rest = (
            "cwd",
            "user",
            "network",
            "security",
            "hostname",
            "ulimits",
            "shm_size",
            "cgroup_parent",
            "devices",
        )
    elif isinstance(op, CopyOp):
        parts["command"] = _short((op.sources, op.parts, op.dest))
        for name, content in op.files:
            parts[f"heredoc {name}"] = _short(content)
        rest = ("cwd", "chown", "chmod", "parents", "exclude", "link", "unpack", "add")
    elif isinstance(op, MkdirOp):
        rest = ("path", "user", "epoch")
    else:
        parts["source"] = op.identifier
        rest = ()
    for name in rest:
        parts[name] = _short(getattr(op, name))
    for i, identity in enumerate(identities):
        parts[f"input {i}"] = identity
    return parts


def reason(
    old: Mapping[str, str],
    new: Mapping[str, str],
    *,
    inputs: tuple[str, ...],
    files: Callable[[int], list[str]] | None = None,
) -> str:
    """One line, the nearest cause first.  ``inputs``: display names; ``files(i)``: what differs in input ``i``."""
    changed = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
    if not changed:
        return "its earlier result is gone from the store"
    for key in changed:
        if key.startswith("input "):
            i = int(key[6:])
            differs = files(i) if files is not None else []
            if differs:
                more = f" and {len(differs) - 3} more" if len(differs) > 3 else ""
                return f"{len(differs)} file{'s' if len(differs) != 1 else ''} differ{'' if len(differs) != 1 else 's'}: {', '.join(differs[:3])}{more}"
    if "command" in changed:
        return "the instruction's text changed"
    for prefix, word in (("env ", "ARG or ENV"), ("heredoc ", "heredoc"), ("mount ", "mount")):
        names = [k[len(prefix) :] for k in changed if k.startswith(prefix)]
        if names:
            return f"{word} {', '.join(names)} changed"
    own = [k for k in changed if not k.startswith("input ")]
    if own:
        return f"{', '.join(own)} changed"
    i = int(changed[0][6:])
    name = inputs[i] if i < len(inputs) else "an input"
    if " FROM " in name or name.startswith("FROM "):
        return f"the base image changed: {name.rpartition('FROM ')[2]}"
    return f"what it stands on changed: {name}"
