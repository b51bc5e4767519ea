"""How big the final image is against the stages that were left out of it."""

from __future__ import annotations

from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..plan.lower import Plan
    from ..solver.ports import Record
    from ..worker.local import LocalWorker

NAMESPACE = "layersize"


class ImageSizes(Value):
    """Bytes of files, unpacked.  ``stages``: in layers that only build stages have; ``exact`` False: some
    layer was never unpacked here and counts with its compressed size."""

    image: int
    stages: int
    platforms: tuple[str, ...] = ()
    exact: bool = True


def image_sizes(plans: Sequence[Plan], records: dict[str, Record], worker: LocalWorker) -> ImageSizes | None:
    """The figures of a build with several stages; None for one stage, where there is nothing to compare."""
    from ..graph.vertex import walk

    final: set[str] = set()
    every: set[str] = set()
    for plan in plans:
        if plan.target is None:
            continue
        own = records.get(plan.target.digest)
        final.update(own.layers if own is not None else ())
        for v in walk([plan.target]):
            record = records.get(v.digest)
            if record is not None:
                every.update(record.layers)
    if not every - final:
        return None
    image, exact_image = _sum(final, worker)
    rest, exact_rest = _sum(every - final, worker)
    names = tuple(str(plan.platform) for plan in plans)
    return ImageSizes(image, rest, names, exact_image and exact_rest)


def _sum(layers: Iterable[str], worker: LocalWorker) -> tuple[int, bool]:
    total, exact = 0, True
    for layer in layers:
        size = worker.sizes.get(layer)
        if size is None:
            size = _stored(layer, worker)
        if size is None:
            exact = False
            source = worker.p.images.pull_info(layer)
            size = int(source["size"]) if source is not None else 0
        total += size
    return total, exact


def _stored(layer: str, worker: LocalWorker) -> int | None:
    """The size of an unpacked layer, counted once and remembered."""
    index = worker.p.layers.index
    raw = index.get(NAMESPACE, layer)
    if raw is not None:
        return int(raw)
    if not worker.p.layers.has_dir(layer):
        return None
    from ..store.measure import tree_bytes

    size = tree_bytes(worker.p.layers.dir(layer))
    index.put(NAMESPACE, layer, b"%d" % size)
    return size
