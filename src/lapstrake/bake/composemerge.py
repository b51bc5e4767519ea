"""Two Compose documents as one: mappings merge, lists are appended, everything else is replaced."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def merged(below: Any, above: Any) -> Any:
    """``above`` over ``below``; both in long form."""
    if isinstance(below, dict) and isinstance(above, dict):
        out = dict(below)
        for key, value in above.items():
            out[key] = merged(out[key], value) if key in out else value
        return out
    if isinstance(below, list) and isinstance(above, list):
        return [*below, *(v for v in above if v not in below)]
    return below if above is None else above
