"""Sessions that move to another node: everything in order, nothing lost, nothing twice."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
import structlog

from server.errors import BadInput, Unavailable
from server.ids import ActorId, NodeAddress
from server.sessions.broadcast import Broadcast
from server.sessions.memory import ConnectionClosed
from server.sessions.time_limits import Limits, TransferLimits
from server.sessions.transfer_frames import (
    INSTALLED,
    REFUSED,
    REPLACED,
    Forget,
    Packed,
    Shipment,
    decode,
    decode_verdicts,
    encode,
)
from server.transport.ports import Answer, Service
from server.wire.messages import Ack, Close, CloseCode, Heartbeat, Hello, Unwatch, Watch
from tests.support.gateways import Echo, MemoryClient, Note, Pilot, Post, Slow, Who, World, token
from tests.support.gateways import gateways as gateways_with
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time


def at_once(home_wait_s: float = 3.0, **times: float) -> Limits:
    """Limits by which a session that has to move moves in the next tick."""
    return Limits(home_wait_s=home_wait_s, transfer=TransferLimits(**{"spread_s": 0.01, **times}))


gateways = partial(gateways_with, limits=at_once())


async def welcomed(world: World, node: str, subject: str, role: str = "player", **fields: Any) -> MemoryClient:
    client = world.client(node, subject, role, str(fields.pop("format", "msgpack")))
    answer = await client.hello(**fields)
    assert answer[0] == "welcome", answer
    return client


async def resumed(world: World, node: str, old: MemoryClient, ack: int, **fields: Any) -> MemoryClient:
    """The same client at another node; it must have recovered."""
    assert old.welcome is not None
    client = world.client(node, old.subject, old.role, old.format)
    answer = await client.hello(resume=old.welcome.resume, ack=ack, **fields)
    assert answer[0] == "welcome", answer
    assert answer[7] is True, answer
    assert (answer[2], answer[6]) == (old.welcome.session, old.welcome.resume)
    return client


async def going(client: MemoryClient) -> list[Any]:
    return await client.until(lambda message: message[0] == "going")


async def notes(client: MemoryClient, first: int, texts: list[str], events: int = 0) -> None:
    """The next pushes are these notes and so many runs of events, numbered from `first`."""
    while texts or events:
        push = client.seen.pop(0) if client.seen else await client.receive()
        if push[0] in ("note", "going", "events"):
            assert push[1] == first, push
            first += 1
        if push[0] == "note":
            assert push[2] == texts.pop(0)
        events -= push[0] == "events"


def push(world: World, node: str, subject: str, text: str) -> None:
    """As an actor on `node` would."""
    world.nodes[node].gateway.outlet.push(subject, Note(0, text))


def mover_of(world: World, subject: str, name: str = "node-2") -> str:
    """A subject like `subject` whose slot is `name`'s as soon as that node is there."""
    table = world.view(*world.nodes).table
    for number in range(10_000):
        owner = table.owner(ActorId(f"pilot/{subject}{number}"))
        if owner is not None and owner.node == name:
            return f"{subject}{number}"
    raise AssertionError


async def welcomed_mover(world: World, **fields: Any) -> MemoryClient:
    """A client at node-1 whose slot is node-2's as soon as that node, started here, is in the view."""
    await world.add("node-2")
    return await welcomed(world, "node-1", mover_of(world, "p"), **fields)


@pytest.mark.parametrize("format", ["msgpack", "json"])
async def test_a_session_follows_its_slot_with_everything(format: str) -> None:
    async with gateways(("node-1",)) as world:
        client = await welcomed_mover(world, format=format)
        for text in "abc":
            push(world, "node-1", client.subject, text)
        await client.send(Ack(0, 1))
        await client.send(Heartbeat(0))
        world.show("node-1", "node-2")
        for text in "de":  # while it moves, from both sides
            push(world, "node-1", client.subject, text)
            push(world, "node-2", client.subject, text.upper())
        told = await going(client)
        assert told[2:] == ["memory://node-2", 2_000]
        assert [message[1] for message in client.seen if message[0] == "note"] == list(range(1, told[1]))
        push(world, "node-1", client.subject, "f")
        push(world, "node-2", client.subject, "g")
        assert (await client.ask(Echo, "still answered"))[2] == "still answered"
        client.end.close(1001)
        again = await resumed(world, "node-2", client, told[1])
        push(world, "node-1", client.subject, "h")
        seen = [message[2] for message in client.seen if message[0] == "note"]
        rest = [await again.until(lambda message: message[0] == "note") for _ in range(10 - len(seen))]
        assert [message[1] for message in rest] == list(range(told[1] + 1, told[1] + 1 + len(rest)))
        seen += [message[2] for message in rest]
        assert seen[:3] == ["a", "b", "c"]
        assert sorted(seen) == sorted("abcdeDEfgh")
        assert (await again.ask(Echo, "x"))[2] == "x"
        source, target = world.nodes["node-1"], world.nodes["node-2"]
        assert (source.metrics.sessions_handed_over_total, target.metrics.sessions_resumed_total) == (1, 1)
        await until(lambda: source.gateway.sessions_left() == 0 and source.metrics.sessions == 0)
        assert {entry[0] for entry in Pilot.history} == {"connected"}  # nothing has ended
        assert [session.beats for session in target.gateway.table.sessions.values()] == [1]


