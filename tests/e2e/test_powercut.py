"""The newest files lost or zeroed, as after a power cut: detected, made anew, never in an image."""

from __future__ import annotations

import os
import random
import sqlite3
from pathlib import Path

import pytest
from tests.e2e.images import tool

pytestmark = pytest.mark.e2e

DOCKERFILE = """\
FROM busybox AS a
RUN mkdir /d && for i in 1 2 3 4 5; do echo $i > /d/$i; done && date +%N > /random
FROM busybox
COPY --from=a /d /d
COPY file /file
RUN cat /d/* > /all && echo end >> /all
"""


def newest(root: Path) -> list[Path]:
    """What a power cut may have lost: every regular file of the store but its small state files."""
    keep = {"boot", "ids", "snapshotter", "gate"}
    files = [p for p in root.rglob("*") if p.is_file() and not p.is_symlink() and p.name not in keep]
    return sorted(p for p in files if p.stat().st_nlink == 1)


def truncate(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.choice((0, path.stat().st_size // 2)))


def zero(path: Path, rng: random.Random) -> None:
    size = path.stat().st_size
    start = rng.choice((0, size // 2))
    with path.open("r+b") as f:
        f.seek(start)
        f.write(b"\0" * (size - start))


def vanish(path: Path, _rng: random.Random) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [truncate, zero, vanish])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_after_a_power_cut_the_next_build_is_right(lap, context, tmp_path, damage, share):
    directory = context({"Dockerfile": DOCKERFILE, "file": "content\n" * 1000})
    rng = random.Random(f"{damage.__name__} {share}")

    def digest(name: str) -> tuple[str, Path]:
        out = tmp_path / name
        lap("build", directory, "-t", "x", "-o", f"type=oci,dest={out}.tar", "-o", f"type=local,dest={out}")
        return tool("skopeo", "inspect", "--format={{.Digest}}", f"oci-archive:{out}.tar").strip(), out

    digest("before")
    files = newest(lap.root)
    for path in rng.sample(files, max(1, int(len(files) * share))):
        damage(path, rng)
    (lap.root / "boot").write_text("another boot\n")
    _, out = digest("after")
    assert (out / "file").read_text() == "content\n" * 1000
    assert (out / "all").read_text() == "1\n2\n3\n4\n5\nend\n"
    assert (out / "bin/busybox").stat().st_size > 500_000
    tool("skopeo", "copy", "-q", f"oci-archive:{out}.tar", f"dir:{tmp_path}/copied")  # checks every digest
    assert lap("fsck", check=False).stdout.endswith("no problems\n")


@pytest.mark.parametrize("which", ["index.db", "index.db-wal"])
@pytest.mark.parametrize("cut", [0, 0.3, 0.99])
def test_a_cut_index_costs_the_cache_not_the_build(lap, context, tmp_path, which, cut):
    directory = context({"Dockerfile": DOCKERFILE, "file": "content\n"})
    lap.build(directory, "-t", "x")
    path = lap.root / which
    db = sqlite3.connect(lap.root / "index.db")  # keeps the log from being folded in
    db.execute("SELECT count(*) FROM kv").fetchone()
    lap.build(directory, "-t", "x", "--no-cache")
    data = path.read_bytes()
    db.close()
    path.write_bytes(data[: int(len(data) * cut)])
    (lap.root / "boot").write_text("another boot\n")
    lap.build(directory, "-t", "x", "-o", f"type=local,dest={tmp_path}/out")
    assert (tmp_path / "out/all").read_text() == "1\n2\n3\n4\n5\nend\n"
    assert lap("fsck", check=False).stdout.endswith("no problems\n")


def test_a_restart_alone_keeps_the_cache(lap, context):
    directory = context({"Dockerfile": DOCKERFILE, "file": "content\n"})
    lap.build(directory, "-t", "x")
    long_ago = 1_700_000_000
    (lap.root / "boot").write_text("another boot\n")
    assert any(
        v.ran and v.name.startswith("[a 2/2] RUN") for v in lap.build(directory, "-t", "x")
    )  # not provable
    for steps in (lap.build(directory, "-t", "x"),):
        assert not [v for v in steps if v.ran and "RUN" in v.name], (steps, long_ago)


def test_damage_without_a_restart_is_found_where_it_is_read(lap, context, tmp_path):
    directory = context({"Dockerfile": "FROM busybox\nCOPY file /file\n", "file": os.urandom(50_000)})
    lap.build(directory, "-t", "x")
    for blob in lap.root.glob("blobs/sha256/*"):
        os.truncate(blob, blob.stat().st_size // 2)
    lap.build(directory, "-t", "x", "-o", f"type=oci,dest={tmp_path}/x.tar")
    tool("skopeo", "copy", "-q", f"oci-archive:{tmp_path}/x.tar", f"dir:{tmp_path}/copied")


@pytest.mark.parametrize("kind", ["oci", "docker", "layout"])
def test_a_flipped_bit_is_never_handed_on(lap, context, tmp_path, kind):
    directory = context({"Dockerfile": "FROM busybox\nCOPY file /file\n", "file": os.urandom(50_000)})
    lap.build(directory, "-t", "x")
    blob = max(
        (p for p in lap.root.glob("blobs/sha256/*") if p.stat().st_size < 100_000),
        key=lambda p: p.stat().st_size,
    )
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
    spec = (
        f"type=oci,tar=false,dest={tmp_path}/out" if kind == "layout" else f"type={kind},dest={tmp_path}/out"
    )
    done = lap("build", directory, "-t", "x", "-o", spec, check=False)
    assert done.returncode == 1 and "damaged on disk" in done.stderr and "Traceback" not in done.stderr
    lap.build(directory, "-t", "x", "-o", spec)
    assert lap("fsck").stdout.endswith("no problems\n")
