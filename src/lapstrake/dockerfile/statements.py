"""One function per instruction: its words to its value (spec §3-§10, §12, §14)."""

from __future__ import annotations

from ..errors import DockerfileError, Span
from . import instructions as ins
from .lexer import BLANKS, Line, json_words, parse_heredoc, raw_words, split_blanks, split_first
from .numbers import SPACE, is_digits, parse_duration, quote
from .runflags import NETWORKS, SECURITIES, parse_device, parse_mount
from .suggest import hint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_NAME_START = frozenset("abcdefghijklmnopqrstuvwxyz")
_NAME = _NAME_START | frozenset("0123456789-_.")
_MIN_INTERVAL = 10**6


class Words:
    """An instruction taken apart: keyword as written, flag words, the rest of the line."""

    __slots__ = ("common", "escape", "flags", "keyword", "line", "name", "rest")

    def __init__(
        self, keyword: str, rest: str, flags: list[str], line: Line, span: Span, escape: str
    ) -> None:
        self.keyword = keyword
        self.name = keyword.upper()
        self.rest = rest
        self.flags = flags
        self.line = line
        self.escape = escape
        self.common: dict[str, Any] = {
            "keyword": keyword, "span": span, "original": line.text, "comments": line.comments,
            "empty_continuation": line.empty_continuation,
        }  # fmt: skip

    def options(self, **spec: str) -> dict[str, Any]:
        """The flags by name: kind ``str``, ``bool`` or ``list``.  Any other flag is an error."""
        if not self.flags:
            return {}
        found: dict[str, Any] = {}
        kept: list[ins.Flag] = []
        kinds = {name.replace("_", "-"): kind for name, kind in spec.items()}
        for word in self.flags:
            name, equals, value = word[2:].partition("=")
            kind = kinds.get(name)
            if not word.startswith("--"):
                raise DockerfileError(f"arg should start with -- : {word}")
            if kind is None:
                raise DockerfileError(f"unknown flag: --{name}{hint(name, kinds)}")
            if name in found and kind != "list":
                raise DockerfileError(f"duplicate flag specified: --{name}")
            if (kind != "bool" and not equals) or (kind == "bool" and equals and not value):
                raise DockerfileError(f"missing a value on flag: --{name}")
            if kind == "bool":
                if value.lower() not in ("", "true", "false"):
                    raise DockerfileError(f"expecting boolean value for flag --{name}, not: {value}")
                found[name] = value.lower() != "false"
            elif kind == "list":
                found.setdefault(name, []).append(value)
            else:
                found[name] = value
            kept.append(ins.Flag(name, value if equals else None))
        self.common["flags"] = tuple(kept)
        return found

    def need(self) -> str:
        """The rest of the line, which must not be empty."""
        if not self.rest:
            raise DockerfileError(f"{self.name} requires at least one argument")
        return self.rest

    def exactly_one(self) -> str:
        """The rest of the line as one argument."""
        if not self.rest:
            raise DockerfileError(f"{self.name} requires exactly one argument")
        return self.rest

    def command(self, text: str | None = None) -> ins.CommandLine:
        """Exec or shell form of ``text`` (the rest)."""
        text = self.rest if text is None else text
        args = json_words(text)
        if args is not None:
            return ins.CommandLine(False, tuple(args))
        return ins.CommandLine(True, (text,), self.line.heredocs)

    def words(self) -> list[str]:
        """JSON elements or blank-separated words."""
        args = json_words(self.rest)
        return split_blanks(self.rest) if args is None else args


def _described(comments: tuple[str, ...], name: str) -> str:
    if name:
        for comment in comments:
            if comment.startswith(name + " "):
                return comment[len(name) + 1 :]
    return ""


def _from(w: Words) -> ins.From:
    args = split_blanks(w.rest)
    name_raw = as_keyword = ""
    if len(args) == 3 and args[1].lower() == "as":
        as_keyword, name_raw = args[1:]
        name = name_raw.lower()
        if name[0] not in _NAME_START or not _NAME.issuperset(name):
            raise DockerfileError(
                f"invalid name for build stage: {quote(name_raw)}, name can't start with a number or contain symbols"
            )
    elif len(args) != 1:
        raise DockerfileError("FROM requires either one or three arguments")
    flags = w.options(platform="str")
    name = name_raw.lower()
    return ins.From(
        **w.common, image=args[0], platform=flags.get("platform", ""), name=name, name_raw=name_raw,
        as_keyword=as_keyword, description=_described(w.line.comments, name),
    )  # fmt: skip


