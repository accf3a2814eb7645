"""Rows that name a person, as an erasure sees them (`game/people/erasing.py`), in SQL of both databases."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, Table, update

import migrations
from persistence.game.people import KINDS, PLACES, TABLES
from persistence.people import WINDOW_ROWS, People
from server.ids import ActorId
from server.settings import StoreSettings
from server.texts import renamed

SEARCHED: Final = [name for name, place in sorted(PLACES.items()) if place.erased not in ("nothing", "reported")]


class SqlNamedRows:
    """Implements `game.people.erasing.NamedRows`."""

    def __init__(self, settings: StoreSettings, window: int = WINDOW_ROWS) -> None:
        self._url, self._window = settings.url, window
        self.people = People(settings)

    async def entities(self, name: str) -> AsyncIterator[ActorId]:
        found: dict[ActorId, None] = {}
        for table, kind in KINDS.items():
            async for row in self.people.rows(TABLES[table], name, self._window):
                found[ActorId(f"{kind}/{row[next(iter(TABLES[table].primary_key.columns)).name]}")] = None
        for identity in found:
            yield identity

    async def rename(self, name: str, instead: str) -> int:
        count = 0
        for table in (TABLES[table] for table, place in PLACES.items() if place.erased == "renamed"):
            rows = [row async for row in self.people.rows(table, name, self._window)]
            if rows:
                await migrations.run(self._url, partial(_put, table=table, rows=rows, name=name, instead=instead))
            count += len(rows)
        return count

    async def left(self, name: str) -> dict[str, int]:
        return await self._count(name, SEARCHED)

    async def reported(self, name: str) -> dict[str, int]:
        """Rows that are not the game's, by table."""
        return await self._count(name, [table for table, place in PLACES.items() if place.erased == "reported"])

    async def _count(self, name: str, tables: list[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for table in tables:
            async for _ in self.people.rows(TABLES[table], name, self._window):
                found[table] = found.get(table, 0) + 1
        return found

    async def close(self) -> None:
        await self.people.close()


def _put(connection: Connection, table: Table, rows: list[dict[str, Any]], name: str, instead: str) -> None:
    """Write rows with another key in their texts."""
    for row in rows:
        changes = {
            column: renamed(value, name, instead)
            for column, value in row.items()
            if isinstance(value, str) and renamed(value, name, instead) != value
        }
        where = [column == row[column.name] for column in table.primary_key.columns]
        connection.execute(update(table).where(*where).values(changes))
