"""The four examples: what they print, what is in them, and that other tools accept and run them."""

from __future__ import annotations

import os
import platform
import shutil

import pytest
from tests.conftest import PROJECT, need
from tests.e2e.images import Podman, crun, is_of_platform, listing, pick, platforms, raw, tool, unpack

pytestmark = pytest.mark.e2e

EXAMPLES = PROJECT / "examples"
C_SAYS = f"Hello from C on Linux/{platform.machine()}\n"
NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def test_single_stage(shared_lap, packages_in_reach):
    shared_lap.build(EXAMPLES / "1-single-stage", "-t", "single", timeout=500)
    assert shared_lap("run", "single").stdout == C_SAYS


class TestMultiStage:
    @pytest.fixture
    def layout(self, shared_lap, packages_in_reach, tmp_path):
        out = tmp_path / "multi"
        shared_lap.build(
            EXAMPLES / "2-multi-stage",
            "-t",
            "multi",
            "--output",
            "type=image",
            "--output",
            f"type=oci,dest={out},tar=false,name=multi",
            timeout=500,
        )
        return out

    def test_runs(self, shared_lap, layout):
        assert shared_lap("run", "multi").stdout == C_SAYS

    def test_ships_nothing_of_the_first_stage_but_the_program(self, shared_lap, layout, tmp_path, context):
        base = tmp_path / "base"
        shared_lap(
            "build",
            "-o",
            f"type=oci,dest={base},tar=false,name=base",
            context({"Dockerfile": "FROM alpine:latest\nLABEL a=b\n"}),
        )
        ours = listing(unpack(layout, _tag(layout), tmp_path / "b1"))
        theirs = listing(unpack(base, _tag(base), tmp_path / "b2"))
        assert ours.keys() - theirs.keys() == {"app"}
        assert theirs.keys() - ours.keys() == set()
        assert {path for path in theirs if ours[path] != theirs[path]} == set()

    def test_crun_runs_the_unpacked_bundle(self, layout, tmp_path):
        if os.geteuid() != 0:
            pytest.skip("umoci's bundle needs root to run as it is")
        unpack(layout, _tag(layout), tmp_path / "bundle")
        assert crun(tmp_path / "bundle") == C_SAYS

    def test_podman_runs_it(self, shared_lap, layout, tmp_path):
        archive = tmp_path / "multi.tar"
        shared_lap("build", "-t", "multi", "-o", f"type=docker,dest={archive}", EXAMPLES / "2-multi-stage")
        podman = Podman(tmp_path / "p")
        try:
            loaded = podman("load", "-q", "-i", archive).split()[-1]
            assert loaded == "docker.io/library/multi:latest"
            assert podman.run(loaded) == C_SAYS
        finally:
            podman.close()

    def test_is_much_smaller(self, shared_lap, layout):
        shared_lap.build(EXAMPLES / "1-single-stage", "-t", "single", timeout=500)
        assert _size(shared_lap, "single") > 20 * _size(shared_lap, "multi")


