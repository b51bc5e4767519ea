"""Images of the local store as one archive."""

from __future__ import annotations

from ..errors import ExportError
from ..events import rfc3339
from ..export.base import ExportEnv, children, walk
from ..export.layout import CREATED, IMAGE_NAME, OCI_LAYOUT, REF_NAME, index_json, write_tar
from ..export.names import familiar, tag_of
from ..export.place import OneFile
from ..oci import codec
from ..oci.descriptor import MANIFESTS
from ..values import replace
from .images import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO, Any, BinaryIO

    from ..export.store import StoredImage
    from .engine import Engine


def save_images(engine: Engine, names: Sequence[str], dest: str, cwd: str, stdout: BinaryIO) -> None:
    """Write ``names`` to ``dest`` ("-": standard output); layers that were never pulled are fetched now."""
    images = [find(engine.content, engine.index, n) for n in names]
    for image in images:
        _complete(engine, image)
    entries = []
    for image in images:
        notes = {IMAGE_NAME: image.name, REF_NAME: tag_of(image.name)}
        if image.created is not None:
            notes[CREATED] = rfc3339(image.created)
        entries.append(replace(image.descriptor, annotations=tuple(sorted(notes.items()))).to_json())
    extra = {"index.json": index_json(entries), "oci-layout": OCI_LAYOUT}
    if all(i.descriptor.media_type in MANIFESTS for i in images):
        extra["manifest.json"] = codec.dumps(_docker_list(engine, images))
    tops = list({i.descriptor.digest: i.descriptor for i in images}.values())

    def write(out: IO[bytes]) -> None:
        write_tar(out, tops, engine.content, extra)

    file = OneFile(dest, "docker", ExportEnv(engine.content, cwd=cwd, stdout=stdout))
    if file.to_stdout:
        write(file.open())
    else:
        file.fill(write)
        file.commit()


def _complete(engine: Engine, image: StoredImage) -> None:
    from ..oci import reference

    sources = dict(image.sources)
    for desc, raw in walk(image.descriptor, engine.content):
        if raw is not None or engine.content.has(desc.digest):
            continue
        if desc.digest not in sources:
            raise ExportError(
                f"{image.name}: content of {desc.digest} is not in the store", hint="build or pull it again"
            )
        with engine.content.writer(desc.digest, desc.size) as out:
            engine.client().fetch_blob(reference.parse(sources[desc.digest]), desc, out.write)


def _docker_list(engine: Engine, images: Sequence[StoredImage]) -> list[dict[str, Any]]:
    """``manifest.json``: one entry for each image, with all its names."""
    found: dict[str, dict[str, Any]] = {}
    for image in images:
        top = image.descriptor
        config, *layers = children(top, engine.content.read(top.digest))
        one = found.setdefault(
            top.digest,
            {
                "Config": f"blobs/sha256/{config.digest[7:]}",
                "RepoTags": [],
                "Layers": [f"blobs/sha256/{d.digest[7:]}" for d in layers],
            },
        )
        if "@" not in image.name:
            one["RepoTags"].append(familiar(image.name))
    return list(found.values())
