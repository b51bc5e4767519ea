"""What an attacker hands over: images, archives and limits to hold against them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import resource
import tarfile
from pathlib import Path

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


def member(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **facts: object):
    """One entry for ``tarball``."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mtime = kind, len(data), 1_500_000_000
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in facts.items():
        setattr(info, key, value)
    return info, data


def tarball(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A tar with these entries."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def digest(data: bytes) -> str:
    """sha256, as descriptors write it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Layout:
    """An OCI layout directory, whatever is to be in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "blobs/sha256").mkdir(parents=True)
        (root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, data: bytes, media_type: str) -> dict:
        """Add a blob; its descriptor."""
        name = digest(data)
        (self.root / "blobs/sha256" / name[7:]).write_bytes(data)
        return {"mediaType": media_type, "digest": name, "size": len(data)}

    def document(self, value: object, media_type: str) -> dict:
        """Add a JSON document."""
        return self.blob(json.dumps(value).encode(), media_type)

    def image(self, *tars: bytes, config: object = None, claim: tuple[str, ...] = ()) -> str:
        """Add an image with these layers and make it the layout's; ``claim``: diffIDs that are not true.
        Its address as a named context."""
        layers = [self.blob(gzip.compress(t, 1), GZIP) for t in tars]
        doc = {
            "architecture": os.uname().machine.replace("x86_64", "amd64").replace("aarch64", "arm64"),
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": list(claim) or [digest(t) for t in tars]},
        }
        if isinstance(config, dict):
            doc |= config
        raw = config if isinstance(config, bytes) else json.dumps(doc).encode()
        return self.top({"config": self.blob(raw, CONFIG), "layers": layers})

    def top(self, manifest: dict, media_type: str = MANIFEST) -> str:
        """Make a manifest or index the layout's."""
        desc = self.document({"schemaVersion": 2, "mediaType": media_type, **manifest}, media_type)
        return self.index(desc)

    def index(self, *entries: object) -> str:
        """Write ``index.json``."""
        (self.root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
        return f"oci-layout://{self.root}"


def limits(memory: int = 512 << 20):
    """What a child does before it starts: no more address space than that."""
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def refused(done) -> str:
    """That a command failed as it should: one clear error; what it said."""
    text = done.stdout + done.stderr
    assert done.returncode not in (0, -9, -11), text
    assert "Traceback" not in text and "This is a bug" not in text, text[-4000:]
    assert "ERROR: " in text or "error: " in text, text
    return text


class Canary:
    """A tree beside what is attacked: afterwards not a byte, time or name of it may be another."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "dir/below").mkdir(parents=True)
        (root / "victim").write_text("canary")
        (root / "dir/passwd").write_text("canary:x:0:0")
        (root / "dir/below/file").write_bytes(b"canary" * 100)
        (root / "empty").mkdir()
        (root / "stub").touch()
        os.symlink("victim", root / "link")
        self.before = self.look()

    def look(self) -> dict[str, tuple]:
        """Everything there is to know of it, except when it was read."""
        found = {}
        for where, names, files in os.walk(self.root):
            for path in [Path(where), *(Path(where, n) for n in names + files)]:
                st = path.lstat()
                content = (
                    os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
                )
                xattrs = os.listxattr(path, follow_symlinks=False)
                facts = (
                    st.st_ino,
                    st.st_mode,
                    st.st_nlink,
                    st.st_uid,
                    st.st_gid,
                    st.st_size,
                    st.st_mtime_ns,
                    st.st_ctime_ns,
                )
                found[str(path)] = (facts, content, tuple(xattrs))
        return found

    def check(self) -> None:
        """Nothing happened to it."""
        now = self.look()
        assert now == self.before, {
            k: (self.before.get(k), now.get(k)) for k in now | self.before if self.before.get(k) != now.get(k)
        }
