"""Sessions and their connections go over to another gateway of the same node, as to the next process: with real
sockets, whose descriptors travel over a socket pair, and with the memory twin in virtual time."""

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from server.sessions.connection import LINGER_S
from server.sessions.gateway_bequest import decode_ahead, decode_bequest
from server.sessions.picows_driver import PicowsListener
from server.sessions.session import Session
from server.succession.copying_sessions import ArrivedSessions
from server.wire.messages import Ack, Heartbeat, Watch, WatchLatest
from tests.support.gateways import Echo, Light, Note, Pilot, Post, Slow, Tell, World, connect, gateways
from tests.support.presences import MemoryPresence
from tests.support.successions import Succession
from tests.support.waiting import until
from tests.support.watchers import GONE, WatchWorld, back, looks, watched, watcher


def numbers_of(seen: list[list[Any]]) -> list[int]:
    return [message[1] for message in seen if message[0] in ("note", "events")]


@pytest.mark.virtual_time
@pytest.mark.parametrize("format", ["msgpack", "json"])
async def test_a_memory_client_notices_nothing(format: str) -> None:
    async with gateways() as world:
        node = world.nodes["node-1"]
        anna, ben = world.client("node-1", "anna", format=format), world.client("node-1", "ben")
        host = world.client("node-1", "host", "host")
        for client in (anna, ben, host):
            assert (await client.hello())[0] == "welcome"
        await anna.ask(Watch, "ledger/main")
        assert (await anna.ask(WatchLatest, "board/lights"))[0] == "snapshot"
        await host.ask(Post, "main", ["first"])
        await ben.ask(Tell, "anna", "early", 3)
        while len(numbers_of(anna.seen)) < 4:
            anna.seen.append(await anna.receive())
        await anna.send(Ack(0, 2))
        await anna.send(Heartbeat(0))
        await asyncio.sleep(0.01)
        over = Succession(world, node)
        over.copy_ahead()
        await ben.ask(Tell, "anna", "later", 2)
        over.rest()
        await anna.send(Echo(77, "while it rests"))
        await asyncio.sleep(0.05)
        over.freeze()
        await over.go()
        assert (await anna.until(lambda message: message[1] == 77))[0] == "said"
        await ben.ask(Tell, "anna", "after", 2)
        await host.ask(Post, "main", ["second"])
        while len(numbers_of(anna.seen)) < 9:
            anna.seen.append(await anna.receive())
        assert numbers_of(anna.seen) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
        session = world.nodes["node-1"].gateway.table.players["anna"]
        assert session.outbox.acked == 2 and session.beats == 1
        assert node.metrics.sessions == 3
        assert [entry for entry in Pilot.history if entry[0] != "connected"] == []
        assert len([entry for entry in Pilot.history if entry[1] == "anna"]) == 1


@pytest.mark.loops("asyncio", "uvloop")
@pytest.mark.parametrize("format", ["msgpack", "json"])
async def test_a_socket_client_notices_nothing(format: str) -> None:
    async with gateways(sockets=True) as world:
        node = world.nodes["node-1"]
        anna = await connect(node, "anna", format=format)
        ben = await connect(node, "ben")
        for client in (anna, ben):
            assert (await client.hello())[0] == "welcome"
        await ben.ask(Tell, "anna", "early", 3)
        over = Succession(world, node)
        over.copy_ahead()
        await ben.ask(Tell, "anna", "later", 2)
        over.rest()
        await anna.send(Echo(77, "while it rests"))
        late = asyncio.create_task(connect(node, "late"))
        await asyncio.sleep(0.05)
        assert not late.done()
        over.freeze()
        await over.go()
        assert (await anna.until(lambda message: message[1] == 77))[0] == "said"
        await ben.ask(Tell, "anna", "x" * 3000, 2)
        assert (await (await late).hello())[0] == "welcome"
        while len(numbers_of(anna.seen)) < 7:
            anna.seen.append(await anna.receive())
        assert numbers_of(anna.seen) == [1, 2, 3, 4, 5, 6, 7]
        assert (await anna.ask(Echo, "y" * 5000))[2] == "y" * 5000
        heir = world.nodes["node-1"]
        assert heir.metrics.sessions == 3 and not heir.metrics.connections_not_carried_total
        await anna.ws.close(1000)
        await until(lambda: "anna" not in heir.gateway.table.players)
        assert isinstance(heir.listener, PicowsListener) and len(heir.listener) == 2


