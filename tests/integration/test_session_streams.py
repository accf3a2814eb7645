"""Watched streams through the gateway: each event once and in order, whatever happens between."""

from typing import Any

import msgspec
import pytest

from server.errors import BadInput
from server.ids import ActorId
from server.sessions.time_limits import Limits, StreamLimits, TransferLimits
from server.transport.ports import Service
from server.wire.messages import Ack, Unwatch, Watch
from tests.support.gateways import LAST, Echo, MemoryClient, Post, World, gateways
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time
SELDOM = Limits(streams=StreamLimits(renew_s=1000.0))
"""Nothing is attached again but by the test."""


async def joined(world: World, node: str, subject: str, role: str = "service", format: str = "msgpack") -> MemoryClient:
    client = world.client(node, subject, role, format)
    assert (await client.hello())[0] == "welcome"
    return client


async def read(client: MemoryClient, topic: str, next_seq: int, end: int, ack: bool = True) -> list[str]:
    """The texts of events `next_seq` to `end - 1`, checked for order and repeats."""
    out: list[str] = []
    while next_seq < end:
        push = client.seen.pop(0) if client.seen else await client.receive()
        if push[0] != "events" or push[2] != topic:
            continue
        assert push[3] == next_seq
        out += [event[2] for event in push[4]]
        next_seq += len(push[4])
        if ack:
            await client.send(Ack(0, push[1]))
    assert next_seq == end
    return out


def feed_of(world: World, node: str) -> str:
    host = next(iter(world.nodes.values())).system
    for number in range(1_000):
        owner = host.owner(ActorId(f"ledger/f{number}"))
        if owner is not None and owner.node == node:
            return f"f{number}"
    raise AssertionError


@pytest.mark.parametrize("format", ["msgpack", "json"])
async def test_a_stream_from_the_beginning_and_live(format: str) -> None:
    async with gateways() as world:
        host = await joined(world, "node-1", "h", "host")
        watcher = await joined(world, "node-1", "w", format=format)
        await host.ask(Post, "f", ["a", "b", "é"])
        assert await watcher.ask(Watch, "ledger/f") == ["watching", 2, "ledger/f", 4]
        await host.ask(Post, "f", ["d"])
        assert await read(watcher, "ledger/f", 1, 5) == ["a", "b", "é", "d"]
        assert await watcher.ask(Unwatch, "ledger/f") == ["done", 3]
        await host.ask(Post, "f", ["e"])
        assert (await watcher.ask(Echo, "x"))[0] == "said"
        assert watcher.seen == []
        assert world.nodes["node-1"].gateway.streams.topics == {}


async def test_watching_from_a_later_event_and_again_from_an_earlier_one() -> None:
    async with gateways() as world:
        host = await joined(world, "node-1", "h", "host")
        await host.ask(Post, "f", ["1", "2", "3", "4"])
        await host.ask(Watch, "ledger/f", 3)
        assert await read(host, "ledger/f", 3, 5) == ["3", "4"]
        await host.ask(Watch, "ledger/f", 2)
        assert await read(host, "ledger/f", 2, 5) == ["2", "3", "4"]
        await host.ask(Watch, "ledger/f", 6)
        await host.ask(Post, "f", ["5", "6"])
        assert await read(host, "ledger/f", 6, 7) == ["6"]


async def test_a_client_is_told_that_a_restore_took_its_events_back() -> None:
    """It has an event which the log, restored and gone on since, has otherwise: also where the log is longer by now."""
    async with gateways() as world, gateways() as restored:
        for each, texts in ((world, ["1", "2", "3"]), (restored, ["1", "2", "other", "4"])):
            await (await joined(each, "node-1", "h", "host")).ask(Post, "f", texts)
        before = await joined(world, "node-1", "w")
        await before.ask(Watch, "ledger/f")
        push = await before.receive()
        while push[0] != "events":
            push = await before.receive()
        known = (push[3] + len(push[4]) - 1, push[5])
        assert known[0] == 3 and len(known[1]) == 16
        again = await joined(world, "node-1", "x")
        assert await again.ask(Watch, "ledger/f", 4, *known) == ["watching", 2, "ledger/f", 4]
        after = await joined(restored, "node-1", "w")
        refused = await after.ask(Watch, "ledger/f", 4, *known)
        assert refused[0] == "error" and refused[2] == "history_changed"
        assert restored.nodes["node-1"].gateway.streams.topics == {}, "it does not watch"
        assert (await after.ask(Watch, "ledger/f", 4))[0] == "watching", "a client of before says nothing of that"
        assert (await after.ask(Watch, "ledger/f", 1))[0] == "watching"


