"""What a registry's refusals say, as typed errors (spec oci.md §10.5)."""

from __future__ import annotations

from ..errors import ResolveError
from .transport import Response, shown

TYPE_CHECKING = False

_MAX_ERROR = 1 << 16
_TEMPORARY = (408, 429, 500, 502, 503, 504)


def _clean(text: object) -> str:
    """Text from outside, fit for one line of a terminal."""
    return "".join(c if c.isprintable() else " " for c in str(text))[:500].strip()


def said(response: Response) -> tuple[str, str]:
    """(code, ``code: message``) of an error body, read as far as it makes sense."""
    import json

    if response.request.method == "HEAD":
        return "", ""
    try:
        doc = json.loads(response.read(_MAX_ERROR))
    except (ResolveError, ValueError, RecursionError):
        return "", ""
    if not isinstance(doc, dict):
        return "", ""
    parts, first = [], ""
    errors = doc.get("errors")
    for item in errors[:5] if isinstance(errors, list) else ():
        if isinstance(item, dict):
            code, message = (
                _clean(item.get("code") or ""),
                _clean(item.get("message") or item.get("detail") or ""),
            )
            first = first or code
            parts.append(
                f"{code.lower().replace('_', ' ')}: {message}"
                if code != "TOOMANYREQUESTS"
                else f"toomanyrequests: {message}"
            )
    if not parts:
        parts = [
            _clean(doc[k])
            for k in ("details", "message", "error_description", "error")
            if isinstance(doc.get(k), str)
        ][:1]
    return first, "; ".join(parts)


def failure_of(response: Response, prefix: str) -> ResolveError:
    """``<prefix>: unexpected status from GET request to <url>: 403 Forbidden: <what the server said>``."""
    code, message = said(response)
    status = f"{response.status} {_clean(response.reason)}".strip()
    text = f"{prefix}: unexpected status from {response.request.method} request to {shown(response.url)}: {status}"
    hint = None
    if response.status == 429:
        hint = "the registry limits requests: log in, wait, or configure a mirror"
    return ResolveError(
        f"{text}: {message}" if message else text,
        code=code,
        status=response.status,
        temporary=response.status in _TEMPORARY,
        hint=hint,
    )
