"""A row that SQLite has let somebody spoil, with a text in a column of numbers: it is corrupt, and the others live."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from game.player.state import PlayerState
from persistence.engine.urls import parse
from server.errors import Corrupt
from server.ids import ActorId, Epoch, NodeAddress, NodeId
from server.storage.ports import Change, Claim, Owned, Reminder
from tests.support.databases import TestDatabase, Wallet, fresh

NUMBERS = ("epoch", "state_epoch", "state_version", "owner_incarnation", "claim_token", "next_seq")
ONE, TWO = ActorId("wallet/one"), ActorId("wallet/two")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[TestDatabase]:
    yield fresh("sqlite", tmp_path)


def execute(database: TestDatabase, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(parse(database.url).path)) as opened, opened:
        assert opened.execute(statement).rowcount == 1


@pytest.mark.parametrize("column", NUMBERS)
async def test_a_text_in_a_number_column_takes_no_batch_with_it(database: TestDatabase, column: str) -> None:
    """F59: neither at a claim, nor a read, nor a write."""
    async with database.connect() as (store, _):
        me = NodeAddress(NodeId("node-1"), await store.register_node(NodeId("node-1"), 60.0))
        claims = [Claim(ONE, 1), Claim(TWO, 2)]
        owned = await store.claim("wallet", claims, me)
        epochs = {id: owned[id].epoch for id in (ONE, TWO)}  # type: ignore[union-attr]
        await store.write("wallet", [Change(id, epochs[id], 1, Wallet(5)) for id in (ONE, TWO)])
        execute(database, f"UPDATE actors SET {column} = 'many' WHERE key = 'one'")
        changes = [Change(id, epochs[id], 2, Wallet(6)) for id in (ONE, TWO)]
        assert (await store.write("wallet", changes))[TWO] == "written"
        execute(database, f"UPDATE actors SET {column} = 'many' WHERE key = 'one'")
        read = await store.read("wallet", [ONE, TWO])
        assert isinstance(read[ONE].state, Corrupt) and "row wallet/one" in read[ONE].state.message
        assert read[TWO].state == Wallet(6)
        again = await store.claim("wallet", claims, me)
        assert isinstance(again[ONE], Corrupt)
        assert isinstance(again[TWO], Owned) and again[TWO].state == Wallet(6)


async def test_a_text_as_an_epoch_becomes_no_number_by_a_claim(database: TestDatabase) -> None:
    """F59: a text plus one is 1 to SQLite, an epoch that was given out before."""
    async with database.connect() as (store, _):
        former = NodeAddress(NodeId("node-1"), await store.register_node(NodeId("node-1"), 60.0))
        me = NodeAddress(NodeId("node-2"), await store.register_node(NodeId("node-2"), 60.0))
        owned = await store.claim("wallet", [Claim(ONE, 1), Claim(TWO, 2)], former)
        await store.release("wallet", [(id, owned[id].epoch) for id in (ONE, TWO)])  # type: ignore[union-attr]
        execute(database, "UPDATE actors SET epoch = 'many' WHERE key = 'one'")
        found = await store.claim("wallet", [Claim(ONE, 1), Claim(TWO, 2)], me)
        assert isinstance(found[ONE], Corrupt) and isinstance(found[TWO], Owned)
        assert isinstance((await store.claim("wallet", [Claim(ONE, 3)], me))[ONE], Corrupt)
        execute(database, "UPDATE actors SET epoch = 7 WHERE key = 'one' AND epoch = 'many'")


@pytest.mark.parametrize("column", ["last_seen_ms", "kills", "matches"])
async def test_a_text_in_a_column_of_a_state_takes_no_batch_with_it(database: TestDatabase, column: str) -> None:
    """F59: columns of the game."""
    one, two = ActorId("player/one"), ActorId("player/two")
    async with database.connect() as (store, _):
        me = NodeAddress(NodeId("node-1"), await store.register_node(NodeId("node-1"), 60.0))
        owned = await store.claim("player", [Claim(one, 1), Claim(two, 2)], me)
        changes = [Change(id, owned[id].epoch, 1, PlayerState(kills=5)) for id in (one, two)]  # type: ignore[union-attr]
        await store.write("player", changes)
        execute(database, f"UPDATE players SET {column} = 'many' WHERE player_id = 'one'")
        read = await store.read("player", [one, two])
        assert isinstance(read[one].state, Corrupt) and read[two].state == PlayerState(kills=5)


async def test_a_text_in_a_number_column_of_a_node_or_a_reminder_hides_no_other(database: TestDatabase) -> None:
    """F59."""
    async with database.connect() as (store, _):
        me = NodeAddress(NodeId("node-1"), await store.register_node(NodeId("node-1"), 60.0))
        execute(database, "INSERT INTO nodes (node_id, incarnation, state, journal) VALUES ('x', 'many', 'dead', 'j')")
        assert [row.node for row in await store.nodes()] == [me.node]
        assert await store.estates() == []
        insert = "INSERT INTO reminders (kind, key, name, due_ms, epoch, number) VALUES "
        execute(database, insert + "('wallet', 'one', 'ring', 5, 'many', 1)")
        execute(database, insert + "('wallet', 'two', 'ring', 6, 1, 1)")
        due = await store.due_reminders(9, 9)
        assert due == [Reminder(ONE, "ring", 5, Epoch(0), 1), Reminder(TWO, "ring", 6, Epoch(1), 1)]
