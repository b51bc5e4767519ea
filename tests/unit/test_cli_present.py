"""Failures as the user reads them."""

from __future__ import annotations

import io

import pytest

from lapstrake.cli.present import describe, excerpt, present, warnings_summary
from lapstrake.errors import BuildError, Cancelled, DockerfileError, ExecError, Span, UsageError
from lapstrake.events import Warned

SOURCE = "FROM alpine\n\nRUNN echo hi\n"


def test_excerpt_of_one_line():
    assert excerpt(Span("Dockerfile", 3, 3, SOURCE)) == (
        "Dockerfile:3\n--------------------\n   1 |     FROM alpine\n   2 |\n   3 | >>> RUNN echo hi\n--------------------\n"
    )


def test_excerpt_of_several_lines():
    got = excerpt(Span("D", 2, 3, "a\nb \\\n c\nd\ne\n"))
    assert (
        got
        == "D:2\n--------------------\n   1 |     a\n   2 | >>> b \\\n   3 | >>>  c\n   4 |     d\n--------------------\n"
    )


@pytest.mark.parametrize("span", [Span("D", 9, 9, "a\n"), Span("D", 9, 9)])
def test_excerpt_without_the_place(span):
    assert excerpt(span) == "D:9\n"


def test_excerpt_cannot_steer_the_terminal():
    assert "\x1b" not in excerpt(Span("D", 1, 1, "RUN \x1b]0;owned\x07\n"))


def test_dockerfile_error():
    e = DockerfileError(
        "dockerfile parse error on line 3: unknown instruction: RUNN (did you mean RUN?)",
        span=Span("Dockerfile", 3, 3, SOURCE),
    )
    text = describe(e)
    assert text.startswith("Dockerfile:3\n")
    assert text.endswith(
        "ERROR: failed to build: failed to solve: dockerfile parse error on line 3: unknown instruction: RUNN (did you mean RUN?)\n"
    )


def test_exec_error_shows_the_last_ten_lines():
    e = ExecError(
        'process "/bin/sh -c x" did not complete successfully: exit code: 7',
        vertex="[2/2] RUN x",
        tail=tuple(f"0.{n:03d} line" for n in range(14)),
        hint="look",
    )
    text = describe(e)
    assert text.startswith("------\n > [2/2] RUN x:\n0.004 line\n")
    assert text.count(" line\n") == 10
    assert "------\nERROR: failed to build: failed to solve: process" in text
    assert text.endswith("hint: look\n")


@pytest.mark.parametrize(
    ("error", "code", "head"),
    [
        (UsageError("no"), 2, "ERROR: no\n"),
        (Cancelled("canceled"), 130, "ERROR: canceled\n"),
        (BuildError("x", exit_code=5), 5, "ERROR: failed to build: x\n"),
        (KeyboardInterrupt(), 130, "ERROR: canceled\n"),
        (
            FileNotFoundError(2, "No such file or directory", "/x"),
            1,
            "ERROR: No such file or directory: /x\n",
        ),
    ],
)
def test_codes(error, code, head):
    out = io.StringIO()
    assert present(error, stream=out) == code
    assert out.getvalue() == head


def test_a_bug_shows_where_to_report_it():
    out = io.StringIO()
    try:
        raise ZeroDivisionError("oops")
    except ZeroDivisionError as e:
        assert present(e, stream=out) == 1
    assert "Traceback" in out.getvalue()
    assert "ERROR: ZeroDivisionError: oops\nThis is a bug in Lapstrake." in out.getvalue()


def test_ascii_terminals():
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    assert present(UsageError("caf\u00e9"), stream=out) == 2
    out.flush()
    assert raw.getvalue() == b"ERROR: caf?\n"


def test_warnings():
    w = Warned(
        "d",
        "StageNameCasing: Stage name 'A' should be lowercase (line 1)",
        "Stage names should be lowercase",
        "https://x/",
        Span("D", 1, 1, "FROM a AS A\n"),
    )
    assert warnings_summary([]) == ""
    assert (
        warnings_summary([w, w])
        == "\n 1 warning found (use --debug to expand):\n - StageNameCasing: Stage name 'A' should be lowercase (line 1)\n"
    )
    long = warnings_summary([w], debug=True)
    assert "More info: https://x/\nD:1\n" in long
    assert warnings_summary([w], color=True).startswith("\n\x1b[33m 1 warning")
