"""Image states to images: the config finished, its history fitted to the layers."""

from __future__ import annotations

from ..events import rfc3339

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..export.base import BuiltImage
    from ..export.options import FormOptions
    from ..plan.lower import Plan
    from .pack import Blob


def finish_config(plan: Plan, diff_ids: list[str], times: list[float], epoch: int | None) -> dict[str, Any]:
    """The complete image config: diffIDs, history times, ``created`` (spec dockerfile.md §15)."""
    config = dict(plan.image.config)
    config["config"] = {k: v for k, v in plan.image.c.items() if v not in (None, [], {}, "")}
    if plan.image.c.get("Cmd") == []:
        config["config"]["Cmd"] = []
    config["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    history = []
    own = [
        h
        for h in config.get("history", [])
        if h.get("comment") == "buildkit.dockerfile.v0" and "created" not in h
    ]
    pending = list(times)
    current = pending[0] if pending else float(epoch or 0)
    based = "" if pending or epoch is not None else _last_time(config.get("history", []))
    for entry in config.get("history", []):
        if not any(entry is o for o in own):
            history.append(entry)
            continue
        if not entry.get("empty_layer") and pending:
            current = pending.pop(0)
        stamp = min(current, epoch) if epoch is not None else current
        history.append({"created": based or rfc3339(stamp), **entry})
    config["history"] = history
    created = (
        rfc3339(epoch)
        if epoch is not None
        else next((h["created"] for h in reversed(history) if h.get("created")), None)
    )
    if created:
        config["created"] = created
    return config


def _last_time(history: Sequence[dict[str, Any]]) -> str:
    """When the base was made: an image with nothing but metadata added is as old as its base."""
    return next((str(h["created"]) for h in reversed(history) if h.get("created")), "")


def merged_history(history: Sequence[dict[str, Any]], sizes: Sequence[int]) -> list[dict[str, Any]]:
    """The history of an image some of whose layers became one: the last entry of each keeps the layer.

    ``sizes``: how many layers went into each.  Matched from the end, where history is our own.
    """
    out = [dict(h) for h in history]
    left = [n for n, h in enumerate(out) if not h.get("empty_layer")]
    for size in reversed(sizes):
        for n in left[-size:-1] if size > 1 else ():
            out[n]["empty_layer"] = True
        del left[-size:]
    return out


def assemble(
    plan: Plan, blobs: Sequence[Blob], sizes: Sequence[int], times: list[float], form: FormOptions
) -> BuiltImage:
    """One platform's image.  ``sizes``: how many steps' layers each blob holds; ``times``: of the steps."""
    from ..export.join import assemble_image
    from ..values import replace

    config = finish_config(plan, [b.diff_id for b in blobs], times, form.epoch)
    if any(size > 1 for size in sizes):
        config["history"] = merged_history(config["history"], sizes)
    wanted = (str(plan.platform), plan.platform.full)
    notes = [a for a in form.annotations if not a.platform or a.platform in wanted]
    image = assemble_image(
        config, [b.descriptor for b in blobs], oci=form.oci, keep_nondist=form.prefer_nondist,
        annotations=[(a.key, a.value) for a in notes if a.level == "manifest"],
        descriptor_annotations=[(a.key, a.value) for a in notes if a.level == "manifest-descriptor"],
    )  # fmt: skip
    lazy = tuple((b.descriptor.digest, b.source) for b in blobs if b.source)
    return replace(image, lazy_sources=lazy)
