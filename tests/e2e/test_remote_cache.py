"""Caches outside the store: what one machine built is a hit on another, and damage is only a miss."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from tests.conftest import Lap

pytestmark = pytest.mark.e2e

DOCKERFILE = """\
FROM busybox AS build
COPY src /src
RUN date +%N > /stamp && cat /src/a >> /stamp
RUN echo second > /second
FROM busybox
WORKDIR /w
RUN date +%N > /final
COPY --from=build /stamp /stamp
COPY --link top /top
"""
STEPS = 7


@pytest.fixture
def machine(tmp_path, bases):
    """Another machine: the program with an empty root of its own."""
    made = []

    def new() -> Lap:
        made.append(Lap(tmp_path / f"machine{len(made)}", bases))
        return made[-1]

    yield new
    assert [p.leftovers() for p in made] == [[]] * len(made)


@pytest.fixture
def project(context):
    return context({"Dockerfile": DOCKERFILE, "src/a": "a", "top": "t"})


def ran(steps):
    return [
        s.name.partition("] ")[2]
        for s in steps
        if s.ran and s.name.split("] ")[-1].startswith(("RUN", "COPY", "WORKDIR", "LINK"))
    ]


def export_tree(lap, project, tmp_path, *flags):
    out = tmp_path / f"out{time.monotonic_ns()}"
    lap.build(project, "-o", out, *flags)
    return {
        str(p.relative_to(out)): p.read_bytes()
        for p in out.rglob("*")
        if p.is_file() and p.parts[-2] != "bin"
    }


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """A real S3 server on a loopback port."""
    pytest.importorskip("moto.server")
    pytest.importorskip("botocore")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    log = open(tmp_path_factory.mktemp("s3") / "log", "wb")
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
    )
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT")
        ).close()
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()
        log.close()


@pytest.fixture
def cache(request, tmp_path):
    """(flag of --cache-to, flag of --cache-from) of one kind of cache."""
    if request.param == "registry":
        ref = f"{request.getfixturevalue('registry_address')}/cache-test/{os.urandom(6).hex()}:main"
        return f"type=registry,ref={ref}", f"type=registry,ref={ref}"
    if request.param == "local":
        return f"type=local,dest={tmp_path}/kept", f"type=local,src={tmp_path}/kept"
    url = request.getfixturevalue("s3_server")
    at = f"type=s3,bucket=bucket,region=us-east-1,endpoint_url={url},use_path_style=true,prefix={os.urandom(6).hex()}/,access_key_id=k,secret_access_key=s"
    return at, at


@pytest.mark.parametrize("cache", ["registry", "local", "s3"], indirect=True)
def test_max_makes_every_step_a_hit_elsewhere(machine, project, cache, tmp_path):
    to, source = cache
    first = machine()
    steps = first.build(project, "-t", "x", "--cache-to", f"{to},mode=max")
    assert len(ran(steps)) == STEPS
    assert any(s.name.startswith("exporting cache to") and not s.error for s in steps)
    expected = export_tree(first, project, tmp_path)
    second = machine()
    assert ran(second.build(project, "-t", "x", "--cache-from", source)) == []
    assert export_tree(second, project, tmp_path) == expected
    assert second("run", "x", "cat", "/w/../top").stdout == "t"
    # what was found was adopted: the same again needs no cache, and a change goes on from there
    assert ran(second.build(project)) == []
    (project / "src/a").write_text("b")
    third = machine()
    again = ran(third.build(project, "--cache-from", source))
    assert [s.split()[0] for s in again] == ["COPY", "RUN", "RUN", "COPY"], again
    assert not any("/final" in s for s in again)


@pytest.mark.parametrize("cache", ["registry"], indirect=True)
def test_min_holds_the_image_only(machine, project, cache):
    to, source = cache
    machine().build(project, "--cache-to", to)
    other = machine()
    assert ran(other.build(project, "--cache-from", source, "--target", "build"))
    assert not any("/final" in s for s in ran(machine().build(project, "--cache-from", source)))


@pytest.mark.parametrize("cache", ["registry", "s3"], indirect=True)
def test_layers_are_fetched_only_when_needed(machine, project, cache):
    to, source = cache
    machine().build(project, "--cache-to", f"{to},mode=max")
    lazy = machine()
    lazy.build(project, "--cache-from", source, "-o", "type=cacheonly")
    big = [p for p in (lazy.root / "blobs").rglob("*") if p.is_file() and p.stat().st_size > 100_000]
    assert big == []
    assert not (lazy.root / "layers").exists() or list((lazy.root / "layers").iterdir()) == []


@pytest.mark.parametrize("cache", ["registry", "local", "s3"], indirect=True)
def test_a_killed_build_has_saved_what_it_finished(machine, context, cache):
    to, source = cache
    text = (
        "FROM busybox\n"
        + "".join(f"RUN echo {n} > /{n}\n" for n in range(1, 9))
        + "RUN sleep 60\nRUN echo 10\n"
    )
    project = context({"Dockerfile": text})
    first = machine()
    child = subprocess.Popen(
        [*first.command, "build", "--progress=plain", "--cache-to", f"{to},mode=max", str(project)],
        env=first.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stderr is not None
    for line in child.stderr:
        if "RUN sleep 60" in line:
            break
    time.sleep(2)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stderr.close()
    (project / "Dockerfile").write_text(text.replace("sleep 60", "sleep 0"))
    again = ran(machine().build(project, "--cache-from", source))
    assert again == ["RUN sleep 0", "RUN echo 10"]


@pytest.mark.parametrize("cache", ["local"], indirect=True)
def test_a_failed_build_has_saved_what_it_finished(machine, context, cache):
    to, source = cache
    project = context({"Dockerfile": "FROM busybox\nRUN echo 1 > /1\nRUN echo 2 > /2\nRUN exit 3\n"})
    assert machine()("build", "--cache-to", f"{to},mode=max", project, check=False).returncode == 1
    (project / "Dockerfile").write_text("FROM busybox\nRUN echo 1 > /1\nRUN echo 2 > /2\nRUN exit 0\n")
    assert ran(machine().build(project, "--cache-from", source)) == ["RUN exit 0"]


def test_a_cache_that_goes_away_costs_its_steps_only(machine, context, tmp_path):
    project = context({"Dockerfile": "FROM busybox\nRUN echo one > /one\nRUN echo two > /two\n"})
    kept = tmp_path / "kept"
    machine().build(project, "--cache-to", f"type=local,dest={kept},mode=max")
    lap = machine()
    assert ran(lap.build(project, "--cache-from", f"type=local,src={kept}", "-o", "type=cacheonly")) == []
    shutil.rmtree(kept)
    (project / "Dockerfile").write_text(
        "FROM busybox\nRUN echo one > /one\nRUN echo two > /two\nRUN cat /one /two > /three\n"
    )
    done = lap("build", "--progress=plain", "-t", "x", project)
    assert "a cached layer could not be used, its steps are run again" in done.stderr
    assert lap("run", "x", "cat", "/three").stdout == "one\ntwo\n"


def test_parts_of_an_s3_upload_and_touching(s3_server):
    from lapstrake.oci.descriptor import Descriptor
    from lapstrake.oci.digest import digest_of
    from lapstrake.remotecache.s3 import S3Cache, S3Place

    place = S3Place(
        "bucket",
        "us-east-1",
        prefix="parts/",
        endpoint=s3_server,
        path_style=True,
        key_id="k",
        secret="s",
        touch_s=0.0,
    )
    cache = S3Cache(place, part=5 << 20)
    data = os.urandom(11 << 20)
    desc = Descriptor("application/vnd.x", digest_of(data), len(data))
    assert cache.open()
    assert cache.blob(desc, lambda: io.BytesIO(data))
    time.sleep(1.1)
    assert not cache.blob(desc, lambda: io.BytesIO(data))  # there, and touched
    out = bytearray()
    cache.fetch(desc, out.extend)
    assert bytes(out) == data
    assert cache.record("a" * 64) is None
    assert not S3Cache(
        S3Place("nowhere", "us-east-1", endpoint=s3_server, path_style=True, key_id="k", secret="s")
    ).open()


@pytest.mark.parametrize("cache", ["registry"], indirect=True)
def test_many_writers_lose_nothing(machine, context, cache):
    to, source = cache
    builders = []
    for n in range(4):
        project = context({"Dockerfile": f"FROM busybox\nRUN echo shared > /s\nRUN echo {n} > /n\n"}, f"p{n}")
        lap = machine()
        builders.append(
            (
                project,
                subprocess.Popen(
                    [*lap.command, "build", "-q", "--cache-to", f"{to},mode=max", str(project)],
                    env=lap.env,
                    stdout=subprocess.DEVNULL,
                ),
            )
        )
    assert [child.wait(120) for _, child in builders] == [0] * 4
    last = machine()
    for project, _ in builders:
        assert ran(last.build(project, "--cache-from", source)) == []


@pytest.mark.parametrize("cache", ["local"], indirect=True)
def test_no_cache_refreshes_what_is_kept(machine, project, cache, tmp_path):
    to, source = cache
    machine().build(project, "--cache-to", f"{to},mode=max")
    fresh = machine()
    fresh.build(project, "--no-cache", "--cache-to", f"{to},mode=max")
    expected = export_tree(fresh, project, tmp_path)
    assert export_tree(machine(), project, tmp_path, "--cache-from", source) == expected


# -- damage ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pristine(tmp_path_factory, bases):
    """A good cache of two steps, and the project it is of."""
    root = tmp_path_factory.mktemp("pristine")
    (root / "Dockerfile").write_text("FROM busybox\nRUN echo one > /one\nRUN echo two > /two\n")
    Lap(root / "root", bases).build(root, "--cache-to", f"type=local,dest={root}/kept,mode=max")
    return root


def damaged(kept: Path, how: str) -> None:
    blobs = sorted((kept / "blobs/sha256").iterdir(), key=lambda p: p.stat().st_size)
    records = [p for p in (kept / "records").rglob("*") if p.is_file()]
    if how == "no blobs":
        for p in blobs:
            p.unlink()
    elif how == "blobs cut short":
        for p in blobs:
            os.truncate(p, p.stat().st_size // 2)
    elif how == "blobs changed":
        for p in blobs:
            data = bytearray(p.read_bytes())
            data[len(data) // 2] ^= 1
            p.write_bytes(data)
    elif how == "records cut short":
        for p in records:
            os.truncate(p, p.stat().st_size // 2)
    elif how == "records changed":
        for p in records:
            p.write_bytes(p.read_bytes().replace(b"diffID", b"diffid"))
    elif how == "records exchanged":
        names, data = list(records), [p.read_bytes() for p in records]
        for p, d in zip(names, [*data[1:], data[0]], strict=True):
            p.write_bytes(d)
    else:
        for p in records:
            rewrite(p, how)


def rewrite(path: Path, how: str) -> None:
    """A record that is whole and well sealed, but wrong."""
    from lapstrake.remotecache.record import seal, unseal

    doc = json.loads(unseal(path.read_bytes()))
    layers = [x for x in doc["layers"] if not x.get("base")]
    if how == "another platform":
        doc["platform"] = "linux/s390x"
    elif how == "another kind of step":
        doc["op"] = "MkdirOp" if doc["op"] != "MkdirOp" else "ExecOp"
    elif how == "huge layer":
        layers[-1]["size"] = 1 << 50
    elif how == "wrong size":
        layers[-1]["size"] += 1
    elif how == "wrong diffID":
        layers[-1]["diffID"] = "sha256:" + "0" * 64
    elif how == "path for a digest":
        layers[-1]["digest"] = "sha256:../../../../etc/passwd"
    elif how == "deep":
        path.write_bytes(seal(b"[" * 100_000))
        return
    elif how == "big":
        doc["name"] = "x" * (2 << 20)
    path.write_bytes(seal(json.dumps(doc).encode()))


def check_layers(archive: Path) -> None:
    """The layers of an image are what its config says."""
    import gzip
    import hashlib
    import tarfile

    with tarfile.open(archive) as tar:

        def blob(digest: str) -> bytes:
            return tar.extractfile(f"blobs/sha256/{digest[7:]}").read()  # type: ignore[union-attr]

        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
        manifest = json.loads(blob(index["manifests"][0]["digest"]))
        diff_ids = json.loads(blob(manifest["config"]["digest"]))["rootfs"]["diff_ids"]
        assert [
            "sha256:" + hashlib.sha256(gzip.decompress(blob(x["digest"]))).hexdigest()
            for x in manifest["layers"]
        ] == diff_ids


LATER = ("blobs changed", "wrong diffID")  # what only shows when a layer is used


@pytest.mark.parametrize(
    "how",
    ["no blobs", "blobs cut short", "blobs changed", "records cut short", "records changed", "records exchanged", "another platform",
     "another kind of step", "huge layer", "wrong size", "wrong diffID", "path for a digest", "deep", "big"],
)  # fmt: skip
def test_damage_is_a_miss_and_a_warning(machine, pristine, tmp_path, how):
    project = pristine
    kept = Path(shutil.copytree(pristine / "kept", tmp_path / "kept"))
    damaged(kept, how)
    lap = machine()
    archive = tmp_path / "x.tar"
    flags = (
        "--cache-from",
        f"type=local,src={kept}",
        "-o",
        f"type=local,dest={tmp_path}/files",
        "-o",
        f"type=oci,dest={archive}",
    )
    done = lap("build", "--progress=plain", *flags, project)
    assert [(tmp_path / "files" / n).read_text() for n in ("one", "two")] == ["one\n", "two\n"]
    check_layers(archive)
    text = done.stderr
    assert "cache" in text.lower() and "WARN" in text.upper(), text
    assert text.count(" CACHED") == 0 or how in LATER, text


def test_a_damaged_cache_is_mended_by_the_next_export(machine, context, tmp_path):
    project = context({"Dockerfile": "FROM busybox\nRUN echo one > /one\nRUN echo two > /two\n"})
    kept = tmp_path / "kept"
    lap = machine()
    flags = ("--cache-to", f"type=local,dest={kept},mode=max")
    lap.build(project, *flags)
    damaged(kept, "records cut short")
    damaged(kept, "blobs cut short")
    lap.build(project, *flags)
    assert ran(machine().build(project, "--cache-from", f"type=local,src={kept}")) == []


# -- inline, and what is no cache --------------------------------------------------------------------


def test_inline(machine, project, registry_address):
    ref = f"{registry_address}/cache-test/{os.urandom(6).hex()}:v1"
    machine().build(project, "-t", ref, "--push", "--cache-to", "type=inline")
    again = ran(machine().build(project, "--cache-from", ref))
    assert not any("/final" in s or "top" in s for s in again)
    config = json.loads(machine()("imagetools", "inspect", "--format", "{{json .Image}}", ref).stdout)
    body = json.loads(base64.b64decode(config["moby.buildkit.cache.v0"]))
    assert len(body["layers"]) == 5 and len(body["records"]) == 4
    # an image is no cache source unless it is named
    (project / "Dockerfile").write_text(f"FROM {ref} AS old\n{DOCKERFILE}")
    assert any("/final" in s for s in ran(machine().build(project)))


def test_inline_by_build_argument(machine, project, registry_address):
    ref = f"{registry_address}/cache-test/{os.urandom(6).hex()}:v1"
    machine().build(project, "-t", ref, "--push", "--build-arg", "BUILDKIT_INLINE_CACHE=1")
    other = machine().build(project, "--cache-from", ref, "--build-arg", "BUILDKIT_INLINE_CACHE=1")
    assert not any("/final" in s for s in ran(other))


# -- failures and options ------------------------------------------------------------------------------


def test_failing_imports_warn_and_failing_exports_fail(machine, context):
    project = context({"Dockerfile": "FROM busybox\nRUN true\n"})
    lap = machine()
    done = lap("build", "--progress=plain", "--cache-from", "type=registry,ref=localhost:9/x:y", project)
    assert "importing cache from localhost:9/x:y" in done.stderr
    done = lap("build", "--cache-to", "type=registry,ref=localhost:9/x:y", project, check=False)
    assert done.returncode == 1
    assert "exporting cache to localhost:9/x:y" in done.stderr
    assert "Traceback" not in done.stderr
    lap("build", "--cache-to", "type=registry,ref=localhost:9/x:y,ignore-error=true", project)


def test_what_can_not_work_is_said_first(machine, context):
    project = context({"Dockerfile": "FROM busybox\nRUN false\n"})
    done = machine()("build", "--cache-to", "type=gha", project, check=False)
    assert done.returncode == 2
    assert "can't be used by Lapstrake" in done.stderr


def test_attributes_of_a_local_cache(machine, context, tmp_path):
    project = context({"Dockerfile": "FROM busybox\nRUN echo one > /one\n"})
    kept = tmp_path / "kept"
    machine().build(
        project, "--cache-to", f"type=local,dest={kept},tag=a,compression=zstd,compression-level=3"
    )
    index = json.loads((kept / "index.json").read_bytes())
    assert [m["annotations"]["org.opencontainers.image.ref.name"] for m in index["manifests"]] == ["a"]
    manifest = json.loads((kept / "blobs/sha256" / index["manifests"][0]["digest"][7:]).read_bytes())
    assert [x["mediaType"] for x in manifest["layers"]] == ["application/vnd.oci.image.layer.v1.tar+zstd"]
    digest = index["manifests"][0]["digest"]
    assert ran(machine().build(project, "--cache-from", f"type=local,src={kept}")) != []  # another tag
    assert ran(machine().build(project, "--cache-from", f"type=local,src={kept},tag=a")) == []
    assert ran(machine().build(project, "--cache-from", f"type=local,src={kept},digest={digest}")) == []
    before = len(list((kept / "blobs/sha256").iterdir()))
    (project / "Dockerfile").write_text("FROM busybox\nRUN echo two > /two\n")
    machine().build(project, "--cache-to", f"type=local,dest={kept},tag=a,reset=true,image-manifest=false")
    assert len(list((kept / "blobs/sha256").iterdir())) == before
    assert ran(machine().build(project, "--cache-from", f"type=local,src={kept},tag=a")) == []


@pytest.mark.parametrize(
    "form",
    [
        "image-manifest=false",
        "oci-mediatypes=false",
        "compression=uncompressed",
        "force-compression=true,compression=zstd",
    ],
)
def test_forms_of_a_registry_cache(machine, context, registry_address, form):
    project = context({"Dockerfile": "FROM busybox\nRUN echo one > /one\n"})
    ref = f"{registry_address}/cache-test/{os.urandom(6).hex()}:c"
    machine().build(project, "--cache-to", f"type=registry,ref={ref},mode=max,{form}")
    assert ran(machine().build(project, "--cache-from", ref)) == []
