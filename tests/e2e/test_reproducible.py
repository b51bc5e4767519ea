"""Same inputs and epoch, same bytes: elsewhere, as somebody else, under another umask, clock, locale, hash seed."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from tests.conftest import Lap
from tests.e2e.images import tool
from tests.e2e.test_rootless import someone  # noqa: F401 - a fixture

pytestmark = pytest.mark.e2e

EPOCH = 1_700_000_000
DOCKERFILE = """\
FROM busybox AS low
WORKDIR /made/here
RUN mkdir -p /made/by/run && echo x > /made/by/run/x && ln /made/by/run/x /made/y && chown 7:8 /made/y
FROM low
COPY --chmod=0640 --chown=3:4 src /srv
COPY <<END /etc/inline
text
END
ADD archive.tar /unpacked
ENV A=1
LABEL b=2
RUN rm -r /made/by && touch /last
"""


def make(folder, *, mtime: int, mode: int) -> None:
    (folder / "src" / "deep").mkdir(parents=True)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    for name in ("src/b", "src/a", "src/deep/ü", "src/deep/0"):
        (folder / name).write_text(name)
    if not (folder.parent / "archive.tar").exists():
        tool(
            "tar",
            "--mtime=@5",
            "--owner=9",
            "--group=9",
            "--numeric-owner",
            "-cf",
            folder.parent / "archive.tar",
            "-C",
            folder,
            "src",
        )
    shutil.copy(folder.parent / "archive.tar", folder / "archive.tar")
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file():
            path.chmod(mode)
        os.utime(path, (mtime, mtime))


def digest(program, folder, out, *flags, env=None, umask=0o022) -> str:
    def set_umask() -> None:
        os.umask(umask)

    program(
        "build", folder, f"--source-date-epoch={EPOCH}", "--rewrite-timestamp", *flags, "-o", f"type=oci,tar=false,dest={out}",
        env=env, preexec_fn=set_umask,
    )  # fmt: skip
    return json.loads((out / "index.json").read_text())["manifests"][0]["digest"]


def test_elsewhere_and_under_other_settings(lap, tmp_path, bases):
    here, there = tmp_path / "here", tmp_path / "else" / "where"
    make(here, mtime=EPOCH + 10**6, mode=0o644)
    there.parent.mkdir()
    shutil.copy(tmp_path / "archive.tar", there.parent / "archive.tar")
    make(there, mtime=EPOCH + 10**7, mode=0o644)  # earlier ones would be kept
    os.utime(here / "Dockerfile", (1, 1))
    first = digest(
        lap,
        here,
        tmp_path / "1",
        "--provenance=mode=min",
        "--sbom=true",
        env={"PYTHONHASHSEED": "1", "TZ": "UTC", "LANG": "C.UTF-8"},
    )
    other = Lap(tmp_path / "other-root", bases)
    env = {
        "PYTHONHASHSEED": "77",
        "TZ": "Pacific/Kiritimati",
        "LC_ALL": "C",
        "HOME": str(tmp_path),
        "USER": "x",
    }
    second = digest(
        other, there, tmp_path / "2", "--provenance=mode=min", "--sbom=true", env=env, umask=0o077
    )
    if first != second:
        shown = lap("diff", "--by-layer", f"oci:{tmp_path / '1'}", f"oci:{tmp_path / '2'}", check=False)
        pytest.fail(f"{first} {second}\n{shown.stdout}{shown.stderr}")


def test_as_somebody_else(someone, lap, tmp_path):  # noqa: F811 - the fixture
    if not someone.subordinate:
        pytest.skip("with one id, RUN can give files to nobody else")
    ours, theirs = tmp_path / "ours", someone.home / "theirs"
    for folder in (ours, theirs):
        if folder is theirs:
            shutil.copy(tmp_path / "archive.tar", someone.home / "archive.tar")
        make(folder, mtime=EPOCH + 5, mode=0o644)
    first = digest(lap, ours, tmp_path / "1")
    out = someone.home / "2"
    someone(
        "build",
        theirs,
        f"--source-date-epoch={EPOCH}",
        "--rewrite-timestamp",
        "-o",
        f"type=oci,tar=false,dest={out}",
    )
    if json.loads((out / "index.json").read_text())["manifests"][0]["digest"] != first:
        pytest.fail(lap("diff", "--by-layer", f"oci:{tmp_path / '1'}", f"oci:{out}", check=False).stdout)


def test_check_repro_says_so(lap, context):
    directory = context({"Dockerfile": "FROM busybox\nCOPY a /a\nRUN mkdir /d && echo x > /d/x\n", "a": "a"})
    flags = (f"--source-date-epoch={EPOCH}", "--rewrite-timestamp", "--check-repro", "--progress=none")
    done = lap("build", *flags, "--provenance=true", directory)
    assert done.stdout.startswith("reproducible: both builds gave sha256:")
    (directory / "Dockerfile").write_text(
        "FROM busybox\nRUN mkdir /d && head -c 8 /dev/urandom > /d/random\n"
    )
    done = lap("build", *flags, directory, check=False)
    assert done.returncode == 1 and "NOT reproducible" in done.stdout
    assert (
        "first difference: layer 2 (RUN /bin/sh -c mkdir /d" in done.stdout
        and "/d/random: content: sha256:" in done.stdout
    )
    (directory / "Dockerfile").write_text("FROM busybox\nRUN mkdir /d\n")
    done = lap("build", "--check-repro", "--progress=none", directory, check=False)
    assert done.returncode == 1 and "hint: times differ; give --source-date-epoch" in done.stdout


def test_diff_of_two_images(shared_lap, context, tmp_path):
    directory = context({"Dockerfile": "FROM busybox\nCOPY a /a\nCOPY b /d/b\n", "a": "a", "b": "b"})
    shared_lap("build", directory, "--source-date-epoch=1", "-t", "diff:1")
    (directory / "Dockerfile").write_text("FROM busybox\nENV X=1\nCOPY --chmod=700 --chown=5:6 a /a\n")
    shared_lap(
        "build",
        directory,
        "--source-date-epoch=1",
        "-t",
        "diff:2",
        "-o",
        "type=image",
        "-o",
        f"type=oci,tar=false,dest={tmp_path / 'l'}",
    )
    done = shared_lap("diff", "diff:1", "diff:2", check=False)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert "/a: mode: 0644 / 0700" in lines and "/a: owner: 0:0 / 5:6" in lines
    assert "/d: only in the first" in lines and "/d/b: only in the first" in lines
    assert shared_lap("diff", "diff:2", f"oci:{tmp_path / 'l'}:2").stdout == ""
    found = json.loads(shared_lap("diff", "--format=json", "diff:1", "diff:2", check=False).stdout)
    assert {"path": "/a", "what": "mode", "first": "0644", "second": "0700"} in found
