"""Each part of a gateway built alone, from its named collaborators, and one behaviour of it."""

import asyncio

import msgspec
import pytest

from server.actors.actor import Attached
from server.errors import BadInput, BadToken, Forbidden, GarrisonError, NotFound, Rejected, TokenExpired
from server.replays.reader import StretchReader
from server.sessions.arrivals import SessionArrivals
from server.sessions.broadcast import Broadcast
from server.sessions.dismissals import Dismissals
from server.sessions.end_reasons import ENDED_CLOSED, ENDED_REPLACED, Ending
from server.sessions.greeter import HELLO_UNITS, Greeter
from server.sessions.homes import Homes
from server.sessions.latest import LatestTopics
from server.sessions.mover import Mover
from server.sessions.opening import Opening
from server.sessions.outlet import GatewayOutlet
from server.sessions.presence import PresenceWatches
from server.sessions.presence_requests import Faces
from server.sessions.pushes import Pushes
from server.sessions.read_model import session_rows
from server.sessions.replays import Replays
from server.sessions.requests import Requests
from server.sessions.seeker import Seeker
from server.sessions.session import SESSION, Session
from server.sessions.sights import Sights
from server.sessions.slices import SLICE_UNITS, Slices
from server.sessions.stream_frames import Dismiss, EventsTo, encode, push_frame
from server.sessions.streams import Streams
from server.sessions.subscriptions import Subscriptions
from server.sessions.table import SessionTable
from server.sessions.time_limits import Limits, SeekLimits, StreamLimits, TransferLimits
from server.sessions.token_keys import TokenKeys, secret_key
from server.sessions.tokens import TokenRules, issue, own_rules
from server.sessions.transfer import DepartedSessions, Target, Transfer
from server.sessions.transfer_frames import INSTALLED, Dismissed, Packed, Shipment, Wanted, decode_verdicts
from server.sessions.transfer_frames import encode as encode_transfer
from server.sessions.turnstile import PER_TURN, InLine, Turnstile
from server.settings import PresenceSettings, ReplaySettings
from server.storage.queries import NoStoreQueries
from server.transport.ports import Service
from server.wire.messages import Ack, CloseCode, Done, Heartbeat, Hello, TokenRenew, Unwatch, Watch
from tests.support.gateways import Echo, Note, Post, Said, SessionApp
from tests.support.session_parts import ME, PEER, FakeActivation, FakeConnection, Parts

KEY = b"k" * 32
RULES = own_rules(KEY)


def attached(parts: Parts, session: Session) -> FakeConnection:
    connection = FakeConnection()
    session.begin(connection, msgspec.msgpack.encode(["welcome"]))
    return connection


def message(request: object) -> bytes:
    return msgspec.msgpack.encode(request)


# ---- a session ----


def test_a_session_answers_a_heartbeat_through_its_activation() -> None:
    parts = Parts()
    session = parts.session()
    session.activation = activation = FakeActivation()
    connection = attached(parts, session)
    session.on_message(message(Heartbeat(7)))
    assert connection.frames == [["welcome"], ["beat", 7]]
    assert activation.calls == ["beat"]


def test_a_session_detaches_when_its_connection_breaks_and_ends_at_goodbye() -> None:
    parts = Parts()
    session = parts.session()
    connection = attached(parts, session)
    session.on_closed(connection, 1006, "")
    assert (session.phase, parts.keeper.detached) == ("detached", [session])
    again = attached(parts, session)
    session.on_closed(again, 1000, "")
    assert parts.keeper.ended == [(session, "attached", Ending(ENDED_CLOSED, 0, ""))]


def test_a_session_tells_its_streams_of_room() -> None:
    parts = Parts(outbox_max_messages=2)
    session = parts.session()
    attached(parts, session)
    session.push(Broadcast(Note(0, "a")))
    session.starved = True
    session.on_message(message(Ack(0, 1)))
    assert parts.room.refilled == [session]


