"""Rows of results, which are written with the totals that have them, or not at all (F5)."""

import random
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, text

import migrations
from game.careers.events import Gain
from game.careers.ratings import FIRST_LOG_SIGMA, FIRST_MU
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


async def rows(database: TestDatabase) -> list[tuple[Any, ...]]:
    return await database.rows(
        "SELECT player_id, match_id, birth, ended_wall_ms FROM careers ORDER BY player_id, match_id, birth"
    )


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


TOTALS = "matches, wins, kills, deaths, assists, medals, played_ms, best_streak, best_kills, best_match"


def gained(number: int, **fields: Any) -> SettledMatch:
    gain = Gain("slayer", "s1", rating_group="slayer", mu=10, log_sigma=-2)
    return SettledMatch(f"m{number}", number, number, number, replace(gain, **fields))


async def test_totals_have_each_row_once_however_often_a_state_is_written(database: TestDatabase) -> None:
    """States that are written again, that are refused, that come with rows which are there, and that move."""
    first = gained(
        1, won=True, kills=5, deaths=1, assists=2, medals=3, played_ms=7, best_streak=4, names={"a": 2, "b'": 1}
    )
    second, third = gained(2, kills=5, best_streak=6, names={"a": 1}), gained(3, mode="ctf", kills=9, mu=-30)
    async with database.connect() as (store, _):
        await claimed(store, A, ANN, BOB)
        to = await claimed(store, B)
        for _ in range(2):  # the first answer was lost
            await store.write(
                "player", [Change(ANN, Epoch(1), 1, results(first)), Change(BOB, Epoch(9), 1, results(first))]
            )
        both = results(first, second)
        await store.write("player", [Change(ANN, Epoch(1), 2, both)])  # from 0: nobody knows what is stored
        all_three = results(first, second, third)
        for _ in range(2):
            await store.migrate("player", [EntityMove(ANN, Epoch(1), 3, to, all_three, stored=1)])
    assert await database.rows(f"SELECT mode, season, {TOTALS} FROM career_totals ORDER BY mode") == [
        ("ctf", "s1", 1, 0, 9, 0, 0, 0, 0, 0, 9, "m3"),
        ("slayer", "s1", 2, 1, 10, 1, 2, 3, 7, 6, 5, "m1"),
    ]
    medals = await database.rows("SELECT mode, medal, earned FROM career_medals ORDER BY medal")
    assert medals == [("slayer", "a", 3), ("slayer", "b'", 1)]
    rating = (FIRST_MU - 10, FIRST_LOG_SIGMA - 6, 3)
    assert await database.rows("SELECT mu, log_sigma, matches FROM ratings WHERE player_id = 'ann'") == [rating]
    assert await database.rows("SELECT player_id FROM ratings WHERE player_id <> 'ann'") == []


async def test_many_results_in_one_batch_make_the_sums_that_each_alone_would(database: TestDatabase) -> None:
    """Drawn: some are new in a state, some of an earlier one; the order in which players come does not matter."""
    rng = random.Random(7)
    many = [
        gained(n, mode=rng.choice(("slayer", "ctf")), season=rng.choice(("s1", "s2")), won=rng.random() < 0.5,
               kills=rng.randint(0, 9), mu=rng.randint(-99, 99), best_streak=rng.randint(0, 9),
               names={name: rng.randint(1, 3) for name in rng.sample("abcd", 2)},
               rating_group=rng.choice(("", "slayer")))
        for n in range(1, 31)
    ]  # fmt: skip
    async with database.connect() as (store, _):
        await claimed(store, A, ANN, BOB, CYD)
        stored = 0
        while stored < len(many):
            upto = min(len(many), stored + rng.randint(1, 9))
            state = results(*many[max(0, stored - 3) : upto])
            known = rng.choice((0, stored))
            await store.write("player", [Change(id, Epoch(1), upto, state, known) for id in (ANN, BOB, CYD)])
            stored = upto
    sums: dict[tuple[str, str], list[int]] = {}
    for done in many:
        gain = done.gain
        assert gain is not None
        total = sums.setdefault((gain.mode, gain.season), [0, 0, 0, 0])
        for place, more in enumerate((1, gain.won, gain.kills, sum(gain.names.values()))):
            total[place] += more
    found = await database.rows(
        "SELECT t.mode, t.season, t.matches, t.wins, t.kills, (SELECT sum(m.earned) FROM career_medals AS m WHERE "
        "m.player_id = t.player_id AND m.mode = t.mode AND m.season = t.season) FROM career_totals AS t",
    )
    assert sorted(found) == sorted((*key, *total) for key, total in sums.items() for _ in range(3))
    mu = FIRST_MU + sum(done.gain.mu for done in many if done.gain is not None and done.gain.rating_group)
    assert await database.rows("SELECT mu FROM ratings") == [(mu,)] * 3


async def test_a_state_that_is_read_again_carries_no_gains(database: TestDatabase) -> None:
    async with database.connect() as (store, _):
        await claimed(store, A, ANN)
        await store.write("player", [Change(ANN, Epoch(1), 1, results(gained(1)))])
        stored = (await store.read("player", [ANN]))[ANN].state
    assert [done.gain for done in stored.settled] == [None]


async def test_totals_of_an_old_database_are_kept(database: TestDatabase) -> None:
    """A match that is there gives its mode; the rest of the totals, whose matches are gone, stay under none."""
    await migrations.downgrade_async(database.url, "0014")

    def insert(connection: Connection) -> None:
        for statement in (
            "INSERT INTO players (player_id, matches, wins, kills, state_version) VALUES ('ann', 3, 2, 30, 1)",
            "INSERT INTO players (player_id, matches, kills, state_version) VALUES ('bob', 1, 4, 1)",
            "INSERT INTO matches (match_id, head, next_seq, phase, mode, created_wall_ms, winner) "
            "VALUES ('m', '', 9, 'ended', 'slayer', 5, 'team:1'), ('n', '', 9, 'ended', 'slayer', 7, NULL)",
            "INSERT INTO participants (match_id, player_id, present, team, kills) "
            "VALUES ('m', 'ann', true, 1, 11), ('m', 'bob', true, 0, 4), ('n', 'ann', true, 1, 1)",
            "INSERT INTO careers (player_id, match_id, birth) VALUES ('ann', 'm', 5), ('bob', 'm', 5), "
            "('ann', 'n', 6), ('ann', 'gone', 1)",
        ):
            connection.execute(text(statement))

    await migrations.run(database.url, insert)
    await migrations.upgrade_async(database.url)
    kept = await database.rows(
        "SELECT player_id, mode, matches, wins, kills FROM career_totals ORDER BY player_id, mode"
    )
    assert kept == [("ann", "", 2, 1, 19), ("ann", "slayer", 1, 1, 11), ("bob", "slayer", 1, 0, 4)]
    await migrations.downgrade_async(database.url, "0014")
    await migrations.upgrade_async(database.url)


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