async def test_unknown_topics_cannot_be_watched() -> None:
    async with gateways(gateway={"max_subscriptions": 2}) as world:
        client = await joined(world, "node-1", "w")
        assert (await client.ask(Watch, "ledger/unknown"))[2] == "not_found"
        assert (await client.ask(Watch, "pilot/p"))[2] == "not_found"
        assert (await client.ask(Watch, "nothing/p"))[2] == "not_found"
        assert (await client.ask(Watch, "no topic"))[2] == "bad_input"
        assert (await client.ask(Watch, "ledger/a"))[0] == "watching"
        assert (await client.ask(Watch, "ledger/b"))[0] == "watching"
        assert (await client.ask(Watch, "ledger/a"))[0] == "watching"
        assert (await client.ask(Watch, "ledger/c"))[2] == "too_many_subscriptions"


async def test_watchers_on_every_node_see_the_same_stream() -> None:
    async with gateways(("node-1", "node-2", "node-3")) as world:
        feed = feed_of(world, "node-2")
        watchers = [await joined(world, f"node-{1 + n % 3}", f"w{n}") for n in range(6)]
        host = await joined(world, "node-3", "h", "host")
        for watcher in watchers[:3]:
            assert (await watcher.ask(Watch, f"ledger/{feed}"))[0] == "watching"
        wanted = [str(number) for number in range(60)]
        for number in range(0, 60, 3):
            await host.ask(Post, feed, wanted[number : number + 3])
            if number == 30:
                for watcher in watchers[3:]:  # late, from the start
                    await watcher.ask(Watch, f"ledger/{feed}")
        for watcher in watchers:
            assert await read(watcher, f"ledger/{feed}", 1, 61) == wanted


async def test_events_lost_between_nodes_are_read_from_the_log() -> None:
    limits = Limits(streams=StreamLimits(renew_s=0.2))
    async with gateways(("node-1", "node-2"), limits=limits) as world:
        feed = feed_of(world, "node-2")
        watcher = await joined(world, "node-1", "w")
        host = await joined(world, "node-2", "h", "host")
        await watcher.ask(Watch, f"ledger/{feed}")
        await host.ask(Post, feed, ["1"])
        assert await read(watcher, f"ledger/{feed}", 1, 2) == ["1"]
        network = world.cluster.network
        network.split({world.nodes["node-1"].system.me}, {world.nodes["node-2"].system.me})
        await host.ask(Post, feed, ["2", "3"])
        network.heal()
        await host.ask(Post, feed, ["4"])
        assert await read(watcher, f"ledger/{feed}", 2, 5) == ["2", "3", "4"]


async def test_a_client_that_does_not_acknowledge_is_not_flooded_with_history() -> None:
    async with gateways(gateway={"outbox_max_messages": 8}) as world:
        host = await joined(world, "node-1", "h", "host")
        for start in range(0, 4_000, 500):
            await host.ask(Post, "f", [str(number) for number in range(start, start + 500)])
        watcher = await joined(world, "node-1", "w")
        await watcher.ask(Watch, "ledger/f")
        first = [await watcher.receive() for _ in range(4)]  # half the outbox, then it waits
        rows = world.nodes["node-1"].gateway.session_rows(0, 10, "w")
        assert (rows[0]["outbox"], rows[0]["state"]) == (4, "attached")
        await host.ask(Post, "f", ["live"])  # nor does it get ahead of itself
        assert (await watcher.ask(Echo, "x"))[0] == "said"
        assert watcher.seen == []
        await watcher.send(Ack(0, first[-1][1]))
        got = sum(len(push[4]) for push in first)
        rest: list[Any] = await read(watcher, "ledger/f", 1 + got, 4_002)
        assert rest == [*[str(number) for number in range(got, 4_000)], "live"]


async def test_a_resumed_session_keeps_its_subscriptions() -> None:
    async with gateways() as world:
        host = await joined(world, "node-1", "h", "host")
        watcher = await joined(world, "node-1", "w")
        assert watcher.welcome is not None
        await watcher.ask(Watch, "ledger/f")
        await host.ask(Post, "f", ["1"])
        assert await read(watcher, "ledger/f", 1, 2, ack=False) == ["1"]
        watcher.end.drop()
        await host.ask(Post, "f", ["2"])
        await host.ask(Post, "f", ["3"])
        again = world.client("node-1", "w", "service")
        assert (await again.hello(resume=watcher.welcome.resume, ack=1))[7] is True
        await host.ask(Post, "f", ["4"])
        assert await read(again, "ledger/f", 2, 5) == ["2", "3", "4"]


