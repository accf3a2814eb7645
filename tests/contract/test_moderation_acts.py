"""Standings and the audit in real databases: an act's row is there with what it changed, or neither is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from game.moderation import rules
from game.moderation.state import Act, Order, StandingState
from persistence.game.queries import QUERIES
from persistence.sql_queries import SqlStoreQueries
from server.actors.facts import Stamp
from server.ids import ActorId, Epoch, NodeAddress, NodeId, actor_id
from server.settings import StoreSettings
from server.storage.ports import Change, Claim, EntityMove
from tests.support.databases import SQL_DATABASES, TestDatabase, fresh
from tests.support.stores import LEASE_S, A, B

ANN, BOB, CYD = (actor_id("standing", name) for name in ("ann", "bob", "cyd"))


@pytest.fixture(params=SQL_DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> TestDatabase:
    return fresh(request.param, tmp_path)


@asynccontextmanager
async def audit(database: TestDatabase) -> AsyncIterator[SqlStoreQueries]:
    queries = SqlStoreQueries(StoreSettings(url=database.url, statement_timeout_s=30.0), QUERIES)
    try:
        yield queries
    finally:
        await queries.close()


async def acts_of(database: TestDatabase, **asked: Any) -> list[tuple[Any, ...]]:
    async with audit(database) as queries:
        rows = await queries.run("moderation_acts", asked)
    return [(row["subject"], row["number"], row["act"], row["at_ms"]) for row in rows]


def banned(*at_ms: int, principal: str = "admin") -> StandingState:
    acts = tuple(
        Act(number, at, "ban", principal, "admin", "cheats\0", rules.FOR_GOOD, "l", number)
        for number, at in enumerate(at_ms, 1)
    )
    return StandingState(rules.FOR_GOOD, "cheats", 7, "noise", 8, Stamp(1, len(acts)), Stamp(1, 0), acts, 3)


async def claimed(store: Any, node: NodeId, *ids: ActorId) -> NodeAddress:
    me = NodeAddress(node, await store.register_node(node, LEASE_S))
    await store.claim("standing", [Claim(id, 1) for id in ids], me)
    return me


async def test_a_standing_is_read_as_it_was_written(database: TestDatabase) -> None:
    state = banned(100)
    async with database.connect() as (store, _):
        await claimed(store, A, ANN)
        assert await store.write("standing", [Change(ANN, Epoch(1), 1, state)]) == {ANN: "written"}
        assert (await store.read("standing", [ANN]))[ANN].state == state
    async with audit(database) as queries:
        (row,) = await queries.run("moderation_acts", {})
    assert (row["reason"], row["until_ms"], row["principal"], row["role"]) == (
        "cheats",
        rules.FOR_GOOD,
        "admin",
        "admin",
    )


async def test_acts_are_rows_once_they_are_stored(database: TestDatabase) -> None:
    async with database.connect() as (store, _):
        await claimed(store, A, ANN, BOB)
        first = [Change(ANN, Epoch(1), 2, banned(100, 200)), Change(BOB, Epoch(1), 1, StandingState())]
        assert set((await store.write("standing", first)).values()) == {"written"}
        assert set((await store.write("standing", first)).values()) == {"written"}, "its answer was lost"
        assert await acts_of(database) == [("ann", 2, "ban", 200), ("ann", 1, "ban", 100)]
        forgetful = StandingState(acts=banned(100, 200, 300).acts[2:], forgotten=2)
        await store.write("standing", [Change(ANN, Epoch(1), 3, forgetful, 2)])
        assert [row[1] for row in await acts_of(database)] == [3, 2, 1]


async def test_a_write_that_is_refused_adds_no_act(database: TestDatabase) -> None:
    async with database.connect() as (store, _):
        await claimed(store, A, ANN, BOB)
        changes = [Change(ANN, Epoch(9), 1, banned(100)), Change(BOB, Epoch(1), 1, banned(200))]
        assert await store.write("standing", changes) == {ANN: "fenced", BOB: "written"}
        assert await acts_of(database) == [("bob", 1, "ban", 200)]


async def test_a_move_takes_its_acts_along(database: TestDatabase) -> None:
    async with database.connect() as (store, _):
        await claimed(store, A, ANN, BOB)
        to = await claimed(store, B)
        moves = [EntityMove(ANN, Epoch(1), 1, to, banned(100)), EntityMove(BOB, Epoch(7), 1, to, banned(200))]
        assert await store.migrate("standing", moves) == {ANN: "moved", BOB: "fenced"}
        assert await acts_of(database) == [("ann", 1, "ban", 100)]


async def test_a_page_of_the_audit_stays_while_newer_acts_come(database: TestDatabase) -> None:
    async with database.connect() as (store, _):
        await claimed(store, A, ANN, BOB, CYD)
        await store.write("standing", [Change(ANN, Epoch(1), 3, banned(100, 200, 200))])
        await store.write("standing", [Change(BOB, Epoch(1), 1, banned(200, principal="judge"))])
        whole = await acts_of(database)
        assert whole == [("bob", 1, "ban", 200), ("ann", 3, "ban", 200), ("ann", 2, "ban", 200), ("ann", 1, "ban", 100)]
        assert await acts_of(database, limit=2) == whole[:2]
        await store.write("standing", [Change(CYD, Epoch(1), 1, banned(900))])
        subject, number, _, at_ms = whole[1]
        rest = await acts_of(database, limit=2, at_ms=at_ms, after_subject=subject, number=number)
        assert rest == whole[2:]
        assert await acts_of(database, subject="bob") == whole[:1]
        assert await acts_of(database, principal="judge") == whole[:1]
        assert await acts_of(database, subject="ann", principal="judge") == []


async def test_the_store_knows_an_order_that_a_standing_has_forgotten(database: TestDatabase) -> None:
    async with database.connect() as (store, _):
        await claimed(store, A, ANN)
        await store.write("standing", [Change(ANN, Epoch(1), 2, banned(100, 200))])
    order = Order("ban", "admin", "admin", lineage="l", command=2)
    asked = {"subject": "ann", "principal": "admin", "role": "admin", "lineage": "l", "command": order.command}
    async with audit(database) as queries:
        assert await queries.run("moderation_order", asked) == [{"number": 2}]
        for other in (
            {"subject": "bob"},
            {"principal": "judge"},
            {"role": "service"},
            {"lineage": "m"},
            {"command": 3},
        ):
            assert await queries.run("moderation_order", asked | other) == [], other
