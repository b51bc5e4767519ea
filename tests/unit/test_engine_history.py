"""History: logs without a lost byte, records that hold no secret, and a bounded directory."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from lapstrake.config import load
from lapstrake.engine.asked import request_document, without_user
from lapstrake.engine.build import BuildResult
from lapstrake.engine.history import History, Limits, collect, limits
from lapstrake.engine.recorder import Recorder, new_id
from lapstrake.engine.steplog import StepLog, read_log, tail
from lapstrake.errors import BuildError, ExecError, UsageError
from lapstrake.events import LogChunk, Progress, VertexCached, VertexDone, VertexFailed, VertexStarted, Warned
from lapstrake.graph.ops import SourceOp
from lapstrake.graph.vertex import Vertex
from lapstrake.plan.request import AttestSpec, BuildRequest, CacheSpec, OutputSpec, SecretSpec, SshSpec
from lapstrake.values import replace


@pytest.fixture
def settings(tmp_path):
    return load(str(tmp_path / "root"), None, {"HOME": str(tmp_path)})


class FakeBuild:
    plans = ()


class OneStep:
    """A build whose plan is a single step."""

    def __init__(self, name, *warnings):
        self.step = Vertex(SourceOp("image", name), (), name)
        self.plans = (SimpleNamespace(target=self.step, platform=None),)
        self.warnings = list(warnings)


RESULT = BuildResult("sha256:1", "sha256:2", {"image.name": "app"}, ("app",), ran=1, cached=1)


def record(settings, request=None, *, error=None, chunks=((1, b"out\n"), (2, b"err\n"))):
    seen = []
    r = Recorder(settings, [("", request or BuildRequest("."))], seen.append)
    r.emit(VertexCached("d0", "[1/2] FROM x", 1.0))
    r.emit(VertexStarted("d1", "[2/2] RUN make", 2.0, ("d0",)))
    for n, (stream, data) in enumerate(chunks):
        r.emit(LogChunk("d1", stream, data, 2.0 + n))
    r.emit(Progress("d1", "item", 5, 9, 2.5, 2.0))
    if error is None:
        r.emit(VertexDone("d1", "[2/2] RUN make", 4.0, (("wall", 2.0), ("cpu", 1.5)), "the command changed"))
        result = r.done([FakeBuild()], [RESULT])[0]
    else:
        r.emit(VertexFailed("d1", "[2/2] RUN make", 4.0, str(error)))
        r.failed(error)
        result = None
    return r, seen, result


def test_each_of_several_builds_has_its_own_warnings(settings):
    lint_a, lint_b, general = (
        Warned("lint-a", "a: bad"),
        Warned("lint-b", "b: bad"),
        Warned("", "disk is full"),
    )
    a, b = OneStep("a", lint_a), OneStep("b", lint_b)
    step_b = Warned(b.step.digest, "b: slow")
    r = Recorder(settings, [("a", BuildRequest(".")), ("b", BuildRequest("."))], lambda _event: None)
    for warned in (lint_a, lint_b, general, step_b):
        r.emit(warned)
    r.failed(BuildError("no"), [a, b])
    told = [[w["short"] for w in History(settings.root).find(i)["warnings"]] for i in r.ids]
    assert told == [["a: bad", "disk is full"], ["b: bad", "disk is full", "b: slow"]]


def test_a_finished_build(settings):
    r, seen, result = record(settings)
    assert len(seen) == 6
    assert result.ref == r.ids[0]
    assert result.metadata == {"buildx.build.ref": f"default/default0/{result.ref}", "image.name": "app"}
    found = History(settings.root).find("^0")
    assert found["status"] == "completed"
    first, second = found["steps"]
    assert first == {
        "digest": "d0",
        "name": "[1/2] FROM x",
        "state": "cached",
        "started": 1.0,
        "completed": 1.0,
    }
    assert second["stats"] == {"wall": 2.0, "cpu": 1.5}
    assert second["reason"] == "the command changed"
    assert second["statuses"] == [{"item": "item", "current": 5, "total": 9, "started": 2.0, "at": 2.5}]
    path = History(settings.root).log_path(found, second)
    assert Path(path).read_bytes() == b"out\nerr\n"
    assert list(read_log(path)) == [(2.0, 1, b"out\n"), (3.0, 2, b"err\n")]
    assert tail(path, 4) == (b"err\n", 8)
    assert oct(os.stat(path).st_mode & 0o777) == "0o600"


def test_a_failed_build_says_where_its_log_is(settings):
    error = ExecError("exit code: 1", vertex="[2/2] RUN make", status=1)
    record(settings, error=error)
    assert Path(error.log_path).read_bytes() == b"out\nerr\n"
    found = History(settings.root).records()[0]
    assert found["status"] == "error"
    assert found["error"] == {"message": "exit code: 1", "step": "[2/2] RUN make", "status": 1}


def test_a_build_of_hits_leaves_one_file(settings):
    r = Recorder(settings, [("", BuildRequest("."))], lambda _e: None)
    r.emit(VertexStarted("i", "[internal] load", 1.0))
    r.emit(VertexCached("d0", "[1/2] FROM x", 1.0))
    r.done([FakeBuild()], [RESULT])
    assert os.listdir(f"{settings.root}/history") == [r.ids[0] + ".json"]


def test_running_and_killed_builds_are_seen(settings):
    r = Recorder(settings, [("", BuildRequest("/ctx/app"))], lambda _e: None)
    r.emit(VertexStarted("d1", "[2/2] RUN make", 2.0, ("d0",)))
    r.emit(LogChunk("d1", 1, b"so far\n", 2.0))
    history = History(settings.root)
    found = history.find(r.ids[0])
    assert (found["name"], found["status"]) == ("app", "running")
    assert Path(history.log_path(found, found["steps"][0])).read_bytes() == b"so far\n"
    with pytest.raises(BuildError, match="is running"):
        history.remove(found)
    os.close(r._home_fd)  # as the kernel does when the process dies
    found = history.find(r.ids[0])
    assert found["status"] == "error"
    assert found["error"]["message"] == "the build was interrupted"
    history.remove(found)
    assert history.records() == []
    assert os.listdir(history.directory) == []


def test_what_fails_after_the_record_does_not_change_it(settings):
    r, _, _ = record(settings)
    r.failed(OSError("closing"))
    assert History(settings.root).records()[0]["status"] == "completed"


def test_a_store_that_cannot_be_written_costs_only_the_history(settings):
    os.makedirs(settings.root)
    Path(f"{settings.root}/history").touch()
    _, seen, result = record(settings)
    assert len(seen) == 6
    assert result.digest == "sha256:1"


def test_several_builds_of_a_run_have_their_own_records(settings):
    jobs = [("app", BuildRequest("/a")), ("db", BuildRequest("/b"))]
    r = Recorder(settings, jobs, lambda _e: None)
    r.emit(VertexStarted("i", "[app internal] load", 1.0))
    r.done([FakeBuild(), FakeBuild()], [RESULT, RESULT])
    names = {x["name"]: [s["name"] for s in x["steps"]] for x in History(settings.root).records()}
    assert names == {"a (app)": ["[app internal] load"], "b (db)": ["[app internal] load"]}


def test_a_disk_that_is_full_stops_the_log_only(tmp_path):
    log = StepLog(str(tmp_path), "01")
    os.close(log._fd)
    log._fd = os.open("/dev/full", os.O_WRONLY)
    log.write(1, b"x" * 100, 1.0)
    log.write(1, b"y", 1.0)
    assert not log.complete
    log.close()


def test_pieces_that_come_fast_are_joined(tmp_path):
    log = StepLog(str(tmp_path), "01")
    for n in range(10_000):
        log.write(1, b"%05d\n" % n, 1.0 + n * 1e-6)
    log.write(2, b"end", 2.0)
    log.close()
    pieces = list(read_log(log.path))
    assert b"".join(p[2] for p in pieces) == b"".join(b"%05d\n" % n for n in range(10_000)) + b"end"
    assert len(pieces) < 10
    os.unlink(log.path[:-4] + ".idx")
    assert b"".join(p[2] for p in read_log(log.path)).endswith(b"end")


SECRET = "hunter2hunter2"


def test_no_secret_is_recorded():
    request = BuildRequest(
        f"https://user:{SECRET}@example.org/repo.git", secrets=(SecretSpec("tok", "env", SECRET),),
        ssh=(SshSpec("default", (f"/run/{SECRET}",)),), build_args=(("API_TOKEN", SECRET), ("VERSION", "1")),
        named_contexts=(("dep", f"https://u:{SECRET}@example.org/x"),), labels=(("db-password", SECRET),),
        cache_to=(CacheSpec("s3", (("secret_access_key", SECRET), ("bucket", "b"))),),
        outputs=(OutputSpec("image", "", (("name", "app"),)),), attests=(AttestSpec("sbom", ()),),
        dockerfile_text=SECRET.encode(), tags=("app",),
    )  # fmt: skip
    found = request_document(request)
    assert SECRET not in json.dumps(found)
    assert found["build_args"] == {"API_TOKEN": "<hidden>", "VERSION": "1"}
    assert found["secrets"] == ["tok"]
    assert found["context"] == "https://example.org/repo.git"
    assert found["cache_to"] == [{"type": "s3", "secret_access_key": "<hidden>", "bucket": "b"}]


@pytest.mark.parametrize(
    ("url", "shown"),
    [("https://a:b@h/p@x", "https://h/p@x"), ("https://h/p", "https://h/p"), ("dir@x", "dir@x"), ("", "")],
)
def test_urls_lose_their_user(url, shown):
    assert without_user(url) == shown


def entries(path, n, age=0.0):
    os.makedirs(path, exist_ok=True)
    for i in range(n):
        ident = f"{i:025d}"
        with open(f"{path}/{ident}.json", "w") as f:
            json.dump(
                {"id": ident, "started": float(i), "steps": [], "request": {}, "status": "completed"}, f
            )
        at = time.time() - age - (n - i)
        os.utime(f"{path}/{ident}.json", (at, at))


@pytest.mark.parametrize(
    ("count", "age", "left"),
    [(50, 1e6, 50), (60, 0, 60), (60, 1e6, 50), (600, 0, 500)],
)
def test_a_record_goes_when_it_is_old_and_one_of_many(tmp_path, count, age, left):
    entries(str(tmp_path), count, age)
    collect(str(tmp_path), Limits())
    names = sorted(os.listdir(tmp_path))
    assert len(names) == left
    assert names[-1] == f"{count - 1:025d}.json"


def test_the_end_of_a_build_looks_at_ages_now_and_then(tmp_path):
    entries(str(tmp_path), 61, 1e6)
    collect(str(tmp_path), Limits(), every=8)
    assert len(os.listdir(tmp_path)) == 61
    entries(str(tmp_path), 64, 1e6)
    collect(str(tmp_path), Limits(), every=8)
    assert len(os.listdir(tmp_path)) == 50


def test_logs_go_with_their_record_and_the_oldest_earlier(tmp_path):
    entries(str(tmp_path), 20)
    for i in range(20):
        os.mkdir(tmp_path / f"{i:025d}")
        (tmp_path / f"{i:025d}" / "01.log").write_bytes(b"x" * 100)
    os.mkdir(tmp_path / "orphan")
    os.utime(tmp_path / "orphan", (1, 1))
    collect(str(tmp_path), Limits(logs=1000))
    homes = sorted(n for n in os.listdir(tmp_path) if "." not in n)
    assert homes == [f"{i:025d}" for i in range(9, 20)]


def test_limits_come_from_the_configuration(settings):
    def with_history(**table):
        return replace(settings, config={"history": table})

    assert limits(settings) == Limits()
    assert limits(with_history(maxEntries=5, maxAge=60)) == Limits(5, 60.0)
    assert limits(with_history(maxAge="1h30m")).age == 5400
    for wrong in ({"maxEntries": "x"}, {"maxAge": "soon"}):
        with pytest.raises(UsageError):
            limits(with_history(**wrong))


def test_references(tmp_path):
    history = History(str(tmp_path))
    with pytest.raises(BuildError, match="no build is recorded"):
        history.find("")
    for ident, at in (("abc1", 1.0), ("abd2", 2.0), ("xyz3", 3.0)):
        os.makedirs(history.directory, exist_ok=True)
        with open(f"{history.directory}/{ident}.json", "w") as f:
            json.dump({"id": ident, "started": at, "steps": [], "request": {}}, f)
    for ref, ident in (
        ("", "xyz3"),
        ("^0", "xyz3"),
        ("^2", "abc1"),
        ("abd", "abd2"),
        ("default/default/abc1", "abc1"),
    ):
        assert history.find(ref)["id"] == ident
    for ref, kind in (("ab", UsageError), ("^9", BuildError), ("^x", UsageError), ("nope", BuildError)):
        with pytest.raises(kind):
            history.find(ref)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"id":"other"}', '{"id":"x"}', "[" * 100_000])
def test_a_damaged_record_is_passed_over(tmp_path, text):
    history = History(str(tmp_path))
    os.makedirs(history.directory)
    (tmp_path / "history" / "x.json").write_text(text)
    assert history.records() == []


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/../b.log", "/etc/shadow.log", ".x/y.log", "a/b", "a/.log", 5]
)
def test_a_hostile_record_points_nowhere_else(tmp_path, name):
    assert History(str(tmp_path)).log_path({}, {"log": {"file": name}}) == ""


def test_ids_are_buildkits():
    assert len({new_id() for _ in range(1000)}) == 1000
    assert all(len(i) == 25 and i.isalnum() and i == i.lower() for i in (new_id() for _ in range(100)))
