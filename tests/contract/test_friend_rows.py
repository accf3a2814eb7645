"""Rows of friendships, written and deleted with the state that has them; the views and the query over them."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

import migrations
from game.friends.messages import FriendChange
from game.friends.state import Dropped, FriendsState, Link, Word
from persistence.game.friends import FRIENDS, FriendsMapping
from persistence.game.queries import QUERIES
from persistence.sql_queries import SqlStoreQueries
from server.actors.facts import Register, Stamp
from server.ids import ActorId, Epoch, NodeAddress, NodeId, actor_id
from server.settings import StoreSettings
from server.storage.ports import Change, Claim, EntityMove
from tests.support.databases import SQL_DATABASES, TestDatabase, fresh
from tests.support.stores import LEASE_S, A, B

ANN, BOB = actor_id("friends", "ann"), actor_id("friends", "bob")
ASKED = Register[Word](Stamp(1, 1), Word(invite=Stamp(1, 1)))


@pytest.fixture(params=SQL_DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> TestDatabase:
    return fresh(request.param, tmp_path)


async def rows(database: TestDatabase) -> list[tuple[Any, ...]]:
    return await database.rows("SELECT player_id, other_id, state, since_ms FROM friendships ORDER BY 1, 2")


def link(state: FriendChange, version: int) -> Link:
    return Link(ASKED, Register[Word](Stamp()), state, version * 10, version)


async def claimed(store: Any, node: NodeId, *ids: ActorId) -> NodeAddress:
    me = NodeAddress(node, await store.register_node(node, LEASE_S))
    await store.claim("friends", [Claim(id, 1) for id in ids], me)
    return me


async def test_rows_follow_the_list_and_only_those_that_changed_are_written(database: TestDatabase) -> None:
    async with database.connect() as (store, _):
        await claimed(store, A, ANN, BOB)
        first = FriendsState({"bob": link("friend", 1), "cyd": link("invited", 1)})
        changes = [Change(ANN, Epoch(1), 1, first), Change(BOB, Epoch(1), 1, FriendsState({"ann": link("friend", 1)}))]
        assert set((await store.write("friends", changes)).values()) == {"written"}
        assert set((await store.write("friends", changes)).values()) == {"written"}, "its answer was lost"
        assert await rows(database) == [
            ("ann", "bob", "friend", 10), ("ann", "cyd", "invited", 10), ("bob", "ann", "friend", 10),
        ]  # fmt: skip
        await migrations.run(
            database.url, lambda it: it.execute(text("UPDATE friendships SET since_ms = 77 WHERE other_id = 'bob'"))
        )
        second = FriendsState({"bob": link("friend", 1), "dan": link("blocked", 2)}, dropped=(Dropped("cyd", 2),))
        await store.write("friends", [Change(ANN, Epoch(1), 2, second, 1)])
        assert await rows(database) == [
            ("ann", "bob", "friend", 77), ("ann", "dan", "blocked", 20), ("bob", "ann", "friend", 10),
        ]  # fmt: skip
        third = FriendsState({"bob": link("friend", 1), "dan": link("none", 3), "cyd": link("inviting", 3)})
        await store.write("friends", [Change(ANN, Epoch(1), 3, third, 2)])
        found = await rows(database)
        assert ("ann", "cyd", "inviting", 30) in found and not [row for row in found if row[1] == "dan"]


async def test_the_state_comes_back_as_it_was_written(database: TestDatabase) -> None:
    state = FriendsState({"bob": link("friend", 1)}, ("bob",), 5 << 32, 7, {}, (Dropped("cyd", 1),))
    async with database.connect() as (store, _):
        await claimed(store, A, ANN)
        await store.write("friends", [Change(ANN, Epoch(1), 1, state)])
        assert (await store.read("friends", [ANN]))[ANN].state == state


async def test_a_write_that_is_refused_changes_no_row(database: TestDatabase) -> None:
    async with database.connect() as (store, _):
        await claimed(store, A, ANN, BOB)
        lost, kept = FriendsState({"cyd": link("friend", 1)}), FriendsState({"dan": link("friend", 1)})
        changes = [Change(ANN, Epoch(9), 1, lost), Change(BOB, Epoch(1), 1, kept)]
        assert await store.write("friends", changes) == {ANN: "fenced", BOB: "written"}
        assert await rows(database) == [("bob", "dan", "friend", 10)]


async def test_a_move_takes_its_rows_along(database: TestDatabase) -> None:
    async with database.connect() as (store, _):
        await claimed(store, A, ANN, BOB)
        to = await claimed(store, B)
        mine, stale = FriendsState({"cyd": link("friend", 1)}), FriendsState({"dan": link("friend", 1)})
        moves = [EntityMove(ANN, Epoch(1), 1, to, mine), EntityMove(BOB, Epoch(7), 1, to, stale)]
        assert await store.migrate("friends", moves) == {ANN: "moved", BOB: "fenced"}
        assert await rows(database) == [("ann", "cyd", "friend", 10)]


async def test_views_show_friends_of_both_sides_and_blocks(database: TestDatabase) -> None:
    async with database.connect() as (store, _):
        await claimed(store, A, ANN, BOB)
        ann = FriendsState({"bob": link("friend", 1), "cyd": link("friend", 1), "eve": link("blocked", 1)})
        bob = FriendsState({"ann": link("friend", 2)})
        await store.write("friends", [Change(ANN, Epoch(1), 1, ann), Change(BOB, Epoch(1), 2, bob)])
    assert await database.rows("SELECT player_id, other_id, since_ms FROM friend_pairs") == [("ann", "bob", 10)]
    assert await database.rows("SELECT player_id, blocked_id, since_ms FROM blocks") == [("ann", "eve", 10)]


async def test_players_met_lately_are_those_of_the_newest_matches_that_are_over(database: TestDatabase) -> None:
    def insert(connection: Connection) -> None:
        for number in range(30):
            connection.execute(
                text(
                    "INSERT INTO matches (match_id, head, next_seq, phase, created_wall_ms, ended_wall_ms) "
                    "VALUES (:match, '', 9, 'ended', :born, :ended)"
                ),
                {"match": f"m{number:02}", "born": number, "ended": 100 + number},
            )
            connection.execute(
                text("INSERT INTO careers (player_id, match_id, birth, ended_wall_ms) VALUES ('ann', :match, :b, :e)"),
                {"match": f"m{number:02}", "b": number, "e": 100 + number},
            )
            for player in ("ann", f"p{number:02}"):
                connection.execute(
                    text("INSERT INTO participants (match_id, player_id, present) VALUES (:match, :player, true)"),
                    {"match": f"m{number:02}", "player": player},
                )

    await migrations.run(database.url, insert)
    queries = SqlStoreQueries(StoreSettings(url=database.url, statement_timeout_s=30.0), QUERIES)
    try:
        met = await queries.run("recent_players", {"player": "ann"})
        assert [row["player"] for row in met] == [f"p{number:02}" for number in range(29, 9, -1)]
        assert met[0] == {"player": "p29", "match": "m29", "ended_ms": 129}
        assert await queries.run("recent_players", {"player": "nobody"}) == []
    finally:
        await queries.close()


class Passes:
    """Counts the passes of the loop from now on."""

    def __init__(self) -> None:
        self.count = 0
        self._pass()

    def _pass(self) -> None:
        self.count += 1
        self._next = asyncio.get_running_loop().call_soon(self._pass)

    def stop(self) -> None:
        self._next.cancel()


async def test_the_loop_goes_on_while_many_large_lists_are_decoded(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [actor_id("friends", f"p{number}") for number in range(40)]
    decoded: list[int] = []

    async with database.connect() as (store, _):
        me = await claimed(store, A, *ids)
        state = FriendsState(links={"bob": link("friend", 1)})
        await store.write("friends", [Change(id, Epoch(1), 1, state) for id in ids])
        passes = Passes()

        def decode(values: Sequence[Any]) -> Any:
            time.sleep(0.002)  # a list of a thousand
            decoded.append(passes.count)
            return FriendsMapping.decode(FRIENDS, values)

        monkeypatch.setattr(FRIENDS, "decode", decode)
        results = await store.claim("friends", [Claim(id, 2) for id in ids], me)
        passes.stop()
    assert [results[id].state for id in ids] == [state] * 40
    assert max(map(decoded.count, decoded)) <= 2
