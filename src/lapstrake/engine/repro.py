"""``build --check-repro``: build twice, the second time with nothing to lean on, and compare."""

from __future__ import annotations

import os
import shutil
import time

from ..errors import UsageError
from ..export.layout import LayoutBlobs, read_index
from ..oci.manifest import parse_descriptor
from ..plan.request import IMAGE_OUTPUTS, OutputSpec
from ..store.locks import KeyLocks
from ..values import Value, replace
from .build import run_build
from .compare import compare_images, pictures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..config import Settings
    from ..events import EventSink
    from ..layer.compare import Difference
    from ..plan.request import BuildRequest
    from ..solver.cancel import CancelToken
    from .build import BuildResult

_PLACES = ("name", "push", "push-by-digest", "tar", "context", "store", "unpack", "registry.insecure")
_KNOWN = ("image", "ref", "base", "pull")  # what the store knows of base images


class Reproduction(Value):
    """The first build's result, and what the second one gave instead."""

    result: BuildResult
    digests: tuple[str, str]
    differences: tuple[Difference, ...]

    @property
    def same(self) -> bool:
        """Byte for byte."""
        return self.digests[0] == self.digests[1]


def check_reproducible(
    request: BuildRequest, settings: Settings, emit: EventSink, cancel: CancelToken | None = None
) -> Reproduction:
    """Build as asked, then once more in a fresh root that shares nothing but the pulled blobs, so that no
    step is cached, and compare the images.  Attestations are compared with the rest where they are deterministic."""
    if request.context == "-":
        raise UsageError(
            "a context on standard input can be read once only", hint="unpack it, and name the directory"
        )
    # among what awaits deletion, so that it goes with the next sweep if we are killed; and on the
    # store's own file system, so that blobs are lent by links
    name = f"repro-{os.urandom(8).hex()}"
    scratch = f"{settings.root}/trash/{name}"
    os.makedirs(settings.root, mode=0o700, exist_ok=True)
    lock = KeyLocks(settings.root).hold(f"trash-{name}", cancel)
    try:
        os.makedirs(scratch, mode=0o700)
        first, second = os.path.join(scratch, "1"), os.path.join(scratch, "2")
        spec = _same_form(request)
        outputs = request.outputs or (
            OutputSpec("image", "", tuple((a.attribute, a.value) for a in request.annotations)),
        )
        result = run_build(
            replace(request, outputs=(*outputs, replace(spec, dest=first))), settings, emit, cancel
        )
        again = replace(settings, root=os.path.join(scratch, "root"))
        _lend(settings.root, again)
        time.sleep(1 - time.time() % 1)  # times are whole seconds: in the same one, nothing would show
        run_build(
            replace(
                request, outputs=(replace(spec, dest=second),), pull="", cache_from=(), cache_to=(),
                metadata_file="", iidfile="",
            ), again, emit, cancel,
        )  # fmt: skip
        tops = [parse_descriptor(read_index(path)[0]) for path in (first, second)]
        blobs = (LayoutBlobs(first), LayoutBlobs(second))
        found: list[Difference] = []
        if tops[0].digest != tops[1].digest:
            images = [pictures(top, blob) for top, blob in zip(tops, blobs, strict=True)]
            found = compare_images(images[0], images[1], blobs, by_layer=True)
        return Reproduction(result, (tops[0].digest, tops[1].digest), tuple(found))
    finally:
        from ..store.remove import remove_tree

        remove_tree(scratch)
        lock.release()


def _same_form(request: BuildRequest) -> OutputSpec:
    """A layout of the form that the first image output has."""
    found = next((o for o in request.outputs if o.type in IMAGE_OUTPUTS), None)
    if found is None:
        notes = tuple((a.attribute, a.value) for a in request.annotations)
        return OutputSpec("oci", "", (*notes, ("tar", "false")))
    kept = tuple((k, v) for k, v in found.attrs if k not in _PLACES)
    return OutputSpec("oci", "", (*kept, ("tar", "false")))


def _lend(root: str, again: Settings) -> None:
    """Give the fresh root what ours knows of base images, so that both builds start from the same ones."""
    from ..store.index import Index

    os.makedirs(again.root, mode=0o700, exist_ok=True)
    ours, theirs = Index(root), Index(again.root)
    try:
        for space in _KNOWN:
            theirs.put_many(space, ours.items(space))
    finally:
        ours.close()
        theirs.close()
    source, target = f"{root}/blobs/sha256", f"{again.root}/blobs/sha256"
    os.makedirs(target, exist_ok=True)
    for name in os.listdir(source) if os.path.isdir(source) else ():
        try:
            os.link(f"{source}/{name}", f"{target}/{name}")
        except OSError:  # another file system: pulled again, or copied when it is only here
            shutil.copyfile(f"{source}/{name}", f"{target}/{name}")
