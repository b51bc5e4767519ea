"""login, push, pull, logout and imagetools on the command line, against the real docker-registry."""

import io
import json
import os
import stat

import pytest

from lapstrake.cli.main import main
from lapstrake.config import load
from lapstrake.engine.engine import Engine
from lapstrake.errors import BuildError, ResolveError
from lapstrake.export.join import assemble_result
from lapstrake.export.open import open_exporter
from lapstrake.export.places import MOUNT, UNPUSHED
from lapstrake.registry.login import erase, store
from lapstrake.testing.faultproxy import FaultProxy
from lapstrake.testing.images import Output, environment, image, result
from lapstrake.testing.registry import Registry, available, free_port

needs_registry = pytest.mark.skipif(not available(), reason="docker-registry is not installed")


@pytest.fixture(scope="module")
def registry():
    with Registry(htpasswd={"ann": "secret"}) as running:
        yield running


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Run the program with a home of its own; (exit code, output, errors)."""
    for name in list(os.environ):
        if name.startswith(("LAPSTRAKE_", "DOCKER_", "XDG_", "REGISTRY_AUTH")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", "/dev/null")

    def run(*words, root="root"):
        monkeypatch.setenv("LAPSTRAKE_ROOT", str(tmp_path / root))
        code = main(list(words))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def stored(tmp_path, name, *archs, root="root", client=None):
    """Put an image into the local store, as a build would."""
    with Engine(load(str(tmp_path / root), None, {"HOME": str(tmp_path)})) as engine:
        env = environment(tmp_path / root)
        env.index.close()
        from lapstrake.values import replace

        env = replace(env, content=engine.content, index=engine.index, client=engine.client)
        res = (
            assemble_result([image(engine.content, a) for a in archs])
            if len(archs) > 1
            else result(engine.content)
        )
        exporter = open_exporter(Output("image"), [name], env)
        exporter.prepare(res)
        exporter.commit()
        return res


@needs_registry
def test_login_push_pull_logout(tmp_path, registry, cli, monkeypatch):
    monkeypatch.setenv("LAPSTRAKE_EXIT_CODES", "detailed")
    name = f"{registry.host}/team/app:1"
    res = stored(tmp_path, name, "amd64", "arm64")
    code, _, err = cli("push", name)
    assert code == 4 and "docker login" in err
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert cli("login", registry.host, "-u", "ann", "-p", "wrong")[0] == 4
    assert not (tmp_path / ".docker/config.json").exists()
    code, out, _ = cli("login", f"http://{registry.host}/v2/", "-u", "ann", "-p", "secret")
    assert code == 0 and out.startswith("Login Succeeded")
    assert stat.S_IMODE((tmp_path / ".docker/config.json").stat().st_mode) == 0o600
    code, out, err = cli("push", name)
    assert code == 0, err
    assert f"digest: {res.descriptor.digest}" in out
    # only the platform asked for is fetched, the rest stays where it is
    code, out, err = cli("pull", "--platform", "linux/arm64", name, root="other")
    assert code == 0, err
    assert f"Digest: {res.descriptor.digest}" in out
    listed = json.loads(cli("images", "--format", "json", root="other")[1])
    assert listed["Platforms"] == ["linux/amd64", "linux/arm64"] and not listed["Complete"]
    # what is still elsewhere is mounted there, or fetched when it goes to another registry
    cli("tag", name, f"{registry.host}/copy/app:2", root="other")
    assert cli("push", "-q", f"{registry.host}/copy/app:2", root="other") == (
        0,
        res.descriptor.digest + "\n",
        "",
    )
    with Registry() as second:
        cli("tag", name, f"{second.host}/copy:3", root="other")
        code, out, err = cli("push", f"{second.host}/copy:3", root="other")
        assert code == 0, err
        assert cli("pull", "-q", "--all-platforms", f"{second.host}/copy:3", root="third")[0] == 0
        assert json.loads(cli("images", "--format", "json", root="third")[1])["Complete"]
    code, out, _ = cli("imagetools", "inspect", name)
    assert code == 0 and out.startswith(
        f"Name:      {name}\nMediaType: application/vnd.oci.image.index.v1+json\n"
    )
    assert cli("imagetools", "inspect", name, "--creds", "ann:wrong")[0] == 4
    assert cli("logout", registry.host)[1] == f"Removed login credentials for {registry.host}\n"
    assert cli("logout", registry.host)[1] == f"Not logged in to {registry.host}\n"
    assert cli("pull", name, root="fourth")[0] == 4
    assert cli("pull", name, "--creds", "ann:secret", root="fourth")[0] == 0


@needs_registry
def test_imagetools_create_on_the_command_line(tmp_path, cli):
    with Registry() as r:
        names = [f"{r.host}/a:{n}" for n in ("x", "y")]
        for name, arch in zip(names, ("amd64", "arm64"), strict=True):
            with Engine(load(str(tmp_path / "root"), None, {"HOME": str(tmp_path)})) as engine:
                from lapstrake.export.registry import push

                push(assemble_result([image(engine.content, arch)]), [name], engine.client, engine.content)
        target, meta = f"{r.host}/joined:1", tmp_path / "meta.json"
        source = tmp_path / "source"
        source.write_text(names[1] + "\n")
        words = ["imagetools", "create", "-t", target, "-t", f"{r.host}/joined:2", "--metadata-file", str(meta),
                 "--annotation", "index:org.example.a=1", "--annotation", "manifest-descriptor[linux/arm64]:b=2",
                 "-f", str(source), names[0]]  # fmt: skip
        assert cli(*words)[0] == 0
        made = json.loads(meta.read_text())
        assert made["image.name"] == f"{target},{r.host}/joined:2"
        digest = made["containerimage.descriptor"]["digest"]
        assert cli("imagetools", "inspect", target)[1] == INSPECTED.format(
            host=r.host, digest=digest, **digests(cli("imagetools", "inspect", "--raw", target)[1])
        )
        form = '{{.Name}} {{.Manifest.Digest}} {{len .Manifest.Manifests}} {{(index .Image "linux/arm64").architecture}}'
        assert cli("imagetools", "inspect", target, "--format", form)[1] == f"{target} {digest} 2 arm64\n"
        shown = json.loads(cli("imagetools", "inspect", names[0], "--format", "{{json .}}")[1])
        assert shown["image"]["architecture"] == "amd64" and set(shown["manifest"]) == {
            "mediaType",
            "digest",
            "size",
        }
        assert cli("imagetools", "inspect", target, "--format", "{{json .SBOM}}")[1] == "{}\n"
        dry = json.loads(cli("imagetools", "create", "--dry-run", "-p", "linux/arm64", target)[1])
        assert [m["platform"]["architecture"] for m in dry["manifests"]] == ["arm64"]
        # appending replaces what has the same platform
        assert cli("imagetools", "create", "--append", "-t", target, names[0])[0] == 0
        assert len(json.loads(cli("imagetools", "inspect", "--raw", target)[1])["manifests"]) == 2
        # an index alone is copied to the byte
        assert cli("imagetools", "create", "-t", f"{r.host}/copy:1", f"{r.host}/joined:2")[0] == 0
        assert digest in cli("imagetools", "inspect", f"{r.host}/copy:1")[1]
        for bad in (["create", names[0]], ["create", "-t", target, "--annotation", "a=b", names[0]], ["nothing"],
                    ["inspect", "--raw", "--format", "x", target], ["create", "-t", target, "-f", "/none"]):  # fmt: skip
            assert cli("imagetools", *bad)[0] == 2, bad


@needs_registry
def test_an_image_goes_from_registry_to_registry_with_its_attestations(tmp_path, cli):
    from lapstrake.export.attachment import statement_descriptor
    from lapstrake.export.registry import push
    from lapstrake.values import replace

    kind = "https://spdx.dev/Document"
    raw = json.dumps({"predicateType": kind, "predicate": {"name": "bill"}}).encode()
    with Registry() as here, Registry() as there:
        with Engine(load(str(tmp_path / "root"), None, {"HOME": str(tmp_path)})) as engine:
            made = image(engine.content, "arm64")
            attested = assemble_result(
                [replace(made, attestations=((statement_descriptor(kind, raw), raw),))]
            )
            push(attested, [f"{here.host}/a:1"], engine.client, engine.content)
        copy = f"{there.host}/team/b:2"
        assert cli("imagetools", "create", "-t", copy, f"{here.host}/a:1", root="elsewhere")[0] == 0
        here_raw = cli("imagetools", "inspect", "--raw", f"{here.host}/a:1")[1]
        assert cli("imagetools", "inspect", "--raw", copy)[1] == here_raw
        form = "{{.SBOM.SPDX.name}} {{json .Provenance}}"
        assert cli("imagetools", "inspect", copy, "--format", form)[1] == "bill {}\n"
        assert cli("pull", "-q", "--platform", "linux/arm64", copy, root="fifth")[0] == 0


def digests(raw):
    return {m["platform"]["architecture"]: m["digest"] for m in json.loads(raw)["manifests"]}


INSPECTED = """\
Name:      {host}/joined:1
MediaType: application/vnd.oci.image.index.v1+json
Digest:    {digest}
           
