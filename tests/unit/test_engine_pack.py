"""Which layers become one, and what the history says then."""

from __future__ import annotations

import pytest

from lapstrake.engine.assemble import merged_history
from lapstrake.engine.pack import Group, groups, pack_form
from lapstrake.errors import UsageError
from lapstrake.export.options import form_options, layers_of, unknown_attributes

LAYERS = ["p1", "p2", "a", "b", "c", "d"]
STAGES = ["low", "low", "mid", ""]


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ("all", "p1 p2 a b c d"),
        ("stage", "p1 p2 a+b c d"),
        ("squash-above-base", "p1 p2 a+b+c+d"),
        ("squash", "p1+p2+a+b+c+d"),
        ("1", "p1+p2+a+b+c+d"),
        ("2", "p1 p2+a+b+c+d"),
        ("4", "p1 p2 a b+c+d"),
        ("6", "p1 p2 a b c d"),
        ("99", "p1 p2 a b c d"),
    ],
)
def test_groups(how, wanted):
    found = groups(LAYERS, 2, STAGES, how)
    assert " ".join("+".join(g.layers) for g in found) == wanted
    assert [g.bottom for g in found] == [True] + [False] * (len(found) - 1)


@pytest.mark.parametrize("how", ["all", "stage", "squash", "squash-above-base", "3"])
def test_groups_of_little(how):
    assert groups([], 0, [], how) == []
    assert [g.layers for g in groups(["a"], 0, [""], how)] == [("a",)]
    assert [g.layers for g in groups(["p"], 1, [], how)] == [("p",)]


def test_names_of_groups():
    assert Group(("a",)).name == "a" and Group(("a",), windows=True).name == "a-w"
    merged = {Group(("a", "b")).name, Group(("a", "b"), bottom=True).name, Group(("b", "a")).name}
    assert len(merged) == 3 and all(n.startswith("m") and len(n) == 48 for n in merged)


def test_history_keeps_every_step():
    steps = [{"created_by": n, **({"empty_layer": True} if n.islower() else {})} for n in "AbCDeF"]
    shown = merged_history(steps, [1, 3])
    assert [(h["created_by"], bool(h.get("empty_layer"))) for h in shown] == [
        ("A", False), ("b", True), ("C", True), ("D", True), ("e", True), ("F", False),
    ]  # fmt: skip
    assert steps[2] == {"created_by": "C"}
    assert sum(not h.get("empty_layer") for h in merged_history(steps, [4])) == 1


def test_what_layers_depend_on():
    plain = pack_form(form_options({}))
    assert plain == pack_form(form_options({"annotation.a": "b", "source-date-epoch": "5"}))
    assert plain != pack_form(form_options({"rewrite-timestamp": "true", "source-date-epoch": "5"}))
    assert plain != pack_form(form_options({"oci-mediatypes": "false"}))


def test_layers_and_attributes_that_mean_nothing():
    for text in ("", "0", "-1", "none", "10000", "1.5"):
        with pytest.raises(UsageError, match="for layers"):
            layers_of(text)
    assert unknown_attributes({"name": "x", "compresion": "zstd", "annotation-index.k": "v"}) == [
        "compresion"
    ]
