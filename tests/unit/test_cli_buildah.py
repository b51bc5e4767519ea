"""buildah's flags as buildx's."""

from __future__ import annotations

import pytest

from lapstrake.cli.build import to_request
from lapstrake.cli.buildahflags import adapt
from lapstrake.cli.buildflags import build_command
from lapstrake.cli.flags import parse
from lapstrake.errors import UsageError
from lapstrake.plan.request import OutputSpec


def request(*words: str):
    args = parse(build_command(), [*words, "."])
    adapt(args)
    return to_request(args, {})


@pytest.mark.parametrize(
    ("words", "field", "want"),
    [
        (["--arch=arm64"], "platforms", "linux/arm64"),
        (["--os=windows", "--arch=amd64", "--os-version=10.0.1"], "platforms", "windows(10.0.1)/amd64"),
        (["--arch=arm", "--variant=v6"], "platforms", "linux/arm/v6"),
    ],
)
def test_platform_in_pieces(words, field, want):
    (platform,) = getattr(request(*words), field)
    assert platform.full == want or str(platform) == want


@pytest.mark.parametrize(
    ("words", "want"),
    [
        (["--format=docker"], OutputSpec("image", "", (("oci-mediatypes", "false"),))),
        (["--disable-compression"], OutputSpec("image", "", (("compression", "uncompressed"),))),
        (
            ["--compression-format=zstd", "--compression-level=3", "--force-compression", "-o", "type=oci,dest=x.tar"],
            OutputSpec("oci", "x.tar", (("compression", "zstd"), ("compression-level", "3"), ("force-compression", "true"))),
        ),
        (["--format=docker", "-o", "type=local,dest=out"], OutputSpec("local", "out", ())),
        (["-t", "oci-archive:/tmp/a.tar:app"], OutputSpec("oci", "/tmp/a.tar", (("name", "app"),))),
        (["-t", "oci:/tmp/lay"], OutputSpec("oci", "/tmp/lay", (("tar", "false"),))),
        (["-t", "docker-archive:/tmp/a.tar"], OutputSpec("docker", "/tmp/a.tar", ())),
        (["-t", "docker://r.example/a:1"], OutputSpec("registry", "", (("name", "r.example/a:1"),))),
    ],
)  # fmt: skip
def test_outputs(words, want):
    got = request(*words)
    (output,) = got.outputs
    assert (output.type, output.dest) == (want.type, want.dest)
    assert {k: v for k, v in output.attrs if k not in ("push", "unpack")} == dict(want.attrs)
    assert got.tags == ()


def test_names_stay_names():
    got = request("-t", "oci:1", "-t", "localhost:5000/a")
    assert got.tags == ("oci:1", "localhost:5000/a")
    assert got.outputs == ()


def test_the_rest():
    assert request("--iidfile-raw=x").iidfile_raw
    assert request("--omit-timestamp").source_date_epoch == 0
    got = request("--manifest", "list")
    assert got.tags == ("list",) and dict(got.build_args)["BUILDKIT_MULTI_PLATFORM"] == "1"


@pytest.mark.parametrize(
    "words", [["--skip-unused-stages=false"], ["--format=x"], ["--arch=arm", "--platform=linux/arm"]]
)
def test_refused(words):
    with pytest.raises(UsageError):
        request(*words)
