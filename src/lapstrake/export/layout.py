"""OCI layouts: a tar or a directory (spec oci.md §4)."""

from __future__ import annotations

import os

from ..errors import ExportError
from ..oci import codec
from ..oci.descriptor import OCI_INDEX, Descriptor
from ..values import replace
from ..whole import WholeFile, write_whole
from .base import ResultBlobs, created_text, is_digest, walk
from .names import metadata, tag_of, with_tag
from .place import OneFile, directory_dest
from .tarout import TarOut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import IO, Any, BinaryIO

    from .base import Blobs, BuiltResult, ExportEnv
    from .options import ImageOptions

OCI_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
IMAGE_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"
CREATED = "org.opencontainers.image.created"


def named_descriptors(result: BuiltResult, names: Iterable[str]) -> tuple[Descriptor, ...]:
    """One top descriptor per name, or one without a name."""
    top = result.descriptor
    base = dict(top.annotations)
    created = created_text(result)
    if created:
        base[CREATED] = created
    out = []
    for name in names:
        full = with_tag(name)
        out.append(
            replace(
                top, annotations=tuple(sorted({**base, IMAGE_NAME: full, REF_NAME: tag_of(full)}.items()))
            )
        )
    return tuple(out) or (replace(top, annotations=tuple(sorted(base.items()))),)


def index_json(entries: Sequence[dict[str, Any]]) -> bytes:
    """``index.json``."""
    return codec.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)})


def write_tar(out: IO[bytes], tops: Sequence[Descriptor], blobs: Blobs, extra: dict[str, bytes]) -> None:
    """Entries sorted by name; uid, gid and mtime 0.  ``extra``: files at the top, by name."""
    tar = TarOut(out)
    reached = {d.digest: d for top in tops for d, _ in walk(top, blobs)}
    found = sorted(reached.values(), key=lambda d: d.digest)
    tar.directory("blobs")
    tar.directory("blobs/sha256")
    for desc in found:
        size = blobs.size(desc.digest)
        if size != desc.size:
            raise ExportError(f"content of {desc.digest} has {size} bytes, not {desc.size}")
        with blobs.open(desc.digest) as f:
            tar.file("blobs/sha256/" + desc.digest[7:], size, f, 0o444)
    for name in sorted(extra):
        tar.data(name, extra[name], 0o444 if name == "oci-layout" else 0o644)
    tar.end()


class LayoutTar:
    """``type=oci``: one tar file, or standard output."""

    extra_kind = "oci"

    def __init__(self, dest: str, options: ImageOptions, env: ExportEnv) -> None:
        self._file = OneFile(dest, self.extra_kind, env)
        self._options = options
        self._env = env
        self._result: BuiltResult | None = None

    def extra(self, result: BuiltResult) -> dict[str, bytes]:
        """The files at the top of the archive."""
        entries = [d.to_json() for d in (*named_descriptors(result, self._options.names), *result.referrers)]
        return {"index.json": index_json(entries), "oci-layout": OCI_LAYOUT}

    def prepare(self, result: BuiltResult) -> None:
        """Write beside the destination; standard output waits for ``commit``."""
        self._result = result
        if not self._file.to_stdout:
            self._file.fill(lambda out: self._write(out, result))

    def _write(self, out: BinaryIO, result: BuiltResult) -> None:
        write_tar(
            out,
            (result.descriptor, *result.referrers),
            ResultBlobs(result, self._env.content, self._env.fetch),
            self.extra(result),
        )

    def commit(self) -> dict[str, Any]:
        """Rename into place."""
        if self._result is None:
            raise ExportError("nothing was prepared")
        if self._file.to_stdout:
            self._write(self._file.open(), self._result)
        self._file.commit()
        return metadata(self._result, self._options.names)

    def abort(self) -> None:
        """Remove the unfinished file."""
        self._file.abort()