async def test_a_client_that_lost_its_connection_before_it_was_told_is_told_again() -> None:
    async with gateways(("node-1",)) as world:
        client = await welcomed_mover(world)
        push(world, "node-1", client.subject, "a")
        await client.until(lambda message: message[0] == "note")
        client.end.half_open()
        world.show("node-1", "node-2")
        await until(lambda: world.nodes["node-1"].metrics.sessions_handed_over_total == 1)
        again = await resumed(world, "node-2", client, 0)
        assert (await again.receive())[:3] == ["note", 1, "a"]
        assert (await again.receive())[:3] == ["going", 2, "memory://node-2"]
        push(world, "node-2", client.subject, "b")
        assert (await again.receive())[:3] == ["note", 3, "b"]


async def test_a_client_that_does_not_go_by_itself_is_sent() -> None:
    async with gateways(("node-1",), limits=at_once(grace_s=0.2)) as world:
        client = await welcomed_mover(world)
        await client.send(Slow(9, "late"))
        world.show("node-1", "node-2")
        await going(client)
        assert world.nodes["node-1"].gateway.sessions_left() == 1
        assert Pilot.gate is not None
        Pilot.gate.set()
        assert await client.closed() == CloseCode.MOVED
        assert ["said", 9, "late", ""] in client.seen  # it was in flight, and answered in time
        assert world.nodes["node-1"].gateway.sessions_left() == 0
        await resumed(world, "node-2", client, 1)


async def test_a_detached_session_moves_too_and_gathers_pushes() -> None:
    async with gateways(("node-1",)) as world:
        client = await welcomed_mover(world)
        push(world, "node-1", client.subject, "a")
        client.end.drop()
        await until(lambda: bool(world.nodes["node-1"].gateway.table.detached))
        world.show("node-1", "node-2")
        await until(lambda: bool(world.nodes["node-2"].gateway.table.detached))
        await until(lambda: world.nodes["node-1"].gateway.sessions_left() == 0)
        push(world, "node-2", client.subject, "b")
        again = await resumed(world, "node-2", client, 0)
        await notes(again, 1, ["a", "b"])


async def test_streams_go_on_from_their_cursors() -> None:
    async with gateways(("node-1",)) as world:
        await world.add("node-2")
        host = await welcomed(world, "node-1", "h", "host")
        subject = mover_of(world, "w")
        watcher = await welcomed(world, "node-1", subject)
        await watcher.ask(Watch, "ledger/f", 2)
        await host.ask(Post, "f", ["1", "2", "3"])
        world.show("node-1", "node-2")
        await host.ask(Post, "f", ["4"])
        told = await going(watcher)
        await host.ask(Post, "f", ["5"])
        assert (await watcher.ask(Watch, "ledger/g"))[2] == "unavailable"
        assert (await watcher.ask(Unwatch, "ledger/f"))[2] == "unavailable"
        watcher.end.close(1001)
        again = await resumed(world, "node-2", watcher, told[1])
        await host.ask(Post, "f", ["6"])
        events = [message for message in watcher.seen if message[0] == "events"]
        while not events or events[-1][3] + len(events[-1][4]) < 7:
            events.append(await again.until(lambda message: message[0] == "events"))
        numbers = [number for run in events for number in range(run[3], run[3] + len(run[4]))]
        assert numbers == [2, 3, 4, 5, 6]
        assert [event[2] for run in events for event in run[4]] == ["2", "3", "4", "5", "6"]
        assert world.nodes["node-1"].gateway.streams.topics == {}


