"""What every `LogStore` does with logs whose actors are over: lists, pins and deletes them, and keeps epochs rising."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from game.match.state import Line, Lines, MatchState
from persistence.engine.urls import parse
from server.eventlog.ports import Append, Chunk, LogStore, OverLog, Seal, WholeLog
from server.ids import ActorId, Epoch, Incarnation, NodeAddress, NodeId, actor_id
from server.storage.ports import Claim, EntityMove, Owned, Reminder, Store
from tests.support.databases import DATABASES, SQL_DATABASES, TestDatabase, fresh

A, B = NodeId("node-a"), NodeId("node-b")
TABLES = ("matches", "participants", "match_properties", "match_tags", "log_chunks", "reminders")


class Shelf:
    """Two nodes, and matches that node a plays to their end."""

    def __init__(self, a: tuple[Store, LogStore], b: tuple[Store, LogStore]) -> None:
        (self.a, self.logs), (self.b, self.logs_b) = a, b
        self.on_a = self.on_b = NodeAddress(A, Incarnation(0))
        self.tokens = 0

    async def start(self) -> None:
        self.on_a = NodeAddress(A, await self.a.register_node(A, 30.0))
        self.on_b = NodeAddress(B, await self.b.register_node(B, 30.0))

    async def claim(self, key: str, store: Store | None = None, me: NodeAddress | None = None) -> Owned:
        self.tokens += 1
        id = actor_id("match", key)
        result = (await (store or self.a).claim("match", [Claim(id, self.tokens)], me or self.on_a))[id]
        assert isinstance(result, Owned), result
        return result

    async def play(self, key: str, ended_ms: int = 1, *, phase: Any = "ended", release: bool = True) -> Epoch:
        """The epoch under which a match of that name was played."""
        epoch = (await self.claim(key)).epoch
        assert await self.append(key, epoch, match(ended_ms, phase)) == "written"
        if release:
            await self.a.release("match", [(actor_id("match", key), epoch)])
        return epoch

    async def append(self, key: str, epoch: Epoch, projection: Any, first: int = 1, head: bytes = b"") -> str:
        id = actor_id("match", key)
        entries = Append(id, epoch, first, first + 2, head, bytes([first]) * 16, b"x" * 10, projection)
        return (await self.logs.append("match", [entries]))[id]

    async def over(self, **how: Any) -> list[str]:
        return [log.id.removeprefix("match/") for log in await self.logs_b.list_over("match", 100, **how)]

    async def delete(self, *keys: str, epoch: int | None = None) -> list[str]:
        """The names of those that were deleted, as they are listed now."""
        listed = {log.id: log for log in await self.logs_b.list_over("match", 100)}
        ids = [actor_id("match", key) for key in sorted(keys)]
        asked = [
            OverLog(id, 0, Epoch(epoch if epoch is not None else listed[id].epoch if id in listed else 0)) for id in ids
        ]
        results = await self.logs_b.delete_logs("match", asked)
        assert list(results) == ids
        return [id.removeprefix("match/") for id in ids if results[id] == "deleted"]


def match(ended_ms: int, phase: Any = "ended") -> MatchState:
    players = Lines({"ann": Line(0, True, kills=3), "bob": Line(1, True)})
    return MatchState(
        host="h", phase=phase, created_wall_ms=1, ended_wall_ms=ended_ms, players=players,
        properties={"map": "x"}, tags=["a"],
    )  # fmt: skip


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> TestDatabase:
    return fresh(request.param, tmp_path)


@pytest.fixture
async def shelf(database: TestDatabase) -> AsyncIterator[Shelf]:
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(database.connect())
        b = await stack.enter_async_context(database.connect())
        made = Shelf(a, b)
        await made.start()
        yield made


async def test_logs_that_are_over_are_listed_by_their_end(shelf: Shelf) -> None:
    for key, ended_ms in (("c", 1), ("a", 2), ("b", 2), ("d", 3)):
        await shelf.play(key, ended_ms)
    await shelf.play("live", 0, phase="live")
    await shelf.claim("empty")
    assert await shelf.over() == ["c", "a", "b", "d"]
    assert await shelf.over(newest_first=True) == ["d", "b", "a", "c"]
    listed = await shelf.logs.list_over("match", 2)
    seen = [(log.ended_ms, log.size, log.is_pinned, log.is_open) for log in listed]
    assert seen == [(1, 10, False, False), (2, 10, False, False)]
    assert await shelf.over(after=listed[-1]) == ["b", "d"]
    assert await shelf.over(after=listed[-1], newest_first=True) == ["c"]
    assert [log.size for log in await shelf.logs.list_over("match", 2, sizes=False)] == [0, 0]
    assert [len(await shelf.logs.list_over("match", limit)) for limit in (0, 3)] == [0, 3]


async def test_a_deleted_log_is_gone_with_its_row(shelf: Shelf) -> None:
    await shelf.play("one")
    await shelf.play("two", 2)
    id = actor_id("match", "one")
    assert await shelf.delete("one", "never") == ["one"]
    assert await shelf.logs.read_log("match", id) is None
    assert await shelf.logs.read_tail("match", id) is None
    assert await shelf.b.read("match", [id]) == {}
    assert (await shelf.over(), await shelf.logs.list_logs("match", 9)) == (["two"], [actor_id("match", "two")])
    assert await shelf.delete("one") == []


async def test_live_pinned_open_and_owned_logs_are_kept(shelf: Shelf) -> None:
    epochs = {"live": await shelf.play("live", 0, phase="live"), "owned": await shelf.play("owned", release=False)}
    epochs["owes"] = (await shelf.claim("owes")).epoch
    assert await shelf.append("owes", epochs["owes"], replace(match(1), winner="owes")) == "written"
    await shelf.a.release("match", [(actor_id("match", "owes"), epochs["owes"])])
    epochs["pinned"] = await shelf.play("pinned")
    assert await shelf.logs.pin_log("match", actor_id("match", "pinned"), True)
    for key, epoch in epochs.items():
        assert await shelf.delete(key, epoch=epoch) == [], key
    listed = await shelf.logs.list_over("match", 9)
    assert {log.id.removeprefix("match/"): (log.is_pinned, log.is_open) for log in listed} == {
        "owes": (False, True),
        "pinned": (True, False),
        "owned": (False, True),
    }
    assert await shelf.logs.pin_log("match", actor_id("match", "pinned"), False)
    assert await shelf.delete("pinned", "owes") == ["pinned"]
    await shelf.a.release("match", [(actor_id("match", "owes"), epochs["owes"])], [actor_id("match", "owes")])
    assert await shelf.delete("owes") == ["owes"]
    assert not await shelf.logs.pin_log("match", actor_id("match", "pinned"), True)


async def test_a_log_that_was_claimed_since_it_was_looked_at_is_kept(shelf: Shelf) -> None:
    epoch = await shelf.play("one")
    again = await shelf.claim("one", shelf.b, shelf.on_b)
    assert await shelf.delete("one", epoch=again.epoch) == []
    await shelf.b.release("match", [(actor_id("match", "one"), again.epoch)])
    assert await shelf.delete("one", epoch=epoch) == []
    assert await shelf.delete("one", epoch=again.epoch) == ["one"]


async def test_epochs_of_a_deleted_name_are_never_issued_again(shelf: Shelf) -> None:
    for _ in range(3):
        old = (await shelf.claim("one")).epoch
        await shelf.a.release("match", [(actor_id("match", "one"), old)])
    old = await shelf.play("one")
    low = await shelf.play("two")
    assert low < old
    assert await shelf.delete("one", "two") == ["one", "two"]
    new = await shelf.claim("one", shelf.b, shelf.on_b)
    assert (new.epoch > old, new.next_seq, new.head, new.state_version, new.clean) == (True, 1, b"", 0, True)
    id = actor_id("match", "one")
    # All that an owner of the old one can say late is fenced, as its log begins where the new one does.
    assert await shelf.append("one", old, match(5)) == "fenced"
    assert await shelf.logs.seal("match", Seal(id, old, 1, 3, b"")) == "fenced"
    assert not await shelf.a.set_reminder(Reminder(id, "wake", 1, old, 9))
    await shelf.a.release("match", [(id, old)])
    move = EntityMove(id, old, 1, shelf.on_a)
    assert (await shelf.a.migrate("match", [move]))[id] == "fenced"
    assert await shelf.append("one", new.epoch, match(5)) == "written"
    assert await shelf.delete("one", epoch=new.epoch) == []  # node b has it


async def test_a_log_that_is_inserted_under_a_deleted_name_has_a_higher_epoch(shelf: Shelf) -> None:
    old = await shelf.play("one")
    assert await shelf.delete("one") == ["one"]
    whole = WholeLog(b"h" * 16, [Chunk(1, 3, True, b"y")], match(9))
    assert await shelf.logs.insert_log("match", actor_id("match", "one"), whole) == "written"
    (log,) = await shelf.logs.list_over("match", 9)
    assert (log.epoch > old, log.ended_ms, log.size) == (True, 9, 1)
    assert await shelf.append("one", old, match(5), 4, b"h" * 16) == "fenced"


async def test_reminders_of_a_deleted_log_never_come(shelf: Shelf) -> None:
    epoch = await shelf.play("one", release=False)
    id = actor_id("match", "one")
    assert await shelf.a.set_reminder(Reminder(id, "again", 1, epoch, 1))
    await shelf.a.release("match", [(id, epoch)])
    assert await shelf.delete("one") == ["one"]
    assert await shelf.a.due_reminders(10, 10) == []


async def test_a_kind_that_is_never_over_has_nothing_to_delete(shelf: Shelf) -> None:
    log = OverLog(ActorId("tally/one"), 0, Epoch(1))
    assert await shelf.logs.list_over("tally", 9) == []
    assert await shelf.logs.delete_logs("tally", [log]) == {log.id: "kept"}
    assert not await shelf.logs.pin_log("tally", log.id, True)


@pytest.mark.parametrize("name", SQL_DATABASES)
async def test_no_row_of_a_deleted_match_stays(name: str, tmp_path: Path) -> None:
    database = fresh(name, tmp_path)
    async with database.connect() as (a, logs):
        shelf = Shelf((a, logs), (a, logs))
        await shelf.start()
        await shelf.play("one")
        await shelf.play("two")
        before = await _rows(database)
        assert before == {"matches": 2, "participants": 4, "match_properties": 2, "match_tags": 2, "log_chunks": 2} | {
            "reminders": 0
        }
        assert await shelf.delete("one") == ["one"]
    assert await _rows(database) == {table: count // 2 for table, count in before.items()}


async def _rows(database: TestDatabase) -> dict[str, int]:
    engine = create_async_engine(parse(database.url).url)
    try:
        async with engine.connect() as connection:
            return {table: (await connection.scalar(text(f"SELECT count(*) FROM {table}"))) or 0 for table in TABLES}
    finally:
        await engine.dispose()


async def test_deletions_race_each_other_and_claims(shelf: Shelf) -> None:
    """Each log goes once, or its new owner has it whole."""
    keys = [f"m{number:02}" for number in range(24)]
    old = {key: await shelf.play(key) for key in keys}
    listed = await shelf.logs.list_over("match", 100)

    async def claims() -> dict[str, Owned]:
        return {key: await shelf.claim(key, shelf.b, shelf.on_b) for key in keys[::3]}

    async def deletes(logs: LogStore, size: int) -> list[str]:
        gone: list[str] = []
        for start in range(0, len(listed), size):
            results = await logs.delete_logs("match", listed[start : start + size])
            gone += [id.removeprefix("match/") for id, result in results.items() if result == "deleted"]
        return gone

    owned, here, there = await asyncio.gather(claims(), deletes(shelf.logs, 4), deletes(shelf.logs_b, 5))
    assert len({*here, *there}) == len(here) + len(there), "each is deleted once"
    for key, claim in owned.items():
        assert claim.epoch > old[key]
        assert claim.next_seq == (1 if key in (*here, *there) else 4), key
    assert {*here, *there} >= set(keys) - set(owned)
    logs = await shelf.logs.list_logs("match", 100)
    assert logs == [actor_id("match", key) for key in keys if key not in (*here, *there)]
