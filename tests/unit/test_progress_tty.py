"""The live view, drawn on an emulated terminal (pyte) with a clock of our own."""

from __future__ import annotations

import io
import threading
import time

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapstrake.events import LogChunk, Progress, VertexCached, VertexDone, VertexFailed, VertexStarted
from lapstrake.progress.text import clip, justify, parse_colors, safe, width
from lapstrake.progress.tty import TtyRenderer

T = 1_700_000_000.0


class Terminal(io.StringIO):
    """A stream that a terminal emulator reads."""

    encoding = "utf-8"

    def __init__(self, columns=60, rows=12):
        super().__init__()
        self.screen = pyte.Screen(columns, rows)
        self.feed = pyte.Stream(self.screen)
        self.raw = ""

    def write(self, text):
        self.raw += text
        self.feed.feed(text)
        return len(text)

    @property
    def lines(self):
        return [line.rstrip() for line in self.screen.display if line.strip()]


class Show:
    """A renderer on a terminal, and the time."""

    def __init__(self, columns=60, rows=12, **kw):
        self.now = T
        self.size = (columns, rows)
        self.terminal = Terminal(columns, rows)
        kw.setdefault("color", False)
        self.tty = TtyRenderer(
            self.terminal, clock=lambda: self.now, size=lambda: self.size, background=False,
            corner="local:default", **kw,
        )  # fmt: skip

    def at(self, seconds, *events):
        self.now = T + seconds
        for event in events:
            self.tty.emit(event)
        return self

    def lines(self):
        self.tty.tick()
        return self.terminal.lines

    def final(self):
        self.tty.close()
        return self.terminal.lines


def log(digest, text, at=0.0):
    return LogChunk(digest, 1, text if isinstance(text, bytes) else text.encode(), T + at)


def test_a_build_as_it_goes_and_as_it_stays():
    show = Show()
    show.at(0, VertexStarted("a", "[internal] load build definition from Dockerfile", T))
    show.at(0, Progress("a", "transferring dockerfile:", 31, 0, T, T, True))
    show.at(0, VertexDone("a", "[internal] load build definition from Dockerfile", T))
    show.at(0, VertexCached("b", "[1/3] FROM alpine", T), VertexStarted("c", "[2/3] RUN make", T))
    show.at(1.2, log("c", "gcc main.c\nld main\n"))
    assert show.lines() == [
        "[+] Building 1.2s (2/3)                        local:default",
        " => [internal] load build definition from Dockerfile    0.0s",
        " => => transferring dockerfile: 31B                     0.0s",
        " => CACHED [1/3] FROM alpine                            0.0s",
        " => [2/3] RUN make                                      1.2s",
        " => => # gcc main.c",
        " => => # ld main",
    ]
    show.at(3.4, VertexDone("c", "[2/3] RUN make", T + 3.4))
    assert show.final() == [
        "[+] Building 3.4s (3/3) FINISHED               local:default",
        " => [internal] load build definition from Dockerfile    0.0s",
        " => => transferring dockerfile: 31B                     0.0s",
        " => CACHED [1/3] FROM alpine                            0.0s",
        " => [2/3] RUN make                                      3.4s",
    ]
    assert not show.terminal.screen.cursor.hidden


def test_failed_and_cancelled_steps_and_colours():
    show = Show(color=True, colors="error=magenta:cancel=1,2,3:run=light-green:nonsense=5:warning=huh")
    show.at(0, VertexStarted("a", "A", T), VertexStarted("b", "B", T), VertexCached("c", "C", T))
    show.at(1, VertexFailed("a", "A", T + 1, "no"), VertexFailed("b", "B", T + 1, "stopped", True))
    assert [line.split("  ")[0] for line in show.final()] == [
        "[+] Building 1.0s (3/3) FINISHED", " => ERROR A", " => CANCELED B", " => CACHED C",
    ]  # fmt: skip
    for code in ("\x1b[35m => ERROR A", "\x1b[38;2;1;2;3m => CANCELED B", "\x1b[92m => CACHED C"):
        assert code in show.terminal.raw
    plain = Show(color=False)
    plain.at(0, VertexCached("c", "C", T)).final()
    assert "m => " not in plain.terminal.raw


def test_a_low_terminal_keeps_what_runs():
    show = Show(columns=40, rows=8)
    for n in range(20):
        show.at(0, VertexStarted(f"d{n}", f"done {n}", T), VertexDone(f"d{n}", f"done {n}", T))
    show.at(0, VertexStarted("r1", "one", T), VertexStarted("r2", "two", T))
    show.at(1, log("r1", "a\nb\nc\nd\n"), log("r2", "e\nf\ng\nh\n"))
    lines = show.lines()
    assert lines[0].startswith("[+] Building 1.0s (20/22)")
    assert [x.split("  ")[0] for x in lines[1:]] == [
        " => one", " => => # c", " => => # d", " => two", " => => # g", " => => # h",
    ]  # fmt: skip
    assert len(lines) == 7  # the last row is the cursor's
    for n in range(10):
        show.at(1, VertexStarted(f"more {n}", f"more {n}", T))
    assert len(show.lines()) == 7
    show.tty.close()
    assert show.terminal.raw.count("done 3") == 1  # all steps are left at the end


