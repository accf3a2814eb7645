"""Watchers of a latest topic whom its actor lets in no more: the last that they get is an empty picture."""

import asyncio
from typing import Any

import msgspec
import pytest

from server.actors.actor import Caller
from server.errors import Unavailable
from server.wire.messages import Unwatch, WatchLatest
from tests.integration.test_session_latest import AT_ONCE, NODES, QUICK, Viewer, board_of, joined, resumed, topics
from tests.support.gateways import Board, Light, SessionApp, World, gateways
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time


class ClubBoard(Board):
    """A latest topic for those who are on it, and for service `owner`."""

    __slots__ = ()

    def may_watch(self, caller: Caller) -> bool:
        return caller.subject == "owner" or caller.subject in self.state.lit


App = msgspec.structs.replace(SessionApp, actors=(SessionApp.actors[0], SessionApp.actors[1], ClubBoard))


async def club(world: World, board: str = "b", at: str = "node-1") -> tuple[Any, Viewer, Viewer]:
    """Who changes the board, and two who are on it and watch it."""
    owner = await joined(world, at, "owner")
    await owner.ask(Light, board, {"ann": "green", "bob": "green"})
    viewers = [Viewer(await joined(world, "node-1", name), board) for name in ("ann", "bob")]
    for viewer in viewers:
        assert await viewer.watch() == {"ann": "green", "bob": "green"}
    return owner, *viewers  # type: ignore[return-value]


@pytest.mark.parametrize("actor_at", NODES)
async def test_a_watcher_who_is_let_in_no_more_gets_an_empty_picture_and_nothing_after(actor_at: str) -> None:
    async with gateways(NODES, app=App, gateway=QUICK, limits=AT_ONCE) as world:
        board = board_of(world, actor_at)
        owner, ann, bob = await club(world, board)
        await owner.ask(Light, board, {"bob": None, "secret": "blue"})
        await bob.shows({})
        await ann.shows({"ann": "green", "secret": "blue"})
        assert [frame[3:] for frame in bob.frames] == [[True, []]], "no change beside its end"
        await owner.ask(Light, board, {"secret": "red"})
        await ann.shows({"ann": "green", "secret": "red"})
        await bob.quiet()
        assert (await bob.client.ask(WatchLatest, bob.topic))[2] == "forbidden"
        await owner.ask(Light, board, {"bob": "white"})
        assert (await bob.watch())["bob"] == "white"
        await owner.ask(Light, board, {"secret": None})
        await bob.shows({"ann": "green", "bob": "white"})


@pytest.mark.parametrize("seen", [False, True])
async def test_a_watcher_who_was_away_is_told_when_it_comes_back(seen: bool) -> None:
    async with gateways(app=App, gateway=QUICK, limits=AT_ONCE) as world:
        owner, ann, bob = await club(world)
        bob.client.end.drop()
        await owner.ask(Light, "b", {"bob": None, "secret": "blue"})
        await ann.shows({"ann": "green", "secret": "blue"})
        again = await resumed(world, bob, "node-1", seen)
        again.picture = {"bob": "stale"}
        await again.shows({})
        assert [frame[3:] for frame in again.frames] == [[True, []]]
        ann.client.end.close(1000)
        await until(lambda: topics(world, "node-1") == {})


async def test_the_end_of_a_watch_is_told_again_where_it_was_lost() -> None:
    async with gateways(app=App, gateway=QUICK, limits=AT_ONCE) as world:
        owner, _, bob = await club(world)
        await owner.ask(Light, "b", {"bob": None})
        await bob.shows({})
        bob.client.end.drop()
        again = await resumed(world, bob, "node-1", True)
        again.picture = {"bob": "stale"}
        await again.shows({})
        assert [frame[3:] for frame in again.frames] == [[True, []]]
        again.client.end.drop()
        again.topic = "board/-/no such name"
        third = await resumed(world, again, "node-1", True)
        await third.quiet()


