"""A match of very many players costs its events, not its events times its players (F28)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from game.app import App
from game.match import board
from game.match.state import MatchState
from game.messages import Kill, MatchCreate, MatchGet, MatchOptions, MatchReport, MatchStart
from game.replay import MATCH, verify
from persistence.game.match import ParticipantRows
from server import states
from server.actors.actor import Caller
from server.errors import BadInput
from server.eventlog import fold, segment
from server.eventlog.entry import NO_HEAD, encode_entry
from server.ids import ActorId
from tests.support.engine import TestSystem, cluster
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

PLAYERS = 5_000
REPORTER = Caller("host", "reporter", "s")
M = ActorId("match/m")


@asynccontextmanager
async def large(players: int = PLAYERS) -> AsyncIterator[TestSystem]:
    """A live match in which every player has a kill."""
    settings = {"group_commit_s": 0.001, "projection_interval_s": 1_000.0, "segment_entries": 64}
    async with cluster(app=App, store=settings) as world:
        system = world.systems["node-1"]
        options = MatchOptions(mode="recorded", teams=0, max_players=0)
        await system.ask(M, "create", (REPORTER, MatchCreate(1, "x", 1, "m", options)))
        await system.ask(M, "start", (REPORTER, MatchStart(1, "x", 2, "m")))
        for first in range(0, players, 250):
            await report(system, 3 + first, *(f"p{n:05}" for n in range(first, first + 250)))
        yield system


async def report(system: TestSystem, command: int, *players: str) -> Any:
    kills = [Kill(command, player) for player in players]
    return await system.ask(M, "report", (REPORTER, MatchReport(1, "x", command, "m", kills)))


def parts(node: Any) -> list[Any]:
    """All nodes of a map's tree."""
    return [node, *(below for part in node for below in parts(part))] if type(node) is tuple else [node]


async def test_a_report_makes_little_anew() -> None:
    async with large() as system:
        activation = system.find(M)
        assert activation is not None
        before: MatchState = activation.boundary
        await report(system, 100_000, "p00007")
        after: MatchState = activation.boundary
        known = {id(node) for node in parts(before.players._root)}
        made = [node for node in parts(after.players._root) if id(node) not in known]
        assert sum(map(len, made)) < 200 < len(after.players) == PLAYERS
        assert after.players["p00007"].kills == 2 and before.players["p00007"].kills == 1


async def test_rows_are_written_for_those_who_changed() -> None:
    async with large() as system:
        activation = system.find(M)
        assert activation is not None
        before = activation.boundary
        for n in range(9):
            await report(system, 100_000 + n, "p00007", f"p{n:05}")
        rows = ParticipantRows()
        changed = rows.encode(["m"], [9], [activation.boundary], [before])
        assert changed[1] == [f"p{n:05}" for n in range(9)]
        assert len(rows.encode(["m"], [9], [activation.boundary], [None])[0]) == PLAYERS
        assert rows.encode(["m"], [9], [activation.boundary], [activation.boundary]) == []


async def test_the_store_is_told_what_it_has() -> None:
    """The first event and the last of a log are in its row at once, others once in a while."""
    async with large(250) as system:
        activation = system.find(M)
        assert activation is not None
        log, started = activation.log(), []

        def noted(append: Any, take: Any = log.take) -> Any:
            started.append(append)
            return append

        take = log.take
        log.take = lambda: noted(take())  # type: ignore[method-assign]
        first = log._projected
        assert first is not None and first.phase == "lobby"
        await report(system, 100_000, "p00001")
        assert [(append.projection, append.projected) for append in started if append] == [(None, None)]
        log._settings = type(log._settings)(projection_interval_s=0.000_001)
        await report(system, 100_001, "p00001")
        (due,) = [append for append in started if append and append.projection is not None]
        assert due.projection is activation.boundary and due.projected is first and log._projected is due.projection


async def test_segments_of_a_large_match_are_longer_and_verify() -> None:
    async with large() as system:
        await until(lambda: not system.group_commit._waiting)
        stored = await system.logs.read_log("match", M)
        assert stored is not None
        sealed = [chunk for chunk in stored.chunks if chunk.sealed]
        entries = [chunk.last_seq - chunk.first_seq + 1 for chunk in sealed]
        assert 64 <= entries[0] < 512 < entries[-1] <= 64 * 32 + 250, "by the size of the keyframe, and bounded"
        report_ = verify(stored)
        activation = system.find(M)
        assert activation is not None and report_.state == activation.boundary
        assert fold.load(MATCH, stored).state == activation.boundary


