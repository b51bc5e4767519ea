"""``RUN --mount=type=cache``: which directory a step gets, alone or together with others."""

from __future__ import annotations

import os

from ..errors import BuildError
from ..graph.ops import ExecMount, ExecOp
from ..ids import ids
from ..sandbox.spec import Mount
from ..solver.ports import Record
from ..store import cachemounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from ..sandbox.spec import Cancel
    from .local import LocalWorker

    class Releasable(Protocol):
        """A lock, or a mount in use."""

        def release(self) -> None: ...


def _name(m: ExecMount, inputs: tuple[Record, ...]) -> str:
    seed = f"|{inputs[m.input].identity}|{m.selector}" if m.input > 0 else ""
    return cachemounts.mount_name(m.id, seed)


def lock_mounts(
    worker: LocalWorker, op: ExecOp, inputs: tuple[Record, ...], held: list[Releasable], cancel: Cancel
) -> None:
    """Take the exclusive locks of a step's ``locked`` mounts into ``held``.

    In one order whatever the Dockerfile's, so that two steps never wait for each other."""
    names = sorted({_name(m, inputs) for m in op.mounts if m.kind == "cache" and m.sharing == "locked"})
    for name in names:
        lock = worker.p.layers.locks.hold(cachemounts.lock_key(name), cancel)
        held.append(lock)  # at once: a later one may be cancelled


def cache_mount(
    worker: LocalWorker,
    m: ExecMount,
    inputs: tuple[Record, ...],
    owner: tuple[int, int],
    held: list[Releasable],
) -> Mount:
    """Take one cache mount; it is given back with ``held``.  ``owner``: the step's user."""
    given = worker.p.cache_dirs.get(m.id)
    if given is not None:
        return Mount(m.target, "bind", source=_host_directory(given), readonly=m.readonly)

    def make(path: str) -> dict[str, object]:
        if m.input > 0 and inputs[m.input].layers:
            _seed(worker, m, inputs[m.input], path)
        if m.input <= 0 or m.mode is not None:
            os.chmod(path, m.mode if m.mode is not None else 0o755)
        if ids().chown and (m.input <= 0 or m.uid >= 0 or m.gid >= 0):  # else all is the one user's
            os.chown(path, m.uid if m.uid >= 0 else owner[0], m.gid if m.gid >= 0 else owner[1])
        return {"id": m.id, "target": m.target}

    layers = worker.p.layers
    try:
        mount = cachemounts.hold(worker.p.root, layers.locks, _name(m, inputs), m.sharing, make)
    except OSError as e:
        from ..store.failures import cannot_write

        raise cannot_write(worker.p.root, e) from e
    held.append(mount)
    return Mount(m.target, "bind", source=mount.data, readonly=m.readonly)


def complete(held: list[Releasable]) -> None:
    """The step was not interrupted: its private mounts keep what it wrote."""
    for each in held:
        if isinstance(each, cachemounts.Held):
            each.complete = True


def _seed(worker: LocalWorker, m: ExecMount, record: Record, path: str) -> None:
    from ..layer.materialize import materialize
    from .run_file import subtree_entries

    materialize(subtree_entries(worker.view(record.layers), m.selector), path)


def _host_directory(path: str) -> str:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as e:
        raise BuildError(f"--cache-mount: cannot use {path}: {e.strerror}") from e
    return os.path.realpath(path)