def test_a_phase_that_does_not_follow_tells_the_story() -> None:
    session = Parts().session()
    with pytest.raises(RuntimeError, match=r"session p .*: opening -> ended"):
        session.enter("ended")
    SESSION.refused.clear()


async def test_a_line_reads_no_further_while_messages_wait() -> None:
    parts = Parts()
    session, turnstile = parts.session(), Turnstile()
    connection = attached(parts, session)
    line = session.in_line = InLine(turnstile, session, connection)
    for number in range(1, PER_TURN + 1):
        line.on_message(message(Heartbeat(number)))
    assert (connection.reading, len(turnstile)) == (False, 1)
    await asyncio.sleep(0)
    assert (connection.reading, len(turnstile)) == (True, 0)
    assert [frame[1] for frame in connection.frames[1:]] == [1, 2, 3, 4]


# ---- the table, and the sessions' actors ----


async def test_the_table_replaces_a_players_session_and_takes_leave_of_its_actor() -> None:
    parts = Parts()
    table = parts.table()
    ends: list[tuple[str, str]] = []
    table.on_end(lambda session, before, ending: ends.append((before, ending.why)))
    old, new = parts.session(table), parts.session(table)
    for session in (old, new):
        table.add(session, table.rival("player", "p", None))
        attached(parts, session)
    assert (table.players, len(table)) == ({"p": new}, 1)
    assert ends == [("attached", ENDED_REPLACED)]
    await asyncio.sleep(0)
    assert parts.actors.calls == [("pilot/p", "disconnected", (old.caller, ENDED_REPLACED))]


async def test_the_table_ends_a_session_whose_client_stays_away() -> None:
    parts = Parts(resume_window_s=5.0)
    table = parts.table()
    session = parts.session(table)
    table.add(session, None)
    session.on_closed(attached(parts, session), 1006, "")
    parts.pass_time(4.9)
    assert table.detached == {session: None}
    parts.pass_time(0.4)
    assert (session.ended, len(table), table.detached) == (True, 0, {})


def test_an_actor_is_pinned_while_its_session_is_bound() -> None:
    parts = Parts()
    parts.actors.local["pilot/p"] = activation = FakeActivation()
    bindings, session = parts.bindings(), parts.session()
    bindings.bind(session)
    assert activation.pins == 1
    bindings.release(session)
    assert (activation.pins, session.activation) == (0, None)


def test_a_heartbeat_is_forwarded_where_the_actor_lives_elsewhere() -> None:
    parts = Parts()
    parts.actors.elsewhere = True
    parts.bindings().beat_elsewhere(parts.session(), "busy")
    assert [call[1] for call in parts.actors.calls] == ["beat"]
    parts.actors.elsewhere = False
    parts.bindings().beat_elsewhere(parts.session(), "busy")
    assert [call[1] for call in parts.actors.calls[1:]] == ["connected", "beat"]


def test_rows_for_operators() -> None:
    parts = Parts()
    session = parts.session()
    attached(parts, session)
    parts.clock.at += 2
    (row,) = session_rows([session], "node-1", parts.ticks, 0, 10)
    assert (row["subject"], row["state"], row["age_s"], row["idle_s"]) == ("p", "attached", 2.0, 2.0)


# ---- requests ----


def test_a_request_goes_to_its_route_with_the_role_checked() -> None:
    parts = Parts()
    requests = Requests(SessionApp, parts.actors, NoStoreQueries(), parts.supervisor, parts.metrics, parts.ticks)
    requests.add(Unwatch, lambda session, request: Done(request.id))
    parts.actors.answers["echo"] = Said(1, "hei")
    session = parts.session()
    assert requests.handle(session, Echo(1, "hei")) == Said(1, "hei")
    assert requests.handle(session, Unwatch(2, "x/y")) == Done(2)
    with pytest.raises(Forbidden):
        requests.handle(session, Post(3, "f", []))
    with pytest.raises(BadInput):
        requests.handle(session, Hello(4, ""))


