"""Sessions over the in-memory connection: welcome, requests, pushes, resume, moves, ends."""

import asyncio
from collections.abc import Callable

import pytest

from server.actors.actor import Caller, remote
from server.actors.devices import UNTOLD, Login
from server.errors import DeadlineExceeded
from server.ids import ActorId
from server.sessions.memory import ConnectionClosed
from server.sessions.time_limits import Limits, TransferLimits
from server.sessions.tokens import issue
from server.wire.messages import Ack, Close, CloseCode, Heartbeat, Hello
from tests.support.gateways import (
    KEY,
    Broken,
    Echo,
    GatewayNode,
    MemoryClient,
    Pilot,
    Post,
    Slow,
    Tell,
    Who,
    World,
    gateways,
    token,
)
from tests.support.virtual_time import LoopClock
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time


async def welcomed(world: World, node: str = "node-1", subject: str = "p", **fields: object) -> MemoryClient:
    role = str(fields.pop("role", "player"))
    client = world.client(node, subject, role, str(fields.pop("format", "msgpack")))
    answer = await client.hello(**fields)
    assert answer[0] == "welcome", answer
    return client


@pytest.mark.parametrize("format", ["msgpack", "json"])
async def test_a_session_from_hello_to_goodbye(format: str) -> None:
    async with gateways() as world:
        client = await welcomed(world, format=format)
        assert client.welcome is not None
        assert (client.welcome.subject, client.welcome.role, client.welcome.recovered) == ("p", "player", False)
        assert client.welcome.heartbeat_interval_ms == 5_000
        assert await client.ask(Heartbeat) == ["beat", 2]
        assert await client.ask(Echo, "hei") == ["said", 3, "hei", "node-1"]
        assert await client.ask(Close) == ["done", 4]
        assert await client.closed() == CloseCode.NORMAL
        node = world.nodes["node-1"]
        await until(lambda: Pilot.history[-1][0] == "closed")
        assert (node.metrics.sessions, node.gateway.table.sessions, node.gateway.table.players) == (0, {}, {})
        activation = node.system.find("pilot/p")
        assert activation is not None
        assert activation.pins == 0


async def test_each_request_gets_one_answer_or_one_typed_error() -> None:
    async with gateways() as world:
        client = await welcomed(world)
        assert (await client.ask(Broken))[2:] == ["internal", "ZeroDivisionError in pilot", None]
        assert (await client.ask(Post, "f", ["x"]))[2] == "forbidden"
        assert (await client.ask(Hello, "again"))[2] == "bad_input"
        assert (await client.ask(Who))[2:] == [["p"], []]
        await client.send(["nonsense", 77, 1, 2])
        assert (await client.receive())[:3] == ["error", 77, "unknown_type"]
        await client.send(["echo", 78, 5])
        assert (await client.receive())[:3] == ["error", 78, "bad_frame"]
        await client.send_raw(b"\xc1")
        assert (await client.receive())[:3] == ["error", 0, "bad_frame"]
        await client.send(Echo(0, "no id"))
        assert (await client.receive())[:3] == ["error", 0, "bad_input"]
        assert (await client.ask(Echo, "still here"))[2] == "still here"
        assert client.seen == []


async def test_requests_that_wait_are_bounded() -> None:
    async with gateways(gateway={"max_in_flight": 3}) as world:
        client = await welcomed(world)
        for number in (11, 12, 13, 14):
            await client.send(Slow(number, str(number)))
        assert (await client.receive())[:3] == ["error", 14, "overloaded"]
        assert Pilot.gate is not None
        Pilot.gate.set()
        assert sorted([(await client.receive())[1] for _ in range(3)]) == [11, 12, 13]


async def test_heartbeats_without_id_are_acknowledged_together() -> None:
    async with gateways(gateway={"cumulative_ack_interval_s": 0.3}) as world:
        client = await welcomed(world)
        for _ in range(5):
            await client.send(Heartbeat(0))
        assert await client.receive() == ["beats", 5]
        for _ in range(2):
            await client.send(Heartbeat(0))
        assert (await client.ask(Echo, "x"))[0] == "said"
        assert await client.receive() == ["beats", 7]  # with the next frame