Manifests: 
  Name:        {host}/joined:1@{arm64}
  MediaType:   application/vnd.oci.image.manifest.v1+json
  Platform:    linux/arm64
  Annotations: 
    b: 2
             
  Name:      {host}/joined:1@{amd64}
  MediaType: application/vnd.oci.image.manifest.v1+json
  Platform:  linux/amd64
"""  # noqa: W291, W293


@needs_registry
def test_what_could_not_be_pushed_is_pushed_later(tmp_path, cli, monkeypatch):
    monkeypatch.setenv("LAPSTRAKE_EXIT_CODES", "detailed")
    port = free_port()
    name = f"127.0.0.1:{port}/app:1"
    with Engine(load(str(tmp_path / "root"), None, {"HOME": str(tmp_path)})) as engine:
        from lapstrake.values import replace

        env = environment(tmp_path / "root")
        env.index.close()
        env = replace(env, content=engine.content, index=engine.index, client=engine.client)
        exporter = open_exporter(Output("registry"), [name], env)
        with pytest.raises(BuildError, match="failed to push") as e:
            exporter.prepare(assemble_result([image(engine.content)]))
        assert e.value.exit_code == 5 and "lapstrake push" in e.value.hint
        assert engine.index.get(UNPUSHED, name)
    assert cli("push", name)[0] == 5
    assert cli("images", "-q")[1] == ""
    with Registry() as r, FaultProxy(r.host, share=0, port=port):
        assert cli("push", name)[0] == 0
        assert cli("push", name)[0] == 1  # pushed, and not an image of the local store
        # the next repository of that registry takes the blobs over from the first
        stored(tmp_path, f"127.0.0.1:{port}/other:1")
        code, out, err = cli("push", f"127.0.0.1:{port}/other:1")
        assert code == 0, err
    with Engine(load(str(tmp_path / "root"), None, {"HOME": str(tmp_path)})) as engine:
        assert engine.index.items(UNPUSHED) == []


def test_mounts_are_remembered_between_builds(tmp_path):
    from lapstrake.export.base import ResultBlobs
    from lapstrake.export.registry import start_pushes, targets_of

    class Client:
        def __init__(self):
            self.tried = []

        def has_blob(self, ref, digest):
            return False

        def mount_blob(self, ref, digest, source):
            self.tried.append(source)
            return source == "first"

        def push_blob(self, ref, descriptor, source):
            return True

        def put_manifest(self, ref, raw, media_type):
            return ""

    env = environment(tmp_path)
    big = assemble_result([image(env.content, files={"f": os.urandom(20_000)})])
    client = Client()

    def go(name):
        found = start_pushes((big.descriptor,), ResultBlobs(big, env.content), targets_of([name]), lambda *_: client, index=env.index)  # fmt: skip
        return found[0].mounted

    assert go("r.example/first:1") == 0
    assert client.tried == []
    assert go("r.example/second:1") == 1
    assert client.tried == ["first"]
    assert go("elsewhere.example/second:1") == 0
    assert len(env.index.items(MOUNT)) == 2


class OneImage:
    """A registry client that knows one image, under any name but those that are gone."""

    def __init__(self, raw, blobs):
        self.raw, self.blobs, self.gone, self.asked = raw, blobs, set(), []

    def head(self, ref):
        return None

    def get_manifest(self, ref):
        from lapstrake.oci.descriptor import OCI_MANIFEST
        from lapstrake.oci.digest import digest_of

        return self.raw, OCI_MANIFEST, digest_of(self.raw)

    def fetch_blob(self, ref, descriptor, write, *, urls=()):
        self.asked.append((ref.repository, urls))
        if ref.repository in self.gone:
            raise ResolveError("gone", status=404)
        write(self.blobs[descriptor.digest])


def test_a_layer_is_fetched_from_the_image_that_is_built_on(tmp_path):
    """Its first image may be gone from the registry; a foreign layer may be elsewhere from the start."""
    from lapstrake.oci.platform import Platform
    from lapstrake.source.image import ImageSource

    env = environment(tmp_path)
    other = environment(tmp_path / "registry")
    res = result(other.content)
    only = res.images[0]
    doc = json.loads(only.manifest)
    doc["layers"][0]["urls"] = ["https://layers.example/x"]
    blobs = {d.digest: other.content.read(d.digest) for d in only.layers} | {only.config_digest: only.config}
    client = OneImage(json.dumps(doc).encode(), blobs)
    source = ImageSource(env.content, env.index, lambda: client)
    source.resolve("r.example/first:1", Platform("linux", "amd64"))
    client.gone.add("first")
    found = source.resolve("r.example/second:1", Platform("linux", "amd64"))
    assert source.fetch_layer(found.layers[0]) == only.layers[0].digest
    assert client.asked[-1] == ("second", ("https://layers.example/x",))


@needs_registry
def test_errors_outside_builds_do_not_speak_of_builds(cli):
    with Registry() as r:
        code, _, err = cli("imagetools", "inspect", f"{r.host}/none:1")
        assert (code, err) == (1, f"ERROR: {r.host}/none:1: not found\n")


def test_login_keeps_the_rest_of_the_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"credsStore": "", "proxies": {}, "auths": {"a.example": {"auth": "eDp5"}}}')
    assert store(str(path), "docker.io", "u", "p:w") == str(path)
    doc = json.loads(path.read_text())
    assert set(doc["auths"]) == {"a.example", "https://index.docker.io/v1/"} and "proxies" in doc
    assert erase(str(path), "docker.io") and not erase(str(path), "docker.io")
    path.write_text("[]")
    with pytest.raises(BuildError, match="left alone"):
        store(str(path), "docker.io", "u", "p")
    assert path.read_text() == "[]"


def test_login_uses_the_helper(tmp_path):
    helper = tmp_path / "docker-credential-test"
    helper.write_text(
        f'#!/bin/sh\necho "$1" >> {tmp_path}/calls\ncat >> {tmp_path}/calls\necho >> {tmp_path}/calls\n'
    )
    helper.chmod(0o755)
    path = tmp_path / "config.json"
    path.write_text('{"credsStore": "test"}')
    where = f"{tmp_path}:/bin"
    assert store(str(path), "r.example", "u", "secret", where) == "docker-credential-test"
    assert erase(str(path), "r.example", where)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert (
        calls[0] == "store"
        and json.loads(calls[1])["Secret"] == "secret"
        and calls[2:] == ["erase", "r.example"]
    )
    assert "secret" not in path.read_text()
    path.write_text('{"credsStore": "missing"}')
    with pytest.raises(BuildError, match="docker-credential-missing is not installed"):
        store(str(path), "r.example", "u", "p", where)
