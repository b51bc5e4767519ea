"""What a build looks like so far, as every renderer needs it: steps, sub-statuses, log lines."""

from __future__ import annotations

from ..events import LogChunk, Progress, VertexCached, VertexDone, VertexFailed, VertexStarted, Warned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from ..events import Event
else:
    Protocol = object

MAX_LINE = 64 * 1024  # an unfinished log line longer than this is shown in pieces
MAX_HELD = 4 << 20  # characters of log kept for a step that waits for its turn; with more it is shown at once


class Renderer(Protocol):
    """Shows events.  ``emit`` comes from any thread and never raises."""

    @property
    def warnings(self) -> list[Warned]: ...

    def emit(self, event: Event, /) -> None: ...
    def close(self, error: BaseException | None = None, /) -> None: ...


class Step:
    """One vertex as shown.  ``number`` 0: not shown yet; ``state``: running, done, cached, error, canceled."""

    __slots__ = (
        "closed",
        "digest",
        "ended",
        "error",
        "held",
        "lines",
        "name",
        "number",
        "partial",
        "reason",
        "started",
        "state",
        "statuses",
    )

    def __init__(self, digest: str, name: str, started: float) -> None:
        self.digest = digest
        self.name = one_line(name)
        self.number = 0
        self.closed = False  # its last line was printed
        self.started = started
        self.ended: float | None = None
        self.state = "running"
        self.error = ""
        self.reason = ""
        self.statuses: dict[str, Progress] = {}
        self.lines: list[str] = []  # what is to be printed, without the step's number
        self.held = 0  # characters in ``lines``
        self.partial: dict[int, bytes] = {}

    @property
    def finished(self) -> bool:
        """Nothing more will come."""
        return self.state != "running"

    def add_log(self, chunk: LogChunk) -> list[str]:
        """The lines completed by this chunk."""
        data = self.partial.pop(chunk.stream, b"") + chunk.data
        *whole, rest = data.split(b"\n")
        if len(rest) > MAX_LINE:
            whole.append(rest)
            rest = b""
        if rest:
            self.partial[chunk.stream] = rest
        if not whole:
            return []
        if b"\r" in data:
            return [decode_line(raw) for raw in whole]
        return b"\n".join(whole).decode("utf-8", "replace").split("\n")

    def hold(self, lines: list[str]) -> None:
        """Keep lines until they are printed."""
        self.lines += lines
        self.held += sum(map(len, lines))

    def take(self) -> list[str]:
        """The lines to print now."""
        lines, self.lines, self.held = self.lines, [], 0
        return lines

    def flush_log(self) -> list[str]:
        """What was written without a newline at the end."""
        out = [decode_line(self.partial[s]) for s in sorted(self.partial)]
        self.partial.clear()
        return out


class Model:
    """All steps by digest, in the order in which they became known."""

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}
        self.warnings: list[Warned] = []
        self.last_number = 0

    def number(self, step: Step) -> int:
        """The step's number, given at first display."""
        if not step.number:
            self.last_number += 1
            step.number = self.last_number
        return step.number

    def step(self, digest: str, name: str = "", at: float = 0.0) -> Step:
        """The step of a digest, made when it is new."""
        found = self.steps.get(digest)
        if found is None:
            found = self.steps[digest] = Step(digest, name, at)
        elif name and not found.name:
            found.name = one_line(name)
        return found

    def apply(self, event: Event) -> Step | None:
        """Take in a vertex event; the step it belongs to (None for a warning without one)."""
        if isinstance(event, Warned):
            self.warnings.append(event)
            return self.steps.get(event.digest)
        if isinstance(event, (LogChunk, Progress)):
            return self.step(event.digest, "", event.at)
        step = self.step(event.digest, event.name, event.at)
        if isinstance(event, VertexStarted):
            step.started, step.state, step.ended = event.at, "running", None
        elif isinstance(event, VertexCached):
            step.state, step.ended = "cached", event.at
        elif isinstance(event, VertexDone):
            step.ended, step.reason = event.at, event.reason
            step.state = "cached" if step.state == "cached" else "done"
        elif isinstance(event, VertexFailed):
            step.state, step.ended, step.error = (
                "canceled" if event.cancelled else "error",
                event.at,
                event.error,
            )
        return step


def decode_line(raw: bytes) -> str:
    """One log line as text: of a line redrawn with carriage returns only the last state."""
    text = raw.rstrip(b"\r").decode("utf-8", "replace")
    return text.rsplit("\r", 1)[-1] if "\r" in text else text


def one_line(name: str) -> str:
    """A step's name never breaks a line, whatever the Dockerfile says."""
    if name.isprintable():
        return name
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())


def log_time(seconds: float) -> str:
    """3 decimals under 10 s, 2 under 100 s, else 1."""
    seconds = max(seconds, 0.0)
    return f"{seconds:.3f}" if seconds < 10 else f"{seconds:.2f}" if seconds < 100 else f"{seconds:.1f}"


def short_time(value: float, decimals: int = 1) -> str:
    """``0.3s``, ``12.4s``, ``3m12s``, ``1h02m``; ``decimals`` count below 10 s."""
    if value < 100:
        return f"{value:.{decimals if value < 10 else 1}f}s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def short_size(n: float) -> str:
    """``0 B``, ``812 kB``, ``9.1 MB``: decimal units, two figures that matter."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 999.5:
            return f"{n:.0f} {unit}" if unit == "B" or n >= 9.95 else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"


def size_text(n: int) -> str:
    """``2B``, ``31.36MB``: decimal units."""
    if n < 1000:
        return f"{n}B"
    value = float(n)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 1000 or unit == "TB":
            return f"{value:.2f}{unit}"
    return ""


def status_text(p: Progress, now: float) -> str:
    """``transferring context: 2.45MB 0.1s done``."""
    out = one_line(p.item)
    if p.total:
        out += f" {size_text(p.current)} / {size_text(p.total)}"
    elif p.current:
        out += f" {size_text(p.current)}"
    spent = (p.at if p.completed else max(now, p.at)) - p.started
    if spent > 0.01:
        out += f" {spent:.1f}s"
    return out + (" done" if p.completed else "")
