"""The configuration's gc settings (buildkitd.toml's, spec cli.md §4), and collecting after a build.

``[worker.oci]`` (or ``containerd``): ``gc``, ``reservedSpace``, ``maxUsedSpace``, ``minFreeSpace`` and
``[[worker.oci.gcpolicy]]`` with ``filters``, ``keepDuration``, ``all`` and the same sizes.  Ours is
``[store] max-size``: a hard cap, kept before anything is written.
"""

from __future__ import annotations

import os

from ..errors import UsageError
from ..optspec import duration
from .gcfilter import any_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .gc import Policy, Sizes

_OLD = {"gckeepstorage": "reservedSpace", "keepBytes": "reservedSpace"}
DEFAULT_FREE = "5%"  # without any setting, so much of the file system is left to others


def disk_size(value: object, root: str, key: str) -> int:
    """Bytes from a number, ``512MB`` or ``10%`` of the file system."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    text = str(value).strip()
    if text.endswith("%"):
        try:
            share = float(text[:-1])
        except ValueError:
            share = -1
        if not 0 <= share <= 100:
            raise UsageError(f"invalid size for {key}: {text}", hint="write bytes, 512MB or 10%")
        found = os.statvfs(_existing(root))
        return int(found.f_blocks * found.f_frsize * share / 100)
    from ..optspec import size

    return size(text, key)


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path) or "/"
    return path


def max_size(config: Mapping[str, object], root: str) -> int:
    """The hard cap in bytes; 0: none."""
    table = config.get("store")
    value = table.get("max-size") if isinstance(table, dict) else None
    return disk_size(value, root, "store.max-size") if value is not None else 0


def policies(config: Mapping[str, object], root: str) -> list[Policy]:
    """What is collected after a build; [] when that is off."""
    from .gc import Policy, Sizes

    worker = config.get("worker")
    tables = worker if isinstance(worker, dict) else {}
    table: dict[str, Any] = next(
        (t for t in (tables.get("oci"), tables.get("containerd"), tables) if isinstance(t, dict)), {}
    )
    if table.get("gc") is False:
        return []
    given = table.get("gcpolicy")
    if isinstance(given, list) and given:
        return [_policy(p, root) for p in given if isinstance(p, dict)]
    sizes = _sizes(table, root)
    if sizes == Sizes():
        return [Policy(everything=True, sizes=Sizes(min_free=disk_size(DEFAULT_FREE, root, "minFreeSpace")))]
    easy = any_of(("type==source.local", "type==exec.cachemount", "type==source.git.checkout"))
    old = Policy(keep_duration=duration("48h"), wanted=easy, sizes=sizes)
    return [old, Policy(sizes=sizes), Policy(everything=True, sizes=sizes)]


def _policy(table: dict[str, Any], root: str) -> Policy:
    from .gc import Policy

    filters = table.get("filters") or []
    if not isinstance(filters, list):
        raise UsageError("worker.gcpolicy.filters must be a list")
    keep = table.get("keepDuration", 0)
    return Policy(
        everything=bool(table.get("all")), wanted=any_of(str(f) for f in filters),
        keep_duration=float(keep) if isinstance(keep, (int, float)) else duration(str(keep)),
        sizes=_sizes(table, root),
    )  # fmt: skip


def _sizes(table: dict[str, Any], root: str) -> Sizes:
    from .gc import Sizes

    known = {_OLD.get(k, k): v for k, v in table.items()}

    def one(key: str) -> int:
        return disk_size(known[key], root, key) if key in known else 0

    return Sizes(one("reservedSpace"), one("maxUsedSpace"), one("minFreeSpace"))


def after_build(config: Mapping[str, object], root: str) -> int:
    """Collect as configured, once something was written; bytes given back."""
    from .gc import Stores, collect

    rules = policies(config, root)
    if not rules or not _needed(rules, root):
        return 0
    with Stores(root) as stores:
        return sum(r.size for r in collect(stores, rules))


def _needed(rules: list[Policy], root: str) -> bool:
    """Whether looking at the store can lead to anything: a rule about free space alone costs a statvfs."""
    if any(p.sizes.max_used or p.sizes.reserved or not p.sizes.min_free for p in rules):
        return True
    found = os.statvfs(root)
    return any(p.sizes.min_free > found.f_bavail * found.f_frsize for p in rules)
