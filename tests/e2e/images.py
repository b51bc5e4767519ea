"""Looking at images with other people's tools."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.conftest import need


def tool(*words: object, **kw) -> str:
    """Run a foreign program and return what it printed."""
    need(str(words[0]))
    done = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **kw
    )
    assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
    return done.stdout


def raw(reference: str) -> dict:
    """What skopeo sees: the manifest or index itself."""
    return json.loads(tool("skopeo", "inspect", "--raw", "--tls-verify=false", reference))


def platforms(index: dict) -> list[str]:
    """The platforms of an index, attestations left out."""
    return [
        f"{p['os']}/{p['architecture']}"
        for p in (m["platform"] for m in index["manifests"])
        if p["os"] != "unknown"
    ]


def unpack(layout: Path, tag: str, bundle: Path) -> Path:
    """umoci unpacks the image into a runtime bundle; returns its root."""
    rootless = () if os.geteuid() == 0 else ("--rootless",)
    tool("umoci", "unpack", *rootless, "--image", f"{layout}:{tag}", bundle)
    return bundle / "rootfs"


def pick(layout: Path, tag: str, arch: str, into: Path) -> Path:
    """One platform of a multi-platform layout, as a layout of its own, copied by skopeo."""
    tool(
        "skopeo",
        "--override-os",
        "linux",
        "--override-arch",
        arch,
        "copy",
        "-q",
        f"oci:{layout}:{tag}",
        f"oci:{into}:{tag}",
    )
    return into


# crun refuses a host with both cgroup versions mounted; in a mount namespace of its own it sees only one.
PLAIN_CGROUPS = ("unshare", "-m", "sh", "-c", 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"', "sh")


def crun(bundle: Path) -> str:
    """Run the bundle as umoci wrote it, without its terminal and with the host's network and cgroup."""
    path = bundle / "config.json"
    spec = json.loads(path.read_text())
    spec["process"]["terminal"] = False
    spec["linux"]["namespaces"] = [
        n for n in spec["linux"]["namespaces"] if n["type"] not in ("network", "cgroup")
    ]
    spec["linux"].pop("resources", None)
    path.write_text(json.dumps(spec))
    need("crun")
    name = f"lapstrake-{os.getpid()}-{bundle.name}"
    return tool(*PLAIN_CGROUPS, "crun", "--cgroup-manager=disabled", "run", "--bundle", bundle, name)


class Podman:
    """podman with a store of its own.  Its run directory must have a short path."""

    def __init__(self, root: Path) -> None:
        need("podman", "crun")
        self._run = tempfile.mkdtemp(prefix="pod")
        self._words = (
            "podman", "--root", root, "--runroot", self._run, "--storage-driver=vfs",
            "--cgroup-manager=cgroupfs", "--events-backend=none",
        )  # fmt: skip

    def __call__(self, *words: object) -> str:
        return tool(*PLAIN_CGROUPS, *self._words, *words)

    @property
    def command(self) -> str:
        """The shell words that call it."""
        return " ".join(map(str, (shutil.which("podman"), *self._words[1:])))

    def run(self, *words: object) -> str:
        """``podman run``, as far as a sandboxed host lets it; what it said, from its log: a container that
        is over before podman has attached to it would seem silent."""
        name = f"run-{os.urandom(4).hex()}"
        self(
            "run",
            "--name",
            name,
            "--log-driver=k8s-file",
            "--network=none",
            "--cgroups=disabled",
            "--runtime=crun",
            "--ulimit=nofile=1024:1024",
            "--ulimit=nproc=1024:1024",
            *words,
        )
        try:
            return self("logs", name)
        finally:
            self("rm", "-f", name)

    def close(self) -> None:
        """Remove its run directory."""
        shutil.rmtree(self._run, ignore_errors=True)


def listing(root: Path) -> dict[str, tuple]:
    """Every path below, with what makes it what it is."""
    found = {}
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = Path(directory, name)
            status = path.lstat()
            content = os.readlink(path) if path.is_symlink() else status.st_size if path.is_file() else 0
            found[str(path.relative_to(root))] = (status.st_mode, status.st_uid, status.st_gid, content)
    return found


# e_machine of ELF; the first bytes of the others
_MACHINES = {"linux/amd64": 0x3E, "linux/arm64": 0xB7}
_MAGIC = {"windows/amd64": b"MZ", "darwin/arm64": b"\xcf\xfa\xed\xfe\x0c\x00\x00\x01"}


def is_of_platform(binary: Path, platform: str) -> bool:
    """Whether an executable is one of the platform."""
    data = binary.read_bytes()
    if platform in _MAGIC:
        return data.startswith(_MAGIC[platform])
    return data[:4] == b"\x7fELF" and int.from_bytes(data[18:20], "little") == _MACHINES[platform]
