"""Watchers of a stream whom its actor lets in no more: they get word of that, and no event that is newer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from server.actors.actor import Caller, Record, remote
from server.errors import Unavailable
from server.sessions.session import Session
from server.sessions.time_limits import Limits, StreamLimits
from server.wire.messages import Ack, Watch
from tests.integration.test_session_streams import feed_of, joined, read
from tests.support.gateways import Echo, Feed, MemoryClient, Post, Posted, Said, SessionApp, Total, World, gateways
from tests.support.successions import Succession
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time
NODES = ("node-1", "node-2")
OFTEN = Limits(streams=StreamLimits(renew_s=0.5))


class ClubTotal(Total, frozen=True):
    out: tuple[str, ...] = ()


class ClubFeed(Feed):
    """A stream for all but those of whom it says that they are out. Feeds `open...` are for everybody."""

    State = ClubTotal
    __slots__ = ()

    @staticmethod
    def evolve(state: Any, record: Record) -> Any:
        word, _, name = record.event.text.partition(" ")
        out = {"out": (*state.out, name), "in": tuple(other for other in state.out if other != name)}.get(
            word, state.out
        )
        return msgspec.structs.replace(state, total=state.total + 1, out=out)

    def guards_watch(self) -> bool:
        return not self.key.startswith("open")

    def may_watch(self, caller: Caller) -> bool:
        return not self.guards_watch() or caller.subject not in self.state.out

    @remote
    def post(self, caller: Caller, message: Post) -> Said:
        for text in message.texts:
            self.emit(Posted(self.next_seq, text))
            if text.startswith("out "):
                self.narrow_watching()
        return Said(message.id, "posted")


App = msgspec.structs.replace(SessionApp, actors=(SessionApp.actors[0], ClubFeed, SessionApp.actors[2]))


class Club:
    """A feed at `feed_at`, and two who watch it from `node-1`."""

    def __init__(self, world: World, feed: str, host: MemoryClient, ann: MemoryClient, bob: MemoryClient) -> None:
        self.world, self.feed, self.host, self.ann, self.bob = world, feed, host, ann, bob
        self.topic = f"ledger/{feed}"
        self.streams = world.nodes["node-1"].gateway.streams
        self.system = world.nodes["node-1"].system

    async def post(self, *texts: str) -> None:
        assert (await self.host.ask(Post, self.feed, list(texts)))[0] == "said"

    def session(self, subject: str) -> Session:
        return self.world.nodes["node-1"].gateway.table.of_subject(subject)[0]

    def meddle(self, how: Callable[[Callable[[], Any]], Any]) -> None:
        """Let questions about watchers of this node be asked by `how`."""
        ask_now = self.system.ask_now

        def ask(identity: Any, name: str, args: tuple[Any, ...]) -> Any:
            if name != "turns_away":
                return ask_now(identity, name, args)
            return how(lambda: ask_now(identity, name, args))

        self.system.ask_now = ask  # type: ignore[method-assign]


@asynccontextmanager
async def club(feed_at: str = "node-1", **more: Any) -> AsyncIterator[Club]:
    async with gateways(NODES, app=App, limits=OFTEN, **more) as world:
        feed = feed_of(world, feed_at)
        host = await joined(world, feed_at, "h", "host")
        watchers = [await joined(world, "node-1", name) for name in ("ann", "bob")]
        play = Club(world, feed, host, *watchers)
        await play.post("1")
        for watcher in watchers:
            assert await watcher.ask(Watch, play.topic) == ["watching", 2, play.topic, 2]
            assert await read(watcher, play.topic, 1, 2) == ["1"]
        yield play


async def ended(client: MemoryClient, topic: str) -> None:
    """The next push that is there says that the watch of `topic` is over."""
    push = client.seen.pop(0) if client.seen else await client.receive()
    assert (push[0], push[2:]) == ("watch_ended", [topic, "forbidden"]), push
    await client.send(Ack(0, push[1]))


async def nothing(client: MemoryClient) -> None:
    await asyncio.sleep(1.0)
    assert (await client.ask(Echo, "x"))[0] == "said" and client.seen == []


@pytest.mark.parametrize("feed_at", NODES)
async def test_a_watcher_that_is_let_in_no_more_is_told_and_gets_nothing_newer(feed_at: str) -> None:
    async with club(feed_at) as play:
        await play.post("out bob", "secret")
        await ended(play.bob, play.topic)
        assert await read(play.ann, play.topic, 2, 4) == ["out bob", "secret"]
        await play.post("more")
        assert await read(play.ann, play.topic, 4, 5) == ["more"]
        await nothing(play.bob)
        assert (await play.bob.ask(Watch, play.topic, 2))[2] == "forbidden"
        await play.post("in bob")
        assert (await play.bob.ask(Watch, play.topic, 5))[0] == "watching"
        assert await read(play.bob, play.topic, 5, 6) == ["in bob"]
        assert await read(play.ann, play.topic, 5, 6) == ["in bob"]
        await play.post("out ann")
        await ended(play.ann, play.topic)
        assert await read(play.bob, play.topic, 6, 7) == ["out ann"]


async def test_a_watcher_that_was_away_finds_the_end_and_nothing_newer() -> None:
    async with club("node-2") as play:
        assert play.bob.welcome is not None
        play.bob.end.drop()
        await play.post("out bob", "secret")
        assert await read(play.ann, play.topic, 2, 4) == ["out bob", "secret"]
        again = play.world.client("node-1", "bob", "service")
        answer = await again.hello(resume=play.bob.welcome.resume, ack=1)
        assert answer[7] is True
        await ended(again, play.topic)
        await nothing(again)


async def test_nobody_gets_what_is_newer_while_the_actor_cannot_be_asked() -> None:
    async with club("node-2") as play:
        refuses = True

        def ask(question: Callable[[], Any]) -> Any:
            if refuses:
                raise Unavailable("planted")
            return question()

        play.meddle(ask)
        await play.post("out bob", "secret")
        await asyncio.gather(nothing(play.ann), nothing(play.bob))
        refuses = False
        await ended(play.bob, play.topic)
        assert await read(play.ann, play.topic, 2, 4) == ["out bob", "secret"]


def delayed(then: Callable[[], Awaitable[None]]) -> Callable[[Callable[[], Any]], Any]:
    """The first question's answer arrives late: once `then` is over."""
    asked = 0

    def ask(question: Callable[[], Any]) -> Any:
        nonlocal asked
        asked += 1
        if asked > 1:
            return question()

        async def late() -> Any:
            answer = await question()
            await then()
            await asyncio.sleep(0.1)
            return answer

        return asyncio.ensure_future(late())

    return ask