class LayoutDirectory:
    """``type=oci,tar=false``: blobs added to a layout directory, its index updated last."""

    def __init__(self, dest: str, options: ImageOptions, env: ExportEnv) -> None:
        self._path = directory_dest(dest, env.cwd)
        self._options = options
        self._env = env
        self._result: BuiltResult | None = None

    def prepare(self, result: BuiltResult) -> None:
        """Write the blobs; they are invisible until the index names them."""
        self._result = result
        blobs = ResultBlobs(result, self._env.content, self._env.fetch)
        for top in (result.descriptor, *result.referrers):
            add_blobs(self._path, top, blobs)

    def commit(self) -> dict[str, Any]:
        """Update ``index.json``."""
        if self._result is None:
            raise ExportError("nothing was prepared")
        named = named_descriptors(self._result, self._options.names)
        update_index(self._path, (*named, *self._result.referrers))
        return metadata(self._result, self._options.names)

    def abort(self) -> None:
        """Blobs already written stay; nothing refers to them."""


def add_blobs(root: str, top: Descriptor, blobs: Blobs) -> None:
    """Put everything below ``top`` into the layout at ``root``, skipping what is there."""
    folder = os.path.join(root, "blobs", "sha256")
    try:
        os.makedirs(folder, exist_ok=True)
        for desc, _ in walk(top, blobs):
            path = os.path.join(folder, desc.digest[7:])
            try:
                if os.stat(path).st_size == desc.size:
                    continue
            except FileNotFoundError:
                pass
            if blobs.size(desc.digest) != desc.size:
                raise ExportError(f"content of {desc.digest} does not have {desc.size} bytes")
            with blobs.open(desc.digest) as f, WholeFile(path, 0o444) as out:
                while block := f.read(1 << 20):
                    out.write(block)
    except OSError as e:
        raise ExportError(f"cannot write the layout {root}: {e.strerror}") from e


def update_index(root: str, entries: Sequence[Descriptor]) -> None:
    """Add ``entries`` to ``index.json`` under a lock; entries with the same tag are replaced."""
    import fcntl

    tags = {dict(d.annotations).get(REF_NAME) for d in entries}
    digests = {d.digest for d in entries}
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        kept = []
        for old in read_index(root):
            tag = (old.get("annotations") or {}).get(REF_NAME)
            if (tag is not None and tag in tags) or (tag is None and old.get("digest") in digests):
                continue
            kept.append(old)
        write_whole(os.path.join(root, "oci-layout"), OCI_LAYOUT)
        write_whole(os.path.join(root, "index.json"), index_json(kept + [d.to_json() for d in entries]))
    except OSError as e:
        raise ExportError(f"cannot write the layout {root}: {e.strerror}") from e
    finally:
        os.close(fd)


def read_index(root: str) -> list[dict[str, Any]]:
    """The entries of a layout's ``index.json``; [] when there is none."""
    try:
        with open(os.path.join(root, "index.json"), "rb") as f:
            doc = codec.loads(f.read(codec.MAX_DOCUMENT + 1), "index.json")
    except FileNotFoundError:
        return []
    entries = doc.get("manifests")
    return [d for d in entries if isinstance(d, dict)] if isinstance(entries, list) else []


class LayoutBlobs:
    """The blobs of a layout directory, read-only."""

    def __init__(self, root: str) -> None:
        self._root = os.path.join(root, "blobs", "sha256")

    def _path(self, digest: str) -> str:
        if not is_digest(digest):
            raise ExportError(f"not a sha256 digest: {digest}")
        return os.path.join(self._root, digest[7:])

    def has(self, digest: str) -> bool:
        """Whether the blob is there."""
        return os.path.isfile(self._path(digest))

    def size(self, digest: str) -> int:
        """Size in bytes."""
        try:
            return os.stat(self._path(digest)).st_size
        except FileNotFoundError:
            raise ExportError(f"content of {digest} is missing") from None

    def open(self, digest: str) -> BinaryIO:
        """A reader."""
        try:
            return open(self._path(digest), "rb")
        except FileNotFoundError:
            raise ExportError(f"content of {digest} is missing") from None
