"""The history of builds, as readers see it: list, find, remove, and keep it bounded (spec cli.md §6)."""

from __future__ import annotations

import os
import time

from ..errors import BuildError, UsageError
from ..store.remove import remove_file
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..config import Settings

MAX_ENTRIES = 50
MAX_AGE = 48 * 3600.0
HARD_LIMIT = 500  # however young: a build of 50 ms can be run thousands of times a day
MAX_LOGS = 1 << 30  # bytes of logs that are kept beyond the newest build's
_MAX_RECORD = 64 << 20


class Limits(Value):
    """A record goes when there are more than ``entries`` newer ones and it is older than ``age`` seconds."""

    entries: int = MAX_ENTRIES
    age: float = MAX_AGE
    hard: int = HARD_LIMIT
    logs: int = MAX_LOGS


def limits(settings: Settings) -> Limits:
    """buildkitd.toml's ``[history]``: ``maxEntries`` and ``maxAge`` (seconds or a duration)."""
    table = settings.config.get("history") if settings.config else None
    if not isinstance(table, dict):
        return Limits()
    entries = table.get("maxEntries", MAX_ENTRIES)
    age = table.get("maxAge", MAX_AGE)
    if not isinstance(entries, int) or entries < 0:
        raise UsageError(f"configuration {settings.config_path}: history.maxEntries must be a whole number")
    return Limits(entries, _seconds(age, settings.config_path), max(HARD_LIMIT, entries))


