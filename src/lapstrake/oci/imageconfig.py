"""A base image's config, checked before anything relies on its form (image-spec, config.md)."""

from __future__ import annotations

from ..errors import ResolveError
from .digest import is_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_CONFIG = 16 << 20
_LISTS = ("Env", "Entrypoint", "Cmd", "OnBuild", "Shell")
_TEXTS = ("User", "WorkingDir", "StopSignal")
_MAPS = ("ExposedPorts", "Volumes", "Labels", "Healthcheck")
_TOP = ("architecture", "os", "variant", "os.version", "created", "author")


def parse(raw: bytes, what: str) -> dict[str, Any]:
    """The config in ``raw``.  Members that are missing or null are fine, those of another type are not.

    Raises ResolveError, which names ``what``."""
    import json

    if len(raw) > MAX_CONFIG:
        raise ResolveError(f"{what}: an image config of {len(raw)} bytes is refused")
    try:
        doc = json.loads(raw)
    except (ValueError, RecursionError) as e:
        raise ResolveError(f"{what}: image config can't be read: {e}") from e
    wrong = _wrong(doc)
    if wrong:
        raise ResolveError(f"{what}: image config can't be read: {wrong} is of the wrong type")
    return doc  # type: ignore[no-any-return]


def _wrong(doc: object) -> str:
    """The first member of the wrong type, or nothing."""
    if not isinstance(doc, dict):
        return "the document"
    rootfs, config = doc.get("rootfs"), doc.get("config")
    if not isinstance(rootfs, dict):
        return "rootfs"
    if not _texts(rootfs.get("diff_ids")) or not all(map(is_digest, rootfs.get("diff_ids") or ())):
        return "rootfs.diff_ids"
    if config is not None and not isinstance(config, dict):
        return "config"
    history = doc.get("history")
    if history is not None and not (isinstance(history, list) and all(isinstance(h, dict) for h in history)):
        return "history"
    for name in _TOP:
        if not isinstance(doc.get(name), (str, type(None))):
            return name
    return _wrong_member(config or {})


def _wrong_member(config: dict[str, Any]) -> str:
    for name in _LISTS:
        if not _texts(config.get(name)):
            return f"config.{name}"
    for name in _TEXTS:
        if not isinstance(config.get(name), (str, type(None))):
            return f"config.{name}"
    for name in _MAPS:
        if not isinstance(config.get(name), (dict, type(None))):
            return f"config.{name}"
    if not all(isinstance(v, str) for v in (config.get("Labels") or {}).values()):
        return "config.Labels"
    return ""


def _texts(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(v, str) for v in value))