async def test_a_leaving_node_hands_everybody_over_and_takes_nobody_in() -> None:
    async with gateways(("node-1", "node-2", "node-3")) as world:
        node = world.nodes["node-1"]
        clients = [await welcomed(world, "node-1", world.player_of("node-1", f"p{n}x")) for n in range(4)]
        clients += [await welcomed(world, "node-1", f"h{n}", "host") for n in range(3)]
        clients += [await welcomed(world, "node-1", f"s{n}", "service") for n in range(3)]
        elsewhere = world.player_of("node-2", "stays")
        clients.append(await welcomed(world, "node-1", elsewhere, redirects=False))
        clients[0].end.drop()
        await until(lambda: len(node.gateway.table.detached) == 1)
        view = world.view("node-1", "node-2", "node-3", leaving=["node-1"])
        for name in world.nodes:
            world.tell(name, view)
        assert node.gateway.leaving
        newcomer = world.client("node-1", "new", "host")
        assert (await newcomer.hello())[0] == "redirect"
        unmoved = world.client("node-1", elsewhere)
        await unmoved.send(Hello(1, token(elsewhere), redirects=False))
        assert await unmoved.closed() == CloseCode.GOING_AWAY
        await node.gateway.stop(4.0)
        assert (node.gateway.sessions_left(), node.metrics.sessions) == (0, 0)
        assert node.metrics.sessions_handed_over_total == len(clients)
        assert node.metrics.closes_total[CloseCode.GOING_AWAY] == 1  # who was not let in
        for client in clients[1:]:
            assert await client.closed() == CloseCode.MOVED
            told = next(message for message in client.seen if message[0] == "going")
            url = told[2] or "memory://node-2"
            assert (told[2] == "") == (client.subject == elsewhere)
            again = await resumed(world, url.removeprefix("memory://"), client, told[1])
            assert (await again.ask(Echo, "x") if client.role == "player" else await again.ask(Heartbeat))[0] in (
                "said",
                "beat",
            )
        assert {entry[0] for entry in Pilot.history} == {"connected"}
        assert await world.client("node-1").closed() == CloseCode.GOING_AWAY


@pytest.mark.parametrize("third", ["node-2", "node-3"])
async def test_a_client_may_come_back_anywhere(third: str) -> None:
    async with gateways(("node-1", "node-2", "node-3")) as world:
        host = await welcomed(world, "node-1", "h", "host")
        await host.ask(Post, "f", ["1"])
        await host.ask(Watch, "ledger/f")
        assert (await host.until(lambda message: message[0] == "events"))[:2] == ["events", 1]
        view = world.view("node-1", "node-2", "node-3", leaving=["node-1"])
        for name in world.nodes:
            world.tell(name, view)
        await world.nodes["node-1"].gateway.stop(0.2)
        assert await host.closed() == CloseCode.MOVED
        again = await resumed(world, third, host, 2)
        await again.ask(Post, "f", ["2"])
        await notes(again, 3, [], events=1)
        assert sum(len(world.nodes[name].gateway.table.sessions) for name in ("node-2", "node-3")) == 1


async def test_a_session_comes_to_the_node_where_its_client_is_while_the_old_one_has_it_attached() -> None:
    async with gateways(("node-1", "node-2")) as world:
        host = await welcomed(world, "node-1", "h", "host")
        again = await resumed(world, "node-2", host, 0)
        assert await host.closed() == CloseCode.MOVED
        assert host.seen == []
        assert (await again.ask(Heartbeat))[0] == "beat"
        once_more = await resumed(world, "node-1", again, 0)
        assert await again.closed() == CloseCode.MOVED
        assert (await once_more.ask(Heartbeat))[0] == "beat"
        other = world.client("node-2", "somebody else", "host")
        assert host.welcome is not None
        other.subject = "k"
        assert (await other.hello(resume=host.welcome.resume, ack=0))[7] is False
        assert (await once_more.ask(Heartbeat))[0] == "beat"


async def test_a_token_that_nobody_knows_costs_one_question() -> None:
    async with gateways(("node-1", "node-2", "node-3")) as world:
        clients = [world.client("node-1", f"h{number}", "host") for number in range(5)]
        answers = await asyncio.gather(*(one.hello(resume=f"{n:032x}") for n, one in enumerate(clients)))
        assert [answer[7] for answer in answers] == [False] * 5
        assert len(world.nodes["node-1"].gateway.seeker) == 0


