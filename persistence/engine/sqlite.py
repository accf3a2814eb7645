"""SQLite: one writing and one reading connection a node, each with a thread of its own.

SQLite has one writer at a time for the whole file, so the lock is held as shortly as can be:
everything is encoded before, and a unit of work runs in its thread from `BEGIN IMMEDIATE` to
`COMMIT` without coming back to the event loop, whose stalls would otherwise be everyone's.
The wait for the lock is jittered and bounded by `busy_timeout_s`; renewals of the lease, from a file of their own
that is `urgent`, come before whatever else of this process waits for it. (`aiosqlite` crosses threads
with every statement, so it only serves reports; the stores use `sqlite3` itself.)

The file is in WAL mode. `synchronous` is NORMAL for what is written behind: a power cut may cost
the newest commits, never the file. For what is written through (`through=True`) the writing
connection is switched to FULL for that one transaction, and the WAL, with everything before
it, is on the disk when it returns.

A file that is deleted or replaced under its connections takes everything as before, and nobody will
ever find it. So no transaction ends, and nothing is read, in one whose path does not lead to it any more.
"""

import asyncio
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import structlog

from persistence.engine.identity import sqlite_place
from persistence.engine.rows import SURRENDERED
from persistence.engine.urls import FIELD
from server.errors import BadSetting, Corrupt, GarrisonError, Internal, Unavailable
from server.settings import StoreSettings

