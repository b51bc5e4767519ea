#!/usr/bin/env python3
"""The same Dockerfiles built by buildah and by Lapstrake, compared file by file and member by member.

    differential.py [CASE…]     print a table: what is equal, what differs and why

The cases are in tests/data/differential_cases.py.  Exit code 1: a difference that nobody has explained.
Needs buildah, root (or a user buildah works for) and the base images (scripts/bases.py).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "tests" / "data"))
MEMBERS = (
    "Env", "Cmd", "Entrypoint", "ExposedPorts", "Volumes", "Labels", "User", "WorkingDir", "StopSignal",
    "Shell", "Healthcheck", "OnBuild",
)  # fmt: skip
#: what buildah leaves behind in every image with a RUN
EVERYWHERE = {
    "/etc/hostname: buildah": "buildah 1.28 commits the mount points of its own files",
    "/etc/hosts: buildah": "buildah 1.28 commits the mount points of its own files",
    "/etc/resolv.conf: buildah": "buildah 1.28 commits the mount points of its own files",
}
Tree = dict[str, tuple[object, ...]]


def read_layout(path: Path) -> tuple[Tree, dict[str, object]]:
    """The merged tree and the config of the one image in an OCI layout or a plain directory."""

    def blob(digest: str) -> Path:
        if (path / "index.json").exists():
            return path / "blobs" / digest.replace(":", "/")
        return path / digest.partition(":")[2]  # skopeo's plain directory

    top = path / "index.json"
    document = json.loads((top if top.exists() else path / "manifest.json").read_text())
    while "manifests" in document:
        document = json.loads(blob(document["manifests"][0]["digest"]).read_text())
    tree: Tree = {}
    for layer in document["layers"]:
        with blob(layer["digest"]).open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with tarfile.open(fileobj=gzip.open(raw) if packed else raw) as tar:  # type: ignore[arg-type]
                _apply(tree, tar)
    return tree, json.loads(blob(document["config"]["digest"]).read_text())


def _apply(tree: Tree, tar: tarfile.TarFile) -> None:
    fresh: set[str] = set()
    for m in tar:
        name = os.path.normpath("/" + m.name)
        parent, base = os.path.split(name)
        if base == ".wh..wh..opq":
            for path in [p for p in tree if p.startswith(parent.rstrip("/") + "/") and p not in fresh]:
                del tree[path]
        elif base.startswith(".wh."):
            gone = os.path.join(parent, base[4:])
            for path in [p for p in tree if p == gone or p.startswith(gone + "/")]:
                del tree[path]
        else:
            fresh.add(name)
            if not m.isdir():
                for path in [p for p in tree if p.startswith(name + "/")]:
                    del tree[path]
            tree[name] = _entry(tree, tar, m)


def _entry(tree: Tree, tar: tarfile.TarFile, m: tarfile.TarInfo) -> tuple[object, ...]:
    if m.islnk():
        return tree[os.path.normpath("/" + m.linkname)]
    xattrs = tuple(sorted((k, v) for k, v in m.pax_headers.items() if k.startswith("SCHILY.xattr.")))
    if m.issym():
        return ("link", m.uid, m.gid, m.linkname)
    if m.isdir():
        return ("dir", oct(m.mode & 0o7777), m.uid, m.gid, xattrs)
    stream = tar.extractfile(m) if m.isfile() else None
    digest = hashlib.sha256(stream.read()).hexdigest()[:12] if stream else (m.devmajor, m.devminor)
    return ("file" if m.isfile() else m.type.decode(), oct(m.mode & 0o7777), m.uid, m.gid, digest, xattrs)


def differences(ours: Path, theirs: Path) -> Iterator[str]:
    """What differs, one line each: ``PATH: buildah … lapstrake …``."""
    (our_tree, our_config), (their_tree, their_config) = read_layout(ours), read_layout(theirs)
    for path in sorted(our_tree.keys() | their_tree.keys()):
        if path != "/" and our_tree.get(path) != their_tree.get(path):
            yield f"{path}: buildah {their_tree.get(path)} lapstrake {our_tree.get(path)}"
    for member in ("architecture", "os", "variant", "author"):
        if (our_config.get(member) or "") != (their_config.get(member) or ""):
            yield f"{member}: buildah {their_config.get(member)} lapstrake {our_config.get(member)}"
    ours_in, theirs_in = our_config.get("config") or {}, their_config.get("config") or {}
    assert isinstance(ours_in, dict)
    assert isinstance(theirs_in, dict)
    for member in MEMBERS:
        one, other = ours_in.get(member) or None, theirs_in.get(member) or None
        if one != other:
            yield f"config.{member}: buildah {other} lapstrake {one}"


class Builders:
    """Both programs, each with a store of its own below one temporary directory."""

    def __init__(self, root: Path, config: str) -> None:
        self.root = root
        port = Path(config).stem.rpartition("-")[2]
        (root / "registries.conf").write_text(
            'unqualified-search-registries = ["docker.io"]\n[[registry]]\nprefix = "docker.io"\n'
            f'location = "docker.io"\n[[registry.mirror]]\nlocation = "localhost:{port}"\ninsecure = true\n'
        )
        (root / "policy.json").write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
        self.lapstrake_env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("LAPSTRAKE_")},
            "LAPSTRAKE_ROOT": str(root / "lapstrake"), "LAPSTRAKE_CONFIG": config,
            "PYTHONPATH": str(PROJECT / "src"),
        }  # fmt: skip

    def context(self, name: str, dockerfile: str, files: dict[str, object]) -> Path:
        """Write a case's files: text, bytes, ("target",) or (content, mode)."""
        where = self.root / "contexts" / name
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir(parents=True)
        (where / "Dockerfile").write_text(dockerfile)
        for path, content in files.items():
            target = where / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, tuple) and len(content) == 1:
                target.symlink_to(content[0])
                continue
            data, mode = content if isinstance(content, tuple) else (content, 0o644)
            target.write_bytes(data.encode() if isinstance(data, str) else data)
            target.chmod(mode)
        return where

    def buildah(self, context: Path, out: Path, flags: list[str]) -> str:
        """Build and write a layout; the error, or an empty string."""
        base = ["buildah", "--root", str(self.root / "b-root"), "--runroot", str(self.root / "b-run")]
        base += ["--storage-driver", "vfs", "--registries-conf", str(self.root / "registries.conf")]
        policy = ["--signature-policy", str(self.root / "policy.json")]
        build = [*base, "bud", "--layers", "--isolation", "chroot", "--identity-label=false"]
        build += ["--format", "docker", "-q", *policy]
        done = _run([*build, *flags, "-t", "case:1", str(context)])
        if done.returncode == 0:
            done = _run([*base, "push", "-q", *policy, "case:1", f"dir:{out}"])
        return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]

    def lapstrake(self, context: Path, out: Path, flags: list[str]) -> str:
        """As ``buildah``."""
        words = [sys.executable, "-m", "lapstrake", "build", "--provenance=false", "-o"]
        done = _run([*words, f"type=oci,dest={out},tar=false", *flags, str(context)], self.lapstrake_env)
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        return "" if done.returncode == 0 else (errors or ["failed"])[0]