async def test_the_stream_goes_on_when_its_owner_dies() -> None:
    async with gateways(("node-1", "node-2")) as world:
        feed = feed_of(world, "node-2")
        watcher = await joined(world, "node-1", "w")
        host = await joined(world, "node-1", "h", "host")
        await watcher.ask(Watch, f"ledger/{feed}")
        await host.ask(Post, feed, ["1", "2"])
        assert await read(watcher, f"ledger/{feed}", 1, 3) == ["1", "2"]
        node = world.nodes.pop("node-2")
        await node.listener.stop()
        await world.cluster.remove("node-2", clean=True)
        world.show("node-1")
        assert (await host.ask(Post, feed, ["3"]))[0] == "said"
        assert await read(watcher, f"ledger/{feed}", 3, 4) == ["3"]


async def test_a_finished_stream_leaves_its_actor_alone_and_can_be_watched_later() -> None:
    async with gateways(("node-1", "node-2")) as world:
        feed = feed_of(world, "node-2")
        topic = ActorId(f"ledger/{feed}")
        owner, streams = world.nodes["node-2"].system, world.nodes["node-1"].gateway.streams
        watcher = await joined(world, "node-1", "w")
        host = await joined(world, "node-2", "h", "host")
        await watcher.ask(Watch, topic)
        await host.ask(Post, feed, ["1", "2", LAST])
        assert await read(watcher, topic, 1, 4) == ["1", "2", LAST]
        streams.renew()
        await until(lambda: streams.topics[topic].finished)

        activation = owner.find(topic)
        assert activation is not None
        assert await owner.catalog.deactivate([activation]) == 1
        streams.renew()
        assert not streams.topics[topic].attaching and not streams.topics[topic].filling
        assert (await host.ask(Echo, "x"))[0] == "said"
        assert owner.find(topic) is None

        late = await joined(world, "node-1", "late")
        assert await late.ask(Watch, topic, 2) == ["watching", 2, topic, 4]
        assert await read(late, topic, 2, 4) == ["2", LAST]
        assert await watcher.ask(Watch, topic, 3) == ["watching", 3, topic, 4]
        assert await read(watcher, topic, 3, 4) == [LAST]


async def test_a_finished_stream_is_read_to_its_end_by_who_lags() -> None:
    async with gateways(gateway={"outbox_max_messages": 8}) as world:
        host = await joined(world, "node-1", "h", "host")
        for start in range(0, 4_000, 500):
            await host.ask(Post, "f", [str(number) for number in range(start, start + 500)])
        await host.ask(Post, "f", [LAST])
        streams = world.nodes["node-1"].gateway.streams
        watcher = await joined(world, "node-1", "w")
        await watcher.ask(Watch, "ledger/f")
        assert streams.topics["ledger/f"].finished
        first = [await watcher.receive() for _ in range(4)]  # half the outbox, then it waits
        activation = world.nodes["node-1"].system.find(ActorId("ledger/f"))
        assert activation is not None
        await world.nodes["node-1"].system.catalog.deactivate([activation])
        streams.renew()
        await watcher.ask(Echo, "x")
        assert world.nodes["node-1"].system.find(ActorId("ledger/f")) is None
        await watcher.send(Ack(0, first[-1][1]))
        got = sum(len(push[4]) for push in first)
        assert (await read(watcher, "ledger/f", 1 + got, 4_002))[-1] == LAST


def feeds_of(world: World, node: str, count: int) -> list[str]:
    host = next(iter(world.nodes.values())).system
    found = [f"f{n}" for n in range(2_000) if (owner := host.owner(ActorId(f"ledger/f{n}"))) and owner.node == node]
    assert len(found) >= count
    return found[:count]


async def test_the_bound_on_subscriptions_holds_for_those_that_are_still_asked_for() -> None:
    limits = Limits(transfer=TransferLimits(spread_s=0.01))
    async with gateways(("node-1", "node-2"), gateway={"max_subscriptions": 4}, limits=limits) as world:
        feeds = feeds_of(world, "node-2", 8)
        subject = world.player_of("node-1")
        client = await joined(world, "node-1", subject, "player")
        for number, feed in enumerate([*feeds, feeds[0]], 100):  # none is attached yet when the last is sent
            await client.send(Watch(number, f"ledger/{feed}"))
        answers = [await client.until(lambda message: message[1] >= 100) for _ in range(9)]
        said = {answer[1]: answer[2] if answer[0] == "error" else answer[0] for answer in answers}
        assert list(said.values()).count("too_many_subscriptions") == 4 + (said[108] != "watching")
        session = world.nodes["node-1"].gateway.table.players[subject]
        assert session.topics is not None
        assert len(session.topics) == 4
        assert len(world.nodes["node-1"].gateway.streams.topics) == 4

        world.show("node-1", "node-2", leaving=["node-1"])  # and so it can move
        await until(lambda: subject in world.nodes["node-2"].gateway.table.players)