class TestMultiPlatform:
    EXAMPLE = EXAMPLES / "3-multi-platform"

    def test_the_index_lists_what_was_asked_and_each_binary_is_of_its_platform(self, shared_lap, tmp_path):
        out = tmp_path / "layout"
        asked = ["linux/arm64", "linux/amd64"]
        steps = shared_lap.build(
            self.EXAMPLE,
            "--platform",
            ",".join(asked),
            "-t",
            "myimage",
            "--output",
            "type=image",
            "--output",
            f"type=oci,dest={out},tar=false",
        )
        assert platforms(raw(f"oci:{out}")) == asked
        for name in asked:
            arch = name.partition("/")[2]
            one = pick(out, _tag(out), arch, tmp_path / arch)
            assert is_of_platform(unpack(one, _tag(out), tmp_path / f"b-{arch}") / "main", name)
        if os.geteuid() == 0:
            assert crun(tmp_path / f"b-{NATIVE}") == f"Hello from Go on linux/{NATIVE}\n"
        assert len([s for s in steps if "COPY . ." in s.name]) == 1
        assert len([s for s in steps if "go build" in s.name]) == 2
        assert shared_lap("run", "myimage").stdout == f"Hello from Go on linux/{NATIVE}\n"

    def test_the_registry_gets_the_same_index(self, shared_lap, tmp_path, registry_address):
        name = f"{registry_address}/e2e/myimage"
        asked = ["linux/amd64", "linux/arm64"]
        metadata = tmp_path / "metadata.json"
        shared_lap.build(
            self.EXAMPLE,
            "--platform",
            ",".join(asked),
            "-t",
            f"{name}:1",
            "-t",
            f"{name}:latest",
            "--push",
            "--metadata-file",
            metadata,
        )
        index = raw(f"docker://{name}:1")
        assert platforms(index) == asked
        assert index == raw(f"docker://{name}:latest")
        assert (
            tool(
                "skopeo", "inspect", "--tls-verify=false", "--format={{.Digest}}", f"docker://{name}:1"
            ).strip()
            in metadata.read_text()
        )
        tool(
            "skopeo",
            "copy",
            "-q",
            "--all",
            "--src-tls-verify=false",
            f"docker://{name}:1",
            f"dir:{tmp_path}/copy",
        )

    def test_plain_files_for_systems_without_a_base(self, shared_lap, tmp_path):
        out = tmp_path / "out"
        shared_lap(
            "build",
            "-f",
            self.EXAMPLE / "Dockerfile.scratch",
            "--platform",
            "windows/amd64,darwin/arm64",
            "--output",
            f"type=local,dest={out}",
            self.EXAMPLE,
        )
        assert sorted(p.name for p in out.iterdir()) == ["darwin_arm64", "windows_amd64"]
        assert is_of_platform(out / "windows_amd64" / "main", "windows/amd64")
        assert is_of_platform(out / "darwin_arm64" / "main", "darwin/arm64")


def test_emulated(shared_lap):
    if NATIVE != "amd64":
        pytest.skip("emulates arm64 on amd64")
    need("qemu-aarch64-static")
    release = tuple(map(int, platform.release().split("-")[0].split(".")[:2]))
    if release < (6, 7) and not os.path.exists("/proc/sys/fs/binfmt_misc/qemu-aarch64"):
        pytest.skip("Linux before 6.7 and no registration of qemu-aarch64 on the host")
    before = _binfmt()
    shared_lap.build(EXAMPLES / "4-emulated", "--platform", "linux/amd64,linux/arm64", "-t", "emulated")
    said = shared_lap("run", "--platform", "linux/arm64", "emulated").stdout
    assert said == "aarch64\nHello from Go on linux/arm64\n"
    assert shared_lap("run", "emulated").stdout == "x86_64\nHello from Go on linux/amd64\n"
    assert _binfmt() == before


@pytest.mark.skipif(shutil.which("docker") is None, reason="no docker client here")
def test_the_docker_client_builds_through_the_plugin(shared_lap, tmp_path):
    home = tmp_path / "home"
    plugins = home / ".docker" / "cli-plugins"
    plugins.mkdir(parents=True)
    plugin = PROJECT / ".venv" / "bin" / "docker-buildx"
    if not plugin.exists():
        pytest.skip("docker-buildx is not installed in .venv (scripts/setup.sh)")
    (plugins / "docker-buildx").symlink_to(plugin)
    env = {**shared_lap.env, "HOME": str(home), "DOCKER_HOST": f"unix://{tmp_path}/no-engine"}
    tool(
        "docker",
        "buildx",
        "build",
        "--platform",
        "linux/amd64,linux/arm64",
        "-t",
        "myplugged",
        ".",
        cwd=EXAMPLES / "3-multi-platform",
        env=env,
        timeout=300,
    )
    assert shared_lap("run", "myplugged").stdout == f"Hello from Go on linux/{NATIVE}\n"
    assert "buildx" in tool("docker", "buildx", "version", env=env)


def _tag(layout) -> str:
    tags = [
        m.get("annotations", {}).get("org.opencontainers.image.ref.name")
        for m in raw_index(layout)["manifests"]
    ]
    return tags[0]


def raw_index(layout) -> dict:
    import json

    return json.loads((layout / "index.json").read_text())


def _size(lap, name) -> int:
    import json

    described = json.loads(lap("inspect", name).stdout)
    described = described[0] if isinstance(described, list) else described
    return next(described[key] for key in ("Size", "size") if key in described)


def _binfmt() -> list[str]:
    try:
        return sorted(os.listdir("/proc/sys/fs/binfmt_misc"))
    except OSError:
        return []
