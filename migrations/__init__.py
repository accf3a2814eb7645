"""The schema's history, and how a database is brought to any point of it.

    migrations.upgrade("sqlite:///garrison.db")        # to the newest; makes the file if need be
    migrations.downgrade(url, "0002")                  # or "base"
    migrations.current(url)                            # "0010", or None for an empty database

There is one history of the engine's tables (and the game's, which grew up with them), `ENGINE`, and one of each
application that names migrations of its own: `history_of(app)`. Each has a version table of its own, so that
neither knows the other's revisions; every function takes `history`.

All three block; from a running event loop use the `_async` forms. A migration is one
transaction, and processes that migrate the same database at once take turns: PostgreSQL by an
advisory lock, SQLite by the write lock of the file. The second one finds nothing to do.

Raises `BadSetting` (a place that cannot be used, no such revision), `Unavailable` (not reached, or locked for
longer than `timeout_s`), `Corrupt` (a file that is no database).
"""

import asyncio
import re
import sqlite3
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from persistence.engine.connecting import DRIVER_ERRORS, make_engine
from persistence.engine.tables import VERSION_TABLE, newer
from persistence.engine.urls import FIELD, Address, parse
from server.errors import BadSetting, Corrupt, GarrisonError, Unavailable

T = TypeVar("T")
TIMEOUT_S: Final = 60.0
PG_LOCK: Final = 0x67617273
RETRY_S: Final = 1.0
NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")


class History(msgspec.Struct, frozen=True):
    """A line of revisions: the folder of Alembic's files, and the table that says which one was applied last.
    `name` is the application's, empty for the engine's."""

    name: str
    folder: Path
    version_table: str


ENGINE: Final = History("", Path(__file__).parent / "versions", VERSION_TABLE)


def history_of(name: str, folder: str) -> History:
    """The migrations of application `name`. Raises `BadSetting` for a folder that is none, and for a name that
    cannot be a part of a table's."""
    if not NAME.fullmatch(name):
        raise BadSetting("app", f"{name!r}: an application with migrations is called by small letters, digits and _")
    if not Path(folder).is_dir():
        raise BadSetting("app", f"no folder of migrations at {folder}")
    return History(name, Path(folder).absolute(), f"{VERSION_TABLE}_{name}")


def newest(history: History = ENGINE) -> str:
    """The last revision of the files. Raises `BadSetting` where there is none, or more than one line of them."""
    try:
        head = ScriptDirectory.from_config(config(history=history)).get_current_head()
    except (CommandError, RevisionError) as error:
        raise BadSetting("app", f"{history.folder}: {error}") from None
    if head is None:
        raise BadSetting("app", f"no migration in {history.folder}")
    return head


def upgrade(url: str, revision: str = "head", timeout_s: float = TIMEOUT_S, history: History = ENGINE) -> None:
    """Apply what is missing up to `revision`."""
    _blocking(upgrade_async(url, revision, timeout_s, history))


def downgrade(url: str, revision: str = "base", timeout_s: float = TIMEOUT_S, history: History = ENGINE) -> None:
    """Undo everything after `revision`; `base` leaves no table of this history, and no data. Raises `BadSetting`
    while a node holds a lease."""
    _blocking(downgrade_async(url, revision, timeout_s, history))


def current(url: str, timeout_s: float = TIMEOUT_S, history: History = ENGINE) -> str | None:
    """The newest applied revision; None for a database without any (also a missing file)."""
    return _blocking(current_async(url, timeout_s, history))


async def upgrade_async(
    url: str, revision: str = "head", timeout_s: float = TIMEOUT_S, history: History = ENGINE
) -> None:
    await _run(url, timeout_s, partial(_alembic, command.upgrade, revision, history))


async def downgrade_async(
    url: str, revision: str = "base", timeout_s: float = TIMEOUT_S, history: History = ENGINE
) -> None:
    def work(connection: Connection) -> None:
        if live := live_nodes(connection):
            raise BadSetting(FIELD, f"{', '.join(live)} runs on {parse(url).shown}: stop every node before going back")
        _alembic(command.downgrade, revision, history, connection)

    await _run(url, timeout_s, work)


def live_nodes(connection: Connection) -> list[str]:
    """Runs of nodes that hold a lease, in order. None renews one before this transaction ends."""
    if not inspect(connection).has_table("nodes"):
        return []
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE nodes IN EXCLUSIVE MODE"))
        now = "extract(epoch FROM clock_timestamp())"
    else:
        now = "(julianday('now') - 2440587.5) * 86400.0"
    columns = {column["name"] for column in inspect(connection).get_columns("nodes")}
    if "lease_until" not in columns:
        return []
    live = f"lease_until > {now} AND state IN ('up', 'evicting')"
    found = connection.execute(text(f"SELECT node_id, incarnation FROM nodes WHERE {live} ORDER BY 1, 2"))
    return [f"{node}#{incarnation}" for node, incarnation in found]


