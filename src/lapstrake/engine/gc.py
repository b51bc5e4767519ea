"""What the store holds and what of it can go: ``du`` and ``prune`` (spec cli.md §4)."""

from __future__ import annotations

import os
import time

from ..values import Value
from .engine import Engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..config import Settings


class Usage(Value):
    """One row of ``du``.  Sizes in bytes on disk, times in seconds since the epoch.

    ``kind``: regular (a step's layer), source.image (a pulled layer), exec.cachemount, blob."""

    id: str
    kind: str
    description: str
    size: int
    created: float = 0.0
    last_used: float = 0.0
    count: int = 0
    in_use: bool = False
    shared: bool = False


def tree_size(path: str) -> int:
    """Bytes on disk below ``path``, hard links once, as ``du -s`` counts them."""
    total = 0
    seen: set[tuple[int, int]] = set()
    stack = [path]
    while stack:
        here = stack.pop()
        try:
            total += os.lstat(here).st_blocks * 512
            with os.scandir(here) as entries:
                for entry in entries:
                    st = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
                        continue
                    if st.st_nlink > 1:
                        if (st.st_dev, st.st_ino) in seen:
                            continue
                        seen.add((st.st_dev, st.st_ino))
                    total += st.st_blocks * 512
        except OSError:
            continue
    return total


def du(settings: Settings) -> list[Usage]:
    """Everything under the root, a row each."""
    with Engine(settings) as engine:
        return _usage(engine)


def _usage(engine: Engine) -> list[Usage]:
    rows: list[Usage] = []
    by_layer: dict[str, tuple[str, float, float, int]] = {}
    for _, value, created, used, hits in engine.index.records():
        layers = value.get("layers") or []
        if layers and value.get("op") != "SourceOp":
            by_layer[layers[-1]] = (value.get("name", ""), created, used, hits)
    held = _held_blobs(engine)
    base = os.path.join(engine.root, "layers")
    for name in sorted(os.listdir(base)) if os.path.isdir(base) else []:
        size = tree_size(os.path.join(base, name))
        known = by_layer.get(name)
        if known is not None:
            rows.append(Usage(name, "regular", known[0], size, known[1], known[2], known[3]))
        else:
            rows.append(
                Usage(
                    name,
                    "source.image" if name.startswith("p") else "regular",
                    "pulled layer" if name.startswith("p") else "",
                    size,
                )
            )
    mounts = os.path.join(engine.root, "cachemounts")
    for name in sorted(os.listdir(mounts)) if os.path.isdir(mounts) else []:
        path = os.path.join(mounts, name)
        if os.path.isdir(path):
            st = os.stat(path)
            rows.append(
                Usage(
                    name,
                    "exec.cachemount",
                    "cached mount " + _text(os.path.join(path, "id")),
                    tree_size(path),
                    st.st_ctime,
                    st.st_mtime,
                )
            )
    for digest in engine.content.digests():
        path = engine.content.path(digest)
        try:
            st = os.lstat(path)
        except OSError:
            continue
        rows.append(
            Usage(
                digest,
                "blob",
                "",
                st.st_blocks * 512,
                st.st_mtime,
                st.st_mtime,
                0,
                digest in held,
                digest in held,
            )
        )
    return rows


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read(4096)
    except OSError:
        return ""


def _held_blobs(engine: Engine) -> set[str]:
    """Blobs reachable from the tagged images of the local store."""
    import json

    held: set[str] = set()
    stack = []
    for _, raw in engine.index.items("image"):
        value = json.loads(raw)
        stack.append(value.get("descriptor", value)["digest"])
    while stack:
        digest = stack.pop()
        if digest in held or not engine.content.has(digest):
            continue
        held.add(digest)
        if engine.content.size(digest) > 4 << 20:
            continue
        try:
            doc = json.loads(engine.content.read(digest))
        except (ValueError, UnicodeDecodeError):
            continue
        if isinstance(doc, dict):
            children = [*(doc.get("manifests") or []), *(doc.get("layers") or []), doc.get("config")]
            stack += [
                c["digest"] for c in children if isinstance(c, dict) and isinstance(c.get("digest"), str)
            ]
    return held


def prune(
    settings: Settings, *, everything: bool = False, until: float = 0.0, keep_bytes: int = 0
) -> list[Usage]:
    """Remove what no image needs, least recently used first; gives what was removed.

    ``everything`` also removes cache mounts and pulled layers; ``until``: seconds since last use;
    ``keep_bytes``: stop when no more than this is left."""
    removed: list[Usage] = []
    with Engine(settings) as engine:
        rows = _usage(engine)
        total = sum(r.size for r in rows)
        cutoff = time.time() - until if until else None
        for row in sorted(rows, key=lambda r: r.last_used):
            if keep_bytes and total <= keep_bytes:
                break
            if row.in_use or (cutoff is not None and row.last_used > cutoff):
                continue
            if not everything and row.kind in ("exec.cachemount", "source.image", "blob") and not keep_bytes:
                continue
            if _remove(engine, row):
                total -= row.size
                removed.append(row)
        engine.layers.sweep()
    return removed


def _remove(engine: Engine, row: Usage) -> bool:
    if row.kind == "blob":
        engine.content.delete(row.id)
        return True
    if row.kind == "exec.cachemount":
        from ..worker.run_exec import _FileLock

        path = os.path.join(engine.root, "cachemounts", row.id)
        lock = _FileLock(path + ".lock", wait=False)
        if not lock.held:
            return False
        with lock:
            trash = os.path.join(engine.root, "trash")
            os.makedirs(trash, mode=0o700, exist_ok=True)
            os.rename(path, os.path.join(trash, os.urandom(12).hex()))
        return True
    engine.layers.remove(row.id)
    return True
