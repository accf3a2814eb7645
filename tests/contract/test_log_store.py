"""What every `LogStore` does: fenced appends, seals, reading back (rule 7 in docs/guarantees.md)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import select
from sqlalchemy.ext.asyncio import create_async_engine

from game.match.state import Line, Lines, MatchState
from game.messages import PlayOptions
from persistence.engine.urls import parse
from persistence.game.queries import QUERIES
from persistence.game.tables import match_properties, match_tags, matches, participants
from persistence.sql_queries import SqlStoreQueries
from server.errors import Corrupt, Internal, LogExists, Unavailable
from server.eventlog.ports import Append, Chunk, LogStore, Seal, WholeLog
from server.ids import ActorId, Epoch, Incarnation, NodeAddress, NodeId, actor_id
from server.settings import StoreSettings
from server.storage.ports import Claim, Owned, Store, Stored
from tests.support.databases import DATABASES, SQL_DATABASES, Tally, TestDatabase, fresh

A, B = NodeId("node-a"), NodeId("node-b")
HEADS = [b"", *(bytes([n]) * 16 for n in range(1, 40))]


class Bench:
    """Node a owns log `one` of a kind; node b is there to take it."""

    def __init__(self, kind: str, a: tuple[Store, LogStore], b: tuple[Store, LogStore]) -> None:
        self.kind = kind
        (self.a, self.logs), (self.b, self.logs_b) = a, b
        self.on_a = self.on_b = NodeAddress(A, Incarnation(0))
        self.tokens = 0
        self.id = actor_id(kind, "one")
        self.epoch = Epoch(0)

    async def start(self) -> None:
        self.on_a = NodeAddress(A, await self.a.register_node(A, 30.0))
        self.on_b = NodeAddress(B, await self.b.register_node(B, 30.0))
        self.epoch = (await self.claim(self.a, self.on_a)).epoch

    async def claim(self, store: Store, me: NodeAddress, id: ActorId | None = None) -> Owned:
        self.tokens += 1
        id = id or self.id
        result = (await store.claim(self.kind, [Claim(id, self.tokens)], me))[id]
        assert isinstance(result, Owned), result
        return result

    def entries(self, first: int, last: int, **changes: Any) -> Append:
        """Entries whose running hash is a plain function of their number."""
        fields: dict[str, Any] = {
            "id": self.id,
            "epoch": self.epoch,
            "first_seq": first,
            "last_seq": last,
            "prev_head": HEADS[first - 1],
            "head": HEADS[last],
            "data": f"{first}-{last}".encode(),
        }
        return Append(**(fields | changes))

    async def append(self, first: int, last: int, **changes: Any) -> str:
        append = self.entries(first, last, **changes)
        return (await self.logs.append(self.kind, [append]))[append.id]

    def projection(self, n: int) -> Any:
        return Tally(n) if self.kind == "tally" else match(n)

    async def chunks(self) -> list[Chunk]:
        stored = await self.logs_b.read_log(self.kind, self.id)
        return [] if stored is None else stored.chunks


def match(n: int, phase: Any = "live", players: tuple[str, ...] = ("ann", "bob")) -> MatchState:
    return MatchState(
        host="server-1",
        options=PlayOptions(map_name="Recharge"),
        phase=phase,
        time_ms=n,
        created_wall_ms=5,
        team_scores=(n, 2),
        players=Lines({player: Line(team=0, kills=n, score=-n) for player in players}),
    )


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> TestDatabase:
    return fresh(request.param, tmp_path)


@pytest.fixture(params=["tally", "match"])
async def bench(request: pytest.FixtureRequest, database: TestDatabase) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(database.connect())
        b = await stack.enter_async_context(database.connect())
        made = Bench(request.param, a, b)
        await made.start()
        yield made


def open_chunk(first: int, last: int) -> Chunk:
    return Chunk(first, last, False, f"{first}-{last}".encode())


async def test_a_new_log(bench: Bench) -> None:
    again = await bench.claim(bench.a, bench.on_a)
    assert (again.next_seq, again.head) == (1, b"")
    assert await bench.logs.read_log(bench.kind, bench.id) is None
    assert await bench.logs.read_tail(bench.kind, bench.id) is None
    assert await bench.logs.read_log(bench.kind, actor_id(bench.kind, "none")) is None


async def test_appends_follow_each_other(bench: Bench) -> None:
    assert await bench.append(1, 3) == "written"
    assert await bench.append(4, 4) == "written"
    stored = await bench.logs_b.read_log(bench.kind, bench.id)
    assert stored is not None
    assert (stored.next_seq, stored.head) == (5, HEADS[4])
    assert stored.chunks == [open_chunk(1, 3), open_chunk(4, 4)]


async def test_the_same_append_again_is_written_once(bench: Bench) -> None:
    assert await bench.append(1, 3) == "written"
    assert await bench.append(1, 3) == "written"
    assert await bench.chunks() == [open_chunk(1, 3)]


async def test_an_append_at_a_wrong_place_is_fenced(bench: Bench) -> None:
    await bench.append(1, 3)
    assert await bench.append(2, 4) == "fenced", "begins within"
    assert await bench.append(6, 7) == "fenced", "leaves a gap"
    assert await bench.append(6, 7, prev_head=HEADS[3]) == "fenced", "leaves a gap after the right head"
    assert await bench.append(4, 4, prev_head=HEADS[9]) == "fenced", "another history before"
    assert await bench.append(1, 3, head=HEADS[9]) == "fenced", "another event under the same number"
    assert await bench.append(4, 5, epoch=Epoch(9)) == "fenced", "an epoch that is not the row's"
    assert await bench.chunks() == [open_chunk(1, 3)]


async def test_a_log_that_nobody_claimed_is_fenced(bench: Bench) -> None:
    assert await bench.append(1, 1, id=actor_id(bench.kind, "none")) == "fenced"


async def test_a_successor_fences_the_old_owner_and_goes_on_from_its_end(bench: Bench) -> None:
    await bench.append(1, 3)
    await bench.a.retire_node(bench.on_a)
    new = await bench.claim(bench.b, bench.on_b)
    assert (new.epoch, new.next_seq, new.head, new.state) == (2, 4, HEADS[3], None)
    assert await bench.append(4, 5) == "fenced"
    assert await bench.append(1, 3) == "written", "that one is durable, and the successor starts behind it"
    mine = bench.entries(4, 6, epoch=new.epoch, head=HEADS[20])
    assert await bench.logs_b.append(bench.kind, [mine]) == {bench.id: "written"}
    assert await bench.append(4, 6) == "fenced"


async def test_a_fenced_log_does_not_hinder_the_others(bench: Bench) -> None:
    ids = [actor_id(bench.kind, key) for key in ("a", "b", "c")]
    epochs = [(await bench.claim(bench.a, bench.on_a, id)).epoch for id in ids]
    epochs[1] = Epoch(7)
    batch = [
        bench.entries(1, 2, id=id, epoch=epoch, projection=bench.projection(4))
        for id, epoch in zip(ids, epochs, strict=True)
    ]
    assert await bench.logs.append(bench.kind, batch) == {ids[0]: "written", ids[1]: "fenced", ids[2]: "written"}
    assert list(await bench.b.read(bench.kind, ids)) == [ids[0], ids[2]]
    assert await bench.logs.read_log(bench.kind, ids[1]) is None


async def test_a_projection_is_committed_with_its_entries(bench: Bench) -> None:
    await bench.append(1, 3, projection=bench.projection(1))
    assert (await bench.b.read(bench.kind, [bench.id]))[bench.id] == Stored(bench.epoch, 3, None)
    await bench.append(4, 5)
    assert (await bench.b.read(bench.kind, [bench.id]))[bench.id].state_version == 3
    await bench.append(4, 6, projection=bench.projection(2))
    assert (await bench.b.read(bench.kind, [bench.id]))[bench.id].state_version == 3, "fenced, and its projection too"
    await bench.append(6, 6, projection=bench.projection(2))
    assert (await bench.b.read(bench.kind, [bench.id]))[bench.id].state_version == 6


async def test_a_seal_replaces_exactly(bench: Bench) -> None:
    for first, last in ((1, 3), (4, 4), (5, 8), (9, 9)):
        await bench.append(first, last)
    assert await bench.logs.seal(bench.kind, Seal(bench.id, bench.epoch, 1, 4, b"first")) == "written"
    sealed = Chunk(1, 4, True, b"first")
    assert await bench.chunks() == [sealed, open_chunk(5, 8), open_chunk(9, 9)]
    assert await bench.logs.seal(bench.kind, Seal(bench.id, bench.epoch, 1, 4, b"first")) == "written"
    for first, last in ((5, 7), (6, 8), (4, 8), (1, 8), (9, 12), (20, 21)):
        with pytest.raises(Corrupt):
            await bench.logs.seal(bench.kind, Seal(bench.id, bench.epoch, first, last, b"wrong"))
    assert await bench.chunks() == [sealed, open_chunk(5, 8), open_chunk(9, 9)]
    assert await bench.append(10, 10) == "written", "a seal moves no end"


async def test_only_the_owner_seals(bench: Bench) -> None:
    await bench.append(1, 3)
    await bench.a.release(bench.kind, [(bench.id, bench.epoch)])
    new = await bench.claim(bench.b, bench.on_b)
    assert await bench.logs.seal(bench.kind, Seal(bench.id, bench.epoch, 1, 3, b"old")) == "fenced"
    assert await bench.logs.seal(bench.kind, Seal(actor_id(bench.kind, "none"), new.epoch, 1, 3, b"?")) == "fenced"
    assert await bench.logs_b.seal(bench.kind, Seal(bench.id, new.epoch, 1, 3, b"new")) == "written"
    assert await bench.chunks() == [Chunk(1, 3, True, b"new")]


async def test_reading_from_a_number_gives_whole_chunks(bench: Bench) -> None:
    for first, last in ((1, 3), (4, 6), (7, 9)):
        await bench.append(first, last)
    await bench.logs.seal(bench.kind, Seal(bench.id, bench.epoch, 1, 6, b"seg"))
    for from_seq, firsts in ((1, [1, 7]), (6, [1, 7]), (7, [7]), (9, [7]), (10, [])):
        stored = await bench.logs.read_log(bench.kind, bench.id, from_seq)
        assert stored is not None
        assert [chunk.first_seq for chunk in stored.chunks] == firsts
        assert stored.next_seq == 10


async def test_a_read_may_be_bounded_at_both_ends(bench: Bench) -> None:
    for first, last in ((1, 2), (3, 3), (4, 6), (7, 7)):
        assert await bench.append(first, last) == "written"
    for from_seq, to_seq, firsts in ((1, 3, [1]), (2, 4, [1, 3]), (3, 5, [3, 4]), (5, 7, [4]), (5, 99, [4, 7])):
        stored = await bench.logs.read_log(bench.kind, bench.id, from_seq, to_seq)
        assert stored is not None and stored.next_seq == 8
        assert [chunk.first_seq for chunk in stored.chunks] == firsts


async def test_the_tail_is_the_last_segment_and_what_follows(bench: Bench) -> None:
    for n in range(1, 8):
        await bench.append(n, n)
    assert [c.first_seq for c in (await bench.logs.read_tail(bench.kind, bench.id)).chunks] == [1, 2, 3, 4, 5, 6, 7]  # type: ignore[union-attr]
    await bench.logs.seal(bench.kind, Seal(bench.id, bench.epoch, 1, 2, b"one"))
    await bench.logs.seal(bench.kind, Seal(bench.id, bench.epoch, 3, 5, b"two"))
    stored = await bench.logs.read_tail(bench.kind, bench.id)
    assert stored is not None
    assert [(c.first_seq, c.sealed) for c in stored.chunks] == [(3, True), (6, False), (7, False)]


async def test_two_owners_race_for_one_number(bench: Bench) -> None:
    """Of an old owner and its successor, exactly one writes event 1, whichever comes first."""
    await bench.a.release(bench.kind, [(bench.id, bench.epoch)])
    mine = bench.entries(1, 1)

    async def takeover() -> str:
        new = await bench.claim(bench.b, bench.on_b)
        other = bench.entries(new.next_seq, new.next_seq, epoch=new.epoch, prev_head=new.head, head=HEADS[30])
        return (await bench.logs_b.append(bench.kind, [other]))[bench.id]

    old, new = await asyncio.gather(bench.logs.append(bench.kind, [mine]), takeover())
    stored = await bench.logs.read_log(bench.kind, bench.id)
    assert stored is not None
    assert new == "written"
    assert [chunk.first_seq for chunk in stored.chunks] == ([1, 2] if old[bench.id] == "written" else [1])


def whole(projection: Any, head: bytes = HEADS[6]) -> WholeLog:
    """A finished log of six events in two segments."""
    return WholeLog(head, [Chunk(1, 4, True, b"first"), Chunk(5, 6, True, b"second")], projection)


async def test_a_whole_log_is_inserted_once(bench: Bench) -> None:
    """An import: written, then there, and never in the place of another log; a node can take it up."""
    id = actor_id(bench.kind, "imported")
    log = whole(bench.projection(6))
    assert await bench.logs.insert_log(bench.kind, id, log) == "written"
    assert await bench.logs_b.insert_log(bench.kind, id, log) == "exists"
    with pytest.raises(LogExists):
        await bench.logs.insert_log(bench.kind, id, whole(bench.projection(9), head=HEADS[7]))
    stored = await bench.logs_b.read_log(bench.kind, id)
    assert stored is not None and (stored.next_seq, stored.head, stored.chunks) == (7, HEADS[6], log.segments)
    assert (await bench.b.read(bench.kind, [id]))[id] == Stored(Epoch(1), 6, None)
    owned = await bench.claim(bench.b, bench.on_b, id)
    assert (owned.epoch, owned.next_seq, owned.head) == (2, 7, HEADS[6])
    assert await bench.logs.insert_log(bench.kind, id, log) == "exists", "also while a node owns it"


async def test_a_whole_log_goes_where_nobody_is_at_home(bench: Bench) -> None:
    """Somebody looked for the match before it was imported: its row is there, without an event."""
    log = whole(bench.projection(6))
    with pytest.raises(Unavailable):
        await bench.logs.insert_log(bench.kind, bench.id, log)
    await bench.a.release(bench.kind, [(bench.id, bench.epoch)])
    assert await bench.logs.insert_log(bench.kind, bench.id, log) == "written"
    assert await bench.append(1, 1) == "fenced", "of the one who looked"
    assert (await bench.b.read(bench.kind, [bench.id]))[bench.id] == Stored(Epoch(2), 6, None)
    assert (await bench.claim(bench.b, bench.on_b)).epoch == 3


async def test_incomplete_logs_are_refused(bench: Bench) -> None:
    id, good = actor_id(bench.kind, "imported"), whole(bench.projection(6))
    first, second = good.segments
    for segments in ([], [second], [first, first], [second, first], [first, replace(second, sealed=False)]):
        with pytest.raises(Corrupt):
            await bench.logs.insert_log(bench.kind, id, replace(good, segments=segments))
    assert await bench.logs.read_log(bench.kind, id) is None


async def test_logs_are_listed_by_key(bench: Bench) -> None:
    assert await bench.logs.list_logs(bench.kind, 10) == [], "a row without an event is no log"
    await bench.append(1, 3)
    ids = [actor_id(bench.kind, key) for key in ("b", "a", "C", "z")]
    for id in ids:
        await bench.logs.insert_log(bench.kind, id, whole(bench.projection(6)))
    wanted = sorted([*ids, bench.id])
    assert await bench.logs_b.list_logs(bench.kind, 10) == wanted
    assert await bench.logs_b.list_logs(bench.kind, 2) == wanted[:2]
    assert await bench.logs_b.list_logs(bench.kind, 2, wanted[1]) == wanted[2:4]
    assert await bench.logs_b.list_logs(bench.kind, 2, wanted[4]) == []


async def test_a_kind_without_a_log(database: TestDatabase) -> None:
    if database.name == "memory":
        return  # it keeps no columns that a kind could lack
    async with database.connect() as (_, logs):
        with pytest.raises(Internal):
            await logs.append("player", [Append(actor_id("player", "p"), Epoch(1), 1, 1, b"", b"h", b"d")])


@pytest.mark.parametrize("name", SQL_DATABASES)
async def test_the_store_says_which_matches_somebody_hosts(name: str, tmp_path: Path) -> None:
    database = fresh(name, tmp_path)
    async with database.connect() as a, database.connect() as b:
        bench = Bench("match", a, b)
        await bench.start()
        await bench.append(1, 3, projection=match(1, players=("ann",)))
        queries = SqlStoreQueries(StoreSettings(url=database.url), QUERIES)
        try:
            assert await queries.run("hosted_matches", {"host": "server-1"}) == [{"match": "one"}]
            assert await queries.run("hosted_matches", {"host": "server-2"}) == []
            await bench.append(4, 4, projection=match(8, phase="ended", players=("ann",)))
            assert await queries.run("hosted_matches", {"host": "server-1"}) == []
        finally:
            await queries.close()


@pytest.mark.parametrize("name", SQL_DATABASES)
async def test_a_match_can_be_asked_with_sql(name: str, tmp_path: Path) -> None:
    database = fresh(name, tmp_path)
    async with database.connect() as a, database.connect() as b:
        bench = Bench("match", a, b)
        await bench.start()
        await bench.append(1, 3, projection=match(1, players=("ann", "bob", "cat")))
        await bench.append(4, 4, projection=match(8, phase="ended", players=("bob", "ann")))
    engine = create_async_engine(parse(database.url).url)
    try:
        async with engine.connect() as connection:
            row = (await connection.execute(select(matches))).mappings().one()
            lines = (await connection.execute(select(participants).order_by("player_id"))).mappings().all()
    finally:
        await engine.dispose()
    assert (row["phase"], row["map_name"], row["host"], row["team_scores"]) == ("ended", "Recharge", "server-1", [8, 2])
    assert (row["projected_seq"], row["next_seq"], row["state_version"]) == (4, 5, 4)
    assert [(line["player_id"], line["kills"], line["score"], line["present"]) for line in lines] == [
        ("ann", 8, -8, True),
        ("bob", 8, -8, True),
    ]
    queries = SqlStoreQueries(StoreSettings(url=database.url), QUERIES)
    try:
        (found,) = await queries.run("stored_matches", {})
        names = ("match", "phase", "players", "team_scores", "events")
        assert [found[name] for name in names] == ["one", "ended", 2, [8, 2], 4]
        assert await queries.run("stored_matches", {"phase": "live"}) == []
        assert [row["player"] for row in await queries.run("match_players", {"match": "one"})] == ["ann", "bob"]
    finally:
        await queries.close()


@pytest.mark.parametrize("name", SQL_DATABASES)
async def test_an_inserted_match_has_its_rows(name: str, tmp_path: Path) -> None:
    database = fresh(name, tmp_path)
    async with database.connect() as (_, logs):
        ended = match(8, phase="ended", players=("bob", "ann"))
        assert await logs.insert_log("match", actor_id("match", "old"), whole(ended)) == "written"
        assert await _participants(database) == [("ann", 6, 8), ("bob", 6, 8)]
    queries = SqlStoreQueries(StoreSettings(url=database.url), QUERIES)
    try:
        (found,) = await queries.run("stored_matches", {})
        assert [found[name] for name in ("match", "phase", "events")] == ["old", "ended", 6]
    finally:
        await queries.close()


@pytest.mark.parametrize("name", SQL_DATABASES)
async def test_rows_of_players_follow_what_changed(name: str, tmp_path: Path) -> None:
    """F28, F47: the row of a player is written when it changed, and stays with the number that it was written by."""
    database = fresh(name, tmp_path)
    first = match(1, players=("ann", "bob", "cat"))
    second = replace(first, players=first.players.set("bob", Line(team=0, kills=9)).set("dan", Line(team=1)))
    async with database.connect() as a, database.connect() as b:
        bench = Bench("match", a, b)
        await bench.start()
        await bench.append(1, 3, projection=first)
        fewer = bench.entries(4, 4, projection=second, projected=first)
        assert await a[1].append("match", [fewer]) == {bench.id: "written"}
        assert await a[1].append("match", [fewer]) == {bench.id: "written"}, "the same again"
        stale = bench.entries(4, 6, projection=match(7, players=("ann", "bob", "cat")), projected=first)
        assert await a[1].append("match", [stale]) == {bench.id: "fenced"}
        rows = await _participants(database)
        assert rows == [("ann", 3, 1), ("bob", 4, 9), ("cat", 3, 1), ("dan", 4, 0)]
        await bench.append(5, 6, projection=match(6, players=("ann", "bob")))
        assert await _participants(database) == [("ann", 6, 6), ("bob", 6, 6)], (
            "all, where it is not known what is there"
        )


@pytest.mark.parametrize("name", SQL_DATABASES)
async def test_rows_of_properties_and_tags_are_those_of_the_state(name: str, tmp_path: Path) -> None:
    database = fresh(name, tmp_path)
    plain = match(1, players=("ann",))
    properties = {"region": "eu", "rank": 7, "ranked": True, "text": "7"}
    first = replace(plain, properties=properties, tags=["a", "b"], rules=3)
    second = replace(first, properties={"region": "us", "ranked": False})
    second = replace(second, players=second.players.set("ann", Line(team=0, kills=2)))
    async with database.connect() as a, database.connect() as b:
        bench = Bench("match", a, b)
        await bench.start()
        await bench.append(1, 1, projection=plain)
        assert await _labels(database) == ([], [], 1)
        two = bench.entries(2, 3, projection=first, projected=plain)
        assert await a[1].append("match", [two]) == {bench.id: "written"}
        told = [("rank", "7", 7), ("ranked", "true", None), ("region", "eu", None), ("text", "7", None)]
        assert await _labels(database) == (told, ["a", "b"], 3)
        three = bench.entries(4, 4, projection=second, projected=first)
        assert await a[1].append("match", [three]) == {bench.id: "written"}
        assert await _labels(database) == ([("ranked", "false", None), ("region", "us", None)], ["a", "b"], 3)
        assert [row[1:] for row in await _participants(database)] == [(4, 2)]
        await bench.append(5, 6, projection=plain)
        assert await _labels(database) == ([], [], 1), "all, where it is not known what is there"


async def _labels(database: TestDatabase) -> tuple[list[tuple[Any, ...]], list[str], int]:
    """The rows of a match's properties and its tags, and the version of its rules."""
    engine = create_async_engine(parse(database.url).url)
    try:
        async with engine.connect() as connection:
            p, t = match_properties.c, match_tags.c
            found = await connection.execute(select(p.name, p.value, p.number).order_by(p.name))
            tags = await connection.execute(select(t.tag).order_by(t.tag))
            (played_by,) = (await connection.execute(select(matches.c.rules))).scalars()
            return [tuple(row) for row in found], list(tags.scalars()), played_by
    finally:
        await engine.dispose()


async def _participants(database: TestDatabase) -> list[tuple[Any, ...]]:
    engine = create_async_engine(parse(database.url).url)
    try:
        async with engine.connect() as connection:
            c = participants.c
            found = await connection.execute(select(c.player_id, c.projected_seq, c.kills).order_by(c.player_id))
            return [tuple(row) for row in found]
    finally:
        await engine.dispose()