async def current_async(url: str, timeout_s: float = TIMEOUT_S, history: History = ENGINE) -> str | None:
    address = parse(url)
    if address.missing:
        return None
    return await _run(url, timeout_s, partial(_revision, history))


async def run(url: str, work: Callable[[Connection], T], timeout_s: float = TIMEOUT_S) -> T:
    """`work(connection)` under the migration lock, in one transaction."""
    return await _run(url, timeout_s, work)


def metadata() -> MetaData:
    """Every table of `ENGINE`."""
    import persistence.game.tables  # noqa: F401 - brings the game's tables into it
    from persistence.engine.tables import metadata as found

    return found


def config(connection: Connection | None = None, history: History = ENGINE) -> Config:
    """Alembic's configuration for one history."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    made.set_main_option("path_separator", "newline")  # a folder's name may have blanks, commas and colons
    made.set_main_option("version_locations", str(history.folder).replace("%", "%%"))
    made.attributes["connection"] = connection
    made.attributes["version_table"] = history.version_table
    return made


def _alembic(step: Callable[[Config, str], None], revision: str, history: History, connection: Connection) -> None:
    made = config(connection, history)
    try:
        step(made, revision)
    except CommandError as error:  # no such revision
        known = [script.revision for script in ScriptDirectory.from_config(made).walk_revisions()]
        found = _revision(history, connection)
        if found is not None and found not in known:
            raise BadSetting(FIELD, f"the database {newer(found, history.name, known[0])}") from None
        raise BadSetting("revision", f"{error}; there are {', '.join([*known, 'base'])}") from None


def _revision(history: History, connection: Connection) -> str | None:
    options = {"version_table": history.version_table}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def _blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end, in a thread of its own where a loop is running already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, work).result()


async def _run(url: str, timeout_s: float, work: Callable[[Connection], T]) -> T:
    address = parse(url)
    try:
        if address.dialect == "sqlite":
            return await asyncio.to_thread(_on_sqlite, address, timeout_s, work)
        return await _on_postgres(address, timeout_s, work)
    except GarrisonError:
        raise
    except (DBAPIError, sqlite3.Error, *DRIVER_ERRORS) as error:
        raise _explain(address, timeout_s, error) from None


async def _on_postgres(address: Address, timeout_s: float, work: Callable[[Connection], T]) -> T:
    # A snapshot from before the lock would not show what another migration did under it.
    settings = {"default_transaction_isolation": "read committed"}
    engine = make_engine(address, timeout_s, settings, "garrison-migrate", poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"SET LOCAL lock_timeout = '{max(1, int(timeout_s * 1000))}ms'"))
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({PG_LOCK})"))
            return await connection.run_sync(work)
    finally:
        await engine.dispose()


def _on_sqlite(address: Address, timeout_s: float, work: Callable[[Connection], T]) -> T:
    """In one `BEGIN IMMEDIATE`: the driver's own idea of transactions leaves DDL outside."""
    _prepare(address.path, timeout_s)
    engine = create_engine(
        address.url.set(drivername="sqlite"),
        poolclass=NullPool,
        connect_args={"timeout": timeout_s, "isolation_level": None},
    )
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        with engine.begin() as connection:
            return work(connection)
    finally:
        engine.dispose()


def _prepare(path: Path, timeout_s: float) -> None:
    """Make the folder and the file, and put the file into WAL mode (which it keeps)."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadSetting(FIELD, f"cannot make the folder {path.parent}: {error.strerror}") from None
    connection = sqlite3.connect(path, timeout=timeout_s, isolation_level=None)
    deadline = time.monotonic() + timeout_s
    try:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                locked = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                if not locked or time.monotonic() >= deadline:
                    raise
            time.sleep(0.01)  # a change of the journal mode does not wait by itself
    finally:
        connection.close()


def _explain(address: Address, timeout_s: float, error: BaseException) -> GarrisonError:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    why = str(cause).partition("\n")[0] or type(cause).__name__
    code = (getattr(cause, "sqlite_errorcode", 0) or 0) & 0xFF
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return Corrupt(f"{address.path} is not a readable SQLite database: {why}")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return BadSetting(FIELD, f"{address.path} and its folder must be writable: {why}")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        why = f"locked by another process for more than {timeout_s:g} s"
    return Unavailable(f"database {address.shown}: {address.without_secrets(why)}", retry_after_s=RETRY_S)
