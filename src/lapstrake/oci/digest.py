"""Digests: ``algorithm:hex``.  sha256 is written; sha512 is also read."""

from __future__ import annotations

from ..errors import ResolveError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LENGTH = {"sha256": 64, "sha512": 128}
_HEX = frozenset("0123456789abcdef")


def digest_of(data: bytes | bytearray | memoryview, algorithm: str = "sha256") -> str:
    """The digest of ``data``."""
    import hashlib

    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def is_digest(text: str) -> bool:
    """Whether ``text`` is a digest of a known algorithm and the right length."""
    algorithm, _, encoded = text.partition(":")
    return len(encoded) == _LENGTH.get(algorithm) and _HEX.issuperset(encoded)


def algorithm_of(digest: str) -> str:
    """The algorithm of a valid digest; ResolveError otherwise (it names files, so never trust it)."""
    if not is_digest(digest):
        raise ResolveError(f"invalid digest {digest[:160]!r}", code="DIGEST_INVALID")
    return digest.partition(":")[0]


class Verifier:
    """Hashes a stream and compares it with the digest and size that were promised."""

    __slots__ = ("_hash", "digest", "expected", "size", "update_hash")

    def __init__(self, digest: str, expected: int = -1) -> None:
        import hashlib

        self._hash: Any = hashlib.new(algorithm_of(digest))
        self.update_hash = self._hash.update
        self.digest = digest
        self.expected = expected
        self.size = 0

    def update(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; more than was promised is an error before they are used."""
        self.size += len(chunk)
        if 0 <= self.expected < self.size:
            raise ResolveError(
                f"{self.digest}: content is larger than its descriptor says ({self.expected} bytes)",
                code="SIZE_INVALID",
            )
        self.update_hash(chunk)

    def finish(self) -> None:
        """Raise ResolveError unless size and digest are as promised."""
        if 0 <= self.expected != self.size:
            raise ResolveError(
                f"{self.digest}: content has {self.size} bytes, its descriptor says {self.expected}",
                code="SIZE_INVALID",
            )
        found = f"{self._hash.name}:{self._hash.hexdigest()}"
        if found != self.digest:
            raise ResolveError(
                f"content does not match its digest: expected {self.digest}, got {found}",
                code="DIGEST_INVALID",
            )


def verify(data: bytes, digest: str) -> None:
    """Raise ResolveError unless ``data`` has that digest."""
    check = Verifier(digest)
    check.update(data)
    check.finish()