def test_the_state_is_kept_rather_than_the_corner():
    show = Show(columns=44)
    show.at(2.5, VertexStarted("a", "A", T), VertexDone("a", "A", T))
    assert show.final()[0] == "[+] Building 0.0s (1/1) FINISHED"


def test_made_narrower_in_between():
    show = Show(columns=60)
    show.at(0, VertexStarted("a", "a" * 80, T), VertexCached("b", "b", T)).lines()
    show.size = (30, 12)
    show.tty.tick()
    # The three old lines now take two rows each where the terminal breaks them.
    assert "\x1b[6A\r" in show.terminal.raw
    assert "\x1b[J" in show.terminal.raw


@pytest.mark.parametrize("columns", [1, 2, 5, 9, 12, 20, 33])
def test_no_line_is_wider_than_the_terminal(columns):
    show = Show(columns=columns, rows=30)
    show.at(0, VertexStarted("a", "日本語の手順 " * 9, T), Progress("a", "sha256:0123456789", 5, 9, T, T))
    show.at(1, log("a", "e\u0301" * 90 + "\n日本" * 40)).lines()
    show.final()
    for line in show.terminal.lines:
        assert width(line) <= columns


def test_every_write_gives_cursor_and_wrapping_back():
    show = Show()
    show.at(0, VertexStarted("a", "A", T))
    for n in range(3):
        show.at(n, log("a", f"{n}\n")).lines()
        assert show.terminal.raw.endswith("\x1b[?7h\x1b[?25h")


def test_a_stream_that_knows_no_unicode():
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    r = TtyRenderer(out, color=False, background=False, size=lambda: (40, 10))
    r.emit(VertexStarted("a", "grüße " * 20, T))
    r.close()
    assert b"gr??e" in raw.getvalue()
    assert b"... " in raw.getvalue()


def test_a_terminal_that_goes_away_stops_nothing():
    class Gone(Terminal):
        def write(self, text):
            raise OSError(5, "Input/output error")

    r = TtyRenderer(Gone(), background=False)
    r.emit(VertexStarted("a", "A", T))
    r.tick()
    r.close()


def test_no_thread_is_left_and_a_short_build_is_drawn_once():
    before = threading.active_count()
    out = Terminal()
    r = TtyRenderer(out, rate=30.0)
    now = time.time()
    r.emit(VertexCached("a", "A", now))
    r.close()
    r.close()
    r.emit(VertexCached("b", "B", now))  # too late: nothing begins anew
    assert threading.active_count() == before
    assert out.raw.count("[+] Building") == 1
    assert not r._gone.acquire(blocking=False)  # taken by close: the thread has let it go


def test_the_thread_draws_while_the_build_goes_on():
    out = Terminal()
    r = TtyRenderer(out, rate=0.01)
    r.emit(VertexStarted("a", "A", time.time()))
    deadline = time.time() + 10
    while out.raw.count("[+] Building") < 3 and time.time() < deadline:
        time.sleep(0.01)
    r.close()
    assert out.raw.count("[+] Building") >= 3


def test_explain_says_why():
    show = Show(explain=True)
    show.at(0, VertexStarted("a", "A", T), VertexDone("a", "A", T, (), "the command changed"))
    assert " => => not cached: the command changed" in show.final()


def test_a_line_being_redrawn_shows_its_last_state():
    show = Show()
    show.at(0, VertexStarted("a", "A", T)).at(1, log("a", "10%\r20%\r30%"))
    assert show.lines()[-1] == " => => # 30%"


def test_memory_is_bounded():
    show = Show()
    show.at(0, VertexStarted("a", "A", T))
    for _ in range(2000):
        show.tty.emit(log("a", b"x" * 32768))
    assert sum(map(len, show.tty._tails.values())) <= 16384
    assert not show.tty._model.steps["a"].lines


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("a\tb", "a       b"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[2J\x1b[Hhome", "home"),
        ("\x1bPq#0\x1b\\sixel", "sixel"),
        ("\x9b31mred", "red"),
        ("\x1b(Bx", "x"),
        ("abc\b\bd", "ad"),
        ("\x00\x07bell", "bell"),
        ("end\x1b", "end"),
        ("\u202eevil", " evil"),
    ],
)
def test_logs_cannot_steer_the_terminal(raw, shown):
    assert safe(raw) == shown


@given(st.text(max_size=200), st.integers(0, 40))
def test_safe_text_is_printable_and_clipped_text_fits(text, columns):
    clean = safe(text)
    assert not any(c in clean for c in "\x1b\x9b\r\n\t\x07\b\x00")
    assert width(clip(clean, columns)) <= columns
    assert width(justify(clean, "1.2s", columns)) <= columns


def test_colours_by_name_and_number():
    assert parse_colors("run=green:error=255,0,0") == {
        "run": "32", "cancel": "33", "warning": "33", "error": "38;2;255;0;0",
    }  # fmt: skip
    assert parse_colors("run=300,0,0:error=:cancel") == parse_colors("")
