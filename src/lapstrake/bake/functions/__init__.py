"""The standard functions (spec cli.md §3.1), by name."""

from __future__ import annotations

from .base import Function, FunctionError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def standard() -> Mapping[str, Function]:
    """All of them; imported when a file calls one."""
    from . import collections, encoding, logic, network, strings, times
    from .base import TABLE

    _ = (collections, encoding, logic, network, strings, times)  # each enters its own
    return TABLE


__all__ = ["Function", "FunctionError", "Problem", "standard"]
