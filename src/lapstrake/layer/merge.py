"""Several layers as one: what applying them in order would leave."""

from __future__ import annotations

import os

from ..tree import DIR, FILE, Entry, Node
from ..values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_WHITEOUT = Node(FILE, 0)


class _Dir:
    """One directory's names while layers are applied.  ``here``: what stands for the name itself."""

    __slots__ = ("below", "here", "opaque")

    def __init__(self, here: Entry | None = None) -> None:
        self.here = here
        self.below: dict[str, _Dir] = {}
        self.opaque = False


def merge(layers: Sequence[Iterable[Entry]], *, whiteouts: bool = True) -> Iterator[Entry]:
    """The entries of one layer that does what ``layers`` (lowest first) do together, in path order.

    ``whiteouts``: keep deletions, because something lies below.  Hard links stay links as long as both
    names come from the same layer.
    """
    root = _Dir()
    for number, entries in enumerate(layers):
        firsts: dict[str, Entry] = {}
        for entry in entries:
            _apply(root, _resolved(entry, number, firsts))
    yield from _emit(root, "", whiteouts, {})


def _resolved(entry: Entry, number: int, firsts: dict[str, Entry]) -> Entry:
    """A link becomes its file; both get an inode number that no other layer has."""
    if entry.whiteout or (entry.node.kind == DIR and not entry.hardlink):
        return entry
    if entry.hardlink:
        first = firsts.get(entry.hardlink)
        return entry if first is None else replace(first, path=entry.path)
    entry = replace(
        entry, node=replace(entry.node, inode=(-1 - number, len(firsts))), source=entry.source or entry.path
    )
    firsts[entry.path] = entry
    return entry


def _apply(root: _Dir, entry: Entry) -> None:
    at = root
    parts = entry.path.split("/") if entry.path else []
    for part in parts:
        at = at.below.setdefault(part, _Dir())
    if entry.whiteout:
        at.here, at.below, at.opaque = entry, {}, False
        return
    if entry.node.kind != DIR:
        at.here, at.below, at.opaque = entry, {}, False
        return
    before = at.here
    if entry.opaque:
        at.below, at.opaque = {}, True
    elif before is not None and (before.whiteout or before.node.kind != DIR):
        at.opaque = True  # what it replaces hid whatever lies below
    at.here = entry


def _emit(place: _Dir, prefix: str, whiteouts: bool, links: dict[tuple[int, int], str]) -> Iterator[Entry]:
    for name in sorted(place.below, key=os.fsencode):
        child = place.below[name]
        entry = child.here
        path = prefix + name
        if entry is not None:
            if entry.whiteout:
                if whiteouts:
                    yield Entry(path, _WHITEOUT, "", True)
            elif entry.node.kind == DIR:
                yield Entry(path, entry.node, "", False, child.opaque and whiteouts)
            else:
                yield _file(entry, path, links)
        if child.below:
            yield from _emit(child, path + "/", whiteouts, links)


def _file(entry: Entry, path: str, links: dict[tuple[int, int], str]) -> Entry:
    inode = entry.node.inode
    if inode is None:
        return replace(entry, path=path)
    first = links.setdefault(inode, path)
    if first == path:
        return replace(entry, path=path)
    return Entry(path, entry.node, first)
