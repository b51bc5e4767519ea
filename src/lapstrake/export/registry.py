"""Push: blobs in parallel, children before parents, tags last (spec oci.md §10.4)."""

from __future__ import annotations

from ..errors import EXIT_DENIED, BuildError, Cancelled, ExportError, PushError, ResolveError
from ..oci.descriptor import INDEXES, MANIFESTS, Descriptor
from ..values import Value, replace
from .base import ResultBlobs, walk
from .names import metadata, reference
from .places import UNPUSHED, Places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, BinaryIO, Protocol

    from ..oci.reference import Reference
    from .base import Blobs, BuiltResult, ExportEnv, LazyBlobs
    from .options import ImageOptions
else:
    Protocol = object

_SMALL = 4096  # not worth remembering where it is
PARALLEL = 4  # per registry, as the big registries tolerate


class PushClient(Protocol):
    """What pushing needs of a registry client."""

    def has_blob(self, ref: Reference, digest: str) -> bool: ...
    def mount_blob(self, ref: Reference, digest: str, from_repo: str) -> bool: ...
    def push_blob(self, ref: Reference, descriptor: Descriptor, open: Callable[[], BinaryIO]) -> bool: ...  # noqa: A002
    def put_manifest(self, ref: Reference, raw: bytes, media_type: str) -> str: ...


class Target(Value):
    """One repository and the tags to set in it."""

    registry: str
    repository: str
    tags: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Full names, one for each tag."""
        return tuple(f"{self.registry}/{self.repository}:{tag}" for tag in self.tags)


def targets_of(names: Sequence[str], *, by_digest: bool = False) -> tuple[Target, ...]:
    """Names grouped by repository, in the order given."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in names:
        ref = reference(name)
        tags = found.setdefault((ref.registry, ref.repository), [])
        if not by_digest:
            tag = ref.tag or ("" if ref.digest else "latest")
            if tag and tag not in tags:
                tags.append(tag)
    return tuple(Target(host, path, tuple(tags)) for (host, path), tags in found.items())


def undistributable(desc: Descriptor) -> bool:
    """Foreign layers stay where they are."""
    return "nondistributable" in desc.media_type or ".foreign." in desc.media_type


class Push:
    """One result on its way to one repository.

    ``upload`` moves everything but the top document; ``finish`` makes it visible.
    ``tops``: the document that gets the names, then manifests that refer to parts of it.
    ``known``: repositories of the same registry that hold all blobs already.
    """

    def __init__(
        self,
        tops: Sequence[Descriptor],
        blobs: LazyBlobs,
        client: PushClient,
        target: Target,
        known: Sequence[str] = (),
        places: Places | None = None,
    ) -> None:
        from ..oci.reference import Reference

        self._top = tops[0]
        self._tops = tuple(tops)
        self._blobs = blobs
        self._client = client
        self._target = target
        self._known = tuple(known)
        self._places = places or Places()
        self._ref = Reference(target.registry, target.repository)
        self._raw = b""
        self.skipped = 0
        self.mounted = 0
        self.pushed = 0

    def upload(self) -> None:
        """Blobs in parallel, then the manifests below the top by digest."""
        documents: list[tuple[Descriptor, bytes]] = []
        blobs: list[Descriptor] = []
        for top in self._tops:
            for desc, raw in walk(top, self._blobs):
                if raw is not None:
                    documents.append((desc, raw))
                elif not undistributable(desc):
                    blobs.append(desc)
        blobs = list({d.digest: d for d in blobs}.values())
        self._name_errors(lambda: in_parallel(self._blob, blobs, PARALLEL))
        self._places.remember(
            self._target.registry, self._target.repository, [d.digest for d in blobs if d.size > _SMALL]
        )
        for desc, raw in documents:
            if desc.digest == self._top.digest:
                self._raw = raw
            if desc.digest != self._top.digest or len(self._tops) > 1:
                self._manifest(desc, raw, "")

    def finish(self) -> None:
        """Put the top document under every tag, or by digest when there is none."""
        for tag in self._target.tags or ("",):
            self._manifest(self._top, self._raw, tag)

    def _manifest(self, desc: Descriptor, raw: bytes, tag: str) -> None:
        ref = replace(self._ref, tag=tag, digest="" if tag else desc.digest)
        self._name_errors(lambda: self._client.put_manifest(ref, raw, desc.media_type), tag)

    def _blob(self, desc: Descriptor) -> None:
        if self._client.has_blob(self._ref, desc.digest):
            self.skipped += 1
            return
        sources = list(self._known)
        lazy = self._blobs.source_of(desc.digest)
        host, _, path = lazy.partition("/")
        if path and host == self._target.registry:
            sources.append(path)
        seen = self._places.repository(self._target.registry, desc.digest)
        for source in dict.fromkeys([*sources, *([seen] if seen else [])]):
            if source != self._target.repository and self._client.mount_blob(self._ref, desc.digest, source):
                self.mounted += 1
                return
        if seen:
            self._places.forget(self._target.registry, desc.digest)
        self._blobs.need(desc.digest)
        if self._client.push_blob(self._ref, desc, lambda: self._blobs.open(desc.digest)):
            self.pushed += 1
        else:
            self.skipped += 1

    def _name_errors(self, do: Callable[[], object], tag: str = "") -> None:
        name = f"{self._target.registry}/{self._target.repository}" + (f":{tag}" if tag else "")
        try:
            do()
        except BuildError as e:
            raise _push_error(name, e) from e


