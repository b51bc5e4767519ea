"""Step names: variables the plan knows, nothing a shell might know better (dockerfile.md §4, §7)."""

from __future__ import annotations

import pytest

from lapstrake.plan.labels import shown, summary

ENV = {"V": "1.2", "DIR": "/opt/x", "": "blank"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run echo $V", "RUN echo 1.2"),
        ("RUN echo ${V}-$DIR/$V", "RUN echo 1.2-/opt/x/1.2"),
        ("RUN echo $UNSET ${UNSET} ${V:-x} $(id) $$ $1", "RUN echo $UNSET ${UNSET} ${V:-x} $(id) $$ $1"),
        ("RUN echo '$V' \"$V\" \\$V", "RUN echo '$V' \"1.2\" \\$V"),
        ("RUN a   \tb\nsecond line", "RUN a b"),
        ("COPY $V ${", "COPY 1.2 ${"),
        ("RUN echo $", "RUN echo $"),
        ("RUN echo $. ${}", "RUN echo $. ${}"),
    ],
)
def test_shown(text, expected):
    assert shown(text, ENV) == expected


def test_summary():
    assert summary("one\n") == " (one)"
    assert summary("\n#!/bin/sh\r\necho\n") == " (#!/bin/sh...)"