async def test_clients_that_have_all_written_meanwhile_are_all_served() -> None:
    async with gateways(sockets=True) as world:
        anna, ben = [await connect(world.nodes["node-1"], name) for name in ("anna", "ben")]
        for client in (anna, ben):
            assert (await client.hello())[0] == "welcome"
        over = Succession(world, world.nodes["node-1"])
        over.copy_ahead()
        over.rest()
        for client in (anna, ben):
            await client.send(Echo(77, "while it rests"))
        await asyncio.sleep(0.05)
        over.freeze()
        await over.go()
        for client in (anna, ben):
            assert (await client.until(lambda message: message[1] == 77))[0] == "said"


# ---- what a client has been shown ----


async def _over_to(world: WatchWorld, during: Callable[[], None] = lambda: None) -> None:
    """Go over, with another engine of presence that knows the same."""
    engine, before = MemoryPresence(GONE), world.engines["node-1"]
    over = Succession(world.world, world.world.nodes["node-1"], engine)
    over.copy_ahead()
    during()
    over.rest()
    engine.shown = dict(before.shown)
    over.freeze()
    await over.go()
    world.engines["node-1"] = engine  # type: ignore[index]


@pytest.mark.virtual_time
@pytest.mark.parametrize("format", ["msgpack", "json"])
async def test_a_watcher_is_not_shown_again_what_it_has_and_is_shown_what_changes(format: str) -> None:
    async with watched() as world:
        world.show("anna", looks("on"))
        viewer = await watcher(world, "node-1", "v", format=format)
        await viewer.watch("anna", "ben")
        await _over_to(world)
        await viewer.quiet(1.0)
        world.show("anna", looks("off"))
        await viewer.shows({"anna": "off", "ben": "gone"})
        assert world.world.nodes["node-1"].metrics.presence_watched == 2
        await viewer.unwatch("anna", "ben")
        assert world.engines["node-1"].entries == {}


@pytest.mark.virtual_time
async def test_a_change_that_was_noted_and_not_sent_is_sent_there() -> None:
    async with watched(gateway={"latest_tick_ms": 1000}) as world:
        viewer = await watcher(world, "node-1", "v")
        await viewer.watch("anna", "ben")
        await _over_to(world, lambda: world.show("anna", looks("on")))
        await viewer.shows({"anna": "on", "ben": "gone"})
        assert len(viewer.frames) == 2


@pytest.mark.virtual_time
async def test_a_detached_watcher_lacks_what_changed_since_and_nothing_else() -> None:
    async with watched() as world:
        viewer = await watcher(world, "node-1", "v")
        await viewer.watch("anna", "ben", "carl")
        for number in range(5):
            world.show("carl", looks(number))
            await viewer.shows({"anna": "gone", "ben": "gone", "carl": number})
        viewer.client.end.drop()
        await asyncio.sleep(0.1)

        def change() -> None:
            world.show("anna", looks("on"))
            world.watches("node-1").tick()

        await _over_to(world, change)
        world.show("ben", looks("on"))
        await asyncio.sleep(0.1)
        again, goes_on = await back(world, viewer, "node-1")
        assert goes_on
        await again.shows({"anna": "on", "ben": "on", "carl": 4})
        assert sorted(item[0] for frame in again.frames for item in frame[2]) == ["anna", "ben"]


