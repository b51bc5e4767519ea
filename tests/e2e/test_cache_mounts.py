"""Cache mounts: sharing across processes, owners, seeds, export and import, host directories."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import tarfile
import threading
import time

import pytest

pytestmark = pytest.mark.e2e


def image(*lines: str) -> dict[str, str | bytes]:
    return {"Dockerfile": "FROM busybox\n" + "\n".join(lines) + "\n"}


def log(lap, directory, *flags: str) -> str:
    return lap("build", "--progress=plain", "--no-cache", *flags, directory).stderr


def together(lap, *directories) -> None:
    errors: list[str] = []

    def one(directory) -> None:
        done = lap("build", "--no-cache", directory, check=False)
        if done.returncode:
            errors.append(done.stderr)

    threads = [threading.Thread(target=one, args=(d,)) for d in directories]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert errors == []


# each writer adds a line for its beginning and one for its end
TURN = "RUN --mount=type=cache,target=/m,id=m,sharing={} echo b{} >> /m/log; sleep 0.5; echo e{} >> /m/log"


@pytest.mark.parametrize(("sharing", "separate"), [("shared", False), ("locked", True), ("private", True)])
def test_sharing_between_processes(lap, context, sharing, separate):
    lap.build(context(image(f"RUN --mount=type=cache,target=/m,id=m,sharing={sharing} touch /m/log")))
    together(lap, *(context(image(TURN.format(sharing, n, n)), f"c{n}") for n in (1, 2)))
    logs = [path.read_text().split() for path in lap.root.glob("cachemounts/*/data/log")]
    lines = max(logs, key=len)
    if sharing == "private":
        assert sorted(map(len, logs)) in ([2, 2], [4])  # two mounts, or one after the other
    else:
        assert len(logs) == 1 and sorted(lines) == ["b1", "b2", "e1", "e2"]
    pairs = [lines[i : i + 2] for i in range(0, len(lines), 2)]
    in_turn = all(p[0][1] == p[1][1] for p in pairs)
    assert in_turn == separate


def test_two_locked_mounts_in_either_order_never_wait_for_each_other(lap, context):
    both = "RUN --mount=type=cache,target=/{},id={},sharing=locked --mount=type=cache,target=/{},id={},sharing=locked sleep 0.1"
    dirs = [
        context(image(both.format(a, a, b, b) + f";: {n}"), f"c{n}")
        for n, (a, b) in enumerate(["xy", "yx"] * 3)
    ]
    together(lap, *dirs)


def test_owner_mode_seed_and_defaults(lap, context):
    out = log(
        lap,
        context(
            {
                "Dockerfile": """\
FROM busybox AS seed
RUN mkdir -p /s/sub && echo seeded > /s/sub/f && chown 7:8 /s/sub/f
FROM busybox
RUN --mount=type=cache,target=/one stat -c 'one %a %u:%g' /one
RUN --mount=type=cache,target=/two,uid=5,gid=6,mode=0770 stat -c 'two %a %u:%g' /two
RUN --mount=type=cache,target=/three,from=seed,source=/s cat /three/sub/f; stat -c 'three %u:%g' /three/sub/f
RUN --mount=type=cache,target=/ro,id=/two,readonly sh -c 'touch /ro/x || echo read-only'
USER 1000:1000
RUN --mount=type=cache,target=/four stat -c 'four %a %u:%g' /four && touch /four/mine
"""
            }
        ),
    )
    for line in ("one 755 0:0", "two 770 5:6", "seeded", "three 7:8", "read-only", "four 755 1000:1000"):
        assert line in out, out


@pytest.mark.parametrize("ident", ["../../etc", "/", "a/../../b", "x:y", "-rf", "é" * 300])
def test_an_id_is_never_a_path(lap, context, ident):
    lap.build(context(image(f"RUN --mount=type=cache,target=/m,id={ident} touch /m/f")))
    assert len(list(lap.root.glob("cachemounts/*/data/f"))) == 1
    assert ident in lap("cache", "ls", "--format={{.ID}}").stdout


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_step_leaves_no_half_written_private_mount(lap, context, how):
    whole = "RUN --mount=type=cache,target=/m,id=p,sharing=private ls /m; echo half > /m/half; {}; rm /m/half; echo x > /m/whole"
    process = subprocess.Popen(
        [*lap.command, "build", context(image(whole.format("sleep 60")), "a")],
        env=lap.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not list(lap.root.glob("cachemounts/*/data/half")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(how)
    process.wait()
    assert "half" not in log(
        lap, context(image("RUN --mount=type=cache,target=/m,id=p,sharing=private ls /m"), "b")
    ).replace("echo half", "")
    lap.build(context(image(whole.format(":")), "c"))
    again = log(lap, context(image("RUN --mount=type=cache,target=/m,id=p,sharing=private ls /m"), "b"))
    assert "whole" in again


def test_export_import_ls_rm(lap, context, tmp_path):
    lap.build(
        context(
            image(
                "RUN --mount=type=cache,target=/m,id=uv mkdir /m/d && echo kept > /m/d/f && chown 3:4 /m/d/f"
            )
        )
    )
    for name in ("x.tar", "x.tar.zst", "x.tar.gz"):
        lap("cache", "export", "uv", tmp_path / name)
        lap("cache", "rm", "uv")
        assert "uv" not in lap("cache", "ls").stdout
        assert lap("cache", "export", "uv", tmp_path / "none", check=False).returncode == 2
        lap("cache", "import", "uv", tmp_path / name)
        out = log(
            lap,
            context(image("RUN --mount=type=cache,target=/m,id=uv cat /m/d/f; stat -c %u:%g /m/d/f"), "b"),
        )
        assert "kept" in out and "3:4" in out
    stream = subprocess.run(
        [*lap.command, "cache", "export", "uv"], env=lap.env, capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        assert tar.extractfile("d/f").read() == b"kept\n"
    (tmp_path / "bad.tar").write_bytes(stream[:700])
    done = lap("cache", "import", "uv", tmp_path / "bad.tar", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "kept" in log(lap, context(image("RUN --mount=type=cache,target=/m,id=uv cat /m/d/f"), "b"))
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".tmp")]


def test_a_host_directory_as_cache_mount(lap, context, tmp_path):
    host = tmp_path / "host"
    directory = context(image("RUN --mount=type=cache,target=/m,id=uv echo hello > /m/f"))
    lap.build(directory, "--cache-mount", f"id=uv,dir={host}")
    assert (host / "f").read_text() == "hello\n" and not lap.root.joinpath("cachemounts").exists()
    done = lap("build", "--cache-mount", "id=uv", directory, check=False)
    assert done.returncode == 2 and "id and dir" in done.stderr


def test_package_manager_targets_are_locked_by_default(lap, context):
    step = "RUN --mount=type=cache,target=/var/cache/apt mkdir /var/cache/apt/lock && sleep 0.4 && rmdir /var/cache/apt/lock; : {}"
    together(lap, *(context(image(step.format(n)), f"c{n}") for n in range(3)))
    assert os.listdir(lap.root / "locks") == []
