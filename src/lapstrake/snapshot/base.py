"""How a step gets a writable root over its layers, and how its changes come out again."""

from __future__ import annotations

import os

from ..ids import ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from ..rootfs import Rootfs
else:
    Protocol = object


class Scratch(Protocol):
    """Two empty directories on the store's file system (``store.layers.Active``)."""

    upper: str
    work: str
    path: str


class Snapshotter(Protocol):
    """Prepares roots.  Thread-safe."""

    name: str
    userxattr: bool

    def prepare(self, layer_dirs: Sequence[str], active: Scratch) -> Rootfs:
        """A root showing ``layer_dirs`` (topmost first), its changes kept in ``active``."""

    def finish(self, active: Scratch, rootfs: Rootfs) -> str:
        """The changes as a directory in overlayfs' upper format, ready to be committed."""


_ANSWERS = ("overlay", "overlay-userxattr", "copying")


def choose(root: str, wanted: str = "auto") -> Snapshotter:
    """The snapshotter for a store: overlay where the kernel lets us, else copying.

    Overlay is tried once, in a process of its own; the answer is kept in ``root``.
    """
    from .copying import CopyingSnapshotter
    from .overlay import OverlaySnapshotter

    if wanted == "copying":
        return CopyingSnapshotter(userxattr=ids().userxattr)
    found = _remembered(root) or _remember(root, _probe(root))
    if found == "copying":
        if wanted == "overlay":
            from ..errors import SandboxError

            raise SandboxError(
                "overlayfs cannot be mounted here",
                hint="needs Linux 5.11 and a file system with user.* attributes; or use the copying snapshotter",
            )
        return CopyingSnapshotter(userxattr=ids().userxattr)
    return OverlaySnapshotter(userxattr=found == "overlay-userxattr")


def _state(root: str) -> tuple[str, str]:
    who = os.uname()
    return f"{root}/snapshotter", f"{who.release} {os.geteuid()} {int(ids().userxattr)}{int(ids().root)}"


def _remembered(root: str) -> str | None:
    path, key = _state(root)
    try:
        with open(path, encoding="utf-8") as f:
            known, _, found = f.read(200).strip().rpartition(" ")
    except OSError:
        return None
    return found if known == key and found in _ANSWERS else None


def _remember(root: str, found: str) -> str:
    path, key = _state(root)
    try:
        os.makedirs(root, exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:  # one small write; a torn one is asked again
            f.write(f"{key} {found}\n")
    except OSError:
        pass  # asked again next time
    return found


def _probe(root: str) -> str:
    import subprocess
    import sys

    os.makedirs(root, exist_ok=True)
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", _probe_script(), root, *(["userxattr"] if ids().userxattr else [])],
            capture_output=True,
            timeout=30,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "copying"
    answer = done.stdout.decode("ascii", "replace").strip()
    return answer if answer in _ANSWERS else "copying"


def _probe_script() -> str:
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "probe.py")
