"""Watchers of a stream that lag: they get events once these are public, wherever they and their stream are."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from server.actors.actor import Caller, Record, remote
from server.sessions.session import Session
from server.sessions.time_limits import Limits, StreamLimits
from server.wire.messages import Watch
from tests.integration.test_session_streams import feed_of, joined, read
from tests.support.gateways import Echo, Feed, MemoryClient, Post, Posted, Said, SessionApp, Total, World, gateways

pytestmark = pytest.mark.virtual_time
NODES = ("node-1", "node-2")
RARELY = Limits(streams=StreamLimits(renew_s=4.0))
"""What a node knows in between, it was told."""
DELAY_S = 5.0
ENOUGH_S = DELAY_S + 0.5


class StageTotal(Total, frozen=True):
    inside: tuple[str, ...] = ()


class StageFeed(Feed):
    """A stream that everybody sees late who is not in it."""

    State = StageTotal
    __slots__ = ()

    def activated(self) -> None:
        self.delay_watching(DELAY_S)

    @staticmethod
    def evolve(state: Any, record: Record) -> Any:
        word, _, name = record.event.text.partition(" ")
        inside = {"in": (*state.inside, name), "out": tuple(other for other in state.inside if other != name)}
        return msgspec.structs.replace(state, total=state.total + 1, inside=inside.get(word, state.inside))

    def guards_watch(self) -> bool:
        return True

    def lags(self, caller: Caller) -> bool:
        return caller.subject not in self.state.inside

    @remote
    def post(self, caller: Caller, message: Post) -> Said:
        for text in message.texts:
            self.emit(Posted(self.next_seq, text))
            if text == "open":
                self.delay_watching(0)
            if text.startswith(("in ", "out ")):
                self.narrow_watching()
        return Said(message.id, "posted")


App = msgspec.structs.replace(SessionApp, actors=(SessionApp.actors[0], StageFeed, SessionApp.actors[2]))


class Stage:
    """A feed at `feed_at`, and two who watch it from `node-1`: ann is inside from its first event on, bob is not."""

    def __init__(self, world: World, feed: str, host: MemoryClient, ann: MemoryClient, bob: MemoryClient) -> None:
        self.world, self.feed, self.host, self.ann, self.bob = world, feed, host, ann, bob
        self.topic = f"ledger/{feed}"
        self.streams = world.nodes["node-1"].gateway.streams

    async def post(self, *texts: str) -> None:
        assert (await self.host.ask(Post, self.feed, list(texts)))[0] == "said"

    def session(self, subject: str) -> Session:
        return self.world.nodes["node-1"].gateway.table.of_subject(subject)[0]


@asynccontextmanager
async def stage(feed_at: str = "node-1", **more: Any) -> AsyncIterator[Stage]:
    async with gateways(NODES, app=App, limits=RARELY, **more) as world:
        feed = feed_of(world, feed_at)
        host = await joined(world, feed_at, "h", "host")
        watchers = [await joined(world, "node-1", name) for name in ("ann", "bob")]
        play = Stage(world, feed, host, *watchers)
        await play.post("in ann")
        for watcher in watchers:
            answer = await watcher.ask(Watch, play.topic)
            assert answer == ["watching", 2, play.topic, 1], "nobody is told how much more there is"
        assert await read(play.ann, play.topic, 1, 2) == ["in ann"]
        yield play


async def nothing(client: MemoryClient, for_s: float = DELAY_S - 0.5) -> None:
    await asyncio.sleep(for_s)
    assert (await client.ask(Echo, "x"))[0] == "said" and client.seen == []


@pytest.mark.parametrize("feed_at", NODES)
async def test_events_come_to_who_lags_when_they_are_public_and_no_earlier(feed_at: str) -> None:
    async with stage(feed_at) as play:
        await asyncio.sleep(1.0)
        await play.post("1", "2")
        assert await read(play.ann, play.topic, 2, 4) == ["1", "2"]
        await nothing(play.bob, DELAY_S - 1.5)
        assert await read(play.bob, play.topic, 1, 2) == ["in ann"]
        await asyncio.sleep(1.0)
        assert await read(play.bob, play.topic, 2, 4) == ["1", "2"]


@pytest.mark.parametrize("feed_at", NODES)
async def test_a_group_that_is_public_is_told_at_once(feed_at: str) -> None:
    """The node does not wait until it attaches again."""
    async with stage(feed_at) as play:
        await play.post("1")
        await asyncio.sleep(ENOUGH_S)
        waiting = asyncio.get_running_loop().time()
        assert await read(play.bob, play.topic, 1, 3) == ["in ann", "1"]
        assert asyncio.get_running_loop().time() - waiting < 0.1


async def test_a_watcher_that_comes_in_gets_the_rest_at_once_and_lags_once_it_goes() -> None:
    async with stage("node-2") as play:
        await play.post("1", "in bob", "2")
        assert await read(play.bob, play.topic, 1, 5) == ["in ann", "1", "in bob", "2"]
        await play.post("out bob", "secret")
        assert await read(play.ann, play.topic, 2, 7) == ["1", "in bob", "2", "out bob", "secret"]
        await nothing(play.bob)
        await asyncio.sleep(1.0)
        assert await read(play.bob, play.topic, 5, 7) == ["out bob", "secret"]


@pytest.mark.parametrize("alone", [True, False])
async def test_a_cursor_past_the_public_end_waits_for_it(alone: bool) -> None:
    """Also that of a session that comes from another node, or watches anew."""
    async with stage("node-2") as play:
        await play.post("in bob", "1")
        assert await read(play.bob, play.topic, 1, 4) == ["in ann", "in bob", "1"]
        await play.post("out bob", "secret")
        bob = play.session("bob")
        if alone:
            play.streams.withdraw(play.session("ann"))
        cursors = play.streams.withdraw(bob)
        assert cursors == [(play.topic, 4)]
        play.streams.restore(bob, cursors)
        await nothing(play.bob, 1.0)
        assert (await play.bob.ask(Watch, play.topic, 4))[3] == 4, "less would mean that events were taken back"
        assert (await play.bob.ask(Watch, play.topic, 99))[3] == 99, "it cannot find out how many there are"
        assert (await play.bob.ask(Watch, play.topic, 4))[3] == 4
        await nothing(play.bob, DELAY_S - 2)
        await asyncio.sleep(1.5)
        assert await read(play.bob, play.topic, 4, 6) == ["out bob", "secret"]


async def test_word_of_the_public_end_that_is_lost_comes_with_the_next_attaching() -> None:
    async with stage("node-2") as play:
        await play.post("1")
        assert await read(play.ann, play.topic, 2, 3) == ["1"]
        play.streams.arrived = lambda *_: None  # type: ignore[method-assign]
        await asyncio.sleep(ENOUGH_S + RARELY.streams.renew_s + 0.5)
        assert await read(play.bob, play.topic, 1, 3) == ["in ann", "1"]


async def test_a_watcher_that_lags_is_given_no_hash_and_so_does_not_know_whether_there_is_more() -> None:
    async with stage() as play:
        await play.post("1")
        await asyncio.sleep(ENOUGH_S)
        marks: dict[str, list[str]] = {"ann": [], "bob": []}
        for name, client in (("ann", play.ann), ("bob", play.bob)):
            await client.ask(Echo, "x")
            marks[name] = [push[5] for push in client.seen if push[0] == "events" and len(push) > 5 and push[5]]
        assert marks["ann"] and not marks["bob"]


async def test_events_that_become_public_are_read_from_memory() -> None:
    """Else each node would read the store for each group of them, however many were sealed meanwhile."""
    async with stage("node-2", store={"segment_entries": 4}) as play:
        logs = play.world.nodes["node-2"].system.logs
        for number in range(40):
            await play.post(f"{number}")
        stored = await logs.read_log("ledger", play.topic)  # type: ignore[arg-type]
        assert stored is not None and sum(chunk.sealed for chunk in stored.chunks) > 5
        logs.read_log = lambda *_: pytest.fail("the store is read")  # type: ignore[method-assign, assignment]
        await asyncio.sleep(ENOUGH_S)
        assert await read(play.bob, play.topic, 1, 42) == ["in ann", *map(str, range(40))]


async def test_a_stream_that_is_opened_to_all_is_served_to_all_at_once() -> None:
    async with stage("node-2") as play:
        await play.post("1", "open", "2")
        assert await read(play.bob, play.topic, 1, 5) == ["in ann", "1", "open", "2"]
        await play.post("3")
        assert await read(play.bob, play.topic, 5, 6) == ["3"]


async def test_the_delay_begins_anew_where_the_stream_is_loaded() -> None:
    """Nobody there knows how old its events are. What was public to a node stays so."""
    async with stage("node-2") as play:
        await play.post("1")
        await asyncio.sleep(ENOUGH_S)
        assert await read(play.bob, play.topic, 1, 3) == ["in ann", "1"]
        await play.post("2")
        assert await read(play.ann, play.topic, 2, 4) == ["1", "2"]
        await asyncio.sleep(DELAY_S - 2)
        node = play.world.nodes.pop("node-2")
        await node.listener.stop()
        await play.world.cluster.remove("node-2", clean=True)
        play.world.show("node-1")
        zed = await joined(play.world, "node-1", "zed")
        assert await zed.ask(Watch, play.topic) == ["watching", 2, play.topic, 1]
        assert await read(zed, play.topic, 1, 3) == ["in ann", "1"]
        await asyncio.gather(nothing(zed), nothing(play.bob))
        await asyncio.sleep(1.0)
        for client in (zed, play.bob):
            assert await read(client, play.topic, 3, 4) == ["2"]


async def test_the_delay_goes_on_where_the_stream_moves() -> None:
    async with stage("node-2") as play:
        await play.post("1")
        await asyncio.sleep(DELAY_S - 1)
        source, target = play.world.nodes["node-2"].system, play.world.nodes["node-1"].system
        moved = source.find(play.topic)  # type: ignore[arg-type]
        assert moved is not None
        await source.migrator.move([moved], target.me)
        assert target.find(play.topic) is not None  # type: ignore[arg-type]
        await nothing(play.bob, 0.5)
        await asyncio.sleep(1.0)
        assert await read(play.bob, play.topic, 1, 3) == ["in ann", "1"]
