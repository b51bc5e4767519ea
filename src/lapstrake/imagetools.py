"""``imagetools``: put images together and look at them without building (spec cli.md §5)."""

from __future__ import annotations

from .errors import ResolveError, UsageError
from .export.base import REFERENCE_DIGEST, children, is_digest
from .oci import codec
from .oci.descriptor import DOCKER_LIST, INDEXES, MANIFESTS, OCI_INDEX, OCI_MANIFEST, Descriptor
from .oci.manifest import is_attestation, make_index, parse_descriptor
from .oci.platform import Platform
from .oci.reference import Reference
from .oci.reference import parse as parse_reference
from .values import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, BinaryIO


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
        with self._tools.content.writer(desc.digest, desc.size) as out:
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
    except ResolveError:
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

        for item in start_pushes(desc, blobs, targets_of(names), tools.client):
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
        """``.Manifest``: the top document with its digest and size."""
        return {
            **codec.loads(self.raw, "manifest"),
            "mediaType": self.source.descriptor.media_type,
            "digest": self.source.descriptor.digest,
            "size": self.source.descriptor.size,
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

    def _attested(self, prefix: str, key: str) -> dict[str, Any]:
        """Predicates whose type starts with ``prefix``, by platform where there are several."""
        platforms = {d.digest: str(d.platform) for d in self._manifests() if not is_attestation(d)}
        out: dict[str, Any] = {}
        for desc in self._manifests():
            about = dict(desc.annotations).get(REFERENCE_DIGEST, "")
            if not is_attestation(desc) or about not in platforms:
                continue
            for layer in children(desc, self._blobs.document(desc.digest))[1:]:
                if dict(layer.annotations).get("in-toto.io/predicate-type", "").startswith(prefix):
                    doc = codec.loads(self._blobs.document(layer.digest), "statement", 64 << 20)
                    out[platforms[about]] = {key: doc.get("predicate")}
        return next(iter(out.values())) if len(platforms) == 1 and out else out

    def sbom(self) -> dict[str, Any]:
        """``.SBOM``."""
        return self._attested("https://spdx.dev/Document", "SPDX")

    def provenance(self) -> dict[str, Any]:
        """``.Provenance``."""
        return self._attested("https://slsa.dev/provenance/", "SLSA")

    def text(self) -> str:
        """The default form."""
        lines = [
            f"Name:      {self.name}",
            f"MediaType: {self.source.descriptor.media_type}",
            f"Digest:    {self.source.descriptor.digest}",
        ]
        if self.source.descriptor.media_type in (OCI_INDEX, DOCKER_LIST):
            lines += ["           ", "Manifests: "]
            base = self.source.ref.with_digest("")
            for n, desc in enumerate(self._manifests()):
                lines += ["             "] if n else []
                lines += [f"  Name:        {base.full}@{desc.digest}", f"  MediaType:   {desc.media_type}"]
                if desc.platform is not None:
                    lines.append(f"  Platform:    {desc.platform.full}")
                if desc.annotations:
                    lines.append("  Annotations: ")
                    width = max(len(k) for k, _ in desc.annotations) + 1
                    lines += [f"    {k + ':':<{width}} {v}" for k, v in sorted(desc.annotations)]
        return "\n".join(lines) + "\n"

    def render(self, template: str = "") -> str:
        """``--format``: ``{{.Name}}``, ``{{json .Image}}``, ``{{.Manifest.digest}}`` and so on."""
        if template in ("", "{{.Manifest}}"):
            return self.text()
        out, rest = "", template
        while True:
            head, mark, rest = rest.partition("{{")
            out += head
            if not mark:
                return out + "\n"
            expression, mark, rest = rest.partition("}}")
            if not mark:
                raise UsageError(f"invalid template: {template}")
            out += self._value(expression.strip())

    def _value(self, expression: str) -> str:
        import json

        as_json = expression.startswith("json ")
        path = expression.removeprefix("json ").strip()
        if path == ".":
            value: Any = {"name": self.name, "manifest": self.manifest, "image": self.image()}
        else:
            first, *more = path.removeprefix(".").split(".")
            parts: dict[str, Callable[[], Any]] = {
                "Name": lambda: self.name,
                "Manifest": lambda: self.manifest,
                "Image": self.image,
                "SBOM": self.sbom,
                "Provenance": self.provenance,
            }
            if not path.startswith(".") or first not in parts:
                raise UsageError(
                    f"invalid template expression {expression!r}",
                    hint="fields are .Name .Manifest .Image .SBOM .Provenance",
                )
            value = parts[first]()
            for key in more:
                names = {k.lower(): k for k in value} if isinstance(value, dict) else {}
                if key.lower() not in names:
                    raise UsageError(f"no field {key} in {expression}")
                value = value[names[key.lower()]]
        if as_json or isinstance(value, (dict, list)):
            return json.dumps(value, indent=2, ensure_ascii=False)
        return str(value)
