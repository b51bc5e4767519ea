"""What a Dockerfile gave: its tree, its config, or its error."""

from __future__ import annotations

import itertools
import json
import tarfile
from pathlib import Path

from tests.conftest import Lap

_count = itertools.count()


class Case:
    """Build contexts of one test, each in a directory of its own."""

    def __init__(self, lap: Lap, tmp_path: Path) -> None:
        self.lap = lap
        self.tmp = tmp_path

    def context(self, dockerfile: str | None, files: dict[str, object] | None = None) -> Path:
        """``files``: text, bytes, ``("target",)`` for a symbolic link, or (content, mode)."""
        root = self.tmp / f"context-{next(_count)}"
        root.mkdir()
        given = dict(files or {})
        if dockerfile is not None:
            given["Dockerfile"] = dockerfile
        for path, content in given.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, tuple) and len(content) == 1:
                target.symlink_to(content[0])
                continue
            mode = content[1] if isinstance(content, tuple) else 0o644
            data = content[0] if isinstance(content, tuple) else content
            target.write_bytes(data.encode() if isinstance(data, str) else data)
            target.chmod(mode)
        return root

    def build(self, dockerfile: str | None, *flags: object, files=None, check=True, **kw):
        """The finished process."""
        directory = self.context(dockerfile, files)
        return self.lap("build", "--progress=plain", directory, *flags, check=check, **kw)

    def tree(self, dockerfile: str | None, *flags: object, files=None, **kw) -> dict[str, tuple]:
        """path -> (mode, uid, gid, content); directories end in "/", links hold "-> target"."""
        out = self.tmp / f"tree-{next(_count)}.tar"
        self.build(dockerfile, "-o", f"type=tar,dest={out}", *flags, files=files, **kw)
        found: dict[str, tuple] = {}
        with tarfile.open(out) as tar:
            for m in tar:
                if m.isdir():
                    found[m.name.strip("/") + "/"] = (m.mode, m.uid, m.gid, "")
                elif m.issym():
                    found[m.name] = (m.mode, m.uid, m.gid, f"-> {m.linkname}")
                elif m.islnk():
                    found[m.name] = (m.mode, m.uid, m.gid, f"= {m.linkname}")
                else:
                    stream = tar.extractfile(m)
                    data = stream.read() if stream is not None else b""
                    found[m.name] = (m.mode, m.uid, m.gid, data.decode("utf-8", "surrogateescape"))
        return found

    def config(self, dockerfile: str, *flags: object, files=None, **kw) -> dict:
        """The image config."""
        out = self.tmp / f"layout-{next(_count)}"
        self.build(dockerfile, "-o", f"type=oci,dest={out},tar=false", *flags, files=files, **kw)

        def blob(digest: str) -> dict:
            return json.loads((out / "blobs" / digest.replace(":", "/")).read_text())

        document = json.loads((out / "index.json").read_text())
        while "manifests" in document:
            document = blob(document["manifests"][0]["digest"])
        return blob(document["config"]["digest"])

    def layers(self, dockerfile: str, *flags: object, files=None, **kw) -> list[list[str]]:
        """The names in each layer that this build made."""
        out = self.tmp / f"layers-{next(_count)}"
        self.build(dockerfile, "-o", f"type=oci,dest={out},tar=false", *flags, files=files, **kw)

        def blob(digest: str) -> Path:
            return out / "blobs" / digest.replace(":", "/")

        document = json.loads((out / "index.json").read_text())
        while "manifests" in document:
            document = json.loads(blob(document["manifests"][0]["digest"]).read_text())
        history = json.loads(blob(document["config"]["digest"]).read_text())["history"]
        own = sum(made for _, made in log_of({"history": history}))
        found = []
        for layer in document["layers"][-own:]:
            with tarfile.open(blob(layer["digest"])) as tar:
                found.append(tar.getnames())
        return found

    def error(self, dockerfile: str | None, *flags: object, files=None, **kw) -> str:
        """The first ERROR line of a build that must fail, without its prefix."""
        done = self.build(dockerfile, "-o", "type=cacheonly", *flags, files=files, check=False, **kw)
        assert done.returncode != 0, f"built: {dockerfile}"
        assert "Traceback" not in done.stderr, done.stderr
        line = next(x for x in done.stderr.splitlines() if x.startswith("ERROR: "))
        return line.removeprefix("ERROR: ").removeprefix("failed to build: failed to solve: ")

    def output(self, dockerfile: str, *flags: object, files=None, check=True, **kw) -> list[str]:
        """What the RUN steps printed, without the step numbers and times."""
        done = self.build(dockerfile, "-o", "type=cacheonly", *flags, files=files, check=check, **kw)
        found = []
        for line in done.stderr.splitlines():
            head, _, rest = line.partition(" ")
            time, _, text = rest.partition(" ")
            if head.startswith("#") and time.replace(".", "").isdigit() and "." in time:
                found.append(text)
        return found


def log_of(config: dict) -> list[tuple[str, bool]]:
    """The history entries that this build made: (created_by, whether it made a layer)."""
    return [
        (h["created_by"], not h.get("empty_layer"))
        for h in config["history"]
        if h.get("comment") == "buildkit.dockerfile.v0"
    ]
