"""Sending presence to many: in pieces, the newest of each player, and nothing to who watches no more."""

import asyncio
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from server.ids import Incarnation, NodeAddress, NodeId
from server.runtime.metrics import Metrics
from server.sessions.presence_pictures import EVERYBODY, Values
from server.sessions.presence_sending import PresenceSender
from server.sessions.presence_tables import BY_NAME, Audience, WatchTable, link, link_all, unlink
from server.sessions.slices import Slices
from server.wire.codec import Format

pytestmark = pytest.mark.virtual_time
ME = NodeAddress(NodeId("n"), Incarnation(1))


class FakeSession:
    """A session as the sender sees it, and the frames that it was sent."""

    def __init__(self) -> None:
        self.frames: list[list[Any]] = []
        self.takes_latest = True
        self.format: Format = "msgpack"

    def send(self, data: bytes) -> None:
        self.frames.append(msgspec.msgpack.decode(data))

    def offer(self, data: bytes) -> bool:
        if self.takes_latest:
            self.send(data)
        return self.takes_latest

    @property
    def values(self) -> list[Any]:
        """The values of the only player that it watches."""
        return [value for frame in self.frames for _, _, value in frame[2]]


def packed(word: str) -> Values:
    value = msgspec.msgpack.encode(word)
    return (b"", value, value, value, value)


class Watched:
    """A player whom so many sessions watch, and a sender with slices of 20 units."""

    def __init__(self, watchers: int, at_once: int = 10) -> None:
        self.now: dict[Any, Values] = {}
        self.metrics = Metrics()
        self.sender = PresenceSender(
            ME, self.metrics, 1_000, Slices(lambda: 0.0, units=20), self.now.__getitem__, at_once, piece=5
        )
        self.player = self.add("anna")
        self.sessions = [FakeSession() for _ in range(watchers)]
        self.tables: list[WatchTable[Any]] = [WatchTable(session, False) for session in self.sessions]
        for table in self.tables:
            link_all(table, [self.player], [BY_NAME | EVERYBODY])

    def add(self, name: str) -> Any:
        player: Any = Audience(name, None)
        player.show(packed("off"), 1)
        return player

    def change(self, word: str, *players: Any) -> None:
        for player in players or [self.player]:
            self.now[player] = packed(word)
        self.sender.send(players or [self.player])

    async def begun(self) -> int:
        """The number of sessions that have been sent it, as soon as some have."""
        for _ in range(20):
            if self.reached():
                break
            await asyncio.sleep(0)
        assert 0 < self.reached() < len(self.sessions)
        return self.reached()

    def reached(self) -> int:
        return sum(1 for session in self.sessions if session.frames)


async def test_a_change_that_few_watch_is_sent_at_once() -> None:
    watched = Watched(10)
    watched.change("on")
    assert [session.values for session in watched.sessions] == [["on"]] * 10


async def test_a_change_that_many_watch_is_sent_in_pieces_and_the_loop_has_its_turn_between() -> None:
    watched = Watched(100)
    watched.change("on")
    counts = [watched.reached()]
    for _ in range(30):
        await asyncio.sleep(0)
        counts.append(watched.reached())
    assert max(after - before for before, after in pairwise(counts)) <= 20
    assert counts[-1] == 100
    assert [session.values for session in watched.sessions] == [["on"]] * 100
    assert {session.frames[0][1] for session in watched.sessions} == {watched.sender.cursor}


async def test_a_change_between_two_pieces_replaces_the_one_before_for_who_lacks_it() -> None:
    watched = Watched(100)
    watched.change("first")
    early = await watched.begun()
    watched.change("second")
    await asyncio.sleep(1)
    assert [session.values for session in watched.sessions[:early]] == [["first", "second"]] * early
    assert [session.values for session in watched.sessions[early:]] == [["second"]] * (100 - early)
    assert watched.metrics.presence_coalesced_total == 100 - early


async def test_a_session_that_watches_no_more_between_two_pieces_gets_nothing_and_nobody_is_left_out() -> None:
    watched = Watched(100)
    watched.change("on")
    early = await watched.begun()
    gone, closed = watched.tables[early + 1], watched.sessions[early + 2]
    unlink(gone, 0)  # whose place the last one takes
    watched.sender.forget(gone)
    again = watched.tables[early + 3]
    unlink(again, 0)
    link(again, watched.player, BY_NAME)  # in the same slot, before its first picture
    closed.takes_latest = False
    await asyncio.sleep(1)
    for session, table in zip(watched.sessions, watched.tables, strict=True):
        assert session.values == ([] if table in (gone, again) or session is closed else ["on"])


async def test_a_session_that_lacks_several_gets_them_in_one_frame() -> None:
    watched = Watched(3)
    other = watched.add("ben")
    for table in watched.tables:
        link_all(table, [other], [BY_NAME | EVERYBODY])
    watched.change("on", watched.player, other)
    await asyncio.sleep(1)
    for session in watched.sessions:
        assert [[item[0] for item in frame[2]] for frame in session.frames] == [["anna", "ben"]]


def test_pairs_that_are_made_together_are_those_that_are_made_one_by_one() -> None:
    players: list[Any] = [Audience(f"p{number}", None) for number in range(6)]
    for json in (False, True):
        together: WatchTable[Any] = WatchTable(None, json)
        singly: WatchTable[Any] = WatchTable(None, json)
        for table in (together, singly):
            link(table, players[0], BY_NAME)
            link(table, players[1], BY_NAME)
        unlink(together, 0)
        marks = [BY_NAME | EVERYBODY, BY_NAME, BY_NAME | EVERYBODY]
        link_all(together, players[2:5], marks)
        link_all(together, players[5:], marks[:1])
        unlink(singly, 0)
        for player, mark in zip(players[2:], [*marks, marks[0]], strict=True):
            link(singly, player, mark)
        assert together.audiences == singly.audiences and together.marks == singly.marks
        for table in (together, singly):
            for slot, player in enumerate(table.audiences):
                assert player is not None and player.tables[table.places[slot]] is table
