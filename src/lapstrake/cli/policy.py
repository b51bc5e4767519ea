"""``policy``: buildx evaluates Rego with it, which Lapstrake does not (spec cli.md §7)."""

from __future__ import annotations

from ..errors import UsageError
from ..optspec import REGO_INSTEAD as INSTEAD
from .flags import Command, HelpWanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .main import Globals


def command(words: Sequence[str], given: Globals) -> int:
    """``policy eval|test|json-schema``: one clear refusal."""
    if not words or words[0] in ("--help", "-h"):
        raise HelpWanted(
            Command(f"{given.program} policy", "eval | test", INSTEAD[0].upper() + INSTEAD[1:] + ".")
        )
    raise UsageError(f"policy {words[0]} is not supported", hint=INSTEAD)
