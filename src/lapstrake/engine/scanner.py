"""Scanner images, by BuildKit's protocol (oci.md §9.5): an image that reads file trees and writes SBOMs."""

from __future__ import annotations

import os
import stat

from ..attest.attach import Attested, scanned_statement
from ..attest.statement import MAX_STATEMENT
from ..errors import ExecError, ExportError
from ..oci.platform import host_platform
from ..sandbox.spec import Mount, ProcessSpec
from ..worker.run_exec import DEFAULT_PATH, resolv_conf
from ..worker.users import Account, lookup
from .steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..attest.statement import Subject
    from ..export.base import BuiltImage
    from .attesting import Target
    from .build import Build

CORE, EXTRAS, OUT = "/run/src/core/", "/run/src/extras/", "/run/out/"
MAX_FILES = 200
_OWN = ("generator", "format", "preset")


def scan_with_image(
    build: Build,
    attrs: dict[str, str],
    targets: Sequence[Target],
    subjects: Sequence[Subject],
    image: BuiltImage,
) -> list[Attested]:
    """Run the scanner over ``targets`` (the first is the result) and take what it wrote.  What it says of
    the result's files is supplemented with the layers of ``image`` that they came with."""
    name = attrs["generator"]
    engine, worker = build.engine, build.worker
    from .build import allowed_image

    used = allowed_image(build.request, name)
    found = engine.images.resolve(used, host_platform(), pull=build.request.pull)
    config = found.config.get("config") or {}
    if not config.get("Cmd") and not config.get("Entrypoint"):
        raise ExportError(
            f"scanner {name} does not have cmd", hint="a scanner image runs its ENTRYPOINT and CMD"
        )
    active, out = engine.new_active(), engine.new_active()
    lines: list[bytes] = []
    with Step(build.emit, f"[{name}] generating sbom using {name}") as step:
        rootfs = engine.snapshotter().prepare(worker.dirs(found.layers), active)
        spec = _spec(
            build,
            config,
            rootfs,
            found.layers,
            [*_mounts(build, targets), Mount(OUT, "bind", source=out.upper)],
            attrs,
        )

        def output(stream: int, data: bytes) -> None:
            lines.append(data)
            step.log(stream, data)

        status = engine.executor().run(spec, output, build.cancel).status
        if status:
            tail = tuple(b"".join(lines).decode("utf-8", "replace").splitlines()[-20:])
            raise ExecError(
                f"scanner {name} did not complete successfully: exit code: {status}",
                vertex=step.name,
                status=status,
                tail=tail,
            )
    layers = Layers(build, targets[0].layers, image)
    return [
        scanned_statement(raw, subjects, file, layers.of if file == "sbom.spdx.json" else None)
        for file, raw in _written(out.upper, name)
    ]


class Layers:
    """Which layer of the image a file comes with; nothing when layers were merged."""

    def __init__(self, build: Build, layers: tuple[str, ...], image: BuiltImage) -> None:
        digests = [d.digest for d in image.layers]
        own = dict(zip(layers, digests, strict=True)) if len(layers) == len(digests) else {}
        self._digests = [own[x] for x in dict.fromkeys(reversed(layers)) if own]
        self._dirs = build.worker.dirs(layers) if own else []  # topmost first, each once

    def of(self, path: str) -> str:
        """The digest of the topmost layer that has ``path``."""
        parts = path.split("/")
        if not path or ".." in parts:
            return ""
        for digest, folder in zip(self._digests, self._dirs, strict=True):
            if _holds(folder, parts):
                return digest
        return ""


def _holds(folder: str, parts: Sequence[str]) -> bool:
    """Whether a layer directory has the path, no symlink followed."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            deeper = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            os.close(fd)
            fd = deeper
        return stat.S_ISREG(os.lstat(parts[-1], dir_fd=fd).st_mode)
    except OSError:
        return False
    finally:
        os.close(fd)


def _spec(
    build: Build,
    config: dict[str, Any],
    rootfs: Any,
    layers: Sequence[str],
    mounts: list[Mount],
    attrs: dict[str, str],
) -> ProcessSpec:
    user = str(config.get("User") or "")
    account = lookup(build.worker.view(layers), user) if user else Account(0, 0, (), "/root")
    env = {e.partition("=")[0]: e.partition("=")[2] for e in config.get("Env") or []}
    env.setdefault("PATH", DEFAULT_PATH)
    env.setdefault("HOME", account.home)
    env |= {"BUILDKIT_SCAN_DESTINATION": OUT, "BUILDKIT_SCAN_SOURCE": CORE + "sbom"}
    env["BUILDKIT_SCAN_SOURCE_EXTRAS"] = EXTRAS
    env |= {f"BUILDKIT_SCAN_{k.upper().replace('-', '_')}": v for k, v in attrs.items() if k not in _OWN}
    hosts = b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    base = (
        Mount("/etc/hosts", "file", data=hosts, mode=0o644),
        Mount("/etc/resolv.conf", "file", data=resolv_conf(host=False), mode=0o644),
        Mount("/tmp", "tmpfs", mode=0o1777),
        *mounts,
    )
    return ProcessSpec(
        rootfs=rootfs, args=(*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())), env=tuple(f"{k}={v}" for k, v in env.items()),
        cwd=config.get("WorkingDir") or "/", uid=account.uid, gid=account.gid, groups=account.groups, mounts=base,
        arch=host_platform().arch,
    )  # fmt: skip


def _mounts(build: Build, targets: Sequence[Target]) -> list[Mount]:
    out = [Mount(EXTRAS, "tmpfs", mode=0o755)]
    for n, target in enumerate(targets):
        place = CORE + "sbom" if n == 0 else EXTRAS + target.name
        if target.layers:
            dirs = tuple(build.worker.dirs(target.layers))
            one = len(dirs) == 1
            out.append(
                Mount(
                    place,
                    "bind" if one else "overlay",
                    dirs[0] if one else "",
                    readonly=True,
                    lowers=() if one else dirs,
                )
            )
        else:
            out.append(Mount(place, "bind", _copied(build, target), readonly=True))
    return out


def _copied(build: Build, target: Target) -> str:
    """A tree without layers, a build context, as the ignore rules leave it."""
    from ..layer.materialize import materialize
    from ..worker.run_file import whole_tree_entries

    active = build.engine.new_active()
    if target.name != "sbom":
        materialize(whole_tree_entries(target.tree), active.upper)
    return active.upper


def _written(folder: str, name: str) -> list[tuple[str, bytes]]:
    """The documents, by file name; symlinks and anything else than files of a sane size are refused."""
    found = []
    for file in sorted(os.listdir(folder)):
        if not file.endswith(".spdx.json"):
            continue
        try:
            fd = os.open(
                os.path.join(folder, file), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            )
            with os.fdopen(fd, "rb") as f:
                found.append((file, f.read(MAX_STATEMENT + 1)))
        except OSError as e:
            raise ExportError(f"scanner {name} wrote {file}, which is not a file: {e.strerror}") from e
    if not found:
        raise ExportError(f"scanner {name} wrote no .spdx.json file into {OUT}")
    if len(found) > MAX_FILES:
        raise ExportError(f"scanner {name} wrote {len(found)} documents, at most {MAX_FILES} are taken")
    return found
