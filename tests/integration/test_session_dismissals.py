"""Sessions that an actor ends: with its code and reason, wherever they are, also on their way to another node."""

import asyncio
from functools import partial
from typing import Any

import pytest

from server.errors import Internal
from server.ids import NodeAddress
from server.sessions import stream_frames
from server.sessions.time_limits import Limits, TransferLimits
from server.sessions.transfer_frames import Dismissed, Shipment, decode, encode
from server.transport.ports import Answer, Service
from server.wire.messages import CloseCode, Hello
from tests.support.gateways import Echo, MemoryClient, Oust, Pilot, World, gateways, token
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time
AT_ONCE = Limits(transfer=TransferLimits(spread_s=0.01, answer_s=0.2))
SOON_OVER = Limits(transfer=TransferLimits(spread_s=0.01, answer_s=0.2, grace_s=0.05))
NODES = ("node-1", "node-2")
SPOILT = (4100, "spoilt the game")


async def welcomed(world: World, node: str, subject: str, role: str = "player", **fields: Any) -> MemoryClient:
    client = world.client(node, subject, role)
    assert (await client.hello(**fields))[0] == "welcome"
    return client


async def closed_with(client: MemoryClient) -> tuple[int, str]:
    await client.closed()
    assert client.end.closed is not None
    return client.end.closed.code, client.end.closed.reason


def dismiss(world: World, node: str, subject: str) -> None:
    """As an actor on `node` would."""
    world.nodes[node].gateway.outlet.end_sessions(subject, *SPOILT)


def left(world: World) -> list[str]:
    """The subjects of all players' sessions."""
    return [subject for node in world.nodes.values() for subject in node.gateway.table.players]


@pytest.mark.parametrize("actor_at", NODES)
@pytest.mark.parametrize("session_at", NODES)
async def test_an_attached_session_is_closed_with_the_actors_code_and_reason(actor_at: str, session_at: str) -> None:
    async with gateways(NODES, limits=AT_ONCE) as world:
        player = world.player_of("node-2")
        client = await welcomed(world, session_at, player, redirects=False)
        other = await welcomed(world, actor_at, "svc", "service")
        assert (await other.ask(Oust, player, "spoilt the game"))[2] == "ousted"
        assert await closed_with(client) == SPOILT
        await until(lambda: ("dismissed", player) in [entry[:2] for entry in Pilot.history])
        assert left(world) == []
        assert (await world.client(session_at, player).hello(redirects=False))[0] == "welcome"  # the app may refuse it


async def test_a_detached_session_cannot_be_resumed_any_more() -> None:
    async with gateways(NODES, limits=AT_ONCE) as world:
        client = await welcomed(world, "node-1", world.player_of("node-1"))
        client.end.drop()
        await until(lambda: bool(world.nodes["node-1"].gateway.table.detached))
        dismiss(world, "node-2", client.subject)
        await until(lambda: left(world) == [])
        assert client.welcome is not None
        again = world.client("node-1", client.subject)
        assert (await again.hello(resume=client.welcome.resume))[7] is False


async def test_a_hello_that_waits_for_the_actor_is_closed_too() -> None:
    async with gateways(limits=AT_ONCE) as world:
        node = world.nodes["node-1"]
        ask_now, slow = node.system.ask_now, asyncio.get_running_loop().create_future()
        node.system.ask_now = lambda actor, name, args: slow if name == "connected" else ask_now(actor, name, args)  # type: ignore[method-assign]
        client = world.client("node-1", "p")
        await client.send(Hello(1, token("p")))
        await until(lambda: bool(node.gateway.greeter.openings))
        await asyncio.sleep(0)
        dismiss(world, "node-1", "p")
        assert await closed_with(client) == SPOILT
        slow.set_result(None)
        await asyncio.sleep(0.01)
        assert left(world) == []


async def test_a_node_that_does_not_answer_is_told_again() -> None:
    async with gateways(NODES, limits=AT_ONCE) as world:
        client = await welcomed(world, "node-1", world.player_of("node-1"))
        source, target = world.nodes["node-1"].system.me, world.nodes["node-2"].system.me
        world.cluster.network.split({source}, {target})
        dismiss(world, "node-2", client.subject)
        await asyncio.sleep(0.5)
        assert left(world) == [client.subject]
        world.cluster.network.heal()
        assert await closed_with(client) == SPOILT


class Hold:
    """Node-2's side of transfers: keeps what matters until it is let go."""

    def __init__(self, world: World) -> None:
        self.world, self.kept = world, list[partial[Answer]]()
        self.serve = world.nodes["node-2"].gateway.arrivals.serve
        self.answered: list[asyncio.Future[bytes]] = []

    def shipments(self, sender: NodeAddress, payload: bytes) -> Answer:
        if not isinstance(decode(payload), Shipment) or self.kept:
            return self.serve(sender, payload)
        self.kept.append(partial(self.serve, sender, payload))
        self.answered.append(asyncio.get_running_loop().create_future())
        return self.answered[0]

    def answers(self, sender: NodeAddress, payload: bytes) -> Answer:
        answer = self.serve(sender, payload)
        if isinstance(decode(payload), Dismissed) or self.answered or not isinstance(answer, bytes):
            return answer
        self.answered.append(asyncio.get_running_loop().create_future())
        self.kept.append(partial(self.answered[0].set_result, answer))  # type: ignore[arg-type]
        return self.answered[0]


