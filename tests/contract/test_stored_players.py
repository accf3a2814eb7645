"""Stored players by name, with the number of their friends, for the dashboard."""

from pathlib import Path

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import create_async_engine

from persistence.engine.urls import parse
from persistence.game.queries import QUERIES
from persistence.game.tables import friendships, players
from persistence.sql_queries import SqlStoreQueries
from server.errors import BadInput
from server.settings import StoreSettings
from tests.support.databases import SQL_DATABASES, fresh

FRIENDS = (("ann", "bob", "friend"), ("ann", "cat", "invited"), ("bob", "ann", "friend"), ("ann", "dan", "friend"))


@pytest.mark.parametrize("name", SQL_DATABASES)
async def test_players_come_by_name_with_the_number_of_their_friends(name: str, tmp_path: Path) -> None:
    database = fresh(name, tmp_path)
    engine = create_async_engine(parse(database.url).url)
    try:
        async with engine.begin() as connection:
            for key, version, more in (
                ("bob", 3, {"status": "busy", "current_match": "m-1", "current_party": "p-1", "display_name": "Bob"}),
                ("ann", 1, {"last_seen_ms": 5}),
                ("cat", 1, {}),
                ("never", 0, {}),
            ):
                await connection.execute(insert(players).values(player_id=key, state_version=version, **more))
            for player, other, state in FRIENDS:
                await connection.execute(insert(friendships).values(player_id=player, other_id=other, state=state))
    finally:
        await engine.dispose()
    queries = SqlStoreQueries(StoreSettings(url=database.url, statement_timeout_s=30.0), QUERIES)
    try:
        rows = await queries.run("stored_players", {})
        assert [(row["player"], row["friends"]) for row in rows] == [("ann", 2), ("bob", 1), ("cat", 0)]
        assert (rows[0]["last_seen_ms"], rows[0]["status"], rows[0]["match"]) == (5, "offline", "")
        (bob,) = await queries.run("stored_players", {"since": "b", "limit": "1"})
        assert [bob[field] for field in ("status", "match", "party", "display_name")] == ["busy", "m-1", "p-1", "Bob"]
        with pytest.raises(BadInput):
            await queries.run("stored_players", {"limit": 1_000})
    finally:
        await queries.close()
