"""What a cache outside the store can do.  One backend may be both, a source and a sink."""

from __future__ import annotations

from ..oci.descriptor import Descriptor
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, BinaryIO, Protocol

    from .record import RemoteRecord

    Write = Callable[[bytes | memoryview], object]
else:
    Protocol = object


class Source(Protocol):
    """A cache that is read.  All methods may raise BuildError and may be called from any thread."""

    @property
    def title(self) -> str: ...  # for messages
    def open(self) -> bool: ...  # once, before the first look-up; False: nothing is there yet
    def record(self, key: str) -> RemoteRecord | None: ...
    def fetch(self, desc: Descriptor, write: Write) -> None: ...  # a layer; the caller verifies
    def origin(self) -> dict[str, Any]: ...  # how to find this cache again in a later build; no secrets


class Sink(Protocol):
    """A cache that is written.  A record is put only after its layers."""

    @property
    def title(self) -> str: ...
    def known(self, key: str) -> RemoteRecord | None: ...  # a good record that is there already
    def blob(self, desc: Descriptor, content: Callable[[], BinaryIO]) -> bool: ...  # False: was there
    def put(self, record: RemoteRecord) -> None: ...
    def finish(self, records: Iterable[RemoteRecord]) -> dict[str, Any]: ...  # what stands under its name


class CacheForm(Value):
    """How a cache is written: checked attributes that all backends share."""

    mode: str = "min"
    compression: str = "gzip"
    level: int | None = None
    force_compression: bool = False
    ignore_error: bool = False
    image_manifest: bool = True
    oci: bool = True


def layer_descriptors(records: Iterable[RemoteRecord]) -> list[Descriptor]:
    """The layers of some records that live in the cache itself, each once, in order."""
    found: dict[str, Descriptor] = {}
    for record in records:
        for x in record.layers:
            if not x.base:
                notes = (("containerd.io/uncompressed", x.diff_id),)
                found.setdefault(x.digest, Descriptor(x.media_type, x.digest, x.size, None, notes))
    return list(found.values())


def manifest_of(
    config: Descriptor, layers: Iterable[Descriptor], form: CacheForm
) -> tuple[bytes, Descriptor]:
    """An image manifest, or BuildKit's older form: an index of everything, the config last."""
    from ..oci.manifest import make_index, make_manifest

    if form.image_manifest:
        return make_manifest(config, layers, oci=form.oci)
    return make_index([*layers, config], oci=form.oci)
