"""buildah's flags that say something a build can do, as buildx's (spec cli.md §8, §10).

Only what does not clash: ``--output``, ``--secret``, ``--ssh`` and ``--cache-from`` are buildx's.  What
is not here is unknown, and said so; nothing is accepted and then ignored.
"""

from __future__ import annotations

from ..errors import UsageError
from ..plan.request import IMAGE_OUTPUTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..plan.request import ImageEdits
    from .flags import Parsed

_TRANSPORTS = {
    "oci": ("oci", ",tar=false"), "oci-archive": ("oci", ""), "docker-archive": ("docker", ""),
    "docker-daemon": ("docker", ""), "containers-storage": ("docker", ""),
}  # fmt: skip


def adapt(args: Parsed) -> None:
    """Rewrite buildah's flags, as they were parsed, into buildx's.  Raises UsageError."""
    _platform(args)
    _tags(args)
    extra = _attributes(args)
    if extra:
        outputs = args.many("output") or ["type=image"]
        args.values["output"] = [o + extra if _is_image(o) else o for o in outputs]
    if args.flag("omit-timestamp") and not args.has("timestamp"):
        args.values["timestamp"] = "0"
    if args.text("manifest"):
        args.values["tag"] = [*args.many("tag"), args.text("manifest")]
        args.values["build-arg"] = ["BUILDKIT_MULTI_PLATFORM=1", *args.many("build-arg")]
    if args.text("iidfile-raw"):
        args.values["iidfile"] = args.text("iidfile-raw")
    if not args.flag("skip-unused-stages"):
        raise UsageError(
            "--skip-unused-stages=false: stages nobody needs are never run",
            hint="name the stage with --target to build it",
        )


def edits(args: Parsed, env: Mapping[str, str]) -> ImageEdits | None:
    """``--from``, ``--env``, ``--unsetenv``, ``--unsetlabel`` and ``--inherit-labels``."""
    if not args.given.intersection(("from", "env", "unsetenv", "unsetlabel", "inherit-labels")):
        return None
    from ..optspec import build_arg
    from ..plan.request import ImageEdits

    pairs = [p for raw in args.many("env") if (p := build_arg(raw, env)) is not None]
    return ImageEdits(
        base=args.text("from"),
        env=tuple(dict(pairs).items()),
        unset_env=tuple(args.many("unsetenv")),
        unset_labels=tuple(args.many("unsetlabel")),
        inherit_labels=args.flag("inherit-labels"),
    )


def _platform(args: Parsed) -> None:
    parts = {name: args.text(name) for name in ("os", "arch", "variant", "os-version")}
    if not any(parts.values()):
        return
    if args.many("platform"):
        given = next(name for name, value in parts.items() if value)
        raise UsageError(f"--platform and --{given} say the same twice", hint="use --platform alone")
    from ..oci.platform import host_platform

    host = host_platform()
    version = f"({parts['os-version']})" if parts["os-version"] else ""
    text = f"{parts['os'] or host.os}{version}/{parts['arch'] or host.arch}"
    args.values["platform"] = [f"{text}/{parts['variant']}" if parts["variant"] else text]


def _tags(args: Parsed) -> None:
    """``-t transport:where`` is an output, not a name."""
    tags, outputs = [], list(args.many("output"))
    for tag in args.many("tag"):
        kind, colon, where = tag.partition(":")
        if colon and kind == "docker" and where.startswith("//"):
            outputs.append(f"type=registry,name={where[2:]}")
        elif colon and kind in ("docker-daemon", "containers-storage"):
            outputs.append(f"type=docker,name={where}")
        elif colon and kind in _TRANSPORTS and ("/" in where or kind != "oci"):
            path, _, name = where.partition(":")
            exporter, more = _TRANSPORTS[kind]
            outputs.append(f"type={exporter},dest={path}{more}" + (f",name={name}" if name else ""))
        else:
            tags.append(tag)
    if len(tags) != len(args.many("tag")):
        args.values["tag"], args.values["output"] = tags, outputs


def _attributes(args: Parsed) -> str:
    attributes = []
    if args.text("format"):
        known = {"oci": "true", "docker": "false"}
        if args.text("format") not in known:
            raise UsageError(f"unrecognized image type {args.text('format')!r}", hint="use oci or docker")
        attributes.append(f"oci-mediatypes={known[args.text('format')]}")
    kind = "uncompressed" if args.flag("disable-compression") else args.text("compression-format")
    if kind:
        attributes.append(f"compression={kind}")
    if args.text("compression-level"):
        attributes.append(f"compression-level={args.text('compression-level')}")
    if args.flag("force-compression"):
        attributes.append("force-compression=true")
    return "".join(f",{a}" for a in attributes)


def _is_image(output: str) -> bool:
    """Whether an output, as written, makes image bytes."""
    from ..optspec import fields

    return any(f in {f"type={t}" for t in IMAGE_OUTPUTS} for f in fields(output))
