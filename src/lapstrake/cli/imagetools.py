"""``imagetools create`` and ``imagetools inspect`` (spec cli.md §5)."""

from __future__ import annotations

import sys

from ..errors import UsageError
from .flags import Command, Flag, HelpWanted, parse
from .main import global_flags
from .registry import access_of
from .registryflags import access_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..config import Settings
    from ..imagetools import CreateOptions, Tools
    from .flags import Parsed
    from .main import Globals

_MAX_SOURCE = 4 << 20
_CREATE = (
    Flag("annotation", "list", 'Add an annotation ("index:" or "manifest-descriptor[PLATFORM]:")', metavar="[TYPE:]KEY=VALUE"),
    Flag("append", "bool", "Append to the image that has the first tag"),
    Flag("dry-run", "bool", "Show the final image instead of pushing it"),
    Flag("file", "list", "Read a source from a file: a name, a digest, or a descriptor as JSON", short="f", metavar="FILE"),
    Flag("metadata-file", help="Write what was created to a JSON file", metavar="FILE"),
    Flag("platform", "list", "Keep these platforms only, comma separated", short="p", metavar="PLATFORM"),
    Flag("prefer-index", "bool", "Make an index also of a single source that is none", default=True),
    Flag("progress", help='How progress is shown: "auto", "none", "plain", "rawjson", "tty"', default="auto", metavar="MODE"),
    Flag("tag", "list", "Name of the new image", short="t", metavar="NAME"),
)  # fmt: skip
_INSPECT = (
    Flag("format", help="Go template over .Name .Manifest .Image .SBOM .Provenance", metavar="TEMPLATE"),
    Flag("raw", "bool", "Show the original JSON manifest"),
)


def command(words: Sequence[str], given: Globals) -> int:
    """``imagetools``: its subcommands."""
    commands: dict[str, Callable[[Sequence[str], Globals], int]] = {"create": _create, "inspect": _inspect}
    if not words or words[0] in ("--help", "-h"):
        raise HelpWanted(
            Command(
                f"{given.program} imagetools", "create | inspect",
                "Put images together in a registry, and look at them, without building.", global_flags(),
            )
        )  # fmt: skip
    if words[0] not in commands:
        raise UsageError(
            f"unknown command: imagetools {words[0]}", hint=f"see '{given.program} imagetools --help'"
        )
    return commands[words[0]](words[1:], given)


def _create(words: Sequence[str], given: Globals) -> int:
    about = (
        "Create an image from images that are in registries already. A single source that is an index is copied as it "
        "is; layers that are elsewhere are mounted or copied; attestations travel with their images."
    )
    spec = Command(
        f"{given.program} imagetools create", "[OPTIONS] [SOURCE...]", about, (*_CREATE, *access_flags(), *global_flags())
    )  # fmt: skip
    args = parse(spec, words)
    from ..imagetools import create
    from ..oci.reference import parse as parse_reference

    sources = [*(_source_file(p) for p in args.many("file")), *args.args]
    options = _options(args)
    named = [parse_reference(n) for n in args.many("tag")]
    settings = _settings(args, given, [r.registry for r in named] or _registries(args.args))
    with _Opened(settings) as tools:
        if not options.dry_run and args.text("progress") not in ("none", "quiet"):
            for ref in named:
                sys.stderr.write(f"pushing {ref.full}\n")
        made = create(tools, sources, args.many("tag"), options)
    if options.dry_run:
        sys.stdout.write(made.raw.decode() + "\n")
    elif args.text("progress") not in ("none", "quiet"):
        sys.stderr.write(f"created {made.descriptor.digest}\n")
    if args.text("metadata-file"):
        import json

        from .build import write_atomic

        write_atomic(args.text("metadata-file"), json.dumps(made.metadata, indent=2).encode())
    return 0


def _options(args: Parsed) -> CreateOptions:
    from ..imagetools import CreateOptions
    from ..optspec import annotation, platforms

    notes = [a for raw in args.many("annotation") for a in annotation(raw)]
    return CreateOptions(
        annotations=tuple((a.level, a.platform, a.key, a.value) for a in notes),
        append=args.flag("append"),
        dry_run=args.flag("dry-run"),
        platforms=platforms(args.many("platform")),
        prefer_index=args.flag("prefer-index"),
    )


def _source_file(path: str) -> str:
    try:
        with sys.stdin.buffer if path == "-" else open(path, "rb") as f:
            raw = f.read(_MAX_SOURCE + 1)
    except OSError as e:
        raise UsageError(f"failed to read source {path}: {e.strerror}") from None
    if len(raw) > _MAX_SOURCE:
        raise UsageError(f"source {path} is larger than 4 MiB")
    return raw.decode("utf-8", "replace").strip()


def _inspect(words: Sequence[str], given: Globals) -> int:
    about = "Show an image that is in a registry."
    spec = Command(
        f"{given.program} imagetools inspect", "[OPTIONS] NAME", about, (*_INSPECT, *access_flags(), *global_flags()), 1, 1
    )  # fmt: skip
    args = parse(spec, words)
    form = args.text("format")
    if form and args.flag("raw"):
        raise UsageError("format and raw cannot be used together")
    from ..imagetools import Inspection
    from .template import Fields, Template
    from .template_functions import json_indented

    template = Template(form, {"json": json_indented}) if form not in ("", "{{.Manifest}}") else None
    with _Opened(_settings(args, given, _registries(args.args))) as tools:
        found = Inspection(tools, args.args[0])
        if args.flag("raw"):
            sys.stdout.flush()
            sys.stdout.buffer.write(found.raw)  # to the byte: its digest is the image's
            sys.stdout.buffer.flush()
            return 0
        text = found.text() if template is None else template.render(Fields(found.fields(form))) + "\n"
    sys.stdout.write(text)
    return 0


def _registries(names: Sequence[str]) -> list[str]:
    from ..export.base import is_digest
    from ..oci.reference import parse as parse_reference

    return [parse_reference(n).registry for n in names if not n.startswith("{") and not is_digest(n)]


def _settings(args: Parsed, given: Globals, registries: Sequence[str]) -> Settings:
    from ..values import replace

    return replace(given.settings(args), access=access_of(args, registries))


class _Opened:
    """The store and the registry client, for one command."""

    def __init__(self, settings: Settings) -> None:
        from ..engine.engine import Engine

        self._engine = Engine(settings)

    def __enter__(self) -> Tools:
        from ..imagetools import Tools

        return Tools(self._engine.client, self._engine.content, self._engine.index)

    def __exit__(self, *exc: object) -> None:
        self._engine.close()
