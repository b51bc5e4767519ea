"""Pull and push against the real docker-registry: plain, with basic auth, with TLS, as a mirror."""

import hashlib
import io
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from lapstrake.errors import Cancelled, ResolveError
from lapstrake.oci import manifest
from lapstrake.oci.descriptor import DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_LAYER, Descriptor
from lapstrake.oci.digest import digest_of
from lapstrake.oci.reference import Reference
from lapstrake.registry.auth import Auth, Credentials
from lapstrake.registry.client import Client
from lapstrake.registry.config import parse
from lapstrake.testing.registry import Registry, available
from lapstrake.values import replace

pytestmark = pytest.mark.skipif(not available(), reason="docker-registry is not installed")
DATA = os.urandom(3 << 20)


def client(tables=None, **kw):
    return Client(replace(parse(tables or {}), backoff=(0.01,) * 4), Auth(**kw))


def blob(data):
    return Descriptor(OCI_LAYER, digest_of(data), len(data))


def opener(data):
    return lambda: io.BytesIO(data)


def push_image(c, ref, data=DATA, **kw):
    config = b'{"architecture":"amd64","os":"linux"}'
    layer, cfg = blob(data), Descriptor(OCI_CONFIG, digest_of(config), len(config))
    c.push_blob(ref, layer, opener(data))
    c.push_blob(ref, cfg, opener(config))
    raw, desc = manifest.make_manifest(cfg, [layer], **kw)
    assert c.put_manifest(ref, raw, desc.media_type) == desc.digest
    return raw, desc


@pytest.fixture(scope="module")
def registry():
    with Registry() as r:
        yield r


def test_push_and_pull(registry):
    ref = Reference(registry.host, "team/app", "1")
    with client() as c:
        c.check_push(ref)
        assert not c.has_blob(ref, blob(DATA).digest)
        raw, desc = push_image(c, ref)
        assert c.has_blob(ref, blob(DATA).digest)
        assert not c.push_blob(ref, blob(DATA), opener(DATA))
        assert c.resolve(ref) == c.resolve(ref, head=False) == desc
        assert c.resolve(ref.with_digest(desc.digest)) == desc
        assert c.get_manifest(ref) == (raw, desc.media_type, desc.digest)
        out = bytearray()
        c.fetch_blob(ref, blob(DATA), out.extend)
        assert hashlib.sha256(out).digest() == hashlib.sha256(DATA).digest()
        c.put_manifest(ref.with_tag("2"), raw, desc.media_type)
        assert sorted(c.tags(ref)) == ["1", "2"]


def test_not_found(registry):
    ref = Reference(registry.host, "no/such", "1")
    with client() as c:
        for ask in (c.resolve, c.get_manifest, c.tags):
            with pytest.raises(ResolveError) as caught:
                ask(ref)
            assert (caught.value.message, caught.value.status) == (
                f"{registry.host}/no/such:1: not found",
                404,
            )
        with pytest.raises(ResolveError, match="not found"):
            c.fetch_blob(ref, blob(b"x"), lambda _: None)
        assert c.referrers(ref, blob(b"x").digest) == []


def test_mount(registry):
    data = os.urandom(1000)
    with client() as c:
        c.push_blob(Reference(registry.host, "from"), blob(data), opener(data))
        assert c.mount_blob(Reference(registry.host, "to"), blob(data).digest, "from")
        assert c.has_blob(Reference(registry.host, "to"), blob(data).digest)
        other = os.urandom(1000)  # declined: the upload it opened is used
        assert not c.mount_blob(Reference(registry.host, "to"), blob(other).digest, "from")
        assert c.push_blob(Reference(registry.host, "to"), blob(other), opener(other))


def test_subject_falls_back_to_a_tag(registry):
    ref = Reference(registry.host, "subject", "1")
    with client() as c:
        _, image = push_image(c, ref)
        found = []
        for kind in ("a/x", "b/y"):
            _, desc = push_image(c, replace(ref, tag=""), subject=image, artifact_type=kind)
            found.append(desc.digest)
        assert [d.digest for d in c.referrers(ref, image.digest)] == found
        assert [d.digest for d in c.referrers(ref, image.digest, "b/y")] == found[1:]


def test_index_needs_its_children_first(registry):
    ref = Reference(registry.host, "index", "1")
    raw, _ = manifest.make_index(
        [Descriptor("application/vnd.oci.image.manifest.v1+json", "sha256:" + "0" * 64, 1)]
    )
    with client() as c:
        with pytest.raises(
            ResolveError,
            match=r"failed to push .*/index:1: unexpected status from PUT request .*: 400 Bad Request: manifest blob unknown",
        ) as caught:
            c.put_manifest(ref, raw, OCI_INDEX)
        assert caught.value.code == "MANIFEST_BLOB_UNKNOWN"


def test_wrong_content_is_refused_by_the_registry(registry):
    with client() as c, pytest.raises(ResolveError, match="digest"):
        c.push_blob(Reference(registry.host, "bad"), blob(b"abc"), opener(b"abd"))
    with client() as c, pytest.raises(ResolveError, match="ends 1 bytes before"):
        c.push_blob(Reference(registry.host, "bad"), blob(b"abc"), opener(b"ab"))


