"""Runs of nodes that are over, with their journals closed: their rows go, and nothing is lost with them (F27)."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from game.match.state import MatchState
from game.player.state import PlayerState
from persistence.engine.statements import PostgresStatements, SqliteStatements
from persistence.engine.urls import parse
from persistence.game.mappings import MAPPINGS
from persistence.sql_store import SqlStore
from server.errors import Corrupt
from server.eventlog.ports import Append
from server.ids import Epoch, Incarnation, NodeAddress, NodeId, actor_id
from server.liveness.ports import Estate
from server.storage.memory import MemoryStore
from server.storage.ports import Change, Claim, Elsewhere, Owned
from tests.support.databases import DATABASES, SQL_DATABASES, fresh
from tests.support.stores import LEASE_S, A, B, Pair
from tests.support.waiting import until

HERE: Final = "host-1:/journals"
C: Final = NodeId("node-c")
MANY: Final = 50_000
FILL: Final = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {0}) "
    "INSERT INTO nodes (node_id, incarnation, state, lease_until) SELECT 'pod-' || i, i, 'dead', 1.0 FROM n",
    "postgres": "INSERT INTO nodes (node_id, incarnation, state, lease_until) "
    "SELECT 'pod-' || i, i, 'dead', 1.0 FROM generate_series(1, {0}) AS i",
}


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return fresh(request.param, tmp_path)


@pytest.fixture
async def pair(database: Any) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        a, _ = await stack.enter_async_context(database.connect())
        b, _ = await stack.enter_async_context(database.connect())
        made = Pair("wallet", a, b)
        await made.register()
        yield made


async def change(database: Any, *statements: str) -> list[Any]:
    """Run statements on a SQL database by hand; the rows of the last one."""
    if database.name == "sqlite":
        with closing(sqlite3.connect(parse(database.url).path)) as connection, connection:
            return [connection.execute(statement).fetchall() for statement in statements][-1]
    connection = await asyncpg.connect(database.url)
    try:
        return [await connection.fetch(statement) for statement in statements][-1]
    finally:
        await connection.close()


# ---- what is pruned ----


async def test_a_run_that_is_over_is_pruned_and_its_number_is_never_given_out_again(pair: Pair) -> None:
    c = NodeAddress(C, await pair.a.register_node(C, LEASE_S))
    await pair.a.retire_node(c)
    assert await pair.b.prune_nodes(0.0, 10) == 0, "its lease has not run out"
    await pair.a.renew_lease(pair.on_a, -1.0)
    assert await pair.b.bury(pair.on_a)
    assert await pair.b.prune_nodes(3600.0, 10) == 0, "it is kept for a while"
    assert await pair.b.prune_nodes(0.0, 10) == 1
    assert [row.node for row in await pair.b.nodes()] == [B, C]
    await pair.b.bury(pair.on_b)
    again = await pair.a.register_node(A, LEASE_S)
    assert again > c.incarnation, "not even that of the newest run"


async def test_the_newest_number_is_not_given_out_again_when_no_row_is_left(pair: Pair) -> None:
    """The mutant: one more than the highest number in the table."""
    for store, me in ((pair.a, pair.on_a), (pair.b, pair.on_b)):
        await store.renew_lease(me, -1.0)
        await store.retire_node(me)
    assert await pair.b.prune_nodes(0.0, 10) == 2 and await pair.b.nodes() == []
    assert await pair.b.register_node(A, LEASE_S) == pair.on_b.incarnation + 1


async def test_a_living_run_and_one_whose_journal_is_open_are_never_pruned(pair: Pair) -> None:
    c = NodeAddress(C, await pair.a.register_node(C, -1.0, HERE))
    await pair.a.renew_lease(pair.on_a, -1.0)
    await pair.b.bury(c)
    assert await pair.b.prune_nodes(0.0, 10) == 0, "one is up although its lease has run out, one left a journal"
    await pair.b.close_estate(c)
    assert await pair.b.prune_nodes(0.0, 10) == 1
    await pair.b.close_estate(c)
    assert await pair.b.estates() == []


async def test_a_run_that_was_pruned_is_over_for_whoever_asks(pair: Pair) -> None:
    await pair.a.renew_lease(pair.on_a, -1.0)
    await pair.b.bury(pair.on_a)
    await pair.b.prune_nodes(0.0, 10)
    nobody = NodeAddress(NodeId("nobody"), Incarnation(99))
    assert {node: row.state for node, row in (await pair.b.runs([pair.on_a, pair.on_b, nobody])).items()} == {
        pair.on_a: "dead",
        pair.on_b: "up",
    }
    assert await pair.b.bury(pair.on_a) and not await pair.b.bury(nobody)
    assert not await pair.a.renew_lease(pair.on_a, LEASE_S)
    assert await pair.b.evict([pair.on_a], [pair.on_b]) == []
    assert [row.node for row in await pair.b.living()] == [B]


# ---- what a pruned run owned ----


async def test_an_entity_of_a_pruned_owner_is_claimed_as_from_the_dead(pair: Pair) -> None:
    held = await pair.own_a()
    await pair.write(pair.a, held.epoch, 1, 5)
    await pair.a.renew_lease(pair.on_a, -1.0)
    await pair.b.bury(pair.on_a)
    assert await pair.b.prune_nodes(0.0, 10) == 1
    taken = await pair.try_b(journals=())
    assert isinstance(taken, Owned) and (taken.epoch, taken.state_version, taken.clean) == (2, 1, False)
    assert await pair.write(pair.a, held.epoch, 2, 6) == "fenced"


async def test_an_owner_that_was_never_registered_here_keeps_its_entity(database: Any, pair: Pair) -> None:
    """Its number was not issued by this database, or not yet: who says that it is over?"""
    await pair.own_a()
    if isinstance(pair.a, MemoryStore):
        pair.a.database.entities[pair.id("one")].owner = NodeAddress(A, Incarnation(99))
    else:
        await change(database, "UPDATE actors SET owner_incarnation = 99")
    assert await pair.try_b() == Elsewhere(NodeAddress(A, Incarnation(99)))


async def test_a_live_match_of_a_pruned_owner_is_an_orphan(database: Any) -> None:
    async with database.connect() as (store, logs):
        me = NodeAddress(A, await store.register_node(A, LEASE_S))
        match = actor_id("match", "m")
        await store.claim("match", [Claim(match, 1)], me)
        await logs.append("match", [Append(match, Epoch(1), 1, 1, b"", b"\1", b"x", MatchState())])
        assert await store.orphans("match", 10) == []
        await store.renew_lease(me, -1.0)
        await store.bury(me)
        await store.prune_nodes(0.0, 10)
        assert await store.orphans("match", 10) == [match]


async def _waits(connection: Any) -> bool:
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return await connection.fetchval(waiting) is not None


async def test_a_run_that_registers_while_a_claim_waits_keeps_what_it_has(tmp_path: Path) -> None:
    """PostgreSQL: the claim's picture of `nodes` is older than the run that the row names when its lock is free.
    Without the counter in the condition this claim took the entity from a living run that it had never seen."""
    database = fresh("postgres", tmp_path)
    async with database.connect() as (store, _), database.connect() as (other, _):
        a = NodeAddress(A, await store.register_node(A, LEASE_S))
        b = NodeAddress(B, await store.register_node(B, LEASE_S))
        id = actor_id("wallet", "one")
        await store.claim("wallet", [Claim(id, 1)], a)
        await store.renew_lease(a, -1.0)
        await store.bury(a)
        await store.prune_nodes(0.0, 10)
        hand = await asyncpg.connect(database.url)
        try:
            async with hand.transaction():
                await hand.execute("SELECT 1 FROM actors WHERE key = 'one' FOR UPDATE")
                claim = asyncio.ensure_future(other.claim("wallet", [Claim(id, 2)], b))
                await until(lambda: _waits(hand))
                c = NodeAddress(C, await store.register_node(C, LEASE_S))
                await hand.execute(
                    "UPDATE actors SET epoch = epoch + 1, owner_node = $1, owner_incarnation = $2 WHERE key = 'one'", *c
                )
            assert await claim == {id: Elsewhere(c)}
        finally:
            await hand.close()


# ---- strays ----


async def test_strays_are_players_of_whom_the_row_says_that_they_are_here_and_the_store_that_nobody_has_them(
    database: Any,
) -> None:
    """F6. Both conditions, and pages; other kinds have none."""
    async with database.connect() as (store, _), database.connect() as (other, _):
        a = NodeAddress(A, await store.register_node(A, LEASE_S))
        b = NodeAddress(B, await store.register_node(B, LEASE_S))
        states = {
            "away": PlayerState(status="away"),
            "gone": PlayerState(last_seen_ms=5),
            "in-a-match": PlayerState(match="m"),
            "kept": PlayerState(status="online"),
            "new": None,
            "online": PlayerState(status="online", match="m"),
            "released": PlayerState(status="busy"),
        }
        for key, state in states.items():
            id = actor_id("player", key)
            held = (await store.claim("player", [Claim(id, 1)], b if key == "kept" else a))[id]
            assert isinstance(held, Owned)
            if state is not None:
                await store.write("player", [Change(id, held.epoch, 1, state)])
            if key == "released":
                await store.release("player", [(id, held.epoch)])
        released = [actor_id("player", "released")]
        assert await store.strays("player", 10) == released, "the others have owners that live"
        await store.renew_lease(a, -1.0)
        await store.bury(a)
        strays = [actor_id("player", key) for key in ("away", "in-a-match", "online", "released")]
        assert await other.strays("player", 10) == strays
        assert await other.strays("player", 2) == strays[:2]
        assert await other.strays("player", 10, strays[1]) == strays[2:]
        await store.prune_nodes(0.0, 10)
        assert await other.strays("player", 10) == strays, "an owner without a row is over"
        assert await other.strays("wallet", 10) == await other.strays("match", 10) == []


@pytest.mark.parametrize("name", SQL_DATABASES)
async def test_strays_are_looked_for_among_those_who_are_here_and_not_among_all_players(
    name: str, tmp_path: Path
) -> None:
    database = fresh(name, tmp_path)
    async with database.connect() as (store, _):
        assert await store.strays("player", 10) == []
    statements = {"sqlite": SqliteStatements, "postgres": PostgresStatements}[name](MAPPINGS["player"])
    asked = statements.strays.replace("?1", "9").replace("?2", "''").replace("$1", "9").replace("$2", "''")
    explain = "EXPLAIN QUERY PLAN " if name == "sqlite" else "EXPLAIN "
    calm = [] if name == "sqlite" else ["SET enable_seqscan = off"]
    plan = await change(database, *calm, explain + asked)
    assert any("ix_players_here" in str(line) for line in plan), plan


# ---- fifty thousand of them ----


@pytest.mark.parametrize("name", SQL_DATABASES)
async def test_no_regular_question_reads_fifty_thousand_runs_that_are_over(name: str, tmp_path: Path) -> None:
    database = fresh(name, tmp_path)
    await change(database, FILL[name].format(MANY), f"UPDATE counters SET value = {MANY}")
    async with database.connect() as (store, _):
        me = NodeAddress(A, await store.register_node(A, LEASE_S))
        assert me.incarnation == MANY + 1
        pod = NodeAddress(NodeId("pod-7"), Incarnation(7))
        assert [row.node for row in await store.living()] == [A]
        assert {node: row.state for node, row in (await store.runs([me, pod])).items()} == {me: "up", pod: "dead"}
        assert await store.bury_expired() == [] and await store.estates() == []
        if name == "sqlite":
            for where in ("state IN ('up', 'evicting')", "state IN ('dead', 'left') AND journal <> ''"):
                (plan,) = await change(database, f"EXPLAIN QUERY PLAN SELECT node_id FROM nodes WHERE {where}")
                assert "ix_nodes_" in plan[-1], plan
        pruned = statements = 0
        while more := await store.prune_nodes(60.0, 5_000):
            pruned, statements = pruned + more, statements + 1
        assert (pruned, statements) == (MANY, MANY // 5_000)
        assert [row.node for row in await store.nodes()] == [A]


@pytest.mark.parametrize("name", SQL_DATABASES)
async def test_a_counter_that_is_gone_is_named_and_issues_nothing(name: str, tmp_path: Path) -> None:
    database = fresh(name, tmp_path)
    await change(database, "DELETE FROM counters")
    async with database.connect() as (store, _):
        assert isinstance(store, SqlStore)
        with pytest.raises(Corrupt, match="table counters lacks the number of the newest run"):
            await store.register_node(A, LEASE_S)
        assert await store.nodes() == []


async def test_an_estate_is_listed_until_it_is_closed_however_old(pair: Pair) -> None:
    c = NodeAddress(C, await pair.a.register_node(C, -1.0, HERE))
    await pair.b.bury(c)
    await pair.b.prune_nodes(0.0, 10)
    assert await pair.b.estates() == [Estate(c, HERE)]
