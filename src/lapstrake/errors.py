"""Every failure a user can meet.  Nothing here prints; ``cli.present`` does.

Codes 4 to 6 are the program's only with LAPSTRAKE_EXIT_CODES=detailed; without it they are 1, as buildx's are.

BuildError                      exit code 1
  UsageError                    2   wrong flags, values, combinations
  BakeError                     1   a bake file is wrong
  DockerfileError               1   one per problem, with a span
  ResolveError                  1   a registry, git or HTTP source said no; 4 when it denied access
  ExecError                     1   a RUN step failed
  SandboxError                  1   the host lacks something
  CacheError                    6   a cache can't be read or written (imports: warn, go on)
  ExportError                   1   an output can't be written
    PushError                   5   the image was made but a registry did not take it; 4 when it denied access
  StoreError                    1   Lapstrake's own store
  Cancelled                     130 Ctrl-C, SIGTERM or a failed sibling
"""

from __future__ import annotations

from .values import Value

EXIT_DENIED, EXIT_PUSH, EXIT_CACHE = 4, 5, 6


class Span(Value):
    """Lines ``first``..``last`` (1-based, inclusive) of a text the user wrote."""

    filename: str
    first: int
    last: int
    source: str = ""  # the whole text, for the excerpt


class BuildError(Exception):
    """A failure with a place, a message and, where known, a next step."""

    exit_code = 1

    def __init__(
        self, message: str, *, span: Span | None = None, hint: str | None = None, exit_code: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.span = span
        self.hint = hint
        if exit_code is not None:
            self.exit_code = exit_code


class UsageError(BuildError):
    """The command line or an API argument is wrong."""

    exit_code = 2


class BakeError(BuildError):
    """A bake file is wrong, or asks for what can't be had."""


class DockerfileError(BuildError):
    """The Dockerfile is wrong.  ``others`` holds further problems of the same file, ``partial`` the
    Dockerfile as far as it was read before a syntax error."""

    partial: object = None

    def __init__(
        self,
        message: str,
        *,
        span: Span | None = None,
        hint: str | None = None,
        others: tuple[DockerfileError, ...] = (),
    ) -> None:
        super().__init__(message, span=span, hint=hint)
        self.others = others


class ResolveError(BuildError):
    """A remote source failed.  ``code``: registry error code; ``status``: HTTP status."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        status: int = 0,
        temporary: bool = False,
        span: Span | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, span=span, hint=hint)
        self.code = code
        self.status = status
        self.temporary = temporary
        if status in (401, 403) or code in ("UNAUTHORIZED", "DENIED"):
            self.exit_code = EXIT_DENIED


class ExecError(BuildError):
    """A RUN step failed.  ``status``: exit code (128+n for a signal); ``tail``: its last log lines."""

    def __init__(
        self,
        message: str,
        *,
        vertex: str = "",
        status: int = 1,
        tail: tuple[str, ...] = (),
        log_path: str = "",
        span: Span | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, span=span, hint=hint)
        self.vertex = vertex
        self.status = status
        self.tail = tail
        self.log_path = log_path
        self.saved = ""  # id of the kept state, for ``lapstrake debug``


class SandboxError(BuildError):
    """The host can't give the isolation asked for; ``hint`` is the command that mends it."""


class CacheError(BuildError):
    """A cache could not be read or written."""

    exit_code = EXIT_CACHE


class ExportError(BuildError):
    """An output could not be written."""


class PushError(ExportError):
    """A registry did not take an image."""

    exit_code = EXIT_PUSH


class StoreError(BuildError):
    """Lapstrake's own store could not be read or written."""


class Cancelled(BuildError):
    """The build was cancelled."""

    exit_code = 130
