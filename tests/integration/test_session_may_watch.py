"""Actors decide who may watch them: streams and latest topics, wherever the actor lives."""

from typing import Any

import msgspec
import pytest

from server.actors.actor import Caller
from server.ids import ActorId
from server.wire.messages import Watch, WatchLatest
from tests.support.gateways import Board, Feed, GatewayNode, Light, MemoryClient, Post, SessionApp, World, gateways
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time


class ClubFeed(Feed):
    """A stream for members."""

    __slots__ = ()

    def may_watch(self, caller: Caller) -> bool:
        return caller.subject.startswith("member")


class ClubBoard(Board):
    """A latest topic for members and those who are on it."""

    __slots__ = ()

    def may_watch(self, caller: Caller) -> bool:
        return caller.subject.startswith("member") or caller.subject in self.state.lit


ClubApp = msgspec.structs.replace(SessionApp, actors=(SessionApp.actors[0], ClubFeed, ClubBoard))
KINDS = [(Watch, "ledger", "watching"), (WatchLatest, "board", "snapshot")]


async def joined(world: World, subject: str, role: str = "service") -> MemoryClient:
    client = world.client("node-1", subject, role)
    assert (await client.hello())[0] == "welcome"
    return client


def asked_of(node: GatewayNode) -> list[str]:
    """The methods that the gateway asks actors for, from now on."""
    ask_now, names = node.system.ask_now, list[str]()

    def noted(identity: Any, name: str, args: tuple[Any, ...]) -> Any:
        names.append(name)
        return ask_now(identity, name, args)

    node.system.ask_now = noted  # type: ignore[method-assign]
    return names


@pytest.mark.parametrize("owner", ["node-1", "node-2"])
@pytest.mark.parametrize(("request_type", "kind", "answer"), KINDS)
async def test_a_client_that_may_not_watch_is_refused_and_leaves_nothing(
    request_type: type[Any], kind: str, answer: str, owner: str
) -> None:
    async with gateways(("node-1", "node-2"), app=ClubApp) as world:
        stranger, member = await joined(world, "stranger"), await joined(world, "member-1")
        system = world.nodes["node-1"].system
        identities = (ActorId(f"{kind}/{number}") for number in range(1_000))
        topic = next(each for each in identities if (at := system.owner(each)) is not None and at.node == owner)
        assert (await stranger.ask(request_type, topic))[:3:2] == ["error", "forbidden"]
        gateway = world.nodes["node-1"].gateway
        assert gateway.streams.topics == {} and gateway.latest.topics == {}
        assert (await member.ask(request_type, topic))[0] == answer
        assert (await stranger.ask(request_type, topic))[2] == "forbidden"  # also when others here watch already


async def test_the_actor_is_asked_each_time_with_its_present_state() -> None:
    async with gateways(app=ClubApp) as world:
        guest, setter = await joined(world, "guest"), await joined(world, "s")
        assert (await guest.ask(WatchLatest, "board/b"))[2] == "forbidden"
        await setter.ask(Light, "b", {"guest": "green"})
        assert (await guest.ask(WatchLatest, "board/b"))[0] == "snapshot"
        await setter.ask(Light, "b", {"guest": None})
        assert (await guest.ask(WatchLatest, "board/b"))[2] == "forbidden"


async def test_an_actor_that_anybody_may_watch_is_not_asked() -> None:
    for app, asks in ((SessionApp, 0), (ClubApp, 1)):
        async with gateways(app=app) as world:
            client = await joined(world, "member-1")
            names = asked_of(world.nodes["node-1"])
            await client.ask(Watch, "ledger/f")
            await client.ask(WatchLatest, "board/b")
            await client.ask(WatchLatest, "board/b")
            assert (names.count("admits"), names.count("turns_away")) == (3 * asks, 3 * asks)
            assert [name for name in names if name.startswith("attach")] == ["attach", "attach_latest"]


async def test_a_session_that_ends_while_its_actor_is_asked_watches_nothing() -> None:
    async with gateways(("node-1", "node-2"), app=ClubApp) as world:
        member, host = await joined(world, "member-1"), await joined(world, "h", "host")
        for number in range(20):
            await member.send(Watch(100 + number, f"ledger/f{number}"))
            await member.send(WatchLatest(200 + number, f"board/b{number}"))
        member.end.close(1000)
        gateway = world.nodes["node-1"].gateway
        await until(lambda: len(gateway.table) == 1)
        assert (await host.ask(Post, "f1", ["x"]))[0] == "said"
        await until(lambda: gateway.streams.topics == {} and gateway.latest.topics == {})
