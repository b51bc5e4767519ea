"""Typed instructions: what the parser gives and the planner reads.  All frozen, nothing expanded."""

from __future__ import annotations

from ..errors import Span
from ..values import Value


class Heredoc(Value):
    """One ``<<WORD`` body.  ``expand``: WORD was unquoted; ``chomp``: ``<<-`` (tabs already stripped from content)."""

    name: str
    content: str
    expand: bool
    chomp: bool
    fd: int = 0


class Flag(Value):
    """``--name[=value]`` as written (quotes and escapes removed); value None: not given."""

    name: str
    value: str | None


class Instruction(Value):
    """Common part.  ``keyword`` as written; ``original``: text after continuation joining;
    ``comments``: the comment lines directly above, without ``#``; ``checks``: inline ``# check=`` text."""

    keyword: str
    span: Span
    original: str = ""
    comments: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()
    empty_continuation: bool = False


class From(Instruction):
    """``FROM [--platform] image [AS name]``; ``name`` lower-cased, ``name_raw`` as written, ``as_keyword`` as written."""

    image: str = ""
    platform: str = ""
    name: str = ""
    name_raw: str = ""
    as_keyword: str = ""
    description: str = ""


class ArgPair(Value):
    """``NAME[=default]``; default is raw (quotes kept until expansion)."""

    name: str
    default: str | None
    description: str = ""


class Arg(Instruction):
    """``ARG n[=d] …``."""

    args: tuple[ArgPair, ...] = ()


class Env(Instruction):
    """``ENV``: raw (name, value) words, unexpanded; ``legacy``: the blank-separated form."""

    pairs: tuple[tuple[str, str], ...] = ()
    legacy: bool = False


class Label(Instruction):
    """``LABEL``: as Env."""

    pairs: tuple[tuple[str, str], ...] = ()
    legacy: bool = False


class CommandLine(Value):
    """Exec form (``shell`` False: ``args`` verbatim) or shell form (``shell`` True: one string)."""

    shell: bool
    args: tuple[str, ...]
    heredocs: tuple[Heredoc, ...] = ()


class Run(Instruction):
    """``RUN``; ``mounts``: raw ``--mount`` values in order (parsed by ``runflags.parse_mount`` after expansion)."""

    command: CommandLine = CommandLine(True, ("",))
    mounts: tuple[str, ...] = ()
    network: str = ""
    security: str = ""
    devices: tuple[str, ...] = ()


class Cmd(Instruction):
    """``CMD``."""

    command: CommandLine = CommandLine(True, ("",))


class Entrypoint(Instruction):
    """``ENTRYPOINT``."""

    command: CommandLine = CommandLine(True, ("",))


class CopyAdd(Instruction):
    """``COPY`` (``add`` False) and ``ADD``.  Sources, dest, chown, chmod, checksum unexpanded."""

    add: bool = False
    sources: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()  # sources given as heredocs, after ``sources`` in effect order
    dest: str = ""
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    checksum: str = ""
    keep_git_dir: bool | None = None
    unpack: bool | None = None


class Expose(Instruction):
    """``EXPOSE``: raw words."""

    ports: tuple[str, ...] = ()


class Volume(Instruction):
    """``VOLUME``: raw words or JSON elements."""

    paths: tuple[str, ...] = ()


class User(Instruction):
    """``USER``."""

    user: str = ""


class Workdir(Instruction):
    """``WORKDIR``."""

    path: str = ""


class StopSignal(Instruction):
    """``STOPSIGNAL``."""

    signal: str = ""


class Shell(Instruction):
    """``SHELL``."""

    shell: tuple[str, ...] = ()


class Maintainer(Instruction):
    """``MAINTAINER``."""

    author: str = ""


class Healthcheck(Instruction):
    """``HEALTHCHECK``: ``test`` as stored in the config; durations in nanoseconds, None: not given."""

    test: tuple[str, ...] = ()
    interval: int | None = None
    timeout: int | None = None
    start_period: int | None = None
    start_interval: int | None = None
    retries: int | None = None


class Onbuild(Instruction):
    """``ONBUILD``: the rest verbatim, heredocs included."""

    expression: str = ""


class Stage(Value):
    """One FROM block: ``index`` counts from 0."""

    index: int
    base: From
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        """The given name, or ``""``."""
        return self.base.name


class Dockerfile(Value):
    """A whole parsed file.  ``directives``: syntax, escape, check as written."""

    filename: str
    source: str
    escape: str
    directives: tuple[tuple[str, str], ...]
    global_args: tuple[Arg, ...]
    stages: tuple[Stage, ...]
