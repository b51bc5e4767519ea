"""Assembling, layouts, archives, the local store: real tools read what we write."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from lapstrake.attest.attach import Attested
from lapstrake.errors import BuildError, ExportError, UsageError
from lapstrake.export.attachment import with_statements
from lapstrake.export.base import is_digest, walk
from lapstrake.export.join import assemble_image, assemble_result
from lapstrake.export.layout import read_index
from lapstrake.export.open import Several, open_exporter
from lapstrake.export.options import annotations_of, check_outputs
from lapstrake.export.store import NAMESPACE, decode
from lapstrake.export.validate import validate
from lapstrake.oci.descriptor import DOCKER_MANIFEST, OCI_INDEX, OCI_LAYER_ZSTD, OCI_MANIFEST, Descriptor
from lapstrake.testing.images import Output, environment, image, layer, result
from lapstrake.values import replace


def run(*command: str, **kw: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **kw)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def need(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool}")


def export(env, spec, names, res):
    exporter = open_exporter(spec, names, env)
    exporter.prepare(res)
    return exporter.commit()


def attested(content, *archs):
    raw = b'{"_type":"https://in-toto.io/Statement/v1"}'
    return [
        with_statements(
            image(content, arch), [Attested("https://slsa.dev/provenance/v1", raw, "provenance.json")]
        )
        for arch in archs
    ]


def test_history_is_mended(tmp_path):
    content = environment(tmp_path).content
    pairs = [layer(content, {"a": b"1"}), layer(content, {"b": b"2"})]
    base = {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [d for _, d in pairs]}}
    for history, want in (
        ([], [None, None]),
        ([{"created_by": "x"}], [None, None]),
        ([{"created_by": c} for c in "xyz"], [None, None, True]),
        ([{"created_by": "x", "empty_layer": True}], [True, None, None]),
    ):
        one = assemble_image({**base, "history": history}, [d for d, _ in pairs])
        assert [h.get("empty_layer") for h in json.loads(one.config)["history"]] == want


@pytest.mark.parametrize("gone", ["os", "architecture"])
def test_config_without_platform(tmp_path, gone):
    config = {"os": "linux", "architecture": "amd64"}
    del config[gone]
    with pytest.raises(ExportError, match=f"invalid image config for export: missing {gone}"):
        assemble_image(config, [])


def test_families_and_conflicts(tmp_path):
    content = environment(tmp_path).content
    desc, diff = layer(content, {"a": b"1"})
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [diff]}}
    noted = replace(desc, annotations=(("containerd.io/uncompressed", diff), ("keep", "1")))
    oci = assemble_image(config, [noted])
    assert oci.layers[0].annotations == (("keep", "1"),)
    docker = assemble_image(config, [noted], oci=False)
    assert docker.manifest_desc.media_type == DOCKER_MANIFEST
    assert ".docker." in docker.layers[0].media_type and not docker.layers[0].annotations
    with pytest.raises(ExportError, match="compression=zstd"):
        assemble_image(config, [replace(desc, media_type=OCI_LAYER_ZSTD)], oci=False)
    with pytest.raises(ExportError, match="cannot export annotations"):
        assemble_image(config, [desc], oci=False, annotations=[("a", "b")])
    with pytest.raises(ExportError, match="index annotations not supported for single platform export"):
        assemble_result([oci], annotations=[("a", "b")])
    with pytest.raises(ExportError, match="cannot export attestations"):
        assemble_result(attested(content, "amd64"), oci=False)


def test_one_image_is_a_bare_manifest_and_stable(tmp_path):
    content = environment(tmp_path).content
    one, two = result(content), result(content)
    assert one.descriptor == two.descriptor and one.index is None
    assert one.descriptor.media_type == OCI_MANIFEST


def test_index_lists_images_then_attestations(tmp_path):
    content = environment(tmp_path).content
    res = assemble_result(attested(content, "arm64", "amd64"))
    doc = json.loads(res.index)
    assert [m["platform"]["architecture"] for m in doc["manifests"]] == [
        "arm64",
        "amd64",
        "unknown",
        "unknown",
    ]
    assert [m["annotations"]["vnd.docker.reference.digest"] for m in doc["manifests"][2:]] == [
        m["digest"] for m in doc["manifests"][:2]
    ]
    manifest = json.loads(dict(res.documents)[doc["manifests"][2]["digest"]])
    assert manifest["config"] == {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "size": 2,
        "data": "e30=",
    }
    assert manifest["subject"]["digest"] == doc["manifests"][0]["digest"]
    assert manifest["layers"][0]["annotations"] == {
        "in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"
    }
    legacy = assemble_result(attested(content, "amd64"), oci_artifact=False)
    manifest = json.loads(dict(legacy.documents)[json.loads(legacy.index)["manifests"][1]["digest"]])
    assert "subject" not in manifest and manifest["config"]["mediaType"].endswith("config.v1+json")


def test_layout_tar(tmp_path):
    env = environment(tmp_path)
    res = result(env.content)
    meta = export(env, Output("oci", "out.tar"), ["app:1", "localhost:5000/x/y:2"], res)
    assert meta["containerimage.digest"] == res.descriptor.digest
    assert meta["containerimage.config.digest"] == res.images[0].config_digest
    assert meta["image.name"] == "docker.io/library/app:1,localhost:5000/x/y:2"
    with tarfile.open(tmp_path / "out.tar") as tar:
        members = tar.getmembers()
        assert [m.name for m in members] == sorted(m.name for m in members)
        assert {(m.uid, m.gid, m.mtime) for m in members} == {(0, 0, 0)}
        tar.extractall(tmp_path / "x", filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(
            tmp_path / "x"
        )
    assert validate(str(tmp_path / "x")) == []
    entries = read_index(str(tmp_path / "x"))
    assert [e["annotations"]["io.containerd.image.name"] for e in entries] == [
        "docker.io/library/app:1",
        "localhost:5000/x/y:2",
    ]
    assert entries[0]["annotations"]["org.opencontainers.image.ref.name"] == "1"
    assert entries[0]["annotations"]["org.opencontainers.image.created"] == "2026-01-01T00:00:00Z"
    assert sorted(os.listdir(tmp_path)) == ["lap", "out.tar", "x"]
    first = (tmp_path / "out.tar").read_bytes()
    export(env, Output("oci", "out.tar"), ["app:1", "localhost:5000/x/y:2"], res)
    assert (tmp_path / "out.tar").read_bytes() == first


def test_layout_tar_to_stdout(tmp_path):
    out = io.BytesIO()
    env = environment(tmp_path, stdout=out)
    export(env, Output("oci", "-"), [], result(env.content))
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        doc = json.load(tar.extractfile("index.json"))
    assert "io.containerd.image.name" not in doc["manifests"][0]["annotations"]
    with pytest.raises(
        UsageError, match="dest file is required for oci exporter. refusing to write to console"
    ):
        open_exporter(Output("oci", "-"), [], replace(env, stdout_tty=True))


def test_layout_directory_replaces_tags(tmp_path):
    env = environment(tmp_path)
    spec = Output("oci", "dir", (("tar", "false"),))
    export(env, spec, ["app:1"], result(env.content))
    export(env, spec, ["app:2"], result(env.content, "arm64"))
    newest = assemble_result([image(env.content, files={"z": b"z"})])
    export(env, spec, ["app:1"], newest)
    entries = read_index(str(tmp_path / "dir"))
    assert [e["annotations"]["org.opencontainers.image.ref.name"] for e in entries] == ["2", "1"]
    assert entries[1]["digest"] == newest.descriptor.digest
    assert validate(str(tmp_path / "dir")) == []


@pytest.mark.parametrize("archs", [("amd64",), ("amd64", "arm64")])
def test_skopeo_and_umoci_read_layouts(tmp_path, archs):
    need("skopeo")
    env = environment(tmp_path)
    export(
        env,
        Output("oci", "dir", (("tar", "false"),)),
        ["app:1"],
        assemble_result(attested(env.content, *archs)) if len(archs) > 1 else result(env.content, *archs),
    )
    doc = json.loads(
        run(
            "skopeo", "inspect", "--override-arch", "amd64", "--override-os", "linux", f"oci:{tmp_path}/dir:1"
        )
    )
    assert doc["Architecture"] == "amd64" and len(doc["Layers"]) == 2
    if len(archs) == 1:
        need("umoci")
        run("umoci", "unpack", "--rootless", "--image", f"{tmp_path}/dir:1", f"{tmp_path}/bundle")
        assert (tmp_path / "bundle/rootfs/app/hello").read_bytes() == b"hello amd64"


@pytest.mark.parametrize(
    ("kind", "oci"),
    [("gzip", True), ("zstd", True), ("uncompressed", True), ("gzip", False), ("uncompressed", False)],
)
def test_every_kind_of_layer_is_read_by_skopeo(tmp_path, kind, oci):
    need("skopeo")
    env = environment(tmp_path)
    pairs = [layer(env.content, {"a": b"1" * 5000}, kind), layer(env.content, {"b": b"2"}, kind)]
    config = {
        "os": "linux",
        "architecture": "amd64",
        "config": {},
        "rootfs": {"diff_ids": [d for _, d in pairs]},
    }
    res = assemble_result([assemble_image(config, [d for d, _ in pairs], oci=oci)])
    export(env, Output("oci", "dir", (("tar", "false"),)), ["a:1"], res)
    assert validate(str(tmp_path / "dir")) == []
    if oci:  # skopeo looks for OCI types only in a layout
        run("skopeo", "--insecure-policy", "copy", f"oci:{tmp_path}/dir:1", f"dir:{tmp_path}/copy")
    if kind != "zstd":
        export(env, Output("docker", "out.tar"), ["a:1"], res)
        run(
            "skopeo",
            "--insecure-policy",
            "copy",
            f"docker-archive:{tmp_path}/out.tar:a:1",
            f"dir:{tmp_path}/copy2",
        )


def test_docker_archive(tmp_path):
    need("skopeo")
    env = environment(tmp_path)
    res = result(env.content)
    export(env, Output("docker", "out.tar"), ["app:1"], res)
    with tarfile.open(tmp_path / "out.tar") as tar:
        doc = json.load(tar.extractfile("manifest.json"))
    assert (
        doc[0]["RepoTags"] == ["app:1"]
        and doc[0]["Config"] == "blobs/sha256/" + res.images[0].config_digest[7:]
    )
    found = json.loads(run("skopeo", "inspect", f"docker-archive:{tmp_path}/out.tar:app:1"))
    assert found["Architecture"] == "amd64"
    found = json.loads(run("skopeo", "inspect", "--config", f"oci-archive:{tmp_path}/out.tar:1"))
    assert found["config"]["Cmd"] == ["/app/hello"]
    many = result(env.content, "amd64", "arm64")
    with pytest.raises(
        ExportError,
        match="docker exporter does not support exporting manifest lists, use the oci exporter instead",
    ):
        open_exporter(Output("docker", "b.tar"), [], env).prepare(many)
    assert not [n for n in os.listdir(tmp_path) if n.endswith(".tmp")]


def test_podman_loads_our_archive(tmp_path):
    need("podman")
    env = environment(tmp_path)
    export(env, Output("docker", "out.tar"), ["lapstrake-test-load:1"], result(env.content))
    with tempfile.TemporaryDirectory(prefix="lp") as short:  # podman wants a short runroot
        flags = ["podman", "--root", f"{short}/r", "--runroot", f"{short}/x", "--storage-driver", "vfs"]
        assert "lapstrake-test-load:1" in run(*flags, "load", "-i", f"{tmp_path}/out.tar")


def test_engine_by_program(tmp_path):
    notes: list[str] = []
    env = environment(tmp_path, search=(str(tmp_path / "bin"),), note=notes.append)
    os.makedirs(tmp_path / "bin")

    def engine(name: str, script: str) -> None:
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        os.chmod(tmp_path / "bin" / name, 0o755)

    engine("docker", f'[ "$1" = version ] || cat > {tmp_path}/loaded.tar')
    export(env, Output("docker"), ["app:1"], result(env.content))
    with tarfile.open(tmp_path / "loaded.tar") as tar:
        assert "manifest.json" in tar.getnames()
    with pytest.raises(
        ExportError, match="docker exporter does not currently support exporting manifest lists"
    ):
        export(env, Output("docker"), ["app:1"], result(env.content, "amd64", "arm64"))
    engine("docker", '[ "$1" = version ] || { echo disk full >&2; exit 1; }')
    with pytest.raises(ExportError, match="disk full"):
        export(env, Output("docker"), ["app:1"], result(env.content))
    assert not notes
    engine("docker", "echo no daemon >&2; exit 1")
    export(env, Output("docker"), ["app:1"], result(env.content, "amd64", "arm64"))
    assert "no container engine answers" in notes[0]
    assert env.index.get(NAMESPACE, "docker.io/library/app:1")
    with pytest.raises(ExportError, match="docker context far: its engine does not answer"):
        export(env, Output("docker", attrs=(("context", "far"),)), ["app:1"], result(env.content))
    engine("ctr", f'[ "$1" = version ] || {{ echo "$@" > {tmp_path}/said; cat > {tmp_path}/ctr.tar; }}')
    export(env, Output("docker"), ["app:1"], result(env.content))
    assert (tmp_path / "said").read_text() == "images import -\n" and (tmp_path / "ctr.tar").exists()


def test_without_engine_the_store_takes_it(tmp_path):
    notes: list[str] = []
    env = environment(tmp_path, note=notes.append)
    export(env, Output("docker"), ["app:1"], result(env.content))
    assert notes and env.index.get(NAMESPACE, "docker.io/library/app:1")


def test_store_keeps_names_and_documents(tmp_path):
    env = environment(tmp_path)
    res = assemble_result(attested(env.content, "amd64", "arm64"), created=1)
    export(env, Output("image"), ["app:1", "app:2"], res)
    for name in ("docker.io/library/app:1", "docker.io/library/app:2"):
        found = decode(name, env.index.get(NAMESPACE, name))
        assert found.descriptor.digest == res.descriptor.digest and found.created == 1
    assert len(list(walk(res.descriptor, env.content))) == 12
    spec = Output("image", attrs=(("name-canonical", "true"),))
    export(env, spec, ["app:3"], res)
    assert f"docker.io/library/app@{res.descriptor.digest}" in dict(env.index.items(NAMESPACE))
    assert res.descriptor.media_type == OCI_INDEX


def test_missing_layer_is_found_before_a_name_is_set(tmp_path):
    env = environment(tmp_path)
    res = result(env.content)
    env.content.delete(res.images[0].layers[0].digest)
    with pytest.raises(ExportError, match="is not in the store"):
        open_exporter(Output("image"), ["app:1"], env).prepare(res)
    lazy = replace(
        res,
        images=(
            replace(
                res.images[0], lazy_sources=((res.images[0].layers[0].digest, "docker.io/library/base"),)
            ),
        ),
    )
    export(env, Output("image"), ["app:1"], lazy)
    assert decode("x", env.index.get(NAMESPACE, "docker.io/library/app:1")).sources


def test_lazy_layers_are_fetched_for_archives(tmp_path):
    env = environment(tmp_path)
    res = result(env.content)
    base = res.images[0].layers[0]
    raw = env.content.read(base.digest)
    env.content.delete(base.digest)
    asked = []

    def fetch(desc: Descriptor, source: str) -> None:
        asked.append((desc.digest, source))
        env.content.put(raw)

    lazy = replace(
        res, images=(replace(res.images[0], lazy_sources=((base.digest, "docker.io/library/base"),)),)
    )
    export(replace(env, fetch=fetch), Output("oci", "o.tar"), [], lazy)
    assert asked == [(base.digest, "docker.io/library/base")]


BROKEN = {
    "flipped layer": lambda d, r: _overwrite(
        d, r.images[0].layers[0].digest, b"x" * r.images[0].layers[0].size
    ),
    "short layer": lambda d, r: _overwrite(d, r.images[0].layers[0].digest, b"x"),
    "missing config": lambda d, r: os.unlink(d / "blobs/sha256" / r.images[0].config_digest[7:]),
    "foreign version": lambda d, r: (d / "oci-layout").write_text("{}"),
    "no entries": lambda d, r: (d / "index.json").write_text('{"schemaVersion":2,"manifests":[]}'),
}


def _overwrite(root: Path, digest: str, data: bytes) -> None:
    path = root / "blobs/sha256" / digest[7:]
    os.chmod(path, 0o644)
    path.write_bytes(data)


@pytest.mark.parametrize("how", sorted(BROKEN))
def test_validate_finds(tmp_path, how):
    env = environment(tmp_path)
    res = result(env.content, "amd64", "arm64")
    export(env, Output("oci", "dir", (("tar", "false"),)), ["a:1"], res)
    assert validate(str(tmp_path / "dir")) == []
    BROKEN[how](tmp_path / "dir", res)
    assert validate(str(tmp_path / "dir"))


def test_validate_counts_history_and_diff_ids(tmp_path):
    env = environment(tmp_path)
    desc, _ = layer(env.content, {"a": b"1"})
    one = assemble_image(
        {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": ["sha256:" + "0" * 64]}}, [desc]
    )
    export(env, Output("oci", "dir", (("tar", "false"),)), [], assemble_result([one]))
    assert [f for f in validate(str(tmp_path / "dir")) if "uncompressed it is not" in f]


USAGE = [
    (Output(""), "type is required for output"),
    (Output("local"), "dest is required for local exporter"),
    (Output("local", "-"), "dest cannot be stdout for local exporter"),
    (Output("local", "file"), "destination directory file is a file"),
    (Output("tar", "folder"), "destination file folder is a directory"),
    (Output("tar", "-"), "dest file is required for tar exporter. refusing to write to console"),
    (Output("registry"), "tag is needed when pushing to registry"),
    (
        Output("image", attrs=(("oci-mediatypes", "false"), ("oci-artifact", "true"))),
        'exporter option "oci-artifact=true" conflicts with "oci-mediatypes=false"',
    ),
    (
        Output("image", attrs=(("oci-mediatypes", "false"), ("compression", "zstd"))),
        'exporter option "compression=zstd" conflicts with "oci-mediatypes=false"',
    ),
    (
        Output("image", attrs=(("push", "true"), ("push-by-digest", "true"), ("name", "a:1"))),
        "can't push tagged ref a:1 by digest",
    ),
    (Output("image", attrs=(("annotation-x.k", "v"),)), 'unknown annotation type "x"'),
    (Output("image", attrs=(("name", "UPPER"),)), "invalid tag"),
    (Output("local", "/tmp", (("mode", "delete"),)), "mode=delete"),
]


@pytest.mark.parametrize(("spec", "message"), USAGE, ids=[m[:40] for _, m in USAGE])
def test_usage_errors(tmp_path, spec, message):
    env = environment(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError) as e:
        open_exporter(spec, [], env)
    assert message in e.value.message


def test_only_one_output_to_stdout():
    with pytest.raises(UsageError, match="multiple outputs configured to write to stdout"):
        check_outputs([Output("tar", "-"), Output("oci", "-")])
    check_outputs([Output("tar", "-"), Output("oci", "x"), Output("docker"), Output("cacheonly")])


def test_annotation_keys():
    found = annotations_of(
        {
            "annotation.a.b": "1",
            "annotation-index.c": "2",
            "annotation-manifest-descriptor[linux(10.0)/amd64].d": "3",
            "push": "true",
        }
    )
    assert [(a.level, a.platform, a.key) for a in found] == [
        ("manifest", "", "a.b"),
        ("index", "", "c"),
        ("manifest-descriptor", "linux(10.0)/amd64", "d"),
    ]


def test_several_abort_together(tmp_path):
    log = []

    class Step:
        def __init__(self, name, fails=False):
            self.name, self.fails = name, fails

        def prepare(self, res):
            log.append("prepare " + self.name)
            if self.fails:
                raise ExportError("no")

        def commit(self):
            return {self.name: 1}

        def abort(self):
            log.append("abort " + self.name)

    with pytest.raises(BuildError):
        Several([Step("a"), Step("b", True)]).prepare(None)
    assert log == ["prepare a", "prepare b", "abort a", "abort b"]


def test_digests_never_name_other_files():
    good = "sha256:" + hashlib.sha256(b"").hexdigest()
    assert is_digest(good)
    for bad in ("", "sha256:../../x", good.upper(), good + "/..", "sha512:" + "0" * 128):
        assert not is_digest(bad)