async def test_short_heartbeat_intervals_are_acknowledged_in_time() -> None:
    async with gateways(gateway={"heartbeat_interval_s": 0.2}) as world:  # its clients wait 0.6 s for a word
        client = await welcomed(world)
        await client.send(Heartbeat(0))
        async with asyncio.timeout(4):  # less than `cumulative_ack_interval_s`
            assert await client.receive() == ["beats", 1]


@pytest.mark.parametrize(("interval_s", "most_s"), [(5.0, 4.9), (1.0, 0.9), (0.2, 0.1)])
async def test_acknowledgements_leave_time_for_their_way(interval_s: float, most_s: float) -> None:
    """Sent a tick late, they still come before a client that heard nothing would ask."""
    async with gateways(gateway={"heartbeat_interval_s": interval_s, "cumulative_ack_interval_s": 9.0}) as world:
        gateway = world.nodes["node-1"].gateway
        assert 0.5 * interval_s <= gateway.kit.ack_interval_s <= most_s
        client = await welcomed(world)
        before = gateway.ticks.now()
        await client.send(Heartbeat(0))
        session = gateway.table.players["p"]
        await until(lambda: session._pay_at is not None)
        assert session._pay_at is not None
        assert session._pay_at >= before + gateway.kit.ack_interval_s
    async with gateways(gateway={"cumulative_ack_interval_s": 0.3}) as world:
        assert world.nodes["node-1"].gateway.kit.ack_interval_s == 0.3


async def test_acknowledgements_that_went_with_another_frame_leave_nothing_behind() -> None:
    async with gateways(gateway={"cumulative_ack_interval_s": 0.3}) as world:
        client = await welcomed(world)
        wheel = world.nodes["node-1"].gateway.ticks.wheel
        before = len(wheel)
        for number in range(10):
            await client.send(Heartbeat(0))
            await client.ask(Echo, "x")
            assert await client.receive() == ["beats", number + 1]
        assert len(wheel) <= before + 1
        await client.send(Heartbeat(0))
        assert await client.receive() == ["beats", 11]


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (lambda: Hello(1, "rubbish"), CloseCode.BAD_TOKEN),
        (lambda: Hello(1, token("p", ttl_s=1), client="x"), None),
        (lambda: Heartbeat(1), CloseCode.PROTOCOL_ERROR),
        (lambda: ["nonsense", 1], CloseCode.PROTOCOL_ERROR),
        (lambda: 7, CloseCode.PROTOCOL_ERROR),
    ],
)
async def test_the_first_message(first: Callable[[], object], code: int | None) -> None:
    async with gateways() as world:
        client = world.client("node-1")
        await client.send(first())
        if code is None:
            assert (await client.receive())[0] == "welcome"
            return
        assert await client.closed() == code
        assert client.seen[0][0] == "error"
        assert world.nodes["node-1"].gateway.greeter.openings == {}


async def test_an_expired_token_has_its_own_code() -> None:
    async with gateways() as world:
        client = world.client("node-1")
        await client.send(Hello(1, token("p", ttl_s=5, ago_s=60)))
        assert await client.closed() == CloseCode.TOKEN_EXPIRED


async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with gateways(gateway={"hello_timeout_s": 0.2}) as world:
        assert await world.client("node-1").closed() == CloseCode.HELLO_TIMEOUT


async def test_a_player_that_the_application_refuses() -> None:
    async with gateways() as world:
        Pilot.refuse = "banned"
        client = world.client("node-1")
        await client.send(Hello(1, token("p")))
        assert await client.closed() == CloseCode.BAD_TOKEN
        assert client.seen[0][:3] == ["error", 1, "banned"]


async def test_a_player_that_cannot_be_had_just_now_may_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Pilot.connected

    @remote
    def connected(self: Pilot, caller: Caller, login: Login = UNTOLD) -> None:
        taken(self, caller)
        raise DeadlineExceeded("planted")

    monkeypatch.setattr(Pilot, "connected", connected)
    async with gateways() as world:
        client = world.client("node-1")
        await client.send(Hello(1, token("p")))
        assert await client.closed() == CloseCode.INTERNAL
        assert client.seen[0][:3] == ["error", 1, "deadline_exceeded"]
        assert [event for event, _, _ in Pilot.history] == ["connected", "closed"], (
            "the actor is told that it does not begin"
        )