log = structlog.get_logger(__name__)
T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
FIRST_WAIT_S: Final = 0.0005
LONGEST_WAIT_S: Final = 0.005
"""Short, because nobody queues: a busy neighbour leaves the lock free for a moment at a time."""
GIVE_WAY: Final = 0.5
"""Share of its wait for which a unit of work leaves the lock to an urgent one of this process."""
RETRY_S: Final = 0.5
ENDING_S: Final = 0.5
"""Time for which a surrender waits for a transaction that is being ended."""
_urgent: dict[Path, int] = {}
"""Urgent units of work of this process that wait for a file's write lock."""
_urgent_lock: Final = threading.Lock()
_BROKEN: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_NO_PLACE: Final = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)
_UNFIT: Final = (sqlite3.DataError, sqlite3.IntegrityError)
"""Errors about a value: trying again would fail again."""
_LOCKED: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class SqliteFile:
    """Runs units of work. Raises `Internal` for a value that the database cannot take, and
    `Unavailable` and `Corrupt` for whatever else goes wrong below."""

    def __init__(self, path: Path, settings: StoreSettings, rng: random.Random, *, urgent: bool = False) -> None:
        self.path, self._settings, self._urgent = path, settings, urgent
        self._rng = random.Random(rng.getrandbits(64))  # for the writer's thread alone
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="sqlite-reader")
        self._writing: sqlite3.Connection | None = None
        self._reading: sqlite3.Connection | None = None
        self._through = False
        self._surrendered = False
        self._ending = threading.Lock()
        """Held where a transaction ends: between the look whether it may still and its end nobody surrenders."""
        self._counting = threading.Lock()
        self.under_way = 0
        """Units of work that have begun and not ended, those that nobody waits for any more included."""
        self._opened: tuple[int, int] | None = None
        """Device and inode of the opened file, to notice when another one is put in its place."""

    async def open(self) -> None:
        """Raises `BadSetting` if there is no such file or it cannot be written, `Corrupt` if it
        is no database."""
        try:
            self._opened = _identity(self.path)
        except OSError as error:
            raise BadSetting(FIELD, f"cannot look at {self.path}: {error.strerror}") from None
        if self._opened is None:
            raise BadSetting(FIELD, f"no database at {self.path}: run `garrison migrate`")
        if not os.access(self.path, os.W_OK):  # SQLite would open it, and refuse the first change
            raise BadSetting(FIELD, f"{self.path} cannot be written")
        try:
            self._writing = await self._in(self._writer, self._connect)
            self._reading = await self._in(self._reader, self._connect)
            await self.write(lambda connection: connection.execute("PRAGMA user_version").fetchall())
        except BaseException:
            await self.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA busy_timeout = {int(self._settings.busy_timeout_s * 1000)}")
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise BadSetting(FIELD, f"{self.path} is on a file system that has no shared memory for a WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA temp_store = MEMORY")
        except BaseException:
            connection.close()
            raise
        return connection

    @property
    def place(self) -> str:
        """The fingerprint of the file's place. Raises `Unavailable` where nothing is there."""
        try:
            return sqlite_place(self.path)
        except OSError as error:
            raise Unavailable(f"database {self.path}: {error.strerror}", retry_after_s=RETRY_S) from None

    async def close(self) -> None:
        """Close both connections once what is running has ended, or has had its time."""
        if self._writing is not None and self._is_replaced():
            log.error("the database file was replaced or removed while it was open", path=str(self.path))
        for executor, connection in ((self._writer, self._writing), (self._reader, self._reading)):
            idle = True
            if connection is not None:
                try:
                    await self._in(executor, connection.close)
                except GarrisonError:
                    idle = False
                    connection.interrupt()
            executor.shutdown(wait=idle, cancel_futures=True)
        self._writing = self._reading = None

    async def read(self, work: Work[T]) -> T:
        """The result of `work` in one snapshot."""
        connection = self._reading
        if connection is None:
            raise Unavailable("the store is closed", retry_after_s=RETRY_S)
        return await self._in(self._reader, lambda: self._look(connection, work))

    async def write(self, work: Work[T], *, through: bool = False) -> T:
        """The result of `work` in one transaction that holds the write lock; `through`: on the
        disk when this returns. `work` gives back plain data: a cursor that is collected in the
        loop's thread would reset a statement that the writer may be using."""
        connection = self._writing
        if connection is None:
            raise Unavailable("the store is closed", retry_after_s=RETRY_S)
        return await self._in(self._writer, lambda: self._transact(connection, work, through))

    async def _in(self, executor: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        limit_s = self._settings.statement_timeout_s + self._settings.busy_timeout_s
        if self._surrendered:
            raise Unavailable(SURRENDERED)
        with self._counting:
            self.under_way += 1
        try:
            job = executor.submit(call)
        except BaseException:
            self._ended(None)
            raise
        job.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(limit_s):
                return await asyncio.wrap_future(job)
        except TimeoutError:
            raise Unavailable(f"database {self.path} does not answer in time", retry_after_s=RETRY_S) from None
        except sqlite3.Error as error:
            raise self._explain(error) from None

    def _ended(self, _job: object) -> None:
        """Count a unit of work that is over; called in its thread."""
        with self._counting:
            self.under_way -= 1

    def surrender(self, within_s: float = ENDING_S) -> None:
        """See `server.storage.ports.Store`: a transaction that is under way is rolled back."""
        if not self._ending.acquire(timeout=within_s):
            raise Unavailable(f"database {self.path}: a transaction is being ended, and does not come to its end")
        self._surrendered = True
        self._ending.release()

    def _transact(self, connection: sqlite3.Connection, work: Work[T], through: bool) -> T:
        if through != self._through:
            connection.execute(f"PRAGMA synchronous = {'FULL' if through else 'NORMAL'}")
            self._through = through
        self._begin(connection)
        try:
            result = work(connection)
            assert not isinstance(result, sqlite3.Cursor), "a cursor must die in its own thread"
            self._check_place()
            with self._ending:
                if self._surrendered:
                    raise Unavailable(SURRENDERED)
                connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result

    def _look(self, connection: sqlite3.Connection, work: Work[T]) -> T:
        result = _snapshot(connection, work)
        self._check_place()
        return result

    def _check_place(self) -> None:
        if self._is_replaced():
            raise Unavailable(f"database {self.path} was replaced or removed", retry_after_s=RETRY_S)

    def _is_replaced(self) -> bool:
        """Whether the path leads to another file than the one that is open, or to none."""
        try:
            return _identity(self.path) != self._opened
        except OSError:
            return False

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Take the write lock. SQLite's own waiting has fixed steps, which several processes
        would take in step."""
        connection.execute("PRAGMA busy_timeout = 0")
        if not self._urgent:
            self._take(connection)
            return
        with _urgent_lock:
            _urgent[self.path] = _urgent.get(self.path, 0) + 1
        try:
            self._take(connection)
        finally:
            with _urgent_lock:
                _urgent[self.path] -= 1

    def _take(self, connection: sqlite3.Connection) -> None:
        now = time.monotonic()
        deadline, give_way = now + self._settings.busy_timeout_s, now + GIVE_WAY * self._settings.busy_timeout_s
        wait_s = FIRST_WAIT_S
        while True:
            if self._urgent or not _urgent.get(self.path) or time.monotonic() >= give_way:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    return
                except sqlite3.OperationalError as error:
                    if _primary(error) not in _LOCKED or time.monotonic() >= deadline:
                        raise
            time.sleep(self._rng.uniform(0.5, 1.0) * wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _explain(self, error: sqlite3.Error) -> GarrisonError:
        code = _primary(error)
        if code in _BROKEN:
            return Corrupt(f"{self.path} is not a readable SQLite database: {error}")
        if code in _NO_PLACE and self._reading is None:
            return BadSetting(FIELD, f"{self.path} and its folder must be writable: {error}")
        if code in _LOCKED:
            held = f"is locked by another process for more than {self._settings.busy_timeout_s:g} s"
            return Unavailable(f"database {self.path} {held}", retry_after_s=RETRY_S)
        if isinstance(error, _UNFIT):
            return Internal(f"database {self.path} cannot take a value: {error}")
        return Unavailable(f"database {self.path}: {error}", retry_after_s=RETRY_S)


def _snapshot(connection: sqlite3.Connection, work: Work[T]) -> T:
    connection.execute("BEGIN")
    try:
        return work(connection)
    finally:
        connection.execute("ROLLBACK")


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode; None where nothing is. Raises `OSError` where that cannot be said."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def _primary(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where there is none."""
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
