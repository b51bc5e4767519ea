"""Files that appear whole or not at all."""

from __future__ import annotations

import os

import pytest

from lapstrake.whole import WholeFile, write_whole


def test_the_new_file_takes_the_old_ones_place(tmp_path):
    path = tmp_path / "a"
    write_whole(str(path), b"1")
    before = path.stat().st_ino
    write_whole(str(path), b"2", 0o600, sync=True)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"2", 0o600)
    assert path.stat().st_ino != before
    assert os.listdir(tmp_path) == ["a"]


def test_nobody_sees_half_of_it(tmp_path):
    path = tmp_path / "a"
    with WholeFile(str(path)) as out:
        out.write(b"half")
        out.flush()
        assert not path.exists()
    assert path.read_bytes() == b"half"


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), WholeFile(str(path)) as out:
        out.write(b"new")
        raise KeyError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_place_that_cannot_be_written_leaves_nothing(tmp_path):
    target = tmp_path / "a"
    (target / "in").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        write_whole(str(target), b"1")
    assert os.listdir(tmp_path) == ["a"]
    with pytest.raises(FileNotFoundError):
        write_whole(str(tmp_path / "missing" / "a"), b"1")


def test_a_long_name_and_a_relative_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "é" * 127
    write_whole(name, b"1")
    assert (tmp_path / name).read_bytes() == b"1"
