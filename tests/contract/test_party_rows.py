"""Rows of parties and of their memberships, written with the state that has them, and the query over them."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, text

import migrations
from game.party import rules
from game.party.state import Member, PartyState
from game.saved_commands import SavedCommands
from persistence.game.queries import QUERIES
from persistence.sql_queries import SqlStoreQueries
from server.ids import ActorId, Epoch, NodeAddress, NodeId, actor_id
from server.settings import StoreSettings
from server.storage.ports import Change, Claim, EntityMove
from tests.support.databases import SQL_DATABASES, TestDatabase, fresh
from tests.support.stores import LEASE_S, A, B

RED, BLUE = actor_id("party", "red"), actor_id("party", "blue")
NEW = rules.create(PartyState(), "ann", 4, "ABCDEF", 1, 1, 1_000)


@pytest.fixture(params=SQL_DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> TestDatabase:
    return fresh(request.param, tmp_path)


async def memberships(database: TestDatabase) -> list[tuple[Any, ...]]:
    return await database.rows("SELECT party_id, number, player_id, joined_wall_ms FROM party_members ORDER BY 1, 2")


async def claimed(store: Any, node: NodeId, *ids: ActorId) -> NodeAddress:
    me = NodeAddress(node, await store.register_node(node, LEASE_S))
    await store.claim("party", [Claim(id, 1) for id in ids], me)
    return me


def joined(state: PartyState, player: str, number: int, version: int) -> PartyState:
    invited = rules.invite(state, "ann", player, number, 1_000)
    return rules.join(invited, player, number + 1, version, number * 1_000)


async def test_the_state_comes_back_as_it_was_written(database: TestDatabase) -> None:
    state = rules.invite(joined(NEW, "bob", 2, 2), "bob", "cyd", 4, 2_000)
    state = rules.seen(state, "bob", 1_000, 3, 1, 2_500)
    state = replace(state, match_id="m1", answered={"ann/party.create/l": SavedCommands(16)})
    async with database.connect() as (store, _):
        await claimed(store, A, RED)
        assert await store.write("party", [Change(RED, Epoch(1), 1, state)]) == {RED: "written"}
        assert (await store.read("party", [RED]))[RED].state == state


async def test_columns_tell_an_analyst_who_is_in_a_party_and_who_ever_was(database: TestDatabase) -> None:
    async with database.connect() as (store, _):
        await claimed(store, A, RED)
        both = joined(NEW, "bob", 2, 2)
        await store.write("party", [Change(RED, Epoch(1), 2, both)])
        seen = "SELECT leader, room, code, match_id, size, created_wall_ms, ended_wall_ms FROM parties"
        assert await database.rows(seen) == [("ann", 4, "ABCDEF", "", 2, 1_000, 0)]
        assert await memberships(database) == [("red", 1, "ann", 1_000), ("red", 3, "bob", 2_000)]
        again = joined(rules.leave(both, "bob", 3_000), "bob", 4, 4)
        await store.write("party", [Change(RED, Epoch(1), 4, again, 2)])
        before = [("red", 1, "ann", 1_000), ("red", 3, "bob", 2_000), ("red", 5, "bob", 4_000)]
        assert await memberships(database) == before
        over = rules.disband(again, "ann", 5_000)
        await store.write("party", [Change(RED, Epoch(1), 5, over, 4)])
        assert await database.rows(seen) == [("", 4, "", "", 0, 1_000, 5_000)]
        assert await memberships(database) == before


async def test_a_write_whose_answer_was_lost_adds_no_membership_twice(database: TestDatabase) -> None:
    async with database.connect() as (store, _):
        await claimed(store, A, RED)
        for _ in range(2):
            assert await store.write("party", [Change(RED, Epoch(1), 1, NEW)]) == {RED: "written"}
        assert await memberships(database) == [("red", 1, "ann", 1_000)]


async def test_a_write_that_is_refused_changes_no_row(database: TestDatabase) -> None:
    async with database.connect() as (store, _):
        await claimed(store, A, RED, BLUE)
        changes = [Change(RED, Epoch(9), 1, NEW), Change(BLUE, Epoch(1), 1, NEW)]
        assert await store.write("party", changes) == {RED: "fenced", BLUE: "written"}
        assert await memberships(database) == [("blue", 1, "ann", 1_000)]


async def test_a_move_takes_its_rows_along(database: TestDatabase) -> None:
    async with database.connect() as (store, _):
        await claimed(store, A, RED, BLUE)
        to = await claimed(store, B)
        moves = [EntityMove(RED, Epoch(1), 1, to, NEW), EntityMove(BLUE, Epoch(7), 1, to, NEW)]
        assert await store.migrate("party", moves) == {RED: "moved", BLUE: "fenced"}
        assert await memberships(database) == [("red", 1, "ann", 1_000)]


async def test_a_party_whose_member_is_away_is_a_stray_of_its_node(database: TestDatabase) -> None:
    """`is_due` is what another node looks for once the node is dead."""
    away = rules.seen(joined(NEW, "bob", 2, 2), "bob", 1_000, 3, 1, 2_000)
    async with database.connect() as (store, _):
        await claimed(store, A, RED, BLUE)
        await store.write("party", [Change(RED, Epoch(1), 1, away), Change(BLUE, Epoch(1), 1, NEW)])
        assert await database.rows("SELECT party_id FROM parties WHERE is_due") == [("red",)]
        back = rules.seen(away, "bob", 1_000, 3, 2, 3_000)
        await store.write("party", [Change(RED, Epoch(1), 2, back, 1)])
        assert await database.rows("SELECT party_id FROM parties WHERE is_due") == []


async def test_a_code_finds_its_party_and_an_empty_one_finds_none(database: TestDatabase) -> None:
    async with database.connect() as (store, _):
        await claimed(store, A, RED, BLUE)
        over = rules.disband(replace(NEW, code="GHJKMN"), "ann", 5_000)
        await store.write("party", [Change(RED, Epoch(1), 1, NEW), Change(BLUE, Epoch(1), 1, over)])
    queries = SqlStoreQueries(StoreSettings(url=database.url, statement_timeout_s=30.0), QUERIES)
    try:
        assert await queries.run("party_of_code", {"code": "ABCDEF"}) == [{"party": "red"}]
        for code in ("GHJKMN", ""):
            assert await queries.run("party_of_code", {"code": code}) == []
    finally:
        await queries.close()


async def test_members_of_a_party_are_its_column_of_names(database: TestDatabase) -> None:
    member = Member(9, 1_000, 1)
    state = replace(NEW, members={"zoe": member, **NEW.members})
    async with database.connect() as (store, _):
        await claimed(store, A, RED)
        await store.write("party", [Change(RED, Epoch(1), 1, state)])
    (names,) = await database.rows("SELECT player_ids FROM parties")
    assert names[0] in (["ann", "zoe"], '["ann","zoe"]')


async def test_parties_that_are_over_go_by_the_statements_of_the_page(database: TestDatabase) -> None:
    """All but those that are not over for long, that a node has, or that have something to tell. Whoever uses the name
    of one again begins above its epochs."""
    page = (Path(__file__).parents[2] / "docs/operations.md").read_text("utf-8")
    blocks = [code for code in re.findall(r"```sql\n(.*?)```", page, re.DOTALL) if "party_members" in code]
    assert ["-- PostgreSQL" in block for block in blocks] == [True, False]
    block = blocks[database.name == "sqlite"].partition("\n")[2]
    statements = [each.strip() for each in block.split(";") if each.strip() not in ("", "BEGIN IMMEDIATE", "COMMIT")]
    names = ("over", "going", "late", "telling", "owned")
    ids = {name: actor_id("party", name) for name in names}
    over = replace(NEW, ended_wall_ms=5_000)
    states = dict.fromkeys(names, over) | {"going": NEW, "late": replace(NEW, ended_wall_ms=int(time.time() * 1000))}
    async with database.connect() as (store, _):
        await claimed(store, A, *ids.values())
        await store.write("party", [Change(ids[name], Epoch(1), 1, states[name]) for name in names])
        await store.release("party", [(ids[name], Epoch(1)) for name in names if name != "owned"])

        def prune(connection: Connection) -> None:
            connection.execute(text("UPDATE parties SET open_facts = true WHERE party_id = 'telling'"))
            connection.execute(text("UPDATE parties SET epoch = 7 WHERE party_id = 'over'"))
            for _ in range(2):
                for statement in statements:
                    connection.execute(text(statement))

        await migrations.run(database.url, prune)
        kept = [(name,) for name in sorted(names) if name != "over"]
        assert await database.rows("SELECT party_id FROM parties ORDER BY 1") == kept
        assert await database.rows("SELECT party_id FROM party_members ORDER BY 1") == kept
        me = NodeAddress(B, await store.register_node(B, LEASE_S))
        again = (await store.claim("party", [Claim(ids["over"], 1), Claim(ids["late"], 1)], me)).values()
        assert [owned.epoch for owned in again] == [8, 2], "above what is gone; what is there goes on"
