"""``--cache-to`` and ``--cache-from`` attributes as checked values (spec cli.md §2.4)."""

from __future__ import annotations

from ..errors import UsageError
from .base import CacheForm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan.request import CacheSpec

_TRUE, _FALSE = ("1", "t", "true", ""), ("0", "f", "false")
_COMMON_TO = ("mode", "ignore-error")
_BLOBS = ("compression", "compression-level", "force-compression", "image-manifest", "oci-mediatypes")
_S3 = (
    "bucket", "region", "name", "prefix", "blobs_prefix", "manifests_prefix", "endpoint_url", "use_path_style",
    "access_key_id", "secret_access_key", "session_token", "retry_mode", "retry_max_attempts", "disable_accept_encoding",
)  # fmt: skip
KNOWN_TO = {
    "inline": ("mode", "ignore-error"),
    "registry": ("ref", "registry.insecure", *_COMMON_TO, *_BLOBS),
    "local": ("dest", "tag", "reset", *_COMMON_TO, *_BLOBS),
    "s3": (*_S3, "touch_refresh", "upload_parallelism", "compression", "compression-level", "force-compression", *_COMMON_TO),
}  # fmt: skip
KNOWN_FROM = {
    "registry": ("ref", "registry.insecure"),
    "local": ("src", "tag", "digest"),
    "s3": _S3,
}
NOT_HERE = {
    "gha": "GitHub's cache service can't be used by Lapstrake",
    "azblob": "Azure blob storage can't be used by Lapstrake",
}


def flag(spec: CacheSpec, key: str, default: bool) -> bool:
    """A boolean attribute."""
    attrs = dict(spec.attrs)
    if key not in attrs:
        return default
    value = attrs[key].lower()
    if value in _TRUE or value in _FALSE:
        return value in _TRUE
    raise UsageError(f"non-bool value for {key}: {attrs[key]}")


def number(spec: CacheSpec, key: str, default: int, low: int, high: int) -> int:
    """A whole-number attribute within bounds."""
    text = spec.get(key)
    if not text:
        return default
    if not text.isdigit() or not low <= int(text) <= high:
        raise UsageError(f"invalid {key} {text}: a whole number from {low} to {high} is needed")
    return int(text)


def check(spec: CacheSpec, *, export: bool) -> None:
    """Refuse what can't work, before anything is built.  Raises UsageError."""
    if spec.type in NOT_HERE:
        raise UsageError(
            f"cache type {spec.type}: {NOT_HERE[spec.type]}",
            hint="use type=registry, type=s3, or type=local with a directory that your CI keeps",
        )
    if spec.type == "inline" and not export:
        raise UsageError(
            "inline caches are imported as type=registry", hint="--cache-from type=registry,ref=IMAGE"
        )
    known = (KNOWN_TO if export else KNOWN_FROM)[spec.type]
    for key, _ in spec.attrs:
        if key not in known:
            from ..plan.stages import did_you_mean

            hint = did_you_mean(key, known).strip(" ()") or "it has " + ", ".join(known)
            raise UsageError(f"unknown attribute {key} of a {spec.type} cache", hint=hint)
    needed = {"registry": "ref", "local": "dest" if export else "src"}.get(spec.type)
    if needed and not spec.get(needed):
        raise UsageError(f"{needed} is required for a {spec.type} cache")
    if export:
        form_of(spec)


def form_of(spec: CacheSpec) -> CacheForm:
    """How this cache is written."""
    mode = spec.get("mode") or "min"
    if mode not in ("min", "max"):
        raise UsageError(f"invalid cache mode {mode}", hint="use min or max")
    if spec.type == "inline" and mode == "max":
        raise UsageError(
            "an inline cache holds the layers of its image only: mode=max is not possible",
            hint="use type=registry,mode=max",
        )
    oci, image = flag(spec, "oci-mediatypes", True), flag(spec, "image-manifest", True)
    if image and not oci:
        if "image-manifest" in dict(spec.attrs):
            raise UsageError("image-manifest=true needs oci-mediatypes=true")
        image = False
    compression = spec.get("compression") or "gzip"
    if compression not in ("uncompressed", "gzip", "zstd", "estargz"):
        raise UsageError(f"unsupported layer compression type {compression}")
    if compression in ("zstd", "estargz") and not oci:
        raise UsageError(f"compression={compression} needs oci-mediatypes=true")
    top = 22 if compression == "zstd" else 9
    level = number(spec, "compression-level", -1, 0, top)
    return CacheForm(
        mode, compression, None if level < 0 else level, flag(spec, "force-compression", False),
        flag(spec, "ignore-error", False), image, oci,
    )  # fmt: skip
