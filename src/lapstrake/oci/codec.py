"""JSON documents: written byte for byte the same everywhere, read with bounds."""

from __future__ import annotations

from ..errors import ResolveError
from .digest import digest_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["MAX_DOCUMENT", "digest_of", "dumps", "loads"]

MAX_DOCUMENT = 4 << 20  # registries are only required to take manifests up to 4 MiB


def dumps(obj: object, *, replace: bool = False) -> bytes:
    """Compact UTF-8 JSON with sorted keys: the same value gives the same bytes.

    ``replace``: bytes that are no text become U+FFFD, as Go writes them; strict readers refuse the
    lone escapes that keep them.
    """
    import json

    try:
        return json.dumps(
            obj, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
        ).encode()
    except UnicodeEncodeError:  # lone surrogates (names that are not UTF-8) can only be written as escapes
        if replace:
            text = json.dumps(obj, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
            return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text).encode()
        return json.dumps(obj, allow_nan=False, sort_keys=True, separators=(",", ":")).encode("ascii")


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a key is given twice")  # readers disagree on which one counts
    return out


def loads(raw: bytes, what: str = "document", limit: int = MAX_DOCUMENT) -> dict[str, Any]:
    """A JSON object of at most ``limit`` bytes; ResolveError for anything else."""
    import json

    if len(raw) > limit:
        raise ResolveError(
            f"{what} is too large: {len(raw)} bytes, the limit is {limit}", code="SIZE_INVALID"
        )
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as err:
        raise ResolveError(f"{what} is not valid JSON: {err}", code="MANIFEST_INVALID") from err
    if not isinstance(value, dict):
        raise ResolveError(f"{what} is not a JSON object", code="MANIFEST_INVALID")
    return value