@pytest.mark.virtual_time
async def test_a_hidden_friend_stays_hidden_and_newer_relations_are_asked_for() -> None:
    async with watched() as world:
        world.relate("v", 1, ["anna"], ["ben"])
        world.show("anna", looks("on", "friends see this"))
        world.show("ben", looks("seen by nobody who is hidden"))
        viewer = await watcher(world, "node-1", "v")
        await viewer.watch("ben", friends=True)
        assert viewer.picture == {"anna": "friends see this", "ben": "gone"}
        await _over_to(world)
        world.show("ben", looks("seen by nobody either"))
        await viewer.quiet(0.2)
        world.relate("v", 2, ["ben"], [])
        world.show("v", looks("me"), 2)
        await viewer.shows({"ben": "seen by nobody either"})
        assert viewer.ever["ben"] == {"gone", "seen by nobody either"}


# ---- what is under way ----


async def at_rest_with_a_line(world: World) -> tuple[Pilot, Session, Succession]:
    """A client that has sent forty messages at once, its session, in which some of them wait in line, and a succession
    of its node, which is at rest."""
    client = world.client("node-1")
    await client.hello()
    for number in range(100, 140):
        await client.send(Echo(number, str(number)))
    node = world.nodes["node-1"]
    session, over = node.gateway.table.players["p"], Succession(world, node)
    while session.in_line is None or not session.in_line.messages:  # noqa: ASYNC110 - the next turn of the loop
        await asyncio.sleep(0)
    over.rest()
    return client, session, over


@pytest.mark.virtual_time
async def test_messages_in_line_are_handled_there_in_order() -> None:
    async with gateways(gateway={"rate_per_s": 10, "rate_burst": 60}) as world:
        client, _, over = await at_rest_with_a_line(world)
        over.freeze()
        await over.go()
        for number in range(100, 140):
            assert (await client.receive())[:3] == ["said", number, str(number)]
        heir = world.nodes["node-1"].gateway.table.players["p"]
        await asyncio.sleep(10)
        await client.ask(Echo, "")
        assert heir.in_line is None


@pytest.mark.virtual_time
async def test_a_request_that_waits_is_told_that_its_outcome_is_unknown_and_a_late_answer_is_dropped() -> None:
    async with gateways() as world:
        node = world.nodes["node-1"]
        client = world.client("node-1")
        await client.hello()
        await client.send(Slow(500, "late"))
        await asyncio.sleep(0.01)
        over = Succession(world, node)
        over.rest()
        assert node.gateway.succession.under_way == 1
        node.gateway.succession.end_waiting()
        assert node.gateway.succession.under_way == 0
        assert (await client.receive())[:3] == ["error", 500, "outcome_unknown"]
        assert Pilot.gate is not None
        Pilot.gate.set()
        await asyncio.sleep(0.1)
        node.gateway.succession.go_on()  # nothing comes of it
        assert (await client.ask(Echo, "goes on"))[2] == "goes on"
        assert client.seen == []


@pytest.mark.virtual_time
async def test_a_succession_that_is_called_off_has_lost_nothing() -> None:
    async with gateways() as world:
        node = world.nodes["node-1"]
        client, other = world.client("node-1"), world.client("node-1", "other")
        await client.hello()
        await other.hello()
        over = Succession(world, node)
        over.copy_ahead()
        over.rest()
        for number in range(100, 105):
            await client.send(Echo(number, "during"))
        late = world.client("node-1", "late")
        asked = asyncio.create_task(late.hello())
        await asyncio.sleep(0.2)
        assert not asked.done() and not client.seen
        over.old.gateway.succession.end_waiting()
        over.old.gateway.going_over.bequeath()
        over.barrier.end()
        node.gateway.succession.go_on()
        for number in range(100, 105):
            assert (await client.receive())[:2] == ["said", number]
        assert (await asked)[0] == "welcome"
        await other.ask(Tell, "p", "still", 2)
        assert [message[1] for message in (await client.receive(), await client.receive())] == [1, 2]


@pytest.mark.virtual_time
async def test_a_hello_that_waits_is_said_again() -> None:
    async with gateways() as world:
        node = world.nodes["node-1"]
        Pilot.refuse = ""
        client = world.client("node-1")
        over = Succession(world, node)
        over.rest()
        node.gateway.succession.end_waiting()
        assert await client.closed() == 1001
        over.freeze()
        await over.go()
        again = world.client("node-1")
        assert (await again.hello())[0] == "welcome"


