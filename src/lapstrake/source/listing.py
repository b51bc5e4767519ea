"""A file tree known by its listing: names, metadata and digests here, contents in a content store.

How a build context reaches another machine: the listing travels whole, of the files only what the
other side lacks.  Paths in a listing come from elsewhere and are checked as such.
"""

from __future__ import annotations

import json

from ..errors import BuildError
from ..tree import DIR, FILE, SYMLINK, Node, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO, Protocol

    class Hashed(Protocol):
        """A tree that knows its files' digests."""

        def lstat(self, path: str) -> Node | None: ...
        def listdir(self, path: str) -> list[str]: ...
        def content_digest(self, path: str) -> bytes: ...

    class Content(Protocol):
        """Blobs by digest."""

        def has(self, digest: str) -> bool: ...
        def open(self, digest: str) -> BinaryIO: ...


_KINDS = {"f": FILE, "d": DIR, "l": SYMLINK}
_LETTERS = {v: k for k, v in _KINDS.items()}
MAX_ENTRIES = 5_000_000


def make_listing(tree: Hashed) -> tuple[bytes, dict[str, str]]:
    """(the listing as bytes, path of a file by its digest).  Devices, FIFOs and sockets are left out."""
    rows: list[list[object]] = []
    files: dict[str, str] = {}
    for path, node in walk(tree):
        letter = _LETTERS.get(node.kind)
        if letter is None:
            continue
        digest = ""
        if letter == "f":
            digest = "sha256:" + tree.content_digest(path).hex()
            files.setdefault(digest, path)
        rows.append([path, letter, node.mode, node.size, node.mtime_ns, node.linkname, digest])
    return json.dumps(rows, ensure_ascii=True, separators=(",", ":")).encode(), files


class ListingTree:
    """``Tree`` over a listing.  Raises BuildError for a listing that is not one."""

    def __init__(self, listing: bytes, content: Content) -> None:
        self._content = content
        self._nodes: dict[str, Node] = {"": Node(DIR, 0o755)}
        self._digests: dict[str, str] = {}
        self._names: dict[str, list[str]] = {"": []}
        try:
            rows = json.loads(listing)
            if len(rows) > MAX_ENTRIES:
                raise ValueError("too many entries")
            for row in rows:
                self._add(*row)
        except (TypeError, ValueError, KeyError) as e:
            raise BuildError(f"the listing of a build context is malformed: {e}") from e

    def _add(self, path: str, letter: str, mode: int, size: int, mtime: int, link: str, digest: str) -> None:
        parent, _, name = path.rpartition("/")
        if not name or name in (".", "..") or "\0" in path or parent not in self._names:
            raise ValueError(f"bad path {path!r}")
        if path in self._nodes:
            raise ValueError(f"{path!r} is there twice")
        kind = _KINDS[letter]
        self._nodes[path] = Node(kind, int(mode) & 0o7777, 0, 0, int(size), int(mtime), str(link))
        self._names[parent].append(name)
        if kind == DIR:
            self._names[path] = []
        elif kind == FILE:
            self._digests[path] = digest

    @property
    def digests(self) -> list[str]:
        """Of all files, each once."""
        return list(dict.fromkeys(self._digests.values()))

    def lstat(self, path: str) -> Node | None:
        """Metadata; owner 0:0."""
        return self._nodes.get(path)

    def listdir(self, path: str) -> list[str]:
        """Names of a directory."""
        return list(self._names.get(path, ()))

    def content_digest(self, path: str) -> bytes:
        """sha256 of a regular file."""
        return bytes.fromhex(self._digest(path).partition(":")[2])

    def open(self, path: str) -> BinaryIO:
        """A regular file's content."""
        return self._content.open(self._digest(path))

    def real_path(self, path: str) -> str | None:
        """None: a blob has no metadata of its own."""
        return None

    def _digest(self, path: str) -> str:
        found = self._digests.get(path)
        if found is None:
            raise BuildError(f'failed to read "/{path}" of the context: not a regular file')
        return found
