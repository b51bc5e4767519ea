"""In-toto statements and the names of what they speak about (spec oci.md §9.2)."""

from __future__ import annotations

from ..errors import ExportError
from ..oci import codec
from ..tree import FILE
from ..tree import walk as tree_walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from ..oci.platform import Platform
    from ..tree import Node, Tree

STATEMENT = "https://in-toto.io/Statement/v1"
MAX_STATEMENT = 40 << 20
MAX_ENTRIES = 5_000_000

Subject = tuple[str, str]  # (name, sha256 digest with its prefix)


def image_uri(name: str, platform: Platform | None, digest: str = "", kind: str = "docker") -> str:
    """``pkg:docker/ns/name@tag?platform=linux%2Famd64``; the digest qualifier only when pinned."""
    from urllib.parse import quote

    from ..oci.reference import parse

    ref = parse(name)
    tag = ref.tag or ("" if ref.digest else "latest")
    pinned = digest or ref.digest
    qualifiers = [f"digest={quote(pinned, safe=':')}"] if pinned else []
    if platform is not None:
        qualifiers.append("platform=" + quote(str(platform), safe=""))
    path = "/".join(quote(p, safe=":") for p in ref.familiar_name.split("/"))
    return (
        f"pkg:{kind}/{path}"
        + (f"@{quote(tag)}" if tag else "")
        + ("?" + "&".join(qualifiers) if qualifiers else "")
    )


def image_subjects(names: Sequence[str], platform: Platform, digest: str) -> list[Subject]:
    """One subject per image name; ``_`` without names."""
    return [(image_uri(n, platform), digest) for n in names] or [("_", digest)]


def file_subjects(tree: Tree) -> Iterator[Subject]:
    """Every regular file with its digest, for file outputs."""
    from hashlib import sha256

    for path, node in walk(tree):
        if node.kind == FILE:
            total = sha256()
            with tree.open(path) as f:
                while block := f.read(1 << 20):
                    total.update(block)
            yield path, "sha256:" + total.hexdigest()


def statement(predicate_type: str, predicate: dict[str, Any], subjects: Iterable[Subject]) -> bytes:
    """The statement's bytes, bounded."""
    listed = [{"name": name, "digest": {"sha256": digest.partition(":")[2]}} for name, digest in subjects]
    raw = codec.dumps(
        {"_type": STATEMENT, "subject": listed, "predicateType": predicate_type, "predicate": predicate}
    )
    if len(raw) > MAX_STATEMENT:
        raise ExportError(
            f"attestation {predicate_type} is too big: {len(raw)} bytes, at most {MAX_STATEMENT}"
        )
    return raw


def walk(tree: Tree) -> Iterator[tuple[str, Node]]:
    """Every entry of a tree in path order, parents first; bounded."""
    for count, found in enumerate(tree_walk(tree), 1):
        if count > MAX_ENTRIES:
            raise ExportError(f"more than {MAX_ENTRIES} files to attest")
        yield found