# ---- streams and pushes ----


def streams(parts: Parts) -> Streams:
    return Streams(parts.actors, SessionApp, parts.ticks, parts.supervisor, parts.rng, 2, 8, StreamLimits())


def latest(parts: Parts) -> LatestTopics:
    return LatestTopics(parts.actors, SessionApp, parts.ticks, 2, 8, 2.5)


def watches(parts: Parts) -> PresenceWatches:
    slices = Slices(parts.ticks.now)
    sights = Sights(None, parts.actors, NoStoreQueries(), parts.supervisor, slices, "status")
    return PresenceWatches(
        Faces(None, None), parts.supervisor, parts.metrics, parts.ticks, ME, PresenceSettings(), 60_000, slices, sights
    )


def event(text: str) -> bytes:
    return msgspec.msgpack.encode(["posted", 1, text])


async def test_a_watcher_gets_each_event_from_its_cursor_on() -> None:
    parts = Parts()
    watched = streams(parts)
    parts.actors.answers["attach"] = Attached(3, False)
    parts.actors.answers["read_events"] = NotFound("planted")
    session = parts.session()
    connection = attached(parts, session)
    assert watched.watch(session, Watch(1, "ledger/f", 3)).next_seq == 3  # type: ignore[union-attr]
    await asyncio.sleep(0)
    watched.arrived("ledger/f", 2, [event("b"), event("c")])  # type: ignore[arg-type]
    assert connection.frames[1:] == [["events", 1, "ledger/f", 3, [["posted", 1, "c"]], ""]]
    with pytest.raises(NotFound):
        watched.watch(session, Watch(2, "pilot/p"))
    watched.session_ended(session, "attached", Ending(ENDED_CLOSED, 0, ""))
    assert watched.topics == {}


def pushes(parts: Parts, table: SessionTable) -> Pushes:
    return Pushes(
        SessionApp, "pilot", parts.actors, parts.transport, parts.ticks, table, DepartedSessions(), StreamLimits()
    )


def test_a_push_reaches_the_session_here_or_goes_to_the_slots_owner() -> None:
    parts = Parts()
    table = parts.table()
    session = parts.session(table)
    table.add(session, None)
    connection = attached(parts, session)
    pushed = pushes(parts, table)
    pushed.push("p", Note(0, "here"))
    parts.actors.elsewhere = True
    pushed.push("p", Note(0, "there"))
    assert connection.frames[1:] == [["note", 1, "here"]]
    assert parts.transport.sent == [(PEER, Service.STREAM, push_frame("p", Note(0, "there"), 3, True))]


class NoHellos:
    def dismiss(self, frame: Dismiss) -> None: ...


def dismissals(parts: Parts, table: SessionTable) -> Dismissals:
    departed = DepartedSessions()
    return Dismissals(
        parts.actors, parts.transport, parts.supervisor, parts.rng, parts.ticks, table, mover(parts, table, departed),
        departed, NoHellos(), 30.0,
    )  # fmt: skip


async def test_dismissals_end_the_session_here_and_tell_every_other_node() -> None:
    parts = Parts()
    table = parts.table()
    session = parts.session(table)
    table.add(session, None)
    connection = attached(parts, session)
    dismissals(parts, table).end_sessions("p", 4100, "cheating")
    await asyncio.sleep(0)
    assert (connection.closed, table.players) == ((4100, "cheating"), {})
    assert parts.transport.sent == [(PEER, Service.STREAM, encode(Dismiss("p", 4100, "cheating", 4)))]


