"""A way to see a snapshot: what the snapshotter hands to the sandbox."""

from __future__ import annotations

from .values import Value


class Rootfs(Value):
    """The root: an overlay (``lowers`` topmost first, ``upper``, ``work``) or, without ``upper``'s
    overlay (``lowers`` empty), the plain writable directory ``upper``.  The executor mounts it in its
    own mount namespace, so nothing is left behind whatever happens."""

    upper: str
    lowers: tuple[str, ...] = ()
    work: str = ""
    userxattr: bool = False
