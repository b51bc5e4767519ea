"""The source snippet below an error or a warning (spec §16)."""

from __future__ import annotations

from ..errors import Span

_RULE = "-" * 20


def render(span: Span) -> str:
    """Header, rule, numbered lines with ``>>>`` on those of the span, rule.  ``""`` without a source."""
    if not span.source:
        return ""
    lines = span.source.split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    first = min(max(span.first, 1), max(len(lines), 1))
    last = min(max(span.last, first), max(len(lines), 1))
    context = 2 if first == last else 1
    start, stop = max(1, first - context), min(len(lines), last + context)
    out = [f"{span.filename}:{first}", _RULE]
    for number in range(start, stop + 1):
        text = lines[number - 1].rstrip("\r")
        mark = ">>>" if first <= number <= last else "   "
        out.append(
            f" {number:>3} | {mark} {text}".rstrip(" ") if not text else f" {number:>3} | {mark} {text}"
        )
    out.append(_RULE)
    return "\n".join(out).encode("utf-8", "replace").decode("utf-8") + "\n"
