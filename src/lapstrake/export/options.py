"""``--output`` attributes as checked values (spec cli.md §2.3)."""

from __future__ import annotations

from ..errors import UsageError
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .base import OutputLike

IMAGE_TYPES = ("image", "registry", "oci", "docker")
FILE_TYPES = ("local", "tar")
TYPES = (*IMAGE_TYPES, *FILE_TYPES, "cacheonly")
_TRUE = ("1", "t", "true")
_FALSE = ("0", "f", "false")


class Annotation(Value):
    """``annotation[-type][[platform]].KEY``; level is manifest, manifest-descriptor, index or index-descriptor."""

    level: str
    platform: str
    key: str
    value: str


class FormOptions(Value):
    """What the bytes of an image look like.  ``layers``: which of them are merged (see ``layers_of``)."""

    oci: bool = True
    oci_artifact: bool = True
    compression: str = "gzip"
    level: int | None = None
    force_compression: bool = False
    prefer_nondist: bool = False
    rewrite_timestamp: bool = False
    epoch: int | None = None
    epoch_cleared: bool = False
    attestation_inline: bool = True
    annotations: tuple[Annotation, ...] = ()
    layers: str = "all"
    referrers: bool = False
    exact_timestamp: bool = False


class ImageOptions(Value):
    """How image manifests are made and named; shared by image, registry, oci and docker."""

    names: tuple[str, ...] = ()
    push: bool = False
    push_by_digest: bool = False
    insecure: bool = False
    name_canonical: bool = False
    dangling_prefix: str = ""
    store: bool = True
    tar: bool = True
    form: FormOptions = FormOptions()


class FileOptions(Value):
    """How ``local`` and ``tar`` write files.  ``split`` None: when there are several platforms."""

    split: bool | None = None
    delete: bool = False
    attestation_prefix: str = ""
    epoch: int | None = None
    epoch_cleared: bool = False


def attributes(spec: OutputLike) -> dict[str, str]:
    """The attributes with lower-cased keys (annotation keys keep theirs)."""
    pairs = spec.attrs.items() if isinstance(spec.attrs, dict) else spec.attrs
    return {(k if k.startswith("annotation") else k.lower()): v for k, v in dict(pairs).items()}


def flag(attrs: dict[str, str], key: str, default: bool) -> bool:
    """A boolean as Go's ``strconv.ParseBool`` reads it; a bare key means true."""
    if key not in attrs:
        return default
    value = attrs[key].lower()
    if value == "" or value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise UsageError(f"non-bool value specified for {key}")


def epoch_of(attrs: dict[str, str]) -> tuple[int | None, bool]:
    """(seconds, cleared): an empty string clears an epoch given elsewhere."""
    text = attrs.get("source-date-epoch")
    if text is None:
        return None, False
    if text == "":
        return None, True
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 40:
        raise UsageError(f"invalid SOURCE_DATE_EPOCH: {text}")
    return value, False


def _level(attrs: dict[str, str], compression: str) -> int | None:
    text = attrs.get("compression-level")
    if text is None:
        return None
    top = 22 if compression == "zstd" else 9
    if not text.isdigit() or int(text) > top:
        raise UsageError(f'invalid compression-level "{text}": {compression} takes 0 to {top}')
    return int(text)


def annotations_of(attrs: dict[str, str]) -> tuple[Annotation, ...]:
    """All ``annotation…`` attributes, in order."""
    out = []
    for key, value in attrs.items():
        if not key.startswith("annotation"):
            continue
        head, dot, name = key.partition(".")
        # the platform may hold a dot: annotation[linux(10.0)/amd64].key
        while dot and "[" in head and "]" not in head:
            more, dot, name = name.partition(".")
            head = f"{head}.{more}"
        level, bracket, platform = head[len("annotation") :].partition("[")
        if not dot or not name or (bracket and not platform.endswith("]")):
            raise UsageError(f'invalid annotation "{key}", expected key=value')
        level = level.lstrip("-") or "manifest"
        if level not in ("manifest", "manifest-descriptor", "index", "index-descriptor"):
            raise UsageError(f'unknown annotation type "{level}"')
        out.append(Annotation(level, platform[:-1] if bracket else "", name, value))
    return tuple(out)


def layers_of(text: str) -> str:
    """``all``, ``stage``, ``squash``, ``squash-above-base`` or the most layers there may be."""
    if text in ("all", "stage", "squash", "squash-above-base") or (
        text.isdecimal() and 0 < int(text) < 10_000
    ):
        return text
    raise UsageError(
        f'invalid value "{text}" for layers', hint="use all, stage, squash, squash-above-base or a number"
    )