def test_the_outlet_hands_messages_of_other_nodes_to_their_parts() -> None:
    parts = Parts()
    table = parts.table()
    session = parts.session(table)
    table.add(session, None)
    connection = attached(parts, session)
    GatewayOutlet(
        parts.actors, parts.transport, streams(parts), latest(parts), pushes(parts, table), dismissals(parts, table)
    )
    parts.transport.deliver(PEER, Service.STREAM, push_frame("p", Note(0, "x"), 1, False))
    parts.transport.deliver(PEER, Service.STREAM, encode(EventsTo("ledger/f", 1, [])))  # type: ignore[arg-type]
    assert connection.frames[1:] == [["note", 1, "x"]]
    with pytest.raises(BadInput):
        parts.transport.deliver(PEER, Service.STREAM, b"\xc1")


# ---- sessions that change node ----


def test_a_session_belongs_where_its_slot_is() -> None:
    parts = Parts()
    homes, session = Homes(parts.actors), parts.session()
    assert homes.target(session) is None
    parts.actors.elsewhere = True
    assert homes.target(session) == Target(PEER, "ws://peer")
    session.stays = True
    assert homes.target(session) is None


async def test_a_seeker_asks_every_other_node_and_ends_when_nobody_knows() -> None:
    parts = Parts()
    seeker = Seeker(parts.actors, parts.transport, SeekLimits())
    wanted = Wanted("f" * 32, "p", "player")
    assert seeker.may_find(wanted)
    parts.transport.answer = lambda to, payload: msgspec.msgpack.encode([""])
    over = asyncio.Event()
    seeker.find(wanted, over.set, lambda: True)
    assert seeker.seeks(wanted.resume)
    async with asyncio.timeout(30):
        await over.wait()
    assert [sent[0] for sent in parts.transport.sent] == [PEER]
    assert len(seeker) == 0


def subscriptions(parts: Parts) -> Subscriptions:
    reader = StretchReader(parts.drivers.logs, parts.supervisor, 1_024)
    replays = Replays(SessionApp, parts.actors, reader, parts.ticks, parts.supervisor, parts.metrics, ReplaySettings())
    return Subscriptions(streams(parts), latest(parts), watches(parts), replays)


def mover(parts: Parts, table: SessionTable, departed: DepartedSessions) -> Mover:
    return Mover(
        parts.drivers, parts.kit(table), parts.actors, Homes(parts.actors), table,
        subscriptions(parts), pushes(parts, table), departed,
        TransferLimits(spread_s=0.0), 100, 100_000,
    )  # fmt: skip


async def test_the_mover_ships_a_session_and_tells_its_client() -> None:
    parts = Parts()
    table, departed = parts.table(), DepartedSessions()
    moving = mover(parts, table, departed)
    session = parts.session(table)
    table.add(session, None)
    connection = attached(parts, session)
    parts.transport.answer = lambda to, payload: encode_transfer([INSTALLED])
    parts.actors.elsewhere = True
    moving.on_view()
    parts.pass_time(0.2)
    await asyncio.sleep(0.01)
    assert session.phase == "transferred"
    assert connection.frames[-1] == ["going", 1, "ws://peer", 2_000]
    assert departed.place(session.resume, parts.ticks.now()) == PEER
    parts.pass_time(2.2)
    assert connection.closed is not None and connection.closed[0] == CloseCode.MOVED
    assert moving.closing == {}


async def test_arrivals_install_a_session_once() -> None:
    parts = Parts()
    table, departed = parts.table(), DepartedSessions()
    seeker = Seeker(parts.actors, parts.transport, SeekLimits())
    SessionArrivals(
        parts.kit(table), parts.actors, parts.transport, Homes(parts.actors), table, parts.bindings(),
        subscriptions(parts), pushes(parts, table), seeker, departed,
        mover(parts, table, departed),
    )  # fmt: skip
    packed = Packed("f" * 32, "elsewhere", "p", "player", "msgpack", False, 1, 1_000, 3, 0, [], [], 0)
    for _ in range(2):
        answer = parts.transport.deliver(PEER, Service.SESSION, encode_transfer(Shipment([packed])))
        assert isinstance(answer, bytes)
        assert decode_verdicts(answer, 1) == [INSTALLED]
    (session,) = table.sessions.values()
    assert (session.phase, session.beats, list(table.detached)) == ("arrived", 3, [session])


