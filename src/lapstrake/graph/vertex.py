"""Vertices: an op and its inputs, named by the digest of both."""

from __future__ import annotations

from hashlib import sha256

from ..errors import Span
from ..values import Value
from .ops import UNKEYED, CopyOp, ExecMount, ExecOp, Op

RECIPE = "lapstrake.key.v1"


def encode(value: object) -> bytes:
    """Canonical, injective bytes of a value made of Values, tuples, strings, numbers and None."""
    if value is None:
        return b"n;"
    if isinstance(value, bool):
        return b"t;" if value else b"f;"
    if isinstance(value, int):
        return b"i%d;" % value
    if isinstance(value, str):
        raw = value.encode("utf-8", "surrogateescape")
        return b"s%d:" % len(raw) + raw
    if isinstance(value, bytes):
        return b"b%d:" % len(value) + value
    if isinstance(value, tuple):
        return b"(%d:" % len(value) + b"".join(map(encode, value)) + b")"
    if isinstance(value, Value):
        default = value.__defaults__  # left out, so that a new optional field changes no existing key
        fields = [
            f
            for f in value.__fields__
            if f not in UNKEYED and not (f in default and getattr(value, f) == default[f])
        ]
        head = encode(type(value).__name__) + b"{%d:" % len(fields)
        return head + b"".join(encode(f) + encode(getattr(value, f)) for f in fields) + b"}"
    raise TypeError(f"can't encode {type(value).__name__}")


def op_key(op: Op) -> str:
    """Digest of one op's definition."""
    if isinstance(op, ExecOp):
        from ..values import replace

        # Names of extra hosts are in the key, their addresses are not (spec dockerfile.md §8).
        op = replace(
            op,
            extra_hosts=tuple((n, "") for n, _ in op.extra_hosts),
            mounts=tuple(_mount_key(m) for m in op.mounts),
        )
    elif isinstance(op, CopyOp) and op.cwd and op.dest.startswith("/"):
        from ..values import replace

        op = replace(op, cwd="")  # not looked at when the destination is absolute
    return sha256(encode((RECIPE, op))).hexdigest()


def _mount_key(mount: ExecMount) -> ExecMount:
    from ..values import replace

    if mount.kind == "cache" and mount.id != mount.target:
        return replace(mount, id="", sharing="")
    return mount


class Vertex:
    """One op with its inputs.  Equal digests mean equal work, whatever platform asked for it."""

    __slots__ = ("digest", "ignore_cache", "inputs", "name", "op", "op_digest", "span", "stage")

    def __init__(
        self,
        op: Op,
        inputs: tuple[Vertex, ...],
        name: str,
        *,
        span: Span | None = None,
        ignore_cache: bool = False,
        stage: str = "",
    ) -> None:
        self.op = op
        self.inputs = inputs
        self.name = name
        self.span = span
        self.ignore_cache = ignore_cache
        self.stage = stage
        self.op_digest = op_key(op)
        self.digest: str = (
            "sha256:" + sha256(encode((RECIPE, self.op_digest, tuple(i.digest for i in inputs)))).hexdigest()
        )

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vertex) and other.digest == self.digest

    def __repr__(self) -> str:
        return f"<Vertex {self.name} {self.digest[7:19]}>"

    @property
    def stands_alone(self) -> bool:
        """Whether the layer is the same whatever it is put on (``COPY --link``): input 0 then only says
        where it goes, and is not part of the key."""
        return isinstance(self.op, CopyOp) and self.op.link

    @property
    def content_inputs(self) -> tuple[int, ...]:
        """Inputs that count by their selected content, not by how they were made."""
        if isinstance(self.op, CopyOp):
            return tuple(range(1, len(self.inputs)))
        if isinstance(self.op, ExecOp):
            return tuple(m.input for m in self.op.mounts if m.input > 0)
        return ()


def walk(targets: tuple[Vertex, ...] | list[Vertex]) -> list[Vertex]:
    """All vertices below ``targets``, inputs first, each once."""
    seen: set[str] = set()
    out: list[Vertex] = []
    stack: list[tuple[Vertex, bool]] = [(t, False) for t in reversed(list(targets))]
    while stack:
        vertex, done = stack.pop()
        if done:
            out.append(vertex)
            continue
        if vertex.digest in seen:
            continue
        seen.add(vertex.digest)
        stack.append((vertex, True))
        stack.extend((i, False) for i in reversed(vertex.inputs))
    return out
