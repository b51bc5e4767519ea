"""``images``, ``inspect``, ``rmi`` and ``tag``: the local store as its user sees it."""

from __future__ import annotations

import sys

from .flags import Command, Flag, parse
from .main import global_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..engine.images import ImageInfo
    from .main import Globals


def command_list(words: Sequence[str], given: Globals) -> int:
    """``images``."""
    flags = (
        Flag("digests", "bool", "Show digests"),
        Flag("format", help='"table" or "json" (one object a line)', default="table", metavar="FORMAT"),
        Flag("no-trunc", "bool", "Show whole IDs"),
        Flag("quiet", "bool", "Show image IDs only", short="q"),
    )
    spec = Command(
        f"{given.program} images",
        "[OPTIONS] [NAME]",
        "List the images of the local store.",
        (*flags, *global_flags()),
        0,
        1,
    )
    args = parse(spec, words)
    form = one_of(args.text("format"), ("table", "json"))
    from ..engine.images import list_images

    rows = [i for i in list_images(given.settings(args)) if not args.args or matches(i.name, args.args[0])]
    if args.flag("quiet"):
        for image in rows:
            sys.stdout.write(_id(image, whole=args.flag("no-trunc")) + "\n")
    elif form == "json":
        import json

        for image in rows:
            doc = {
                "Name": image.name, "Digest": image.digest, "ID": image.config_digest or image.digest,
                "Platforms": list(image.platforms), "CreatedAt": image.created, "Size": image.size, "Complete": image.complete,
            }  # fmt: skip
            sys.stdout.write(json.dumps(doc) + "\n")
    else:
        sys.stdout.write(_table(rows, whole=args.flag("no-trunc"), digests=args.flag("digests")))
    return 0


def one_of(value: str, known: tuple[str, ...]) -> str:
    """A ``--format`` value that is known."""
    if value not in known:
        from ..errors import UsageError

        raise UsageError(f'unsupported format "{value}"', hint="use one of " + ", ".join(known))
    return value


def matches(name: str, wanted: str) -> bool:
    """Is an image's name what the user typed?  ``app`` finds every tag of ``docker.io/library/app``."""
    for prefix in ("", "docker.io/", "docker.io/library/"):
        full = prefix + wanted
        if name == full or name.startswith(full + ":"):
            return True
    return False


def shorten(name: str) -> str:
    """The name as docker shows it."""
    return name.removeprefix("docker.io/").removeprefix("library/")


def _id(image: ImageInfo, *, whole: bool) -> str:
    digest = image.config_digest or image.digest
    return digest if whole else digest.rpartition(":")[2][:12]


def _table(rows: list[ImageInfo], *, whole: bool, digests: bool) -> str:
    from ..dockerfile.outline import table
    from ..progress.model import size_text

    head = ("IMAGE", *(("DIGEST",) if digests else ()), "ID", "PLATFORMS", "CREATED", "SIZE")
    out = [head]
    for image in rows:
        shown = (image.digest,) if digests else ()
        created = image.created[:19].replace("T", " ") or "-"
        size = size_text(image.size) + ("" if image.complete else " *")
        out.append(
            (
                shorten(image.name),
                *shown,
                _id(image, whole=whole),
                ", ".join(image.platforms) or "-",
                created,
                size,
            )
        )
    text = table(out)
    return text if all(i.complete for i in rows) else text + "* some layers are pulled when they are needed\n"


def command_inspect(words: Sequence[str], given: Globals) -> int:
    """``inspect``: a builder when there is one of that name (or no name), else an image."""
    flags = (
        Flag("bootstrap", "bool", "Make sure that the builder works"),
        Flag("platform", help="Show this platform of an image only", metavar="PLATFORM"),
        Flag("type", help='"image" or "builder" when a name means both', metavar="KIND"),
        Flag("timeout", hidden=True),
    )
    spec = Command(
        f"{given.program} inspect",
        "[OPTIONS] [NAME]",
        "Show an image of the local store as JSON, or a builder.",
        (*flags, *global_flags()),
        0,
        1,
    )
    args = parse(spec, words)
    settings = given.settings(args)
    from ..builders.state import BuilderStore

    store = BuilderStore(settings.builders_dir)
    name = args.args[0] if args.args else ""
    kind = args.text("type")
    plugin = given.program != "lapstrake" and not kind  # buildx knows builders only
    if kind != "image" and (not name or plugin or kind == "builder" or store.find(name) is not None):
        from .builders import show_builder

        return show_builder(store, name or settings.builder, settings, bootstrap=args.flag("bootstrap"))
    import json

    from ..engine.images import inspect
    from ..oci.platform import parse as parse_platform

    doc = inspect(settings, name, parse_platform(args.text("platform")) if args.text("platform") else None)
    sys.stdout.write(json.dumps(doc, indent=2) + "\n")
    return 0


def command_remove(words: Sequence[str], given: Globals) -> int:
    """``rmi``."""
    about = "Remove image names from the local store; space comes back with the next prune."
    spec = Command(
        f"{given.program} rmi",
        "NAME...",
        about,
        (Flag("force", "bool", short="f", hidden=True), *global_flags()),
        1,
    )
    args = parse(spec, words)
    from ..engine.images import remove

    for name in remove(given.settings(args), args.args):
        sys.stdout.write(f"Untagged: {shorten(name)}\n")
    return 0


def command_tag(words: Sequence[str], given: Globals) -> int:
    """``tag``."""
    spec = Command(
        f"{given.program} tag",
        "SOURCE TARGET...",
        "Give an image of the local store further names.",
        global_flags(),
        2,
    )
    args = parse(spec, words)
    from ..engine.images import tag

    tag(given.settings(args), args.args[0], *args.args[1:])
    return 0