def _run(words: list[str], env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL, check=False, timeout=300
    )


def compare(builders: Builders, case: dict[str, object]) -> list[str]:
    """All differences of one case."""
    name = str(case["name"])
    context = builders.context(name, str(case["dockerfile"]), case.get("files") or {})  # type: ignore[arg-type]
    ours, theirs = builders.root / "out-l", builders.root / "out-b"
    for path in (ours, theirs):
        shutil.rmtree(path, ignore_errors=True)
    flags = [str(f) for f in case.get("flags") or ()]  # type: ignore[attr-defined]
    failed = builders.buildah(context, theirs, flags), builders.lapstrake(context, ours, flags)
    if any(failed):
        return [] if all(failed) else [f"fails: buildah {failed[0]!r} lapstrake {failed[1]!r}"]
    return list(differences(ours, theirs))


def unexplained(case: dict[str, object], found: list[str]) -> list[str]:
    """Differences that begin with none of the case's ``differs`` keys."""
    known: dict[str, str] = case.get("differs") or {}  # type: ignore[assignment]
    return [line for line in found if not any(line.startswith(k) for k in (*known, *EVERYWHERE))]


def main() -> int:
    """Compare the cases named, or all."""
    from differential_cases import CASES

    wanted = sys.argv[1:]
    script = [sys.executable, str(PROJECT / "scripts" / "registry.py"), "config"]
    config = subprocess.run(script, capture_output=True, text=True, check=True).stdout.strip()
    bad = 0
    with tempfile.TemporaryDirectory(prefix="differential-") as root:
        builders = Builders(Path(root), config)
        print("| Case | Result | Why |\n| --- | --- | --- |")
        for case in CASES:
            if wanted and case["name"] not in wanted:
                continue
            found = compare(builders, case)
            left = unexplained(case, found)
            bad += bool(left)
            own = [line for line in found if not line.startswith(tuple(EVERYWHERE))]
            result = "equal" if not own else f"{len(own)} different"
            known: dict[str, str] = case.get("differs") or {}  # type: ignore[assignment]
            why = "; ".join(dict.fromkeys(v for k, v in known.items() if any(x.startswith(k) for x in own)))
            print(f"| {case['name']} | {result} | {why} |", flush=True)
            for line in left:
                print(f"    UNEXPLAINED {line}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
