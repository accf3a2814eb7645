"""A session: a client's life on this node, over one connection or several in turn.

    opening --> attached <-> detached     the connection broke: kept for the resume window, pushes gather
                 |  ^  |        |
    arrived -----|--'  `--------`-> ended     closed for good, window over, replaced, outbox over its bound
        `--------`-> transferred --'          it lives on another node (`transfer.py`)

A session that came from another node is `arrived` until its client has been here for it. Of one that is
`transferred` only the connection is left, for what is still to be answered on it.

A message is handled where it arrives, in one go: rate, decode, look-up, call, answer. Only an
answer that has to wait becomes a future with a callback; nothing here is a task. How answers and pushes are written
is in `session_output.py`.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final

import msgspec

from server.actors.actor import Caller
from server.actors.devices import UNKNOWN_SESSION, Login, mark_of
from server.errors import BadInput, GarrisonError, Internal, Overloaded, RateLimited, Unavailable
from server.ids import ActorId
from server.sessions.connection import NOBODY, Connection
from server.sessions.end_reasons import ENDED_CLOSED, ENDED_EXPIRED, ENDED_MOVED, Ending
from server.sessions.outbox import Outbox
from server.sessions.picture import Slot
from server.sessions.ports import LocalActor
from server.sessions.presence_tables import WatchTable
from server.sessions.rate_bucket import TokenBucket
from server.sessions.session_kit import Kit
from server.sessions.session_output import SessionOutput
from server.sessions.session_phases import SESSION, Phase
from server.sessions.topic import Topic
from server.sessions.transfer_frames import Packed
from server.sessions.turnstile import InLine
from server.sessions.unanswered import Unanswered, error_of
from server.wire.codec import Format
from server.wire.messages import Ack, Beat, Close, CloseCode, Done, Failed, Heartbeat, Reply, Request

_NORMAL: Final = 1000
_KNOWN_S: Final = 0.1
"""Time within which an actor that does not know a session should have been told of it."""
_NO_TRAFFIC: Final = (0, 0)
_encode_number = msgspec.msgpack.Encoder().encode
_BEAT_HEAD: Final = msgspec.msgpack.encode(Beat(0))[:-1]


class Session(SessionOutput):
    """See the module's head. `begin` gives it its connection, `arrive` its place as one that came from another node.
    `stays`: the client cannot follow a redirect, and is served here wherever its slot is."""

    __slots__ = (
        "_link", "actor", "began", "client", "country", "detached_at", "device", "earlier_traffic", "in_line",
        "instead_of", "issued_ms", "latest", "login_number", "moves", "order", "people", "phase", "remote", "resume",
        "since_ms", "stays", "token_mark", "token_until_ms", "topics", "unanswered",
    )  # fmt: skip

    def __init__(self, kit: "SessionKit", caller: Caller, resume: str, format: Format, stays: bool) -> None:
        super().__init__(kit, format)
        settings = kit.settings
        self.caller, self.resume = caller, resume
        self._decode = kit.decoders[format]
        self._binary = format == "msgpack"
        self.stays = stays
        now = kit.ticks.now()
        self.heard_at = self.detached_at = self.began = now
        """When its client was heard, its connection was lost, and the hello came that began it."""
        self.since_ms = kit.ticks.wall_ms()
        self.bucket = TokenBucket(settings.rate_per_s, settings.rate_burst, now)
        self.phase: Phase = "opening"
        self.remote = self.country = self.client = self.device = self.instead_of = ""
        """Its client's address and country, the client's own word for itself, and the rest as `Login` says it."""
        self.actor: ActorId | None = None
        self.activation: LocalActor | None = None
        self.moves = 0  # number of shipments so far
        self.login_number = self.issued_ms = 0
        """How often its login was told again, or changed its node; and when its token was made."""
        self.token_until_ms = math.inf
        """Wall time until which its connection may go on with the token that its client said hello with, or renewed."""
        self.token_mark = b""
        """See `known_tokens.py`."""
        self.order = 0
        """Number of the hello that opened or resumed it; 0 for one that no client has been here for."""
        self.topics: dict[str, Topic[Session]] | None = None
        self.latest: dict[str, Slot] | None = None
        """The pictures that its client has, of the latest topics that it watches."""
        self.people: WatchTable[Session] | None = None  # players that its client watches
        self.in_line: InLine | None = None  # the line where its messages wait, while it sends faster than it may
        self.earlier_traffic = _NO_TRAFFIC  # bytes in and out over the connections that it has had here
        self.unanswered: Unanswered | None = None  # an idle session never needs it
        self._link = 0
        """Number of this session's connection: an answer belongs to the one that asked."""
        self._refused = 0

    def __str__(self) -> str:
        return f"{self.caller.subject} {self.caller.session}"

    def enter(self, phase: Phase) -> None:
        """Move on to `phase`. Raises `IllegalTransition`, with the session's story."""
        self.phase = SESSION.move(str(self), self.phase, phase)

    @property
    def ended(self) -> bool:
        """True once it is over on this node."""
        return self.phase == "ended"

    # ---- from the connection ----

    def on_message(self, data: bytes) -> None:
        """The hot path: an acknowledged heartbeat is this method, the actor's turn and one
        write, three Python frames. Time is the gateway's last tick; the clock is read only where the rate is met.
        (Functions kept in slots are read into locals first: the interpreter calls those faster.)"""
        metrics = self.metrics
        metrics.frames_in_total += 1
        self.heard_at = self._ticks.tick
        bucket = self.bucket
        bucket.tokens -= 1.0
        if bucket.tokens < 0.0 and not self._refill(data):
            return
        decode = self._decode
        try:
            message = decode(data)
        except Exception:
            second = self._second_look(data)
            if second is None:
                return
            message = second
        if self._refused:
            self._refused = 0
        if message.__class__ is not Heartbeat:
            self._request(message)
            return
        metrics.heartbeats_total += 1
        ack = message.ack
        if ack and ack > self.outbox.acked and not self.acknowledge(ack):
            return
        activation = self.activation
        if activation is not None and not activation.dropped:
            try:
                result = activation.call("beat", (self.caller, message.state))
            except Exception as error:
                self._beat_failed(message.id, error)
                return
            if result is not None and isinstance(result, asyncio.Future):
                self._later(message.id, result, self._beaten)
                return
        elif self.actor is not None:
            self._beat_elsewhere(message)
            return
        number = message.id
        if number == 0:
            self.owe_beat()
        elif self.beat_due or not self._binary:
            self.send(self.codec.encode(Beat(number)))
        else:
            metrics.frames_out_total += 1
            connection = self.connection
            if connection is not None:
                connection.send(_BEAT_HEAD + _encode_number(number))

    def on_control(self, connection: Connection) -> None:
        """Count it against the rate. Only messages are a sign of life: libraries go on with their pings when the game
        that they serve hangs."""
        bucket = self.bucket
        if not bucket.take(self._ticks.now()):
            self._refuse()
        if bucket.hurried:
            self.wait_in_line()

    def on_blocked(self, connection: Connection) -> None:
        if connection is self.connection:
            self._blocked_at = self._ticks.now()
            connection.pause_reading()  # a client that does not read our answers may not ask for more

    def on_writable(self, connection: Connection) -> None:
        if connection is self.connection:
            self._blocked_at = None
            self.heard_at = self._ticks.tick  # the client could not be heard until now
            self.read_on()
            self.flush()
            if self.latest is not None or self.people is not None:
                self._kit.latest.catch_up(self)

    def on_closed(self, connection: Connection, code: int, reason: str) -> None:
        if connection is not self.connection:
            return
        self.metrics.client_closed(code)
        self._unlink()
        if code == _NORMAL:
            self.end(ENDED_CLOSED)
        else:
            self._detach()

    # ---- one message ----

    def _beat_elsewhere(self, message: Heartbeat) -> None:
        """Deliver a heartbeat whose actor was not here the last time, or is not any more."""
        try:
            result = self._kit.actors.beat_elsewhere(self, message.state)
        except Exception as error:
            self._beat_failed(message.id, error)
            return
        if isinstance(result, asyncio.Future):
            self._later(message.id, result, self._beaten)
        else:
            self._beaten(message.id, result)

    def _beat_failed(self, request_id: int, error: BaseException) -> None:
        if request_id:  # else it is simply not acknowledged
            self.fail(request_id, error)
        else:
            self._is_unknown(error)

    def _is_unknown(self, error: BaseException) -> bool:
        """Tell its actor of this session where that says that it does not know it. True if so."""
        unknown = isinstance(error, GarrisonError) and error.code == UNKNOWN_SESSION
        if unknown:
            self._kit.actors.tell_again(self)
        return unknown

    def _beaten(self, request_id: int, _result: Any) -> None:
        if request_id:
            self.send(self.codec.encode(Beat(request_id)))
        else:
            self.owe_beat()

    def _request(self, message: Request) -> None:
        if message.__class__ is Ack:
            self.acknowledge(message.seq)
            return
        number = message.id
        if number == 0:
            self.fail(0, BadInput("a request needs an id of 1 or more"))
            return
        if self.unanswered and len(self.unanswered) >= self._kit.settings.max_in_flight:
            self.fail(number, Overloaded("too many requests wait for their answer"))
            return
        if message.__class__ is Close:
            self.send(self.codec.encode(Done(number)))
            self.end(ENDED_CLOSED, _NORMAL, "goodbye")
            return
        try:
            result = self._kit.requests.handle(self, message)
        except Exception as error:
            self.fail(number, error)
            return
        if isinstance(result, asyncio.Future):
            self._later(number, result, self._answer)
        else:
            self._answer(number, result)

    def _answer(self, request_id: int, result: Any) -> None:
        if not isinstance(result, Reply) or result.id != request_id:
            self.fail(request_id, Internal("the answer is not a reply to this request"))
            return
        self.send(self.codec.encode(result))

    def _later(self, request_id: int, future: "asyncio.Future[Any]", then: Callable[[int, Any], None]) -> None:
        """Call `then(request_id, result)` when the result is there, if the client that asked still is."""
        link, waiting = self._link, self.unanswered
        if waiting is None:
            waiting = self.unanswered = Unanswered()

        def done(future: "asyncio.Future[Any]") -> None:
            known = waiting.pop(done, None)
            error = error_of(future)
            if known is None or self._link != link:
                return  # answered already; or the connection that asked is gone: a repeated command is deduplicated
            if error is None:
                then(request_id, future.result())
            else:
                self._beat_failed(request_id, error)

        waiting[done] = request_id, link
        future.add_done_callback(done)

    def end_waiting(self) -> None:
        """Answer the requests that wait: their outcome is unknown."""
        if self.unanswered:
            self.unanswered.end(self._link, self.fail)

    def changed(self) -> None:
        """Word that what it watches has changed: see `session_barrier.py`."""

    def fail(self, request_id: int, error: BaseException) -> None:
        """Answer a request with a typed error."""
        if self._is_unknown(error):
            error = Unavailable("the player's actor does not know this session yet", retry_after_s=_KNOWN_S)
        typed = error if isinstance(error, GarrisonError) else self._kit.requests.fault(error)
        retry_ms = None if typed.retry_after_s is None else round(typed.retry_after_s * 1000)
        self.send(self.codec.encode(Failed(request_id, typed.code, typed.message[:500], retry_ms)))

    # ---- misuse ----

    def _refill(self, data: bytes) -> bool:
        """Get new tokens, as those at hand are used up. False: there are none, and the message is refused."""
        bucket = self.bucket
        if bucket.refill(self._ticks.now()):
            if bucket.hurried:
                self.wait_in_line()
            return True
        self.wait_in_line()
        self._over_rate(data)
        return False

    def wait_in_line(self) -> None:
        """Take its messages in turns with those of other sessions that send fast, from here on."""
        if self.in_line is None and self.connection is not None:
            self.in_line = InLine(self._kit.turnstile, self, self.connection)

    def read_on(self) -> None:
        """Read the connection again, unless there is another reason not to."""
        waits = self.in_line is not None and self.in_line.paused
        if self.connection is not None and self._blocked_at is None and not waits:
            self.connection.resume_reading()

    def _over_rate(self, data: bytes) -> None:
        """Refuse a message, and say when to come again: each of many refused at once is given a time of its own, so
        that a client which waits as it is told is never closed, however many requests it has in flight."""
        self.metrics.rate_limited_total += 1
        now = self._ticks.now()
        wait_s = self.bucket.put_off(now)
        if not self._refuse(self.bucket.overrun(now)):
            return
        try:
            number = self.codec.decode(data).id
        except BadInput as error:
            number = error.request_id
        if number:
            self.fail(number, RateLimited("over the rate", retry_after_s=math.ceil(round(wait_s * 1000, 6)) / 1000))

    def _second_look(self, data: bytes) -> Request | None:
        """The message in `data`, which the fast decoder did not take; None: it is no good, and was answered."""
        try:
            return self.codec.decode(data)
        except BadInput as error:
            self.metrics.bad_frames_total += 1
            if self._refuse():
                self.fail(error.request_id, error)
            return None

    def _refuse(self, overrun: bool = False) -> bool:
        """Count one refused message; False if that was one too many in a row, or too many by `overrun`, and the
        session is closed."""
        self._refused += 1
        if self._refused < self._kit.settings.rate_violations and not overrun:
            return True
        self.close(CloseCode.FLOOD, "too many refused messages")
        return False

    # ---- life ----

    def begin(self, connection: Connection, first: bytes) -> None:
        """Attach to a connection, say `first` (the welcome), then everything unsent."""
        assert self.connection is None, f"{self} has a connection already"
        self.enter("attached")
        self.connection = connection
        self.remote, self.country = connection.remote, connection.country
        self.heard_at = self._ticks.tick
        self._blocked_at = None
        self.beat_due = False
        self.metrics.sessions += 1
        connection.set_receiver(self)
        self.send(first)
        self.flush()

    def login(self, node: str, incarnation: int, policy: str) -> Login:
        """Its login, as it is told to its actor now."""
        return Login(
            self.caller.session, self.device, node, incarnation, self.login_number, self.client, self.issued_ms, policy,
            self.age_ms, mark_of(self.resume), self.instead_of,
        )  # fmt: skip

    @property
    def age_ms(self) -> int:
        """Time since the hello that began it."""
        return max(0, round((self._ticks.now() - self.began) * 1000))

    def arrive(self, packed: Packed, outbox: Outbox) -> None:
        """Become what it was on the node that it came from; its client resumes it here."""
        self.enter("arrived")
        self.since_ms, self.beats, self.moves, self.outbox = packed.since_ms, packed.beats, packed.moves, outbox
        self.client, self.device, self.instead_of = packed.client, packed.device, packed.instead_of
        self.issued_ms, self.login_number = packed.issued_ms, packed.login_number + 1
        self.began -= packed.age_ms / 1000

    def close(self, code: int, reason: str) -> None:
        """Close the connection; the session is kept for resuming."""
        if self._hang_up(code, reason):
            self._detach()

    def end(self, why: str, code: int = 0, reason: str = "") -> None:
        """End for good, closing the connection with `code` if there is one."""
        before = self.phase
        if before == "ended":
            return
        self.enter("ended")
        self._hang_up(code or _NORMAL, reason)
        self._kit.keeper.session_ended(self, before, Ending(why, code, reason))
        self.outbox = Outbox(0, 0)

    def _hang_up(self, code: int, reason: str) -> bool:
        connection = self.connection
        if connection is None:
            return False
        self.metrics.closed(code)
        self._unlink()
        connection.set_receiver(NOBODY)
        connection.close(code, reason)
        return True

    def give_way(self) -> None:
        """Close the old connection, if it is still there: a newer one resumes this session."""
        self._hang_up(CloseCode.REPLACED, "resumed on another connection")

    def traffic(self) -> tuple[int, int]:
        """Bytes in and out over all its connections here; see `Connection.traffic`."""
        (came, went), connection = self.earlier_traffic, self.connection
        if connection is None:
            return came, went
        more = connection.traffic()
        return came + more[0], went + more[1]

    def go_on_over(self, connection: Connection) -> None:
        """Go on: its connection has taken another form."""
        self.earlier_traffic = self.traffic()
        self.connection = connection
        if self.in_line is not None:
            self.in_line.go_on_over(connection)
        else:
            connection.set_receiver(self)

    def _unlink(self) -> None:
        self.earlier_traffic = self.traffic()
        self._link += 1
        self.connection = self.in_line = None
        self.metrics.sessions -= 1

    def _detach(self) -> None:
        if self.phase == "transferred":
            self.end(ENDED_MOVED)
            return
        self.enter("detached")
        self.detached_at = self._ticks.now()
        self._kit.keeper.session_detached(self)

    def check(self, now: float) -> float | None:
        """Close the connection of a client that is silent, does not read, or whose token has expired: the wheel's call,
        for as long as the session lives. Returns when to look again."""
        if self.ended:
            return None
        settings = self._kit.settings
        silence_s = settings.heartbeat_interval_s * settings.heartbeats_missed + self._ticks.tick_s
        if self.connection is None:
            return now + silence_s
        if self._blocked_at is not None:
            if now >= self._blocked_at + silence_s:
                self.close(CloseCode.SLOW_READER, "nothing was read for too long")
                return now + silence_s
            return self._blocked_at + silence_s
        if now >= self.heard_at + silence_s:
            self.close(CloseCode.HEARTBEAT_MISSED, "no heartbeat")
            return now + silence_s
        token_left_s = (self.token_until_ms - self._ticks.wall_ms()) / 1000
        if token_left_s <= 0.0:
            self.close(CloseCode.TOKEN_EXPIRED, "the session's token has expired")
            return now + silence_s
        return min(self.heard_at + silence_s, now + token_left_s)

    def expire(self, now: float) -> None:
        """End it if no client has come: the wheel's call a resume window after each detaching."""
        if self.connection is None and now >= self.detached_at + self._kit.settings.resume_window_s:
            self.end(ENDED_EXPIRED)


SessionKit = Kit[Session]
"""The parts that all sessions of a node share."""