def _seconds(value: object, path: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    from ..optspec import duration

    try:
        return duration(str(value))
    except UsageError:
        raise UsageError(
            f'configuration {path}: history.maxAge "{value}" is no duration', hint='as "48h"'
        ) from None


# -- keeping it bounded ----------------------------------------------------------------------


def collect(directory: str, limit: Limits, *, every: int = 1) -> None:
    """Remove old records.  Never raises.  Looks closer only when there are many, and then only at each
    ``every``-th count of them: the ages of some hundred files cost half a millisecond."""
    try:
        names = os.listdir(directory)
    except OSError:
        return
    records = [n for n in names if n.endswith(".json")]
    homes = [n for n in names if "." not in n]
    if len(records) <= limit.entries and len(homes) <= 8:
        return
    if len(records) % every and len(records) <= limit.hard:
        return
    now = time.time()
    times = {n: _mtime(f"{directory}/{n}") for n in records}
    newest = sorted(records, key=lambda n: times[n], reverse=True)
    gone = set()
    for i, name in enumerate(newest):
        if i >= limit.hard or (i >= limit.entries and now - times[name] > limit.age):
            remove_file(f"{directory}/{name}")
            gone.add(name)
    _collect_logs(directory, [n for n in newest if n not in gone], homes, limit)
    for name in names:
        if name.endswith(".tmp") and now - _mtime(f"{directory}/{name}") > 3600:
            remove_file(f"{directory}/{name}")


def _collect_logs(directory: str, records: list[str], homes: list[str], limit: Limits) -> None:
    """Logs go with their record, the oldest earlier if there are too many bytes of them."""
    order = {name[: -len(".json")]: i for i, name in enumerate(records)}
    held = 0
    for name in sorted(homes, key=lambda n: order.get(n, 1 << 30)):
        path = f"{directory}/{name}"
        if name in order:
            if order[name] == 0:
                continue
            held += sum(_size(f"{path}/{f}") for f in _names(path))
            if held <= limit.logs:
                continue
        elif is_running(path) or time.time() - _mtime(path) < limit.age:
            continue  # it builds, or it was killed and is shown as that for a while
        _remove(path)


def is_running(home: str) -> bool:
    """Whether the build that owns a log directory lives."""
    import fcntl

    try:
        fd = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _remove(home: str) -> None:
    for name in _names(home):
        remove_file(f"{home}/{name}")
    try:
        os.rmdir(home)
    except OSError:
        pass


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _mtime(path: str) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return 0.0


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


# -- reading -----------------------------------------------------------------------------------


class History:
    """The records under one root, newest first."""

    def __init__(self, root: str) -> None:
        self.directory = f"{root}/history"

    def records(self) -> list[dict[str, Any]]:
        """All records, the running and the interrupted builds too."""
        found: dict[str, dict[str, Any]] = {}
        for name in _names(self.directory):
            path = f"{self.directory}/{name}"
            if name.endswith(".json"):
                record = _read(path)
                if record is not None:
                    found[record["id"]] = record
            elif "." not in name:
                for record in self._unfinished(path):
                    found.setdefault(record["id"], record)
        return sorted(found.values(), key=lambda r: float(r.get("started", 0.0)), reverse=True)

    def _unfinished(self, home: str) -> Iterator[dict[str, Any]]:
        heads = _load(f"{home}/running.json")
        if not isinstance(heads, list):
            return
        running = is_running(home)
        for head in heads:
            if not isinstance(head, dict) or not isinstance(head.get("id"), str):
                continue
            if not running:
                head |= {"status": "error", "error": {"message": "the build was interrupted"}}
                head["completed"] = _mtime(home)
            logs = sorted(n for n in _names(home) if n.endswith(".log"))
            head["steps"] = [
                {
                    "digest": n, "name": n[:-4], "state": "running" if running else "canceled", "started": head["started"],
                    "log": {"file": f"{os.path.basename(home)}/{n}", "size": _size(f"{home}/{n}"), "complete": True},
                }
                for n in logs
            ]  # fmt: skip
            yield head

    def find(self, ref: str) -> dict[str, Any]:
        """The record that ``ref`` means: an id, its unique beginning, ``builder/node/id``, or ``^N``
        (the N-th from the newest; "" is the newest)."""
        records = self.records()
        if not ref or ref.startswith("^"):
            digits = ref[1:] or "0"
            if not digits.isdigit():
                raise UsageError(f"invalid offset {ref}", hint="^0 is the newest build, ^1 the one before")
            if int(digits) >= len(records):
                raise BuildError(
                    "no build is recorded" if not records else f"no record found for offset {int(digits)}",
                    hint=f"{len(records)} builds are recorded; see history ls",
                )
            return records[int(digits)]
        wanted = ref.rpartition("/")[2]
        found = [r for r in records if r["id"] == wanted] or [
            r for r in records if r["id"].startswith(wanted)
        ]
        if not found:
            raise BuildError(f'no record found for ref "{ref}"', hint="see history ls")
        if len(found) > 1:
            raise UsageError(
                f'ref "{ref}" is ambiguous: it begins {len(found)} build ids', hint="give more letters of it"
            )
        return found[0]

    def log_path(self, record: dict[str, Any], step: dict[str, Any]) -> str:
        """Where the log of a step is, or "" if it wrote none or it is gone."""
        home, _, name = str((step.get("log") or {}).get("file", "")).partition("/")
        if not name or not is_plain(home) or not is_plain(name) or not name.endswith(".log"):
            return ""
        path = f"{self.directory}/{home}/{name}"
        return path if os.path.isfile(path) and not os.path.islink(path) else ""

    def remove(self, record: dict[str, Any]) -> None:
        """Forget a build and its logs.  Raises BuildError while it runs."""
        home = f"{self.directory}/{record['id']}"
        if record.get("status") == "running":
            raise BuildError(f"build {record['id']} is running", hint="stop it first")
        remove_file(f"{self.directory}/{record['id']}.json")
        _remove(home)


def is_plain(name: str) -> bool:
    """Whether a foreign name may be that of a file: no separator, no leading dot, nothing odd."""
    return bool(name) and all(c.isascii() and (c.isalnum() or c in "-_.") for c in name) and name[0] != "."


def _load(path: str) -> Any:
    import json

    try:
        with open(path, "rb") as f:
            data = f.read(_MAX_RECORD + 1)
        return json.loads(data) if len(data) <= _MAX_RECORD else None
    except (OSError, ValueError, RecursionError):
        return None


def _read(path: str) -> dict[str, Any] | None:
    """A record, or None if the file is none: half written by a crash, or foreign."""
    found = _load(path)
    return found if valid(found, os.path.basename(path)[: -len(".json")]) else None


def valid(record: Any, ident: str) -> bool:
    """Whether a document is the record ``ident``, as far as readers rely on its form."""
    return (
        isinstance(record, dict)
        and record.get("id") == ident
        and is_plain(ident)
        and isinstance(record.get("started"), (int, float))
        and isinstance(record.get("completed", 0.0), (int, float))
        and isinstance(record.get("request"), dict)
        and isinstance(record.get("steps"), list)
        and all(map(_valid_step, record["steps"]))
    )


def _valid_step(step: Any) -> bool:
    return (
        isinstance(step, dict)
        and isinstance(step.get("digest"), str)
        and isinstance(step.get("name"), str)
        and isinstance(step.get("stats", {}), dict)
        and all(isinstance(step.get(t, 0.0), (int, float)) for t in ("started", "completed"))
    )
