"""``imagetools``: put images together and look at them without building (spec cli.md §5)."""

from __future__ import annotations

from .errors import ResolveError, UsageError
from .export.base import REFERENCE_DIGEST, children, is_digest
from .oci import codec
from .oci.descriptor import INDEXES, MANIFESTS, OCI_INDEX, OCI_MANIFEST, Descriptor
from .oci.manifest import is_attestation, make_index, parse_descriptor
from .oci.platform import Platform
from .oci.reference import Reference
from .oci.reference import parse as parse_reference
from .values import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, BinaryIO


ATTESTATION_TYPES = ("application/vnd.docker.attestation.manifest.v1+json", "application/vnd.in-toto+json")


class Tools(Value):
    """What the commands work with.  ``client``: (registry host, insecure) -> registry client."""

    client: Callable[[str, bool], Any]
    content: Any
    index: Any = None


class CreateOptions(Value):
    """``imagetools create``.  ``annotations``: (level, platform, key, value)."""

    annotations: tuple[tuple[str, str, str, str], ...] = ()
    append: bool = False
    dry_run: bool = False
    platforms: tuple[Platform, ...] = ()
    prefer_index: bool = True


class Created(Value):
    """What ``create`` made: the top document and where it went."""

    descriptor: Descriptor
    raw: bytes
    names: tuple[str, ...]

    @property
    def metadata(self) -> dict[str, Any]:
        """For ``--metadata-file``."""
        return {
            "containerimage.digest": self.descriptor.digest,
            "containerimage.descriptor": self.descriptor.to_json(),
            "image.name": ",".join(self.names),
        }


class Source(Value):
    """One resolved source."""

    ref: Reference
    descriptor: Descriptor
    raw: bytes


class RemoteBlobs:
    """Content of registries and the local store, read by digest; layers come through the store."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._where: dict[str, tuple[Descriptor, Reference]] = {}
        self._docs: dict[str, bytes] = {}

    def know(self, source: Source) -> None:
        """Learn where everything below a source is."""
        self._docs[source.descriptor.digest] = source.raw
        self._where[source.descriptor.digest] = (source.descriptor, source.ref)
        for child in children(source.descriptor, source.raw):
            self._where.setdefault(child.digest, (child, source.ref))
            if child.media_type in INDEXES or child.media_type in MANIFESTS:
                self.know(Source(source.ref, child, self.document(child.digest)))

    def add(self, digest: str, raw: bytes) -> None:
        """A document made here."""
        self._docs[digest] = raw

    def document(self, digest: str) -> bytes:
        """A manifest, index, config or statement."""
        if digest in self._docs:
            return self._docs[digest]
        desc, ref = self._find(digest)
        if self._tools.content.has(digest):
            raw: bytes = self._tools.content.read(digest)
        elif desc.media_type in INDEXES or desc.media_type in MANIFESTS:
            raw = self._tools.client(ref.registry, False).get_manifest(replace(ref, tag="", digest=digest))[0]
        else:
            if desc.size > 64 << 20:
                raise ResolveError(f"{digest} is too big to be read as a document")
            parts: list[bytes] = []
            self._tools.client(ref.registry, False).fetch_blob(
                ref, desc, lambda block: parts.append(bytes(block))
            )
            raw = b"".join(parts)
        self._docs[digest] = raw
        return raw

    def referrers(self, ref: Reference, digest: str) -> list[Descriptor]:
        """Attestations that refer to a manifest, and where their content is."""
        try:
            found = self._tools.client(ref.registry, False).referrers(ref, digest)
        except ResolveError:
            return []  # a registry that can't say has none
        out = [d for d in found if d.artifact_type in ATTESTATION_TYPES and d.media_type in MANIFESTS]
        for desc in out:
            self._where.setdefault(desc.digest, (desc, ref))
            self.know(Source(ref, desc, self.document(desc.digest)))
        return out

    def _find(self, digest: str) -> tuple[Descriptor, Reference]:
        if digest not in self._where:
            raise ResolveError(f"content of {digest} is unknown")
        return self._where[digest]

    def has(self, digest: str) -> bool:
        """Whether the bytes are here already."""
        return digest in self._docs or bool(self._tools.content.has(digest))

    def size(self, digest: str) -> int:
        """Size in bytes."""
        return len(self._docs[digest]) if digest in self._docs else self._find(digest)[0].size

    def source_of(self, digest: str) -> str:
        """The repository to mount it from."""
        return self._where[digest][1].name if digest in self._where else ""

    def need(self, digest: str) -> None:
        """Bring it into the content store."""
        if self.has(digest):
            return
        desc, ref = self._find(digest)
        with self._tools.content.writer(desc.digest, desc.size, verified=True) as out:
            self._tools.client(ref.registry, False).fetch_blob(ref, desc, out.write)

    def open(self, digest: str) -> BinaryIO:
        """A reader."""
        if digest in self._docs or (
            digest in self._where and self._where[digest][0].media_type in (*INDEXES, *MANIFESTS)
        ):
            import io

            return io.BytesIO(self.document(digest))
        self.need(digest)
        stream: BinaryIO = self._tools.content.open(digest)
        return stream


def resolve(tools: Tools, name: str) -> Source:
    """What a name means in its registry now, or in the local store when the registry hasn't got it."""
    ref = parse_reference(name)
    try:
        raw, media_type, digest = tools.client(ref.registry, False).get_manifest(ref)
        return Source(ref, Descriptor(media_type, digest, len(raw)), raw)
    except ResolveError as err:
        if err.status not in (0, 404):
            raise  # it answered, and the answer counts
        local = tools.index.get("image", ref.full) if tools.index is not None else None
        if local is None:
            raise
        desc = parse_descriptor(codec.loads(local, "image record"))
        return Source(ref, replace(desc, annotations=()), tools.content.read(desc.digest))


