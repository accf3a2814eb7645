"""The client without its input and output: events in, frames and decisions out.

A shell (the asyncio client here; the same in another language) owns the sockets, one timer and the program's
callbacks. It tells the core what happens, each time with the time of a steady clock in seconds, and then sends
`take_frames()` and carries out `take_decisions()`, in their order:

    core.start(now)                                  connect, and stay connected
    core.token(text, now)                            the token that `NeedToken` asked for; or no_token(error, now)
    core.renew(connection, text, now)                the token that `RenewToken` asked for; or not_renewed(…, now)
    core.opened(connection, now)                     the WebSocket that `Open` asked for; or failed(…, text, now)
    core.received(connection, frame, now)            a frame came
    core.closed(connection, code, reason, now)       it is closed; 1006 where it just broke
    core.on_time(now)                                `wake_s` has come
    core.request(…), cancel, watch, read, leave      what the program does
    core.close(now)                                  the program leaves for good

Chance comes in as a value too: `chance()` draws a number from 0 up to 1. So a conversation of docs/protocol.json can
be played against the core with nothing else around it (sans-I/O, as h11 and the protocol layer of websockets).

The core holds hello and welcome, the resume token and the acknowledgements, commands repeated by number,
`going` and `redirect` with their bounds, backoff, heartbeats, streams and their gaps. Its parts have a file each:
`_dial` (where to and when), `_session` (counts), `_heartbeats`, `_renewal`, `_requests`, `_standing`, `_subscriptions`,
`_streams`, `_pictures`, `_people`, `_timers`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar, cast

from garrison._base import Command, Event, Message, Push, Reply, Request
from garrison._decisions import Answer, Decision, Deliver, Down, Drop, NeedToken, Open, Part, RenewToken, Stir, Stop, Up
from garrison._dial import Dial, close_error, shows_token
from garrison._frames import pack, read, unpack
from garrison._heartbeats import Heartbeats
from garrison._people import Ask, People
from garrison._phases import CLIENT, ClientPhase, move
from garrison._pictures import Picture, Pictures
from garrison._renewal import Renewal
from garrison._requests import Call, Requests
from garrison._retry import Chance
from garrison._session import Session
from garrison._standing import Standing
from garrison._stats import Stats
from garrison._streams import Stream, Streams
from garrison._subscriptions import Subscription, Subscriptions
from garrison._timers import Kind, Timers
from garrison.errors import BadFrame, GarrisonError, SessionClosed, Unavailable, from_wire
from garrison.messages import (
    Ack,
    Beat,
    Beats,
    Close,
    Events,
    Failed,
    Going,
    Latest,
    PresenceChanges,
    PresenceFriends,
    Redirect,
    WatchEnded,
    Welcome,
)
from garrison.options import Options

R = TypeVar("R")
PART_S: Final = 1.5
"""Longest wait for the server's side of a close."""
LEAVE_S: Final = 0.1
"""Longest pause before leaving a node that says `going`: its sessions shall not all go at once."""
READING: Final[tuple[ClientPhase, ...]] = ("up", "moving", "parting")
"""Phases in which a session is up."""


