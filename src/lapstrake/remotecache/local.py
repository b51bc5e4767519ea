"""A cache in a directory: an OCI layout with the records beside its blobs.

``DIR/records/TAG/<2 hex>/KEY`` is a sealed record, written whole and put in place by a rename; the
layers are blobs of the layout; ``index.json`` names, under the tag, the list of what the last build
wrote.  Any number of builds may write at once: only ``index.json`` is shared, and it is changed under
a lock and lost records can't result from it, since nothing is found through it alone.
"""

from __future__ import annotations

import os

from ..errors import BuildError, CacheError
from ..oci.descriptor import Descriptor
from ..oci.digest import digest_of
from ..whole import WholeFile
from .base import CacheForm, layer_descriptors, manifest_of
from .record import CONFIG_TYPE, MAX_RECORD, decode, encode, read_summary, seal, summary, unseal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, BinaryIO

    from .base import Write
    from .record import RemoteRecord

_MAX_INDEX = 16 << 20
_REF = "org.opencontainers.image.ref.name"
_HEX = frozenset("0123456789abcdef")
_CHUNK = 1 << 20


class LocalCache:
    """Both directions of ``type=local``."""

    def __init__(
        self, path: str, form: CacheForm, *, tag: str = "latest", digest: str = "", reset: bool = False
    ) -> None:
        from ..oci.reference import is_tag

        self.path = os.path.abspath(path)
        self.form = form
        self.tag = tag or "latest"
        self.digest = digest
        self.reset = reset
        self.pinned: dict[str, RemoteRecord] | None = None
        if not is_tag(self.tag):
            raise CacheError(f"invalid tag {self.tag} of a local cache")

    @property
    def title(self) -> str:
        """Its directory."""
        return self.path

    def origin(self) -> dict[str, Any]:
        """How to find it again."""
        return {"type": "local", "src": self.path}

    # -- reading ---------------------------------------------------------------

    def open(self) -> bool:
        """Whether there is a cache of this tag; with ``digest``, read that list of records."""
        if self.digest:
            self.pinned = read_summary(self._config_of(self.digest))
            return True
        return os.path.isdir(self._records()) or os.path.isfile(f"{self.path}/index.json")

    def _config_of(self, digest: str) -> bytes:
        import json

        try:
            doc = json.loads(self._small(digest))
            config = doc.get("config") or next(m for m in doc["manifests"] if m["mediaType"] == CONFIG_TYPE)
            return self._small(str(config["digest"]))
        except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as e:
            raise CacheError(f"{self.path}: {digest} is no cache manifest") from e

    def _small(self, digest: str) -> bytes:
        with open(self._blob(digest), "rb") as f:
            raw = f.read(_MAX_INDEX + 1)
        if digest_of(raw) != digest:
            raise CacheError(f"{self.path}: {digest} is damaged")
        return raw

    def record(self, key: str) -> RemoteRecord | None:
        """The record of a key, whose layers are all here."""
        if self.pinned is not None:
            return self.pinned.get(key)
        try:
            with open(self._key(key), "rb") as f:
                data = f.read(MAX_RECORD + 200)
        except FileNotFoundError:
            return None
        record = decode(unseal(data))
        for x in record.layers:
            if not x.base and not self._has(x.digest, x.size):
                raise CacheError(f"the layer {x.digest} of a cache record is missing or cut short")
        return record

    def fetch(self, desc: Descriptor, write: Write) -> None:
        """A layer."""
        with open(self._blob(desc.digest), "rb") as f:
            while chunk := f.read(_CHUNK):
                write(chunk)

    # -- writing ---------------------------------------------------------------

    def known(self, key: str) -> RemoteRecord | None:
        """The record that is there already; a bad one counts as none."""
        try:
            record = self.record(key)
        except CacheError:
            return None
        return record if record is not None and key in record.keys else None

    def blob(self, desc: Descriptor, content: Callable[[], BinaryIO]) -> bool:
        """Copy a layer in, unless it is there; verified on the way."""
        from hashlib import sha256

        if self._has(desc.digest, desc.size):
            return False
        check = sha256()
        with _placing(self._blob(desc.digest)) as out, content() as f:
            while chunk := f.read(_CHUNK):
                check.update(chunk)
                out.write(chunk)
            if "sha256:" + check.hexdigest() != desc.digest:
                raise CacheError(f"the content of {desc.digest} is damaged in the store")
        return True

    def put(self, record: RemoteRecord) -> None:
        """Put a record under each of its keys."""
        data = seal(encode(record))
        for key in record.keys:
            with _placing(self._key(key)) as out:
                out.write(data)

    def finish(self, records: Iterable[RemoteRecord]) -> dict[str, Any]:
        """The list of this build's records, named in ``index.json``; with ``reset`` the rest goes."""
        import fcntl

        listed = list(records)
        config = self._document(summary(listed), CONFIG_TYPE)
        raw, desc = manifest_of(config, layer_descriptors(listed), self.form)
        self._document(raw, desc.media_type)
        os.makedirs(self.path, exist_ok=True)
        with open(f"{self.path}/.lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._name(desc)
            if self.reset:
                self._reset({k for r in listed for k in r.keys})
        return desc.to_json()

    def _document(self, raw: bytes, media_type: str) -> Descriptor:
        import io

        desc = Descriptor(media_type, digest_of(raw), len(raw))
        self.blob(desc, lambda: io.BytesIO(raw))
        return desc

    def _index(self) -> dict[str, Any]:
        import json

        try:
            with open(f"{self.path}/index.json", "rb") as f:
                doc = json.loads(f.read(_MAX_INDEX))
        except (FileNotFoundError, ValueError, RecursionError):
            doc = None
        return doc if isinstance(doc, dict) and isinstance(doc.get("manifests"), list) else {"manifests": []}

    def _name(self, desc: Descriptor) -> None:
        from ..oci import codec

        index = self._index()
        others = [
            m for m in index["manifests"] if isinstance(m, dict) and (m.get("annotations") or {}).get(_REF) != self.tag
        ]  # fmt: skip
        entry = {**desc.to_json(), "annotations": {_REF: self.tag}}
        index = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [*others, entry],
        }
        with _placing(f"{self.path}/oci-layout") as out:
            out.write(b'{"imageLayoutVersion":"1.0.0"}')
        with _placing(f"{self.path}/index.json") as out:
            out.write(codec.dumps(index))

    def _reset(self, keep: set[str]) -> None:
        """Remove the records of this tag that this build has no use for, and every blob nothing needs."""
        used: set[str] = set()
        for where, _, names in os.walk(f"{self.path}/records"):
            for name in names:
                path = os.path.join(where, name)
                mine = where.startswith(self._records() + "/")
                try:
                    with open(path, "rb") as f:
                        record = decode(unseal(f.read(MAX_RECORD + 200)))
                except (OSError, BuildError):
                    record = None
                if record is None or (mine and name not in keep):
                    os.unlink(path)
                else:
                    used.update(x.digest for x in record.layers)
        import json

        todo = [str(m.get("digest")) for m in self._index()["manifests"] if isinstance(m, dict)]
        while todo:
            digest = todo.pop()
            if digest in used or not self._has(digest):
                continue
            used.add(digest)
            if os.path.getsize(self._blob(digest)) > _MAX_INDEX:
                continue
            try:
                doc = json.loads(self._small(digest))
            except (ValueError, CacheError):
                continue
            if isinstance(doc, dict):
                below = [*(doc.get("layers") or []), *(doc.get("manifests") or []), doc.get("config")]
                todo += [str(d["digest"]) for d in below if isinstance(d, dict) and "digest" in d]
        blobs = f"{self.path}/blobs/sha256"
        for name in os.listdir(blobs) if os.path.isdir(blobs) else []:
            if len(name) == 64 and f"sha256:{name}" not in used:
                os.unlink(f"{blobs}/{name}")

    # -- places ----------------------------------------------------------------

    def _records(self) -> str:
        return f"{self.path}/records/{self.tag}"

    def _key(self, key: str) -> str:
        return f"{self._records()}/{key[:2]}/{key}"

    def _blob(self, digest: str) -> str:
        value = digest.removeprefix("sha256:")
        if len(value) != 64 or not _HEX.issuperset(value):
            raise CacheError(f"not a digest: {digest[:100]!r}")
        return f"{self.path}/blobs/sha256/{value}"

    def _has(self, digest: str, size: int = -1) -> bool:
        try:
            found = os.stat(self._blob(digest)).st_size
        except OSError:
            return False
        return size < 0 or found == size


def _placing(path: str) -> WholeFile:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return WholeFile(path, sync=True)
