"""Pushing to a real registry, joining images there, and the local store's commands."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from lapstrake.engine import images as local
from lapstrake.errors import BuildError, ExportError, UsageError
from lapstrake.export.attachment import statement_descriptor
from lapstrake.export.join import assemble_result
from lapstrake.export.open import open_exporter
from lapstrake.export.registry import in_parallel, push, targets_of
from lapstrake.imagetools import CreateOptions, Inspection, Tools, create
from lapstrake.oci.descriptor import OCI_MANIFEST
from lapstrake.oci.platform import Platform
from lapstrake.registry.auth import Auth
from lapstrake.registry.client import Client
from lapstrake.registry.config import RegistryConfig
from lapstrake.store.content import ContentStore
from lapstrake.testing.images import Output, environment, image, result
from lapstrake.testing.registry import Registry, available
from lapstrake.values import Value, replace

needs_registry = pytest.mark.skipif(not available(), reason="no docker-registry installed")


class Settings(Value):
    root: str


@pytest.fixture(scope="module")
def registry():
    with Registry() as running:
        yield running


@pytest.fixture
def client():
    with Client(RegistryConfig(), Auth()) as made:
        yield lambda host, insecure=False: made


def attested(content, *archs):
    out = []
    for arch in archs:
        raw = json.dumps(
            {
                "_type": "https://in-toto.io/Statement/v1",
                "predicateType": "https://slsa.dev/provenance/v1",
                "predicate": {"arch": arch},
            }
        ).encode()
        out.append(
            replace(
                image(content, arch),
                attestations=((statement_descriptor("https://slsa.dev/provenance/v1", raw), raw),),
            )
        )
    return assemble_result(out)


@needs_registry
def test_push_several_names_with_mounts(tmp_path, registry, client):
    env = environment(tmp_path, client=client)
    res = attested(env.content, "amd64", "arm64")
    names = [f"{registry.host}/push/a:1", f"{registry.host}/push/a:2", f"{registry.host}/push/b"]
    spec = Output("registry")
    exporter = open_exporter(spec, names, env)
    exporter.prepare(res)
    with pytest.raises(BuildError):  # nothing visible before commit
        Inspection(Tools(client, env.content), names[0])
    assert exporter._pushes[1].mounted == exporter._pushes[0].pushed
    assert exporter.commit()["containerimage.digest"] == res.descriptor.digest
    for name in names:
        assert Inspection(Tools(client, env.content), name).source.descriptor.digest == res.descriptor.digest
    again = open_exporter(spec, names[:1], env)
    again.prepare(res)
    assert again._pushes[0].pushed == 0
    if shutil.which("skopeo"):
        done = subprocess.run(
            ["skopeo", "inspect", "--tls-verify=false", "--override-arch", "arm64", f"docker://{names[2]}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert json.loads(done.stdout)["Architecture"] == "arm64"


@needs_registry
def test_push_by_digest_and_image_store_together(tmp_path, registry, client):
    env = environment(tmp_path, client=client)
    res = result(env.content)
    push(res, [f"{registry.host}/digest/a"], client, env.content, by_digest=True)
    assert (
        Inspection(Tools(client, env.content), f"{registry.host}/digest/a@{res.descriptor.digest}").image()[
            "architecture"
        ]
        == "amd64"
    )
    with pytest.raises(BuildError):
        Inspection(Tools(client, env.content), f"{registry.host}/digest/a:latest")
    exporter = open_exporter(Output("image", attrs=(("push", "true"),)), [f"{registry.host}/digest/b:1"], env)
    exporter.prepare(res)
    exporter.commit()
    assert [i.name for i in local.list_images(Settings(str(tmp_path / "lap")))] == [
        f"{registry.host}/digest/b:1"
    ]


@needs_registry
def test_lazy_base_is_mounted_not_fetched(tmp_path, registry, client):
    env = environment(tmp_path, client=client)
    res = result(env.content)
    push(res, [f"{registry.host}/lazy/base:1"], client, env.content)
    base = res.images[0].layers[0].digest
    env.content.delete(base)
    lazy = replace(
        res, images=(replace(res.images[0], lazy_sources=((base, f"{registry.host}/lazy/base"),)),)
    )
    exporter = open_exporter(Output("registry"), [f"{registry.host}/lazy/app:1"], env)
    exporter.prepare(lazy)
    exporter.commit()
    assert not env.content.has(base)


def test_push_errors_name_the_image(tmp_path):
    class Refusing:
        def has_blob(self, ref, digest):
            raise ExportError("denied", hint="log in")

    env = environment(tmp_path)
    with pytest.raises(ExportError, match="failed to push docker.io/library/a: denied") as e:
        push(result(env.content), ["a:1"], lambda host, insecure: Refusing(), env.content)
    assert e.value.hint == "log in"


def test_targets_are_grouped():
    found = targets_of(["a:1", "b", "a:2", "a:1"])
    assert [(t.repository, t.tags) for t in found] == [("library/a", ("1", "2")), ("library/b", ("latest",))]
    assert targets_of(["a"], by_digest=True)[0].tags == ()


def test_in_parallel_stops_at_the_first_error():
    done = []

    def work(n):
        if n == 3:
            raise ExportError("three")
        done.append(n)

    with pytest.raises(ExportError, match="three"):
        in_parallel(work, list(range(200)), 1)
    assert done == [0, 1, 2]


@needs_registry
def test_create_joins_and_copies(tmp_path, registry, client):
    env = environment(tmp_path, client=client)
    tools = Tools(client, env.content)
    host = registry.host
    push(attested(env.content, "amd64"), [f"{host}/tools/amd:1"], client, env.content)
    push(result(env.content, "arm64"), [f"{host}/tools/arm:1"], client, env.content)
    elsewhere = Tools(client, ContentStore(str(tmp_path / "other")))
    made = create(
        elsewhere,
        [f"{host}/tools/amd:1", f"{host}/tools/arm:1"],
        [f"{host}/tools/joined:1", f"{host}/tools/again:2"],
    )
    found = Inspection(tools, f"{host}/tools/joined:1")
    assert [d["platform"]["architecture"] for d in found.manifest["manifests"]] == [
        "amd64",
        "arm64",
        "unknown",
    ]
    assert found.provenance() == {"linux/amd64": {"SLSA": {"arch": "amd64"}}}
    assert found.fields("{{json .Provenance}}")["Provenance"] == found.provenance()
    assert found.fields("{{.Name}}") == {"name": f"{host}/tools/joined:1", "manifest": found.manifest}
    assert found.manifest["digest"] == made.descriptor.digest
    assert "Platform:    linux/arm64" in found.text()
    copy = create(elsewhere, [f"{host}/tools/joined:1"], [f"{host}/tools/copy:1"])
    assert copy.descriptor.digest == made.descriptor.digest
    only = create(
        elsewhere,
        [f"{host}/tools/joined:1"],
        [],
        CreateOptions(dry_run=True, platforms=(Platform("linux", "arm64"),)),
    )
    assert [d["platform"]["architecture"] for d in json.loads(only.raw)["manifests"]] == ["arm64"]
    bare = create(
        elsewhere, [f"{host}/tools/arm:1"], [f"{host}/tools/bare:1"], CreateOptions(prefer_index=False)
    )
    assert bare.descriptor.media_type == OCI_MANIFEST


@needs_registry
def test_append_replaces_a_platform_with_its_attestations(tmp_path, registry, client):
    env = environment(tmp_path, client=client)
    host = registry.host
    push(attested(env.content, "amd64", "arm64"), [f"{host}/append/app:1"], client, env.content)
    newer = assemble_result([image(env.content, files={"new": b"new"})])
    push(newer, [f"{host}/append/new:1"], client, env.content)
    options = CreateOptions(
        append=True, annotations=(("index", "", "a", "1"), ("manifest-descriptor", "linux/amd64", "b", "2"))
    )
    made = json.loads(
        create(Tools(client, env.content), [f"{host}/append/new:1"], [f"{host}/append/app:1"], options).raw
    )
    shown = [(d["platform"]["architecture"], d.get("annotations", {}).get("b")) for d in made["manifests"]]
    assert shown == [("arm64", None), ("amd64", "2"), ("unknown", None)]
    assert made["annotations"] == {"a": "1"}
    with pytest.raises(UsageError, match="no platform linux/s390x found in source"):
        create(
            Tools(client, env.content),
            [f"{host}/append/new:1"],
            [f"{host}/append/x:1"],
            CreateOptions(annotations=(("manifest-descriptor", "linux/s390x", "b", "2"),)),
        )
    with pytest.raises(BuildError, match="no match for platform"):
        create(
            Tools(client, env.content),
            [f"{host}/append/new:1"],
            [f"{host}/append/x:1"],
            CreateOptions(platforms=(Platform("linux", "s390x"),)),
        )


@pytest.mark.parametrize(("tags", "options", "message"), [
    ([], CreateOptions(), "repository is required"), (["a@sha256:" + "0" * 64], CreateOptions(), "can't push to a digest reference"),
    ([], CreateOptions(append=True, dry_run=True), "can't append with no reference"), (["a"], CreateOptions(), "no sources specified"),
])  # fmt: skip
def test_create_usage(tmp_path, tags, options, message):
    with pytest.raises(UsageError, match=message):
        create(Tools(lambda host, insecure: None, None), [], tags, options)


def test_local_images(tmp_path):
    env = environment(tmp_path)
    settings = Settings(str(tmp_path / "lap"))
    res = attested(env.content, "amd64", "arm64")
    single = result(env.content)
    for spec, one, name in ((Output("image"), res, "app:1"), (Output("image"), single, "one")):
        exporter = open_exporter(spec, [name], env)
        exporter.prepare(one)
        exporter.commit()
    env.index.close()
    found = local.list_images(settings)
    assert [(i.name, i.platforms) for i in found] == [
        ("docker.io/library/app:1", ("linux/amd64", "linux/arm64")),
        ("docker.io/library/one:latest", ("linux/amd64",)),
    ]
    assert found[1].config_digest == single.images[0].config_digest
    assert found[1].complete
    assert local.tag(settings, "app:1", "app:2", "ghcr.io/x/y:z") == (
        "docker.io/library/app:2",
        "ghcr.io/x/y:z",
    )
    shown = local.inspect(settings, "app:2", Platform("linux", "arm64"))
    assert [i["platform"] for i in shown["images"]] == ["linux/arm64"]
    assert local.inspect(settings, found[1].config_digest[7:19])["name"] == "docker.io/library/one:latest"
    env.content.delete(single.images[0].layers[1].digest)
    assert [i.complete for i in local.list_images(settings)] == [False, False, False, False]
    assert local.remove(settings, ["app:1", "one"]) == (
        "docker.io/library/app:1",
        "docker.io/library/one:latest",
    )
    with pytest.raises(ExportError, match="no such image: app:1"):
        local.remove(settings, ["app:2", "app:1"])
    assert len(local.list_images(settings)) == 2