# ---- connections that do not go over, and what comes wrong ----


@pytest.mark.virtual_time
async def test_a_connection_that_cannot_go_over_is_told_and_its_session_waits_there() -> None:
    async with gateways() as world:
        node = world.nodes["node-1"]
        client = world.client("node-1")
        await client.hello()
        assert client.welcome is not None
        client.end.stall()
        node.gateway.outlet.push("p", Note(0, "z" * 70_000))
        over = Succession(world, node)
        over.rest()
        over.freeze()
        await over.go()
        assert node.metrics.connections_not_carried_total == {"unsent": 1}
        again = world.client("node-1")
        welcome = await again.hello(resume=client.welcome.resume, ack=0)
        assert welcome[7] is True
        pushes = [await again.receive() for _ in range(2)]
        assert [push[:2] for push in pushes] == [["note", 1], ["going", 2]]


@pytest.mark.virtual_time
async def test_a_bad_copy_takes_no_other_along_and_its_client_begins_anew() -> None:
    async with gateways() as world:
        node = world.nodes["node-1"]
        good, bad = world.client("node-1", "good"), world.client("node-1", "bad")
        await good.hello()
        await bad.hello()
        assert bad.welcome is not None
        over = Succession(world, node)
        over.rest()
        copies, there = node.gateway.succession.copies, over.heir.gateway.succession
        over.old.gateway.succession.end_waiting()
        sessions = copies.all()
        data = [copies.pack(session) for session in sessions]
        data[1] = data[1][:-5]
        assert [there.unpack(copy) for copy in data] == [True, False]
        over.heir.gateway.going_over.inherit(node.gateway.going_over.bequeath())
        numbers = [node.gateway.succession.descriptor(session) for session in sessions]
        carried = [there.carry(session.resume, number) for session, number in zip(sessions, numbers, strict=True)]
        assert carried == [True, False]
        await over.go()
        assert (await good.ask(Echo, "goes on"))[2] == "goes on"
        assert await bad.closed() == 1006
        assert node.metrics.connections_not_carried_total == {"bad copy": 1, "no session": 1}
        again = world.client("node-1", "bad")
        assert (await again.hello(resume=bad.welcome.resume))[7] is False


@pytest.mark.virtual_time
async def test_copies_that_an_heir_cannot_read_are_named_by_their_places_and_counted() -> None:
    async with gateways() as world:
        node = world.nodes["node-1"]
        for name in ("ann", "bad", "cid"):
            await world.client("node-1", name).hello()
        over = Succession(world, node)
        over.rest()
        copies, heir = node.gateway.succession.copies, over.heir.gateway
        data = [copies.pack(session) for session in copies.all()]
        data[1] = data[1][:-5]
        assert ArrivedSessions(heir, lambda descriptor: descriptor).take(data, []) == [1]
        assert sorted(session.caller.subject for session in heir.table.sessions.values()) == ["ann", "cid"]
        assert heir.metrics.connections_not_carried_total == {"bad copy": 1}


@pytest.mark.virtual_time
async def test_a_session_whose_connection_did_not_come_waits_for_its_client() -> None:
    async with gateways(gateway={"resume_window_s": 20}) as world:
        node = world.nodes["node-1"]
        client = world.client("node-1")
        await client.hello()
        over = Succession(world, node)
        over.rest()
        node.gateway.succession.end_waiting()
        there = over.heir.gateway.succession
        (session,) = node.gateway.succession.copies.all()
        there.copies.unpack(node.gateway.succession.copies.pack(session))
        over.heir.gateway.going_over.inherit(node.gateway.going_over.bequeath())
        await over.go()
        heir = world.nodes["node-1"].gateway
        assert heir.table.players["p"].phase == "detached" and node.metrics.sessions == 0
        await asyncio.sleep(19)
        assert "p" in heir.table.players
        await asyncio.sleep(2)
        assert "p" not in heir.table.players


