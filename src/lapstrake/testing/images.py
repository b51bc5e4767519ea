"""Small results to export: real layers in a real content store."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from pathlib import Path

from lapstrake.export.base import BuiltImage, BuiltResult, ExportEnv
from lapstrake.export.join import assemble_image, assemble_result
from lapstrake.oci.descriptor import Descriptor, layer_media_type
from lapstrake.store.content import ContentStore
from lapstrake.store.index import Index
from lapstrake.tree import DIR, FILE, SYMLINK, Node
from lapstrake.values import Value


class Output(Value):
    """What the command line hands over."""

    type: str
    dest: str = ""
    attrs: tuple[tuple[str, str], ...] = ()


class MemoryTree:
    """A tree out of a dict: path -> bytes (file), None (directory), str (symlink) or (Node, bytes)."""

    def __init__(self, items: dict[str, object]) -> None:
        self.nodes: dict[str, tuple[Node, bytes]] = {"": (Node(DIR, 0o755), b"")}
        for path, what in items.items():
            parent = ""
            for part in path.split("/")[:-1]:
                parent = f"{parent}/{part}" if parent else part
                self.nodes.setdefault(parent, (Node(DIR, 0o755), b""))
            if what is None:
                self.nodes[path] = (Node(DIR, 0o755), b"")
            elif isinstance(what, str):
                self.nodes[path] = (Node(SYMLINK, 0o777, linkname=what), b"")
            elif isinstance(what, bytes):
                self.nodes[path] = (
                    Node(FILE, 0o644, size=len(what), mtime_ns=1_600_000_000_000_000_000),
                    what,
                )
            else:
                self.nodes[path] = what  # type: ignore[assignment]

    def lstat(self, path: str) -> Node | None:
        return self.nodes[path][0] if path in self.nodes else None

    def listdir(self, path: str) -> list[str]:
        prefix = path + "/" if path else ""
        return [
            p[len(prefix) :] for p in self.nodes if p and p.startswith(prefix) and "/" not in p[len(prefix) :]
        ]

    def open(self, path: str) -> io.BytesIO:
        return io.BytesIO(self.nodes[path][1])

    def real_path(self, path: str) -> str | None:
        return None


def layer(content: ContentStore, files: dict[str, bytes], kind: str = "gzip") -> tuple[Descriptor, str]:
    """A layer with ``files``; (descriptor, diffID).  ``kind``: gzip, zstd or uncompressed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    raw = packed = out.getvalue()
    if kind == "gzip":
        packed = gzip.compress(raw, mtime=0)
    elif kind == "zstd":
        import zstandard

        packed = zstandard.ZstdCompressor(level=1).compress(raw)
    return Descriptor(layer_media_type(kind), content.put(packed), len(packed)), "sha256:" + hashlib.sha256(
        raw
    ).hexdigest()


def image(
    content: ContentStore, arch: str = "amd64", files: dict[str, bytes] | None = None, **kw: object
) -> BuiltImage:
    """A two-layer image."""
    pairs = [
        layer(content, {"base": b"base"}),
        layer(content, files or {"app/hello": b"hello " + arch.encode()}),
    ]
    config = {
        "architecture": arch,
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Cmd": ["/app/hello"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [d for _, d in pairs]},
        "history": [
            {"created": "2026-01-01T00:00:00Z", "created_by": "ADD base"},
            {"created_by": "CMD", "empty_layer": True},
            {"created_by": "COPY app"},
        ],
    }
    tree = MemoryTree(dict(files or {"app/hello": b"hello " + arch.encode()}))
    return assemble_image(config, [d for d, _ in pairs], rootfs=tree, **kw)  # type: ignore[arg-type]


def result(content: ContentStore, *archs: str, **kw: object) -> BuiltResult:
    """One image per architecture, as a result."""
    return assemble_result([image(content, a) for a in archs or ("amd64",)], **kw)  # type: ignore[arg-type]


def environment(root: Path, **kw: object) -> ExportEnv:
    """Stores below ``root``, no registry."""
    os.makedirs(root / "lap", exist_ok=True)
    return ExportEnv(ContentStore(str(root / "lap")), Index(str(root / "lap")), cwd=str(root), **kw)  # type: ignore[arg-type]