async def test_an_answer_that_is_older_than_the_change_lets_nobody_see_it() -> None:
    async with club("node-2") as play:
        play.meddle(delayed(lambda: play.post("out bob", "secret")))
        await play.post("out nobody")
        await ended(play.bob, play.topic)
        assert await read(play.ann, play.topic, 2, 5) == ["out nobody", "out bob", "secret"]


async def test_an_answer_about_an_earlier_watch_does_not_end_a_later_one() -> None:
    async with club("node-2") as play:
        is_back = asyncio.Event()

        async def come_again() -> None:
            await play.post("in bob")
            assert (await play.bob.ask(Watch, play.topic, 2))[0] == "watching"
            is_back.set()

        play.meddle(delayed(come_again))
        await play.post("out bob")
        await is_back.wait()
        assert await read(play.bob, play.topic, 2, 4) == ["out bob", "in bob"]


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("feed_at", NODES)
async def test_a_session_that_comes_with_its_cursor_is_asked_about(feed_at: str, alone: bool) -> None:
    async with club(feed_at) as play:
        if alone:
            play.streams.withdraw(play.session("ann"))
        bob = play.session("bob")
        cursors = play.streams.withdraw(bob)
        assert cursors == [(play.topic, 2)] and (play.topic in play.streams.topics) is not alone
        await play.post("out bob", "secret")
        play.streams.restore(bob, cursors)
        await ended(play.bob, play.topic)
        await nothing(play.bob)
        assert (play.topic in play.streams.topics) is not alone


async def test_a_watcher_that_lags_reads_no_further_in_the_log() -> None:
    async with club("node-2", gateway={"outbox_max_messages": 8}) as play:
        for number in range(6):
            await play.post(f"{number}")
        await until(lambda: play.session("bob").starved)
        await play.post("out bob", "secret")
        await asyncio.sleep(1.0)
        await play.bob.send(Ack(0, 100))
        pushes = [await play.bob.until(lambda message, number=number: message[1] == number) for number in range(2, 7)]
        assert [push[0] for push in pushes] == [*["events"] * 4, "watch_ended"]
        assert pushes[3][4][-1][2] == "3"


async def test_nobody_is_asked_about_where_everybody_may_watch() -> None:
    async with gateways(app=App, limits=OFTEN) as world:
        host, watcher = await joined(world, "node-1", "h", "host"), await joined(world, "node-1", "w")
        play = Club(world, "open", host, watcher, watcher)
        play.meddle(lambda question: pytest.fail("asked"))
        assert (await watcher.ask(Watch, "ledger/open"))[0] == "watching"
        await play.post("1", "out w", "2")
        assert await read(watcher, "ledger/open", 1, 4) == ["1", "out w", "2"]
        session = play.session("w")
        play.streams.restore(session, play.streams.withdraw(session))
        await play.post("3")
        assert await read(watcher, "ledger/open", 4, 5) == ["3"]


@pytest.mark.parametrize("feed_at", NODES)
async def test_a_watcher_that_was_let_in_need_not_be_asked_about_in_the_next_process_and_one_that_is_shut_out_is_told(
    feed_at: str,
) -> None:
    async with club(feed_at) as play:
        await play.post("out carl", "2")
        for watcher in (play.ann, play.bob):
            assert await read(watcher, play.topic, 2, 4) == ["out carl", "2"]
        asked = 0

        def ask(question: Callable[[], Any]) -> Any:
            nonlocal asked
            asked += 1
            return question()

        play.meddle(ask)
        over = Succession(play.world, play.world.nodes["node-1"])
        over.copy_ahead()
        over.rest()
        over.freeze()
        await over.go()
        await play.post("3")
        for watcher in (play.ann, play.bob):
            assert await read(watcher, play.topic, 4, 5) == ["3"]
        assert asked == 0
        await play.post("out bob", "secret")
        await ended(play.bob, play.topic)
        assert await read(play.ann, play.topic, 5, 7) == ["out bob", "secret"]
        assert asked