async def test_messages_sent_before_the_welcome_are_handled_after_it() -> None:
    async with gateways() as world:
        client = world.client("node-1")
        await client.send(Hello(1, token("p")))
        await client.send(Echo(2, "early"))
        assert [(await client.receive())[0] for _ in range(2)] == ["welcome", "said"]


async def test_pushes_are_numbered_and_resumed_in_order() -> None:
    async with gateways() as world:
        client = await welcomed(world)
        await client.ask(Tell, "p", "a", 3)
        first = [await client.receive() for _ in range(3)] if not client.seen else client.seen
        assert [push[1] for push in first] == [1, 2, 3]
        assert client.welcome is not None
        resume = client.welcome.resume
        client.end.drop()
        node = world.nodes["node-1"]
        await until(lambda: len(node.gateway.table.detached) == 1)
        other = await welcomed(world, role="service", subject="q")
        await other.ask(Tell, "p", "b", 2)  # while nobody is connected
        again = world.client("node-1")
        answer = await again.hello(resume=resume, ack=2)
        assert answer[7] is True
        assert answer[2] == client.welcome.session
        assert [(await again.receive())[1:3] for _ in range(3)] == [[3, "a2"], [4, "b0"], [5, "b1"]]
        assert [entry[0] for entry in Pilot.history] == ["connected"]  # the short break was none of its business
        assert node.metrics.sessions_resumed_total == 1


@pytest.mark.parametrize("how", ["unknown token", "another player", "claims too much", "another format"])
async def test_a_session_that_cannot_be_resumed_whole_is_not_resumed(how: str) -> None:
    async with gateways() as world:
        client = await welcomed(world)
        await client.ask(Tell, "p", "a", 3)
        assert client.welcome is not None
        resume = client.welcome.resume if how != "unknown token" else "f" * 32
        client.end.drop()
        subject, format = "q" if how == "another player" else "p", "json" if how == "another format" else "msgpack"
        again = world.client("node-1", subject, format=format)
        answer = await again.hello(resume=resume, ack=99 if how == "claims too much" else 1)
        assert answer[7] is False
        assert (await again.ask(Echo, "x"))[0] == "said"
        assert again.seen == []


async def test_a_half_open_connection_is_resumed_over() -> None:
    async with gateways() as world:
        client = await welcomed(world)
        assert client.welcome is not None
        client.end.half_open()
        again = world.client("node-1")
        assert (await again.hello(resume=client.welcome.resume, ack=0))[7] is True
        assert (await again.ask(Echo, "x"))[2] == "x"
        assert world.nodes["node-1"].metrics.closes_total == {CloseCode.REPLACED: 1}
        assert world.nodes["node-1"].metrics.sessions == 1


async def test_the_resume_window_ends() -> None:
    async with gateways(gateway={"resume_window_s": 0.2}) as world:
        client = await welcomed(world)
        client.end.drop()
        await until(lambda: bool(Pilot.history) and Pilot.history[-1][0] == "expired")
        assert world.nodes["node-1"].gateway.table.sessions == {}


async def test_a_second_session_of_a_player_replaces_the_first() -> None:
    async with gateways() as world:
        first, second = await welcomed(world), await welcomed(world)
        assert await first.closed() == CloseCode.REPLACED
        assert (await second.ask(Echo, "x"))[2] == "x"
        await until(lambda: len(Pilot.history) == 3)
        assert [entry[0] for entry in Pilot.history] == ["connected", "connected", "replaced"]
        hosts = [await welcomed(world, role="host", subject="h") for _ in range(2)]
        for host in hosts:
            assert (await host.ask(Heartbeat))[0] == "beat"


async def half_open_session(world: World) -> str:
    """The resume token of p's session, whose connection nobody serves any more."""
    client = await welcomed(world)
    assert client.welcome is not None
    client.end.half_open()
    return client.welcome.resume


