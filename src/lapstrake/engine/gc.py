"""Giving disk space back: ``du``, ``prune`` and automatic collection (spec cli.md §4).

Safe beside any number of builds: what they use is leased, images of the local store are never touched,
and everything removed is renamed away first and deleted later.
"""

from __future__ import annotations

import os
import time

from ..store.remove import remove_file
from ..values import Value, replace
from .usage import BLOB, LAYER, MOUNT, SIZES, STAT, TREE, Part, Survey, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..config import Settings
    from ..store.content import ContentStore
    from ..store.index import Index
    from ..store.layers import LayerStore

_BATCH = 100  # how many are renamed away while no build can look for anything


class Sizes(Value):
    """How far to go, in bytes; 0: no such rule."""

    reserved: int = 0  # never go below
    max_used: int = 0  # go down to
    min_free: int = 0  # of the file system: go until so much is free


class Policy(Value):
    """What may go and how far.  ``keep_duration`` in seconds since the last use.

    Without a size rule everything that ``wanted`` accepts goes.  ``everything`` also takes what an image
    of the local store shares, and metadata; never the image itself."""

    everything: bool = False
    keep_duration: float = 0.0
    sizes: Sizes = Sizes()
    wanted: Callable[[Usage], bool] | None = None


class Stores:
    """A store opened to be looked at and collected, leasing nothing."""

    def __init__(self, root: str) -> None:
        from ..store.content import ContentStore
        from ..store.index import Index
        from ..store.layers import LayerStore

        self.root = root
        self.content: ContentStore = ContentStore(root)
        self.index: Index = Index(root)
        self.layers: LayerStore = LayerStore(root, self.content, self.index)

    def __enter__(self) -> Stores:
        return self

    def __exit__(self, *exc: object) -> None:
        self.index.close()

    def survey(self) -> Survey:
        """A look at it."""
        return Survey(self.root, self.content, self.index)


def du(settings: Settings) -> list[Usage]:
    """Everything under the root, a row each; they add up to what the disk says."""
    with Stores(settings.root) as stores:
        return stores.survey().rows()


def prune(settings: Settings, policy: Policy, *, dry_run: bool = False) -> list[Usage]:
    """Remove what ``policy`` says, least recently used first; what was (or would be) removed."""
    with Stores(settings.root) as stores:
        gone = collect(stores, [policy], dry_run=dry_run)
        if not dry_run and os.path.isdir(settings.root):
            from .tidy import sweep_leases, sweep_probes

            remove_file(f"{settings.root}/index.db.corrupt")
            stores.content.sweep()
            stores.layers.sweep()
            stores.layers.locks.sweep()
            sweep_leases(settings.root)
            sweep_probes(settings.root)
        return gone


def collect(stores: Stores, policies: Iterable[Policy], *, dry_run: bool = False) -> list[Usage]:
    """Apply policies one after another."""
    gone: list[Usage] = []
    for policy in policies:
        survey = stores.survey()
        rows = survey.rows()
        victims = choose(rows, policy, sum(r.size for r in rows), _free(stores.root), time.time())
        gone += victims if dry_run else _remove(stores, survey, victims)
    if gone and not dry_run:
        _forget_unusable(stores)
    return gone


def choose(rows: list[Usage], policy: Policy, total: int, free: int, now: float) -> list[Usage]:
    """What goes, in order: the least recently used first, of those the ones made later first."""
    keep = target_size(policy.sizes, total, free)
    if keep is not None and total <= keep:
        return []
    out = []
    for row in sorted(rows, key=lambda r: (r.last_used, r.count, -r.depth, r.id)):
        if keep is not None and total <= keep:
            break
        if not row.reclaimable or (policy.wanted is not None and not policy.wanted(row)):
            continue
        if not policy.everything and (row.shared or row.type == "internal") and row.id != "trash":
            continue
        if policy.keep_duration and (not row.last_used or row.last_used > now - policy.keep_duration):
            continue
        total -= row.size
        out.append(row)
    return out


def target_size(rule: Sizes, total: int, free: int) -> int | None:
    """How much may stay; None: no size rule."""
    if not (rule.reserved or rule.max_used or rule.min_free):
        return None
    keep = rule.max_used or (total if rule.min_free else 0)
    if rule.min_free > free:
        keep = min(keep, total - (rule.min_free - free))
    return max(keep, rule.reserved)


def _free(root: str) -> int:
    try:
        found = os.statvfs(root)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


# -- removing ------------------------------------------------------------------------------


def _remove(stores: Stores, survey: Survey, victims: list[Usage]) -> list[Usage]:
    from ..store.lease import Closed

    gone: list[Usage] = []
    for at in range(0, len(victims), _BATCH):
        with Closed(stores.root) as closed:
            held = survey.held()  # again: an image may have been named since the survey
            for row in victims[at : at + _BATCH]:
                parts = [p for p in row.parts if _remove_part(stores, p, closed.names, held, row)]
                if parts:
                    gone.append(replace(row, parts=tuple(parts)))
    return gone


def _remove_part(
    stores: Stores, part: Part, leased: frozenset[str], held: dict[str, str], row: Usage
) -> bool:
    if part.kind == MOUNT:
        from ..store import cachemounts

        return cachemounts.remove(stores.root, stores.layers.locks, part.name)
    if part.kind == STAT:
        stores.index.delete("stat", part.name)
        return True
    if part.kind == TREE:
        return True  # the sweep that follows deletes the trash
    if part.name in leased or row.id in leased:
        return False
    if part.kind == BLOB:
        if part.name in held:
            return False
        stores.content.delete(part.name)
        return True
    if part.kind == LAYER:
        stores.layers.remove_dir(part.name)
        stores.index.delete(SIZES, part.name)
        return True
    return False


def _forget_unusable(stores: Stores) -> None:
    """Drop what is known of layers that are gone, and records of steps whose layers can't be had."""
    have: dict[str, bool] = {}

    def usable(layer: str) -> bool:
        if layer not in have:
            info = stores.layers.info(layer)
            have[layer] = (
                stores.layers.has_dir(layer)
                or (info is not None and any(stores.content.has(b.digest) for b in info.blobs))
                or stores.index.get("pull", layer) is not None
            )
        return have[layer]

    for ident, value, _, _, _ in stores.index.records():
        if not all(usable(str(x)) for x in value.get("layers") or ()):
            stores.index.delete_record(ident)
    for info in stores.layers.infos():
        if not usable(info.id):
            stores.layers.forget(info.id)
