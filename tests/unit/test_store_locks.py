from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lapstrake.errors import Cancelled
from lapstrake.store.locks import KeyLocks


def test_exclusive_among_threads(tmp_path: Path) -> None:
    locks = KeyLocks(str(tmp_path))
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(30):
            with locks.hold("sha256:abc"):
                inside += 1
                most = max(most, inside)
                time.sleep(0.0002)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert most == 1 and os.listdir(tmp_path / "locks") == []


def test_keys_are_independent_and_names_are_safe(tmp_path: Path) -> None:
    locks = KeyLocks(str(tmp_path))
    with locks.hold("a"), locks.hold("../../b/c"), locks.hold("x" * 5000):
        assert locks.try_hold("a") is None
        assert len(os.listdir(tmp_path / "locks")) == 3
    free = locks.try_hold("a")
    assert free is not None
    free.release()
    free.release()


def test_shared_and_exclusive(tmp_path: Path) -> None:
    locks = KeyLocks(str(tmp_path))
    with locks.shared("s"), locks.shared("s"):
        assert locks.try_hold("s") is None
    with locks.exclusive("s"):
        pass


def test_a_killed_process_frees_its_lock(tmp_path: Path) -> None:
    code = "import sys, time; from lapstrake.store.locks import KeyLocks\nl = KeyLocks(sys.argv[1]).hold('k'); print('held', flush=True); time.sleep(60)"
    p = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert p.stdout is not None and p.stdout.readline() == b"held\n"
    locks = KeyLocks(str(tmp_path))
    assert locks.try_hold("k") is None
    p.kill()
    p.wait()
    p.stdout.close()
    with locks.hold("k"):
        pass


def test_waiting_can_be_cancelled(tmp_path: Path) -> None:
    locks = KeyLocks(str(tmp_path))
    token = threading.Event()
    with locks.hold("k"):
        threading.Timer(0.05, token.set).start()
        with pytest.raises(Cancelled):
            locks.hold("k", token)