async def moving_client(world: World, hold: str) -> tuple[MemoryClient, Hold]:
    """A client of node-1 whose session has just been packed for node-2, which has not heard of it yet
    (`shipments`), or has it and has not said so (`answers`)."""
    subject = world.player_of("node-2")
    world.show("node-1", "node-2", leaving=["node-2"])
    client = await welcomed(world, "node-1", subject)
    held = Hold(world)
    world.nodes["node-2"].system.transport.serve(Service.SESSION, getattr(held, hold))
    world.show("node-1", "node-2")
    await until(lambda: bool(held.kept))
    return client, held


@pytest.mark.parametrize("actor_at", NODES)
@pytest.mark.parametrize("hold", ["shipments", "answers"])
async def test_a_session_on_its_way_is_ended_at_both_ends(actor_at: str, hold: str) -> None:
    async with gateways(NODES, limits=AT_ONCE) as world:
        client, held = await moving_client(world, hold)
        dismiss(world, actor_at, client.subject)
        assert await closed_with(client) == SPOILT
        answer = held.kept[0]()
        if hold == "shipments":
            assert isinstance(answer, bytes)
            held.answered[0].set_result(answer)
        await until(lambda: left(world) == [])
        await asyncio.sleep(1.0)  # and no repeated shipment revives it
        assert left(world) == []
        assert client.welcome is not None
        again = world.client("node-2", client.subject)
        assert (await again.hello(resume=client.welcome.resume))[7] is False


async def test_a_copy_that_its_client_has_resumed_before_the_word_comes_is_ended_with_code_and_reason() -> None:
    async with gateways(NODES, limits=AT_ONCE) as world:
        client, held = await moving_client(world, "answers")
        assert client.welcome is not None
        again = world.client("node-2", client.subject)
        world.nodes["node-1"].gateway.table.players[client.subject].end("dismissed", *SPOILT)  # node-2 is not told
        assert (await again.hello(resume=client.welcome.resume))[7] is True
        held.kept[0]()
        assert await closed_with(again) == SPOILT


@pytest.mark.parametrize("hops", [0, 1])
async def test_word_that_comes_after_the_session_has_left_follows_it(hops: int) -> None:
    async with gateways(NODES, limits=SOON_OVER) as world:
        client, held = await moving_client(world, "answers")
        held.kept[0]()
        await until(lambda: not world.nodes["node-1"].gateway.table.players)
        assert client.welcome is not None
        again = world.client("node-2", client.subject)
        assert (await again.hello(resume=client.welcome.resume, ack=1))[7] is True
        await until(lambda: not list(world.nodes["node-1"].gateway.mover.closing))  # its copy there is over
        left = world.nodes["node-1"].system.me  # the word reaches the node that the session has left, and no other
        word = stream_frames.encode(stream_frames.Dismiss(client.subject, *SPOILT, hops))
        await world.nodes["node-2"].system.transport.request(left, Service.STREAM, word, 1.0)
        if hops:
            assert await closed_with(again) == SPOILT
        else:
            assert (await again.ask(Echo, "still here"))[2] == "still here"


@pytest.mark.parametrize("settled", [False, True])
async def test_word_for_a_copy_that_has_moved_on_follows_it(settled: bool) -> None:
    """Also while its next node has not said yet that it has it."""
    async with gateways((*NODES, "node-3"), limits=AT_ONCE) as world:
        subject = world.player_of("node-3")
        client = await welcomed(world, "node-1", subject, redirects=False)
        assert client.welcome is not None
        for node in ("node-2", "node-3"):  # fetched there by its client
            again = world.client(node, subject)
            assert (await again.hello(resume=client.welcome.resume, ack=0, redirects=False))[7] is True
        if settled:
            await until(lambda: not world.nodes["node-2"].gateway.table.sessions)
        two = world.nodes["node-2"].system.me
        word = Dismissed(client.welcome.resume, 1, *SPOILT)
        world.nodes["node-1"].system.transport.send(two, Service.SESSION, encode(word))
        assert await closed_with(again) == SPOILT


async def test_only_codes_of_applications_are_taken() -> None:
    async with gateways() as world:
        client = await welcomed(world, "node-1", "p")
        activation = world.nodes["node-1"].system.find("pilot/p")
        assert activation is not None
        for code in (1000, CloseCode.BAD_TOKEN, 4099, 5000):
            with pytest.raises(Internal):
                activation.actor.end_sessions("p", "no", code)
        assert (await client.ask(Echo, "x"))[2] == "x"
