"""What every `LogStore` does with a redacted log: in the place of the finished one, or not at all."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy import select
from sqlalchemy.ext.asyncio import create_async_engine

from game import replay
from game.match.state import Origin
from game.people.names import renaming
from persistence.engine.urls import parse
from persistence.game.people import TABLES
from server.eventlog.ports import Append, LogStore, StoredLog, WholeLog
from server.eventlog.redaction import made_up, redacted
from server.ids import Epoch, NodeAddress, NodeId, actor_id
from server.storage.ports import Claim, Owned, Store
from tests.support.databases import DATABASES, TestDatabase, fresh
from tests.support.persons import ANN, played

CUP = actor_id("match", "cup")
NOBODY = made_up(b"secret", CUP)
NODE = NodeId("node-a")


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> TestDatabase:
    return fresh(request.param, tmp_path)


@pytest.fixture
async def stores(database: TestDatabase) -> AsyncIterator[tuple[Store, LogStore]]:
    async with database.connect() as (store, logs):
        match = played()
        log = match.stored(8)
        await logs.insert_log("match", CUP, WholeLog(log.head, log.chunks, match.state))
        yield store, logs


async def read(logs: LogStore) -> StoredLog:
    log = await logs.read_log("match", CUP)
    assert log is not None
    return log


def without_ann(log: StoredLog) -> WholeLog:
    after = redacted(replay.MATCH, log, renaming(ANN, NOBODY), 7)
    assert after is not None
    return after


async def participants(database: TestDatabase) -> list[str]:
    """The rows of a match's children: players, tags, and values of properties."""
    engine = create_async_engine(parse(database.url).url)
    found: list[str] = []
    async with engine.connect() as connection:
        for table, column in (("participants", "player_id"), ("match_tags", "tag"), ("match_properties", "value")):
            found += (await connection.execute(select(TABLES[table].c[column]))).scalars().all()
    await engine.dispose()
    return found


async def test_redacted_log_takes_the_place(database: TestDatabase, stores: tuple[Store, LogStore]) -> None:
    store, logs = stores
    was = await read(logs)
    after = without_ann(was)
    assert await logs.redact("match", CUP, was, after) == "written"
    now = await read(logs)
    assert (now.next_seq, now.head, now.chunks) == (was.next_seq, after.head, after.segments)
    assert now.redactions == after.redactions
    assert replay.verify(now).state == after.projection
    assert await logs.redact("match", CUP, was, after) == "written", "the same again, after a lost answer"
    assert (await read(logs)).redactions == after.redactions
    assert await store.orphans("match", 10) == [], "nobody is told its results again"
    if database.url:
        assert sorted(await participants(database)) == sorted(
            ["ann2", "bob", "joann", f"the cup of {NOBODY}", *[NOBODY] * 3]
        )


async def test_redacted_log_is_claimed_as_any_other(stores: tuple[Store, LogStore]) -> None:
    store, logs = stores
    was = await read(logs)
    after = without_ann(was)
    await logs.redact("match", CUP, was, after)
    me = NodeAddress(NODE, await store.register_node(NODE, 30.0))
    owned = (await store.claim("match", [Claim(CUP, 1)], me))[CUP]
    assert isinstance(owned, Owned)
    assert (owned.next_seq, owned.head, owned.state_version) == (was.next_seq, after.head, was.next_seq - 1)
    assert not owned.open_facts


async def test_log_that_somebody_owns_is_left_alone(stores: tuple[Store, LogStore]) -> None:
    store, logs = stores
    me = NodeAddress(NODE, await store.register_node(NODE, 30.0))
    owned = (await store.claim("match", [Claim(CUP, 1)], me))[CUP]
    assert isinstance(owned, Owned)
    was = await read(logs)
    assert await logs.redact("match", CUP, was, without_ann(was)) == "busy"
    assert await read(logs) == was
    await store.bury(me)
    assert await logs.redact("match", CUP, was, without_ann(was)) == "written", "its owner is over"
    seal = await logs.append("match", [_append(was, owned.epoch)])
    assert seal == {CUP: "fenced"}, "the epoch is another one"


def _append(was: StoredLog, epoch: Epoch) -> Append:
    return Append(CUP, epoch, was.next_seq, was.next_seq, was.head, bytes(16), b"late")


async def test_match_that_was_not_to_count_does_not_count_then(database: TestDatabase) -> None:
    """An import may say so beside the log (`game.imports.storing`)."""
    match = played()
    log = match.stored(8)
    other = replace(match.state, origin=Origin("imported:garrison", False))
    async with database.connect() as (_, logs):
        await logs.insert_log("match", CUP, WholeLog(log.head, log.chunks, other))
        was = await read(logs)
        assert await logs.redact("match", CUP, was, without_ann(was)) == "written"
    if database.url:
        engine = create_async_engine(parse(database.url).url)
        async with engine.connect() as connection:
            c = TABLES["matches"].c
            assert tuple((await connection.execute(select(c.source, c.counts))).one()) == ("imported:garrison", False)
        await engine.dispose()


async def test_log_that_is_another_by_now_is_left_alone(stores: tuple[Store, LogStore]) -> None:
    _, logs = stores
    was = await read(logs)
    other = replace(was, head=bytes(16))
    assert await logs.redact("match", CUP, other, without_ann(was)) == "busy"
    assert await logs.redact("match", actor_id("match", "none"), was, without_ann(was)) == "busy"
    assert await read(logs) == was


async def test_log_that_is_redacted_twice_has_both_marks(stores: tuple[Store, LogStore]) -> None:
    _, logs = stores
    first = await read(logs)
    await logs.redact("match", CUP, first, without_ann(first))
    second = await read(logs)
    bob = redacted(replay.MATCH, second, renaming("bob", made_up(b"other", CUP)), 9)
    assert bob is not None
    assert await logs.redact("match", CUP, second, bob) == "written"
    assert [mark.head for mark in (await read(logs)).redactions] == [first.head, second.head]
    assert [mark.wall_ms for mark in bob.redactions] == [7, 9]
