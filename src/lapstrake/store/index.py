"""What the store knows, in one SQLite file: small values by key, and cache records.

Opened on first use and kept open.  A damaged file costs the cache, never the build: it is
moved aside and a new one begins.
"""

from __future__ import annotations

import os
import threading
from binascii import crc32

from ..errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    R = TypeVar("R")

RECENT = 60.0  # seconds in which a use is not noted twice
SCHEMA_VERSION = 2
_SCHEMA = """
CREATE TABLE IF NOT EXISTS kv(ns TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY(ns, key));
CREATE TABLE IF NOT EXISTS records(id TEXT PRIMARY KEY, value BLOB NOT NULL, created REAL NOT NULL, last_used REAL NOT NULL, hits INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS cachekeys(key TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS cachekeys_record ON cachekeys(record);
"""


def seal(value: bytes) -> bytes:
    """A value with its checksum: SQLite checks its pages' shape, not what the disk made of their bytes."""
    return value + crc32(value).to_bytes(4, "big")


def unseal(sealed: bytes) -> bytes | None:
    """The value, or None when it is damaged."""
    value = bytes(sealed[:-4])
    return value if crc32(value).to_bytes(4, "big") == sealed[-4:] else None


def loads(data: bytes) -> Any:
    """JSON from bytes."""
    import json  # 6 ms: kept off the paths that need no record

    return json.loads(data)


def dumps(value: object) -> bytes:
    """Canonical JSON: sorted keys, no spaces."""
    import json

    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


