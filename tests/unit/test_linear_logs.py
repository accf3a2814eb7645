"""An event costs the same in a match of eight players and of fifty thousand, alone and in a report of 256: work is
counted, in calls, in bytes and in rows, because time on a shared machine says little."""

import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from game.app import App
from game.match import rules
from game.match.state import Line, Lines, MatchState
from game.messages import Created, Kill, MatchOptions, MatchReport, Started
from server.actors.actor import Caller
from server.eventlog import segment
from server.eventlog.entry import Record, encode_entry, next_head
from server.eventlog.ports import Chunk
from server.ids import ActorId
from server.storage.memory import EntityRow
from tests.support.engine import TestSystem, cluster
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time

FEW, MANY = 8, 50_000
REPORTER = Caller("host", "reporter", "s")
M = ActorId("match/m")


def named(players: int) -> EntityRow:
    """The row of a live match in which so many players have a kill: a keyframe, and one more event."""
    options = MatchOptions(mode="recorded", teams=0, max_players=0)
    state = MatchState()
    for seq, event in enumerate((Created(0, "reporter", options, 1), Started(0, 2)), 1):
        state = rules.evolve(state, Record(seq, event))
    state = replace(state, players=Lines({f"p{n}": Line(present=False, kills=1) for n in range(players)}))
    entry = encode_entry(Record(3, Kill(1, "p0")))
    head = next_head(b"h" * 16, entry)
    chunk = Chunk(3, 3, True, segment.seal([entry], b"h" * 16, state))
    return EntityRow(next_seq=4, head=head, chunks=[chunk])


class Match:
    """A live match of so many players, and what was stored of it."""

    def __init__(self, system: TestSystem, players: int) -> None:
        self._system, self._players, self._rng = system, players, random.Random(players)
        self._command = 1

    async def report(self, events: int) -> None:
        self._command += 1
        kills = [Kill(self._command, f"p{self._rng.randrange(self._players)}") for _ in range(events)]
        await self._system.ask(M, "report", (REPORTER, MatchReport(1, "x", self._command, "m", list(kills))))
        await until(lambda: not self._system.group_commit._waiting)

    async def calls_an_event(self, events: int, reports: int = 8) -> float:
        """Calls of functions, of Python's and of C's, while so many events are reported and stored."""
        await self.report(events)
        counted = 0

        def count(_frame: Any, what: str, _of: Any) -> None:
            nonlocal counted
            counted += what in ("call", "c_call")

        sys.setprofile(count)
        try:
            for _ in range(reports):
                await self.report(events)
        finally:
            sys.setprofile(None)
        return counted / (events * reports)

    async def bytes_an_event(self, events: int) -> float:
        stored = await self._system.logs.read_log("match", M)
        assert stored is not None
        before = sum(len(chunk.data) for chunk in stored.chunks)
        await self.report(events)
        stored = await self._system.logs.read_log("match", M)
        assert stored is not None
        return (sum(len(chunk.data) for chunk in stored.chunks) - before) / events


@asynccontextmanager
async def match_of(players: int) -> AsyncIterator[tuple[TestSystem, Match]]:
    settings = {"group_commit_s": 0.001, "projection_interval_s": 1_000.0}
    async with cluster(app=App, store=settings) as world:
        system = world.systems["node-1"]
        system.logs.database.entities[M] = named(players)  # type: ignore[attr-defined]
        yield system, Match(system, players)


async def test_calls_and_bytes_of_an_event_do_not_grow_with_the_players() -> None:
    found: dict[int, tuple[float, float, float]] = {}
    for players in (FEW, MANY):
        async with match_of(players) as (system, match):
            found[players] = (
                await match.calls_an_event(256), await match.calls_an_event(8), await match.bytes_an_event(256)
            )  # fmt: skip
            activation = system.find(M)
            assert activation is not None and len(activation.boundary.players) == players
    few, many = found[FEW], found[MANY]  # seen to fail with a look at every player in each report
    assert many[0] < 1.25 * few[0] and many[1] < 1.25 * few[1], found
    assert few[0] < few[1] and many[0] < many[1], "in a large report an event costs no more than in a small one"
    assert many[2] < 1.25 * few[2], found
