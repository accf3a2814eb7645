"""Renewals of a node's lease on a connection of their own, which nothing else of the node can hold up: neither a
writer that waits for SQLite's lock, nor a busy pool, nor a busy event loop."""

import random
from typing import Final, Literal

from persistence.engine.rows import Database
from persistence.engine.sqlite_database import SqliteDatabase
from persistence.engine.urls import parse
from server.ids import NodeAddress
from server.settings import StoreSettings

LANES: Final[tuple[Literal["lease"], ...]] = ("lease",)


class SqlLeaseStore:
    """Implements `server.liveness.ports.OwnLeaseStore`: connects at the first renewal, and again where that failed."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings, self._address = settings, parse(settings.url)
        self._database: Database | None = None

    async def renew_lease(self, me: NodeAddress, lease_s: float, generation: int = 0) -> bool:
        if self._database is None:
            database = self._make()
            await database.open()
            self._database = database
        return await self._database.renew_lease(me, lease_s, generation)

    def _make(self) -> Database:
        if self._address.dialect == "postgresql":
            from persistence.engine.postgres_database import PostgresDatabase

            return PostgresDatabase(self._address, self._settings, random.Random(), LANES)
        return SqliteDatabase(self._address, self._settings, random.Random(), urgent=True)

    async def close(self) -> None:
        if self._database is not None:
            await self._database.close()
