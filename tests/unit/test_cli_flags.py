"""Flags are read as pflag reads them."""

from __future__ import annotations

import pytest

from lapstrake.cli.flags import Command, Flag, HelpWanted, parse, render_help
from lapstrake.errors import UsageError

CMD = Command(
    "prog build",
    "[OPTIONS] PATH",
    "Builds.",
    (
        Flag("tag", "list", "Name", short="t", metavar="NAME"),
        Flag("quiet", "bool", "Say little", short="q"),
        Flag("file", "string", "The file", short="f"),
        Flag("pull", "string", "Policy", implied="true"),
        Flag("jobs", "int", "Count"),
        Flag("secret-thing", "bool", hidden=True),
        Flag("destination", "list", alias_of="tag", hidden=True),
    ),
)


@pytest.mark.parametrize(
    ("argv", "args", "values"),
    [
        (["."], ["."], {}),
        ([".", "-t", "a"], ["."], {"tag": ["a"]}),
        (["-ta", "--tag=b", "--tag", "c", "."], ["."], {"tag": ["a", "b", "c"]}),
        (["-t=a", "."], ["."], {"tag": ["a"]}),
        (["-qta", "."], ["."], {"quiet": True, "tag": ["a"]}),
        (["--quiet=false", "."], ["."], {"quiet": False}),
        (["--quiet=T"], [], {"quiet": True}),
        (["--pull", "."], ["."], {"pull": "true"}),
        (["--pull=never", "."], ["."], {"pull": "never"}),
        (["--file", "-", "."], ["."], {"file": "-"}),
        (["-f", "-", "-"], ["-"], {"file": "-"}),
        (["--file", "--odd", "."], ["."], {"file": "--odd"}),
        (["--", "-t", "."], ["-t", "."], {"tag": []}),
        (["a", "--", "--x"], ["a", "--x"], {}),
        (["--destination", "x"], [], {"tag": ["x"]}),
        (["--file="], [], {"file": ""}),
        (["--jobs", "3"], [], {"jobs": 3}),
    ],
)
def test_accepted(argv, args, values):
    out = parse(CMD, argv)
    assert out.args == args
    assert {k: out.values[k] for k in values} == values


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--foo"], "unknown flag: --foo"),
        (["--foo=1"], "unknown flag: --foo"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["-qx"], "unknown shorthand flag: 'x' in -qx"),
        (["--tag"], "flag needs an argument: --tag"),
        (["-t"], "flag needs an argument: 't' in -t"),
        (["--=x"], "bad flag syntax: --=x"),
        (
            ["--quiet=maybe"],
            'invalid argument "maybe" for "--quiet" flag: strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
        (
            ["--jobs=x"],
            'invalid argument "x" for "--jobs" flag: strconv.ParseInt: parsing "x": invalid syntax',
        ),
    ],
)
def test_refused(argv, message):
    with pytest.raises(UsageError) as e:
        parse(CMD, argv)
    assert e.value.message == message
    assert e.value.exit_code == 2
    assert "prog build --help" in e.value.hint


def test_near_miss_is_suggested():
    with pytest.raises(UsageError) as e:
        parse(CMD, ["--tags=x"])
    assert "did you mean --tag?" in e.value.hint


def test_not_interspersed():
    run = Command("prog run", flags=(Flag("rm", "bool"),), interspersed=False)
    assert parse(run, ["--rm", "img", "ls", "--rm", "-l"]).args == ["img", "ls", "--rm", "-l"]


def test_counts():
    one = Command("prog x", "NAME", min_args=1, max_args=1)
    with pytest.raises(UsageError, match="'prog x' requires 1 argument"):
        parse(one, [])
    with pytest.raises(UsageError, match="requires 1 argument"):
        parse(one, ["a", "b"])


def test_help_stands_on_its_own():
    with pytest.raises(HelpWanted) as e:
        parse(CMD, ["--help"])
    text = render_help(e.value.command)
    assert text.startswith("Usage:  prog build [OPTIONS] PATH\n\nBuilds.\n\nOptions:\n")
    assert "  -t, --tag NAME " in text
    assert "secret-thing" not in text
    assert "destination" not in text