def hold_first_connected(node: GatewayNode, monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """The actor answers the next session when what is put into the list is called."""
    ask_now, slow = node.system.ask_now, asyncio.get_running_loop().create_future()
    late: list[Callable[[], object]] = []

    def slow_once(actor: ActorId, name: str, args: tuple[object, ...]) -> object:
        if name != "connected" or late:
            return ask_now(actor, name, args)
        late.append(lambda: slow.set_result(ask_now(actor, name, args)))
        return slow

    monkeypatch.setattr(node.system, "ask_now", slow_once)
    return late


@pytest.mark.parametrize("resumes", [False, True])
async def test_an_earlier_hello_that_is_answered_later_replaces_nobody(
    resumes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateways() as world:
        node, resume = world.nodes["node-1"], await half_open_session(world)
        late = hold_first_connected(node, monkeypatch)
        earlier, later = world.client("node-1"), world.client("node-1")
        await earlier.send(Hello(1, token("p")))
        await until(lambda: bool(late))
        assert (await later.hello(resume=resume if resumes else None))[7] is resumes
        late[0]()
        assert await earlier.closed() == CloseCode.REPLACED
        assert (await later.ask(Echo, "x"))[2] == "x"
        assert later.welcome is not None
        activation = node.system.find("pilot/p")
        assert activation is not None
        await until(lambda: activation.actor.sessions == [later.welcome and later.welcome.session])
        assert [session.caller.session for session in node.gateway.table.players.values()] == [later.welcome.session]


async def test_an_earlier_hello_does_not_give_way_to_a_session_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateways() as world:
        resume = await half_open_session(world)
        answer = hold_first_connected(world.nodes["node-1"], monkeypatch)
        earlier, later = world.client("node-1"), world.client("node-1")
        await earlier.send(Hello(1, token("p"), resume, 99))  # nothing to resume from
        await until(lambda: bool(answer))
        assert (await later.hello(resume=resume))[7] is True
        await later.ask(Close)
        await later.closed()
        answer[0]()
        assert (await earlier.receive())[0] == "welcome"


async def test_missed_heartbeats_close_and_may_be_resumed() -> None:
    async with gateways(gateway={"heartbeat_interval_s": 0.1, "heartbeats_missed": 3}) as world:
        client = await welcomed(world)
        assert await client.closed() == CloseCode.HEARTBEAT_MISSED
        assert client.welcome is not None
        assert (await world.client("node-1").hello(resume=client.welcome.resume))[7] is True


async def test_a_flood_is_refused_and_then_closed() -> None:
    async with gateways(gateway={"rate_per_s": 10, "rate_burst": 20, "rate_violations": 5}) as world:
        client = await welcomed(world)
        for number in range(100, 160):
            try:
                await client.send(Echo(number, "x"))
            except ConnectionClosed:
                break
        assert await client.closed() == CloseCode.FLOOD
        answers = [message[0] for message in client.seen]
        assert answers == ["said"] * 20 + ["error"] * 4
        assert client.seen[-1][2] == "rate_limited"


async def _burst(client: MemoryClient) -> None:
    """More than its session may send at once: it has to wait in line."""
    for number in range(100, 300):
        await client.send(Echo(number, "old"))


async def test_requests_that_wait_in_line_are_not_answered_to_another_connection() -> None:
    async with gateways(gateway={"rate_per_s": 200, "rate_burst": 400}) as world:
        old = await welcomed(world)
        assert old.welcome is not None
        await _burst(old)
        new = world.client("node-1")
        assert (await new.hello(resume=old.welcome.resume))[7] is True
        assert await old.closed() == CloseCode.REPLACED
        assert (await new.ask(Echo, "new"))[2] == "new"
        assert new.seen == []


async def test_requests_that_wait_in_line_do_not_reach_an_actor_that_has_taken_leave() -> None:
    """Its session ends while others are before it in the line."""
    async with gateways(gateway={"rate_per_s": 200, "rate_burst": 400}) as world:
        clients = [await welcomed(world, subject=subject) for subject in ("q1", "q2", "q3", "q4", "q5", "q6", "p")]
        for client in clients:
            for _ in range(200):
                await client.send(Heartbeat(0))
        last = world.client("node-1")
        assert (await last.hello())[0] == "welcome"
        node = world.nodes["node-1"]
        await until(lambda: len(node.gateway.turnstile) == 0)
        await last.ask(Close)
        await until(lambda: ("closed", "p") in [entry[:2] for entry in Pilot.history])
        assert [entry[0] for entry in Pilot.history if entry[1] == "p"] == [
            "connected",
            "connected",
            "replaced",
            "closed",
        ]
        activation = node.system.find("pilot/p")
        assert activation is not None
        assert (activation.actor.sessions, activation.pins) == ([], 0)


async def test_an_outbox_over_its_bound_is_closed_and_never_resumed_in_part() -> None:
    async with gateways(gateway={"outbox_max_messages": 10}) as world:
        client = await welcomed(world)
        assert client.welcome is not None
        other = await welcomed(world, role="service", subject="q")
        await other.ask(Tell, "p", "a", 11)
        assert await client.closed() == CloseCode.SLOW_READER
        assert (await world.client("node-1").hello(resume=client.welcome.resume, ack=5))[7] is False


async def test_acknowledging_keeps_the_outbox_small() -> None:
    async with gateways(gateway={"outbox_max_messages": 10}) as world:
        client = await welcomed(world)
        other = await welcomed(world, role="service", subject="q")
        for number in range(1, 41):
            await other.ask(Tell, "p", "a", 1)
            assert (await client.until(lambda message: message[0] == "note"))[1] == number
            if number % 2:
                await client.send(Ack(0, number))
            else:
                await client.send(Heartbeat(0, number))
        rows = world.nodes["node-1"].gateway.session_rows(0, 10, "p")
        assert (rows[0]["pushes"], rows[0]["state"]) == (40, "attached")
        await client.send(Ack(0, 99))
        assert await client.closed() == CloseCode.PROTOCOL_ERROR


async def test_a_reader_that_stalls_is_closed_and_may_resume_with_everything() -> None:
    settings = {"heartbeat_interval_s": 0.1, "heartbeats_missed": 4, "outbox_max_messages": 10_000}
    async with gateways(gateway=settings) as world:
        client = await welcomed(world)
        assert client.welcome is not None
        other = await welcomed(world, role="service", subject="q")
        client.end.stall()
        await other.ask(Tell, "p", "x" * 1_000, 200)  # well over the connection's high-water mark
        node = world.nodes["node-1"]
        await until(lambda: CloseCode.SLOW_READER in node.metrics.closes_total)
        again = world.client("node-1")
        assert (await again.hello(resume=client.welcome.resume, ack=0))[7] is True
        assert [(await again.receive())[1] for _ in range(200)] == list(range(1, 201))


async def test_players_are_sent_to_their_node() -> None:
    async with gateways(("node-1", "node-2")) as world:
        subject = world.player_of("node-2")
        client = world.client("node-1", subject)
        assert (await client.hello())[::2] == ["redirect", "memory://node-2"]
        assert await client.closed() == CloseCode.REDIRECTED
        there = await welcomed(world, "node-2", subject)
        assert (await there.ask(Echo, "x"))[3] == "node-2"


async def test_a_client_that_cannot_follow_is_served_and_gets_its_pushes() -> None:
    """F32: from its first moment, and not only once its node has said again whom it serves."""
    async with gateways(("node-1", "node-2")) as world:
        subject = world.player_of("node-2")
        world.nodes["node-2"].gateway.pushes._earlier.clear()  # a push is not followed to a home of before
        client = await welcomed(world, "node-1", subject, redirects=False)
        assert (await client.ask(Echo, "x"))[3] == "node-2"
        assert (await client.ask(Heartbeat))[0] == "beat"
        other = await welcomed(world, "node-1", "svc", role="service")
        await other.ask(Tell, subject, "over there", 1)
        assert (await client.receive())[:2] == ["note", 1]
        pilot = world.nodes["node-2"].system.find(f"pilot/{subject}")
        assert pilot is not None
        assert pilot.actor.beats == 1
        client.end.close()
        await until(lambda: ("closed", subject) in [entry[:2] for entry in Pilot.history])


async def test_sessions_move_with_their_slots() -> None:
    async with gateways(("node-1",), limits=Limits(transfer=TransferLimits(grace_s=0.2))) as world:
        await world.add("node-2")
        clients = [await welcomed(world, "node-1", f"p{number}") for number in range(8)]
        world.show("node-1", "node-2")
        for client in clients:
            owner = world.nodes["node-1"].system.owner(f"pilot/{client.subject}")
            assert owner is not None
            if owner.node == "node-2":
                assert (await client.until(lambda message: True))[2:] == ["memory://node-2", 200]
                assert await client.closed() == CloseCode.MOVED
            else:
                assert (await client.ask(Echo, "x"))[3] == "node-1"


async def test_a_view_that_turns_back_moves_nobody() -> None:
    async with gateways(("node-1",), limits=Limits(transfer=TransferLimits(spread_s=0.3))) as world:
        await world.add("node-2")
        clients = [await welcomed(world, "node-1", f"p{number}") for number in range(8)]
        world.show("node-1", "node-2")
        world.show("node-1")
        await asyncio.sleep(0.5)
        for client in clients:
            assert (await client.ask(Echo, "x"))[3] == "node-1"
            assert client.seen == []


async def test_a_stopping_node_sends_everybody_away() -> None:
    async with gateways() as world:
        clients = [await welcomed(world, subject=f"p{number}") for number in range(3)]
        node = world.nodes["node-1"]
        await node.gateway.stop(0.1)
        for client in clients:
            assert await client.closed() == CloseCode.GOING_AWAY
            assert client.seen[-1][0] == "going"
        assert await world.client("node-1").closed() == CloseCode.GOING_AWAY
        assert (node.gateway.table.sessions, node.metrics.sessions) == ({}, 0)


async def test_a_node_that_lost_its_lease_closes_at_once() -> None:
    async with gateways() as world:
        client = await welcomed(world)
        world.nodes["node-1"].gateway.close_all(CloseCode.OWNERSHIP_LOST)
        assert await client.closed() == CloseCode.OWNERSHIP_LOST


async def test_a_dropped_activation_is_found_again_by_the_next_heartbeat() -> None:
    async with gateways() as world:
        client = await welcomed(world)
        node: GatewayNode = world.nodes["node-1"]
        first = node.system.find("pilot/p")
        assert first is not None
        node.system.lost(first, 0)
        assert first.dropped
        assert (await client.ask(Heartbeat))[0] == "beat"
        assert (await client.ask(Heartbeat))[0] == "beat"
        second = node.system.find("pilot/p")
        assert second is not None
        assert second is not first
        assert second.pins == 1
        assert second.actor.sessions == [client.welcome.session] if client.welcome else False


@pytest.mark.parametrize("lives", [False, True])
@pytest.mark.parametrize("number", [0, 77])
async def test_the_state_of_a_heartbeat_reaches_an_actor_that_was_not_here(lives: bool, number: int) -> None:
    async with gateways() as world:
        client = await welcomed(world)
        node = world.nodes["node-1"]
        first = node.system.find("pilot/p")
        assert first is not None
        assert first.actor.states == []
        node.system.lost(first, 0)
        if lives:  # somebody else has woken it since
            await node.system.ask(ActorId("pilot/p"), "beat", (Caller("service", "x", "x"), None))
        await client.send(Heartbeat(number, 0, "busy"))
        await until(lambda: (found := node.system.find("pilot/p")) is not None and "busy" in found.actor.states)
        second = node.system.find("pilot/p")
        assert second is not None
        assert second.actor.states == ["busy"]
        assert client.welcome is not None
        assert second.actor.sessions == [client.welcome.session]
        if number:
            assert await client.receive() == ["beat", number]


async def test_a_session_that_its_actor_refuses_when_it_is_told_again_is_over() -> None:
    async with gateways() as world:
        client = await welcomed(world)
        first = world.nodes["node-1"].system.find("pilot/p")
        assert first is not None
        world.nodes["node-1"].system.lost(first, 0)
        Pilot.refuse = "banned"
        await client.send(Heartbeat(2, 0, "busy"))
        assert await client.closed() == CloseCode.DISMISSED
        assert not world.nodes["node-1"].gateway.table.sessions


async def test_a_token_that_is_not_good_yet_is_answered_with_the_time_to_wait() -> None:
    """F22: it is not the end, as 4001 is."""
    async with gateways() as world:
        client = world.client("node-1")
        early = issue(KEY, "p", "player", 60, LoopClock.wall_ms() + 6_000)
        answer = await client.hello(token=early)
        assert (answer[0], answer[2]) == ("error", "unavailable")
        assert await client.closed() == CloseCode.INTERNAL
        await asyncio.sleep(answer[4] / 1000)
        assert (await world.client("node-1").hello(token=early))[0] == "welcome"
