"""The rest of the main job: outputs, failures, cancelling, parallel stages, users."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tarfile
import time

import pytest
from tests.conftest import AT_WORK, COSTLY, Lap, need
from tests.e2e.images import platforms, raw, tool

pytestmark = pytest.mark.e2e


def test_several_outputs_of_one_build(lap, context, tmp_path):
    directory = context({"Dockerfile": "FROM busybox\nCOPY a /a\nLABEL from=file\n", "a": "a"})
    layout, archive, plain, docker = (tmp_path / n for n in ("layout", "oci.tar", "plain.tar", "docker.tar"))
    lap(
        "build",
        directory,
        "-t",
        "outputs",
        "--label",
        "x=y",
        "--metadata-file",
        tmp_path / "metadata",
        "-o",
        f"type=oci,dest={layout},tar=false",
        "-o",
        f"type=oci,dest={archive}",
        "-o",
        f"type=docker,dest={docker}",
        "-o",
        f"type=tar,dest={plain}",
        "-o",
        f"type=local,dest={tmp_path / 'files'}",
    )
    config = json.loads(tool("skopeo", "inspect", "--config", "--raw", f"oci:{layout}"))
    assert config["config"]["Labels"] == {"from": "file", "x": "y"}
    assert raw(f"oci-archive:{archive}") == raw(f"oci:{layout}")
    assert (
        json.loads(tool("skopeo", "inspect", "--config", "--raw", f"docker-archive:{docker}"))["config"]
        == config["config"]
    )
    with tarfile.open(plain) as tar:
        assert tar.extractfile("a").read() == b"a"
    assert (tmp_path / "files" / "a").read_text() == "a"
    metadata = json.loads((tmp_path / "metadata").read_text())
    assert metadata["containerimage.digest"].startswith("sha256:")
    lap("build", directory, "--label", "x=y", "--iidfile", tmp_path / "iid", "-o", f"type=oci,dest={archive}")
    assert (tmp_path / "iid").read_text() == metadata["containerimage.config.digest"]
    refused = lap("build", directory, "--iidfile", tmp_path / "iid", "-o", tmp_path / "files", check=False)
    assert "local and tar exporters are incompatible with image ID file" in refused.stderr


def test_the_image_is_the_same_each_time(lap, context, tmp_path, bases):
    directory = context({"Dockerfile": "FROM busybox\nCOPY a /a\n", "a": "a"})
    other = Lap(tmp_path / "other", bases)
    seen = set()
    for program in (lap, other):
        out = program.root.parent / f"{program.root.name}.tar"
        program("build", directory, "--source-date-epoch=1700000000", "-o", f"type=oci,dest={out}")
        seen.add(tool("skopeo", "inspect", "--format={{.Digest}}", f"oci-archive:{out}"))
    assert len(seen) == 1


def test_a_failing_step_shows_where_and_what(lap, context):
    directory = context({"Dockerfile": "FROM busybox\nRUN echo so far\nRUN echo oh no; exit 7\n"})
    done = lap("build", "--progress=plain", directory, check=False)
    assert done.returncode != 0
    for part in ("oh no", "Dockerfile:3", ">>> RUN echo oh no; exit 7", "7"):
        assert part in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_a_base_that_is_not_there(lap, context):
    done = lap("build", context({"Dockerfile": "FROM nothing-of-that-name:1\n"}), check=False)
    assert done.returncode != 0
    assert "nothing-of-that-name" in done.stderr
    assert "Traceback" not in done.stderr


def test_interrupting_leaves_nothing_behind(lap, context):
    directory = context(
        {
            "Dockerfile": "FROM busybox AS a\nRUN echo started; sleep 4711\n"
            "FROM busybox AS b\nRUN sleep 4712\nFROM busybox\nCOPY --from=a / /\nCOPY --from=b / /\n"
        }
    )
    process = subprocess.Popen(
        [*lap.command, "build", "--progress=plain", str(directory)],
        env=lap.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if line.rstrip().endswith(" started") and "echo" not in line:
            break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(20) != 0
    process.stderr.close()
    assert "Traceback" not in rest
    time.sleep(0.2)
    assert not _processes("sleep", "4711") and not _processes("sleep", "4712")
    assert lap.leftovers() == []
    assert lap.build(context({"Dockerfile": "FROM busybox\nRUN true\n"}, "next"))


def _processes(*words):
    wanted = "\0".join(words).encode()
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if wanted in file.read():
                    found.append(pid)
        except OSError:
            continue
    return found


def test_independent_stages_run_side_by_side(lap, context):
    stages = [f"FROM busybox AS s{n}\nRUN sleep 1; echo {n} > /{n}\n" for n in range(8)]
    copies = [f"COPY --from=s{n} /{n} /{n}\n" for n in range(8)]
    directory = context({"Dockerfile": "".join(stages) + "FROM busybox\n" + "".join(copies)})
    began = time.monotonic()
    lap("build", directory)
    assert time.monotonic() - began < 6


def test_run_takes_what_the_image_says(lap, context):
    text = (
        "FROM busybox\nRUN echo someone:x:1234:1234::/:/bin/sh >> /etc/passwd\nENV GREETING=hi\nWORKDIR /here\nUSER someone\n"
        'ENTRYPOINT ["/bin/sh", "-c", "echo $GREETING; id -u; pwd; exit 3"]\n'
    )
    lap("build", "-t", "runs", context({"Dockerfile": text}))
    done = lap("run", "runs", check=False)
    assert (done.stdout, done.returncode) == ("hi\n1234\n/here\n", 3)


@pytest.mark.parametrize("mode", ["none", "host"])
def test_network_modes(lap, context, mode):
    directory = context({"Dockerfile": "FROM busybox\nRUN ls /sys/class/net | tr '\\n' ' ' > /net\n"})
    flags = ["--allow", "network.host"] if mode == "host" else []
    lap("build", "--network", mode, *flags, "-o", f"type=local,dest={directory}/out", directory)
    seen = (directory / "out" / "net").read_text().split()
    assert seen == ["lo"] if mode == "none" else "lo" in seen


def test_the_network_of_steps_can_be_configured(lap, context):
    directory = context({"Dockerfile": "FROM busybox\nRUN ls /sys/class/net | tr '\\n' ' ' > /net\n"})
    lap("build", "-o", f"type=local,dest={directory}/out", directory, env={"LAPSTRAKE_NETWORK": "none"})
    assert (directory / "out" / "net").read_text().split() == ["lo"]


def test_named_contexts(lap, context, tmp_path):
    extra = context({"f": "from extra"}, "extra")
    directory = context({"Dockerfile": "FROM scratch\nCOPY --from=extra f /f\n"})
    lap("build", "--build-context", f"extra={extra}", "-o", f"type=local,dest={tmp_path}/out", directory)
    assert (tmp_path / "out" / "f").read_text() == "from extra"


@pytest.mark.parametrize("executor", ["namespaces", "oci", "chroot"])
def test_executors(lap, context, executor):
    if executor == "oci":
        need("crun")
    directory = context({"Dockerfile": "FROM busybox\nRUN echo $$ > /pid && test ! -e /root/.cache\n"})
    lap("build", "--isolation", executor, directory)


def test_images_and_inspect(lap, context):
    lap(
        "build",
        "-t",
        "some:tag",
        "--platform=linux/amd64,linux/arm64",
        context({"Dockerfile": "FROM busybox\nLABEL a=b\n"}),
    )
    listed = lap("images").stdout
    assert "some" in listed and "tag" in listed
    assert "arm64" in lap("inspect", "some:tag").stdout


def test_several_platforms_pushed_and_pulled_back(lap, context, registry_address):
    name = f"{registry_address}/e2e/chain"
    lap(
        "build",
        "--push",
        "-t",
        f"{name}:1",
        "--platform=linux/arm64,linux/amd64",
        context({"Dockerfile": "FROM busybox\nCOPY a /a\n", "a": "1"}),
    )
    assert platforms(raw(f"docker://{name}:1")) == ["linux/arm64", "linux/amd64"]
    lap("build", "-t", "child", context({"Dockerfile": f"FROM {name}:1\nCMD cat /a\n"}, "child"))
    assert lap("run", "child").stdout == "1"


def test_an_image_that_has_a_layer_twice(lap, context, registry_address, tmp_path, bases):
    name = f"{registry_address}/e2e/twice:1"
    text = "FROM busybox\nCOPY a /a\nRUN rm /a\nCOPY a /a\nRUN true\nRUN true\n"
    flags = ("--source-date-epoch=0", "--output", f"type=registry,name={name},rewrite-timestamp=true")
    lap("build", *flags, context({"Dockerfile": text, "a": "1"}))
    layers = [layer["digest"] for layer in raw(f"docker://{name}")["layers"]]
    assert len(set(layers)) < len(layers)
    elsewhere = Lap(tmp_path / "elsewhere", bases)
    elsewhere(
        "build", "-t", "child", context({"Dockerfile": f"FROM {name}\nRUN cp /a /b\nCMD cat /b\n"}, "child")
    )
    assert elsewhere("run", "child").stdout == "1"
    assert elsewhere.leftovers() == []


def test_the_python_api(lap, context):
    directory = context({"Dockerfile": "FROM busybox\nRUN echo api\n"})
    code = (
        "import sys, lapstrake\n"
        "seen = []\n"
        "result = lapstrake.build(sys.argv[1], tags=['api'], on_event=seen.append)\n"
        "print(result.digest, len(seen) > 2)\n"
    )
    done = subprocess.run(
        [*lap.command[:1], "-c", code, str(directory)],
        env=lap.env,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    digest, events = done.stdout.split()
    assert digest.startswith("sha256:") and events == "True"


def test_doctor_says_what_the_host_can_do(lap):
    done = lap("doctor", check=False)
    assert "Traceback" not in done.stderr
    for word in ("namespace", "overlay", "network"):
        assert word in (done.stdout + done.stderr).lower()


def test_a_build_from_the_cache_imports_nothing_costly(lap, context):
    directory = context(
        {
            "Dockerfile": "FROM busybox\nWORKDIR /w\nCOPY . .\nRUN echo a > b\nENTRYPOINT cat b\n",
            "a.txt": "a",
        }
    )
    words = ("build", "--progress=plain", "-t", "cached", directory)
    lap(*words)
    imported = lap.imports(*words)
    assert "lapstrake.engine.build" in imported
    of_the_configuration = {"tomllib", "typing"}  # a machine without a file imports neither
    assert imported & (COSTLY | AT_WORK) - of_the_configuration == set()