class Core:
    """The state machine of one client. `urls` are tried in turn from number `first`; `lineage` names this client
    object in its commands; `renewable` says that another token can be had."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        first: int,
        options: Options,
        name: str,
        lineage: str,
        renewable: bool,
        chance: Chance,
    ) -> None:
        self.phase: ClientPhase = "idle"
        self.lineage = lineage
        self.stats = Stats()
        self.over: GarrisonError | None = None
        """The reason why no connection will follow."""
        self.last_failure: GarrisonError | None = None
        """The error of the latest attempt at a connection that failed."""
        self.connection = 0
        """The number of the latest connection."""
        self.url: str | None = None
        """Its address."""
        self._live = False
        """Its WebSocket is open or being opened, as far as the core was told."""
        self._options = options
        self._name = name
        self._chance = chance
        self._hello = b""
        self._hops = 0
        self._opened_at = 0.0
        self._left_jitter = False
        self._fault = ""
        self._ids = 0
        self._commands = 0
        self._frames: list[bytes] = []
        self._decisions: list[Decision] = []
        self._timers = Timers()
        self._timers.stale = self._is_stale
        self._dial = Dial(urls, first, options, chance, renewable)
        self._session = Session(options, self.stats)
        self._heartbeats = Heartbeats(self._session, options.silence_intervals)
        self._requests = Requests(options, self.stats, self._timers, chance, self._frames.append, self._take_id)
        self._renewal = Renewal(self._requests, self._timers, renewable)
        self._standing = Standing(self._requests)
        self._subscriptions = Subscriptions(self._requests, self._timers, chance, self._send, self._take_id, self._stir)
        self._streams = Streams(options.watch_buffer, self._subscriptions)
        self._pictures = Pictures(self._subscriptions)
        self.people = People(self._requests, self._timers, chance, self._stir)

    # ---- out --------------------------------------------------------------------------------------

    def take_frames(self) -> list[bytes]:
        """Frames to send on the present connection, taken out."""
        frames = self._frames[:]
        self._frames.clear()
        return frames

    def take_decisions(self) -> list[Decision]:
        """Decisions to carry out, taken out."""
        decisions = self._decisions[:]
        self._decisions.clear()
        return decisions

    @property
    def pending(self) -> bool:
        """There are frames or decisions to take."""
        return bool(self._frames or self._decisions)

    @property
    def wake_s(self) -> float | None:
        """The time at which to call `on_time`; None: never."""
        return self._timers.next_s if self.over is None else None

    @property
    def connected(self) -> bool:
        """A session is up."""
        return self.phase in READING

    @property
    def welcome(self) -> Welcome | None:
        """The latest welcome."""
        return self._session.welcome

    @property
    def state(self) -> str | None:
        """A word that travels with each heartbeat. Setting one that cannot be sent raises `BadInput`."""
        return self._heartbeats.state

    @state.setter
    def state(self, state: str | None) -> None:
        self._heartbeats.state = state

    def awaits(self, connection: int) -> bool:
        """Tell whether connection `connection` is still to be opened."""
        return connection == self.connection and self.phase == "opening"

    # ---- the program's side ---------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Connect, and stay connected until the client is over."""
        if self.phase == "idle":
            self._ask_token()

    def close(self, now: float) -> None:
        """Leave for good: the session is not kept, and everything that waits fails with `SessionClosed`."""
        if self.over is not None:
            return
        error = SessionClosed("the client was closed")
        if self.connected:
            self._part(1000, pack(Close(id=self._take_id())))
        self.end(error, now)

    def end(self, error: GarrisonError, now: float) -> None:
        """No connection will follow: everything that waits learns why."""
        if self.over is not None:
            return
        self.over = error
        self._drop()
        self._enter("over")
        self._frames.clear()
        self._subscriptions.fail_all(error)
        self.people.fail_all(error)
        self._requests.fail_all(error, now)
        self._decisions.append(Stop(error))

    def request(
        self, message: Request[Any], now: float, *, timeout_s: float | None = None, retry: bool | None = None
    ) -> int:
        """Send `message`, now or when a session is up; an `Answer` with the returned number follows, once. A
        command without a number gets one. `retry`: whether to repeat it over broken connections and errors that
        allow it (default: commands only). Raises the error that ended the client, `Overloaded`, `BadInput`."""
        if self.over is not None:
            raise self.over
        if isinstance(message, Command) and not message.command:
            message = self.numbered(message)
        call = self._requests.submit(message, now, self._answered, timeout_s=timeout_s, retry=retry)
        self._standing.note(message, call)
        return call.order

    def cancel(self, order: int, now: float) -> None:
        """The answer to a request is not wanted any more."""
        self._requests.cancel(order)
        self._leave_if_idle(now)

    def numbered(self, message: Command[R]) -> Command[R]:
        """`message` with the next command number of this client."""
        self._commands += 1
        fresh = cast(Any, message)
        return cast(Command[R], replace(fresh, lineage=self.lineage, command=self._commands))

    def watch(self, topic: str, from_seq: int, now: float) -> Stream:
        """Subscribe to a stream. Raises the error that ended the client, `BadInput`, `ValueError`."""
        if self.over is not None:
            raise self.over
        return self._streams.watch(topic, from_seq, now)

    def watch_latest(self, topic: str, now: float) -> Picture:
        """Subscribe to a latest topic. Raises the error that ended the client, `BadInput`, `ValueError`."""
        if self.over is not None:
            raise self.over
        return self._pictures.watch(topic, now)

    def read(self, stream: Stream, now: float) -> tuple[int, Event] | None:
        """The next event of a stream and its number; None if there is none yet."""
        return self._streams.read(stream, now)

    def leave(self, subscription: Subscription) -> None:
        """End a subscription to a topic."""
        self._subscriptions.leave(subscription)

    # ---- the way to a session -------------------------------------------------------------------

    def token(self, token: str, now: float) -> None:
        """The token to say hello with."""
        if self.phase != "token":
            return
        try:
            self._hello = pack(
                self._session.hello(token, self._name, self._pictures.seen(), self.people.cursor, self._take_id())
            )
        except GarrisonError as error:
            self._fail(error, now)
            return
        self._hops = 0
        self._open(self._dial.next_url(), now)

    def no_token(self, error: GarrisonError, now: float) -> None:
        """No token could be made."""
        if self.phase == "token":
            self._fail(error, now)

    def opened(self, connection: int, now: float) -> None:
        """The WebSocket is open."""
        if self.awaits(connection):
            self._enter("greeting")
            self._frames.append(self._hello)

    def failed(self, connection: int, text: str, now: float) -> None:
        """The WebSocket could not be opened."""
        if connection == self.connection and self.phase in ("opening", "greeting"):
            self._live = False
            self._fail(Unavailable(f"{self.url}: {text}"), now)

    def closed(self, connection: int, code: int, reason: str, now: float) -> None:
        """The WebSocket is closed, with 1006 where it just broke."""
        if connection != self.connection:
            return
        self._live = False
        if self.phase in ("opening", "greeting"):
            self._fail(close_error(code, reason), now, self.url)
        elif self.phase == "broken":
            self._go_on(1006, self._fault, now)
        elif self.connected:
            self._go_on(code, reason, now)

    def _ask_token(self) -> None:
        self._enter("token")
        self._decisions.append(NeedToken())

    def _open(self, url: str, now: float) -> None:
        self.connection += 1
        self.url = url
        self._live = True
        self._enter("opening")
        self._timers.at(now + self._options.open_timeout_s, "attempt", self.connection)
        self._decisions.append(Open(self.connection, url))

    def _on_greeting(self, answer: Message | None, now: float) -> None:
        """Take the answer to hello. Raises `BadFrame`."""
        match answer:
            case Welcome():
                self._welcomed(answer, now)
            case Redirect():
                self._redirect(answer.url, now)
            case Failed():
                self._fail(from_wire(answer.code, answer.message, answer.retry_after_ms), now, self.url)
            case _:
                raise BadFrame("another message in answer to hello")

    def _redirect(self, to: str, now: float) -> None:
        """Say the same hello elsewhere, a bounded number of times and never where others can read it."""
        url, most = str(self.url), self._options.max_redirects
        if self._hops >= most:
            self._fail(Unavailable(f"redirected more than {most} times"), now)
        elif shows_token(url, to):
            self._fail(Unavailable(f"{url} redirects to {to}, which is not encrypted"), now)
        else:
            self._hops += 1
            self._drop()
            self._open(to, now)

    def _fail(self, error: GarrisonError, now: float, url: str | None = None) -> None:
        """No session came of this attempt, which the node at `url` answered so: try again after a while, where that
        may help."""
        self._drop()
        wait_s = self._dial.wait_after_failure_s(error, url)
        if wait_s is None:
            self.end(error, now)
            return
        self.stats.connect_failures += 1
        self.last_failure = error
        self._wait(wait_s, now)

    def _wait(self, wait_s: float, now: float) -> None:
        self._enter("waiting")
        self._timers.at(now + wait_s, "pause", self.connection)

    # ---- a session is up ------------------------------------------------------------------------

    def _welcomed(self, welcome: Welcome, now: float) -> None:
        self._enter("up")
        self._session.welcomed(welcome)
        self.stats.redirects += self._hops
        self._dial.served(str(self.url))
        self._opened_at = now
        first_s = self._heartbeats.begin(welcome.heartbeat_interval_ms, self._chance())
        self._timers.at(now + first_s, "beat", self.connection)
        self._renewal.begin(self.connection, welcome.token_expires_in_ms, now)
        self._decisions.append(Up(welcome, welcome.recovered))
        self._requests.flowing = True
        if not welcome.recovered:
            self._standing.say_again(self._heartbeats.state, now)
        self._subscriptions.on_welcome(welcome.recovered, now)
        self.people.on_welcome(welcome.recovered and welcome.presence, now)
        self._requests.pump()

    def renew(self, connection: int, token: str, now: float) -> None:
        """The token to go on with."""
        if connection == self.connection and self.phase == "up":  # else the next hello brings a token anyway
            self._renewal.give(token, now)

    def not_renewed(self, connection: int, now: float) -> None:
        """No token could be made to go on with: try again soon."""
        if connection == self.connection:
            self._renewal.again(now)

    def received(self, connection: int, frame: bytes | str, now: float) -> None:
        """A frame came."""
        if connection != self.connection:
            return
        greeting = self.phase == "greeting"
        if not greeting and self.phase not in READING:
            return
        self._heartbeats.heard(now)
        try:
            if greeting:
                self._on_greeting(read(unpack(frame)), now)
            else:
                self._on_frame(frame, now)
        except BadFrame as error:
            if greeting:
                self._fail(Unavailable(f"{self.url}: {error}"), now)
            else:
                self._break(error, now)

    def _on_frame(self, frame: bytes | str, now: float) -> None:
        wire = unpack(frame)
        message = read(wire)
        if message is None:
            self._count_push(wire[1], len(frame))  # a push of a newer server
        elif isinstance(message, Reply):
            self._on_reply(message, now)
        elif isinstance(message, Push):
            if self._count_push(message.seq, len(frame)):
                self._on_push(message, now)
        elif isinstance(message, Latest):
            self._pictures.on_latest(message)
        elif isinstance(message, PresenceChanges):
            self.people.on_changes(message, now)
        elif isinstance(message, PresenceFriends):
            self.people.on_friends(message)
        elif isinstance(message, Beats):
            self._session.beats(message.count)

    def _on_reply(self, reply: Reply, now: float) -> None:
        if self._requests.answer(reply, now):
            self._leave_if_idle(now)
        elif isinstance(reply, Beat):
            self._session.beat()
        else:
            self._subscriptions.on_left(reply)

    def _count_push(self, seq: object, size: int) -> bool:
        if not self._session.take_in(seq, size):
            return False
        if self._session.ack_due:
            self._send(Ack(self._session.acknowledge()))
        return True

    def _on_push(self, push: Push, now: float) -> None:
        if isinstance(push, Events | WatchEnded):
            self._streams.on_push(push, now)
        elif isinstance(push, Going):
            self._on_going(push, now)
        else:
            self._decisions.append(Deliver(push))

    def _break(self, error: BadFrame, now: float) -> None:
        """The server sent something unreadable: begin a session anew, as this one would only send it again."""
        self._fault = str(error)
        self._session.abandon()
        self._lose(now, "broken")
        self._part(1002)
        self._timers.at(now + PART_S, "part", self.connection)

    def _go_on(self, code: int, reason: str, now: float) -> None:
        """The connection of a session is closed: connect again, or stop, as the code says."""
        wait_s = self._dial.wait_after_close_s(
            code, str(self.url), lived_s=now - self._opened_at, moving=self.phase in ("moving", "parting")
        )
        if self.phase != "broken":
            self._lose(now, "waiting" if wait_s is not None else None)
        elif wait_s is not None:
            self._enter("waiting")
        if wait_s is None:
            self.end(close_error(code, reason), now)
        else:
            self._timers.at(now + wait_s, "pause", self.connection)

    def _lose(self, now: float, phase: ClientPhase | None) -> None:
        """The session has no connection any more: requests that may be repeated wait for the next one."""
        if phase is not None:
            self._enter(phase)
        self._frames.clear()
        self._decisions.append(Down())
        self._requests.lose(now)

    # ---- moving to another node -------------------------------------------------------------------

    def _on_going(self, going: Going, now: float) -> None:
        """Finish what is in flight, then connect where the server says. A `going` that comes again after that,
        because the first one was not acknowledged, names where the client is and asks for nothing."""
        if self.phase != "up" or going.url == self.url:
            return
        self._enter("moving")
        self._requests.flowing = False
        self._dial.preferred = None if shows_token(str(self.url), going.url) else going.url or None
        within_s = going.within_ms / 1000
        pause_s = self._chance() * min(LEAVE_S, within_s / 4)
        self._left_jitter = False
        self._timers.at(now + pause_s, "leave", self.connection)
        self._timers.at(now + pause_s + within_s / 2, "leave", self.connection)

    def _leave_if_idle(self, now: float) -> None:
        if self.phase == "moving" and self._left_jitter and not self._requests.in_flight:
            self._go(now)

    def _go(self, now: float) -> None:
        self._enter("parting")
        self._part(1001)
        self._timers.at(now + PART_S, "part", self.connection)

    # ---- timers -----------------------------------------------------------------------------------

    def on_time(self, now: float) -> None:
        """Do what is due at `now`."""
        while (timer := self._timers.pop(now)) is not None:
            kind, key = timer
            match kind:
                case "deadline":
                    self._requests.expire(key, now)
                    self._leave_if_idle(now)
                case "retry":
                    self._requests.again(key)
                case "ask":
                    (self.people if isinstance(key, Ask) else self._subscriptions).ask_again(key, now)
                case _ if key == self.connection:
                    self._on_connection_timer(kind, now)

    def _on_connection_timer(self, kind: Kind, now: float) -> None:
        if kind == "pause" and self.phase == "waiting":
            self._ask_token()
        elif kind == "attempt" and self.phase in ("opening", "greeting"):
            self._fail(Unavailable(f"{self.url}: no welcome within {self._options.open_timeout_s:g} s"), now)
        elif kind == "beat" and self.connected:
            self._beat(now)
        elif kind == "renew" and self.phase == "up":
            self._decisions.append(RenewToken(self.connection))
        elif kind == "leave" and self.phase == "moving":
            if self._left_jitter:
                self._go(now)  # long enough: the rest is repeated, or lost
            else:
                self._left_jitter = True
                self._leave_if_idle(now)
        elif kind == "part" and self.phase in ("parting", "broken"):
            self._drop()
            self.closed(self.connection, 1006, "no answer to the close", now)

    def _is_stale(self, kind: Kind, key: Any) -> bool:
        if kind in ("deadline", "retry"):
            return bool(key.settled)
        return bool(key.phase != "asking") if kind == "ask" else key != self.connection

    def _beat(self, now: float) -> None:
        """Send a heartbeat, or leave a server that has been silent for too long."""
        if self._heartbeats.lost(now):
            self._drop()
            self._go_on(1006, "connection lost", now)
            return
        if self.phase != "parting":
            self._send(self._heartbeats.next(now, self._take_id))
        self._timers.at(now + self._heartbeats.interval_s, "beat", self.connection)

    # ---- small parts ------------------------------------------------------------------------------

    def _enter(self, phase: ClientPhase) -> None:
        self.phase = move(CLIENT, self.phase, phase)

    def _drop(self) -> None:
        if self._live:
            self._live = False
            self._decisions.append(Drop(self.connection))

    def _part(self, code: int, last: bytes | None = None) -> None:
        self._frames.clear()
        self._decisions.append(Part(self.connection, code, last))
        if code == 1000:
            self._live = False

    def _take_id(self) -> int:
        self._ids += 1
        return self._ids

    def _send(self, message: Message) -> bool:
        """Send `message` if a session is up."""
        if self.connected:
            self._frames.append(pack(message))
        return self.connected

    def _answered(self, call: Call, reply: Reply | None, error: GarrisonError | None, now: float) -> None:
        self._standing.answered(call, error)
        self._decisions.append(Answer(call.order, reply, error))

    def _stir(self, subscription: Subscription) -> None:
        self._decisions.append(Stir(subscription))
