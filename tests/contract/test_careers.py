"""Rows of results, which are written with the totals that have them, or not at all (F5)."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

import migrations
from game.player.state import PlayerState, SettledMatch
from persistence.game.queries import QUERIES
from persistence.sql_queries import SqlStoreQueries
from server.ids import ActorId, Epoch, NodeAddress, NodeId, actor_id
from server.settings import StoreSettings
from server.storage.ports import Change, Claim, EntityMove
from tests.support.databases import SQL_DATABASES, TestDatabase, fresh
from tests.support.stores import LEASE_S, A, B

ANN, BOB, CYD = (actor_id("player", name) for name in ("ann", "bob", "cyd"))


@pytest.fixture(params=SQL_DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> TestDatabase:
    return fresh(request.param, tmp_path)


async def rows(database: TestDatabase) -> list[tuple[str, str, int, int]]:
    def read(connection: Connection) -> list[Any]:
        found = connection.execute(text("SELECT * FROM careers ORDER BY player_id, match_id, birth"))
        return [tuple(row) for row in found]

    found: list[tuple[str, str, int, int]] = await migrations.run(database.url, read)
    return found


def results(*settled: SettledMatch) -> PlayerState:
    return PlayerState(matches=len(settled), settled=settled)


async def claimed(store: Any, node: NodeId, *ids: ActorId) -> NodeAddress:
    me = NodeAddress(node, await store.register_node(node, LEASE_S))
    await store.claim("player", [Claim(id, 1) for id in ids], me)
    return me


async def test_results_are_rows_once_they_are_stored(database: TestDatabase) -> None:
    one, two, three = SettledMatch("m", 10, 1, 1), SettledMatch("m", 20, 2, 2), SettledMatch("n", 30, 3, 3)
    async with database.connect() as (store, _):
        await claimed(store, A, ANN, BOB, CYD)
        first = [Change(ANN, Epoch(1), 2, results(one, two)), Change(BOB, Epoch(1), 1, PlayerState()),
                 Change(CYD, Epoch(1), 2, results(one))]  # fmt: skip
        assert set((await store.write("player", first)).values()) == {"written"}
        assert set((await store.write("player", first)).values()) == {"written"}, "its answer was lost"
        assert await rows(database) == [("ann", "m", 1, 10), ("ann", "m", 2, 20), ("cyd", "m", 1, 10)]
        later = [Change(ANN, Epoch(1), 3, results(one, two, three), 2)]
        assert set((await store.write("player", later)).values()) == {"written"}
        assert ("ann", "n", 3, 30) in await rows(database)


async def test_a_write_that_is_refused_adds_no_row(database: TestDatabase) -> None:
    lost, kept = SettledMatch("lost", 10, 1, 1), SettledMatch("kept", 20, 2, 1)
    async with database.connect() as (store, _):
        await claimed(store, A, ANN, BOB)
        changes = [Change(ANN, Epoch(9), 1, results(lost)), Change(BOB, Epoch(1), 1, results(kept))]
        assert await store.write("player", changes) == {ANN: "fenced", BOB: "written"}
        assert await rows(database) == [("bob", "kept", 2, 20)]


async def test_a_move_takes_its_results_along(database: TestDatabase) -> None:
    mine, stale = SettledMatch("mine", 10, 1, 1), SettledMatch("stale", 20, 2, 1)
    async with database.connect() as (store, _):
        await claimed(store, A, ANN, BOB)
        to = await claimed(store, B)
        moves = [EntityMove(ANN, Epoch(1), 1, to, results(mine)), EntityMove(BOB, Epoch(7), 1, to, results(stale))]
        assert await store.migrate("player", moves) == {ANN: "moved", BOB: "fenced"}
        assert await rows(database) == [("ann", "mine", 1, 10)]


async def test_the_store_knows_a_result_that_the_player_has_forgotten(database: TestDatabase) -> None:
    async with database.connect() as (store, _):
        await claimed(store, A, ANN)
        await store.write("player", [Change(ANN, Epoch(1), 1, results(SettledMatch("m", 10, 7, 1)))])
    queries = SqlStoreQueries(StoreSettings(url=database.url, statement_timeout_s=30.0), QUERIES)
    try:
        for birth, ended_ms, known in ((7, 10, True), (8, 10, False), (0, 10, True), (0, 11, False)):
            asked = {"player": "ann", "match": "m", "birth": birth, "ended_wall_ms": ended_ms}
            assert bool(await queries.run("career", asked)) is known
    finally:
        await queries.close()


async def test_an_old_database_gets_rows_of_all_that_counted(database: TestDatabase) -> None:
    """Matches that a player's row names, and those that ended at its floor or before; not one that was never told."""
    import msgspec

    await migrations.downgrade_async(database.url, "0008")
    recent = msgspec.msgpack.encode([{}, [["named", 500]], 300])

    def insert(connection: Connection) -> None:
        ended = {"named": 500, "forgotten": 200, "untold": 400}
        for match, ended_ms in ended.items():
            connection.execute(
                text(
                    "INSERT INTO matches (match_id, head, next_seq, phase, created_wall_ms, ended_wall_ms) "
                    "VALUES (:match, '', 9, 'ended', :born, :ended)"
                ),
                {"match": match, "born": ended_ms - 100, "ended": ended_ms},
            )
            for player in ("ann", "zoe"):
                connection.execute(
                    text("INSERT INTO participants (match_id, player_id, present) VALUES (:match, :player, true)"),
                    {"match": match, "player": player},
                )
        connection.execute(
            text("INSERT INTO players (player_id, recent, state_version) VALUES ('ann', :recent, 1)"),
            {"recent": recent},
        )
        connection.execute(text("INSERT INTO players (player_id, recent) VALUES ('bad', :recent)"), {"recent": b"\xc1"})
        connection.execute(
            text("INSERT INTO reminders (kind, key, name, due_ms) VALUES ('match', 'untold', 'settle_again', 1)")
        )

    await migrations.run(database.url, insert)
    await migrations.upgrade_async(database.url)
    assert await rows(database) == [("ann", "forgotten", 100, 200), ("ann", "named", 400, 500)]
    async with database.connect() as (store, _):
        assert await store.orphans("match", 9) == [actor_id("match", "untold")]
