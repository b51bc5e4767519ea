from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lapstrake.errors import StoreError
from lapstrake.store.index import Index


def test_reading_creates_nothing(tmp_path: Path) -> None:
    index = Index(str(tmp_path / "store"))
    assert index.get("a", "b") is None and index.items("a") == [] and index.get_record("k") is None
    assert not (tmp_path / "store").exists()


def test_kv(tmp_path: Path) -> None:
    index = Index(str(tmp_path))
    index.put("a", "k", b"1")
    index.put("b", "k", b"2")
    index.put_many("a", [("j", b"3"), ("k", b"4")])
    assert index.get("a", "k") == b"4" and index.get("b", "k") == b"2"
    assert index.items("a") == [("j", b"3"), ("k", b"4")]
    index.delete("a", "k")
    assert index.get("a", "k") is None
    assert index.update("a", "n", lambda old: (old or b"") + b"x") == b"x"
    assert index.update("a", "n", lambda old: (old or b"") + b"x") == b"xx"
    assert index.update("a", "n", lambda old: None) is None and index.get("a", "n") is None
    index.close()
    assert Index(str(tmp_path)).get("b", "k") == b"2"


def test_records_and_keys(tmp_path: Path) -> None:
    index = Index(str(tmp_path))
    index.put_record("r1", {"layer": "l1"}, ["k1", "k2"])
    index.add_key("k3", "r1")
    assert [index.get_record(k) for k in ("k1", "k3", "no")] == [
        ("r1", {"layer": "l1"}),
        ("r1", {"layer": "l1"}),
        None,
    ]
    index.put_record("r1", {"layer": "l2"})
    assert index.record("r1") == {"layer": "l2"} and index.keys_of("r1") == ["k1", "k2", "k3"]
    index.touch(["r1"])
    index.touch(["r1"])
    index.flush()
    assert [r[4] for r in index.records()] == [2]
    index.delete_record("r1")
    assert index.get_record("k1") is None and index.keys_of("r1") == []


def test_a_failed_transaction_changes_nothing(tmp_path: Path) -> None:
    index = Index(str(tmp_path))
    index.put("a", "k", b"1")

    def fail(_old: bytes | None) -> bytes:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        index.update("a", "k", fail)
    index.put("a", "j", b"2")
    assert index.items("a") == [("j", b"2"), ("k", b"1")]


@pytest.mark.parametrize("damage", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_set_aside(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "index.db").write_bytes(damage)
    warnings: list[str] = []
    index = Index(str(tmp_path), warnings.append)
    assert index.get("a", "k") is None
    index.put("a", "k", b"1")
    assert index.get("a", "k") == b"1" and len(warnings) == 1 and "damaged" in warnings[0]
    assert [p.read_bytes() for p in tmp_path.glob("index.db.corrupt")] == [damage]


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    import sqlite3

    db = sqlite3.connect(tmp_path / "index.db")
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreError, match="newer"):
        Index(str(tmp_path)).get("a", "k")


def test_threads_share_one(tmp_path: Path) -> None:
    index = Index(str(tmp_path))

    def work(n: int) -> None:
        for i in range(50):
            index.update("count", "n", lambda old: b"%d" % (int(old or b"0") + 1))
            index.put("t", f"{n}-{i}", b"")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert index.get("count", "n") == b"200" and len(index.items("t")) == 200


def test_processes_share_one(tmp_path: Path) -> None:
    code = (
        "import sys; from lapstrake.store.index import Index\n"
        "i = Index(sys.argv[1])\n"
        "for _ in range(50): i.update('c', 'n', lambda o: b'%d' % (int(o or b'0') + 1))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(4)]
    assert [p.wait(60) for p in running] == [0] * 4
    assert Index(str(tmp_path)).get("c", "n") == b"200"


def test_opening_and_one_query_is_quick(tmp_path: Path) -> None:
    Index(str(tmp_path)).put("a", "k", b"1")
    times = []
    for _ in range(5):
        start = time.perf_counter()
        Index(str(tmp_path)).get("a", "k")
        times.append(time.perf_counter() - start)
    assert min(times) < 0.003