async def test_a_session_that_was_dismissed_on_its_way_is_not_installed_when_it_arrives() -> None:
    """The word overtakes the shipment, whose sender may be gone before it can say so again."""
    parts = Parts()
    table, departed = parts.table(), DepartedSessions()
    SessionArrivals(
        parts.kit(table), parts.actors, parts.transport, Homes(parts.actors), table, parts.bindings(),
        subscriptions(parts), pushes(parts, table),
        Seeker(parts.actors, parts.transport, SeekLimits()), departed, mover(parts, table, departed),
    )  # fmt: skip
    parts.transport.deliver(PEER, Service.SESSION, encode_transfer(Dismissed("f" * 32, 2, 4012, "enough")))
    for moves, installed in ((2, 0), (3, 1)):
        packed = Packed("f" * 32, "elsewhere", "p", "player", "msgpack", False, moves, 1_000, 3, 0, [], [], 0)
        answer = parts.transport.deliver(PEER, Service.SESSION, encode_transfer(Shipment([packed])))
        assert isinstance(answer, bytes)
        assert decode_verdicts(answer, 1) == [INSTALLED]
        assert len(table.sessions) == installed


def test_a_pulled_session_is_put_in_line_at_once() -> None:
    transfer = Transfer("p", Target(ME, "ws://me"))
    (effect,) = transfer.pull(Target(PEER, "ws://peer"))
    assert effect == (PEER, None)


# ---- hellos ----


def greeter(parts: Parts, table: SessionTable) -> Greeter:
    departed = DepartedSessions()
    return Greeter(
        parts.kit(table), RULES, parts.actors, parts.transport, parts.rng, Homes(parts.actors), table, parts.bindings(),
        departed, Seeker(parts.actors, parts.transport, SeekLimits()), mover(parts, table, departed),
        latest(parts), watches(parts), Slices(parts.ticks.now), Limits(),
    )  # fmt: skip


async def test_hellos_of_one_moment_are_answered_in_slices_and_who_has_gone_is_forgotten() -> None:
    parts = Parts()
    table = parts.table()
    greeting = greeter(parts, table)
    per_slice = SLICE_UNITS // HELLO_UNITS
    clients = [FakeConnection() for _ in range(3 * per_slice)]
    for number, client in enumerate(clients):
        opening = greeting.accept(client)
        opening.on_message(message(Hello(1, issue(KEY, f"p{number}", "player", 60, parts.clock.wall_ms()))))
        if number == per_slice + 1:
            opening.on_closed(client, 1006, "")
    counts = [len(table)]
    for _ in range(3):
        await asyncio.sleep(0)
        counts.append(len(table))
    assert counts == [per_slice, 2 * per_slice - 1, 3 * per_slice - 1, 3 * per_slice - 1]
    assert clients[per_slice + 1].frames == []


async def test_a_greeter_takes_new_keys_while_it_runs() -> None:
    """F21: a token whose key is not here yet is to be tried again, one that is signed with another key is not."""
    parts = Parts()
    greeting = greeter(parts, parts.table())
    later = b"n" * 32
    hello = Hello(1, issue(later, "p", "player", 60, parts.clock.wall_ms(), kid="new"))
    early, again = FakeConnection(), FakeConnection()
    greeting.accept(early).on_message(message(hello))
    assert early.frames[0][:3] == ["error", 1, "unknown_key"]
    assert early.closed is not None and early.closed[0] == CloseCode.INTERNAL
    greeting.token_rules = TokenRules(TokenKeys([secret_key(KEY), secret_key(later, "new")]))
    greeting.accept(again).on_message(message(hello))
    assert again.frames[0][:2] == ["welcome", 1]


