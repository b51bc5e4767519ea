"""What is where in registries, remembered between builds.

``mount``: which repository of a registry holds a blob, so that another one can take it over without
an upload.  ``unpushed``: results a registry did not take, so that they can be pushed again.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

MOUNT, UNPUSHED = "mount", "unpushed"


class Places:
    """Over the store's index; without one nothing is remembered."""

    def __init__(self, index: Any = None) -> None:
        self._index = index

    def repository(self, registry: str, digest: str) -> str:
        """A repository of ``registry`` that held the blob when we last looked, or empty."""
        raw = self._index.get(MOUNT, f"{registry} {digest}") if self._index is not None else None
        return raw.decode() if raw else ""

    def remember(self, registry: str, repository: str, digests: Iterable[str]) -> None:
        """These blobs are in that repository."""
        if self._index is not None:
            items = [(f"{registry} {d}", repository.encode()) for d in digests]
            known = self._index.get
            self._index.put_many(MOUNT, [(k, v) for k, v in items if known(MOUNT, k) != v])

    def forget(self, registry: str, digest: str) -> None:
        """It was not there."""
        if self._index is not None:
            self._index.delete(MOUNT, f"{registry} {digest}")
