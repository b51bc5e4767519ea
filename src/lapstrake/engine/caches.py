"""``--cache-from``, ``--cache-to`` and inline caches of one run, put together from its requests."""

from __future__ import annotations

from ..remotecache.options import check, form_of
from .remote import RemoteCache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ..events import EventSink
    from ..plan.lower import Plan
    from ..plan.request import BuildRequest, CacheSpec
    from ..solver.ports import Record
    from .build import Build
    from .cache import LocalCache
    from .engine import Engine
    from .pack import Packer, PackForm
    from .save import Saver


def check_caches(request: BuildRequest) -> None:
    """Refuse cache options that can't work, before anything is built.  Raises UsageError."""
    for spec in request.cache_from:
        check(spec, export=False)
    for spec in request.cache_to:
        check(spec, export=True)


def open_caches(builds: Sequence[Build], engine: Engine, local: LocalCache, emit: EventSink) -> RemoteCache:
    """The store's cache with every cache to read behind it, each once, in the order given."""
    from ..remotecache.open import open_source

    specs: dict[CacheSpec, tuple[Any, ...]] = {}
    for build in builds:
        for spec in build.request.cache_from:
            specs[spec] = tuple(dict.fromkeys((*specs.get(spec, ()), *build.platforms)))
    sources = [open_source(s, engine.client, engine.settings.environ, p) for s, p in specs.items()]
    import json

    for source in sources:  # with the credentials they were given, which no record holds
        engine.caches.setdefault(json.dumps(source.origin(), sort_keys=True), source)
    return RemoteCache(local, sources, engine.index, emit)


def open_saver(
    builds: Sequence[Build], engine: Engine, packers: dict[PackForm, Packer], emit: EventSink
) -> Saver | None:
    """Every cache to write, each once, with the steps that go into it; None when there is none."""
    wanted: dict[CacheSpec, set[str]] = {}
    for build in builds:
        for spec in build.request.cache_to:
            if spec.type != "inline":
                wanted.setdefault(spec, set()).update(_steps(build, form_of(spec).mode))
    if not wanted:
        return None
    from ..remotecache.open import open_sink
    from .pack import Packer, PackForm
    from .save import Saver, Target

    worker = builds[0].worker
    targets = []
    for spec, steps in wanted.items():
        form = form_of(spec)
        key = PackForm(form.compression, form.level, form.force_compression, None, form.oci)
        packer = packers.setdefault(key, Packer(worker, key))
        sink = open_sink(spec, engine.client, engine.settings.environ)
        targets.append(Target(spec.type, sink, form, packer, steps))
    return Saver(targets, worker, emit)


def _steps(build: Build, mode: str) -> set[str]:
    if mode == "max":
        from ..graph.vertex import walk

        return {v.digest for v in walk(build.targets())}
    return {v.digest for p in build.plans for v in p.layer_vertices}


# -- inline ------------------------------------------------------------------------------------------


def wants_inline(request: BuildRequest) -> bool:
    """Whether the image itself is to say which steps it holds."""
    arg = dict(request.build_args).get("BUILDKIT_INLINE_CACHE", "").lower()
    return arg in ("1", "t", "true") or any(s.type == "inline" for s in request.cache_to)


def inline_value(
    plan: Plan, layers: Sequence[str], digests: Sequence[str], kept: Mapping[str, Record],
    keys: Mapping[str, tuple[str, ...]],
) -> str:  # fmt: skip
    """The value of the image config's cache key.  ``layers``, ``digests``: of the result, lowest first."""
    from ..remotecache.inline import inline_config
    from ..remotecache.record import RemoteRecord
    from .remote import platform_of

    place = {layer: i for i, layer in enumerate(layers)}
    records = []
    for v in plan.layer_vertices:
        record = kept.get(v.digest)
        if record is None or not all(x in place for x in record.layers):
            continue
        told = RemoteRecord(
            keys[v.digest],
            record.identity,
            type(v.op).__name__,
            (),
            platform_of(v),
            v.name[:1000],
            record.created,
        )
        records.append((told, [place[x] for x in record.layers]))
    return inline_config(digests, records)
