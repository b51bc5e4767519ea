"""Ignore rules and Go's filepath.Match."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapstrake.dockerfile.ignore import BadPattern, IgnoreRules, clean, has_wildcards, match
from lapstrake.errors import DockerfileError

MATCH = [
    ("abc", "abc", True), ("*", "abc", True), ("*c", "abc", True), ("a*", "a", True), ("a*", "abc", True), ("a*", "ab/c", False),
    ("a*/b", "abc/b", True), ("a*/b", "a/c/b", False), ("a*b*c*d*e*/f", "axbxcxdxe/f", True), ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True),
    ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False), ("a*b?c*x", "abxbbxdbxebxczzx", True), ("a*b?c*x", "abxbbxdbxebxczzy", False),
    ("ab[c]", "abc", True), ("ab[b-d]", "abc", True), ("ab[e-g]", "abc", False), ("ab[^c]", "abc", False), ("ab[^b-d]", "abc", False),
    ("ab[^e-g]", "abc", True), ("a\\*b", "a*b", True), ("a\\*b", "ab", False), ("a?b", "a☺b", True), ("a[^a]b", "a☺b", True),
    ("a???b", "a☺b", False), ("[a-ζ]*", "α", True), ("*[a-ζ]", "A", False), ("a?b", "a/b", False), ("a*b", "a/b", False),
    ("[\\]a]", "]", True), ("[\\-]", "-", True), ("[x\\-]", "x", True), ("[\\-x]", "x", True), ("*x", "xxx", True), (".*", ".git", True),
    ("", "", True), ("", "a", False), ("[!a]", "!", True), ("[!a]", "b", False), ("*", ".hidden", True),
]  # fmt: skip

BAD = ["[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "a\\", "[]", "[a"]

RULES = [
    ("*\n!src", {"src": 0, "src/a/b": 0, "x": 1, "x/src": 1}),
    ("*.md\n!README*.md\nREADME-secret.md", {"a.md": 1, "README.md": 0, "README-secret.md": 1, "d/a.md": 0}),
    ("node_modules", {"node_modules": 1, "node_modules/x": 1, "a/node_modules": 0}),
    ("**/node_modules", {"node_modules": 1, "a/b/node_modules/c": 1, "a/node": 0}),
    ("/build", {"build": 1, "build/x": 1, "a/build": 0}),
    ("**/*.pyc", {"a.pyc": 1, "a/b/c.pyc": 1, "a.py": 0}),
    ("a/*/c", {"a/x/c": 1, "a/x/c/d": 1, "a/x/y/c": 0}),
    ("# note\n # note", {"# note": 1, "note": 0}),
    ("foo/**", {"foo": 0, "foo/a": 1, "foo/a/b": 1}),
    ("**", {"a": 1, "a/b": 1}),
    ("**/foo/**", {"foo": 0, "foo/x": 1, "a/foo": 0, "a/foo/x/y": 1}),
    ("a/**/b", {"a/b": 1, "a/x/b": 1, "a/x/y/b/c": 1, "a": 0, "b": 0}),
    ("a//b/../c/", {"a/c": 1, "a/b": 0}),
    ("*/foo", {"foo": 0, "x/foo": 1, "x/y/foo": 0}),
    ("a\n!a/b\na/b/c", {"a": 1, "a/x": 1, "a/b": 0, "a/b/x": 0, "a/b/c": 1, "a/b/c/d": 1}),
    ("!a\na", {"a": 1}),
    ("[a-c]?\\*", {"bx*": 1, "bxy": 0}),
    ("**foo", {"foo": 1, "a/foo": 1, "xfoo": 0}),
    ("a**b", {"ab": 1, "ax/b": 1, "ax/y/b": 1, "axb": 0, "a/b": 1, "ab/c": 1}),
    ("a**", {"a": 1, "abc": 1, "ab/c": 1, "b": 0}),
    ("\ufeffx".encode().decode(), {"x": 1}),
    ("x\r\ny\r\n", {"x": 1, "y": 1}),
    ("", {"x": 0}),
    (".", {"x": 0}),
]


@pytest.mark.parametrize(("pattern", "name", "expected"), MATCH)
def test_match(pattern: str, name: str, expected: bool) -> None:
    assert match(pattern, name) is expected


@pytest.mark.parametrize("pattern", BAD)
def test_bad_pattern(pattern: str) -> None:
    with pytest.raises(BadPattern, match="syntax error in pattern"):
        match(pattern, "a")


@pytest.mark.parametrize(("text", "paths"), RULES)
def test_rules(text: str, paths: dict[str, int]) -> None:
    rules = IgnoreRules.parse(text.encode())
    assert {p: int(rules.excluded(p)) for p in paths} == paths


@pytest.mark.parametrize(
    ("text", "path", "skip"),
    [
        ("a", "a", True), ("a\n!b", "a", True), ("a\n!a/b", "a", False), ("a\n!a/b", "a/c", True), ("*\n!src/**/x", "src", False),
        ("*\n!src/**/x", "lib", True), ("*\n!**/x", "lib", False), ("!a/b\na", "a", True), ("b", "a", False), ("a\n!a*z/q", "a", True),
        ("*\n!a/*/c", "a/b", False), ("*\n!a/*/c", "b/a", True),
    ],
)  # fmt: skip
def test_can_skip_dir(text: str, path: str, skip: bool) -> None:
    assert IgnoreRules.parse(text.encode()).can_skip_dir(path) is skip


def test_rule_for() -> None:
    rules = IgnoreRules.parse(b"# c\n*\n\n!src\n")
    assert rules.has_exceptions
    assert rules.rule_for("a/b") == (2, "*")
    assert rules.rule_for("src/x") == (4, "!src")
    assert IgnoreRules.parse(b"a").rule_for("b") is None


@pytest.mark.parametrize(
    ("text", "message"), [("a\n!", 'illegal exclusion pattern: "!"'), ("a[", "syntax error in pattern")]
)
def test_errors_name_the_line(text: str, message: str) -> None:
    with pytest.raises(DockerfileError) as e:
        IgnoreRules.parse(text.encode())
    assert e.value.message == f"failed parsing .dockerignore: {message}"
    assert e.value.span is not None and e.value.span.first == text.count("\n") + 1


def test_hostile_patterns_are_quick() -> None:
    assert not match("*a" * 50 + "b", "a" * 500)
    assert not IgnoreRules.parse(("**/a/" * 40 + "b").encode()).excluded("a/" * 200 + "c")
    assert not IgnoreRules.parse(("a**" * 30 + "b").encode()).excluded("a" * 400)


def test_clean_and_wildcards() -> None:
    assert [clean(p) for p in ("", "a//b/../c", "/../a", "./a/", "../a", "/", "a/..")] == [
        ".",
        "a/c",
        "/a",
        "a",
        "../a",
        "/",
        ".",
    ]
    assert has_wildcards("a*") and has_wildcards("[a]") and not has_wildcards("a/b.c")


@given(
    st.lists(st.text(alphabet="ab*/!?", max_size=7), max_size=4),
    st.text(alphabet="ab/", min_size=1, max_size=7),
)
def test_skipped_directories_hold_nothing(patterns: list[str], path: str) -> None:
    try:
        rules = IgnoreRules.parse("\n".join(patterns).encode())
    except DockerfileError:
        return
    path = clean(path).lstrip("/")
    if path not in ("", ".") and rules.can_skip_dir(path):
        for below in ("a", "b", "ab", "a/b", "b/a/a", "aa/b"):
            assert rules.excluded(f"{path}/{below}")


@given(
    st.lists(st.sampled_from(["a", "b", "*", "**", "?b", "a*", "/", "**b", "a**"]), min_size=1, max_size=6),
    st.text(alphabet="ab/", min_size=1, max_size=8),
)
def test_rules_agree_with_a_slow_oracle(pieces: list[str], path: str) -> None:
    import re

    pattern = clean("".join(pieces)).lstrip("/")
    path = clean(path).strip("/")
    if path in ("", ".") or not pattern or pattern == ".":
        return
    out, i = "", 0
    while i < len(pattern):
        if pattern.startswith("**", i):
            while pattern[i : i + 1] == "*":
                i += 1
            if pattern[i : i + 1] == "/":
                i += 1
            out += "(.*/)?" if i < len(pattern) else ".*"
            continue
        out += {"*": "[^/]*", "?": "[^/]"}.get(pattern[i], re.escape(pattern[i]))
        i += 1
    names = path.split("/")
    wanted = any(re.fullmatch(out, "/".join(names[:n])) for n in range(1, len(names) + 1))
    assert IgnoreRules.parse(pattern.encode()).excluded(path) is wanted