@pytest.mark.virtual_time
async def test_a_detached_session_waits_for_the_rest_of_its_window_there() -> None:
    async with gateways(gateway={"resume_window_s": 20}) as world:
        node = world.nodes["node-1"]
        client = world.client("node-1")
        await client.hello()
        client.end.drop()
        await asyncio.sleep(15)
        over = Succession(world, node)
        over.copy_ahead()
        over.rest()
        over.freeze()
        await over.go()
        heir = world.nodes["node-1"].gateway
        await asyncio.sleep(4)
        assert "p" in heir.table.players
        await asyncio.sleep(2)
        assert "p" not in heir.table.players


@pytest.mark.virtual_time
async def test_silent_clients_are_given_a_whole_interval_and_then_closed() -> None:
    async with gateways(gateway={"heartbeat_interval_s": 10, "heartbeats_missed": 2}) as world:
        node = world.nodes["node-1"]
        client = world.client("node-1")
        await client.hello()
        await asyncio.sleep(15)
        over = Succession(world, node)
        over.rest()
        over.freeze()
        await over.go()
        await asyncio.sleep(19)
        assert client.end.closed is None
        assert await client.closed() == 4008


@pytest.mark.virtual_time
async def test_numbers_of_sessions_and_their_order_go_on() -> None:
    async with gateways() as world:
        node = world.nodes["node-1"]
        hosts = [world.client("node-1", "h", "host") for _ in range(3)]
        for host in hosts:
            await host.hello()
        names = [session.caller.session for session in node.gateway.table.of_subject("h")]
        over = Succession(world, node)
        over.copy_ahead()
        await hosts[1].send(Heartbeat(0))  # copied again, last
        await asyncio.sleep(0.01)
        over.rest()
        over.freeze()
        await over.go()
        heir = world.nodes["node-1"].gateway
        assert [session.caller.session for session in heir.table.of_subject("h")] == names
        new = world.client("node-1", "n")
        await new.hello()
        assert new.welcome is not None and new.welcome.session not in names
        assert heir.greeter.hellos == 4


@pytest.mark.loops("asyncio", "uvloop")
@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_a_client_that_went_while_nobody_read_is_detached_there(how: str) -> None:
    async with gateways(sockets=True) as world:
        node = world.nodes["node-1"]
        client, other = await connect(node), await connect(node, "other")
        await client.hello()
        await other.hello()
        over = Succession(world, node)
        over.rest()
        sock = client.ws.transport.get_extra_info("socket")
        if how == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.ws.transport.abort()
        await asyncio.sleep(0.05)
        over.freeze()
        await over.go()
        heir = world.nodes["node-1"].gateway
        await until(lambda: heir.table.players["p"].phase == "detached")
        assert (await other.ask(Echo, "goes on"))[2] == "goes on"


@pytest.mark.loops("asyncio", "uvloop")
@pytest.mark.parametrize("who", ["client", "node", "nobody"])
async def test_a_connection_that_ends_while_the_heir_has_its_socket_too_has_ended_for_its_client(who: str) -> None:
    async with gateways(sockets=True) as world:
        node = world.nodes["node-1"]
        client, other = await connect(node), await connect(node, "other")
        for some in (client, other):
            await some.hello()
        session = node.gateway.table.players["p"]
        assert isinstance(node.listener, PicowsListener) and session.connection is not None
        there = os.dup(node.listener.descriptor(session.connection))
        try:
            async with asyncio.timeout(LINGER_S / 2):
                if who == "client":
                    await client.ws.close()
                elif who == "node":
                    session.close(4321, "planted")
                    assert await client.closed() == 4321
                else:
                    session.connection.abort()
                await client.ws.wait_closed()
        finally:
            os.close(there)
        assert (await other.ask(Echo, "goes on"))[2] == "goes on"