async def test_a_full_target_refuses_and_the_session_goes_on_until_there_is_room() -> None:
    async with gateways(("node-1",), gateway={"max_connections": 2}) as world:
        client = await welcomed_mover(world)
        others = [await welcomed(world, "node-2", f"h{n}", "host") for n in range(2)]
        world.show("node-1", "node-2")
        await until(
            lambda: any(one.transfer is not None and one.transfer.attempt for one in _sessions(world, "node-1"))
        )
        push(world, "node-1", client.subject, "a")
        await client.until(lambda message: message[0] == "note")
        assert (await client.ask(Heartbeat))[0] == "beat"
        assert [message[0] for message in client.seen] == []
        await others[0].ask(Close)
        told = await going(client)
        assert told[1] == 2
        await resumed(world, "node-2", client, 2)


async def test_a_shipment_without_answer_is_repeated_and_taken_once() -> None:
    async with gateways(("node-1",), limits=at_once(answer_s=0.05)) as world:
        client = await welcomed_mover(world)
        source, target = world.nodes["node-1"], world.nodes["node-2"]
        network, whole = world.cluster.network, world.cluster.network.delay
        network.delay = lambda frm, to: None if frm == target.system.me else whole(frm, to)  # its answers are lost
        world.show("node-1", "node-2")
        await until(lambda: bool(target.gateway.table.sessions))
        session = _sessions(world, "node-1")[0]
        assert session.moving
        push(world, "node-1", client.subject, "late")
        network.delay = whole
        told = await going(client)
        assert client.seen == []
        again = await resumed(world, "node-2", client, told[1])
        await notes(again, told[1] + 1, ["late"])
        assert source.metrics.sessions_handed_over_total == 1


async def test_a_session_that_its_client_fetches_stands_against_an_attached_one() -> None:
    """Its connection has broken: it arrives without one, but the client is here."""
    async with gateways(("node-1", "node-2")) as world:
        player = world.player_of("node-2")
        half_open = world.client("node-2", player)
        await half_open.hello(redirects=False)
        half_open.end.half_open()
        assert half_open.welcome is not None
        later = world.client("node-1", player)
        await until(lambda: world.nodes["node-1"].gateway.ticks.wall_ms() > _since(world, "node-2"))
        await later.hello(redirects=False)
        later.end.drop()
        await until(lambda: bool(world.nodes["node-1"].gateway.table.detached))
        assert later.welcome is not None
        again = world.client("node-2", player)
        assert (await again.hello(redirects=False, resume=later.welcome.resume))[7] is True


def _since(world: World, node: str) -> int:
    [session] = world.nodes[node].gateway.table.sessions.values()
    return session.since_ms


def _other(subject: str, **fields: Any) -> Packed:
    """Another session of the player, begun long ago and detached unless `fields` say otherwise."""
    whole = Packed("f" * 32, "elsewhere", subject, "player", "msgpack", False, 1, 1_000, 0, 0, [], [], 0)
    return msgspec.structs.replace(whole, **fields)


def _ship(world: World, packed: Packed) -> int:
    """What node-2 says to this session, from node-1."""
    answer = world.nodes["node-2"].gateway.arrivals.serve(world.nodes["node-1"].system.me, encode(Shipment([packed])))
    assert isinstance(answer, bytes)
    return decode_verdicts(answer, 1)[0]


async def test_operators_see_what_a_client_calls_itself() -> None:
    """F42: in the sessions' rows and in the log, wherever the session goes, and what it is called now."""
    async with gateways(("node-1", "node-2")) as world:
        with structlog.testing.capture_logs() as logs:
            client = await welcomed(world, "node-1", world.player_of("node-1"), client="engine 1.0")
            (row,) = world.nodes["node-1"].gateway.session_rows(0, 1, client.subject)
            assert row["client"] == "engine 1.0"
            world.tell("node-1", world.view("node-1", "node-2", leaving=["node-1"]))
            told = await going(client)
            (row,) = world.nodes["node-2"].gateway.session_rows(0, 1, client.subject)
            assert (row["state"], row["client"]) == ("detached", "engine 1.0")
            await resumed(world, "node-2", client, told[1], client="engine 1.1", redirects=False)
            (row,) = world.nodes["node-2"].gateway.session_rows(0, 1, client.subject)
            assert row["client"] == "engine 1.1"
        said = [(line["event"], line["client"]) for line in logs if line["event"].startswith("session ")]
        assert said == [("session opened", "engine 1.0"), ("session resumed", "engine 1.1")]


