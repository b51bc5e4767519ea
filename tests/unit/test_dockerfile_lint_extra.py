"""The checks under a prefix of our own: which are on, how they are asked for, what they find (lint.md §6)."""

from __future__ import annotations

import pytest

from lapstrake.dockerfile import lint
from lapstrake.dockerfile.lint_extra import BY_DEFAULT, EXTRA_RULES, PREFIX, check_extra
from lapstrake.dockerfile.parser import parse

CASES = [
    ("LapstrakeUnpinnedBase", "FROM alpine\n", "FROM alpine:3.20\n"),
    ("LapstrakeUnpinnedBase", "FROM alpine:latest\n", "FROM alpine@sha256:" + "0" * 64 + "\n"),
    ("LapstrakeUnpinnedBase", "FROM localhost:5000/x\n", "FROM a:1 AS b\nFROM b\n"),
    (
        "LapstrakeAptUpdateAlone",
        "FROM a:1\nRUN apt-get update\n",
        "FROM a:1\nRUN apt-get update && apt-get install x\n",
    ),
    (
        "LapstrakeAddForCopy",
        "FROM a:1\nADD x /y\n",
        "FROM a:1\nADD x.tar.gz /y\nADD https://e.org/x /y\nADD <<E /x\nE\n",
    ),
    ("LapstrakeRootUser", "FROM a:1\n", "FROM a:1 AS b\nUSER app\nFROM b\n"),
    ("LapstrakeRootUser", "FROM a:1\nUSER app\nUSER 0:0\n", "FROM a:1\nUSER root\nUSER app\n"),
    ("LapstrakeNoHealthcheck", "FROM a:1\n", "FROM a:1\nHEALTHCHECK NONE\n"),
    ("LapstrakeUnusedArg", "FROM a:1\nARG foo\n", "FROM a:1\nARG foo\nLABEL x=$foo\n"),
    ("LapstrakeSudo", "FROM a:1\nRUN sudo x\n", "FROM a:1\nRUN apk add sudoers\n"),
    ("LapstrakeSecretFile", "FROM a:1\nCOPY conf/.env /x/\n", "FROM a:1\nCOPY --from=b .env /x/\n"),
    (
        "LapstrakeCopyToOneFile",
        "FROM a:1\nCOPY a b /c\n",
        "FROM a:1\nCOPY a b /c/\nCOPY a b .\nCOPY --parents a b /c\n",
    ),
]


@pytest.mark.parametrize(("rule", "bad", "good"), CASES)
def test_each_check(rule, bad, good):
    def found(text):
        return {r for r, _, _ in check_extra(parse(text.encode(), "Dockerfile"), None)}

    assert rule in found(bad)
    assert rule not in found(good)


def test_unused_stages():
    dockerfile = parse(b"FROM a:1 AS One\nFROM a:1\nFROM a:1\n", "Dockerfile")
    messages = [m for r, m, _ in check_extra(dockerfile, {2}) if r == "LapstrakeUnusedStage"]
    assert messages == [
        "Stage 'One' is not needed by the target",
        "Stage 'stage-1' is not needed by the target",
    ]


def test_the_names_do_not_meet_those_of_buildkit():
    assert all(name.startswith(PREFIX) for name in EXTRA_RULES)
    assert not set(EXTRA_RULES) & set(lint.RULES)
    assert not any(lint.rule_url(name) for name in EXTRA_RULES)


@pytest.mark.parametrize(
    ("options", "rule", "enabled"),
    [
        ("", "LapstrakeSudo", False),
        ("experimental=all", "LapstrakeSudo", False),
        ("experimental=Lapstrake", "LapstrakeSudo", True),
        ("experimental=LapstrakeSudo", "LapstrakeSudo", True),
        ("experimental=LapstrakeSudo", "LapstrakeRootUser", False),
        ("", "LapstrakeCopyToOneFile", True),
        ("skip=all", "LapstrakeCopyToOneFile", False),
        ("skip=LapstrakeCopyToOneFile", "LapstrakeCopyToOneFile", False),
    ],
)
def test_how_they_are_asked_for(options, rule, enabled):
    assert lint.parse_options(options).enabled(rule) is enabled
    assert (rule in BY_DEFAULT) is (rule == "LapstrakeCopyToOneFile")