def form_options(attrs: dict[str, str]) -> FormOptions:
    """The image form, with its conflicts refused."""
    oci = flag(attrs, "oci-mediatypes", True)
    artifact = flag(attrs, "oci-artifact", oci)
    if artifact and not oci:
        raise UsageError('exporter option "oci-artifact=true" conflicts with "oci-mediatypes=false"')
    compression = attrs.get("compression", "gzip")
    if compression not in ("uncompressed", "gzip", "estargz", "zstd"):
        raise UsageError(f"unsupported layer compression type {compression}")
    if compression in ("estargz", "zstd") and not oci:
        raise UsageError(f'exporter option "compression={compression}" conflicts with "oci-mediatypes=false"')
    where = attrs.get("attestations", "index")
    if where not in ("index", "referrers"):
        raise UsageError(f'invalid value "{where}" for attestations', hint="use index or referrers")
    annotations = annotations_of(attrs)
    if annotations and not oci:
        raise UsageError('cannot export annotations with "oci-mediatypes=false"')
    rewrite = flag(attrs, "rewrite-timestamp", False)
    if rewrite and flag(attrs, "unpack", False):
        raise UsageError('exporter option "rewrite-timestamp" conflicts with "unpack"')
    epoch, cleared = epoch_of(attrs)
    return FormOptions(
        oci, artifact, compression, _level(attrs, compression), flag(attrs, "force-compression", False),
        flag(attrs, "prefer-nondist-layers", False), rewrite, epoch, cleared, flag(attrs, "attestation-inline", True), annotations,
        layers_of(attrs.get("layers", "all")), where == "referrers", flag(attrs, "exact-timestamp", False),
    )  # fmt: skip


def image_options(kind: str, attrs: dict[str, str], names: Sequence[str]) -> ImageOptions:
    """Options of one image-like output; ``names`` (from ``--tag``) win over ``name=``."""
    given = [n.strip() for n in attrs.get("name", "").split(",") if n.strip() and n.strip() != "*"]
    use = tuple(dict.fromkeys(names or given))
    by_digest = flag(attrs, "push-by-digest", False)
    push = kind == "registry" or flag(attrs, "push", False)
    if push and kind not in ("image", "registry"):
        raise UsageError(f"push is not supported by the {kind} exporter")
    if push and not use:
        raise UsageError("tag is needed when pushing to registry")
    if by_digest:
        for name in use:
            if ":" in name.split("@")[0].rsplit("/", 1)[-1]:
                raise UsageError(f"can't push tagged ref {name} by digest")
    return ImageOptions(
        use, push, by_digest, flag(attrs, "registry.insecure", False), flag(attrs, "name-canonical", False),
        attrs.get("dangling-name-prefix", ""), flag(attrs, "store", True), flag(attrs, "tar", True), form_options(attrs),
    )  # fmt: skip


def file_options(attrs: dict[str, str]) -> FileOptions:
    """Options of ``local`` and ``tar``."""
    mode = attrs.get("mode", "copy")
    if mode not in ("copy", "delete"):
        raise UsageError(f'invalid mode "{mode}" for local exporter')
    split = flag(attrs, "platform-split", True) if "platform-split" in attrs else None
    return FileOptions(split, mode == "delete", attrs.get("attestation-prefix", ""), *epoch_of(attrs))


_KNOWN = frozenset(
    [
        "name",
        "push",
        "push-by-digest",
        "registry.insecure",
        "name-canonical",
        "dangling-name-prefix",
        "danging-name-empty-only",
        "unpack",
        "store",
        "oci-mediatypes",
        "oci-artifact",
        "compression",
        "compression-level",
        "force-compression",
        "prefer-nondist-layers",
        "attestation-inline",
        "rewrite-timestamp",
        "exact-timestamp",
        "source-date-epoch",
        "tar",
        "dest",
        "context",
        "layers",
        "attestations",
        "buildinfo",
        "buildinfo-attrs",
        "platform-split",
        "mode",
        "attestation-prefix",
        "preferred-compression",
        "multi-platform",
    ]
)


def unknown_attributes(attrs: dict[str, str]) -> list[str]:
    """Keys that mean nothing to any exporter: most likely misspelt."""
    return [k for k in attrs if k not in _KNOWN and not k.startswith("annotation")]


def check_outputs(specs: Sequence[OutputLike]) -> None:
    """What can be said about a list of outputs without touching the world."""
    to_stdout = 0
    for spec in specs:
        if not spec.type:
            raise UsageError("type is required for output")
        if spec.type not in TYPES:
            raise UsageError(f'unsupported output type "{spec.type}"', hint="use one of " + ", ".join(TYPES))
        if spec.type == "local":
            if not spec.dest:
                raise UsageError("dest is required for local exporter")
            if spec.dest == "-":
                raise UsageError("dest cannot be stdout for local exporter")
        elif spec.dest == "-" or (not spec.dest and spec.type in ("tar", "oci")):
            to_stdout += 1
    if to_stdout > 1:
        raise UsageError("multiple outputs configured to write to stdout")