async def test_a_session_that_cannot_be_packed_keeps_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """F8: a shipment fails for no other session, and a drain ends."""
    async with gateways(("node-1", "node-2")) as world:
        subject, others = world.player_of("node-1"), ["host-a", "host-b"]
        bad = await welcomed(world, "node-1", subject)
        good = [await welcomed(world, "node-1", other, "host") for other in others]
        session = world.nodes["node-1"].gateway.table.players[subject]
        session.beats = 2**64  # what no message can bring about
        world.tell("node-1", world.view("node-1", "node-2", leaving=["node-1"]))
        await world.nodes["node-1"].gateway.mover.hand_over_all(5.0)
        assert {session.caller.subject for session in _sessions(world, "node-2")} == set(others)
        assert world.nodes["node-1"].gateway.table.sessions == {}
        assert await bad.closed() == CloseCode.MOVED
        assert [(await going(client))[0] for client in good] == ["going", "going"]


async def test_a_session_that_cannot_be_taken_in_keeps_no_other() -> None:
    """F8: the receiver refuses it alone, and goes on with nothing of it."""
    async with gateways(("node-1", "node-2")) as world:
        good, bad = _other("good"), _other("bad", resume="b" * 32, topics=[("feed/f", 1)])
        arrivals = world.nodes["node-2"].gateway.arrivals
        restore = arrivals._watched.restore

        def breaks(session: Any, topics: Any) -> None:
            if topics:
                raise OverflowError("planted")
            restore(session, topics)

        arrivals._watched.restore = breaks  # type: ignore[method-assign]
        payload = encode(Shipment([bad, _other("no subject"), good]))
        answer = arrivals.serve(world.nodes["node-1"].system.me, payload)
        assert isinstance(answer, bytes)
        assert decode_verdicts(answer, 3) == [REFUSED, REFUSED, INSTALLED]
        assert [session.caller.subject for session in _sessions(world, "node-2")] == ["good"]


@pytest.mark.parametrize("moves_on", [False, True])
async def test_a_shipment_that_is_repeated_revives_nobody(moves_on: bool) -> None:
    """The session that it brought has ended since: its client learns that it has missed something."""
    async with gateways(("node-1", "node-2"), gateway={"outbox_max_messages": 10}) as world:
        subject = world.player_of("node-2")
        node = world.nodes["node-2"]
        assert _ship(world, _other(subject)) == INSTALLED
        if moves_on:
            world.cluster.network.delay = lambda frm, to: None
            world.tell("node-2", world.view("node-1", "node-2", leaving=["node-2"]))
            await until(lambda: _sessions(world, "node-2")[0].moving)
        (session,) = _sessions(world, "node-2")
        for number in range(11):
            session.deliver(Note(0, str(number)))
        assert node.gateway.table.sessions == {}
        world.tell("node-2", world.view("node-1", "node-2"))
        assert _ship(world, _other(subject)) == INSTALLED
        assert node.gateway.table.sessions == {}
        assert (await world.client("node-2", subject).hello(resume="f" * 32))[7] is False


async def test_a_shipment_that_is_repeated_does_not_revive_who_moved_on_and_then_left() -> None:
    async with gateways(("node-1", "node-2")) as world:
        subject = world.player_of("node-2")
        assert _ship(world, _other(subject)) == INSTALLED
        client = world.client("node-2", subject)
        assert (await client.hello(resume="f" * 32))[7] is True
        world.show("node-1", "node-2", leaving=["node-2"])
        await going(client)
        assert (await client.ask(Close))[0] == "done"
        await until(lambda: _sessions(world, "node-1") == [])
        world.show("node-1", "node-2")
        assert _ship(world, _other(subject)) == INSTALLED
        assert _sessions(world, "node-2") == []