def resolve_source(tools: Tools, text: str, target: Reference | None) -> Source:
    """A source: a name, a digest in the target's repository, or a descriptor as JSON."""
    text = text.strip()
    wanted: Descriptor | None = None
    if text.startswith("{"):
        wanted = parse_descriptor(codec.loads(text.encode(), "descriptor"))
        text = wanted.digest
    if not is_digest(text):
        return resolve(tools, text)
    if target is None:
        raise UsageError(f"can't resolve {text} without a repository", hint="give a --tag, or name@digest")
    found = resolve(tools, target.with_tag("").with_digest(text).full)
    if wanted is not None:
        found = replace(
            found,
            descriptor=replace(found.descriptor, platform=wanted.platform, annotations=wanted.annotations),
        )
    return found


def create(
    tools: Tools, sources: Sequence[str], tags: Sequence[str], options: CreateOptions | None = None
) -> Created:
    """Join sources under new tags; attestations travel with their images."""
    options = options or CreateOptions()
    if not tags and not options.dry_run:
        raise UsageError("can't push without tags: repository is required")
    targets = [parse_reference(t) for t in tags]
    if any(t.digest for t in targets):
        raise UsageError("can't push to a digest reference")
    if options.append and not targets:
        raise UsageError("can't append with no reference")
    first = targets[0] if targets else None
    found = [resolve_source(tools, s, first) for s in sources]
    if options.append and first is not None:
        found.insert(0, resolve(tools, first.full))
    if not found:
        raise UsageError("no sources specified")
    blobs = RemoteBlobs(tools)
    for source in found:
        blobs.know(source)
    desc, raw = combine(found, blobs.document, options)
    blobs.add(desc.digest, raw)
    names = tuple(t.full for t in targets)
    if not options.dry_run:
        from .export.registry import start_pushes, targets_of

        for item in start_pushes((desc,), blobs, targets_of(names), tools.client, index=tools.index):
            item.finish()
    return Created(desc, raw, names)


def combine(
    found: Sequence[Source], document: Callable[[str], bytes], options: CreateOptions
) -> tuple[Descriptor, bytes]:
    """The top document of ``create``: pure, given the documents."""
    only = found[0] if len(found) == 1 else None
    plain = not options.annotations and not options.platforms
    if only is not None and plain and (only.descriptor.media_type in INDEXES or not options.prefer_index):
        return replace(only.descriptor, platform=None, annotations=()), only.raw
    for level, _, _, _ in options.annotations:
        if level not in ("index", "manifest-descriptor"):
            raise UsageError(
                f"annotation type {level} is not supported by imagetools create",
                hint="use index: or manifest-descriptor:",
            )
    entries: list[Descriptor] = []
    for source in found:
        entries = _merge(entries, _entries(source, document))
    if options.platforms:
        entries = _only(entries, options.platforms)
    entries = _annotate(entries, options)
    notes = {k: v for level, _, k, v in options.annotations if level == "index"}
    oci = bool(options.annotations) or any(d.media_type == OCI_MANIFEST or d.annotations for d in entries)
    for source in found:
        if source.descriptor.media_type in INDEXES:
            oci = oci or source.descriptor.media_type == OCI_INDEX
            old = codec.loads(source.raw).get("annotations")
            notes = {**(old if isinstance(old, dict) and oci else {}), **notes}
    raw, desc = make_index(entries, annotations=sorted(notes.items()) if oci else (), oci=oci)
    return desc, raw


