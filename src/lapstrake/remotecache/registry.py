"""A cache in a registry: one manifest for each cache key, none of them ever changed by another writer.

``ref`` is ``repo:tag``.  The record of key K is the manifest ``repo:tag.k.K``; its config is the
record, carried inline so that one request reads it, its layers are the step's own, so that the
registry's collection keeps them.  ``repo:tag`` itself lists what the last build wrote: readers save
requests with it, and a reader by digest sees exactly that build; nothing depends on it.
"""

from __future__ import annotations

from ..errors import CacheError, ResolveError
from ..oci.descriptor import DOCKER_CONFIG, INDEXES, OCI_CONFIG, Descriptor
from ..oci.digest import digest_of
from ..values import replace
from .base import CacheForm, layer_descriptors, manifest_of
from .record import CONFIG_TYPE, MAX_RECORD, RECORD_TYPE, decode, encode, read_summary, summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, BinaryIO

    from ..oci.platform import Platform
    from ..oci.reference import Reference
    from ..registry.client import Client
    from .base import Write
    from .record import RemoteRecord

MAX_SUMMARY = 16 << 20


class RegistryCache:
    """Both directions of ``type=registry``.  ``platforms``: whose images are read for inline caches."""

    def __init__(
        self, ref: str, client: Callable[[], Client], form: CacheForm, *, insecure: bool = False,
        platforms: tuple[Platform, ...] = (),
    ) -> None:  # fmt: skip
        from ..oci import reference

        self.ref: Reference = reference.parse(ref)
        self.client = client
        self.form = form
        self.insecure = insecure
        self.platforms = platforms
        self.listed: dict[str, RemoteRecord] = {}
        self.is_image = False

    @property
    def title(self) -> str:
        """Its name."""
        return str(self.ref.full)

    def origin(self) -> dict[str, Any]:
        """How to find it again."""
        return {"type": "registry", "ref": self.title, "insecure": self.insecure}

    # -- reading ---------------------------------------------------------------

    def open(self) -> bool:
        """Read what stands under the name: a list of records, an image with an inline cache, or nothing."""
        try:
            raw, media_type, _ = self.client().get_manifest(self.ref)
        except ResolveError as e:
            if e.status == 404:
                return False
            raise
        self._read_top(raw, media_type)
        return True

    def _read_top(self, raw: bytes, media_type: str) -> None:
        from ..oci import manifest

        top = manifest.parse(raw, media_type)
        config: Descriptor | None
        images: list[manifest.Manifest]
        if isinstance(top, manifest.Manifest):
            config, images = top.config, [top]
        else:
            listed = [d for d in top.manifests if d.media_type == CONFIG_TYPE]
            config, images = (listed[0] if listed else None), []
        if config is not None and config.media_type == CONFIG_TYPE:
            self.listed = read_summary(self._small(config, MAX_SUMMARY))
            return
        if isinstance(top, manifest.Index):
            images = list(self._images(top))
        for image in images:
            if image.config.media_type in (OCI_CONFIG, DOCKER_CONFIG):
                from .inline import read_inline

                self.is_image = True
                config_raw = self._small(image.config, MAX_SUMMARY)
                for key, record in read_inline(config_raw, image.layers).items():
                    self.listed.setdefault(key, record)

    def _images(self, index: Any) -> Iterable[Any]:
        from ..oci import manifest

        for platform in self.platforms:
            try:
                desc = manifest.choose(index, platform)
            except ResolveError:
                continue
            raw, media_type, _ = self.client().get_manifest(self._at(desc.digest))
            if media_type not in INDEXES:
                yield manifest.parse(raw, media_type)

    def record(self, key: str) -> RemoteRecord | None:
        """The record of a key."""
        found = self.listed.get(key)
        if found is not None or self.is_image or self.ref.digest:
            return found
        return self._by_tag(key)

    def _by_tag(self, key: str) -> RemoteRecord | None:
        from ..oci import manifest

        try:
            raw, media_type, _ = self.client().get_manifest(self._tagged(key))
        except ResolveError as e:
            if e.status == 404:
                return None
            raise
        doc = manifest.parse(raw, media_type)
        if not isinstance(doc, manifest.Manifest) or doc.config.media_type != RECORD_TYPE:
            raise CacheError(f"{self._tagged(key).full} is no cache record")
        return decode(self._small(doc.config, MAX_RECORD))

    def _small(self, desc: Descriptor, limit: int) -> bytes:
        if desc.size > limit:
            raise CacheError(f"{self.title}: a document of {desc.size} bytes is refused")
        out = bytearray()
        self.client().fetch_blob(self._at(desc.digest), desc, out.extend)
        return bytes(out)

    def fetch(self, desc: Descriptor, write: Write) -> None:
        """A layer."""
        self.client().fetch_blob(self._at(desc.digest), desc, write)

    # -- writing ---------------------------------------------------------------

    def known(self, key: str) -> RemoteRecord | None:
        """The record that is there already; a bad one counts as none."""
        try:
            record = self._by_tag(key)
        except CacheError:
            return None
        except ResolveError as e:
            if e.code in ("DIGEST_INVALID", "MANIFEST_INVALID", "SIZE_INVALID"):
                return None
            raise
        return record if record is not None and key in record.keys else None

    def blob(self, desc: Descriptor, content: Callable[[], BinaryIO]) -> bool:
        """Upload a layer unless it is there."""
        return self.client().push_blob(self.ref, desc, content)

    def record_document(self, raw: bytes, media_type: str, *, inline: bool) -> Descriptor:
        """Upload a small document as a blob."""
        import io

        desc = Descriptor(media_type, digest_of(raw), len(raw))
        self.client().push_blob(self.ref, desc, lambda: io.BytesIO(raw))
        if not inline:
            return desc
        from base64 import b64encode

        return replace(desc, data=b64encode(raw).decode())

    def put(self, record: RemoteRecord) -> None:
        """Put a record under each of its keys."""
        config = self.record_document(encode(record), RECORD_TYPE, inline=True)
        form = replace(self.form, image_manifest=True, oci=True)
        raw, desc = manifest_of(config, layer_descriptors([record]), form)
        for key in record.keys:
            self.client().put_manifest(self._tagged(key), raw, desc.media_type)

    def finish(self, records: Iterable[RemoteRecord]) -> dict[str, Any]:
        """The list of this build's records, under the cache's own name."""
        listed = list(records)
        config = self.record_document(summary(listed), CONFIG_TYPE, inline=False)
        raw, desc = manifest_of(config, layer_descriptors(listed), self.form)
        self.client().put_manifest(replace(self.ref, digest=""), raw, desc.media_type)
        return desc.to_json()

    def _tagged(self, key: str) -> Reference:
        tag = self.ref.tag or "latest"
        if len(tag) > 48:
            tag = digest_of(tag.encode())[7:39]
        return replace(self.ref, tag=f"{tag}.k.{key}", digest="")

    def _at(self, digest: str) -> Reference:
        return replace(self.ref, tag="", digest=digest)
