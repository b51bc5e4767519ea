"""What two Lapstrakes say to each other over a pair of pipes: frames of JSON, and bytes after them.

A frame is a 4-byte big-endian length and that many bytes of JSON; ``"size": N`` in it announces N
raw bytes.  Values travel by class name from a fixed table, so nothing but data is ever decoded, and
every length is bounded: the other side is not trusted with our memory.
"""

from __future__ import annotations

import json

from ..errors import BuildError, Span
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, BinaryIO

VERSION = 1
MAX_FRAME = 256 << 20
CHUNK = 1 << 20
_ERRORS = ("status", "code", "tail", "vertex", "temporary")


class Lost(BuildError):
    """The other side went away."""


def _table() -> dict[str, type[Value]]:
    from .. import events
    from ..export.base import BuiltImage
    from ..export.options import Annotation, FormOptions
    from ..oci.descriptor import Descriptor
    from ..oci.platform import Platform
    from ..plan import request

    classes: list[type[Value]] = [Span, BuiltImage, Annotation, FormOptions, Descriptor, Platform]
    for module in (events, request):
        own = [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__]
        classes += [c for c in own if issubclass(c, Value)]
    return {c.__name__: c for c in classes}


class Codec:
    """Values to JSON and back."""

    def __init__(self) -> None:
        self._classes = _table()

    def encode(self, value: object) -> object:
        """Anything made of values, tuples, mappings, text, numbers and bytes."""
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, bytes):
            from base64 import b64encode

            return {"$bytes": b64encode(value).decode()}
        if isinstance(value, (tuple, list)):
            return [self.encode(v) for v in value]
        if isinstance(value, dict):
            return {"$map": [[self.encode(k), self.encode(v)] for k, v in value.items()]}
        name = type(value).__name__
        if self._classes.get(name) is not type(value):
            raise TypeError(f"{name} does not travel")
        return {"$": name, **{f: self.encode(getattr(value, f)) for f in value.__fields__}}

    def decode(self, data: object) -> Any:
        """The value again; lists come back as tuples.  Raises BuildError for what was not encoded by us."""
        if isinstance(data, list):
            return tuple(self.decode(v) for v in data)
        if not isinstance(data, dict):
            return data
        try:
            if "$bytes" in data:
                from base64 import b64decode

                return b64decode(data["$bytes"], validate=True)
            if "$map" in data:
                return {self.decode(k): self.decode(v) for k, v in data["$map"]}
            known = self._classes[data["$"]]
            given = {k: self.decode(v) for k, v in data.items() if k in known.__fields__}
            return known(**given)
        except (KeyError, TypeError, ValueError) as e:
            raise BuildError(f"the other side sent what is not understood here: {e}") from e

    def error(self, error: BaseException) -> dict[str, object]:
        """A failure as it travels."""
        if not isinstance(error, BuildError):
            return {"class": "BuildError", "message": f"{type(error).__name__}: {error}"}
        extra = {k: self.encode(getattr(error, k)) for k in _ERRORS if hasattr(error, k)}
        span = self.encode(error.span)
        return {
            "class": type(error).__name__, "message": error.message, "hint": error.hint, "span": span, "extra": extra,
        }  # fmt: skip

    def failure(self, data: dict[str, Any]) -> BuildError:
        """The failure again."""
        from .. import errors

        kind = getattr(errors, str(data.get("class")), BuildError)
        if not (isinstance(kind, type) and issubclass(kind, BuildError)):
            kind = BuildError
        made = kind(str(data.get("message", "failed")))
        hint, span = data.get("hint"), self.decode(data.get("span"))
        made.hint = hint if isinstance(hint, str) else None
        made.span = span if isinstance(span, Span) else None
        for name, value in (data.get("extra") or {}).items():
            if name in _ERRORS and hasattr(made, name):
                setattr(made, name, self.decode(value))
        return made


class Pipe:
    """Frames over a reading and a writing stream.  One reader and one writer at a time."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source = source
        self._sink = sink

    def send(self, message: dict[str, Any], payload: bytes = b"") -> None:
        """A frame; ``payload`` follows it and is announced as ``size``."""
        if payload:
            message = {**message, "size": len(payload)}
        data = json.dumps(message, ensure_ascii=True, separators=(",", ":")).encode()
        try:
            self._sink.write(len(data).to_bytes(4, "big") + data)
            if payload:
                self._sink.write(payload)
            self._sink.flush()
        except (OSError, ValueError) as e:
            raise Lost("the connection to the node was lost") from e

    def stream(self, message: dict[str, Any], size: int, source: BinaryIO) -> None:
        """A frame, then ``size`` bytes of a file."""
        self.send({**message, "size": size})
        left = size
        try:
            while left:
                block = source.read(min(CHUNK, left))
                if not block:
                    raise Lost("a file became shorter while it was sent")
                self._sink.write(block)
                left -= len(block)
            self._sink.flush()
        except OSError as e:
            raise Lost("the connection to the node was lost") from e

    def receive(self) -> dict[str, Any] | None:
        """The next frame, None at the end."""
        head = self._exactly(4, may_end=True)
        if not head:
            return None
        length = int.from_bytes(head, "big")
        if length > MAX_FRAME:
            raise Lost(f"a frame of {length} bytes is more than is accepted")
        try:
            message = json.loads(self._exactly(length))
        except ValueError as e:
            raise Lost("the other side does not speak Lapstrake's protocol") from e
        if not isinstance(message, dict):
            raise Lost("the other side does not speak Lapstrake's protocol")
        return message

    def payload(self, size: int, write: Callable[[bytes], object]) -> None:
        """The ``size`` bytes after a frame."""
        left = size
        while left:
            block = self._source.read(min(CHUNK, left))
            if not block:
                raise Lost("the connection to the node was lost")
            write(block)
            left -= len(block)

    def _exactly(self, count: int, *, may_end: bool = False) -> bytes:
        parts: list[bytes] = []
        left = count
        while left:
            try:
                block = self._source.read(left)
            except OSError as e:
                raise Lost("the connection to the node was lost") from e
            if not block:
                if may_end and left == count:
                    return b""
                raise Lost("the connection to the node was lost")
            parts.append(block)
            left -= len(block)
        return b"".join(parts)
