"""``lapstrake debug``: again inside a step that failed, exactly as it was."""

from __future__ import annotations

import os
import sys

from ..errors import BuildError
from ..values import Value
from .engine import Engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..config import Settings
    from ..sandbox.spec import Mount, ProcessSpec


class Failure(Value):
    """A kept step.  ``secrets``: where secrets were mounted, which are not kept."""

    id: str
    name: str
    time: float
    home: str
    step: dict[str, Any]

    @property
    def secrets(self) -> tuple[str, ...]:
        """Targets of the mounts that are missing."""
        return tuple(self.step.get("secrets", ()))


def failures(root: str) -> list[Failure]:
    """What is kept under ``root``, latest first."""
    import json

    found = []
    parent = f"{root}/failed"
    for name in os.listdir(parent) if os.path.isdir(parent) else ():
        try:
            with open(f"{parent}/{name}/step.json", encoding="utf-8", errors="surrogateescape") as file:
                step = json.load(file)
            found.append(Failure(name, step["name"], step["time"], f"{parent}/{name}", step))
        except (OSError, ValueError, KeyError):
            continue
    return sorted(found, key=lambda f: -f.time)


def find(root: str, ref: str) -> Failure:
    """The failure whose id starts with ``ref``, or the latest."""
    every = failures(root)
    if not every:
        raise BuildError("no failed step is kept", hint="build with --on-fail=save (or shell)")
    matching = [f for f in every if f.id.startswith(ref)]
    if not matching or (len(matching) > 1 and ref):
        known = ", ".join(f"{f.id} ({f.name})" for f in every)
        raise BuildError(
            f"{'no' if not matching else 'more than one'} kept step is called {ref!r}",
            hint=f"there are {known}",
        )
    return matching[0]


def enter(settings: Settings, failure: Failure, argv: Sequence[str], *, retry: bool = False) -> int:
    """Run ``argv``, a shell, or (``retry``) the step's own command in the kept state; its exit code.

    What is changed there stays for the next time.
    """
    from .runimage import attach

    with Engine(settings) as engine:
        worker = engine.worker(lambda _event: None)
        layers = failure.step["layers"]
        gone = [layer for layer in layers if not worker.usable(layer)]
        if gone:
            raise BuildError(
                f"the state of {failure.name} is not complete any more: its lower layers were pruned",
                hint="build again with --on-fail=save",
            )
        spec = _spec(failure, worker.dirs(layers))
        if not retry:
            from ..values import replace

            shell = _shell(worker.view(layers), failure.home)
            spec = replace(spec, args=tuple(argv) or (shell,))
        lock = engine.layers.locks.hold(f"failed-{failure.id}")
        try:
            return attach(engine, spec, interactive=True, tty=sys.stdin.isatty() and sys.stdout.isatty())
        finally:
            lock.release()


def _spec(failure: Failure, lowers: list[str]) -> ProcessSpec:
    from ..ids import ids
    from ..rootfs import Rootfs
    from ..sandbox.spec import ProcessSpec

    step = failure.step
    upper, work = f"{failure.home}/upper", f"{failure.home}/work"
    os.makedirs(work, exist_ok=True)
    rootfs = Rootfs(upper, tuple(lowers), work, ids().userxattr) if step["overlay"] else Rootfs(upper)
    process = {key: _tuples(value) for key, value in step["process"].items()}
    return ProcessSpec(rootfs=rootfs, mounts=tuple(_mounts(step["mounts"])), **process)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _mounts(kept: list[dict[str, Any]]) -> list[Mount]:
    import base64

    from ..sandbox.spec import Mount

    found = []
    for fields in kept:
        sources = [*fields["lowers"], *([fields["source"]] if fields["source"] else [])]
        if all(os.path.exists(source) for source in sources):
            data = None if fields["data"] is None else base64.b64decode(fields["data"])
            found.append(Mount(**{**fields, "lowers": tuple(fields["lowers"]), "data": data}))
    return found


def _shell(view: Any, home: str) -> str:
    from ..snapshot.view import resolve

    for candidate in ("bin/bash", "bin/sh"):
        if view.lstat(resolve(view, candidate)) is not None or os.path.lexists(f"{home}/upper/{candidate}"):
            return "/" + candidate
    return "/bin/sh"
