"""Plain progress: golden outputs with a clock of our own."""

from __future__ import annotations

import io

import pytest

from lapstrake.events import LogChunk, Progress, VertexCached, VertexDone, VertexFailed, VertexStarted, Warned
from lapstrake.progress.folds import annotation
from lapstrake.progress.model import log_time, size_text
from lapstrake.progress.plain import PlainRenderer

T = 1_700_000_000.0


class Clock:
    def __init__(self):
        self.now = T

    def __call__(self):
        return self.now


def play(events, **kw):
    out, clock = io.StringIO(), Clock()
    r = PlainRenderer(out, clock=clock, background=False, **kw)
    for e in events:
        at = getattr(e, "at", None)
        if at is not None:
            clock.now = max(clock.now, at)
        r.emit(e)
    r.close()
    return out.getvalue()


def log(digest, text, at, stream=1):
    return LogChunk(digest, stream, text.encode(), T + at)


def test_the_example_of_the_spec():
    got = play(
        [
            VertexStarted("a", "[build 2/3] RUN make", T),
            log("a", "first output line\n", 0.123),
            VertexCached("b", "[2/3] COPY . .", T + 1),
            log("a", "later line\n", 12.34),
            VertexDone("a", "[build 2/3] RUN make", T + 14.2),
        ],
        title='building with "default" instance using local driver',
    )
    assert got == (
        '#0 building with "default" instance using local driver\n\n'
        "#1 [build 2/3] RUN make\n#1 0.123 first output line\n#1 ...\n\n"
        "#2 [2/3] COPY . .\n#2 CACHED\n\n"
        "#1 [build 2/3] RUN make\n#1 12.34 later line\n#1 DONE 14.2s\n"
    )


def test_a_parallel_step_waits_for_the_shown_one():
    got = play(
        [
            VertexStarted("a", "A", T),
            log("a", "1\n", 0.1),
            VertexStarted("b", "B", T + 0.2),
            log("b", "x\n", 0.3),
            log("a", "2\n", 0.4),
            VertexDone("a", "A", T + 0.5),
            log("b", "y\n", 0.6),
            VertexDone("b", "B", T + 0.7),
        ]
    )
    assert got == "#1 A\n#1 0.100 1\n#1 0.400 2\n#1 DONE 0.5s\n\n#2 B\n#2 0.100 x\n#2 0.400 y\n#2 DONE 0.5s\n"


def test_a_silent_step_gives_way():
    got = play(
        [
            VertexStarted("a", "A", T),
            VertexStarted("b", "B", T + 0.1),
            log("b", "x\n", 3),
            VertexDone("b", "B", T + 4),
            VertexDone("a", "A", T + 5),
        ]
    )
    assert got == "#1 A\n#1 ...\n\n#2 B\n#2 2.900 x\n#2 DONE 3.9s\n\n#1 A\n#1 DONE 5.0s\n"


def test_the_small_thread_shows_what_is_held():
    import time

    out = io.StringIO()
    r = PlainRenderer(out)
    now = time.time()
    r.emit(VertexStarted("a", "A", now))
    r.emit(VertexStarted("b", "B", now))
    r.emit(LogChunk("b", 1, b"x\n", now))
    deadline = time.time() + 10
    while "#2 B" not in out.getvalue() and time.time() < deadline:
        time.sleep(0.05)
    r.close()
    assert "#1 A\n#1 ...\n\n#2 B\n#2 0.000 x\n" in out.getvalue()


def test_lines_in_pieces_and_without_end():
    got = play(
        [
            VertexStarted("a", "A", T),
            log("a", "ab", 1),
            log("a", "err\n", 1, 2),
            log("a", "c\r\nd", 2),
            VertexDone("a", "A", T + 3),
        ]
    )
    assert got == "#1 A\n#1 1.000 err\n#1 2.000 abc\n#1 3.000 d\n#1 DONE 3.0s\n"


def test_redrawn_lines_show_their_last_state():
    assert "#1 1.000 100%\n" in play([VertexStarted("a", "A", T), log("a", "1%\r50%\r100%\n", 1)])


def test_failures():
    got = play(
        [
            VertexStarted("a", "A", T),
            VertexStarted("b", "B", T),
            VertexFailed("a", "A", T + 1, "process failed"),
            VertexFailed("b", "B", T + 1, "context canceled", True),
        ]
    )
    assert got == "#1 A\n#1 ERROR: process failed\n\n#2 B\n#2 CANCELED\n"


def test_status_lines_at_every_twentieth_or_five_seconds():
    events = [VertexStarted("a", "pull", T)]
    events += [Progress("a", "sha256:abc", n * 10**6, 100 * 10**6, T + n / 10, T) for n in range(100)]
    events += [Progress("a", "sha256:abc", 10**8, 10**8, T + 10, T, True)] * 2
    lines = play(events).splitlines()
    assert lines[1] == "#1 sha256:abc 0B / 100.00MB"
    assert lines[2] == "#1 sha256:abc 5.00MB / 100.00MB 0.5s"
    assert lines[-1] == "#1 sha256:abc 100.00MB / 100.00MB 10.0s done"
    assert len(lines) == 22


