"""A way to see a snapshot: what the snapshotter hands to the sandbox."""

from __future__ import annotations

from .values import Value


def saved_path(upper: str, path: str) -> str:
    """Where a file of a plain root waits while a run sees another in its place."""
    return f"{upper}-saved/{path.strip('/').replace('%', '%25').replace('/', '%2F')}"


class Rootfs(Value):
    """The root: an overlay (``lowers`` topmost first, ``upper``, ``work``) or, without ``upper``'s
    overlay (``lowers`` empty), the plain writable directory ``upper``.  The executor mounts it in its
    own mount namespace, so nothing is left behind whatever happens."""

    upper: str
    lowers: tuple[str, ...] = ()
    work: str = ""
    userxattr: bool = False
