"""`SqlStoreQueries`: named store queries on PostgreSQL or SQLite.

They are read only by the connection, not by promise, and use connections of their own, which are made when
the first query runs: on PostgreSQL two with a `statement_timeout`, on SQLite one in a thread of its own whose
virtual machine looks at the clock. So a query that takes too long ends in the database, too.
"""

import asyncio
import sqlite3
import time
from collections.abc import Mapping as Map
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol

import msgspec
from sqlalchemy import Engine, Select, create_engine
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from persistence.engine.keyed import KeyedStatement, size_for
from persistence.engine.queries import StoreQuery
from persistence.engine.urls import FIELD, Address, parse
from server.errors import BadSetting, GarrisonError, NotFound, Unavailable
from server.settings import StoreSettings
from server.storage.queries import checked, row_limit

UNDEFINED_TABLE: Final = "42P01"
"""PostgreSQL's code of the error."""
CLOCK_LOOK_STEPS: Final = 20_000
"""Instructions of SQLite's virtual machine between two looks at the clock: a fraction of a millisecond."""
RETRY_S: Final = 0.5
SQLITE: Final = sqlite_dialect()
Row = dict[str, Any]


class Reader(Protocol):
    """The port of a database for reading. `rows` raises `errors`, and `TimeoutError`."""

    @property
    def errors(self) -> tuple[type[BaseException], ...]: ...

    async def rows(self, statement: Select[Any]) -> list[Row]: ...

    async def close(self) -> None: ...


class SqlStoreQueries:
    """Implements `server.storage.queries.StoreQueries` with `queries` by name."""

    def __init__(self, settings: StoreSettings, queries: Map[str, StoreQuery]) -> None:
        self._address = parse(settings.url)
        self._queries = dict(queries)
        self._limit_s = settings.statement_timeout_s
        self._reader = reader_of(self._address, self._limit_s)
        self._keyed: dict[tuple[str, int], KeyedStatement] = {}

    async def run(self, name: str, params: Map[str, Any]) -> list[Row]:
        """See the port. Raises also `BadSetting` for a SQLite file that is not there or cannot be written (its
        WAL is shared memory), and for a database without its tables."""
        query = self._queries.get(name)
        if query is None:
            raise NotFound(f"no store query {name!r}")
        given = checked(name, query.params, params)
        if self._address.missing:
            raise BadSetting(FIELD, f"no database at {self._address.path}: run `garrison migrate`")
        try:
            async with asyncio.timeout(self._limit_s):
                rows = await self._rows(name, query, given)
        except TimeoutError:
            why = f"query {name} takes longer than {self._limit_s:g} s"
            raise Unavailable(why, retry_after_s=RETRY_S) from None
        except self._reader.errors as error:
            raise self._explained(name, getattr(error, "orig", None) or error) from None
        plain: list[Row] = msgspec.to_builtins(rows, builtin_types=(bytes,))
        return plain

    async def _rows(self, name: str, query: StoreQuery, given: Any) -> list[Row]:
        reader = self._reader
        size = size_for(len(given.keys)) if query.by_keys else 0
        if not size or not isinstance(reader, SqliteReader):
            return await reader.rows(query.statement(given).limit(row_limit(given, query.max_rows)))
        keyed = self._keyed.get((name, size))
        if keyed is None:
            keyed = self._keyed[name, size] = KeyedStatement(
                lambda keys: query.statement(query.params(keys=keys)).limit(query.max_rows), size, SQLITE
            )
        return await reader.rows_of(keyed, given.keys)

    async def close(self) -> None:
        await self._reader.close()

    def _explained(self, name: str, cause: BaseException) -> GarrisonError:
        why = str(cause).partition("\n")[0]
        code = (getattr(cause, "sqlite_errorcode", 0) or 0) & 0xFF
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            return BadSetting(FIELD, f"{self._address.path} and its folder must be writable: {why}")
        if "no such table" in why or getattr(cause, "sqlstate", "") == UNDEFINED_TABLE:
            return BadSetting(FIELD, f"{self._address.shown} lacks tables: run `garrison migrate`")
        if code == sqlite3.SQLITE_INTERRUPT:
            return Unavailable(f"query {name} takes longer than {self._limit_s:g} s", retry_after_s=RETRY_S)
        why = self._address.without_secrets(why)
        return Unavailable(f"database {self._address.shown}: {why}", retry_after_s=RETRY_S)


def reader_of(address: Address, limit_s: float) -> Reader:
    """A reader of the database at `address`, whose driver alone is imported."""
    if address.dialect != "postgresql":
        return SqliteReader(address, limit_s)
    from persistence.postgres_reader import PostgresReader

    return PostgresReader(address, limit_s)


class SqliteReader:
    """Reader over a single connection in a thread of its own: queries run one after another."""

    errors: Final = (SQLAlchemyError, sqlite3.Error, OSError)

    def __init__(self, address: Address, limit_s: float) -> None:
        self._address, self._limit_s = address, limit_s
        self._thread: ThreadPoolExecutor | None = None
        self._engine: Engine | None = None
        self._opened: sqlite3.Connection | None = None
        self._deadline = 0.0

    async def rows(self, statement: Select[Any]) -> list[Row]:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-queries")
        asked = time.monotonic()
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._rows, statement, asked)

    async def rows_of(self, statement: KeyedStatement, keys: Sequence[str]) -> list[Row]:
        """The rows of a statement for the driver."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-queries")
        asked = time.monotonic()
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._rows_of, statement, keys, asked)

    def _rows_of(self, statement: KeyedStatement, keys: Sequence[str], asked: float) -> list[Row]:
        self._deadline = asked + self._limit_s
        cursor = self._connection().execute(statement.text, statement.values(keys))
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def _rows(self, statement: Select[Any], asked: float) -> list[Row]:
        self._deadline = asked + self._limit_s
        if self._engine is None:
            self._engine = create_engine("sqlite://", creator=self._connection, poolclass=StaticPool)
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = self._connect()
        return self._opened

    def _connect(self) -> sqlite3.Connection:
        uri = f"{self._address.path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=self._limit_s, check_same_thread=False)
        connection.execute("PRAGMA query_only = ON")
        connection.set_progress_handler(lambda: time.monotonic() > self._deadline, CLOCK_LOOK_STEPS)
        return connection

    async def close(self) -> None:
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._dispose)
            self._thread.shutdown(wait=True)
            self._thread = None

    def _dispose(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None
        if self._opened is not None:
            self._opened.close()
            self._opened = None