async def test_memories_of_ended_sessions_are_dropped_in_time() -> None:
    async with gateways(("node-1", "node-2"), gateway={"resume_window_s": 0.1}) as world:
        mover = world.nodes["node-2"].gateway.mover
        assert _ship(world, _other(world.player_of("node-2"))) == INSTALLED
        await until(lambda: len(mover.ended_transfers) == 1)

        def forgotten() -> bool:
            world.show("node-1", "node-2")
            return len(mover.ended_transfers) == 0

        await until(forgotten)


async def test_a_connected_session_is_not_replaced_by_a_detached_one_whatever_the_clocks_say() -> None:
    async with gateways(("node-1", "node-2")) as world:
        subject = world.player_of("node-2")
        client = await welcomed(world, "node-2", subject)
        ahead = world.nodes["node-2"].gateway.ticks.wall_ms() + 60_000
        assert _ship(world, _other(subject, since_ms=ahead)) == REPLACED
        assert (await client.ask(Echo, "x"))[2] == "x"
        client.end.drop()
        await until(lambda: bool(world.nodes["node-2"].gateway.table.detached))
        assert _ship(world, _other(subject, sent=None)) == INSTALLED
        assert list(world.nodes["node-2"].gateway.table.sessions) == ["f" * 32]


async def test_two_sessions_of_a_player_that_are_both_on_their_way_are_not_compared() -> None:
    """Else either node might end its own in favour of the other's."""
    async with gateways(("node-1", "node-2")) as world:
        subject = world.player_of("node-2")
        await welcomed(world, "node-2", subject)
        (session,) = _sessions(world, "node-2")
        whole, world.cluster.network.delay = world.cluster.network.delay, lambda frm, to: None
        world.tell("node-2", world.view("node-1", "node-2", leaving=["node-2"]))
        await until(lambda: session.moving)
        world.tell("node-2", world.view("node-1", "node-2"))
        later = _other(subject, since_ms=session.since_ms + 60_000, sent=None)
        assert _ship(world, later) == REFUSED
        assert not session.ended
        world.cluster.network.delay = whole


async def test_a_session_that_waits_for_a_silent_node_goes_to_where_its_client_is() -> None:
    async with gateways(("node-1", "node-2", "node-3")) as world:
        source, target = world.nodes["node-1"], world.nodes["node-2"]
        hosts = [await welcomed(world, "node-1", f"h{number}", "host") for number in range(12)]
        network, whole = world.cluster.network, world.cluster.network.delay
        network.delay = lambda frm, to: None if (frm, to) == (target.system.me, source.system.me) else whole(frm, to)
        world.tell("node-1", world.view("node-1", "node-2", "node-3", leaving=["node-1"]))
        mover = source.gateway.mover
        first, second = [one for one in _sessions(world, "node-1") if one.transfer.to == target.system.me][:2]
        mover.send_now(first)
        await until(lambda: first.moving)
        mover.send_now(second)
        assert second.transfer.line == target.system.me
        client = next(host for host in hosts if host.subject == second.caller.subject)
        await resumed(world, "node-3", client, 0)
        await until(lambda: second.phase in ("transferred", "ended"))
        assert [second in queue for queue in mover._lines.values()] == [False]


async def test_when_the_target_dies_the_session_goes_on_here() -> None:
    async with gateways(("node-1",), limits=at_once(answer_s=0.05)) as world:
        client = await welcomed_mover(world)
        source, target = world.nodes["node-1"], world.nodes["node-2"]
        await client.ask(Watch, "ledger/f")
        world.cluster.network.split({source.system.me}, {target.system.me})
        world.show("node-1", "node-2")
        await until(lambda: _sessions(world, "node-1")[0].moving)
        source.gateway.pushes._deliver(client.subject, Note(0, "kept"), 0, False)
        await world.nodes.pop("node-2").listener.stop()
        await world.cluster.remove("node-2")
        world.show("node-1")
        assert (await client.receive()) == ["going", 1, "memory://node-1", 2_000]  # where it is
        assert (await client.until(lambda message: message[0] == "note"))[1:] == [2, "kept"]
        host = await welcomed(world, "node-1", "h", "host")
        await host.ask(Post, "f", ["1"])
        assert (await client.until(lambda message: message[0] == "events"))[1] == 3
        assert (await client.ask(Echo, "x"))[3] == "node-1"