def _push_error(name: str, e: BuildError) -> BuildError:
    """A registry's refusal as a PushError that names the image; anything else as it is, but named."""
    if isinstance(e, Cancelled):
        return e
    text = e.message if e.message.startswith("failed to push") else f"failed to push {name}: {e.message}"
    if isinstance(e, ResolveError):
        return PushError(text, hint=e.hint, exit_code=EXIT_DENIED if e.exit_code == EXIT_DENIED else None)
    return ExportError(text, hint=e.hint)


def in_parallel(work: Callable[[Descriptor], None], items: Sequence[Descriptor], limit: int) -> None:
    """``work`` for each item in at most ``limit`` threads; the first error stops the rest."""
    if len(items) < 2:
        for item in items:
            work(item)
        return
    import threading

    todo = list(reversed(items))
    lock = threading.Lock()
    errors: list[BaseException] = []

    def run() -> None:
        while True:
            with lock:
                if errors or not todo:
                    return
                item = todo.pop()
            try:
                work(item)
            except BaseException as e:
                with lock:
                    errors.append(e)

    threads = [
        threading.Thread(target=run, name=f"push-{n}", daemon=True) for n in range(min(limit, len(items)))
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException as e:
        with lock:
            errors.insert(0, e)
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def start_pushes(
    tops: Sequence[Descriptor],
    blobs: LazyBlobs,
    targets: Sequence[Target],
    client: Callable[[str, bool], Any],
    insecure: bool = False,
    index: Any = None,
) -> list[Push]:
    """Upload to every target; later repositories of a registry mount from earlier ones.

    ``index``: the store's, where it is remembered which repository holds which blob.
    """
    if tops[0].media_type not in INDEXES and tops[0].media_type not in MANIFESTS:
        raise ExportError(f"cannot push media type {tops[0].media_type}")
    done: dict[str, list[str]] = {}
    pushes = []
    places = Places(index)
    for target in targets:
        known = done.setdefault(target.registry, [])
        push = Push(tops, blobs, client(target.registry, insecure), target, known, places)
        push.upload()
        known.append(target.repository)
        pushes.append(push)
    return pushes


def push(
    result: BuiltResult,
    names: Sequence[str],
    client: Callable[[str, bool], Any],
    content: Blobs,
    *,
    by_digest: bool = False,
    insecure: bool = False,
) -> None:
    """Push a result under several names; no tag moves until everything is there."""
    for item in start_pushes(
        (result.descriptor, *result.referrers),
        ResultBlobs(result, content),
        targets_of(names, by_digest=by_digest),
        client,
        insecure,
    ):
        item.finish()


class RegistryExporter:
    """``type=registry`` and ``push=true``."""

    def __init__(self, options: ImageOptions, env: ExportEnv) -> None:
        if env.client is None:
            raise ExportError("no registry client")
        self._options = options
        self._env = env
        self._client = env.client
        self._targets = targets_of(options.names, by_digest=options.push_by_digest)
        self._pushes: list[Push] = []
        self._result: BuiltResult | None = None

    def prepare(self, result: BuiltResult) -> None:
        """Upload all but the top manifest."""
        self._result = result
        env, options = self._env, self._options
        blobs = ResultBlobs(result, env.content, env.fetch)
        tops = (result.descriptor, *result.referrers)
        with _Keeping(self, result):
            self._pushes = start_pushes(tops, blobs, self._targets, self._client, options.insecure, env.index)

    def commit(self) -> dict[str, Any]:
        """Move the tags."""
        if self._result is None:
            raise ExportError("nothing was prepared")
        with _Keeping(self, self._result):
            for item in self._pushes:
                item.finish()
        return metadata(self._result, self._options.names)

    def keep(self, result: BuiltResult) -> bool:
        """Note what could not be pushed, for ``lapstrake push``; whether that was possible."""
        names = [n for t in self._targets for n in t.names]
        if self._env.index is None or not names or result.referrers:
            return False
        from .store import StoredImage, save_documents

        save_documents(result, self._env.content)
        sources = {s for i in result.images for s in i.lazy_sources if not self._env.content.has(s[0])}
        images = [StoredImage(n, result.descriptor, result.created, tuple(sorted(sources))) for n in names]
        self._env.index.put_many(UNPUSHED, [(i.name, i.encode()) for i in images])
        return True

    def abort(self) -> None:
        """Blobs already there stay; the registry's own collection removes them."""


class _Keeping:
    """When a registry does not take the result: keep it, and say how to go on."""

    def __init__(self, exporter: RegistryExporter, result: BuiltResult) -> None:
        self._exporter, self._result = exporter, result

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        if isinstance(error, PushError) and self._exporter.keep(self._result):
            how = "the image is kept: `lapstrake push` with its name pushes it without building again"
            error.hint = f"{error.hint}; {how}" if error.hint else how
