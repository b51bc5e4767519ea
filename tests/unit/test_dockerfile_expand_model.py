"""Expansion against a model: trees of words are written out, and must expand to what the tree means (spec §5.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapstrake.dockerfile.expand import expand
from lapstrake.errors import DockerfileError

ENV = {"SET": "value", "EMPTY": "", "PATHS": "a/b/c.tar.gz"}
NAMES = st.sampled_from(["SET", "EMPTY", "UNSET", "PATHS"])


class Node:
    """A piece of a word: ``text(escape, quoted)`` is how it is written, ``value`` what it means."""

    def __init__(self, text: str, value: str | None) -> None:
        self.text, self.value = text, value  # value None: expanding it is an error


def literal(raw: str) -> Node:
    return Node(raw, raw)


def single(raw: str) -> Node:
    return Node(f"'{raw}'", raw)


def variable(name: str, braces: bool) -> Node:
    return Node("${" + name + "}" if braces else "$" + name, ENV.get(name, ""))


def escaped(ch: str) -> Node:
    return Node("\\" + ch, ch)


def modified(name: str, op: str, word: Node) -> Node:
    value = ENV.get(name)
    absent = value is None or (op.startswith(":") and not value)
    if word.value is None:
        return Node(f"${{{name}{op}{word.text}}}", None)
    if op.endswith("-"):
        meant: str | None = word.value if absent else value
    elif op.endswith("+"):
        meant = "" if absent else word.value
    else:
        meant = None if absent else value
    return Node(f"${{{name}{op}{word.text}}}", meant)


def joined(parts: list[Node]) -> Node:
    """Side by side; a bare ``$NAME`` must not run into the next letters."""
    text, value = "", ""
    for part in parts:
        if text and text[-1].isalnum() and "$" in text.rpartition("}")[2] and part.text[:1].isalnum():
            text += "''"
        text += part.text
        if part.value is None:
            return Node("".join(p.text for p in parts), None)
        value += part.value
    return Node(text, value)


def double(parts: list[Node]) -> Node:
    inner = joined([p for p in parts if "'" not in p.text and "\\" not in p.text])
    return Node(f'"{inner.text}"', inner.value)


PLAIN = st.text(alphabet="abz./ _", min_size=1, max_size=4)
LEAF = st.one_of(
    PLAIN.map(literal),
    PLAIN.map(single),
    st.sampled_from("$'\"\\a").map(escaped),
    st.builds(variable, NAMES, st.just(True)),
)
WORD = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(joined),
        st.lists(inner, min_size=1, max_size=3).map(double),
        st.builds(modified, NAMES, st.sampled_from([":-", "-", ":+", "+", ":?", "?"]), inner),
    ),
    max_leaves=8,
)


@given(WORD)
def test_words_mean_what_they_were_made_from(word: Node) -> None:
    if word.value is None:
        with pytest.raises(DockerfileError, match="failed to process"):
            expand(word.text, ENV)
    else:
        assert expand(word.text, ENV) == word.value


@given(st.text(alphabet="ab$'\"\\{}:-x /", max_size=30))
def test_single_quotes_keep_everything(text: str) -> None:
    raw = text.replace("'", "")
    assert expand(f"'{raw}'", ENV) == raw


@given(st.text(alphabet="ab$'\"{}:-x /\\", max_size=30))
def test_escaping_every_character_keeps_everything(text: str) -> None:
    assert expand("".join("\\" + c for c in text), ENV) == text
