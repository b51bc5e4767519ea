"""Which rows go, in which order, and how far."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lapstrake.engine.gc import Policy, Sizes, Stores, choose, collect, target_size
from lapstrake.engine.gcfilter import any_of, parse, parse_all
from lapstrake.engine.gcpolicy import disk_size, max_size, policies
from lapstrake.engine.usage import BLOB, Part, Usage
from lapstrake.errors import UsageError
from lapstrake.optspec import duration
from lapstrake.store.lease import Lease

GB = 10**9
NOW = 1_000_000.0


def row(ident: str, age: float = 100.0, size: int = 10, **kw: object) -> Usage:
    made: dict[str, object] = {"type": "regular", "description": ident, "parts": (Part(BLOB, ident, size),)}
    return Usage(ident, **{**made, "last_used": NOW - age, **kw})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sizes", "total", "free", "keep"),
    [
        (Sizes(), 10, 0, None),
        (Sizes(max_used=5), 10, 0, 5),
        (Sizes(reserved=7), 10, 0, 7),
        (Sizes(reserved=7, max_used=5), 10, 0, 7),
        (Sizes(min_free=5), 10, 5, 10),  # enough is free
        (Sizes(min_free=5), 10, 2, 7),
        (Sizes(min_free=5, max_used=9), 10, 5, 9),
        (Sizes(min_free=50, max_used=9, reserved=4), 10, 5, 4),
    ],
)
def test_how_far(sizes: Sizes, total: int, free: int, keep: int | None) -> None:
    assert target_size(sizes, total, free) == keep


ROWS = [
    row("old", 900), row("new", 1), row("base", 500, depth=0), row("top", 500, depth=3), row("often", 500, count=9),
    row("shared", 950, shared=True), row("meta", 950, type="internal"), row("busy", 990, in_use=True),
    row("image", 990, shared=True, removable=False), row("mount", 800, type="exec.cachemount", mutable=True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "gone"),
    [
        (Policy(), "old mount top base often new"),
        (Policy(everything=True), "meta shared old mount top base often new"),
        (Policy(keep_duration=600), "old mount"),
        (Policy(sizes=Sizes(max_used=80)), "old mount"),
        (Policy(sizes=Sizes(max_used=1000)), ""),
        (Policy(wanted=any_of(["type==exec.cachemount", "id=new,private"])), "mount new"),
        (Policy(sizes=Sizes(reserved=95, max_used=50)), "old"),
    ],
)
def test_what_goes_and_in_which_order(policy: Policy, gone: str) -> None:
    assert [r.id for r in choose(ROWS, policy, 100, 0, NOW)] == gone.split()


@pytest.mark.parametrize(
    ("raw", "ids"),
    [
        ("id=old", "old"), ("id!=old", "new"), ("description~=^o", "old"), ("type=regular", "old new"),
        ("type!=regular", ""), ("mutable", ""), ("immutable", "old new"), ("shared", ""), ("private", "old new"),
        ("inuse", "new"), ("inuse=false", "old"), ("inuse!=true", "old"), ("parents=p", "new"), ("parents=q;p", "new"),
        ("parents!=p", "old"), ("id==old", "old"), ("description~=a=b|new", "new"),
    ],
)  # fmt: skip
def test_filters(raw: str, ids: str) -> None:
    rows = [row("old"), row("new", in_use=True, parents=("p",))]
    test = parse(raw)
    assert [r.id for r in rows if test(r)] == ids.split()


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "nonsense",
        "what=x",
        "id",
        "inuse=maybe",
        "type=wrong",
        "id~=(",
        "inuse~=true",
        "until!=5h",
        "until=soon",
    ],
)
def test_wrong_filters_say_so(raw: str) -> None:
    with pytest.raises(UsageError, match="invalid"):
        parse_all([raw])


def test_filters_together() -> None:
    test, age = parse_all(["id~=o", "until=24h", "until=1h", "private"])
    assert age == 86400 and test is not None and test(row("old")) and not test(row("old", shared=True))
    assert duration("1.5h") == 5400 and duration("250ms") == 0.25


def test_settings_read_as_buildkitd_toml(tmp_path: Path) -> None:
    root = str(tmp_path / "none/yet")
    (only,) = policies({}, root)
    assert only.everything and only.sizes.min_free > 0 and not only.sizes.max_used
    assert policies({"worker": {"oci": {"gc": False}}}, root) == []
    got = policies({"worker": {"containerd": {"reservedSpace": "1GB", "maxUsedSpace": 5}}}, root)
    assert [p.sizes for p in got] == [Sizes(reserved=1 << 30, max_used=5)] * 3
    assert [p.everything for p in got] == [False, False, True] and got[0].keep_duration == 172800
    table = {"keepDuration": "48h", "filters": ["type==source.local"], "all": True, "minFreeSpace": "10%"}
    (own,) = policies({"worker": {"oci": {"gcpolicy": [table]}}}, root)
    disk = os.statvfs(tmp_path)
    assert own.everything and own.sizes.min_free == int(disk.f_blocks * disk.f_frsize * 10 / 100)
    assert own.wanted is not None and own.wanted(row("x", type="source.local")) and not own.wanted(row("x"))
    assert max_size({"store": {"max-size": "2GB"}}, root) == 2 << 30 and max_size({}, root) == 0
    with pytest.raises(UsageError, match="maxUsedSpace"):
        disk_size("101%", root, "maxUsedSpace")


def test_what_a_build_uses_stays(tmp_path: Path) -> None:
    with Stores(str(tmp_path)) as stores:
        digests = [stores.content.put(text) for text in (b"one", b"two")]
        lease = Lease(str(tmp_path))
        rows = stores.survey().rows()  # looked at before the build began
        lease.add(digests[0])
        gone = collect(stores, [Policy(everything=True)], dry_run=True)
        assert [r.id for r in gone] == [digests[1]]
        from lapstrake.engine import gc

        assert {r.id for r in gc._remove(stores, stores.survey(), [r for r in rows if r.id in digests])} == {
            digests[1]
        }
        assert stores.content.digests() == [digests[0]]
        lease.close()
        assert [r.id for r in collect(stores, [Policy(everything=True)])] == [digests[0]]