async def test_more_topics_than_a_link_takes_at_a_time_are_all_attached_again() -> None:
    gateway = {"max_subscriptions": 100, "rate_burst": 1_000}
    async with gateways(("node-1", "node-2"), transport={"max_in_flight": 8}, gateway=gateway, limits=SELDOM) as world:
        feeds = feeds_of(world, "node-2", 40)
        node, owner = world.nodes["node-1"], world.nodes["node-2"].system
        client = await joined(world, "node-1", "w")
        for feed in feeds:
            assert (await client.ask(Watch, f"ledger/{feed}"))[0] == "watching"
        topics = node.gateway.streams.topics
        for hurry in (False, True):
            began = node.gateway.ticks.now()
            refused = node.metrics.transport_refused_total
            node.gateway.renew(hurry)
            assert sum(topic.attaching for topic in topics.values()) == 2  # most of the link is left to others
            await until(lambda began=began: all(topic.asked_at > began for topic in topics.values()))  # type: ignore[misc]
            assert node.metrics.transport_refused_total == refused
        assert all((one := owner.find(ActorId(f"ledger/{feed}"))) and one.log().watched for feed in feeds)


async def test_topics_that_a_link_refuses_come_first_in_the_next_renewal() -> None:
    gateway = {"max_subscriptions": 100, "rate_burst": 1_000}
    async with gateways(("node-1", "node-2"), transport={"max_in_flight": 8}, gateway=gateway, limits=SELDOM) as world:
        node = world.nodes["node-1"]
        client = await joined(world, "node-1", "w")
        for feed in feeds_of(world, "node-2", 12):
            assert (await client.ask(Watch, f"ledger/{feed}"))[0] == "watching"
        streams = node.gateway.streams
        began = node.gateway.ticks.now()
        for topic in streams.topics.values():
            streams._attach(topic)  # as if each had just been due: only 8 find room
        await until(lambda: not any(topic.attaching for topic in streams.topics.values()))
        late = [topic for topic in streams.topics.values() if topic.asked_at <= began]
        assert len(late) == 4
        streams.renew()
        assert [topic.attaching for topic in late[:2]] == [True, True]
        await until(lambda: all(topic.asked_at > began for topic in late))


async def test_a_stream_that_waits_for_room_goes_on_with_the_resume_that_makes_it() -> None:
    async with gateways(gateway={"outbox_max_messages": 8}, limits=SELDOM) as world:
        host = await joined(world, "node-1", "h", "host")
        for start in range(0, 4_000, 500):
            await host.ask(Post, "f", [str(number) for number in range(start, start + 500)])
        watcher = await joined(world, "node-1", "w")
        assert watcher.welcome is not None
        await watcher.ask(Watch, "ledger/f")
        first = [await watcher.receive() for _ in range(4)]  # half the outbox, then it waits
        watcher.end.drop()
        again = world.client("node-1", "w", "service")
        assert (await again.hello(resume=watcher.welcome.resume, ack=first[-1][1]))[7] is True
        got = sum(len(push[4]) for push in first)
        await read(again, "ledger/f", 1 + got, 4_001)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x93\x00\xa1",
        b"\x94\x00\xa2\xff\xfe\x01\x90",
        b"\x91" * 5_000,
        msgspec.msgpack.encode([7, "p"]),
        msgspec.msgpack.encode([0, "ledger/f", "one", []]),
        msgspec.msgpack.encode([1, "p", b"\xc1", 1, True]),
        msgspec.msgpack.encode([1, "p", msgspec.msgpack.encode(["nonsense", 0]), 1, True]),
    ],
)
async def test_a_malformed_message_of_a_peer_is_a_typed_error(payload: bytes) -> None:
    async with gateways(("node-1", "node-2")) as world:
        sender, receiver = (world.nodes[name].system for name in ("node-1", "node-2"))
        with pytest.raises(BadInput, match="stream message"):
            await sender.transport.request(receiver.me, Service.STREAM, payload, 1.0)
        assert receiver.metrics.transport_handler_crashes_total == 0
