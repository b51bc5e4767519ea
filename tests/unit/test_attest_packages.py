"""RPM databases of three kinds, Java archives, and what hostile ones do (nothing)."""

from __future__ import annotations

import io
import json
import sqlite3
import struct
import subprocess
import sys
import zipfile

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from lapstrake.attest import jars, rpmdb
from lapstrake.attest.packages import Package, scan
from lapstrake.attest.rpmdb import Rpm
from lapstrake.attest.sbom import cyclonedx, spdx
from lapstrake.testing.images import MemoryTree


def header(name: str, version: str, release: str, epoch: int = 0, arch: str = "noarch") -> bytes:
    fields = [
        (1000, 6, name),
        (1001, 6, version),
        (1002, 6, release),
        (1014, 6, "MIT"),
        (1022, 6, arch),
        (1044, 6, f"{name}.src.rpm"),
    ]
    index, data = b"", b""
    for tag, kind, value in fields:
        index += struct.pack(">IIII", tag, kind, len(data), 1)
        data += value.encode() + b"\0"
    if epoch:
        data += bytes(-len(data) % 4)
        index += struct.pack(">IIII", 1003, 4, len(data), 1)
        data += struct.pack(">I", epoch)
    return struct.pack(">II", len(index) // 16, len(data)) + index + data


BASH = header("bash", "5.2", "1.el9", arch="x86_64")
VIM = header("vim", "9.1", "2.el9", epoch=2)
WANTED = [
    Rpm("bash", "5.2-1.el9", 0, "x86_64", "MIT", "bash.src.rpm"),
    Rpm("vim", "9.1-2.el9", 2, "noarch", "MIT", "vim.src.rpm"),
]


def sqlite_db(*headers: bytes) -> bytes:
    con = sqlite3.connect(":memory:")
    con.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
    con.executemany("INSERT INTO Packages (blob) VALUES (?)", [(h,) for h in headers])
    con.commit()
    data = con.serialize()
    con.close()
    return data[:18] + b"\2\2" + data[20:]  # as librpm writes it: WAL


def ndb(*headers: bytes) -> bytes:
    out = bytearray(4096)
    struct.pack_into("<4sIII", out, 0, b"RpmP", 0, 1, 1)
    for n, h in enumerate(headers):
        blob = struct.pack("<4sIII", b"BlbS", n + 1, 1, len(h)) + h
        blob += bytes(-len(blob) % 16)
        struct.pack_into("<4sIII", out, 32 + n * 16, b"Slot", n + 1, len(out) // 16, len(blob) // 16)
        out += blob
    return bytes(out)


def bdb(*headers: bytes, size: int = 512) -> bytes:
    meta = bytearray(size)
    struct.pack_into("<I", meta, 12, 0x061561)
    struct.pack_into("<I", meta, 20, size)
    table = bytearray(size)
    table[25] = 13
    pages = [meta, table]
    at, entries = size, 0
    for n, h in enumerate(headers):
        first = len(pages)
        pieces = [h[i : i + size - 26] for i in range(0, len(h), size - 26)]
        for i, piece in enumerate(pieces):
            page = bytearray(size)
            page[25] = 7
            struct.pack_into("<I", page, 16, first + i + 1 if i + 1 < len(pieces) else 0)
            struct.pack_into("<H", page, 22, len(piece))
            page[26 : 26 + len(piece)] = piece
            pages.append(page)
        for item in (b"\1" + struct.pack("<I", n + 1), struct.pack("<B3xII", 3, first, len(h))):
            at -= len(item)
            table[at : at + len(item)] = item
            struct.pack_into("<H", table, 26 + entries * 2, at)
            entries += 1
    struct.pack_into("<H", table, 20, entries)
    return b"".join(pages)


@pytest.mark.parametrize("make", [sqlite_db, ndb, bdb])
def test_rpm_databases(make):
    data = make(BASH, VIM, header("gpg-pubkey", "1", "1"))
    assert list(rpmdb.packages(data)) == WANTED
    tree = MemoryTree(
        {
            "etc/os-release": b'ID="rocky"\nVERSION_ID="9"\n',
            f"var/lib/rpm/{ {sqlite_db: 'rpmdb.sqlite', ndb: 'Packages.db'}.get(make, 'Packages') }": data,
        }
    )
    assert [p.purl for p in scan(tree)] == [
        "pkg:rpm/rocky/bash@5.2-1.el9?arch=x86_64&distro=rocky-9",
        "pkg:rpm/rocky/vim@9.1-2.el9?arch=noarch&distro=rocky-9&epoch=2",
    ]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([sqlite_db, ndb, bdb]), st.data())
def test_damaged_databases_are_read_as_far_as_they_go(make, data):
    raw = bytearray(make(BASH, VIM))
    for _ in range(data.draw(st.integers(0, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    list(rpmdb.packages(bytes(raw[: data.draw(st.integers(0, len(raw)))])))


def test_a_schema_that_loops_ends():
    con = sqlite3.connect(":memory:")
    con.execute(
        "CREATE VIEW Packages AS WITH RECURSIVE c(hnum) AS (SELECT 1 UNION ALL SELECT hnum+1 FROM c) SELECT hnum, x'00' AS blob FROM c"
    )
    con.commit()
    assert list(rpmdb.packages(con.serialize())) == []
    con.close()


def jar(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, data in members.items():
            z.writestr(name, data)
    return out.getvalue()


def test_java_archives():
    inner = jar(
        {
            "META-INF/MANIFEST.MF": b"Manifest-Version: 1.0\r\nBundle-SymbolicName: org.inner;x=y\r\nBundle-Version: 2\r\n .1\r\n\r\nName: z\r\n"
        }
    )
    outer = jar({
        "META-INF/maven/g/a/pom.properties": b"#x\ngroupId=org.example\nartifactId=app\nversion=1.0\n",
        "BOOT-INF/lib/inner.jar": inner, "BOOT-INF/lib/broken.jar": b"PK\3\4",
    })  # fmt: skip
    assert list(jars.packages(io.BytesIO(outer), "app.jar")) == [
        ("org.example/app", "1.0"),
        ("org.inner", "2.1"),
    ]
    assert list(jars.packages(io.BytesIO(b"nothing"), "x.jar")) == []
    tree = MemoryTree({"opt/app.jar": outer})
    assert [p.purl for p in scan(tree)] == ["pkg:maven/org.example/app@1.0", "pkg:maven/org.inner@2.1"]


PACKAGES = [
    Package("deb", "bash", "5.2-1", "amd64", "GPL-3.0-or-later", "bash", "var/lib/dpkg/status", "debian-12"),
    Package(
        "npm", "@scope/ü", "1.0", "", "(MIT OR Apache-2.0)", "", "app/node_modules/@scope/ü/package.json"
    ),
    Package("rpm", "vim", "2:9.1-2", "noarch", "Vim and MIT", "", "var/lib/rpm/rpmdb.sqlite", "rocky-9"),
]


@pytest.mark.parametrize(("make", "library"), [(spdx, "spdx_tools"), (cyclonedx, "cyclonedx")])
def test_the_formats_own_libraries_accept_our_documents(tmp_path, make, library):
    pytest.importorskip(library, reason="needs the extra `sbom-check`")
    path = tmp_path / ("x.spdx.json" if make is spdx else "x.cdx.json")
    path.write_text(json.dumps(make("app:1", PACKAGES, "2026-01-01T00:00:00Z", "1.0")))
    check = {
        spdx: "from spdx_tools.spdx.parser.parse_anything import parse_file\n"
        "from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document as v\n"
        "found = [m.validation_message for m in v(parse_file(sys.argv[1]))]",
        cyclonedx: "from cyclonedx.validation.json import JsonStrictValidator\nfrom cyclonedx.schema import SchemaVersion\n"
        "e = JsonStrictValidator(SchemaVersion.V1_5).validate_str(open(sys.argv[1]).read())\nfound = [str(e)] if e else []",
    }[make]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import sys\n{check}\nprint('\\n'.join(found), end='')", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