def _entries(source: Source, document: Callable[[str], bytes]) -> list[Descriptor]:
    below = children(source.descriptor, source.raw)
    if source.descriptor.media_type in INDEXES:
        return list(below)
    desc = source.descriptor
    if desc.platform is None and not is_attestation(desc):
        desc = replace(
            desc, platform=Platform.from_json(codec.loads(document(below[0].digest), "image config"))
        )
    return [desc]


def _merge(old: list[Descriptor], new: list[Descriptor]) -> list[Descriptor]:
    """``new`` replaces images of the same platform, and the attestations of what it replaced."""
    images = [d for d in new if not is_attestation(d)]
    fresh = {d.digest for d in new}
    platforms = {d.platform for d in images if d.platform is not None}
    gone = {
        d.digest for d in old if not is_attestation(d) and d.platform in platforms and d.digest not in fresh
    }
    kept = [
        d
        for d in old
        if d.digest not in gone
        and d.digest not in fresh
        and not (is_attestation(d) and dict(d.annotations).get(REFERENCE_DIGEST) in gone)
    ]
    joined = kept + new
    return [d for d in joined if not is_attestation(d)] + [d for d in joined if is_attestation(d)]


def _only(entries: list[Descriptor], platforms: Sequence[Platform]) -> list[Descriptor]:
    images = [d for d in entries if not is_attestation(d) and d.platform in platforms]
    missing = [p for p in platforms if p not in [d.platform for d in images]]
    if missing:
        raise ResolveError(
            f"no match for platform in manifest: {missing[0]}: not found", code="NOT_FOUND", status=404
        )
    digests = {d.digest for d in images}
    return images + [
        d for d in entries if is_attestation(d) and dict(d.annotations).get(REFERENCE_DIGEST) in digests
    ]


def _annotate(entries: list[Descriptor], options: CreateOptions) -> list[Descriptor]:
    out = []
    used: set[str] = set()
    for desc in entries:
        notes = dict(desc.annotations)
        if not is_attestation(desc):
            for level, platform, key, value in options.annotations:
                if level == "manifest-descriptor" and platform in ("", str(desc.platform)):
                    used.add(platform)
                    notes[key] = value
        out.append(replace(desc, annotations=tuple(sorted(notes.items()))))
    for level, platform, _, _ in options.annotations:
        if level == "manifest-descriptor" and platform not in used:
            raise UsageError(f"invalid annotation: no platform {platform} found in source")
    return out


