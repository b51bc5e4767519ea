"""Image names: ``[host[:port]/]path[:tag][@digest]`` (spec oci.md §10.1).

Without ``re``: importing it costs more than a hundred names take to read.
"""

from __future__ import annotations

from ..errors import UsageError
from ..values import Value, replace
from .digest import is_digest

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_ALNUM = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_WORD = _ALNUM | {"_"}
_TAG = _WORD | {".", "-"}
_HEX = frozenset("0123456789abcdef")
_HINT = "write [host[:port]/]name[:tag][@sha256:digest], for example ghcr.io/team/app:1.0"


class Reference(Value):
    """A normalised image name.  ``tag`` and ``digest`` are empty when not given."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Registry and repository: ``docker.io/library/alpine``."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar_name(self) -> str:
        """The name as Docker shows it, without tag and digest: ``alpine``."""
        if self.registry != DEFAULT_REGISTRY:
            return self.name
        head, _, rest = self.repository.partition("/")
        return rest if head == "library" and "/" not in rest else self.repository

    @property
    def _suffix(self) -> str:
        tag = self.tag or ("" if self.digest else DEFAULT_TAG)
        return (f":{tag}" if tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def full(self) -> str:
        """Nothing left out: ``docker.io/library/alpine:latest[@digest]``."""
        return self.name + self._suffix

    @property
    def familiar(self) -> str:
        """As Docker shows it: ``alpine:latest[@digest]``."""
        return self.familiar_name + self._suffix

    @property
    def identifier(self) -> str:
        """What names the manifest in a registry's URL: the digest, else the tag."""
        return self.digest or self.tag or DEFAULT_TAG

    def with_tag(self, tag: str) -> Reference:
        """The same repository with another tag (empty: none)."""
        if tag and not is_tag(tag):
            raise UsageError(
                f"invalid tag format: {tag!r}",
                hint="a tag is up to 128 letters, digits, '_', '.' and '-', and starts with none of '.' and '-'",
            )
        return replace(self, tag=tag)

    def with_digest(self, digest: str) -> Reference:
        """The same name pinned to a digest (empty: not pinned)."""
        if digest and not is_digest(digest):
            raise UsageError(f"invalid digest format: {digest!r}")
        return replace(self, digest=digest)

    def __str__(self) -> str:
        return self.full


def is_tag(text: str) -> bool:
    """Whether ``text`` may be a tag."""
    return 0 < len(text) <= 128 and text[0] in _WORD and _TAG.issuperset(text)


def is_repository(path: str) -> bool:
    """Whether ``path`` may be a repository (without its host)."""
    return 0 < len(path) <= 255 and all(_component(part) for part in path.split("/"))


def _component(text: str) -> bool:
    if not text or text[0] not in _LOWER or text[-1] not in _LOWER:
        return False
    run = ""
    for char in text:
        if char in _LOWER:
            if not (run in ("", ".", "_", "__") or run == "-" * len(run)):
                return False
            run = ""
        elif char in "._-":
            run += char
        else:
            return False
    return True


def _is_host(text: str) -> bool:
    name, port = text, ""
    if text.startswith("["):  # IPv6 literal
        name, bracket, port = text[1:].partition("]")
        if (
            not bracket
            or not name
            or not frozenset("0123456789abcdefABCDEF:").issuperset(name)
            or (port and port[0] != ":")
        ):
            return False
        return not port or _is_port(port[1:])
    name, colon, port = text.partition(":")
    if colon and not _is_port(port):
        return False
    return all(
        p and p[0] in _ALNUM and p[-1] in _ALNUM and _ALNUM.issuperset(p.replace("-", "a"))
        for p in name.split(".")
    )


def _is_port(text: str) -> bool:
    return 0 < len(text) <= 5 and frozenset("0123456789").issuperset(text)


def _invalid(text: str, why: str = "") -> UsageError:
    shown = text if len(text) <= 300 else text[:297] + "..."
    return UsageError(
        f"invalid reference format: {why}" if why else f"invalid reference format: {shown!r}", hint=_HINT
    )


def parse(text: str) -> Reference:
    """Read an image name as Docker does.  Raises UsageError."""
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise _invalid(text)
    if len(rest) == 64 and _HEX.issuperset(rest):
        raise _invalid(text, f"invalid repository name ({rest}), cannot specify 64-byte hexadecimal strings")
    first, slash, tail = rest.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        registry, path = first, tail
    else:
        registry, path = DEFAULT_REGISTRY, rest
    path, colon, tag = path.partition(":")
    if registry in ("index.docker.io", "registry-1.docker.io"):
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and path and "/" not in path:
        path = "library/" + path
    if path != path.lower():
        raise _invalid(text, f"repository name ({path}) must be lowercase")
    if len(path) > 255:
        raise _invalid(text, "repository name must not be more than 255 characters")
    if not _is_host(registry) or not is_repository(path) or (colon and not is_tag(tag)):
        raise _invalid(text)
    return Reference(registry, path, tag, digest)
