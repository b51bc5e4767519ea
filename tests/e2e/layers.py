"""What a layer says about its files, for comparing layers made in different ways."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path


def facts(layout: Path, layer: int = -1) -> dict[str, tuple[object, ...]]:
    """Each entry of one layer of a single-platform OCI layout: all but its time.  Content by digest."""
    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(_blob(layout, index["manifests"][0]["digest"]).read_text())
    found = {}
    with tarfile.open(_blob(layout, manifest["layers"][layer]["digest"])) as tar:
        for m in tar:
            data = hashlib.sha256(tar.extractfile(m).read()).hexdigest() if m.isreg() else ""
            extra = tuple(sorted((k, v) for k, v in m.pax_headers.items() if k.startswith("SCHILY")))
            device = (m.devmajor, m.devminor) if m.isdev() else ()
            found[m.name] = (m.type, oct(m.mode), m.uid, m.gid, m.linkname, device, extra, data)
    return found


def layer_digest(layout: Path, layer: int = -1) -> str:
    """The digest of one layer's blob."""
    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(_blob(layout, index["manifests"][0]["digest"]).read_text())
    return manifest["layers"][layer]["digest"]


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")
