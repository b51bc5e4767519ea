"""Image names as outputs need them."""

from __future__ import annotations

from ..errors import BuildError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..oci.reference import Reference
    from .base import BuiltResult


def reference(name: str) -> Reference:
    """A parsed name; UsageError ``invalid tag`` otherwise."""
    from ..oci.reference import parse

    try:
        return parse(name)
    except BuildError as e:
        raise UsageError(f'invalid tag "{name}": {e.message}') from e


def with_tag(name: str) -> str:
    """The full normalised form with a tag: ``docker.io/library/app:latest``."""
    return reference(name).full


def familiar(name: str) -> str:
    """The short form with a tag: ``app:latest``."""
    return reference(name).familiar


def split(full: str) -> tuple[str, str, str]:
    """(repository, tag, digest) of a full name."""
    rest, _, digest = full.partition("@")
    head, slash, tail = rest.rpartition("/")
    last, _, tag = tail.partition(":")
    return head + slash + last, tag, digest


def tag_of(full: str) -> str:
    """The tag of a full name, or its digest when there is no tag."""
    _, tag, digest = split(full)
    return tag or digest


def metadata(result: BuiltResult, names: Sequence[str]) -> dict[str, Any]:
    """The exporter's part of the metadata file (spec cli.md §2.9)."""
    out: dict[str, Any] = {
        "containerimage.digest": result.descriptor.digest,
        "containerimage.descriptor": result.descriptor.to_json(),
    }
    if len(result.images) == 1:
        out["containerimage.config.digest"] = result.images[0].config_digest
    if names:
        out["image.name"] = ",".join(dict.fromkeys(with_tag(n) for n in names))
    return out