class Inspection:
    """``imagetools inspect``: the parts are read when asked for."""

    def __init__(self, tools: Tools, name: str) -> None:
        self.source = resolve(tools, name)
        self.name = self.source.ref.full
        self._blobs = RemoteBlobs(tools)
        self._blobs.know(self.source)

    @property
    def raw(self) -> bytes:
        """The top document."""
        return self.source.raw

    @property
    def manifest(self) -> dict[str, Any]:
        """``.Manifest``: an index with its digest and size, a plain manifest's descriptor."""
        top = self.source.descriptor
        own = {"mediaType": top.media_type, "digest": top.digest, "size": top.size}
        if top.media_type not in INDEXES:
            return own
        doc = codec.loads(self.raw, "manifest")
        return {
            "schemaVersion": doc.get("schemaVersion", 2),
            **own,
            **{k: v for k, v in doc.items() if k not in own},
        }

    def _manifests(self) -> list[Descriptor]:
        if self.source.descriptor.media_type in INDEXES:
            return list(children(self.source.descriptor, self.raw))
        return [self.source.descriptor]

    def _config(self, desc: Descriptor) -> dict[str, Any]:
        config = children(desc, self._blobs.document(desc.digest))[0]
        return codec.loads(self._blobs.document(config.digest), "image config")

    def image(self) -> dict[str, Any]:
        """``.Image``: the config, or one per platform."""
        images = {
            str(d.platform or Platform.from_json(self._config(d))): self._config(d)
            for d in self._manifests()
            if not is_attestation(d)
        }
        return next(iter(images.values())) if len(images) == 1 else images

    def _statements(self) -> list[tuple[str, Descriptor]]:
        """(platform, statement) of every attestation: in the index, else what refers to the images."""
        platforms = {
            d.digest: str(d.platform or Platform.from_json(self._config(d)))
            for d in self._manifests()
            if not is_attestation(d)
        }
        out: list[tuple[str, Descriptor]] = []
        for desc in self._manifests():
            about = dict(desc.annotations).get(REFERENCE_DIGEST, "")
            if is_attestation(desc) and about in platforms:
                out += [(platforms[about], s) for s in self._layers(desc)]
        if not out:
            for digest, platform in platforms.items():
                for desc in self._blobs.referrers(self.source.ref, digest):
                    out += [(platform, s) for s in self._layers(desc)]
        return out

    def _layers(self, desc: Descriptor) -> list[Descriptor]:
        return list(children(desc, self._blobs.document(desc.digest))[1:])

    def _attested(self, prefix: str, key: str) -> dict[str, Any]:
        """Predicates whose type starts with ``prefix``, by platform where there are several."""
        out: dict[str, Any] = {}
        for platform, layer in self._statements():
            if dict(layer.annotations).get("in-toto.io/predicate-type", "").startswith(prefix):
                predicate = codec.loads(self._blobs.document(layer.digest), "statement", 64 << 20).get(
                    "predicate"
                )
                found = out.setdefault(platform, {})
                if key not in found:
                    found[key] = predicate
                else:
                    found.setdefault(f"Additional{key}s", []).append(predicate)
        several = sum(not is_attestation(d) for d in self._manifests()) > 1
        return out if several or not out else next(iter(out.values()))

    def sbom(self) -> dict[str, Any]:
        """``.SBOM``."""
        return self._attested("https://spdx.dev/Document", "SPDX")

    def provenance(self) -> dict[str, Any]:
        """``.Provenance``."""
        return self._attested("https://slsa.dev/provenance/", "SLSA")

    def text(self) -> str:
        """The default form, laid out as buildx does."""
        top = self.source.descriptor
        rows = [("Name:", self.name), ("MediaType:", top.media_type), ("Digest:", top.digest)]
        if top.media_type not in INDEXES:
            return _columns(rows)
        out = _columns([*rows, ("", ""), ("Manifests:", "")])
        base = self.source.ref.with_digest("").full
        rows = []
        for n, desc in enumerate(self._manifests()):
            rows += [("", "")] if n else []
            rows += [("  Name:", f"{base}@{desc.digest}"), ("  MediaType:", desc.media_type)]
            rows += _platform_rows(desc)
            if desc.annotations:
                out += _columns([*rows, ("  Annotations:", "")])
                out += _columns([(f"    {k}:", v) for k, v in sorted(desc.annotations)])
                rows = []
        return out + _columns(rows)

    def fields(self, wanted: str = "") -> dict[str, Any]:
        """What a ``--format`` may use.  ``wanted``: its text; the dear parts are made only if it names them."""
        wanted = wanted.lower()
        out: dict[str, Any] = {"name": self.name, "manifest": self.manifest}
        if "image" in wanted or "json ." in wanted or "range" in wanted:
            out["image"] = self.image()
        if "sbom" in wanted:
            out["SBOM"] = self.sbom()
        if "provenance" in wanted:
            out["Provenance"] = self.provenance()
        return out


def _platform_rows(desc: Descriptor) -> list[tuple[str, str]]:
    if desc.platform is None:
        return []
    parts = (desc.platform.os, desc.platform.arch, desc.platform.variant)
    rows = [("  Platform:", "/".join(p for p in parts if p))]
    if desc.platform.os_version:
        rows.append(("  OSVersion:", desc.platform.os_version))
    if desc.platform.os_features:
        rows.append(("  OSFeatures:", ", ".join(desc.platform.os_features)))
    return rows


def _columns(rows: Sequence[tuple[str, str]]) -> str:
    """Two columns one space apart, trailing blanks and all, as Go's tabwriter leaves them."""
    width = max((len(head) for head, _ in rows), default=0) + 1
    return "".join(f"{_plain(head):<{width}}{_plain(text)}\n" for head, text in rows)


def _plain(text: str) -> str:
    """Without what would steer the terminal: the text is a registry's."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)
