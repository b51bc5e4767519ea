"""Writes the history of builds: every step's log while it runs, and one record at the end.

The record is one JSON file, ``history/ID.json``, written once and renamed into place.  Only a build that runs
something makes a directory, ``history/ID/``, with the logs and with ``running.json``, locked as long as the
build lives: a build that was killed leaves it behind, and is shown as interrupted.
"""

from __future__ import annotations

import _thread
import os
from time import time

from ..errors import BuildError, Cancelled, ExecError
from ..events import LogChunk, Progress, VertexCached, VertexDone, VertexFailed, VertexStarted, Warned
from ..values import Value, replace
from .asked import build_name, request_document, without_user
from .steplog import StepLog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..config import Settings
    from ..events import Event, EventSink
    from ..plan.request import BuildRequest
    from .build import Build, BuildResult

SCHEMA = 1
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


class Asked(Value):
    """One of the builds of a run: its history id, its name among several ("" alone), its request."""

    id: str
    name: str
    request: BuildRequest


def new_id() -> str:
    """A build's id: 25 letters and digits, as BuildKit's."""
    n = int.from_bytes(os.urandom(17), "big")
    out = []
    for _ in range(25):
        n, digit = divmod(n, 36)
        out.append(_ALPHABET[digit])
    return "".join(out)


def reference(builder: str, ident: str) -> str:
    """``builder/node/id``, as buildx names a build; a builder's first node is called after it."""
    return f"{builder}/{builder}0/{ident}"


