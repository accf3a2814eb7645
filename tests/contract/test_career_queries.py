"""Reads of careers: totals, medals, ratings, matches won in a row, results to tell."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, text

import migrations
from game.careers.events import Gain, MedalCount
from game.careers.messages import CareerGet
from game.careers.ratings import FIRST_MU
from game.careers.reading import career
from game.player.state import PlayerState, SettledMatch
from persistence.game.queries import QUERIES
from persistence.sql_queries import SqlStoreQueries
from server.ids import Epoch, NodeAddress, actor_id
from server.settings import StoreSettings
from server.storage.ports import Change, Claim
from tests.support.databases import SQL_DATABASES, TestDatabase, fresh
from tests.support.stores import LEASE_S, A

ANN = actor_id("player", "ann")
GAIN = Gain("slayer", "s1", True, 3, 1, 0, 2, 2, 60_000, {"Ace": 2}, "slayer", 1_000, -10)
WON = (True, True, False, True, True, True, False, True)


@pytest.fixture(params=SQL_DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> TestDatabase:
    return fresh(request.param, tmp_path)


def gained(number: int, **fields: Any) -> SettledMatch:
    return SettledMatch(f"m{number}", number, 100 - number, number, replace(GAIN, **fields))


async def stored(store: Any, *settled: SettledMatch) -> None:
    me = NodeAddress(A, await store.register_node(A, LEASE_S))
    await store.claim("player", [Claim(ANN, 1)], me)
    await store.write("player", [Change(ANN, Epoch(1), len(settled), PlayerState(settled=settled))])


async def read(database: TestDatabase, *newer: SettledMatch, **asked: str) -> Any:
    """The answer to `career.get`, of what is stored and results that are `newer`."""
    queries = SqlStoreQueries(StoreSettings(url=database.url, statement_timeout_s=30.0), QUERIES)
    try:
        totals = await queries.run("career_lines", {"player": "ann", **asked})
        medals = await queries.run("career_medals", {"player": "ann", **asked})
        ratings = await queries.run("career_ratings", {"player": "ann"})
    finally:
        await queries.close()
    return career(CareerGet(1, "ann", **asked), newer, totals, medals, ratings)


async def test_a_career_is_what_is_stored_and_what_is_newer_than_that(database: TestDatabase) -> None:
    results = [gained(number, won=won) for number, won in enumerate(WON, 1)]
    async with database.connect() as (store, _):
        await stored(store, *results, gained(9, mode="ctf", kills=7, names={}))
    found = await read(database)
    slayer = next(line for line in found.lines if line.mode == "slayer")
    assert (slayer.matches, slayer.wins, slayer.kills, slayer.played_ms) == (8, 6, 24, 480_000)
    assert (slayer.win_streak, slayer.best_win_streak) == (2, 3), "by when matches were made, which is the other way"
    assert slayer.named_medals == [MedalCount("Ace", 16)] and slayer.best_match == "m1"
    assert [(rating.rating_group, rating.mu, rating.matches) for rating in found.ratings] == [
        ("slayer", FIRST_MU + 9_000, 9)
    ]
    newer = await read(database, gained(9, mode="ctf"), gained(10, kills=5, names={"Ace": 1, "New": 1}))
    line = next(line for line in newer.lines if line.mode == "slayer")
    assert (line.matches, line.kills, line.best_kills, line.best_match) == (9, 29, 5, "m10")
    assert line.named_medals == [MedalCount("Ace", 17), MedalCount("New", 1)]
    assert newer.ratings[0].mu == FIRST_MU + 10_000 and newer.ratings[0].sigma < found.ratings[0].sigma


async def test_a_career_of_a_mode_or_a_season_has_nothing_of_others(database: TestDatabase) -> None:
    async with database.connect() as (store, _):
        await stored(store, gained(1), gained(2, season="s2"), gained(3, mode="ctf", names={}))
    assert [(line.mode, line.season) for line in (await read(database)).lines] == [
        ("ctf", "s1"), ("slayer", "s1"), ("slayer", "s2")
    ]  # fmt: skip
    found = await read(database, gained(4, season="s2"), gained(5), mode="slayer", season="s2")
    assert [(line.season, line.matches, line.named_medals) for line in found.lines] == [
        ("s2", 2, [MedalCount("Ace", 4)])
    ]
    assert found.ratings[0].matches == 5, "ratings go on over seasons"


async def test_a_player_with_no_result_has_an_empty_career(database: TestDatabase) -> None:
    async with database.connect() as (store, _):
        await stored(store, replace(gained(1), gain=None))
    found = await read(database, mode="ctf")
    assert (found.lines, found.ratings) == ([], [])


async def test_results_wait_until_their_player_has_a_row(database: TestDatabase) -> None:
    def insert(connection: Connection) -> None:
        for statement in (
            "INSERT INTO matches (match_id, head, next_seq, phase, mode, created_wall_ms, open_facts) VALUES "
            "('m', '', 9, 'ended', 'slayer', 5, true), ('n', '', 9, 'ended', 'slayer', 7, false)",
            "INSERT INTO participants (match_id, player_id, present, kills) VALUES "
            "('m', 'ann', true, 1), ('m', 'bob', true, 4), ('n', 'bob', true, 2)",
            "INSERT INTO careers (player_id, match_id, birth) VALUES ('ann', 'm', 5), ('bob', 'm', 4)",
        ):
            connection.execute(text(statement))

    async with database.connect():
        pass
    await migrations.run(database.url, insert)
    queries = SqlStoreQueries(StoreSettings(url=database.url, statement_timeout_s=30.0), QUERIES)
    try:
        rows = await queries.run("waiting_results", {})
        later = await queries.run("waiting_results", {"since": "n"})
    finally:
        await queries.close()
    assert [(row["match"], row["player"], row["kills"]) for row in rows] == [("m", "bob", 4)]
    assert later == []
