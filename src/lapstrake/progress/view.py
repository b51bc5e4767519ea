"""Chooses the renderer, and the one that shows nothing."""

from __future__ import annotations

from ..errors import UsageError
from ..events import Warned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from ..events import Event
    from .model import Renderer

MODES = ("auto", "tty", "plain", "quiet", "rawjson", "none")


class SilentRenderer:
    """``quiet`` and ``none``: keeps the warnings, shows nothing."""

    def __init__(self) -> None:
        self.warnings: list[Warned] = []

    def emit(self, event: Event, /) -> None:
        """Remember warnings."""
        if isinstance(event, Warned):
            self.warnings.append(event)

    def close(self, error: BaseException | None = None, /) -> None:
        """Nothing to do."""


def open_renderer(
    mode: str, stream: TextIO, *, title: str = "", corner: str = "", colors: str = "", color: bool = True,
    truncate: bool = False, log_lines: int = 6, rate: float = 0.1, explain: bool = False,
    fold: str = "",
) -> Renderer:  # fmt: skip
    """A renderer for ``mode``.

    ``title``: the ``#0`` line of plain; ``corner``: upper right of tty (``local:default``);
    ``colors``: BUILDKIT_COLORS; ``fold``: the CI log that plain makes sections for (github, gitlab).
    """
    if mode not in MODES:
        raise UsageError(f"invalid progress mode: {mode}", hint="use one of " + ", ".join(MODES))
    if mode in ("quiet", "none"):
        return SilentRenderer()
    if mode == "rawjson":
        from .rawjson import RawJsonRenderer

        return RawJsonRenderer(stream)
    is_tty = stream.isatty()
    if mode == "tty" and not is_tty:
        raise UsageError("failed to get console: provided file is not a console", hint="use --progress=plain")
    if is_tty and mode != "plain":
        from .tty import TtyRenderer

        return TtyRenderer(
            stream, corner=corner, colors=colors, color=color, log_lines=log_lines, rate=rate, explain=explain
        )
    from .plain import PlainRenderer

    return PlainRenderer(stream, title=title, truncate=truncate, explain=explain, fold="" if is_tty else fold)