async def test_nothing_is_sent_while_the_actor_cannot_be_asked() -> None:
    async with gateways(NODES, app=App, gateway=QUICK, limits=AT_ONCE) as world:
        board = board_of(world, "node-2")
        owner, ann, bob = await club(world, board, "node-2")
        system = world.nodes["node-1"].system
        ask_now, refusing = system.ask_now, True

        def ask(identity: Any, name: str, args: tuple[Any, ...]) -> Any:
            if refusing and name == "turns_away":
                raise Unavailable("planted")
            return ask_now(identity, name, args)

        system.ask_now = ask  # type: ignore[method-assign]
        await owner.ask(Light, board, {"bob": None, "secret": "blue"})
        await asyncio.gather(ann.quiet(), bob.quiet())
        refusing = False
        await ann.shows({"ann": "green", "secret": "blue"})
        await bob.shows({})
        assert len(bob.frames) == 1


async def test_a_change_while_the_client_is_admitted_ends_its_watch_too() -> None:
    async with gateways(NODES, app=App, gateway=QUICK, limits=AT_ONCE) as world:
        board = board_of(world, "node-2")
        owner = await joined(world, "node-2", "owner")
        await owner.ask(Light, board, {"bob": "green"})
        bob = Viewer(await joined(world, "node-1", "bob"), board)
        system = world.nodes["node-1"].system
        ask_now = system.ask_now

        def ask(identity: Any, name: str, args: tuple[Any, ...]) -> Any:
            if name != "attach_latest":
                return ask_now(identity, name, args)

            async def attach() -> Any:
                await owner.ask(Light, board, {"bob": None})
                return await ask_now(identity, name, args)

            system.ask_now = ask_now  # type: ignore[method-assign]
            return asyncio.ensure_future(attach())

        system.ask_now = ask  # type: ignore[method-assign]
        assert (await bob.client.ask(WatchLatest, bob.topic))[2] == "forbidden"
        await until(lambda: topics(world, "node-1") == {})
        await bob.quiet()


@pytest.mark.parametrize("actor_at", NODES)
async def test_a_watcher_who_is_taken_out_once_it_is_admitted_sees_no_picture(actor_at: str) -> None:
    """Its node has the picture already, which is newer than the leave; a snapshot is as of before the last question."""
    async with gateways(NODES, app=App, gateway=QUICK, limits=AT_ONCE) as world:
        board = board_of(world, actor_at)
        owner, ann, bob = await club(world, board, actor_at)
        assert (await bob.client.ask(Unwatch, bob.topic))[0] == "done"
        system = world.nodes["node-1"].system
        ask_now = system.ask_now
        admitted: list[str] = []

        def ask(identity: Any, name: str, args: tuple[Any, ...]) -> Any:
            if name != "admits":
                return ask_now(identity, name, args)

            async def admit() -> None:
                await ask_now(identity, name, args) if actor_at == "node-2" else ask_now(identity, name, args)
                system.ask_now = ask_now  # type: ignore[method-assign]
                admitted.append(args[0].subject)
                await owner.ask(Light, board, {"bob": None, "secret": "blue"})
                await ann.shows({"ann": "green", "secret": "blue"})

            return asyncio.ensure_future(admit())

        system.ask_now = ask  # type: ignore[method-assign]
        assert (await bob.client.ask(WatchLatest, bob.topic))[2] == "forbidden"
        assert admitted == ["bob"]
        await bob.quiet()


async def test_an_answer_that_is_older_than_the_change_sends_nothing() -> None:
    """It was given before the one who asked was taken out, and comes after the change that did so."""
    async with gateways(NODES, app=App, gateway=QUICK, limits=AT_ONCE) as world:
        board = board_of(world, "node-2")
        owner, ann, bob = await club(world, board, "node-2")
        system = world.nodes["node-1"].system
        ask_now, delayed = system.ask_now, asyncio.Event()

        def ask(identity: Any, name: str, args: tuple[Any, ...]) -> Any:
            found = ask_now(identity, name, args)
            if name != "turns_away":
                return found

            async def late() -> Any:
                answer = await found
                if not delayed.is_set():
                    await owner.ask(Light, board, {"bob": None, "secret": "blue"})
                    await asyncio.sleep(0.1)
                    delayed.set()
                return answer

            return asyncio.ensure_future(late())

        system.ask_now = ask  # type: ignore[method-assign]
        await owner.ask(Light, board, {"first": "red"})
        await bob.shows({})
        await ann.shows({"ann": "green", "first": "red", "secret": "blue"})
        assert delayed.is_set() and [frame[3:] for frame in bob.frames] == [[True, []]]
