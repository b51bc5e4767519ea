"""From ``--cache-to`` and ``--cache-from`` records to backends."""

from __future__ import annotations

from ..errors import CacheError
from ..plan.request import CacheSpec
from .base import CacheForm
from .options import flag, form_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from ..oci.platform import Platform
    from ..registry.client import Client
    from .base import Sink, Source
    from .registry import RegistryCache

    Clients = Callable[[str, bool], Client]  # (registry host, insecure) -> client


def open_source(
    spec: CacheSpec, clients: Clients, environ: Mapping[str, str], platforms: tuple[Platform, ...] = ()
) -> Source:
    """A cache to read; nothing is asked of it yet."""
    if spec.type == "registry":
        return _registry(spec, clients, CacheForm(), platforms)
    if spec.type == "local":
        from .local import LocalCache

        return LocalCache(spec.get("src"), CacheForm(), tag=spec.get("tag"), digest=spec.get("digest"))
    if spec.type == "s3":
        from .s3 import S3Cache, place_of

        return S3Cache(place_of(spec, environ))
    raise CacheError(f"cache type {spec.type} can't be read")


def open_sink(spec: CacheSpec, clients: Clients, environ: Mapping[str, str]) -> Sink:
    """A cache to write; nothing is asked of it yet."""
    if spec.type == "registry":
        return _registry(spec, clients, form_of(spec), ())
    if spec.type == "local":
        from .local import LocalCache

        return LocalCache(
            spec.get("dest"), form_of(spec), tag=spec.get("tag"), reset=flag(spec, "reset", False)
        )
    if spec.type == "s3":
        from .s3 import S3Cache, place_of

        return S3Cache(place_of(spec, environ))
    raise CacheError(f"cache type {spec.type} can't be written")


def reopen(origin: dict[str, Any], clients: Clients, environ: Mapping[str, str]) -> Source:
    """The cache an earlier build found a layer in."""
    attrs = {str(k): str(v) for k, v in origin.items() if k not in ("type", "insecure")}
    if origin.get("insecure"):
        attrs["registry.insecure"] = "true"
    return open_source(CacheSpec(str(origin.get("type")), tuple(attrs.items())), clients, environ)


def _registry(
    spec: CacheSpec, clients: Clients, form: CacheForm, platforms: tuple[Platform, ...]
) -> RegistryCache:
    from ..oci import reference
    from .registry import RegistryCache

    ref, insecure = spec.get("ref"), flag(spec, "registry.insecure", False)
    host = reference.parse(ref).registry
    return RegistryCache(ref, lambda: clients(host, insecure), form, insecure=insecure, platforms=platforms)
