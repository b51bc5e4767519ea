"""A tree with a list of entries on top of it: a layer that nobody wrote as a directory yet."""

from __future__ import annotations

import io

from ..errors import BuildError
from ..tree import DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import BinaryIO

    from ..tree import Entry, Node, Tree


class EntriesTree:
    """``entries`` over ``below``; entry semantics (whiteout, opaque, type change) as in a layer."""

    def __init__(self, entries: Sequence[Entry], below: Tree) -> None:
        self.below = below
        self.entries = {e.path: e for e in entries}
        self.children: dict[str, list[str]] = {}
        for path in self.entries:
            if path:
                parent, _, name = path.rpartition("/")
                self.children.setdefault(parent, []).append(name)

    def _hidden(self, path: str) -> bool:
        """Whether an ancestor's entry hides what lies below at ``path``."""
        at = path.rfind("/")
        while at > 0:
            entry = self.entries.get(path[:at])
            if entry is not None and (entry.whiteout or entry.opaque or entry.node.kind != DIR):
                return True
            at = path.rfind("/", 0, at)
        return False

    def lstat(self, path: str) -> Node | None:
        """The entry's node, else what is below."""
        entry = self.entries.get(path)
        if entry is not None:
            if entry.whiteout:
                return None
            if entry.hardlink:
                return self.lstat(entry.hardlink)
            return entry.node
        return None if self._hidden(path) else self.below.lstat(path)

    def listdir(self, path: str) -> Iterable[str]:
        """Both layers' names, without whiteouts."""
        entry = self.entries.get(path)
        names = set(self.children.get(path, ()))
        covered = entry is not None and (entry.whiteout or entry.opaque or entry.node.kind != DIR)
        if not covered and not self._hidden(path):
            names.update(self.below.listdir(path))
        prefix = path + "/" if path else ""
        return [n for n in names if (e := self.entries.get(prefix + n)) is None or not e.whiteout]

    def open(self, path: str) -> BinaryIO:
        """A regular file's content."""
        entry = self.entries.get(path)
        if entry is None:
            return self.below.open(path)
        if entry.hardlink:
            return self.open(entry.hardlink)
        if entry.data is not None:
            return io.BytesIO(entry.data)
        if entry.tree is None:
            raise BuildError(f"/{path}: no content")
        return entry.tree.open(entry.source)

    def real_path(self, path: str) -> str | None:
        """The host path, where there is one."""
        entry = self.entries.get(path)
        if entry is None:
            return self.below.real_path(path)
        if entry.hardlink:
            return self.real_path(entry.hardlink)
        return entry.tree.real_path(entry.source) if entry.tree is not None else None
