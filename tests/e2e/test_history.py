"""What is left of a build: complete logs, a record, a summary, whatever shows the progress."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

MUCH = 200_000_000
LINE = "0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ the end"
DOCKERFILE = f'FROM debian\nARG N\nRUN : $N; yes "{LINE}" | head -c {MUCH}\n'


def run_on_a_terminal(lap, *words):
    """Output of the program on a terminal of its own."""
    main, end = pty.openpty()
    program = subprocess.Popen(
        [*lap.command, *map(str, words)],
        env={**lap.env, "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=end,
        stderr=end,
    )
    os.close(end)
    out = bytearray()
    while True:
        try:
            data = os.read(main, 65536)
        except OSError:
            break
        if not data:
            break
        out += data
    os.close(main)
    assert program.wait() == 0, out.decode()
    return out.decode()


def logs(lap):
    """The step logs of the newest build."""
    doc = json.loads(lap("history", "inspect", "--format", "json").stdout)
    return [s["LogPath"] for s in doc["Steps"] if s["LogPath"]]


def digest_of(path):
    total = hashlib.sha256()
    with open(path, "rb") as f:
        while data := f.read(1 << 20):
            total.update(data)
    return total.hexdigest()


def test_200_megabytes_of_output_are_all_kept(lap, context):
    """At full speed, in each way of showing progress, in little memory."""
    path = context({"Dockerfile": DOCKERFILE})
    whole = (LINE + "\n").encode()
    expected = hashlib.sha256((whole * (MUCH // len(whole) + 1))[:MUCH]).hexdigest()

    plain = lap("build", "--progress=plain", "--build-arg", "N=1", path).stderr
    assert plain.count(LINE) >= MUCH // len(whole)
    del plain
    assert [digest_of(p) for p in logs(lap)] == [expected]

    raw = lap("build", "--progress=rawjson", "--build-arg", "N=2", path).stderr
    total = hashlib.sha256()
    for line in raw.splitlines():
        for chunk in json.loads(line).get("logs", ()) if line.startswith("{") else ():
            total.update(base64.b64decode(chunk["data"]))
    del raw
    assert total.hexdigest() == expected
    assert [digest_of(p) for p in logs(lap)] == [expected]

    shown = run_on_a_terminal(lap, "build", "--build-arg", "N=3", path)
    assert "FINISHED" in shown
    assert len(shown) < 1_000_000
    assert [digest_of(p) for p in logs(lap)] == [expected]
    replayed = subprocess.Popen([*lap.command, "history", "logs"], env=lap.env, stdout=subprocess.PIPE)
    lines = peak = 0
    while data := replayed.stdout.read(8 << 20):
        lines += data.count(b"\n")
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{replayed.pid}/status").read_text())
        peak = max(peak, int(found[1]) if found else 0)
    replayed.stdout.close()
    assert replayed.wait() == 0
    assert lines >= MUCH // len(whole)
    assert 0 < peak < 100 << 10  # kilobytes


def test_a_failed_build_is_looked_at_afterwards(lap, context):
    path = context({"Dockerfile": "FROM busybox\nRUN echo before; echo why >&2; exit 3\n"})
    failed = lap("build", path, check=False)
    assert failed.returncode == 1
    log = failed.stderr.rsplit("The whole log of the step: ", 1)[1].strip()
    with open(log, "rb") as f:
        assert f.read() == b"before\nwhy\n"
    assert (
        lap("history", "ls", "--filter", "status=error", "--format", "{{.Name}} {{.Status}}").stdout
        == "context Error\n"
    )
    assert "exit code: 3" in lap("history", "inspect").stdout
    assert "#" in lap("history", "logs").stdout


def test_the_metadata_file_names_the_record(lap, context, tmp_path):
    path = context({"Dockerfile": "FROM busybox AS a\nRUN dd if=/dev/zero of=/big bs=1M count=3; dd if=/dev/zero of=/dev/null bs=1M count=2000\n"
                                  "FROM busybox\nCOPY --from=a /etc/passwd /passwd\n"})  # fmt: skip
    done = lap("build", "--metadata-file", tmp_path / "m.json", "--summary=full", path)
    ref = json.loads((tmp_path / "m.json").read_text())["buildx.build.ref"]
    doc = json.loads(lap("history", "inspect", "--format", "json", ref).stdout)
    assert ref == f"default/default0/{doc['Ref']}"
    stats = next(s for s in doc["Steps"] if "RUN dd" in s["Name"])["Stats"]
    assert stats["bytes_added"] == 3 << 20
    assert 0 < stats["cpu"] < 60
    assert stats["wall"] > 0
    assert stats["peak_rss"] > 1 << 20
    assert re.search(r"^build stages: 3\.1 MB, final image: \d", done.stderr, re.MULTILINE)
    assert re.search(r"^\[a 2/2\] RUN dd.* 3\.1 MB +no earlier run", done.stderr, re.MULTILINE)
    again = lap("build", path)
    assert re.search(r"all \d steps cached\nbuild stages: 3\.1 MB, final image", again.stderr)
    kinds = {a["Type"] for a in doc["Attachments"]}
    assert "application/vnd.oci.image.manifest.v1+json" in kinds
    manifest = json.loads(lap("history", "inspect", "attachment", "--type", "manifest", doc["Ref"]).stdout)
    assert manifest["schemaVersion"] == 2


def test_a_killed_build_is_seen_and_goes(lap, context):
    path = context({"Dockerfile": "FROM busybox\nRUN echo so far; sleep 300\n"})
    program = subprocess.Popen(
        [*lap.command, "build", "--progress=plain", str(path)], env=lap.env, stderr=subprocess.PIPE
    )
    try:
        for line in program.stderr:
            if b"so far" in line and b"RUN" not in line:
                break
        assert lap("history", "ls", "--format", "{{.Status}}").stdout == "Running\n"
        assert "so far" in lap("history", "logs").stdout
    finally:
        program.kill()
        program.wait()
        program.stderr.close()
    assert lap("history", "ls", "--format", "{{.Status}}").stdout == "Error\n"
    lap("history", "rm", "--all")
    assert lap("history", "ls", "--format", "{{.Status}}").stdout == ""


def test_a_secret_that_a_step_prints_is_in_no_log(lap, context, tmp_path):
    path = context({"Dockerfile": "FROM busybox\nRUN --mount=type=secret,id=t --mount=type=secret,id=t,env=T "
                                  "cat /run/secrets/t; printf 'a %s\\n' \"${T%???}\" >/dev/null; printf %s \"$T\"; sleep 0.1; echo end; exit 1\n"})  # fmt: skip
    (tmp_path / "token").write_text("hunter2hunter2\n")
    failed = lap("build", "--progress=plain", "--secret", f"id=t,src={tmp_path}/token", path, check=False)
    assert failed.returncode == 1
    assert "hunter2" not in failed.stderr
    assert "***" in failed.stderr
    kept = b"".join(p.read_bytes() for p in (lap.root / "history").rglob("*") if p.is_file())
    assert b"***\n***\nend\n" in kept
    assert b"hunter2" not in kept
