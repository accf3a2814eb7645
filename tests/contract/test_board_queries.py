"""The rows that leaderboards are made of, on both databases: sums of careers by mode, season and time."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

import migrations
from persistence.game.queries import QUERIES
from persistence.sql_queries import SqlStoreQueries
from server.errors import BadInput
from server.settings import StoreSettings
from tests.support.databases import SQL_DATABASES, TestDatabase, fresh

TOTALS = [
    ("ada", "slayer", "one", 3, 30), ("ada", "slayer", "two", 1, 5), ("ada", "oddball", "two", 1, 100),
    ("bo", "slayer", "two", 2, 20), ("cy", "", "", 9, 1),
]  # fmt: skip
RESULTS = [("ada", "m1", 100, 3, True), ("ada", "m2", 200, 4, False), ("bo", "m2", 200, 9, True)]


@pytest.fixture(params=SQL_DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> TestDatabase:
    return fresh(request.param, tmp_path)


def _fill(connection: Connection) -> None:
    for player, mode, season, matches, kills in TOTALS:
        connection.execute(
            text("INSERT INTO career_totals (player_id, mode, season, matches, kills) VALUES (:p, :m, :s, :n, :k)"),
            {"p": player, "m": mode, "s": season, "n": matches, "k": kills},
        )
    for player, match, ended, kills, won in RESULTS:
        connection.execute(
            text(
                "INSERT INTO careers (player_id, match_id, birth, ended_wall_ms, mode, kills, won) "
                "VALUES (:p, :m, 1, :e, 'slayer', :k, :w)"
            ),
            {"p": player, "m": match, "e": ended, "k": kills, "w": won},
        )
    connection.execute(
        text("INSERT INTO ratings (player_id, rating_group, mu, log_sigma, matches) VALUES ('ada', 'slayer', 7, 8, 1)")
    )


async def test_a_page_of_sums_is_in_the_order_of_names(database: TestDatabase) -> None:
    async with database.connect():
        await migrations.run(database.url, _fill)
        queries = SqlStoreQueries(StoreSettings(url=database.url), QUERIES)

        async def points(name: str, **asked: Any) -> list[tuple[str, int]]:
            return [(row["player"], int(row["points"])) for row in await queries.run(name, asked)]

        try:
            everything = await points("board_totals", mode="all", metric="kills")
            assert everything == [("ada", 135), ("bo", 20), ("cy", 1)]
            assert await points("board_totals", mode="slayer", metric="kills") == [("ada", 35), ("bo", 20)]
            assert await points("board_totals", mode="slayer", metric="matches", season="two") == [
                ("ada", 1),
                ("bo", 2),
            ]
            assert await points("board_totals", mode="all", metric="kills", after="ada", limit=1) == [("bo", 20)]
            assert await points("board_totals", mode="all", metric="kills", players=["cy", "nobody"]) == [("cy", 1)]
            when = {"from_ms": 150, "to_ms": 201}
            assert await points("board_results", mode="slayer", metric="kills", **when) == [("ada", 4), ("bo", 9)]
            assert await points("board_results", mode="all", metric="wins", **when) == [("ada", 0), ("bo", 1)]
            assert await points("board_results", mode="all", metric="kills", from_ms=0, to_ms=200) == [("ada", 3)]
            rated = await queries.run("board_ratings", {"mode": "slayer"})
            assert rated == [{"player": "ada", "mu": 7, "log_sigma": 8}]
            assert await queries.run("board_ratings", {"mode": "oddball"}) == []
            with pytest.raises(BadInput):
                await queries.run("board_totals", {"mode": "all", "metric": "player_id"})
        finally:
            await queries.close()
