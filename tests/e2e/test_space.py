"""du says what the disk says; prune beside builds; gc and the hard cap."""

from __future__ import annotations

import json
import subprocess
import threading

import pytest
from tests.conftest import Lap

pytestmark = pytest.mark.e2e

DOCKERFILE = """\
FROM busybox AS a
RUN --mount=type=cache,target=/c,id=stuff dd if=/dev/zero of=/c/x bs=64k count=16 2>/dev/null
RUN mkdir /d && for i in 1 2 3 4 5 6 7 8 9; do echo $i > /d/$i; done
FROM busybox
COPY --from=a /d /d
COPY file /file
RUN echo hello > /hello
"""


@pytest.fixture
def directory(context):
    return context({"Dockerfile": DOCKERFILE, "file": "content" * 10_000})


def rows(lap: Lap, *flags: str) -> list[dict]:
    return [json.loads(line) for line in lap("du", "--format=json", *flags).stdout.splitlines()]


def on_disk(lap: Lap) -> int:
    done = subprocess.run(
        ["du", "-s", "--block-size=1", lap.root], capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[0])


def total(lap: Lap) -> int:
    return sum(int(r["Size"][:-1]) for r in rows(lap))


def test_du_says_what_the_disk_says(lap, directory, tmp_path):
    for flags in (
        ["-t", "a"],
        ["-t", "b", "--no-cache"],
        ["-o", f"type=oci,dest={tmp_path}/o.tar,compression=zstd"],
    ):
        lap.build(directory, *flags)
        assert total(lap) == on_disk(lap)
    found = rows(lap)
    assert set(found[0]) == {
        "ID", "Parents", "CreatedAt", "Mutable", "Reclaimable", "Shared", "Size", "Description", "UsageCount", "LastUsedAt", "Type",
    }  # fmt: skip
    assert {r["Type"] for r in found} == {"regular", "internal", "exec.cachemount", "source.local"}
    assert [r["Mutable"] for r in rows(lap, "--filter=type=exec.cachemount")] == [True]
    copies = rows(lap, "--filter=description~=COPY file")
    assert copies and all("COPY file" in r["Description"] for r in copies)
    assert len(rows(lap, "--filter=shared")) + len(rows(lap, "--filter=private")) == len(found)
    assert lap("du", "--filter=nonsense", check=False).returncode == 2
    table = lap("du").stdout
    assert table.startswith("ID ") and "RECLAIMABLE" in table and "\nTotal:" in table
    assert "Last used:" in lap("du", "--verbose").stdout
    assert lap("du", "--format={{.ID}} {{.Type}}").stdout.splitlines()[0].count(" ") == 1


def test_prune_keeps_images_and_what_was_asked_to_stay(lap, directory, tmp_path):
    lap.build(directory, "-t", "kept")
    before = total(lap)
    planned = lap("prune", "--dry-run", "-a").stdout
    assert total(lap) == before
    assert lap("prune", "--filter=until=1h", "-f").stdout == "Total:  0B\n"
    assert lap("prune", "--reserved-space=1g", "-f").stdout == "Total:  0B\n"
    assert lap("prune", input="n\n").stdout == ""
    assert "exec.cachemount" in {r["Type"] for r in rows(lap)}
    lap("prune", "-f", "--filter=type=exec.cachemount")
    assert {r["Type"] for r in rows(lap)} == {"regular", "internal", "source.local"}
    done = lap("prune", "-af").stdout
    assert planned.count("\n") == done.count("\n") + 1  # all that was planned, but the cache mount
    assert total(lap) == on_disk(lap) < before
    left = rows(lap)
    assert all(r["Shared"] for r in left if r["ID"] != "index")
    assert lap("fsck").returncode == 0
    lap.build(directory, "-t", "kept", "-o", f"type=local,dest={tmp_path}/files")
    assert (tmp_path / "files/hello").read_text() == "hello\n"
    lap("rmi", "kept")
    lap("prune", "-af")
    assert {r["ID"] for r in rows(lap)} == {"index"}
    assert total(lap) == on_disk(lap)


def test_prune_in_a_loop_beside_builds(lap, context):
    contexts = [
        context(
            {"Dockerfile": DOCKERFILE + f"RUN echo {n} > /n && sleep 0.2 && cat /d/3 /hello\n", "file": "c"},
            f"c{n}",
        )
        for n in range(3)
    ]
    lap.build(contexts[0], "-t", "first")
    failures: list[str] = []
    over = threading.Event()

    def builds(n: int) -> None:
        for i in range(5):
            flags = ["--no-cache"] if i % 2 else []
            done = lap("build", contexts[n], "-t", f"t{n}", *flags, check=False)
            if done.returncode:
                failures.append(done.stderr[-2000:])

    def prunes() -> None:
        while not over.is_set():
            done = lap("prune", "-af", check=False)
            if done.returncode:
                failures.append(done.stderr[-2000:])

    threads = [threading.Thread(target=builds, args=(n,)) for n in range(3)]
    pruner = threading.Thread(target=prunes)
    for t in (*threads, pruner):
        t.start()
    for t in threads:
        t.join()
    over.set()
    pruner.join()
    assert failures == []
    assert lap("fsck", check=False).stdout.endswith("no problems\n")


def configured(lap: Lap, bases, tmp_path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(bases.read_text() + text)
    lap.env["LAPSTRAKE_CONFIG"] = str(path)


def test_a_hard_cap_is_never_passed(lap, context, tmp_path, bases):
    configured(lap, bases, tmp_path, '\n[store]\nmax-size = "12MiB"\n')
    for n in range(6):
        directory = context(
            {
                "Dockerfile": f"FROM busybox\nRUN dd if=/dev/urandom of=/x bs=1k count=2000 2>/dev/null; echo {n}\n"
            }
        )
        lap.build(directory, "-o", "type=cacheonly")
        assert on_disk(lap) <= 12 << 20
    big = context(
        {"Dockerfile": "FROM busybox\nRUN dd if=/dev/urandom of=/x bs=1k count=15000 2>/dev/null\n"}, "big"
    )
    done = lap("build", big, "-t", "big", check=False)
    assert done.returncode == 1 and "max-size" in done.stderr and "Traceback" not in done.stderr
    assert on_disk(lap) <= 12 << 20
    assert lap("fsck").returncode == 0
    lap.build(directory, "-t", "small")


def test_gc_as_configured(lap, context, tmp_path, bases):
    configured(lap, bases, tmp_path, '\n[[worker.oci.gcpolicy]]\nall = true\nmaxUsedSpace = "6MB"\n')
    for n in range(6):
        directory = context(
            {
                "Dockerfile": f"FROM busybox\nRUN dd if=/dev/urandom of=/x bs=1k count=1000 2>/dev/null; echo {n}\n"
            }
        )
        lap.build(directory, "-o", "type=cacheonly")
    assert on_disk(lap) < 7 << 20
    configured(lap, bases, tmp_path, '\n[worker.oci]\nmaxUsedSpace = "wrong"\n')
    done = lap("build", directory, check=False)
    assert done.returncode == 2 and "maxUsedSpace" in done.stderr
