"""Merging layers: applying the merged one must leave what applying them in order leaves."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given, settings

from lapstrake.layer.merge import merge
from lapstrake.tree import DIR, FILE, Entry, Node

D = Node(DIR, 0o755)


def file(path: str, data: bytes = b"x") -> Entry:
    return Entry(path, Node(FILE, 0o644, size=len(data)), data=data)


def shown(entries) -> list[str]:
    out = []
    for e in entries:
        mark = "-" if e.whiteout else "!" if e.opaque else f"={e.hardlink}" if e.hardlink else ""
        out.append(e.path + mark)
    return out


def test_later_layers_win_and_order_is_by_path():
    low = [Entry("d", D), file("d/a", b"1"), file("z")]
    high = [Entry("d", D), file("d/a", b"2"), file("b")]
    merged = list(merge([low, high]))
    assert shown(merged) == ["b", "d", "d/a", "z"]
    assert next(e for e in merged if e.path == "d/a").data == b"2"


def test_a_deletion_stays_only_while_something_lies_below():
    layers = [[file("a"), file("b")], [Entry("a", Node(FILE, 0), whiteout=True)]]
    assert shown(merge(layers)) == ["a-", "b"]
    assert shown(merge(layers, whiteouts=False)) == ["b"]


def test_a_directory_in_place_of_what_was_deleted_hides_what_lies_below():
    layers = [[Entry("d", Node(FILE, 0), whiteout=True)], [Entry("d", D), file("d/new")]]
    assert shown(merge(layers)) == ["d!", "d/new"]
    assert shown(merge(layers, whiteouts=False)) == ["d", "d/new"]


def test_a_directory_in_place_of_a_file_and_a_file_in_place_of_a_directory():
    assert shown(merge([[file("x")], [Entry("x", D), file("x/y")]])) == ["x!", "x/y"]
    assert shown(merge([[Entry("x", D), file("x/y")], [file("x")]])) == ["x"]


def test_links_of_one_layer_stay_links_and_survive_their_first_name():
    low = [file("a", b"1"), Entry("b", Node(FILE, 0o644, size=1), hardlink="a"), Entry("c", D, hardlink="a")]
    assert shown(merge([low])) == ["a", "b=a", "c=a"]
    high = [file("a", b"2")]
    merged = list(merge([low, high]))
    assert shown(merged) == ["a", "b", "c=b"]
    assert [e.data for e in merged][:2] == [b"2", b"1"]


# -- a model: paths to contents ------------------------------------------------------------------

names = st.sampled_from(["a", "b", "a/a", "a/b", "b/a", "a/a/a"])
changes = st.lists(
    st.tuples(names, st.sampled_from(["file", "dir", "opaque", "gone"]), st.binary(max_size=2))
)


def layer_of(ops) -> list[Entry]:
    """A well-formed layer: parents are directories, nothing below what isn't one."""
    kinds: dict[str, tuple[str, bytes]] = {}
    for path, kind, data in ops:
        parents = [path[:n] for n, c in enumerate(path) if c == "/"]
        if any(kinds.get(p, ("dir",))[0] in ("file", "gone") for p in parents):
            continue
        if kind in ("file", "gone") and any(k.startswith(path + "/") for k in kinds):
            continue
        for p in parents:
            kinds.setdefault(p, ("dir", b""))
        kinds[path] = (kind, data)
    out = []
    for path in sorted(kinds, key=lambda p: p.split("/")):
        kind, data = kinds[path]
        if kind == "file":
            out.append(file(path, data))
        elif kind == "gone":
            out.append(Entry(path, Node(FILE, 0), whiteout=True))
        else:
            out.append(Entry(path, D, opaque=kind == "opaque"))
    return out


def apply(tree: dict[str, bytes | None], layer) -> None:
    for e in layer:
        if e.whiteout or e.opaque or e.node.kind != DIR:
            for path in [p for p in tree if p.startswith(e.path + "/")]:
                del tree[path]
            tree.pop(e.path, None)
        if not e.whiteout:
            if e.node.kind == DIR and tree.get(e.path) is not None:
                del tree[e.path]
            tree[e.path] = e.data if e.node.kind != DIR else None


@settings(max_examples=300, deadline=None)
@given(changes, st.lists(changes, min_size=1, max_size=4))
def test_merged_is_as_good_as_one_after_the_other(below, stack):
    layers = [layer_of(ops) for ops in stack]
    base: dict[str, bytes | None] = {}
    apply(base, [e for e in layer_of(below) if not e.whiteout])
    one, other = dict(base), dict(base)
    for layer in layers:
        apply(one, layer)
    apply(other, merge(layers))
    assert one == other
    bare: dict[str, bytes | None] = {}
    for layer in layers:
        apply(bare, layer)
    bottom: dict[str, bytes | None] = {}
    merged = list(merge(layers, whiteouts=False))
    apply(bottom, merged)
    assert bottom == bare
    assert not any(e.whiteout or e.opaque for e in merged)