async def test_a_greeter_welcomes_a_player_and_redirects_one_of_another_node() -> None:
    parts = Parts()
    table = parts.table()
    greeting = greeter(parts, table)
    hello = Hello(1, issue(KEY, "p", "player", 60, parts.clock.wall_ms()))
    here, elsewhere = FakeConnection(), FakeConnection()
    greeting.accept(here).on_message(message(hello))
    parts.actors.elsewhere = True
    greeting.accept(elsewhere).on_message(message(hello))
    assert here.frames[0][:2] == ["welcome", 1] and list(table.players) == ["p"]
    assert elsewhere.frames[0][:3] == ["redirect", 1, "ws://peer"]
    assert greeting.openings == {}


def opened(parts: Parts, greeting: Greeter, table: SessionTable, ttl_s: float) -> tuple[FakeConnection, Session]:
    connection = FakeConnection()
    hello = Hello(1, issue(KEY, "p", "player", ttl_s, parts.clock.wall_ms()))
    greeting.accept(connection).on_message(message(hello))
    (session,) = table.sessions.values()
    assert abs(connection.frames[0][12] - (ttl_s + 5) * 1000) <= 1000  # the clock skew that is allowed is added
    return connection, session


async def test_a_session_whose_token_expires_is_closed_and_kept() -> None:
    parts = Parts()
    table = parts.table()
    connection, session = opened(parts, greeter(parts, table), table, 60)
    for _ in range(64):
        parts.pass_time(1.0)
        session.on_message(message(Heartbeat(0)))
    assert connection.closed is None
    for _ in range(3):
        parts.pass_time(1.0)
        session.on_message(message(Heartbeat(0)))
    assert connection.closed is not None and connection.closed[0] == CloseCode.TOKEN_EXPIRED
    assert session.phase == "detached"


async def test_a_session_goes_on_under_a_new_token_of_its_own() -> None:
    parts = Parts()
    table = parts.table()
    greeting = greeter(parts, table)
    connection, session = opened(parts, greeting, table, 60)
    parts.pass_time(10.0)
    now_ms = parts.clock.wall_ms()
    bad: list[tuple[str, type[GarrisonError]]] = [
        (issue(KEY, "q", "player", 600, now_ms), Forbidden),
        (issue(KEY, "p", "host", 600, now_ms), Forbidden),
        (issue(b"n" * 32, "p", "player", 600, now_ms), BadToken),
        (issue(KEY, "p", "player", 1, now_ms - 10_000), TokenExpired),
        ("", BadToken),
    ]
    for token, error in bad:
        with pytest.raises(error):
            greeting.renew(session, TokenRenew(3, token))
    answer = greeting.renew(session, TokenRenew(4, issue(KEY, "p", "player", 600, now_ms)))
    assert answer.id == 4 and abs(answer.token_expires_in_ms - 605_000) <= 1000
    for _ in range(100):
        parts.pass_time(1.0)
        session.on_message(message(Heartbeat(0)))
    assert connection.closed is None


async def test_a_greeter_refuses_a_player_that_the_application_refuses() -> None:
    parts = Parts()
    parts.actors.answers["connected"] = Rejected("banned", "planted")
    connection = FakeConnection()
    hello = Hello(1, issue(KEY, "p", "player", 60, parts.clock.wall_ms()))
    greeter(parts, parts.table()).accept(connection).on_message(message(hello))
    assert connection.frames[0][:3] == ["error", 1, "banned"]
    assert connection.closed is not None and connection.closed[0] == CloseCode.BAD_TOKEN


def test_an_opening_hands_its_backlog_on_to_the_session() -> None:
    parts = Parts()
    opening = Opening(greeter(parts, parts.table()), connection := FakeConnection())
    opening.busy = True
    opening.on_message(message(Heartbeat(5)))
    session = parts.session()
    opening.hand_on(session, message(["welcome"]))
    assert connection.frames == [["welcome"], ["beat", 5]]
    assert parts.beats.states == [None]