def test_parallel_pulls_share_connections(registry):
    ref = Reference(registry.host, "parallel", "1")
    with client() as c:
        push_image(c, ref)
        bad = []

        def pull():
            out = bytearray()
            c.fetch_blob(ref, blob(DATA), out.extend)
            if out != DATA:
                bad.append(1)

        threads = [threading.Thread(target=pull) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not bad


def test_cancel_ends_a_transfer(registry):
    ref = Reference(registry.host, "cancel", "1")
    with client() as c:
        push_image(c, ref)
        with pytest.raises(Cancelled):
            c.fetch_blob(ref, blob(DATA), lambda _: c.cancel())
        with pytest.raises(Cancelled):
            c.resolve(ref)


def test_basic_auth():
    with Registry(htpasswd={"ann": "s3:cret"}) as r:
        ref = Reference(r.host, "private", "1")
        with client(explicit={r.host: Credentials("ann", "s3:cret")}) as c:
            push_image(c, ref)
            assert c.tags(ref) == ["1"]
        for kw in (
            {},
            {"explicit": {r.host: Credentials("ann", "wrong")}},
            {"explicit": {"other": Credentials("ann", "s3:cret")}},
        ):
            with client(**kw) as c:
                with pytest.raises(ResolveError, match="pull access denied") as caught:
                    c.resolve(ref)
                assert caught.value.hint == f"log in with `docker login {r.host}`"
                assert caught.value.status == 401
                with pytest.raises(
                    ResolveError,
                    match="failed to push .* 401 Unauthorized: unauthorized: authentication required",
                ):
                    c.push_blob(ref, blob(b"x"), opener(b"x"))


def test_tls():
    with Registry(tls=True) as r:
        ref = Reference(r.host, "app", "1")
        with client() as c, pytest.raises(ResolveError) as caught:
            c.resolve(ref)
        assert caught.value.code == "TLS"  # no fallback to HTTP after a bad certificate
        for table in ({"ca": [r.ca]}, {"insecure": True}):
            with client({r.host: table}) as c:
                push_image(c, ref)
                assert c.tags(ref) == ["1"]
        with (
            client({r.host: {"ca": ["/does/not/exist"]}}) as c,
            pytest.raises(ResolveError, match="can't load the certificates"),
        ):
            c.resolve(ref)


def test_certs_d(tmp_path):
    with Registry(tls=True) as r:
        folder = tmp_path / r.host
        folder.mkdir()
        (folder / "ca.crt").write_bytes(Path(r.ca).read_bytes())
        config = replace(parse({}), certs_dirs=(str(tmp_path),))
        with Client(config, Auth()) as c:
            push_image(c, Reference(r.host, "app", "1"))


def test_pull_through_mirror(registry):
    with Registry(proxy_of=registry.url) as mirror, client() as c:
        push_image(c, Reference(registry.host, "mirrored", "1"))
        ref = Reference("example.invalid", "mirrored", "1")
        with client({"example.invalid": {"mirrors": [f"http://{mirror.host}"]}}) as m:
            out = bytearray()
            m.fetch_blob(ref, blob(DATA), out.extend)
            assert bytes(out) == DATA
            assert "ns=example.invalid" in mirror.log()
            with pytest.raises(ResolveError, match="example.invalid"):  # pushes never go to a mirror
                m.push_blob(ref, blob(DATA), opener(DATA))


def test_dead_mirror_is_passed_over(registry):
    ref = Reference(registry.host, "behind", "1")
    with client({registry.host: {"mirrors": ["127.0.0.1:1", "127.0.0.1:1/prefix"]}}) as c:
        _, desc = push_image(c, ref)
        assert c.resolve(ref) == desc


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_skopeo_reads_what_we_push_and_we_read_what_it_pushes(registry, tmp_path):
    ref = Reference(registry.host, "skopeo", "1")
    with client() as c:
        config = (
            b'{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["%s"]}}'
            % blob(DATA).digest.encode()
        )
        cfg = Descriptor(OCI_CONFIG, digest_of(config), len(config))
        for desc, data in ((blob(DATA), DATA), (cfg, config)):
            c.push_blob(ref, desc, opener(data))
        raw, desc = manifest.make_manifest(cfg, [blob(DATA)])
        c.put_manifest(ref, raw, desc.media_type)

        def skopeo(*args):
            subprocess.run(
                ["skopeo", "--insecure-policy", "copy", *args], check=True, capture_output=True, timeout=60
            )

        skopeo("--src-tls-verify=false", f"docker://{registry.host}/skopeo:1", f"oci:{tmp_path}/layout:1")
        skopeo(
            "--dest-tls-verify=false",
            "--format=v2s2",
            f"oci:{tmp_path}/layout:1",
            f"docker://{registry.host}/skopeo:2",
        )
        raw, media_type, _ = c.get_manifest(ref.with_tag("2"))
        found = manifest.parse(raw, media_type)
        assert media_type == DOCKER_MANIFEST
        out = bytearray()
        c.fetch_blob(ref, found.config, out.extend)
        assert b"amd64" in out