async def test_a_keyframe_is_the_live_state() -> None:
    """The log keeps the states at the ends of chunks instead of making them again; both are the same."""
    async with large(500) as system:
        activation = system.find(M)
        assert activation is not None
        log = activation.log()
        base = fold.Fold(MATCH, log._base.state, log._base.head, log._base.next_seq)
        for entry in log._tail:
            base.take(entry)
        assert states.encode_canonical(base.state) == states.encode_canonical(activation.boundary)
        assert base.head == log._head


async def test_a_scoreboard_comes_in_pages_and_the_loop_has_its_turn() -> None:
    async with large() as system:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        await report(system, 100_000, *["p04999"] * 3, "p00100")
        beside = asyncio.ensure_future(others())
        await system.ask(M, "get", (REPORTER, MatchGet(1, "m", 1)))
        beside.cancel()
        assert turns >= PLAYERS // board.SLICE
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await system.ask(M, "get", (REPORTER, MatchGet(1, "m", 300, cursor)))
            assert len(page.players) <= 300 and page.player_count == PLAYERS
            found += [line.player for line in page.players]
            cursor = page.next
        assert found[:3] == ["p04999", "p00100", "p00000"]
        assert len(found) == len(set(found)) == PLAYERS
        default = await system.ask(M, "get", (REPORTER, MatchGet(1, "m")))
        assert len(default.players) == 200 and default.next
        with pytest.raises(BadInput):
            await system.ask(M, "get", (REPORTER, MatchGet(1, "m", 5, "nonsense")))


async def test_the_dashboard_shows_the_first_of_a_large_match() -> None:
    async with large() as system:
        (row,) = (await system.query("live_matches", {"leaders": 1})).rows
        assert row["players"] == 0, "a recording does not say who is present"
        assert len(row["leaders"]) == 4
        (shown,) = (await system.query("match_board", {"match": "m"})).rows
        assert len(shown["players"]) == 200 and shown["player_count"] == PLAYERS


def test_sealing_in_steps_gives_what_sealing_at_once_gives() -> None:
    from server.eventlog.entry import Record

    entries = [encode_entry(Record(n, Kill(n, f"p{n}"))) for n in range(1, 400)]
    keyframe = bytes(range(256)) * 2_000
    steps, count = segment.sealing(entries, NO_HEAD, keyframe), 0
    while True:
        try:
            next(steps)
        except StopIteration as done:
            data = done.value
            break
        count += 1
    assert count > 8, "a large keyframe is compressed in parts"
    decoded = segment.decode(data)
    assert (decoded.keyframe, decoded.entries) == (keyframe, entries)
    assert data == segment.seal(entries, NO_HEAD, keyframe)


async def test_rows_are_compared_with_what_is_stored() -> None:
    """A player who changes while a row is on its way is in the next one. The memory twin writes what differs, as SQL
    does; with the newest state noted instead of the stored one this fails."""
    settings = {"group_commit_s": 0.001, "projection_interval_s": 0.000_001}
    async with cluster(app=App, store=settings) as world:
        system = world.systems["node-1"]
        options = MatchOptions(mode="recorded", teams=0, max_players=0)
        await system.ask(M, "create", (REPORTER, MatchCreate(1, "x", 1, "m", options)))
        await system.ask(M, "start", (REPORTER, MatchStart(1, "x", 2, "m")))
        under_way, gate = asyncio.Event(), asyncio.Event()
        run = system.faults.run

        async def hold(statement: str, what: Any, work: Any) -> Any:
            if statement == "append":
                under_way.set()
                await gate.wait()
            return await run(statement, what, work)

        system.faults.run = hold  # type: ignore[method-assign]
        first = asyncio.ensure_future(report(system, 3, "ann"))
        await under_way.wait()
        beside = asyncio.ensure_future(report(system, 4, "bob"))
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(first, beside)
        await report(system, 5, "cat")
        activation = system.find(M)
        assert activation is not None
        row = world.database.entities[M]
        assert row.state is not None and row.state_version == activation.log().next_seq - 1
        assert states.decoder(MatchState)(row.state) == activation.boundary
