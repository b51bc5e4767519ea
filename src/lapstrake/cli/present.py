"""The one place that prints failures: where, what, and what to do next."""

from __future__ import annotations

import sys

from ..errors import (
    BakeError,
    BuildError,
    Cancelled,
    DockerfileError,
    ExecError,
    ResolveError,
    SandboxError,
    UsageError,
)
from ..progress.text import write_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

    from ..errors import Span
    from ..events import Warned

REPORT = (
    "This is a bug in Lapstrake. Please report it with the lines above and the output of `lapstrake version`."
)
_YELLOW, _RESET = "\x1b[33m", "\x1b[0m"


def present(
    error: BaseException, *, debug: bool = False, building: bool = True, stream: TextIO | None = None
) -> int:
    """Print a failure; the exit code of the program.  ``building``: the command was to build something."""
    out = stream or sys.stderr
    code = 1
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, BuildError):
        text, code = describe(error, building=building), error.exit_code
        if debug:
            text = _traceback(error) + text
    elif isinstance(error, KeyboardInterrupt):
        text, code = "ERROR: canceled\n", 130
    elif isinstance(error, OSError) and error.errno is not None and not debug and error.filename is not None:
        text = f"ERROR: {error.strerror}: {error.filename}\n"
    else:
        text = f"{_traceback(error)}ERROR: {type(error).__name__}: {error}\n{REPORT}\n"
    write_text(out, text)
    return code


def describe(error: BuildError, *, building: bool = True) -> str:
    """The whole report of a failure as text.  ``building``: what failed was a build."""
    if isinstance(error, Cancelled):
        return f"ERROR: {error.message or 'canceled'}\n" + _hint(error)
    plain = not building and not isinstance(error, (DockerfileError, ExecError))
    if error.span is None and (plain or isinstance(error, UsageError)):
        return f"ERROR: {error.message}\n" + _hint(error)
    if isinstance(error, BakeError):
        return (excerpt(error.span) if error.span else "") + f"ERROR: {error.message}\n" + _hint(error)
    parts = []
    if isinstance(error, ExecError) and error.vertex:
        parts.append(log_tail(error.vertex, error.tail))
    problems: list[BuildError] = [error]
    if isinstance(error, DockerfileError):
        problems += error.others
    for n, problem in enumerate(problems):
        if problem.span is not None:
            parts.append(excerpt(problem.span))
        if n:
            parts.append(f"ERROR: {problem.message}\n" + _hint(problem))
        elif (
            isinstance(error, (DockerfileError, ExecError, ResolveError, SandboxError))
            or error.span is not None
        ):
            parts.append(f"ERROR: failed to build: failed to solve: {error.message}\n" + _hint(error))
        else:
            parts.append(f"ERROR: failed to build: {error.message}\n" + _hint(error))
    if isinstance(error, ExecError) and error.log_path:
        parts.append(f"The whole log of the step: {error.log_path}\n")
    return "".join(parts)


def log_tail(step: str, lines: Iterable[str]) -> str:
    """The last lines of a failed step, between rules."""
    body = "".join(f"{_clean(line)}\n" for line in list(lines)[-10:])
    return f"------\n > {_clean(step)}:\n{body}------\n"


def excerpt(span: Span) -> str:
    """The lines around a place in a file, the offending ones marked (spec dockerfile.md §16)."""
    first, last = max(span.first, 1), max(span.last, span.first, 1)
    lines = span.source.split("\n")
    if not span.source or first > len(lines):
        return f"{span.filename}:{first}\n"
    last = min(last, len(lines))
    around = 2 if first == last else 1
    low, high = max(first - around, 1), min(last + around, len(lines))
    if high == len(lines) and high > last and not lines[-1]:
        high -= 1  # the text after the final newline is no line
    rows = []
    for n in range(low, high + 1):
        mark = ">>>" if first <= n <= last else "   "
        rows.append(f"{n:4d} | {mark} {_clean(lines[n - 1])}".rstrip() + "\n")
    rule = "-" * 20 + "\n"
    return f"{span.filename}:{first}\n{rule}{''.join(rows)}{rule}"


def warnings_summary(warnings: Iterable[Warned], *, debug: bool = False, color: bool = False) -> str:
    """What a build says about its warnings when it is over (spec lint.md §2.1)."""
    seen = list(dict.fromkeys(warnings))
    if not seen:
        return ""
    count = "1 warning found" if len(seen) == 1 else f"{len(seen)} warnings found"
    head = f" {count}:" if debug else f" {count} (use --debug to expand):"
    rows = [""]
    rows.append(f"{_YELLOW}{head}{_RESET}" if color else head)
    for w in seen:
        text = f" - {_clean(w.short)}"
        rows.append(f"{_YELLOW}{text}{_RESET}" if color else text)
        if debug:
            if w.detail:
                rows.append(w.detail)
            if w.url:
                rows.append(f"More info: {w.url}")
            if w.span is not None:
                rows.append(excerpt(w.span))
    return "\n".join(rows) + "\n"


def _hint(error: BuildError) -> str:
    return f"hint: {error.hint}\n" if error.hint else ""


def _clean(text: str) -> str:
    """No control characters: what a registry or a Dockerfile says must not steer the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else "\ufffd" if c != "\r" else "" for c in text)


def _traceback(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(error))
