from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from lapstrake.store.content import ContentStore
from lapstrake.store.lease import Closed, Lease, dead, in_use

KEEPER = """
import sys
from lapstrake.store.lease import Lease
lease = Lease(sys.argv[1])
lease.add("a", "b")
lease.add("c")
print("held", flush=True)
sys.stdin.read()
"""


def keeper(root: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", KEEPER, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_live_lease_is_seen_and_a_killed_one_removed(tmp_path: Path) -> None:
    with keeper(tmp_path) as process:
        with Closed(str(tmp_path)) as closed:
            assert (closed.names, closed.live) == ({"a", "b", "c"}, 1)
        assert in_use(str(tmp_path)) == {"a", "b", "c"} and dead(str(tmp_path)) == []
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert in_use(str(tmp_path)) == frozenset() and len(dead(str(tmp_path))) == 1
        with Closed(str(tmp_path)) as closed:
            assert (closed.names, closed.live) == (frozenset(), 0)
        assert os.listdir(tmp_path / "leases") == ["gate"]


def test_nothing_comes_into_use_while_the_gate_is_closed(tmp_path: Path) -> None:
    lease = Lease(str(tmp_path))
    lease.add("first")
    seen: list[str] = []

    def add() -> None:
        lease.add("second")
        seen.append("second")

    thread = threading.Thread(target=add)
    with Closed(str(tmp_path)):
        thread.start()
        thread.join(0.1)
        assert seen == []
    thread.join(5)
    assert seen == ["second"] and in_use(str(tmp_path)) == {"first", "second"}
    lease.close()
    assert os.listdir(tmp_path / "leases") == ["gate"]


def test_what_is_looked_for_is_kept_before_it_is_there(tmp_path: Path) -> None:
    lease = Lease(str(tmp_path))
    store = ContentStore(str(tmp_path), lease=lease)
    digest = "sha256:" + "0" * 64
    assert not store.has(digest)
    made = store.put(b"x")
    assert in_use(str(tmp_path)) == {digest, made}
    lease.close()
