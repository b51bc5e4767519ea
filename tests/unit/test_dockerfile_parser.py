"""The parser: one table per section of the language specification."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapstrake.dockerfile import instructions as ins
from lapstrake.dockerfile.parser import parse, parse_onbuild
from lapstrake.errors import DockerfileError, Span


def one(text: str) -> ins.Instruction:
    """The single instruction of a stage."""
    (stage,) = parse(b"FROM scratch\n" + text.encode(), "Dockerfile").stages
    (instruction,) = stage.instructions
    return instruction


def directives(text: str) -> dict[str, str]:
    return dict(parse(text.encode(), "Dockerfile").directives)


def message(text: str | bytes) -> str:
    with pytest.raises(DockerfileError) as e:
        parse(text.encode() if isinstance(text, str) else text, "Dockerfile")
    return e.value.message


# -- §0, §1 ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the Dockerfile cannot be empty"),
        ("# only\n\n", "file with no instructions"),
        ("ARG A=1\n", "dockerfile contains no stages to build"),
        ("RUN x\n", "dockerfile parse error on line 1: no build stage in current context"),
        ("FROM a\nRUN " + "x" * 65536, "dockerfile line greater than max allowed size of 65535"),
        (
            "# syntax=a\n# syntax=b\nFROM a",
            "dockerfile parse error on line 2: only one syntax parser directive can be used",
        ),
        (
            "# escape=x\nFROM a",
            "dockerfile parse error on line 1: invalid escape token 'x' does not match ` or \\",
        ),
    ],
)
def test_whole_file_errors(text: str, expected: str) -> None:
    assert message(text) == expected


def test_bom_and_crlf() -> None:
    d = parse("\ufeffFROM a \\\r\n  AS b\r\nRUN <<E\r\nx\r\nE\r\n".encode(), "Dockerfile")
    assert d.stages[0].name == "b"
    run = d.stages[0].instructions[0]
    assert isinstance(run, ins.Run) and run.command.heredocs[0].content == "x\r\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "# syntax=docker/dockerfile:1 --x\n#  ESCAPE = `\nFROM a",
            {"syntax": "docker/dockerfile:1 --x", "escape": "`"},
        ),
        ("# check=skip=all\nFROM a", {"check": "skip=all"}),
        ("# note\n# syntax=a\nFROM a", {}),
        ("\n# syntax=a\nFROM a", {}),
        ("# other=1\n# syntax=a\nFROM a", {}),
        ("#!/x\n# syntax=a\nFROM a", {"syntax": "a"}),
        (" # syntax=a\nFROM a", {}),
        (" # escape=`\nFROM a", {"escape": "`"}),
        ("# escape=\nFROM a", {}),
    ],
)
def test_directives(text: str, expected: dict[str, str]) -> None:
    assert directives(text) == expected


# -- §2 ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("RUN a \\\n  b", "a   b"),
        ("RUN a\\\nb", "ab"),
        ("RUN a \\  \t\n b", "a  b"),
        ("RUN a \\\n# note\n  # note\n b", "a  b"),
        ("RUN a \\\n\n\n b", "a  b"),
        ("RUN a \\", "a"),
        ("RUN a # b", "a # b"),
        ("   run   a", "a"),
        ("RUN a\\\\", "a\\\\"),
        ("RUN \\\n\\\na", "a"),
        ("\\\nRUN a", "a"),
        ("RUN\ta", "a"),
        ("RUN --network=none -- --x", "--x"),
        ("RUN -- --network=none", "--network=none"),
    ],
)
def test_lines(text: str, command: str) -> None:
    run = one(text)
    assert isinstance(run, ins.Run)
    assert run.command == ins.CommandLine(True, (command,))


def test_spans_comments_and_empty_continuations() -> None:
    d = parse(b"# base image\nFROM a AS base\n# lost\n#\n# one\n\n# two\nRUN a \\\n\n  b\nRUN c\n", "F")
    assert d.stages[0].base.description == "image"
    first, second = d.stages[0].instructions
    assert (first.span.first, first.span.last, first.comments, first.empty_continuation) == (
        8,
        10,
        ("one", "two"),
        True,
    )
    assert (second.span.first, second.span.last, second.comments, second.empty_continuation) == (
        11,
        11,
        (),
        False,
    )
    assert first.span.filename == "F" and first.span.source == d.source and first.keyword == "RUN"


def test_backtick_escape() -> None:
    d = parse(b"# escape=`\nFROM a\nRUN dir `\n c:\\\nRUN x", "F")
    assert [i.original for i in d.stages[0].instructions] == ["RUN dir  c:\\", "RUN x"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("COPY --frm=x a b", "unknown flag: --frm (did you mean from?)"),
        ("COPY --xyz a b", "unknown flag: --xyz"),
        ("COPY --chown=a --chown=b a b", "duplicate flag specified: --chown"),
        ("COPY --chown a b", "missing a value on flag: --chown"),
        ("COPY --link=foo a b", "expecting boolean value for flag --link, not: foo"),
        ("COPY --link= a b", "missing a value on flag: --link"),
        ("COPY --keep-git-dir a b", "unknown flag: --keep-git-dir"),
        ("ADD --from=x a b", "unknown flag: --from"),
        ("ENV --x a=b", "unknown flag: --x"),
        ("RUNN x", "unknown instruction: RUNN (did you mean RUN?)"),
        ("cpy x", "unknown instruction: cpy (did you mean copy?)"),
        ("FOOBAR x", "unknown instruction: FOOBAR"),
        ("COPY a", "COPY requires at least two arguments, but only one was provided. Destination could not be determined"),
        ("ADD [\"a\"]", "ADD requires at least two arguments, but only one was provided. Destination could not be determined"),
        ("COPY a <<EOF\nEOF", "COPY cannot accept a heredoc as a destination"),
        ("COPY <<EOF b\nx", "unterminated heredoc"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("USER", "USER requires exactly one argument"),
        ("STOPSIGNAL", "STOPSIGNAL requires exactly one argument"),
        ("MAINTAINER", "MAINTAINER requires exactly one argument"),
        ("ARG", "ARG requires at least one argument"),
        ("ARG =x", "ARG names can not be blank"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV a", "ENV must have two arguments"),
        ("ENV =a", "ENV names can not be blank"),
        ("ENV a=b c", 'Syntax error - can\'t find = in "c". Must be of the form: name=value'),
        ("LABEL", "LABEL requires at least one argument"),
        ("LABEL a", "LABEL must have two arguments"),
        ('LABEL =""', "LABEL names can not be blank"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ('VOLUME ["a", " "]', "VOLUME specified can not be an empty string"),
        ("SHELL bash", "SHELL requires the arguments to be in JSON form"),
        ("SHELL []", "SHELL requires at least one argument"),
        ('CMD ["a", 1]', "when using JSON array syntax, arrays must be comprised of strings only"),
        ('CMD ["a", ["b"]]', "when using JSON array syntax, arrays must be comprised of strings only"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD from x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD MAINTAINER x", "MAINTAINER isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK CMD []", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK foo", 'Unknown type "FOO" in HEALTHCHECK (try CMD)'),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"),
        ("HEALTHCHECK --interval=1us CMD x", 'Interval "interval" cannot be less than 1ms'),
        ("HEALTHCHECK --interval=5 CMD x", 'time: missing unit in duration "5"'),
        ("FROM", "FROM requires either one or three arguments"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM a on b", "FROM requires either one or three arguments"),
        ("FROM a AS 1b", "invalid name for build stage: \"1b\", name can't start with a number or contain symbols"),
        ("FROM a AS b/c", "invalid name for build stage: \"b/c\", name can't start with a number or contain symbols"),
        ("RUN --network=foo x", 'invalid network mode "foo"'),
        ("RUN --security=foo x", 'security "foo" is not valid'),
        ("RUN --mount=typ=cache x", "unexpected key 'typ' in 'typ=cache' (did you mean type?)"),
    ],
)  # fmt: skip
def test_instruction_errors(text: str, expected: str) -> None:
    assert message(f"FROM scratch\n\n{text}\n") == f"dockerfile parse error on line 3: {expected}"


def test_all_errors_at_once() -> None:
    with pytest.raises(DockerfileError) as e:
        parse(b"FROM a b\nRUN x\nUSER\nFROM c\nCOPY \\\n  a\n", "F")
    found = [e.value, *e.value.others]
    assert [x.span and (x.span.first, x.span.last) for x in found] == [(1, 1), (3, 3), (5, 6)]


# -- §3 ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rest", "shell", "args"),
    [
        ('["a", "b"]', False, ("a", "b")),
        ('[ "a" , "\\u0041\\n\\"" ]', False, ("a", 'A\n"')),
        ('["\\ud83d\\ude00\\ud800"]', False, ("😀\ufffd",)),
        ("[]", False, ()),
        ("[ ]", False, ()),
        ("['a']", True, ("['a']",)),
        ('["a",]', True, ('["a",]',)),
        ('["a"] x', True, ('["a"] x',)),
        ('["c:\\x"]', True, ('["c:\\x"]',)),
        ("[NaN]", True, ("[NaN]",)),
        ("[ -f /x ]", True, ("[ -f /x ]",)),
        ("[", True, ("[",)),
        ('["a', True, ('["a',)),
        ('echo "x"', True, ('echo "x"',)),
    ],
)
def test_exec_and_shell_form(rest: str, shell: bool, args: tuple[str, ...]) -> None:
    for keyword, kind in (("CMD", ins.Cmd), ("ENTRYPOINT", ins.Entrypoint), ("RUN", ins.Run)):
        got = one(f"{keyword} {rest}")
        assert isinstance(got, kind)
        assert got.command == ins.CommandLine(shell, args)


def test_json_copy_and_volume() -> None:
    copy = one('COPY ["a b", "c", "d e/"]')
    assert isinstance(copy, ins.CopyAdd) and (copy.sources, copy.dest) == (("a b", "c"), "d e/")
    for rest, paths in (('["/a", "/b"]', ("/a", "/b")), ("/a  /b", ("/a", "/b")), ("['/a']", ("['/a']",))):
        volume = one(f"VOLUME {rest}")
        assert isinstance(volume, ins.Volume) and volume.paths == paths


# -- §4 ----------------------------------------------------------------------

H = ins.Heredoc


@pytest.mark.parametrize(
    ("text", "heredocs"),
    [
        ("RUN <<EOF\na\n  b\nEOF", (H("EOF", "a\n  b\n", True, False),)),
        ("RUN <<-EOF\n\ta\n\t\tb\n\tEOF", (H("EOF", "a\nb\n", True, True),)),
        ("RUN <<'EOF'\n$a\nEOF", (H("EOF", "$a\n", False, False),)),
        ('RUN <<E"O"F\nEOF', (H("EOF", "", False, False),)),
        (
            "RUN cat <<A >x && cat <<B >y\n1\nA\n2\nB",
            (H("A", "1\n", True, False), H("B", "2\n", True, False)),
        ),
        ("RUN 3<<EOF cat <&3\nx\nEOF", (H("EOF", "x\n", True, False, 3),)),
        ("RUN <<EOF\n# no comment\nx \\\n EOF\nEOF", (H("EOF", "# no comment\nx \\\n EOF\n", True, False),)),
        ("RUN cat <<<EOF", ()),
        ("RUN echo $((1<<2))", ()),
        ("RUN echo '<<EOF'", ()),
        ('RUN ["sh", "-c", "<<EOF"]', ()),
        ("RUN echo $((1 << 2))", ()),
        ("RUN --mount=type=cache,target=/x <<EOF\ny\nEOF", (H("EOF", "y\n", True, False),)),
    ],
)
def test_run_heredocs(text: str, heredocs: tuple[ins.Heredoc, ...]) -> None:
    run = one(text)
    assert isinstance(run, ins.Run)
    assert run.command.heredocs == heredocs
    assert (run.span.first, run.span.last) == (2, 2 + text.count("\n"))


def test_copy_heredocs() -> None:
    copy = one("COPY x <<a.txt <<b.txt y /dir/\n1\na.txt\n2\nb.txt")
    assert isinstance(copy, ins.CopyAdd)
    assert [h.name for h in copy.heredocs] == ["a.txt", "b.txt"]
    assert (copy.sources, copy.dest) == (("x", "y"), "/dir/")


def test_onbuild_keeps_heredocs() -> None:
    got = one("ONBUILD RUN <<EOF\na\nEOF")
    assert isinstance(got, ins.Onbuild)
    assert got.expression == "RUN <<EOF\na\nEOF"
    span = Span("F", 1, 1, "FROM x")
    run = parse_onbuild(got.expression, span)
    assert isinstance(run, ins.Run) and run.span == span and run.command.heredocs[0].content == "a\n"


@pytest.mark.parametrize("text", ["RUN a\nRUN b", "", "# x"])
def test_onbuild_single_expression(text: str) -> None:
    with pytest.raises(DockerfileError, match="onbuild trigger should be a single expression") as e:
        parse_onbuild(text, Span("F", 1, 1, ""), "\\")
    assert e.value.span is not None


# -- §6 to §12 ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pairs", "legacy"),
    [
        ('ENV k=v k2="v 2" k3=v\\ 3', (("k", "v"), ("k2", '"v 2"'), ("k3", "v\\ 3")), False),
        ("ENV k rest of  line", (("k", "rest of  line"),), True),
        ("ENV a= b=''", (("a", ""), ("b", "''")), False),
        ("ENV a=b=c", (("a", "b=c"),), False),
        ("ENV a b=c", (("a", "b=c"),), True),
        ("ENV a=1 \\\n    b=2", (("a", "1"), ("b", "2")), False),
        ("ENV 'a b'=c", (("'a b'", "c"),), False),
    ],
)
def test_env_and_label(text: str, pairs: tuple[tuple[str, str], ...], legacy: bool) -> None:
    env = one(text)
    assert isinstance(env, ins.Env) and (env.pairs, env.legacy) == (pairs, legacy)
    label = one(text.replace("ENV", "LABEL"))
    assert isinstance(label, ins.Label) and (label.pairs, label.legacy) == (pairs, legacy)


def test_arg() -> None:
    arg = one('# A the first\n# B the other\nARG A=1 B="x y" C D=')
    assert isinstance(arg, ins.Arg)
    assert arg.args == (
        ins.ArgPair("A", "1", "the first"),
        ins.ArgPair("B", '"x y"', "the other"),
        ins.ArgPair("C", None),
        ins.ArgPair("D", ""),
    )


def test_stages() -> None:
    d = parse(
        b"ARG V=1\nARG W\nFROM --platform=$BUILDPLATFORM go:$V as Build\nRUN a\nFROM scratch\nCOPY --from=build a b\n",
        "F",
    )
    assert [a.args[0].name for a in d.global_args] == ["V", "W"]
    base = d.stages[0].base
    assert (base.image, base.platform, base.name, base.name_raw, base.as_keyword) == (
        "go:$V",
        "$BUILDPLATFORM",
        "build",
        "Build",
        "as",
    )
    assert [(s.index, s.name, len(s.instructions)) for s in d.stages] == [(0, "build", 1), (1, "", 1)]


def test_copy_flags() -> None:
    copy = one(
        "COPY --from=a --chown='b c' --chmod=u=rwX --link --parents=false --exclude=x --exclude=y s t d"
    )
    assert isinstance(copy, ins.CopyAdd)
    assert (copy.from_, copy.chown, copy.chmod, copy.link, copy.parents, copy.exclude) == (
        "a",
        "b c",
        "u=rwX",
        True,
        False,
        ("x", "y"),
    )
    assert (copy.sources, copy.dest, copy.add, copy.unpack) == (("s", "t"), "d", False, None)
    assert copy.flags[0] == ins.Flag("from", "a") and copy.flags[3] == ins.Flag("link", None)
    add = one("ADD --keep-git-dir --checksum=sha256:x --unpack=false u d")
    assert isinstance(add, ins.CopyAdd)
    assert (add.add, add.keep_git_dir, add.checksum, add.unpack) == (True, True, "sha256:x", False)


def test_run_flags() -> None:
    run = one(
        "RUN --mount=type=cache,target=/a --network=none --mount=type=tmpfs,target=/b --security=insecure --device=x/y x"
    )
    assert isinstance(run, ins.Run)
    assert run.mounts == ("type=cache,target=/a", "type=tmpfs,target=/b")
    assert (run.network, run.security, run.devices) == ("none", "insecure", ("x/y",))


def test_healthcheck() -> None:
    got = one(
        'HEALTHCHECK --interval=1m30s --timeout=0 --start-period=100ms --start-interval=1.5s --retries=3 CMD ["a", "b"]'
    )
    assert isinstance(got, ins.Healthcheck)
    assert (got.test, got.interval, got.timeout, got.start_period, got.start_interval, got.retries) == (
        ("CMD", "a", "b"),
        90 * 10**9,
        0,
        10**8,
        15 * 10**8,
        3,
    )
    got = one("HEALTHCHECK CMD curl -f x")
    assert isinstance(got, ins.Healthcheck) and (got.test, got.interval, got.retries) == (
        ("CMD-SHELL", "curl -f x"),
        None,
        None,
    )
    got = one("healthcheck none")
    assert isinstance(got, ins.Healthcheck) and got.test == ("NONE",)


def test_plain_arguments() -> None:
    for text, attribute, value in (
        ("USER a b", "user", "a b"), ("WORKDIR /a b", "path", "/a b"), ("STOPSIGNAL 9", "signal", "9"), ("MAINTAINER A <b>", "author", "A <b>"),
        ("EXPOSE 80  443/tcp $P", "ports", ("80", "443/tcp", "$P")), ('SHELL ["a", "-c"]', "shell", ("a", "-c")),
    ):  # fmt: skip
        assert getattr(one(text), attribute) == value


def test_invalid_utf8_survives() -> None:
    run = parse(b"FROM a\nRUN \xff", "F").stages[0].instructions[0]
    assert run.original.encode("utf-8", "surrogateescape") == b"RUN \xff"


# -- robustness and speed ----------------------------------------------------

_PIECES = [
    "FROM a",
    "FROM a AS b",
    "RUN ",
    "COPY ",
    "ENV ",
    "ARG ",
    "HEALTHCHECK ",
    "ONBUILD ",
    "VOLUME ",
    "SHELL ",
    "EXPOSE ",
    "LABEL ",
    "CMD ",
    "ADD ",
]
_PIECES += [
    "\n",
    "\\\n",
    " ",
    "<<EOF",
    "<<-'X'",
    "EOF\n",
    "[",
    '"',
    "]",
    ",",
    "'",
    "=",
    "--",
    "--mount=",
    "--from=",
    "$",
    "{",
    "}",
    "#",
    "# escape=`\n",
    "`",
    "\\",
    "\r",
    "\t",
    "a",
    "1",
]


@given(st.lists(st.sampled_from(_PIECES), max_size=30).map("".join))
@settings(max_examples=400, deadline=None)
def test_nothing_but_dockerfile_errors(text: str) -> None:
    try:
        parse(text.encode(), "F")
    except DockerfileError as e:
        assert e.span is not None


@given(st.binary(max_size=80))
@settings(deadline=None)
def test_any_bytes(data: bytes) -> None:
    for prefix in (b"", b"FROM a\nRUN ", b"FROM a\nCOPY [", b'FROM a\nCMD ["'):
        try:
            parse(prefix + data, "F")
        except DockerfileError as e:
            assert e.span is not None


def test_forty_lines_take_about_a_millisecond() -> None:
    text = (
        b"FROM alpine AS build\n"
        + b'ENV A=1 B=2\nRUN apk add --no-cache \\\n  a b c\nCOPY --from=build /a /b\nCMD ["a"]\n' * 8
    )
    parse(text, "F")
    best = min(_timed(text) for _ in range(20))
    assert best < 0.005


def _timed(text: bytes) -> float:
    start = time.perf_counter()
    parse(text, "F")
    return time.perf_counter() - start


def test_the_package_is_pure_and_light() -> None:
    import ast
    import subprocess
    import sys
    from pathlib import Path

    import lapstrake.dockerfile as package

    folder = Path(package.__file__).parent
    banned = {"os", "pathlib", "subprocess", "time", "socket", "threading", "re", "shutil", "tempfile"}
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom) and not node.level
                else []
            )
            assert not banned & set(names), path
    code = "import sys; import lapstrake.dockerfile.parser as p, lapstrake.dockerfile.lint as l\n"
    code += "l.check(p.parse(b'ARG V=1\\nFROM a:$V AS b\\nCMD [\"x\"]', 'F')); print([m for m in ('re', 'json', 'enum', 'typing') if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(folder.parent.parent)},
        timeout=60,
    )
    assert found.stdout.strip() == "[]"