class Index:
    """The SQLite file ``root/index.db``.  Thread-safe; several processes may share it."""

    def __init__(self, root: str, warn: Callable[[str], None] | None = None, *, restart: bool = True) -> None:
        self.root = root
        self.path = f"{root}/index.db"
        self._warn = warn
        self._restart = restart  # a damaged file is replaced by a new one
        self._db: sqlite3.Connection | None = None
        self._lock = threading.RLock()
        self._touched: dict[str, int] = {}
        self._used: dict[str, float] = {}  # when records that were looked up were used last; 0: never

    # -- kv --------------------------------------------------------------------------------

    def get(self, ns: str, key: str) -> bytes | None:
        """A value, or None."""
        row = self._query(
            lambda db: db.execute("SELECT value FROM kv WHERE ns=? AND key=?", (ns, key)).fetchone()
        )
        return None if row is None else unseal(row[0])

    def put(self, ns: str, key: str, value: bytes) -> None:
        """Set a value."""
        self.put_many(ns, ((key, value),))

    def put_many(self, ns: str, items: Iterable[tuple[str, bytes]]) -> None:
        """Set many values in one transaction; what is there already is not written again (a commit syncs)."""
        rows = [(ns, k, seal(v)) for k, v in items if self.get(ns, k) != v]
        if not rows:
            return
        self._write(
            lambda db: db.executemany("INSERT OR REPLACE INTO kv(ns, key, value) VALUES(?,?,?)", rows)
        )

    def update(self, ns: str, key: str, change: Callable[[bytes | None], bytes | None]) -> bytes | None:
        """Replace a value by a function of the old one, atomically; None deletes it."""

        def work(db: sqlite3.Connection) -> bytes | None:
            row = db.execute("SELECT value FROM kv WHERE ns=? AND key=?", (ns, key)).fetchone()
            new = change(None if row is None else unseal(row[0]))
            if new is None:
                db.execute("DELETE FROM kv WHERE ns=? AND key=?", (ns, key))
            else:
                db.execute("INSERT OR REPLACE INTO kv(ns, key, value) VALUES(?,?,?)", (ns, key, seal(new)))
            return new

        return self._write(work)

    def delete(self, ns: str, key: str) -> None:
        """Forget a value."""
        self._write(lambda db: db.execute("DELETE FROM kv WHERE ns=? AND key=?", (ns, key)))

    def delete_range(self, ns: str, low: str, high: str) -> None:
        """Forget the keys from ``low`` up to but not ``high``; writes nothing when there are none."""
        where, keys = "FROM kv WHERE ns=? AND key>=? AND key<?", (ns, low, high)
        if self._query(lambda db: db.execute(f"SELECT 1 {where} LIMIT 1", keys).fetchone()) is not None:
            self._write(lambda db: db.execute(f"DELETE {where}", keys))

    def items(self, ns: str) -> list[tuple[str, bytes]]:
        """All (key, value) of a namespace, by key."""
        rows = self._query(
            lambda db: db.execute("SELECT key, value FROM kv WHERE ns=? ORDER BY key", (ns,)).fetchall()
        )
        return [(k, v) for k, sealed in rows or () if (v := unseal(sealed)) is not None]

    # -- cache records ---------------------------------------------------------------------

    def get_record(self, key: str) -> tuple[str, dict[str, Any]] | None:
        """The record a cache key leads to: (id, value)."""
        sql = "SELECT r.id, r.value, r.last_used, r.hits FROM cachekeys k JOIN records r ON r.id = k.record WHERE k.key=?"
        row = self._query(lambda db: db.execute(sql, (key,)).fetchone())
        if row is None:
            return None
        self._used[row[0]] = row[2] if row[3] else 0.0
        value = unseal(row[1])
        return None if value is None else (row[0], loads(value))

    def record(self, record_id: str) -> dict[str, Any] | None:
        """A record by its id."""
        row = self._query(
            lambda db: db.execute("SELECT value FROM records WHERE id=?", (record_id,)).fetchone()
        )
        value = None if row is None else unseal(row[0])
        return None if value is None else loads(value)

    def records(self) -> list[tuple[str, dict[str, Any], float, float, int]]:
        """All records, oldest first: (id, value, created, last_used, hits)."""
        rows = self._query(
            lambda db: db.execute(
                "SELECT id, value, created, last_used, hits FROM records ORDER BY created, id"
            ).fetchall()
        )
        return [(r[0], loads(v), r[2], r[3], r[4]) for r in rows or () if (v := unseal(r[1])) is not None]

    def keys_of(self, record_id: str) -> list[str]:
        """The cache keys that lead to a record."""
        rows = self._query(
            lambda db: db.execute(
                "SELECT key FROM cachekeys WHERE record=? ORDER BY key", (record_id,)
            ).fetchall()
        )
        return [r[0] for r in rows or ()]

    def put_record(self, record_id: str, value: dict[str, Any], keys: Iterable[str] = ()) -> None:
        """Store a record and lead ``keys`` to it, in one transaction."""
        import time

        data, now, rows = seal(dumps(value)), time.time(), [(k, record_id) for k in keys]

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO records(id, value, created, last_used) VALUES(?,?,?,?) "
                "ON CONFLICT(id) DO UPDATE SET value=excluded.value, last_used=excluded.last_used",
                (record_id, data, now, now),
            )
            db.executemany("INSERT OR REPLACE INTO cachekeys(key, record) VALUES(?,?)", rows)

        self._write(work)

    def add_key(self, key: str, record_id: str) -> None:
        """Lead one more cache key to a record."""
        self._write(
            lambda db: db.execute(
                "INSERT OR REPLACE INTO cachekeys(key, record) VALUES(?,?)", (key, record_id)
            )
        )

    def delete_record(self, record_id: str) -> None:
        """Forget a record and its keys."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM cachekeys WHERE record=?", (record_id,))
            db.execute("DELETE FROM records WHERE id=?", (record_id,))

        self._write(work)

    def touch(self, ids: Iterable[str]) -> None:
        """Note that records were used; written by :meth:`flush` in one transaction.

        What was used in the last minute is not noted again: a build in which nothing changed, repeated
        while somebody works, then writes nothing and waits for no disk."""
        import time

        recent = time.time() - RECENT
        with self._lock:
            for i in ids:
                if not recent < self._used.get(i, 0.0) <= recent + RECENT:
                    self._touched[i] = self._touched.get(i, 0) + 1

    def flush(self) -> None:
        """Write what ``touch`` collected."""
        with self._lock:
            touched, self._touched = self._touched, {}
        if touched:
            import time

            now = time.time()
            rows = [(now, n, i) for i, n in touched.items()]
            self._write(
                lambda db: db.executemany("UPDATE records SET last_used=?, hits=hits+? WHERE id=?", rows)
            )

    def close(self) -> None:
        """Flush and close; the next use opens again."""
        self.flush()
        with self._lock:
            db, self._db = self._db, None
            if db is not None:
                db.close()

    def integrity(self) -> list[str]:
        """What SQLite finds wrong with the file."""
        rows = self._query(lambda db: db.execute("PRAGMA integrity_check(10)").fetchall())
        wrong = [r[0] for r in rows or () if r[0] != "ok"]
        if not wrong:
            for table in ("kv", "records"):
                bad = sum(unseal(v) is None for v in self._values(table))
                if bad:
                    wrong.append(f"{bad} values of {table} are damaged")
        return wrong

    def _values(self, table: str) -> list[bytes]:
        rows = self._query(lambda db: db.execute(f"SELECT value FROM {table}").fetchall())
        return [r[0] for r in rows or ()]

    def set_aside(self, why: object = "asked for") -> None:
        """Begin a new file; the old one stays beside it until the next one, or a prune."""
        with self._lock:
            self._set_aside(why)

    # -- the connection --------------------------------------------------------------------

    def _write(self, work: Callable[[sqlite3.Connection], R]) -> R:
        def transaction(db: sqlite3.Connection) -> R:
            db.execute("BEGIN IMMEDIATE")
            try:
                result = work(db)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            return result

        return self._run(transaction)

    def _query(self, work: Callable[[sqlite3.Connection], R]) -> R | None:
        """Like ``_run``, but None when there is no file yet: reading creates nothing."""
        if self._db is None and not os.path.exists(self.path):
            return None
        return self._run(work)

    def _run(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """Do ``work`` with the connection; once more with a new file if this one is damaged."""
        import sqlite3

        with self._lock:
            try:
                return work(self._db or self._open())
            except sqlite3.DatabaseError as e:
                if not _damaged(e) or not self._restart:
                    raise self._cannot(e) from e
                self._set_aside(e)
            try:
                return work(self._db or self._open())
            except sqlite3.DatabaseError as e:
                raise self._cannot(e) from e

    def _cannot(self, error: Exception) -> StoreError:
        import errno

        from .failures import cannot_write, full_hint

        text = str(error)
        if "readonly" in text:
            return cannot_write(self.root, OSError(errno.EROFS, os.strerror(errno.EROFS)))
        if "disk is full" in text or full_hint(self.root):  # a full disk shows as an I/O error, too
            return cannot_write(self.root, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        return StoreError(f"cannot use {self.path}: {error}")

    def _open(self) -> sqlite3.Connection:
        import sqlite3

        new = not os.path.exists(self.path)
        if new:
            os.makedirs(self.root, exist_ok=True)
        # a log can't be kept on what can't be written; what is there can still be read
        frozen = not new and not os.access(self.root, os.W_OK)
        name = f"file:{quote(self.path)}?immutable=1" if frozen else self.path
        db = sqlite3.connect(
            name,
            timeout=30.0,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=64,
            uri=frozen,
        )
        if frozen:
            self._db = db
            return db
        try:
            db.execute("PRAGMA synchronous=NORMAL")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise StoreError(
                    f"{self.path} was written by a newer lapstrake",
                    hint="use that version, or another --root",
                )
            if version < SCHEMA_VERSION:
                _create(db)
        except BaseException:
            db.close()
            raise
        self._db = db
        return db

    def _set_aside(self, error: object) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()
        aside = f"{self.path}.corrupt"
        for suffix in ("-wal", "-shm"):
            try:
                os.unlink(self.path + suffix)
            except FileNotFoundError:
                pass
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            pass
        if self._warn is not None:
            self._warn(f"the store's index was damaged ({error}); starting a new one, the old one is {aside}")


def quote(path: str) -> str:
    """A path as part of a ``file:`` URI."""
    from urllib.parse import quote as percent

    return percent(path)


def _damaged(error: Exception) -> bool:
    text = str(error)
    return "malformed" in text or "not a database" in text or "no such table" in text or "disk image" in text


def _create(db: sqlite3.Connection) -> None:
    """Lay out a new file; the switch to WAL does not wait for others, so it is tried again."""
    import sqlite3
    import time

    for attempt in range(200):
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("BEGIN IMMEDIATE")
            if db.execute("PRAGMA user_version").fetchone()[0] not in (0, SCHEMA_VERSION):
                for table in ("kv", "records", "cachekeys"):  # an older version's: a cache, so begun anew
                    db.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in _SCHEMA.strip().split("\n"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            db.execute("COMMIT")
            return
        except sqlite3.OperationalError as e:
            if "locked" not in str(e) or attempt == 199:
                raise
            if db.in_transaction:
                db.execute("ROLLBACK")
            time.sleep(0.01)