async def _taken_back(world: World, deaf: int = 0) -> tuple[MemoryClient, Callable[[], object]]:
    """A client of node-1 whose session was shipped to node-2, which was silent and left the view: it
    goes on at node-1. Call the second to let the shipment arrive. Node-2 does not hear the first
    `deaf` words of who wants it forgotten."""
    client = await welcomed_mover(world)
    source, target = world.nodes["node-1"], world.nodes["node-2"]
    serve = target.gateway.arrivals.serve
    held: list[bytes] = []

    def hold(sender: NodeAddress, payload: bytes) -> Answer:
        nonlocal deaf
        if isinstance(decode(payload), Forget) and deaf:
            deaf -= 1
            raise Unavailable("deaf")
        if held or not isinstance(decode(payload), Shipment):
            return serve(sender, payload)
        held.append(payload)
        return asyncio.get_running_loop().create_future()

    target.system.transport.serve(Service.SESSION, hold)
    world.show("node-1", "node-2")
    await until(lambda: bool(held))
    world.tell("node-1", world.view("node-1"))
    assert await going(client) == ["going", 1, "memory://node-1", 2_000]  # where it is: nothing to do
    return client, lambda: serve(source.system.me, held[0])


@pytest.mark.parametrize("went_on", [False, True])
async def test_a_client_that_has_had_more_cannot_resume_a_session_that_was_taken_back(went_on: bool) -> None:
    """Also where the copy has given the same number to something else."""
    async with gateways(("node-1",)) as world:
        client, arrive = await _taken_back(world)
        arrive()
        (copy,) = world.nodes["node-2"].gateway.table.sessions.values()
        push(world, "node-1", client.subject, "a")
        await notes(client, 2, ["a"])
        if went_on:
            copy.push(Broadcast(Note(0, "b")))
            assert copy.outbox.last == 2
        again = world.client("node-2", client.subject)
        assert client.welcome is not None
        assert (await again.hello(resume=client.welcome.resume, ack=2))[7] is False


@pytest.mark.parametrize(("first", "deaf"), [("the shipment", 0), ("the word", 0), ("the word", 2)])
async def test_a_session_that_was_taken_back_is_forgotten(first: str, deaf: int) -> None:
    """Whether the shipment arrives before its receiver is told, or after; told until it answers."""
    async with gateways(("node-1",), limits=at_once(answer_s=0.1)) as world:
        client, arrive = await _taken_back(world, deaf)
        node = world.nodes["node-2"].gateway
        if first == "the shipment":
            arrive()
            assert len(node.table.sessions) == 1
        world.show("node-1", "node-2", leaving=["node-2"])
        await until(lambda: len(node.mover._departures) == 1)
        world.tell("node-2", world.view("node-1", "node-2"))  # it would take it in
        arrive()
        assert (len(node.table.sessions), len(node.table.detached)) == (0, 0)
        assert [session.moving for session in _sessions(world, "node-1")] == [False]
        assert (await client.ask(Echo, "x"))[2] == "x"  # from whichever node the actor is on
        assert {entry[0] for entry in Pilot.history} == {"connected"}
        again = await resumed(world, "node-2", client, 1)  # from where it is
        push(world, "node-1", client.subject, "a")
        await notes(again, 2, ["a"])


async def test_a_newer_session_of_the_player_stays() -> None:
    async with gateways(("node-1",)) as world:
        old = await welcomed_mover(world)
        older = _sessions(world, "node-1")[0]
        older.since_ms -= 1_000
        world.tell("node-2", world.view("node-2"))
        new = await welcomed(world, "node-2", old.subject)
        world.show("node-1", "node-2")
        assert await old.closed() == CloseCode.REPLACED
        assert (await new.ask(Echo, "x"))[3] == "node-2"
        push(world, "node-1", old.subject, "once")
        await notes(new, 1, ["once"])


async def test_a_session_that_ends_while_it_moves_is_gone_everywhere() -> None:
    async with gateways(("node-1",)) as world:
        client = await welcomed_mover(world)
        world.show("node-1", "node-2")
        await going(client)
        assert len(world.nodes["node-2"].gateway.table.sessions) == 1
        assert (await client.ask(Close))[0] == "done"
        await until(lambda: not world.nodes["node-2"].gateway.table.sessions)
        await until(lambda: ("closed", client.subject) in [entry[:2] for entry in Pilot.history])


