"""Why a vertex was not cached: its key's parts against those of the nearest earlier run.

Parts are plain strings by name.  Values that may be private (environment, build arguments) are kept
as short hashes: a reason names what changed, never what it changed to.
"""

from __future__ import annotations

from hashlib import sha256

from ..graph.ops import CopyOp, ExecMount, ExecOp, MkdirOp, SourceOp
from ..graph.vertex import Vertex, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SHOWN_FILES = 3
GONE = "its earlier result is no longer in the store"
FIRST = "no earlier run of this step is known"
_EXEC = (
    "cwd", "user", "network", "security", "hostname", "ulimits", "shm_size", "cgroup_parent", "devices", "extra_hosts",
)  # fmt: skip
_COPY = ("chown", "chmod", "parents", "exclude", "link", "unpack")
_WORDS = {
    "cwd": "the working directory (WORKDIR)",
    "user": "the user (USER)",
    "network": "the network mode (--network)",
    "security": "the security mode (--security)",
    "hostname": "the host name",
    "extra_hosts": "the names of extra hosts (--add-host)",
    "ulimits": "the limits (--ulimit)",
    "shm_size": "the size of /dev/shm (--shm-size)",
    "cgroup_parent": "the parent cgroup (--cgroup-parent)",
    "devices": "the devices (--device)",
    "platform": "the platform",
    "shell": "the shell (SHELL)",
    "epoch": "SOURCE_DATE_EPOCH",
    "path": "the directory",
    "unpack": "--unpack",
}


def _short(value: object) -> str:
    return sha256(encode(value)).hexdigest()[:16]


def slot(vertex: Vertex) -> str:
    """What makes two runs "the same step": platform, stage and number, not the text."""
    head, sep, _ = vertex.name.partition("]")
    return head.rpartition("/")[0] if sep and "/" in head else vertex.name


def text_of(name: str) -> str:
    """A step's name without its number, and without what is shown of a heredoc's body."""
    head, sep, tail = name.partition("] ")
    text = tail if sep and head.startswith("[") else name
    return text.rpartition(" (")[0] if "<<" in text and text.endswith(")") and " (" in text else text


def parts_of(vertex: Vertex, identities: Sequence[str]) -> dict[str, str]:
    """The named parts of a vertex's key.  ``identities``: what each input is known by."""
    op = vertex.op
    parts = {"text": text_of(vertex.name)}
    rest: tuple[str, ...]
    if isinstance(op, ExecOp):
        parts.update(_exec_parts(op))
        rest = _EXEC
    elif isinstance(op, CopyOp):
        parts["command"] = _short((op.sources, op.parts, op.dest))
        for name, content in op.files:
            parts[f"heredoc {name}"] = _short(content)
        if not op.dest.startswith("/"):
            parts["cwd"] = _short(op.cwd)
        rest = _COPY
    elif isinstance(op, MkdirOp):
        rest = ("path", "user", "epoch")
    else:
        parts["source"] = op.identifier
        rest = ()
    for name in rest:
        parts[name] = _short(getattr(op, name))
    for i, identity in enumerate(identities):
        if i == 0 and vertex.stands_alone:
            continue
        parts[f"input {i}"] = identity
        source = vertex.inputs[i].op
        if isinstance(source, SourceOp) and source.scheme == "image":
            parts[f"image {i}"] = source.identifier
    return parts


def _exec_parts(op: ExecOp) -> dict[str, str]:
    parts = {"command": _short(op.args[-1:]), "shell": _short(op.args[:-1]), "platform": str(op.platform)}
    args = set(op.arg_names)
    for item in op.env:
        name, _, value = item.partition("=")
        parts[f"{'ARG' if name in args else 'ENV'} {name}"] = _short(value)
    for mount in op.mounts:
        where = mount.target or mount.env or mount.id
        if mount.kind == "file":
            parts[f"heredoc {where.rpartition('/')[2]}"] = _short(mount.content)
        else:
            parts[f"mount {where}"] = _short(_mount(mount))
    return parts


def _mount(m: ExecMount) -> tuple[object, ...]:
    own: tuple[object, ...] = (
        m.kind,
        m.target,
        m.selector,
        m.readonly,
        m.mode,
        m.uid,
        m.gid,
        m.size,
        m.required,
        m.env,
    )
    # What the key leaves out (a cache's id when it isn't the default) is no reason either.
    return own if m.kind == "cache" and m.id != m.target else (*own, m.id, m.sharing)