class Recorder:
    """The history of one run.  ``emit`` takes each event, keeps what matters, and passes it on."""

    def __init__(self, settings: Settings, jobs: Sequence[tuple[str, BuildRequest]], emit: EventSink) -> None:
        self.directory = f"{settings.root}/history"
        self.settings = settings
        self.asked = [Asked(new_id(), name, request) for name, request in jobs]
        self.started = time()
        self._emit = emit
        self._events: list[Event] = []
        self._progress: dict[tuple[str, str], Progress] = {}
        self._names: dict[str, str] = {}
        self._logs: dict[str, StepLog] = {}
        self._lock = _thread.allocate_lock()
        self._home = ""
        self._home_fd = -1
        self._finished = False

    @property
    def ids(self) -> list[str]:
        """The history ids, in the order of the jobs."""
        return [a.id for a in self.asked]

    def emit(self, event: Event, /) -> None:
        """Keep one event, and pass it on."""
        if isinstance(event, LogChunk):
            self._log(event)
        elif isinstance(event, Progress):
            self._progress[(event.digest, event.item)] = event
        else:
            self._events.append(event)
            if isinstance(event, VertexStarted):
                self._names[event.digest] = event.name
                if event.inputs and not self._home:
                    self._open_home()
            elif isinstance(event, (VertexDone, VertexFailed)) and event.digest in self._logs:
                self._logs[event.digest].close()
        self._emit(event)

    def log_path(self, digest: str) -> str:
        """Where a step's log is; empty if it wrote nothing."""
        log = self._logs.get(digest)
        return log.path if log is not None else ""

    def watch(self) -> _Watch:
        """``with``: a failure inside is recorded.  Gives the list that the builds are put into."""
        return _Watch(self)

    # -- while it runs --------------------------------------------------------------------

    def _log(self, event: LogChunk) -> None:
        log = self._logs.get(event.digest)
        if log is None:
            log = self._open_log(event.digest)
            if log is None:
                return
        log.write(event.stream, event.data, event.at)

    def _open_log(self, digest: str) -> StepLog | None:
        self._open_home()
        with self._lock:
            if digest not in self._logs and self._home_fd >= 0:
                name = f"{len(self._logs) + 1:02d}-{_slug(self._names.get(digest, ''))}".rstrip("-")
                try:
                    self._logs[digest] = StepLog(self._home, name)
                except OSError:
                    return None
            return self._logs.get(digest)

    def _open_home(self) -> None:
        """Make the directory of the logs, once; a store that can't be written costs the history, no more."""
        with self._lock:
            if self._home:
                return
            self._home = f"{self.directory}/{self.asked[0].id}"
            try:
                import fcntl

                os.makedirs(self._home, 0o700)
                fd = os.open(self._home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._home_fd = fd
                head = [self._head(a, "running") for a in self.asked]
                write_json(f"{self._home}/running.json", head)
            except OSError:
                pass

    # -- at the end -----------------------------------------------------------------------

    def done(self, builds: Sequence[Build], results: Sequence[BuildResult]) -> list[BuildResult]:
        """Write the records of finished builds; the results with their history ids."""
        out = []
        for asked, build, result in zip(self.asked, builds, results, strict=True):
            metadata = {"buildx.build.ref": reference(self._builder(asked), asked.id), **result.metadata}
            head = self._head(asked, "completed")
            head |= {"result": _result(result), "materials": _materials(build), "metadata": metadata}
            self._record(asked, head, build)
            out.append(replace(result, metadata=metadata, ref=asked.id, steps=tuple(head["steps"])))
        self._finish()
        return out

    def failed(self, error: BaseException, builds: Sequence[Build] = ()) -> None:
        """Write the records of a build that failed or was cancelled; tells the error where its log is."""
        self._point_to_log(error)
        if self._finished:
            return  # it was recorded; what failed came after the build
        cancelled = isinstance(error, (Cancelled, KeyboardInterrupt))
        for n, asked in enumerate(self.asked):
            head = self._head(asked, "canceled" if cancelled else "error")
            head["error"] = _error(error)
            self._record(asked, head, builds[n] if n < len(builds) else None)
        self._finish()

    def _point_to_log(self, error: BaseException) -> None:
        if not isinstance(error, ExecError) or error.log_path:
            return
        for event in reversed(self._events):
            if isinstance(event, VertexFailed) and not event.cancelled and event.name == error.vertex:
                error.log_path = self.log_path(event.digest)
                return

    def _builder(self, asked: Asked) -> str:
        return asked.request.builder or self.settings.builder or "default"

    def _head(self, asked: Asked, status: str) -> dict[str, Any]:
        r = asked.request
        return {
            "schema": SCHEMA, "id": asked.id, "name": build_name(r, asked.name), "status": status,
            "builder": self._builder(asked), "started": self.started, "pid": os.getpid(), "request": request_document(r),
        }  # fmt: skip

    def _record(self, asked: Asked, head: dict[str, Any], build: Build | None) -> None:
        own = _own_vertices(build) if len(self.asked) > 1 else None
        head |= {
            "completed": time(),
            "steps": self._steps(asked, own),
            "warnings": self._warnings(build, own),
        }
        del head["pid"]
        try:
            os.makedirs(self.directory, 0o700, exist_ok=True)
            write_json(f"{self.directory}/{asked.id}.json", head)
        except OSError:
            pass  # the build is what counts

    def _steps(self, asked: Asked, own: set[str] | None) -> list[dict[str, Any]]:
        steps: dict[str, dict[str, Any]] = {}
        for event in self._events:
            if isinstance(event, (Warned, Progress, LogChunk)) or (
                own is not None and not _is_own(event, own, asked.name)
            ):
                continue
            step = steps.setdefault(event.digest, {"digest": event.digest, "name": event.name})
            _apply(step, event)
        for (digest, item), p in self._progress.items():
            if digest in steps:
                status = {
                    "item": item,
                    "current": p.current,
                    "total": p.total,
                    "started": p.started,
                    "at": p.at,
                }
                steps[digest].setdefault("statuses", []).append(status)
        for digest, log in self._logs.items():
            if digest in steps:
                log.close()
                where = os.path.basename(self._home) + "/" + os.path.basename(log.path)
                steps[digest]["log"] = {"file": where, "size": log.size, "complete": log.complete}
        return list(steps.values())

    def _warnings(self, build: Build | None, own: set[str] | None) -> list[dict[str, Any]]:
        out = []
        for w in dict.fromkeys(e for e in self._events if isinstance(e, Warned)):
            if own is not None and w.digest and w.digest not in own and w not in _said(build):
                continue  # of another build of the same run
            found: dict[str, Any] = {"vertex": w.digest, "short": w.short}
            if w.detail:
                found |= {"detail": w.detail, "url": w.url}
            if w.span is not None:
                found |= {"file": w.span.filename, "first": w.span.first, "last": w.span.last}
            out.append(found)
        return out

    def _finish(self) -> None:
        self._finished = True
        for log in self._logs.values():
            log.close()
        if self._home_fd >= 0:
            try:
                os.unlink(f"{self._home}/running.json")
                if not self._logs:
                    os.rmdir(self._home)
            except OSError:
                pass
            os.close(self._home_fd)
            self._home_fd = -1
        from .history import collect, limits

        collect(self.directory, limits(self.settings), every=8)


class _Watch:
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._builds: list[Build] = []

    def __enter__(self) -> list[Build]:
        return self._builds

    def __exit__(self, _kind: object, error: BaseException | None, _tb: object) -> None:
        if error is not None:
            self._recorder.failed(error, self._builds)


def _apply(step: dict[str, Any], event: Event) -> None:
    if isinstance(event, (VertexStarted, VertexCached)) and event.inputs:
        step["inputs"] = list(event.inputs)
    if isinstance(event, VertexStarted):
        step |= {"state": "running", "started": event.at}
    elif isinstance(event, VertexCached):
        step |= {"state": "cached", "started": event.at, "completed": event.at}
    elif isinstance(event, VertexDone):
        step |= {"state": "done" if step.get("state") != "cached" else "cached", "completed": event.at}
        if event.stats:
            step["stats"] = dict(event.stats)
        if event.reason:
            step["reason"] = event.reason
    elif isinstance(event, VertexFailed):
        step |= {
            "state": "canceled" if event.cancelled else "error",
            "completed": event.at,
            "error": event.error,
        }
        if event.stats:
            step["stats"] = dict(event.stats)


def _own_vertices(build: Build | None) -> set[str] | None:
    if build is None or not getattr(build, "plans", None):
        return None
    from ..graph.vertex import walk

    return {v.digest for v in walk([p.target for p in build.plans if p.target is not None])}


def _said(build: Build | None) -> Sequence[Warned]:
    return build.warnings if build is not None else ()


def _is_own(event: Event, own: set[str], name: str) -> bool:
    if isinstance(event, (VertexStarted, VertexCached, VertexDone, VertexFailed)):
        return event.digest in own or event.name.startswith((f"[{name}]", f"[{name} "))
    return False


def _result(result: BuildResult) -> dict[str, Any]:
    sizes = result.sizes
    more = {"image_bytes": sizes.image, "stage_bytes": sizes.stages} if sizes is not None else {}
    return {
        **more,
        "digest": result.digest, "config": result.config_digest, "names": list(result.names),
        "skipped": list(result.skipped), "ran": result.ran, "cached": result.cached,
    }  # fmt: skip


def _materials(build: Build) -> list[dict[str, str]]:
    """What the build was made from: pinned images, git commits, downloads."""
    from ..graph.ops import SourceOp
    from ..graph.vertex import walk

    out: dict[tuple[str, str], dict[str, str]] = {}
    for v in walk([p.target for p in build.plans if p.target is not None]):
        op = v.op
        if not isinstance(op, SourceOp) or op.scheme in ("local", "scratch"):
            continue
        uri, _, digest = op.identifier.partition("@") if op.scheme == "image" else (op.identifier, "", "")
        found = {"type": op.scheme, "uri": without_user(uri)}
        if digest:
            found["digest"] = digest
        if op.platform is not None:
            found["platform"] = str(op.platform)
        out[(op.identifier, found.get("platform", ""))] = found
    return list(out.values())


def _error(error: BaseException) -> dict[str, Any]:
    found: dict[str, Any] = {
        "message": error.message if isinstance(error, BuildError) else f"{type(error).__name__}: {error}"
    }
    if isinstance(error, BuildError):
        if error.hint:
            found["hint"] = error.hint
        if error.span is not None:
            span = error.span
            lines = span.source.split("\n")[max(span.first - 3, 0) : span.last + 2] if span.source else []
            found["place"] = {
                "file": span.filename, "first": span.first, "last": span.last,
                "lines": lines, "from": max(span.first - 2, 1),
            }  # fmt: skip
    if isinstance(error, ExecError):
        found |= {"step": error.vertex, "status": error.status}
    return found


def _slug(name: str) -> str:
    out: list[str] = []
    for char in name.lower():
        if char.isascii() and char.isalnum():
            out.append(char)
        elif out and out[-1] != "-":
            out.append("-")
        if len(out) == 48:
            break
    return "".join(out).strip("-")


def write_json(path: str, document: object) -> None:
    """Write a JSON document so that nobody sees half of it."""
    import json

    from ..whole import write_whole

    write_whole(path, json.dumps(document, separators=(",", ":")).encode("utf-8", "surrogateescape"), 0o600)