async def test_a_view_that_comes_late_loses_no_push() -> None:
    """The slot's new owner knows first: what is pushed there goes to where the session still is."""
    async with gateways(("node-1",)) as world:
        client = await welcomed_mover(world)
        view = world.view("node-1", "node-2")
        world.tell("node-2", world.view("node-1"))
        world.nodes["node-1"].system.transport.set_peers(
            {world.nodes["node-2"].system.me: world.nodes["node-2"].system.transport.endpoint}
        )
        world.tell("node-2", view)
        push(world, "node-2", client.subject, "a")
        assert (await client.until(lambda message: message[0] == "note"))[1:] == [1, "a"]
        world.tell("node-1", view)
        told = await going(client)
        again = await resumed(world, "node-2", client, told[1])
        push(world, "node-2", client.subject, "b")
        assert (await again.until(lambda message: message[0] == "note"))[1:] == [3, "b"]


@pytest.mark.parametrize("payload", [b"", b"\xc1", encode(["x"]), encode(Shipment([]))[:-1] + b"\xdd\xff\xff\xff\xff"])
async def test_bad_bytes_from_a_node_are_bad_input(payload: bytes) -> None:
    async with gateways(("node-1", "node-2")) as world:
        source, target = world.nodes["node-1"], world.nodes["node-2"]
        with pytest.raises(BadInput):
            await source.system.transport.request(target.system.me, Service.SESSION, payload, 1.0)
        assert target.gateway.table.sessions == {}
        assert target.metrics.transport_handler_crashes_total == 0


async def test_a_lost_lease_hands_nothing_over() -> None:
    async with gateways(("node-1", "node-2")) as world:
        node = world.nodes["node-1"]
        client = await welcomed(world, "node-1", world.player_of("node-1"))
        node.gateway.close_all(CloseCode.OWNERSHIP_LOST)
        assert await client.closed() == CloseCode.OWNERSHIP_LOST
        await node.gateway.stop(1.0)
        assert node.metrics.sessions_handed_over_total == 0


async def test_a_detached_session_that_is_lost_at_a_stop_is_counted() -> None:
    async with gateways() as world:
        client = await welcomed(world, "node-1", "p")
        client.end.drop()
        node = world.nodes["node-1"]
        await until(lambda: len(node.gateway.table.detached) == 1)
        await node.gateway.stop(0.1)
        assert node.metrics.closes_total[CloseCode.GOING_AWAY] == 1
        with pytest.raises((ConnectionClosed, Unavailable)):
            await world.client("node-1").hello()


def _sessions(world: World, node: str) -> list[Any]:
    return list(world.nodes[node].gateway.table.sessions.values())


async def test_a_hello_waits_while_the_node_of_its_player_is_dead_and_the_view_does_not_know() -> None:
    async with gateways(("node-1", "node-2")) as world:
        player = world.player_of("node-2")
        dead = world.nodes["node-2"]
        await dead.system.transport.stop()
        await dead.system.node_store.bury(dead.system.me)
        client = world.client("node-1", player)
        answer = asyncio.ensure_future(client.hello(redirects=True))
        await until(
            lambda: any(opening.waits_since is not None for opening in world.nodes["node-1"].gateway.greeter.openings)
        )
        assert not answer.done()
        world.show("node-1")
        assert (await answer)[0] == "welcome"


async def test_a_hello_that_waits_for_a_node_does_not_take_the_session_from_a_later_one() -> None:
    async with gateways(("node-1", "node-2")) as world:
        player = world.player_of("node-2")
        old = await welcomed(world, "node-1", player, redirects=False)
        assert old.welcome is not None
        old.end.half_open()
        await world.nodes["node-2"].system.transport.stop()
        earlier = world.client("node-1", player)
        await earlier.send(Hello(1, token(player), old.welcome.resume))
        await until(
            lambda: any(opening.waits_since is not None for opening in world.nodes["node-1"].gateway.greeter.openings)
        )
        later = await resumed(world, "node-1", old, 0, redirects=False)
        world.show("node-1")
        assert await earlier.closed() == CloseCode.REPLACED
        assert earlier.seen == []
        assert (await later.ask(Who))[0] == "present"


async def test_a_hello_does_not_wait_for_ever() -> None:
    async with gateways(("node-1", "node-2"), limits=at_once(home_wait_s=0.2)) as world:
        player = world.player_of("node-2")
        await world.nodes["node-2"].system.transport.stop()
        answer = await world.client("node-1", player).hello(redirects=True)
        assert answer[0] == "redirect" and answer[2] == world.nodes["node-2"].url
