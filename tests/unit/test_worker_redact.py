"""Secrets in a step's output."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapstrake.worker.redact import Redactor

KEY = b"-----BEGIN KEY-----\nMIIabcdefgh\nijklmnopqrs\n-----END KEY-----\n"


def run(values, pieces, stream=1):
    r = Redactor(values)
    out = b"".join(r.feed(stream, p) for p in pieces)
    return out + b"".join(d for _, d in r.rest())


@pytest.mark.parametrize(
    ("values", "pieces", "shown"),
    [
        ([b"hunter2\n"], [b"the hunter2 is out"], b"the *** is out"),
        ([b"hunter2"], [b"a hun", b"ter", b"2 b"], b"a *** b"),
        ([b"hunter2"], [b"a hunt", b"ing b"], b"a hunting b"),
        ([b"hunter2"], [b"ends with hunt"], b"ends with hunt"),
        ([b"hhunter"], [b"hhhun", b"ter"], b"h***"),
        ([b"abcd", b"abcdef"], [b"abcdef abcd"], b"*** ***"),
        ([b"abc"], [b"abc"], b"abc"),
        ([b""], [b"x"], b"x"),
        ([], [b"x"], b"x"),
        ([KEY], [KEY], b"***\n"),
        ([KEY], [b"second: ijklmnopqrs\n"], b"second: ***\n"),
        ([b"x" * 5000 + b"\n" + b"y" * 20], [b"y" * 20 + b" " + b"x" * 5000], b"*** ***" + b"x" * 904),
    ],
)
def test_values_are_hidden(values, pieces, shown):
    assert run(values, pieces) == shown


def test_streams_are_apart():
    r = Redactor([b"hunter2"])
    assert r.feed(1, b"hun") == b""
    assert r.feed(2, b"ter2") == b"ter2"
    assert r.feed(1, b"ter2") == b"***"
    assert r.rest() == []


@given(st.text("ab", min_size=4, max_size=9), st.lists(st.text("abc", max_size=12), max_size=8))
def test_pieces_do_not_matter(value, pieces):
    whole = "".join(pieces)
    assert run([value.encode()], [p.encode() for p in pieces]) == whole.replace(value, "***").encode()


def test_it_is_quick_whatever_comes():
    r = Redactor([b"a" * 4000 + b"b"])
    start = time.process_time()
    for _ in range(160):
        r.feed(1, b"a" * 65536)
    assert time.process_time() - start < 10
