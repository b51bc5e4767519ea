"""Builds of the history as one file, to be looked at elsewhere: ``history export`` and ``import``.

A gzip-compressed tar with ``lapstrake-history.json`` (schema and ids), ``ID/record.json`` and ``ID/logs/*``.
What is imported is foreign: names are checked, sizes bounded, nothing that is there is replaced.
"""

from __future__ import annotations

import io
import json
import os
import tarfile

from ..errors import BuildError, StoreError
from ..tree import FILE
from .history import is_plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, BinaryIO

    from ..layer.tar import EntryReader, TarHeader
    from .history import History

HEAD = "lapstrake-history.json"
SCHEMA = 1
MAX_HEAD = 1 << 20
MAX_RECORD = 16 << 20
MAX_HELD = 64 << 20  # bytes of all records together, which are held until the whole bundle was read
MAX_TOTAL = 8 << 30
MAX_BUILDS = 10_000


def export(history: History, records: Sequence[dict[str, Any]], out: BinaryIO) -> None:
    """Write a bundle of ``records``; the same records give the same bytes."""
    import gzip

    with gzip.GzipFile(fileobj=out, mode="wb", mtime=0, filename="") as packed:
        with tarfile.open(fileobj=packed, mode="w|") as tar:
            _add(tar, HEAD, json.dumps({"schema": SCHEMA, "builds": [r["id"] for r in records]}).encode())
            for record in records:
                _add(tar, f"{record['id']}/record.json", json.dumps(record, sort_keys=True).encode())
                for step in record["steps"]:
                    path = history.log_path(record, step)
                    for name in (path, path[:-4] + ".idx") if path else ():
                        if os.path.isfile(name):
                            _add_file(tar, f"{record['id']}/logs/{os.path.basename(name)}", name)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    tar.addfile(info, io.BytesIO(data))


def _add_file(tar: tarfile.TarFile, name: str, path: str) -> None:
    with open(path, "rb") as f:
        info = tarfile.TarInfo(name)
        info.size = os.fstat(f.fileno()).st_size
        info.mode = 0o644
        tar.addfile(info, f)


def load(history: History, source: BinaryIO, name: str) -> list[str]:
    """Read a bundle into the history; the ids that are new.  Raises BuildError when it is none."""
    from ..layer.compress import decompressor
    from ..layer.tar import read

    loader = _Loader(history, name)
    try:
        for header, content in read(decompressor(source)):
            loader.take(header, content)
    except (StoreError, OSError, ValueError, RecursionError) as e:
        loader.drop()
        raise BuildError(f"{name} is no bundle of builds: {e}") from None
    except BuildError:
        loader.drop()
        raise
    return loader.finish()


def _whole(source: EntryReader) -> bytes:
    return b"".join(iter(source.read, b""))


class _Loader:
    def __init__(self, history: History, name: str) -> None:
        self.history = history
        self.name = name
        self.records: dict[str, dict[str, Any]] = {}
        self.homes: set[str] = set()
        self.known = {r["id"] for r in history.records()}
        self.headed = False
        self.missing: set[str] = set()
        self.total = self.held = 0

    def take(self, member: TarHeader, source: EntryReader) -> None:
        """One member of the bundle; what does not belong into one is an error."""
        parts = member.raw_name.split("/")
        self.total += member.size
        if member.kind != FILE or not all(map(is_plain, parts)) or self.total > MAX_TOTAL:
            raise BuildError(f"{self.name} is no bundle of builds: unexpected member {member.raw_name!r}")
        if parts == [HEAD] and member.size <= MAX_HEAD:
            head = json.loads(_whole(source))
            if not isinstance(head, dict) or head.get("schema") != SCHEMA:
                raise BuildError(f"{self.name} was written by another version of lapstrake")
            self.headed = True
            self.missing = {i for i in head.get("builds", ()) if isinstance(i, str)}
        elif not self.headed or len(self.records) > MAX_BUILDS:
            raise BuildError(f"{self.name} is no bundle of builds")
        elif len(parts) == 2 and parts[1] == "record.json" and self._room(member.size):
            self._record(parts[0], json.loads(_whole(source)))
        elif len(parts) == 3 and parts[1] == "logs" and parts[2].endswith((".log", ".idx")):
            if parts[0] in self.records:
                self._log(parts[0], parts[2], source)
        else:
            raise BuildError(f"{self.name} is no bundle of builds: unexpected member {member.raw_name!r}")

    def _room(self, size: int) -> bool:
        """Whether one more record of ``size`` bytes may be held in memory."""
        self.held += size
        if self.held > MAX_HELD:
            raise BuildError(f"{self.name} holds records of more than {MAX_HELD >> 20} MiB")
        return size <= MAX_RECORD

    def _record(self, ident: str, record: Any) -> None:
        from .history import valid

        if not valid(record, ident):
            raise BuildError(f"{self.name}: the record of {ident} is damaged")
        self.missing.discard(ident)
        if ident in self.known:
            return
        for step in record["steps"]:  # its logs lie under its own name here
            if isinstance(step.get("log"), dict):
                step["log"]["file"] = f"{ident}/{str(step['log'].get('file', '')).rpartition('/')[2]}"
        record["imported"] = True
        self.records[ident] = record

    def _log(self, ident: str, name: str, source: Any) -> None:
        home = f"{self.history.directory}/{ident}"
        if ident not in self.homes:
            os.makedirs(home, 0o700)
            self.homes.add(ident)
        fd = os.open(
            f"{home}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        with open(fd, "wb") as out:
            while data := source.read(1 << 20):
                out.write(data)

    def drop(self) -> None:
        """Take back what was written."""
        for ident in self.homes:
            self.history.remove({"id": ident})

    def finish(self) -> list[str]:
        """Make the records visible."""
        if not self.headed or self.missing:
            self.drop()
            raise BuildError(
                f"{self.name} is no bundle of builds" if not self.headed else f"{self.name} is cut short"
            )
        os.makedirs(self.history.directory, 0o700, exist_ok=True)
        from .recorder import write_json

        for ident, record in self.records.items():
            write_json(f"{self.history.directory}/{ident}.json", record)
        return list(self.records)
