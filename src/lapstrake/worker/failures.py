"""A failed RUN: what is said about it, and how its state is kept for ``lapstrake debug``.

``failed/<id>/`` holds the step's root as it was (``upper``, ``work``) and ``step.json``.  Secrets
are never in it: neither secret mounts, nor agents' sockets, nor variables that came from secrets.
"""

from __future__ import annotations

import os

from ..errors import ExecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..graph.ops import ExecOp
    from ..graph.vertex import Vertex
    from ..sandbox.spec import ExitInfo, ProcessSpec
    from ..solver.ports import Record
    from .local import LocalWorker

KEPT = 5  # failures in one store
VERSION = 1


def failure(
    op: ExecOp, vertex: Vertex, info: ExitInfo, *, tail: tuple[str, ...], host_oom: bool
) -> ExecError:
    """The error for a step that ended with another status than 0."""
    shown = " ".join(op.args)
    hint = None
    message = f'process "{shown}" did not complete successfully: exit code: {info.status}'
    if info.oom:
        limit = dict(op.resources).get("memory", "")
        of = f" of {size(int(limit))}" if limit.isdigit() else ""
        message += f": ran out of memory: peak {size(info.peak_rss)}{of}"
        hint = "raise --resource memory=…"
    elif info.timed_out:
        message = f'process "{shown}" was stopped: it took longer than the {seconds(info.wall)} it was given'
        hint = "raise --timeout"
    elif host_oom and info.status == 137:
        message += ": the machine ran out of memory"
        hint = "fewer steps at once (--jobs), or a limit that fails early (--resource memory=…)"
    return ExecError(message, vertex=vertex.name, status=info.status, tail=tail, span=vertex.span, hint=hint)


def size(count: int) -> str:
    """A number of bytes for people."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.1f} {unit}"


def seconds(value: float) -> str:
    """A time for people."""
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.0f} min"


def killed_by_memory() -> int:
    """How many processes this machine has lost for want of memory."""
    try:
        with open("/proc/vmstat", encoding="ascii") as file:
            for line in file:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def save(worker: LocalWorker, vertex: Vertex, spec: ProcessSpec, record: Record, active_path: str) -> str:
    """Keep a failed step; its id.  ``spec`` is free of secrets; the scratch directory moves away."""
    import base64
    import json

    from ..whole import write_whole

    parent = f"{worker.p.root}/failed"
    os.makedirs(parent, mode=0o700, exist_ok=True)
    ident = os.urandom(4).hex()
    home = f"{parent}/{ident}"
    mounts = []
    for mount in spec.mounts:
        if not mount.secret:
            fields = {name: getattr(mount, name) for name in mount.__fields__}
            fields["data"] = None if mount.data is None else base64.b64encode(mount.data).decode()
            mounts.append(fields)
    plain = ("args", "env", "cwd", "uid", "gid", "groups", "hostname", "network", "insecure", "arch", "ulimits", "shm_size", "devices")  # fmt: skip
    step: dict[str, Any] = {
        "version": VERSION, "name": vertex.name, "time": worker.p.clock(), "layers": list(record.layers),
        "overlay": bool(spec.rootfs.lowers), "mounts": mounts, "process": {name: getattr(spec, name) for name in plain},
        "secrets": [m.target for m in spec.mounts if m.secret],
    }  # fmt: skip
    os.rename(active_path, home)
    write_whole(f"{home}/step.json", json.dumps(step).encode())
    _forget_old(worker, parent)
    return ident


def _forget_old(worker: LocalWorker, parent: str) -> None:
    def age(name: str) -> float:
        try:
            return os.stat(f"{parent}/{name}").st_mtime
        except OSError:
            return 0.0

    for name in sorted(os.listdir(parent), key=age, reverse=True)[KEPT:]:
        worker.p.layers.discard(f"{parent}/{name}")
