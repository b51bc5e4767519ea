"""Which bake files are read, in which syntax (spec cli.md §3)."""

from __future__ import annotations

import os
import sys

from ..errors import BakeError, UsageError
from ..values import Value
from .source import MAX_FILE, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import BinaryIO

    from .load import Config
    from .syntax import Body

DEFAULTS = (
    "compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml", "docker-bake.json",
    "docker-bake.hcl", "docker-bake.override.json", "docker-bake.override.hcl",
)  # fmt: skip


class File(Value):
    """A bake file as read."""

    name: str
    data: bytes


class Inputs(Value):
    """What files are evaluated with.  ``environ`` is the client's; ``given``: ``--var``."""

    given: Mapping[str, str] = {}
    environ: Mapping[str, str] = {}
    context: str = ""
    platform: str = ""
    env_allowed: bool = True
    cwd: str = ""  # where .env is looked for
    file_relative: bool = False  # contexts are relative to their file (BUILDX_BAKE_FILE_RELATIVE_PATHS)

    def base(self, name: str) -> str:
        """The directory that a file's contexts start at; "" is the current one."""
        return os.path.dirname(name) if self.file_relative and name != "-" else ""


def names_of(given: Sequence[str], environ: Mapping[str, str]) -> tuple[list[str], bool]:
    """(names, are they required?): ``-f``, else BUILDX_BAKE_FILE, else the default names."""
    if given:
        return list(given), True
    listed = environ.get("BUILDX_BAKE_FILE", "")
    if listed:
        separator = environ.get("BUILDX_BAKE_PATH_SEPARATOR", "") or os.pathsep
        return [n for n in listed.split(separator) if n], True
    return list(DEFAULTS), False


def read_local(names: Sequence[str], *, required: bool, stdin: BinaryIO | None = None) -> list[File]:
    """Read files of this machine; missing ones are an error only when they were named."""
    out = []
    for name in names:
        if name == "-":
            out.append(File(name, (stdin or sys.stdin.buffer).read(MAX_FILE + 1)))
            continue
        path = name.removeprefix("cwd://")
        try:
            with open(path, "rb") as f:
                out.append(File(path, f.read(MAX_FILE + 1)))
        except FileNotFoundError:
            if required:
                raise UsageError(f"open {path}: no such file or directory", hint=_near(path)) from None
        except OSError as e:
            raise UsageError(f"open {path}: {(e.strerror or '').lower()}") from None
    if not out:
        raise UsageError(
            "couldn't find a bake definition",
            hint="a docker-bake.hcl, docker-bake.json or compose.yaml is looked for here; -f FILE names another",
        )
    return out


def _near(path: str) -> str | None:
    from difflib import get_close_matches

    try:
        near = get_close_matches(os.path.basename(path), os.listdir(os.path.dirname(path) or "."), 1)
    except OSError:
        return None
    return f"there is {near[0]}" if near else None


def is_compose(name: str) -> bool:
    """By its name."""
    return name.lower().endswith((".yml", ".yaml"))


def syntax_of(file: File) -> Body | None:
    """The tree of an HCL file in either syntax; None when it can only be a Compose file."""
    from . import jsonsyntax, parser

    source = Source.decode(file.name, file.data)
    lower = file.name.lower()
    if lower.endswith(".json"):
        return jsonsyntax.parse(source)
    if lower.endswith(".hcl"):
        return parser.parse(source)
    try:
        return parser.parse(source)
    except BakeError as error:
        if source.text.lstrip()[:1] == "{":
            return jsonsyntax.parse(source)
        from . import compose

        if compose.looks_like(source):
            return None
        raise error from None


def load(files: Sequence[File], inputs: Inputs) -> Config:
    """Evaluate all files: Compose ones first, then HCL, each over those before.  Raises BuildError."""
    from .load import Config, Loader
    from .variables import Variables

    composed, bodies = [], []
    for file in files:
        body = None if is_compose(file.name) else syntax_of(file)
        if body is None:
            composed.append(file)
        else:
            bodies.append(body)
    below: Config | None = None
    if composed:
        from . import compose

        below = compose.load(composed, inputs)
    if not bodies:
        return below or Config({}, {})
    builtins = {"BAKE_CMD_CONTEXT": inputs.context or "cwd://", "BAKE_LOCAL_PLATFORM": inputs.platform}
    builtins.update((n, inputs.given[n]) for n in list(builtins) if n in inputs.given)
    variables = Variables(inputs.given, inputs.environ if inputs.env_allowed else {})
    loader = Loader(bodies, builtins, variables)
    loader.bases = inputs.base
    return loader.load(below)
