"""Word expansion: the tables of the language specification."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapstrake.dockerfile.expand import expand, expand_heredoc, expand_words
from lapstrake.errors import DockerfileError

ENV = {"HOME": "/root", "EMPTY": "", "V": "a/b/c.tar.gz", "PORTS": "80 443"}

TABLE = [
    ("$HOME/x", "/root/x"),
    ("${HOME}x", "/rootx"),
    ('"$HOME"x', "/rootx"),
    ("'$HOME'", "$HOME"),
    (r"\$HOME", "$HOME"),
    (r'"\$HOME"', "$HOME"),
    (r"'\$HOME'", r"\$HOME"),
    (r"\\$HOME", r"\/root"),
    (r"a\tb", "atb"),
    (r'"a\tb"', r"a\tb"),
    (r'"a\\tb"', r"a\tb"),
    (r"it\'s", "it's"),
    ("end\\", "end"),
    ("$.", "$."),
    ("a$/b", "a$/b"),
    ("$1x", "x"),
    ("$@x$$y", "xy"),
    ("${X:-d}", "d"),
    ("${EMPTY:-d}", "d"),
    ("${EMPTY-d}", ""),
    ("${EMPTY+d}", "d"),
    ("${EMPTY:+d}", ""),
    ("${X:-${HOME:-z}}", "/root"),
    ("${X:-'a b'}", "a b"),
    ("${X:-d}}", "d}"),
    (r"${X:-\${HOME}z}", "${HOMEz}"),
    ("${HOME:+${HOME}:}/bin", "/root:/bin"),
    ("${V#*/}", "b/c.tar.gz"),
    ("${V##*/}", "c.tar.gz"),
    ("${V%.*}", "a/b/c.tar"),
    ("${V%%.*}", "a/b/c"),
    ("${V#x}", "a/b/c.tar.gz"),
    ("${V%x}", "a/b/c.tar.gz"),
    (r"${V/\//-}", "a-b/c.tar.gz"),
    (r"${V//\//-}", "a-b-c.tar.gz"),
    ("${V//?ar/zip}", "a/b/c.zip.gz"),
    ("${V/a*c/x}", "x.tar.gz"),
    ("${V//a/[$0]}", "[]/b/c.t[]r.gz"),
    (r"${V//a/[\$0]}", "[a]/b/c.t[a]r.gz"),
    (r"${V/a/\$1}", "$1/b/c.tar.gz"),
    ("${X/a/b}", ""),
    ("$größe", ""),
    ("plain", "plain"),
    ("", ""),
]

ERRORS = [
    (
        "it's",
        'failed to process "it\'s": unexpected end of statement while looking for matching single-quote',
    ),
    ('a"b', r'failed to process "a\"b": unexpected end of statement while looking for matching double-quote'),
    ("${}", 'failed to process "${}": syntax error: bad substitution'),
    ("${:-d}", 'failed to process "${:-d}": syntax error: bad substitution'),
    ("${:}", 'failed to process "${:}": syntax error: bad substitution'),
    ("${{X}}", 'failed to process "${{X}}": syntax error: bad substitution'),
    ("${.}", 'failed to process "${.}": unsupported modifier (.) in substitution'),
    ("${X:y}", 'failed to process "${X:y}": unsupported modifier (:y) in substitution'),
    ("${X:=y}", 'failed to process "${X:=y}": unsupported modifier (:=) in substitution'),
    ("${X:#y}", 'failed to process "${X:#y}": unsupported modifier (:#) in substitution'),
    ("${X", "failed to process \"${X\": syntax error: missing '}'"),
    ("${", "failed to process \"${\": syntax error: missing '}'"),
    ("${X:-d", "failed to process \"${X:-d\": syntax error: missing '}'"),
    ("${V/a}", "failed to process \"${V/a}\": syntax error: missing '/' in ${}"),
    ("${X?}", 'failed to process "${X?}": X: is not allowed to be unset'),
    ("${X:?}", 'failed to process "${X:?}": X: is not allowed to be unset'),
    ("${EMPTY:?}", 'failed to process "${EMPTY:?}": EMPTY: is not allowed to be empty'),
    ("${EMPTY:?need it}", 'failed to process "${EMPTY:?need it}": EMPTY: need it'),
    (
        r"${V#\x}",
        r'failed to process "${V#\\x}": invalid pattern (\x) in substitution: invalid escape ' + r"'\x'",
    ),
]


@pytest.mark.parametrize(("word", "result"), TABLE)
def test_expand(word: str, result: str) -> None:
    assert expand(word, ENV) == result


@pytest.mark.parametrize(("word", "message"), ERRORS)
def test_expand_error(word: str, message: str) -> None:
    with pytest.raises(DockerfileError) as e:
        expand(word, ENV)
    assert e.value.message == message


def test_backtick_escape() -> None:
    assert expand(r"c:\dir\`$HOME`x$HOME", ENV, "`") == r"c:\dir\$HOMEx/root"


@pytest.mark.parametrize(
    ("word", "result"),
    [
        ("$PORTS", ["80", "443"]),
        ('"$PORTS"', ["80 443"]),
        ("a$PORTS/tcp", ["a80", "443/tcp"]),
        ("$X", []),
        ("''", []),
        ("a b  c", ["a", "b", "c"]),
        ("a\\ b", ["a b"]),
    ],
)
def test_expand_words(word: str, result: list[str]) -> None:
    assert expand_words(word, ENV) == result


def test_heredoc_keeps_quotes() -> None:
    assert expand_heredoc("'$HOME' \"$HOME\" \\$HOME\nit's\n", ENV) == "'/root' \"/root\" $HOME\nit's\n"


def test_missing_names_are_told() -> None:
    seen: list[str] = []
    assert expand("$X ${Y:-d} $HOME ${Z+a} '$Q'", ENV, on_missing=seen.append) == " d /root  $Q"
    assert seen == ["X", "Y", "Z"]


def test_many_stars_are_quick() -> None:
    env = {"A": "a" * 3000}
    assert expand("${A##" + "*a" * 200 + "b}", env) == env["A"]
    assert expand("${A//" + "*a" * 20 + "b/x}", env) == env["A"]


@given(st.text(alphabet="$ {}:-+?#%/\\'\"aX*`\n", max_size=40))
def test_only_dockerfile_errors(word: str) -> None:
    for call in (expand, expand_words):
        try:
            call(word, {"a": "x y", "X": ""})
        except DockerfileError:
            pass
    try:
        expand_heredoc(word, {"a": "b"})
    except DockerfileError:
        pass


@given(st.text(alphabet="abc/.", max_size=12), st.text(alphabet="ab*?/.", max_size=6))
def test_trims_agree_with_a_slow_oracle(value: str, pattern: str) -> None:
    import re

    shown = re.compile(
        "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern), re.DOTALL
    )
    env = {"V": value}
    written = pattern.replace("/", r"\/")
    heads = [n for n in range(len(value) + 1) if shown.fullmatch(value[:n])]
    tails = [n for n in range(len(value) + 1) if shown.fullmatch(value[n:])]
    if not pattern.startswith(("#", "%")):
        assert expand(f"${{V##{written}}}", env) == (value[heads[-1] :] if heads else value)
        assert expand(f"${{V#{written}}}", env) == (value[heads[0] :] if heads else value)
        assert expand(f"${{V%{written}}}", env) == (value[: tails[-1]] if tails else value)
        assert expand(f"${{V%%{written}}}", env) == (value[: tails[0]] if tails else value)
        if pattern and not pattern.startswith("/"):
            assert expand(f"${{V/{written}/R}}", env) == shown.sub("R", value, count=1)
