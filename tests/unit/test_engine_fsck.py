"""fsck finds each kind of damage, and its repair leaves a store with nothing wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lapstrake.config import Settings
from lapstrake.engine.engine import Engine
from lapstrake.engine.fsck import fsck
from lapstrake.export.store import StoredImage, put_names
from lapstrake.layer.compress import pack
from lapstrake.layer.diff import changes
from lapstrake.oci.descriptor import Descriptor
from lapstrake.store.layers import LayerBlob


def fill(root: Path) -> None:
    with Engine(Settings(root=str(root))) as engine:
        engine.content.put(b"a blob")
        with engine.layers.new_active() as active:
            Path(active.upper, "file").write_text("content")
            engine.layers.commit(active, "built")
        with engine.content.writer() as out:
            packed = pack(changes(engine.layers.dir("built")), out, "gzip", 1)
        for layer in ("built", "p" + packed.diff_id[7:]):
            blob = LayerBlob("application/vnd.oci.image.layer.v1.tar+gzip", packed.digest, packed.size)
            engine.layers.register_blob(layer, packed.diff_id, blob)
            engine.layers.ensure_dir(layer)
        engine.index.put_record("r", {"layers": ["built"]}, ["key"])
        desc = Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", packed.digest, packed.size)
        put_names(engine.index, [StoredImage("docker.io/library/x:latest", desc)])


def one(root: Path, pattern: str) -> Path:
    return next(p for p in root.glob(pattern) if p.is_file())


def make(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("")


def remove_blobs(root: Path) -> None:
    for path in root.glob("blobs/sha256/*"):
        path.unlink()


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a byte of a blob": ("blob", lambda r: one(r, "blobs/sha256/*").write_bytes(b"A blob")),
    "an empty blob": ("blob", lambda r: os.truncate(one(r, "blobs/sha256/*"), 0)),
    "a built layer": ("layer", lambda r: (r / "layers/built/diff/file").write_text("CONTENT")),
    "a pulled layer": ("layer", lambda r: one(r, "layers/p*/diff/file").write_text("")),
    "an empty layer": ("leftover", lambda r: (r / "layers/empty").mkdir()),
    "the index": ("index", lambda r: os.truncate(r / "index.db", 5000)),
    "an image's content": ("image", remove_blobs),
    "an unfinished blob": ("leftover", lambda r: make(r / "ingest/x")),
    "a scratch directory": ("leftover", lambda r: (r / "active/x").mkdir(parents=True)),
    "a lock": ("leftover", lambda r: make(r / "locks/x")),
    "a lease": ("leftover", lambda r: make(r / "leases/x")),
    "a probe": ("leftover", lambda r: (r / "probe-x").mkdir()),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found_and_repaired(tmp_path: Path, what: str) -> None:
    fill(tmp_path)
    settings = Settings(root=str(tmp_path))
    whole = fsck(settings)
    assert (whole.problems, whole.layers, whole.images, whole.records) == ((), 2, 1, 1)
    kind, damage = DAMAGE[what]
    damage(tmp_path)
    found = fsck(settings)
    assert kind in {p.kind for p in found.problems} and not any(p.repaired for p in found.problems)
    assert all(p.repaired for p in fsck(settings, repair=True).problems)
    fsck(settings, repair=True)  # what the first repair took may have been needed by an image
    assert fsck(settings).problems == ()


def test_an_empty_root_is_fine(tmp_path: Path) -> None:
    assert fsck(Settings(root=str(tmp_path / "none"))).problems == ()
    assert not (tmp_path / "none").exists()
