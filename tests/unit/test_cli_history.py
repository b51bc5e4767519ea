"""``history`` on recorded builds."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import time
from pathlib import Path

import pytest

from lapstrake.cli.history import ago, parse_filter
from lapstrake.cli.main import main
from lapstrake.config import load
from lapstrake.engine import trace
from lapstrake.engine.build import BuildResult
from lapstrake.engine.history import History
from lapstrake.engine.recorder import Recorder
from lapstrake.engine.replay import replay
from lapstrake.errors import ExecError, Span, UsageError
from lapstrake.events import LogChunk, Progress, VertexCached, VertexDone, VertexFailed, VertexStarted, Warned
from lapstrake.plan.request import BuildRequest

T = 1_700_000_000.0
EVENTS = [
    VertexStarted("i", "[internal] load build definition from Dockerfile", T),
    Progress("i", "transferring dockerfile:", 31, 0, T, T, True),
    VertexDone("i", "[internal] load build definition from Dockerfile", T + 0.1),
    VertexCached("d0", "[1/3] FROM alpine", T + 0.2),
    VertexStarted("d1", "[2/3] RUN make", T + 1, ("d0",)),
    LogChunk("d1", 1, b"gcc main.c\n", T + 1.5),
    LogChunk("d1", 2, b"warning: \x1b[31mred\n", T + 2),
    VertexDone(
        "d1", "[2/3] RUN make", T + 3, (("wall", 2.0), ("cpu", 1.5), ("peak_rss", 5e7)), "the command changed"
    ),
]


class FakeBuild:
    plans = ()


@pytest.fixture
def root(tmp_path, monkeypatch):
    for name in ("LAPSTRAKE_CONFIG", "BUILDX_BUILDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LAPSTRAKE_ROOT", str(tmp_path / "root"))
    settings = load(str(tmp_path / "root"), None, {"HOME": str(tmp_path)})

    def record(request, events, error=None):
        r = Recorder(settings, [("", request)], lambda _e: None)
        for e in events:
            r.emit(e)
        if error is not None:
            r.failed(error)
        else:
            r.done([FakeBuild()], [BuildResult("sha256:" + "1" * 64, "", {}, ("app",))])
        time.sleep(0.002)  # the order is by start
        return r.ids[0]

    good = record(
        BuildRequest("/src/app", tags=("app:1",), build_args=(("V", "1"), ("API_TOKEN", "s3cret"))),
        [*EVENTS, Warned("i", "JSONArgsRecommended: use JSON (line 3)")],
    )
    error = ExecError(
        "exit code: 2", vertex="[2/3] RUN make", status=2, span=Span("Dockerfile", 2, 2, "FROM x\nRUN make\n")
    )
    bad = record(
        BuildRequest("/src/web"),
        [*EVENTS[:-1], VertexFailed("d1", "[2/3] RUN make", T + 3, "exit code: 2")],
        error,
    )
    return tmp_path / "root", good, bad


def run(capsysbinary, *words):
    code = main(["history", *words])
    out, err = capsysbinary.readouterr()
    return code, out.decode(), err.decode()


def test_ls(root, capsysbinary):
    _, good, bad = root
    lines = run(capsysbinary, "ls")[1].splitlines()
    assert lines[0].split() == ["BUILD", "ID", "NAME", "STATUS", "CREATED", "AT", "DURATION"]
    assert [line.split()[:3] for line in lines[1:]] == [[bad, "web", "Error"], [good, "app", "Completed"]]
    rows = [json.loads(x) for x in run(capsysbinary, "ls", "--format", "json")[1].splitlines()]
    assert rows[1]["ref"] == f"default/default0/{good}"
    assert (rows[1]["total_steps"], rows[1]["cached_steps"], rows[1]["completed_steps"]) == (3, 1, 3)
    assert run(capsysbinary, "ls", "--format", "{{.Name}}:{{.Status}}")[1] == "web:Error\napp:Completed\n"


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["status=error"], "web"), (["status!=error"], "app"), (["ref={good}"], "app"), (["repository=/src/web"], "web"),
        (["startedAt<1h"], ""), (["startedAt>1h"], "web app"), (["startedAt>2020-01-01T00:00:00Z"], "web app"),
        (["completedAt<2020-01-01"], ""), (["duration>1m"], ""), (["duration<1m", "name=app"], "app"),
    ],
)  # fmt: skip
def test_filters(root, capsysbinary, filters, names):
    words = [w for f in filters for w in ("--filter", f.replace("{good}", root[1]))]
    assert run(capsysbinary, "ls", "--format", "{{.Name}}", *words)[1].split() == names.split()


@pytest.mark.parametrize(
    "raw", ["status", "status>error", "duration=5", "nope=1", "startedAt>soon", "startedAt>2020-99-99", "=x"]
)
def test_wrong_filters(raw):
    with pytest.raises(UsageError):
        parse_filter(raw, 0.0)


def test_inspect(root, capsysbinary):
    _, good, bad = root
    text = run(capsysbinary, "inspect", good)[1]
    assert "Build Steps: 3/3 (33% cached)" in text
    assert "API_TOKEN   <hidden>" in text
    assert "WARNING: JSONArgsRecommended" in text
    assert "s3cret" not in text
    text = run(capsysbinary, "inspect", bad[:6])[1]
    assert "------\n > [2/3] RUN make:\ngcc main.c\nwarning: \ufffd[31mred\n------\nDockerfile:2\n" in text
    assert "   2 | >>> RUN make" in text
    assert "Error: exit code: 2\n" in text
    doc = json.loads(run(capsysbinary, "inspect", "--format", "json", "^1")[1])
    assert doc["Ref"] == good
    assert doc["Steps"][2]["Stats"] == {"wall": 2.0, "cpu": 1.5, "peak_rss": 5e7}
    assert doc["Steps"][2]["Duration"] == 2_000_000_000
    assert (
        run(capsysbinary, "inspect", "--format", "{{.Name}} {{.NumTotalSteps}} {{json .Config.Tags}}", good)[
            1
        ]
        == 'app 3 ["app:1"]\n'
    )
    assert run(capsysbinary, "inspect", "zzz")[0] == 1


def test_logs(root, capsysbinary):
    _, good, bad = root
    assert run(capsysbinary, "logs", good)[1] == (
        "#1 [internal] load build definition from Dockerfile\n#1 transferring dockerfile: 31B done\n"
        "#1 WARN: JSONArgsRecommended: use JSON (line 3)\n#1 DONE 0.1s\n\n"
        "#2 [1/3] FROM alpine\n#2 CACHED\n\n"
        "#3 [2/3] RUN make\n#3 0.500 gcc main.c\n#3 1.000 warning: \x1b[31mred\n#3 DONE 2.0s\n"
    )
    assert "#3 ERROR: exit code: 2" in run(capsysbinary, "logs")[1]
    assert run(capsysbinary, "logs", good, "--step", "make")[1] == "gcc main.c\nwarning: \x1b[31mred\n"
    assert run(capsysbinary, "logs", good, "--step", "nope")[0] == 1
    raw = [json.loads(x) for x in run(capsysbinary, "logs", bad, "--progress", "rawjson")[1].splitlines()]
    assert [v["error"] for r in raw for v in r.get("vertexes", ()) if "error" in v] == ["exit code: 2"]
    assert "[+] Building 3.0s (3/3) FINISHED" in run(capsysbinary, "logs", good, "--progress", "tty")[1]
    assert run(capsysbinary, "logs", "--progress", "loud")[0] == 2


def test_rm(root, capsysbinary):
    path, good, bad = root
    assert run(capsysbinary, "rm")[0] == 2
    assert run(capsysbinary, "rm", good)[1] == f"{good}\n"
    assert run(capsysbinary, "rm", "--all")[1] == f"{bad}\n"
    assert list((path / "history").iterdir()) == []


def test_traces(root, capsysbinary):
    _, good, bad = root
    found = json.loads(run(capsysbinary, "trace", good, "--compare", bad)[1])["traceEvents"]
    spans = [e for e in found if e["ph"] == "X" and e["pid"] == 1]
    assert [(e["name"], e["dur"]) for e in spans][-1] == ("[2/3] RUN make", 2_000_000)
    assert {e["pid"] for e in found} == {1, 2}
    otlp = json.loads(run(capsysbinary, "trace", bad, "--format", "otlp")[1])
    spans = otlp["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert len(spans) == 4
    assert [len(s["traceId"]) for s in spans] == [32] * 4
    assert spans[3]["parentSpanId"] == spans[0]["spanId"]
    assert spans[3]["status"] == {"code": 2, "message": "exit code: 2"}
    assert spans[3]["startTimeUnixNano"] == "1700000001000000000"


def test_parallel_steps_are_in_lanes():
    steps = [
        {"started": 0, "completed": 5},
        {"started": 1, "completed": 2},
        {"started": 3, "completed": 4},
        {"started": 5, "completed": 6},
    ]
    assert [lane for lane, _ in trace.lanes(steps)] == [0, 1, 1, 0]


def test_a_bundle_there_and_back(root, capsysbinary, tmp_path, monkeypatch):
    path, good, bad = root
    bundle = tmp_path / "b.tar.gz"
    assert run(capsysbinary, "export", "--all", "-o", str(bundle))[0] == 0
    before = {i: run(capsysbinary, "logs", i)[1] for i in (good, bad)}
    assert run(capsysbinary, "import", "-f", str(bundle))[1:] == (
        "",
        f"{bundle}: all its builds are known already\n",
    )
    again = tmp_path / "c.tar.gz"
    run(capsysbinary, "export", "--all", "-o", str(again))
    assert again.read_bytes() == bundle.read_bytes()
    monkeypatch.setenv("LAPSTRAKE_ROOT", str(tmp_path / "other"))
    assert sorted(run(capsysbinary, "import", "-f", str(bundle))[1].split()) == sorted((good, bad))
    assert {i: run(capsysbinary, "logs", i)[1] for i in (good, bad)} == before
    assert run(capsysbinary, "inspect", good)[0] == 0


def bundle_of(*members):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, data, kind in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, "/etc/passwd", len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(raw.getvalue())


HEAD = ("lapstrake-history.json", b'{"schema":1}', tarfile.REGTYPE)
RECORD = b'{"id":"abc","started":1,"request":{},"steps":[],"name":"x"}'


@pytest.mark.parametrize(
    "data",
    [
        b"", b"nonsense", gzip.compress(b"nonsense"), bundle_of(), bundle_of((HEAD[0], b'{"schema":1,"builds":["abc"]}', tarfile.REGTYPE)),
        bundle_of(("abc/record.json", RECORD, tarfile.REGTYPE)),
        bundle_of(HEAD, ("../record.json", RECORD, tarfile.REGTYPE)),
        bundle_of(HEAD, ("/abs/record.json", RECORD, tarfile.REGTYPE)),
        bundle_of(HEAD, ("abc/record.json", b"", tarfile.SYMTYPE)),
        bundle_of(HEAD, ("abc/record.json", RECORD, tarfile.REGTYPE), ("abc/logs/x.log", b"", tarfile.SYMTYPE)),
        bundle_of(HEAD, ("abc/record.json", RECORD, tarfile.REGTYPE), ("abc/logs/.x.log", b"1", tarfile.REGTYPE)),
        bundle_of(HEAD, ("abc/record.json", RECORD, tarfile.REGTYPE), ("abc/logs/x.log", b"1", tarfile.REGTYPE), ("abc/logs/x.log", b"2", tarfile.REGTYPE)),
        bundle_of(HEAD, ("xyz/record.json", RECORD, tarfile.REGTYPE)),
        bundle_of(HEAD, ("abc/record.json", b'{"id":"abc","started":"x","request":{},"steps":[{}]}', tarfile.REGTYPE)),
        bundle_of(("lapstrake-history.json", b'{"schema":9}', tarfile.REGTYPE)),
        bundle_of(HEAD, ("abc/record.json", b"[" * 100_000, tarfile.REGTYPE)),
    ],
)  # fmt: skip
def test_hostile_bundles(data, tmp_path, monkeypatch, capsysbinary):
    monkeypatch.setenv("LAPSTRAKE_ROOT", str(tmp_path / "root"))
    (tmp_path / "b").write_bytes(data)
    code, out, err = run(capsysbinary, "import", "-f", str(tmp_path / "b"))
    assert (code, out) == (1, "")
    assert "Traceback" not in err
    assert [p for p in (tmp_path / "root").rglob("*") if p.is_file()] == []


def test_replay_is_in_the_order_of_time(root):
    path, good, _ = root
    history = History(str(path))
    events = [e for e in replay(history, history.find(good)) if not isinstance(e, (Warned, Progress))]
    assert [e.at for e in events] == sorted(e.at for e in events)
    assert (
        b"".join(e.data for e in events if isinstance(e, LogChunk)) == b"gcc main.c\nwarning: \x1b[31mred\n"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "less than a second"), (1.5, "1 second"), (59, "59 seconds"), (61, "1 minute"), (7200, "2 hours"), (90_000, "25 hours"), (200_000, "2 days"), (1_300_000, "2 weeks")],
)  # fmt: skip
def test_ages(seconds, text):
    assert ago(seconds) == text


def test_unknown_words(root, capsysbinary):
    assert run(capsysbinary, "nope")[0] == 2
    assert "ls | inspect" in run(capsysbinary)[1]
    assert run(capsysbinary, "trace", "--addr", ":1")[0] == 2
    assert Path(root[0]).exists()
