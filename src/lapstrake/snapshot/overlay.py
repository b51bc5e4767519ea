"""Roots as overlays: the executor mounts them, nothing is copied."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..rootfs import Rootfs
    from .base import Scratch


class OverlaySnapshotter:
    """Layers as lower directories, the step's changes in the upper one."""

    name = "overlay"

    def __init__(self, userxattr: bool = False) -> None:
        self.userxattr = userxattr

    def prepare(self, layer_dirs: Sequence[str], active: Scratch) -> Rootfs:
        """See ``Snapshotter``.  Without layers the root is the plain upper directory."""
        from ..rootfs import Rootfs

        if not layer_dirs:
            return Rootfs(active.upper)
        return Rootfs(active.upper, tuple(layer_dirs), active.work, self.userxattr)

    def finish(self, active: Scratch, rootfs: Rootfs) -> str:
        """See ``Snapshotter``."""
        return rootfs.upper