def likeness(old: Mapping[str, str], new: Mapping[str, str]) -> int:
    """How many parts two runs share."""
    return sum(old.get(k) == v for k, v in new.items())


def reason(
    old: Mapping[str, str],
    new: Mapping[str, str],
    *,
    inputs: Sequence[str],
    files: Callable[[int], tuple[list[str], int]] | None = None,
) -> str:
    """One line, the nearest cause: the step's own text before its files, those before its environment,
    and what it stands on last.  ``inputs``: display names; ``files(i)``: (what differs in input ``i``,
    how many files there are)."""
    changed = [k for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k)]
    if "input 0" in changed and "input 0" not in old:
        changed.remove("input 0")
    own = [k for k in changed if not k.startswith(("input ", "image ", "text"))]
    text = _text_reason(own, "text" in changed, new)
    if text:
        return text
    for key in changed:
        if key.startswith("input ") and files is not None:
            differs, total = files(int(key[6:]))
            if differs:
                return _files_reason(differs, total)
    named = _named_reason(own, old, new)
    if named:
        return named
    return _input_reason(changed, old, new, inputs)


def _text_reason(own: Sequence[str], text: bool, new: Mapping[str, str]) -> str:
    heredocs = [k[8:] for k in own if k.startswith("heredoc ")]
    if text and ("command" in own or "path" in own):
        return "the instruction's text changed"
    if heredocs:
        return f"the text of heredoc {', '.join(heredocs)} changed"
    if "command" not in own and "path" not in own:
        return ""
    names = _variables(new.get("text", ""))
    if "shell" not in new and names:
        return f"ARG or ENV {', '.join(names)} changed"
    return "the heredoc's text changed" if "<<" in new.get("text", "") else "the instruction's text changed"


def _variables(text: str) -> list[str]:
    """Names of the variables a text refers to, in order."""
    out: list[str] = []
    for piece in text.split("$")[1:]:
        piece = piece.removeprefix("{")  # noqa: PLW2901
        n = 0
        while n < len(piece) and (piece[n].isalnum() or piece[n] == "_"):
            n += 1
        if n and piece[:n] not in out:
            out.append(piece[:n])
    return out


def _files_reason(differs: Sequence[str], total: int) -> str:
    more = f" and {len(differs) - SHOWN_FILES} more" if len(differs) > SHOWN_FILES else ""
    shown = ", ".join(differs[:SHOWN_FILES]) + more
    of = f" of {total}" if total > 1 and total >= len(differs) else ""  # what is gone is in no total
    return f"{len(differs)}{of} file{'s' if max(total, len(differs)) != 1 else ''} differ{'s' if len(differs) == 1 else ''}: {shown}"


def _named_reason(own: Sequence[str], old: Mapping[str, str], new: Mapping[str, str]) -> str:
    for prefix, word in (("ARG ", "ARG"), ("ENV ", "ENV"), ("mount ", "the mount")):
        keys = [k for k in own if k.startswith(prefix)]
        if keys:
            how = {"added" if k not in old else "removed" if k not in new else "changed" for k in keys}
            names = ", ".join(k[len(prefix) :] for k in keys)
            return f"{word} {names} {how.pop() if len(how) == 1 else 'changed'}"
    if "platform" in own:
        return f"the platform changed: {old.get('platform', 'none')} -> {new.get('platform', 'none')}"
    return f"{', '.join(_WORDS.get(k, '--' + k) for k in own)} changed" if own else ""


def _input_reason(
    changed: Sequence[str], old: Mapping[str, str], new: Mapping[str, str], inputs: Sequence[str]
) -> str:
    for key in changed:
        if key.startswith("image "):
            before, after = old.get(key, ""), new.get(key, "")
            if before and after:
                return f"the base image changed: {_images(before, after)}"
    for key in changed:
        if key.startswith("input "):
            i = int(key[6:])
            return f"what it stands on changed: {inputs[i] if i < len(inputs) else 'an input'}"
    return GONE


def _images(before: str, after: str) -> str:
    (name, _, old), (other, _, new) = before.partition("@"), after.partition("@")
    if name == other:
        return f"{name} {old[:19]} -> {new[:19]}"
    return f"{name} -> {other}"