@pytest.mark.loops("asyncio", "uvloop")
async def test_a_push_is_written_before_its_connection_is_on_the_loop_whatever_its_size() -> None:
    async with gateways(sockets=True) as world:
        node = world.nodes["node-1"]
        clients = [await connect(node, f"c{number}") for number in range(40)]
        for client in clients:
            await client.hello()
        over = Succession(world, node)
        over.rest()
        over.freeze()
        await over.go()
        heir = world.nodes["node-1"]
        assert isinstance(heir.listener, PicowsListener) and len(heir.listener._carrier) == 40
        for number in range(len(clients)):
            for size in (10, 1_000, 200_000):
                heir.gateway.outlet.push(f"c{number}", Note(0, "x" * size))
        for client in clients:
            assert [len((await client.receive())[2]) for _ in range(3)] == [10, 1_000, 200_000]
        await until(lambda: len(heir.listener._carrier) == 0)  # type: ignore[union-attr]
        for client in clients:
            assert (await client.ask(Echo, "on the loop"))[2] == "on the loop"


@pytest.mark.loops("asyncio", "uvloop")
async def test_a_carried_connection_can_be_closed_at_once() -> None:
    async with gateways(sockets=True) as world:
        node = world.nodes["node-1"]
        client = await connect(node)
        await client.hello()
        over = Succession(world, node)
        over.rest()
        over.freeze()
        await over.go()
        world.nodes["node-1"].gateway.table.players["p"].close(4321, "planted")
        assert await client.closed() == 4321


@pytest.mark.loops("asyncio", "uvloop")
async def test_bytes_that_a_carried_socket_does_not_take_are_written_when_it_is_on_the_loop() -> None:
    async with gateways(sockets=True) as world:
        node = world.nodes["node-1"]
        client = await connect(node, max_size=None)
        await client.hello()
        over = Succession(world, node)
        over.rest()
        over.freeze()
        await over.go()
        connection = world.nodes["node-1"].gateway.table.players["p"].connection
        assert connection is not None
        for size in (10_000_000, 5, 10):
            connection.send(msgspec.msgpack.encode("x" * size))
        assert connection.buffered_bytes
        assert [len(str(await client.receive())) for _ in range(3)] == [10_000_000, 5, 10]


@pytest.mark.virtual_time
async def test_messages_in_line_stay_there_once_waiting_has_ended_and_are_handled_if_nothing_comes_of_it() -> None:
    async with gateways(gateway={"rate_per_s": 10, "rate_burst": 60}) as world:
        client, session, over = await at_rest_with_a_line(world)
        node = over.old
        node.gateway.succession.end_waiting()
        waiting = session.in_line.messages
        await asyncio.sleep(1)
        assert session.in_line.messages == waiting and node.gateway.succession.under_way == 0
        node.gateway.succession.go_on()
        for number in range(100, 140):
            assert (await client.receive())[:3] == ["said", number, str(number)]


@pytest.mark.virtual_time
async def test_pictures_that_were_copied_ahead_go_with_the_bequest_only_where_they_have_changed() -> None:
    async with watched() as world:
        node = world.world.nodes["node-1"]
        viewer = await watcher(world, "node-1", "v")
        await viewer.watch(*(f"p{number}" for number in range(700)))
        await viewer.client.ask(WatchLatest, "board/lights")
        await viewer.client.ask(Light, "lights", {"a": "on"})
        over = node.gateway.going_over
        slices = []
        while some := over.copy_ahead():
            slices.append(decode_ahead(some))
        assert [len(ahead.audiences) + len(ahead.latest) for ahead in slices] == [500, 202]
        assert decode_bequest(over.bequeath()).audiences == [] == decode_bequest(over.bequeath()).latest
        world.show("p7", looks("on"))
        await viewer.client.ask(Light, "lights", {"a": "off"})
        await asyncio.sleep(0.1)
        bequest = decode_bequest(over.bequeath())
        assert [copy.player for copy in bequest.audiences] == ["p7"]
        assert [copy.topic for copy in bequest.latest] == ["board/lights"]
        assert len(decode_ahead(over.copy_ahead()).audiences) == 1 and over.copy_ahead() == b""
        over.end_copying()
        assert len(decode_bequest(over.bequeath()).audiences) == 701
