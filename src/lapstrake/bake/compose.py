"""Compose files (spec cli.md §3.4)."""

from __future__ import annotations

from ..errors import BakeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .files import File, Inputs
    from .load import Config
    from .source import Source


def looks_like(source: Source) -> bool:
    """Is a file without a telling name one?"""
    return any(line.startswith("services:") for line in source.text.split("\n"))


def load(files: Sequence[File], inputs: Inputs) -> Config:
    """The targets of the services."""
    raise BakeError(f"Compose files are not read yet: {files[0].name}", hint=f"in {inputs.cwd or '.'}")