def _arg(w: Words) -> ins.Arg:
    w.need()
    pairs: list[ins.ArgPair] = []
    for word in raw_words(w.rest, w.escape):
        name, equals, default = word.partition("=")
        if not name:
            raise DockerfileError("ARG names can not be blank")
        pairs.append(ins.ArgPair(name, default if equals else None, _described(w.line.comments, name)))
    return ins.Arg(**w.common, args=tuple(pairs))


def _pairs(w: Words) -> tuple[tuple[tuple[str, str], ...], bool]:
    """The pairs of ENV and LABEL, and whether they are in the legacy form."""
    w.options()
    words = raw_words(w.need(), w.escape)
    if not words:
        raise DockerfileError(f"{w.name} must have two arguments")
    if "=" not in words[0]:
        for i, ch in enumerate(w.rest):
            if ch in BLANKS:
                return ((w.rest[:i], w.rest[i:].lstrip(BLANKS)),), True
        raise DockerfileError(f"{w.name} must have two arguments")
    out: list[tuple[str, str]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise DockerfileError(
                f"Syntax error - can't find = in {quote(word)}. Must be of the form: name=value"
            )
        if not name:
            raise DockerfileError(f"{w.name} names can not be blank")
        out.append((name, value))
    return tuple(out), False


def _env(w: Words) -> ins.Env:
    pairs, legacy = _pairs(w)
    return ins.Env(**w.common, pairs=pairs, legacy=legacy)


def _label(w: Words) -> ins.Label:
    pairs, legacy = _pairs(w)
    return ins.Label(**w.common, pairs=pairs, legacy=legacy)


def _run(w: Words) -> ins.Run:
    command = w.command()
    flags = w.options(mount="list", network="str", security="str", device="list")
    mounts = flags.get("mount", ())
    devices = flags.get("device", ())
    network, security = flags.get("network", ""), flags.get("security", "")
    for mount in mounts:
        parse_mount(mount, None)
    for device in devices:
        parse_device(device)
    if "network" in flags and network not in NETWORKS:
        raise DockerfileError(f"invalid network mode {quote(network)}{hint(network, NETWORKS)}")
    if "security" in flags and security not in SECURITIES:
        raise DockerfileError(f"security {quote(security)} is not valid{hint(security, SECURITIES)}")
    return ins.Run(
        **w.common,
        command=command,
        mounts=tuple(mounts),
        network=network,
        security=security,
        devices=tuple(devices),
    )


def _cmd(w: Words) -> ins.Cmd:
    w.options()
    return ins.Cmd(**w.common, command=w.command())


def _entrypoint(w: Words) -> ins.Entrypoint:
    w.options()
    return ins.Entrypoint(**w.common, command=w.command())


def _copy_add(w: Words) -> ins.CopyAdd:
    args = w.words()
    add = w.name == "ADD"
    if len(args) < 2:
        raise DockerfileError(
            f"{w.name} requires at least two arguments, but only one was provided. Destination could not be determined"
        )
    if add:
        flags = w.options(
            chown="str",
            chmod="str",
            link="bool",
            exclude="list",
            keep_git_dir="bool",
            checksum="str",
            unpack="bool",
        )
    else:
        flags = w.options(
            chown="str", chmod="str", link="bool", exclude="list", parents="bool", **{"from": "str"}
        )
    if parse_heredoc(args[-1]) is not None:
        raise DockerfileError(f"{w.name} cannot accept a heredoc as a destination")
    bodies = list(w.line.heredocs)
    heredocs: list[ins.Heredoc] = []
    sources: list[str] = []
    for word in args[:-1]:
        if bodies and parse_heredoc(word) is not None:
            heredocs.append(bodies.pop(0))
        else:
            sources.append(word)
    return ins.CopyAdd(
        **w.common, add=add, sources=tuple(sources), heredocs=tuple(heredocs), dest=args[-1],
        from_=flags.get("from", ""), chown=flags.get("chown", ""), chmod=flags.get("chmod", ""),
        link=flags.get("link", False), parents=flags.get("parents", False), exclude=tuple(flags.get("exclude", ())),
        checksum=flags.get("checksum", ""), keep_git_dir=flags.get("keep-git-dir"), unpack=flags.get("unpack"),
    )  # fmt: skip


def _expose(w: Words) -> ins.Expose:
    w.need()
    w.options()
    return ins.Expose(**w.common, ports=tuple(split_blanks(w.rest)))


def _volume(w: Words) -> ins.Volume:
    w.options()
    paths = [p.strip(SPACE) for p in w.words()]
    if not paths:
        raise DockerfileError("VOLUME requires at least one argument")
    if not all(paths):
        raise DockerfileError("VOLUME specified can not be an empty string")
    return ins.Volume(**w.common, paths=tuple(paths))


def _user(w: Words) -> ins.User:
    w.options()
    return ins.User(**w.common, user=w.exactly_one())


def _workdir(w: Words) -> ins.Workdir:
    w.options()
    return ins.Workdir(**w.common, path=w.exactly_one())


def _stopsignal(w: Words) -> ins.StopSignal:
    return ins.StopSignal(**w.common, signal=w.exactly_one())


def _maintainer(w: Words) -> ins.Maintainer:
    w.options()
    return ins.Maintainer(**w.common, author=w.exactly_one())


def _shell(w: Words) -> ins.Shell:
    w.options()
    args = json_words(w.need())
    if args is None:
        raise DockerfileError("SHELL requires the arguments to be in JSON form")
    if not args:
        raise DockerfileError("SHELL requires at least one argument")
    return ins.Shell(**w.common, shell=tuple(args))


def _healthcheck(w: Words) -> ins.Healthcheck:
    kind, rest = split_first(w.need())
    if kind.upper() == "NONE":
        if rest:
            raise DockerfileError("HEALTHCHECK NONE takes no arguments")
        return ins.Healthcheck(**w.common, test=("NONE",))
    flags = w.options(interval="str", timeout="str", start_period="str", start_interval="str", retries="str")
    if kind.upper() != "CMD":
        raise DockerfileError(f"Unknown type {quote(kind.upper())} in HEALTHCHECK (try CMD)")
    command = w.command(rest)
    if not rest or not command.args:
        raise DockerfileError("Missing command after HEALTHCHECK CMD")
    retries = None
    if text := flags.get("retries"):
        if not is_digits(text.lstrip("+-")) or len(text) > 10:
            raise DockerfileError(f"strconv.ParseInt: parsing {quote(text)}: invalid syntax")
        retries = int(text)
        if retries < 0:
            raise DockerfileError(f"--retries cannot be negative ({retries})")
    return ins.Healthcheck(
        **w.common, test=(("CMD-SHELL" if command.shell else "CMD"), *command.args),
        interval=_interval(flags, "interval"), timeout=_interval(flags, "timeout"),
        start_period=_interval(flags, "start-period"), start_interval=_interval(flags, "start-interval"), retries=retries,
    )  # fmt: skip


def _interval(flags: dict[str, Any], name: str) -> int | None:
    text = flags.get(name)
    if not text:
        return None
    try:
        value = parse_duration(text)
    except ValueError as e:
        raise DockerfileError(str(e)) from None
    if value != 0 and value < _MIN_INTERVAL:
        raise DockerfileError(f"Interval {quote(name)} cannot be less than 1ms")
    return value


def _onbuild(w: Words) -> ins.Onbuild:
    w.options()
    keyword = split_first(w.need())[0].upper()
    forbid_trigger(keyword)
    expression = w.rest
    for heredoc in w.line.heredocs:
        expression += f"\n{heredoc.content}{heredoc.name}"
    return ins.Onbuild(**w.common, expression=expression)


def forbid_trigger(keyword: str) -> None:
    """Raise for an instruction that ONBUILD can't hold (``keyword`` upper-case)."""
    if keyword == "ONBUILD":
        raise DockerfileError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if keyword in ("FROM", "MAINTAINER"):
        raise DockerfileError(f"{keyword} isn't allowed as an ONBUILD trigger")


STATEMENTS: dict[str, Callable[[Words], ins.Instruction]] = {
    "add": _copy_add, "arg": _arg, "cmd": _cmd, "copy": _copy_add, "entrypoint": _entrypoint, "env": _env,
    "expose": _expose, "from": _from, "healthcheck": _healthcheck, "label": _label, "maintainer": _maintainer,
    "onbuild": _onbuild, "run": _run, "shell": _shell, "stopsignal": _stopsignal, "user": _user,
    "volume": _volume, "workdir": _workdir,
}  # fmt: skip
"""Keyword (lower-case) to the function that makes its instruction."""
