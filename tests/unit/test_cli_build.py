"""Flags become a BuildRequest."""

from __future__ import annotations

import io
import os
import tarfile

import pytest

from lapstrake.cli.build import is_archive, to_request, write_atomic
from lapstrake.cli.buildflags import build_command
from lapstrake.cli.flags import parse
from lapstrake.errors import UsageError
from lapstrake.oci.platform import Platform
from lapstrake.plan.request import CallSpec, OutputSpec


def request(argv, env=None, stdin=b""):
    return to_request(parse(build_command(), argv), env or {}, stdin=io.BytesIO(stdin))


@pytest.fixture(autouse=True)
def _in_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_muscle_memory():
    r = request(
        [
            "-t",
            "app",
            "-f",
            "d",
            "--build-arg",
            "A=1",
            "--build-arg",
            "B",
            "--target=x",
            "--platform",
            "linux/arm64",
            ".",
        ],
        {"B": "2"},
    )
    assert (r.context, r.dockerfile, r.tags, r.target) == (".", "d", ("app",), "x")
    assert r.build_args == (("A", "1"), ("B", "2"))
    assert r.platforms == (Platform("linux", "arm64"),)
    assert r.outputs == ()
    assert r.call == CallSpec()


def test_platform_from_the_environment():
    assert request(["."], {"DOCKER_DEFAULT_PLATFORM": "linux/s390x"}).platforms == (
        Platform("linux", "s390x"),
    )


@pytest.mark.parametrize(
    ("argv", "want"),
    [
        (["-t", "r/a", "--push"], (OutputSpec("image", "", (("push", "true"),)),)),
        (
            ["-t", "r/a", "--push", "-o", "type=image,name=x"],
            (OutputSpec("image", "", (("name", "x"), ("push", "true"))),),
        ),
        (["--load"], (OutputSpec("docker"),)),
        (["--load", "-o", "type=docker"], (OutputSpec("docker"),)),
        (["--load", "-o", "type=docker,dest=f"], (OutputSpec("docker", "f"), OutputSpec("docker"))),
        (["-o", "out"], (OutputSpec("local", "out"),)),
        (
            ["-o", "type=image", "--annotation", "index:k=v"],
            (OutputSpec("image", "", (("annotation-index.k", "v"),)),),
        ),
    ],
)
def test_outputs(argv, want):
    assert request([*argv, "."]).outputs == want


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], 'please specify build context (e.g. "." for the current directory)'),
        ([""], 'please specify build context (e.g. "." for the current directory)'),
        (["nope"], 'unable to prepare context: path "nope" not found'),
        (["-f", "-", "-"], "invalid argument: can't use stdin for both build context and dockerfile"),
        (["-f", "x", "-"], "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles"),
        ([".", "--push"], "tag is needed when pushing to registry"),
        ([".", "-q", "--progress=plain"], "progress=plain and quiet cannot be used together"),
        ([".", "--iidfile", "i", "-o", "out"], "local and tar exporters are incompatible with image ID file"),
        ([".", "-o", "-", "-o", "-"], "multiple outputs configured to write to stdout"),
        ([".", "-t", "Bad Name"], 'invalid tag "Bad Name": invalid reference format'),
        ([".", "-t", "UPPER/x"], 'invalid tag "UPPER/x": invalid reference format'),
        ([".", "-t", "a:"], 'invalid tag "a:": invalid reference format'),
        (
            [".", "--network", "mine"],
            'network mode "mine" not supported by buildkit - you can define a custom network for your builder using the network driver-opt in buildx create',
        ),
        ([".", "--allow", "all"], "invalid entitlement: all"),
        ([".", "--progress=dots"], "invalid progress mode: dots"),
        ([".", "--source-date-epoch=yesterday"], "invalid SOURCE_DATE_EPOCH: yesterday"),
    ],
)
def test_refused(argv, message):
    with pytest.raises(UsageError) as e:
        request(argv, stdin=b"FROM scratch\n")
    assert e.value.message == message


@pytest.mark.parametrize(
    "tag", ["a", "a:1", "r.example:5000/a/b:V1.2_x", "localhost/a", "a/b-c_d", "Reg.Example/x"]
)
def test_good_tags(tag):
    assert request([".", "-t", tag]).tags == (tag,)


def test_dockerfile_from_stdin():
    r = request(["-f", "-", "."], stdin=b"FROM a\n")
    assert (r.context, r.dockerfile, r.dockerfile_text) == (".", None, b"FROM a\n")


def test_stdin_is_the_dockerfile():
    r = request(["-"], stdin=b"FROM a\n")
    assert (r.context, r.dockerfile_text, r.stdin_head) == ("", b"FROM a\n", b"")


def _tar(mode, fmt=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=fmt) as t:
        t.addfile(tarfile.TarInfo("Dockerfile"))
    return out.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_stdin_is_an_archive(mode):
    data = _tar(mode)
    stdin = io.BytesIO(data)
    r = to_request(parse(build_command(), ["-", "-f", "sub/Dockerfile"]), {}, stdin=stdin)
    assert (r.context, r.dockerfile) == ("-", "sub/Dockerfile")
    assert r.stdin_head + stdin.read() == data


def test_old_tars_are_archives_and_text_is_not():
    old = bytearray(_tar("w", tarfile.USTAR_FORMAT)[:512])
    old[257:265] = bytes(8)
    total = sum(old[:148]) + 8 * 32 + sum(old[156:])
    old[148:156] = b"%06o\0 " % total
    assert is_archive(bytes(old))
    assert not is_archive(b"FROM x\n" * 100)
    assert not is_archive(b"")


def test_network_host_is_an_entitlement():
    r = request([".", "--network=host", "--allow", "security.insecure"])
    assert r.allow == ("security.insecure", "network.host")


def test_hidden_flags():
    r = request([".", "--compress", "--rm=false", "--squash", "-m", "512m", "--isolation=hyperv"])
    assert r.resources == (("memory", str(512 << 20)),)
    assert [w.split()[0] for w in r.warnings] == ["--squash", "--isolation=hyperv"]


def test_epoch_sources():
    assert (
        request([".", "--build-arg", "SOURCE_DATE_EPOCH=5"], {"SOURCE_DATE_EPOCH": "9"}).source_date_epoch
        == 5
    )
    assert request(["."], {"SOURCE_DATE_EPOCH": "9"}).source_date_epoch == 9
    assert request(["."]).source_date_epoch is None


def test_check():
    assert request([".", "--check"]).call == CallSpec("check")


def test_atomic_write(tmp_path):
    path = tmp_path / "out.json"
    write_atomic(str(path), b"1")
    write_atomic(str(path), b"2")
    assert path.read_bytes() == b"2"
    assert os.listdir(tmp_path) == ["out.json"]
