"""What differs between layers, told file by file."""

from __future__ import annotations

import io

from lapstrake.layer.compare import compare, entries_of
from lapstrake.layer.tar import write
from lapstrake.tree import DIR, FILE, SYMLINK, Entry, Node


def tar(*entries: Entry) -> list[Entry]:
    out: list[bytes] = []
    write(entries, out.append)
    return entries_of(io.BytesIO(b"".join(out)))


def file(path: str, data: bytes = b"x", **kw) -> Entry:
    return Entry(path, Node(FILE, kw.pop("mode", 0o644), size=len(data), **kw), data=data)


def told(a: list[Entry], b: list[Entry], **kw) -> list[str]:
    return [str(d) for d in compare(a, b, **kw)]


def test_equal_layers_differ_in_nothing():
    entries = [
        Entry("d", Node(DIR, 0o755), opaque=True),
        file("d/a"),
        Entry("gone", Node(FILE, 0), whiteout=True),
    ]
    assert told(tar(*entries), tar(*entries)) == []


def test_each_thing_that_can_differ():
    a = tar(
        file("c", b"1"),
        file("m"),
        file("o"),
        file("t"),
        file("x", xattrs=(("user.k", b"v"),)),
        Entry("s", Node(SYMLINK, 0o777, linkname="1")),
    )
    b = tar(
        file("c", b"22"), file("m", mode=0o4755), file("o", uid=3_000_000), file("t", mtime_ns=10**9), file("x"),
        Entry("s", Node(SYMLINK, 0o777, linkname="2")),
    )  # fmt: skip
    assert told(a, b) == [
        "/c: size: 1 / 2",
        "/c: content: sha256:6b86b273ff34 / sha256:785f3ec7eb32",
        "/m: mode: 0644 / 4755",
        "/o: owner: 0:0 / 3000000:0",
        "/s: link target: 1 / 2",
        "/t: modification time: 1970-01-01T00:00:00Z / 1970-01-01T00:00:01Z",
        "/x: extended attributes: user.k=76 / none",
    ]
    assert not any("time" in line for line in told(a, b, times=False))


def test_types_and_absences():
    a = tar(
        file("a"), Entry("b", Node(DIR, 0o755)), file("l1"), Entry("l2", Node(FILE, 0o644), hardlink="l1")
    )
    b = tar(Entry("a", Node(DIR, 0o755)), Entry("gone", Node(FILE, 0), whiteout=True), file("l1"), file("l2"))
    assert told(a, b) == [
        "/a: type: file / dir",
        "/b: only in the first",
        "/gone: only in the second (a deletion)",
        "/l2: type: hard link / file",
    ]
