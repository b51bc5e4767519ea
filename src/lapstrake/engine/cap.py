"""``[store] max-size``: a hard cap on what the root takes, kept before anything is written.

Blobs are reserved in pieces as they are written, a step's result before it is committed.  When the cap
is near, what no running build and no image needs goes first; when that is not enough, the build fails
with one clear error.  What a RUN step has written so far counts while it runs, but cannot be stopped
in the middle: that is bounded by one step.
"""

from __future__ import annotations

import threading

from ..errors import StoreError

PIECE = 16 << 20


class Cap:
    """Reserves space below ``limit`` bytes.  Thread-safe; several processes may share the root."""

    def __init__(self, root: str, limit: int) -> None:
        self.root = root
        self.limit = limit
        self._left = 0  # of what was last found free
        self._lock = threading.Lock()

    def reserve(self, size: int) -> None:
        """Make sure that ``size`` more bytes fit.  Raises StoreError."""
        with self._lock:
            if size > self._left:
                self._left = self._find(size)
            self._left -= size

    def check(self) -> None:
        """See that what is on disk by now is within the cap."""
        with self._lock:
            self._left = self._find(0)

    def _find(self, size: int) -> int:
        """How many bytes may be written now, after collecting if need be."""
        from .gc import Policy, Sizes, Stores, collect

        with Stores(self.root) as stores:
            used = stores.survey().total()
            if used + size > self.limit:
                # a little more than needed, so that not every write collects
                keep = max(1, self.limit - size - self.limit // 20)
                policy = Policy(everything=True, sizes=Sizes(max_used=keep))
                collect(stores, [policy])
                stores.layers.sweep()
                used = stores.survey().total()
        left = self.limit - used
        if size > left:
            from ..progress.model import size_text

            raise StoreError(
                f"the store {self.root} is full: {size_text(size)} more would pass its max-size of"
                f" {size_text(self.limit)}, and images and running builds need the {size_text(used)} it holds",
                hint="remove images (`lapstrake rmi`), or raise store.max-size in the configuration",
            )
        return min(left, size + 4 * PIECE)  # others write too: look again soon