def test_status_without_total():
    got = play(
        [
            VertexStarted("a", "A", T),
            Progress("a", "transferring context:", 2_450_000, 0, T + 0.1, T, True),
            VertexDone("a", "A", T + 0.1),
        ]
    )
    assert got == "#1 A\n#1 transferring context: 2.45MB 0.1s done\n#1 DONE 0.1s\n"


def test_warnings_after_the_step_do_not_end_it_twice():
    w = Warned("a", "FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)")
    got = play([VertexStarted("a", "load", T), VertexDone("a", "load", T), w])
    assert got.count("DONE") == 1
    assert got.endswith("#1 WARN: FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)\n")


def test_explain_and_truncate():
    done = VertexDone("a", "x" * 100, T + 1, (), "file src/a.py changed")
    assert "#1 NOT CACHED: file src/a.py changed\n#1 DONE" in play(
        [VertexStarted("a", "x" * 100, T), done], explain=True
    )
    assert play([VertexStarted("a", "x" * 100, T)], truncate=True) == "#1 " + "x" * 69 + "...\n"


def test_names_stay_on_one_line():
    assert play([VertexCached("a", "RUN a\nb\x1b[31m", T)]) == "#1 RUN a b [31m\n#1 CACHED\n"


def test_an_ascii_stream_and_a_closed_one():
    raw = io.BytesIO()
    r = PlainRenderer(io.TextIOWrapper(raw, encoding="ascii"), background=False)
    r.emit(VertexCached("a", "caf\u00e9", T))
    assert raw.getvalue().startswith(b"#1 caf?\n")
    out = io.StringIO()
    r = PlainRenderer(out, background=False)
    out.close()
    r.emit(VertexCached("a", "A", T))
    r.close()


@pytest.mark.parametrize(
    ("seconds", "want"),
    [(0.1234, "0.123"), (9.9994, "9.999"), (12.345, "12.35"), (123.45, "123.5"), (-1, "0.000")],
)
def test_log_time(seconds, want):
    assert log_time(seconds) == want


@pytest.mark.parametrize(
    ("n", "want"),
    [(0, "0B"), (999, "999B"), (1500, "1.50kB"), (31_360_000, "31.36MB"), (5 * 10**15, "5000.00TB")],
)
def test_sizes(n, want):
    assert size_text(n) == want


def test_a_step_asked_for_twice_is_shown_once():
    events = [VertexStarted("a", "A", T), VertexDone("a", "A", T)]
    assert play(events * 2) == "#1 A\n#1 DONE 0.0s\n"


def test_a_held_step_that_writes_much_is_shown_before_its_turn_and_loses_nothing():
    out = io.StringIO()
    r = PlainRenderer(out, clock=Clock(), background=False)
    r.emit(VertexStarted("a", "A", T))
    r.emit(log("a", "one\n", 0))
    r.emit(VertexStarted("b", "B", T))
    for n in range(200):
        r.emit(LogChunk("b", 1, b"".join(b"%06d %060d\n" % (n * 1000 + i, 0) for i in range(1000)), T))
        assert r._model.steps["b"].held < 5 << 20
    r.close()
    seen = [line.split()[2] for line in out.getvalue().splitlines() if line.startswith("#2 0.000")]
    assert seen == [f"{n:06d}" for n in range(200_000)]


FOLDED = [
    VertexStarted("a", "A", T),
    VertexCached("c", "C", T),
    log("a", "one\n", 1),
    VertexStarted("b", "B", T + 1),
    log("b", "two\n", 3),
    VertexFailed("b", "B", T + 4, "no"),
    VertexDone("a", "A", T + 5),
]


def test_github_groups():
    assert play(FOLDED, fold="github") == (
        "#2 C\n#2 CACHED\n\n"
        "::group::#1 A\n#1 1.000 one\n::endgroup::\n#1 ...\n\n"
        "::group::#3 B\n#3 2.000 two\n::endgroup::\n#3 ERROR: no\n\n"
        "#1 A\n#1 DONE 5.0s\n"
    )


def test_gitlab_sections():
    def start(n, at):
        return f"\x1b[0Ksection_start:{int(T) + at}:lapstrake_{n}[collapsed=true]\r\x1b[0K"

    def end(n, at):
        return f"\x1b[0Ksection_end:{int(T) + at}:lapstrake_{n}\r\x1b[0K"

    assert play(FOLDED, fold="gitlab") == (
        "#2 C\n#2 CACHED\n\n"
        f"{start(1, 1)}#1 A\n#1 1.000 one\n{end(1, 3)}#1 ...\n\n"
        f"{start(2, 3)}#3 B\n#3 2.000 two\n{end(2, 4)}#3 ERROR: no\n\n"
        "#1 A\n#1 DONE 5.0s\n"
    )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "::error::50%25 of a%0Ab\n"),
        (
            {"file": "a,b:c", "line": 3, "title": "T"},
            "::error file=a%2Cb%3Ac,line=3,title=T::50%25 of a%0Ab\n",
        ),
    ],
)
def test_github_annotations(fields, text):
    assert annotation("error", "50% of a\nb", **fields) == text
