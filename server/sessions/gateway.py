"""The gateway: from a connection to a session, and from a client's message to an actor.

    hello -> token -> redirect? -> resume? -> the player's actor says yes -> welcome

A player's session belongs on the node that owns the slot of the player's actor; a hello elsewhere
is answered with a redirect, unless the client cannot follow one (then it is served here and every
call is forwarded) or no owner is known. Host and service sessions stay where they connect, until
that node leaves: then it takes no more in and hands all it has to the others (`Mover`).

A player has one session on a node: a newer one that does not resume it replaces it (4004). A host
or service subject may have many. Newer is whose hello came later, whichever is answered first.

`Session` handles what comes on the connection; this handles what needs the node.
"""

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Union, cast

import msgspec
import structlog

from server.actors.actor import Caller, Role
from server.actors.app import QueryRoute, Route, StoreRoute
from server.catalog.system import ActorSystem
from server.cluster.view import Member, View
from server.errors import (
    BadInput,
    BadToken,
    Forbidden,
    GarrisonError,
    Internal,
    NotFound,
    Rejected,
    TokenExpired,
    Unavailable,
    UnknownType,
)
from server.ids import ActorId, actor_id
from server.sessions.broadcast import Broadcast
from server.sessions.connection import NOBODY, Connection, Receiver
from server.sessions.handover import ClientRole, Packed, Wanted
from server.sessions.mover import Mover
from server.sessions.opening import Opening
from server.sessions.outbox import Outbox
from server.sessions.read_model import session_rows
from server.sessions.session import (
    ENDED_CLOSED,
    ENDED_EXPIRED,
    ENDED_MOVED,
    ENDED_OWNERSHIP_LOST,
    ENDED_REPLACED,
    ENDED_STOPPING,
    Session,
)
from server.sessions.streams import Streams
from server.sessions.tokens import Claims, check, check_key
from server.sessions.turnstile import Turnstile
from server.sessions.wheel import Wheel
from server.settings import Settings
from server.storage.queries import StoreQueries
from server.wire.codec import Codec, Format
from server.wire.messages import (
    ENGINE_REQUESTS,
    CloseCode,
    Going,
    Hello,
    Redirect,
    Reply,
    Request,
    Unwatch,
    Watch,
    Welcome,
)

log = structlog.get_logger(__name__)

TICK_S: Final = 0.1
HOME_WAIT_S: Final = 3.0
"""How long a hello waits for the view to say who serves a player whose node does not answer."""
MOVING_RETRY_S: Final = 0.2
"""After this a client whose session is just being handed over should ask again."""
_STOP_BATCH: Final = 100
_TOOK_OVER: Final = "another connection of this player took over"
_LOCAL_ENDS: Final = frozenset({ENDED_MOVED, ENDED_STOPPING})
"""The actor is moving anyway: told only if it still lives here."""

Handle = Callable[[Session, Any], Any]


class Gateway:
    """See the module's head. `signing_key` is the HMAC key of client tokens. Make it before the
    transport starts; `streams` is the node's `Outlet`, `accept` is for listeners. Raises
    `BadInput` for a short key."""

    def __init__(
        self,
        host: ActorSystem,
        settings: Settings,
        signing_key: bytes,
        rng: random.Random,
        store_queries: StoreQueries,
    ) -> None:
        check_key(signing_key)
        self.host = host
        self.store_queries = store_queries
        self.rng = rng
        self.settings = settings.gateway
        self.rebalance_per_s = settings.actors.rebalance_per_s
        self.clock = host.clock
        self.now = host.clock.now
        self.metrics = host.metrics
        requests = (*ENGINE_REQUESTS, *host.app.requests)
        self.codecs: dict[Format, Codec] = {"msgpack": Codec("msgpack", requests), "json": Codec("json", requests)}
        union = cast(Any, Union[requests])  # noqa: UP007 - a union made at run time
        self.decoders: dict[Format, Callable[[bytes], Any]] = {
            "msgpack": msgspec.msgpack.Decoder(union).decode,
            "json": msgspec.json.Decoder(union).decode,
        }
        """The codecs' decoders without their explanations, for the hot path."""
        self.tick = self.now()
        """`now` as of the last tick: good enough to know who was heard."""
        self.tick_s = TICK_S
        beat_s = self.settings.heartbeat_interval_s
        self.ack_interval_s = min(self.settings.cumulative_ack_interval_s, max(0.9 * beat_s - TICK_S, 0.5 * beat_s))
        """A client that hears nothing for a heartbeat interval asks. What is due is sent a tick later
        at most, and then has the rest of the interval for its way."""
        self.wheel = Wheel(TICK_S, self.tick)
        self.sessions: dict[str, Session] = {}
        """By resume token, attached and detached."""
        self.players: dict[str, Session] = {}
        self.detached: dict[Session, None] = {}
        self.openings: dict[Opening, None] = {}
        self.streams = Streams(self)
        self.mover = Mover(self)
        self.turnstile = Turnstile()
        self.closed = False
        """No connection is taken any more."""
        self._key = signing_key
        self._numbers = 0
        self._handlers: dict[type[Request], Handle] = {Watch: self.streams.watch, Unwatch: self.streams.unwatch}
        for message, route in host.app.routes.items():
            self._handlers[message] = self._route(route) if isinstance(route, Route) else self._read_route(route)

    def start(self) -> None:
        """Begin to keep time for sessions and streams."""
        self.host.supervisor.every(TICK_S, self._tick, "sessions")
        self.streams.start()

    def _tick(self) -> None:
        self.tick = self.now()
        self.wheel.turn(self.tick)

    # ---- a new connection ----

    def accept(self, connection: Connection) -> Receiver:
        """See `server.sessions.connection.Acceptor`."""
        if self.closed:
            connection.close(CloseCode.GOING_AWAY, "this node is stopping")
            return NOBODY
        opening = Opening(self, connection)
        self.openings[opening] = None
        self.wheel.add(self.now() + self.settings.hello_timeout_s, opening.check)
        return opening

    def hello(self, opening: Opening, hello: Hello) -> None:
        """The first message of a connection."""
        try:
            claims = check(hello.token, self._key, self.clock.wall_ms(), self.settings.clock_skew_s)
        except TokenExpired as error:
            opening.refuse(hello.id, error, CloseCode.TOKEN_EXPIRED)
            return
        except BadToken as error:
            opening.refuse(hello.id, error, CloseCode.BAD_TOKEN)
            return
        self._numbers += 1
        opening.order = self._numbers
        self._greet(opening, hello, claims, False)

    def _greet(self, opening: Opening, hello: Hello, claims: Claims, sought: bool) -> None:
        """A hello with a good token. `sought`: the session that it would resume is here, or
        nowhere to be found."""
        if opening.closed or self.closed:
            opening.leave(None, CloseCode.GOING_AWAY, "this node is stopping")
            return
        actor = self._actor_of(claims)
        home = self._home(actor, hello)
        if home is not None:
            if hello.redirects and not self._answers(home) and self._wait_for_home(opening, hello, claims, sought):
                return
            if hello.redirects:
                self.metrics.redirects_total += 1
                opening.leave(Redirect(hello.id, home.client_url, home.node), CloseCode.REDIRECTED, "served elsewhere")
                return
            if self.mover.leaving:
                opening.leave(None, CloseCode.GOING_AWAY, "this node is stopping")
                return
        earlier = self._earlier(hello, claims)
        if earlier is None and hello.resume and hello.resume not in self.sessions and not sought:
            wanted = Wanted(hello.resume, claims.subject, cast(ClientRole, claims.role))
            if self.mover.seeker.find(wanted, partial(self._greet, opening, hello, claims, True)):
                opening.busy = True
                return
        rival = self._rival(claims.role, claims.subject, earlier)
        if rival is not None and rival.order > opening.order:
            opening.leave(None, CloseCode.REPLACED, _TOOK_OVER)
        elif earlier is not None and earlier.moving:
            error = Unavailable("this session is moving to another node", retry_after_s=MOVING_RETRY_S)
            opening.refuse(hello.id, error, CloseCode.GOING_AWAY)
        elif earlier is not None and earlier.format == opening.format and earlier.outbox.rewind(hello.ack):
            self._resume(opening, hello, earlier)
        elif len(self.sessions) >= self.settings.max_connections and not self._evict():
            opening.leave(None, CloseCode.FULL, "no room for another session")
        else:
            self._open(opening, hello, claims, actor, earlier)

    def _answers(self, home: Member) -> bool:
        return not home.suspect and self.host.transport.reaches(home.address)

    def _wait_for_home(self, opening: Opening, hello: Hello, claims: Claims, sought: bool) -> bool:
        """The node to redirect to seems to be gone, and the view does not know yet: a client that is
        sent there comes back after a growing wait. So it waits here, for a while, until the view
        knows. False: it has waited long enough."""
        now = self.now()
        if opening.waits_since is None:
            opening.waits_since = now
        if now >= opening.waits_since + HOME_WAIT_S:
            return False
        opening.busy = True
        self.wheel.add(now + TICK_S, lambda _now: self._greet(opening, hello, claims, sought))
        return True

    def _earlier(self, hello: Hello, claims: Claims) -> Session | None:
        """The session that the client would resume, if it is here and the client's."""
        session = self.sessions.get(hello.resume) if hello.resume else None
        if session is None or (session.caller.subject, session.caller.role) != (claims.subject, claims.role):
            return None
        return session

    def _rival(self, role: Role, subject: str, earlier: Session | None) -> Session | None:
        """The session that a hello resumes or replaces. One that has a later hello stays: the earlier
        hello had to wait, and its client may have connected again since."""
        rival = self.players.get(subject, earlier) if role == "player" else earlier
        return None if rival is None or rival.ended else rival

    def _resume(self, opening: Opening, hello: Hello, session: Session) -> None:
        session.give_way()
        self.detached.pop(session, None)
        self.metrics.sessions_resumed_total += 1
        session.stays = not hello.redirects
        session.acknowledge(hello.ack)  # the outbox knows it already: streams that wait for room go on
        if session.actor is not None and session.activation is None:
            self._bind(session)
            self.host.tell(session.actor, "connected", (session.caller,))  # it may be another life of it
        self._welcome(opening, hello.id, session, recovered=True)
        self.mover.consider(session)

    def _open(
        self, opening: Opening, hello: Hello, claims: Claims, actor: ActorId | None, earlier: Session | None
    ) -> None:
        me = self.host.me
        caller = Caller(claims.role, claims.subject, f"{me.node}-{me.incarnation}-{opening.order}")
        session = Session(self, caller, f"{self.rng.getrandbits(128):032x}", opening.format, not hello.redirects)
        session.actor = actor
        opening.busy = True
        if actor is None:
            self._opened(opening, hello.id, session, earlier)
            return
        try:
            result = self.host.ask_now(actor, "connected", (caller,))
        except Exception as error:
            self._not_opened(opening, hello.id, session, error)
            return
        if not isinstance(result, asyncio.Future):
            self._opened(opening, hello.id, session, earlier)
            return

        def done(future: "asyncio.Future[Any]") -> None:
            error = GarrisonError("cancelled") if future.cancelled() else future.exception()
            if error is not None:
                self._not_opened(opening, hello.id, session, error)
            else:
                self._opened(opening, hello.id, session, earlier)

        result.add_done_callback(done)

    def _not_opened(self, opening: Opening, request_id: int, session: Session, error: BaseException) -> None:
        """The application refuses this player for good, or the actor cannot be had just now."""
        typed = error if isinstance(error, GarrisonError) else self.fault(error)
        refused = isinstance(typed, (BadInput, NotFound, Rejected))
        if not refused:
            self._not_wanted(session, ENDED_CLOSED)  # it may have heard of it all the same
        opening.refuse(request_id, typed, CloseCode.BAD_TOKEN if refused else CloseCode.INTERNAL)

    def _opened(self, opening: Opening, request_id: int, session: Session, earlier: Session | None) -> None:
        """The player's actor has taken the session, or there is none to ask."""
        caller = session.caller
        rival = self._rival(caller.role, caller.subject, earlier)
        if opening.closed or self.closed:
            self._not_wanted(session, ENDED_CLOSED)
            opening.leave(None, CloseCode.GOING_AWAY, "this node is stopping")
            return
        if rival is not None and rival.order > opening.order:
            self._not_wanted(session, ENDED_REPLACED)
            opening.leave(None, CloseCode.REPLACED, _TOOK_OVER)
            return
        self._bind(session)
        self.sessions[session.resume] = session
        self.metrics.sessions_opened_total += 1
        if caller.role == "player":
            self.players[caller.subject] = session
        if rival is not None:
            rival.end(ENDED_REPLACED, CloseCode.REPLACED, _TOOK_OVER)
        self.wheel.add(self.now() + self.settings.heartbeat_interval_s, session.check)
        self._welcome(opening, request_id, session, recovered=False)
        self.mover.consider(session)

    def _not_wanted(self, session: Session, why: str) -> None:
        """Its actor may have taken it, and it does not begin."""
        if session.actor is not None:
            self.host.tell(session.actor, "disconnected", (session.caller, why))

    def _welcome(self, opening: Opening, request_id: int, session: Session, recovered: bool) -> None:
        settings, caller = self.settings, session.caller
        welcome = Welcome(
            request_id,
            caller.session,
            str(self.host.me.node),
            caller.subject,
            caller.role,
            session.resume,
            recovered,
            round(settings.heartbeat_interval_s * 1000),
            round(settings.resume_window_s * 1000),
            settings.max_frame_bytes,
            self.clock.wall_ms(),
        )
        opening.hand_on(session, session.codec.encode(welcome))

    # ---- where a player belongs ----

    def _actor_of(self, claims: Claims) -> ActorId | None:
        cls = self.host.app.session_actor
        return actor_id(cls.kind, claims.subject) if cls is not None and claims.role == "player" else None

    def _home(self, actor: ActorId | None, hello: Hello) -> Member | None:
        """The member that should serve who says `hello`, if it is another one and known."""
        if actor is not None:
            return self.mover.member(actor)
        went = self.mover.gone.where(hello.resume, self.now()) if hello.resume and self.mover.leaving else None
        if went is not None and went in self.host.view.addresses:
            return self.host.view.addresses[went]
        return self.mover.elsewhere(hello.resume or hello.token)

    # ---- a session's actor ----

    def _bind(self, session: Session) -> None:
        activation = self.host.find(session.actor) if session.actor is not None else None
        session.activation = activation
        if activation is not None:
            activation.pins += 1

    def beat_elsewhere(self, session: Session, state: str | None) -> Any:
        """A heartbeat of a session whose actor was not here a moment ago: bind to it if it is
        now, else forward. An actor that lives here, or will, is told of the session before."""
        assert session.actor is not None
        if session.handed:
            return self.host.ask_now(session.actor, "beat", (session.caller, state))
        self._bind(session)
        if session.activation is not None or self.host.owner(session.actor) == self.host.me:
            told = self.host.ask_now(session.actor, "connected", (session.caller,))
            if isinstance(told, asyncio.Future):
                after = self._beat_after(told, session.actor, session.caller, state)
                return self.host.supervisor.spawn(after, f"beat {session.actor}")
        return self.host.ask_now(session.actor, "beat", (session.caller, state))

    async def _beat_after(self, told: "asyncio.Future[Any]", actor: ActorId, caller: Caller, state: str | None) -> None:
        await told
        await self.host.ask(actor, "beat", (caller, state))

    def session_detached(self, session: Session) -> None:
        """The connection is gone; the session waits for its client."""
        self.detached[session] = None
        self.wheel.add(self.now() + self.settings.resume_window_s, session.expire)

    def _evict(self) -> bool:
        """End the session that is detached longest, to make room. False: there is none."""
        oldest = next(iter(self.detached), None)
        if oldest is not None:
            oldest.end(ENDED_EXPIRED)
        return oldest is not None

    def session_ended(self, session: Session, why: str) -> None:
        """Forget a session and tell its actor (after whatever turn is going on)."""
        self.mover.ended(session, why)
        if session.handed:
            return
        self._remove(session)
        self.streams.forget(session)
        if session.actor is not None:
            asyncio.get_running_loop().call_soon(self._farewell, session, why)

    def _remove(self, session: Session) -> None:
        if self.sessions.get(session.resume) is session:
            del self.sessions[session.resume]
        self.detached.pop(session, None)
        if self.players.get(session.caller.subject) is session:
            del self.players[session.caller.subject]

    def release(self, session: Session) -> None:
        """It lives on another node now; its actor is told nothing, since nothing has ended."""
        self._remove(session)
        activation, session.activation = session.activation, None
        if activation is not None:
            activation.pins -= 1

    def supersede(self, session: Session) -> None:
        """The node that had sent it here never learnt that it had arrived, and went on with it."""
        self.streams.forget(session)
        self.release(session)
        session.handed = True
        session.end(ENDED_MOVED)

    def install(self, packed: Packed, outbox: Outbox, other: Session | None) -> Session:
        """A session that comes from another node, detached until its client resumes it. It takes
        the place of the player's `other` one."""
        caller = Caller(packed.role, packed.subject, packed.session)
        session = Session(self, caller, packed.resume, packed.format, packed.stays)
        cls = self.host.app.session_actor
        if cls is not None and packed.role == "player":
            session.actor = actor_id(cls.kind, packed.subject)
        session.since_ms, session.beats, session.moves = packed.since_ms, packed.beats, packed.moves
        session.outbox, session.untouched = outbox, True
        self.sessions[session.resume] = session
        if packed.role == "player":
            self.players[packed.subject] = session
        if other is not None:
            other.end(ENDED_REPLACED, CloseCode.REPLACED, _TOOK_OVER)
        self.wheel.add(self.now() + self.settings.heartbeat_interval_s, session.check)
        self.session_detached(session)
        return session

    def _farewell(self, session: Session, why: str) -> None:
        activation, session.activation = session.activation, None
        here = activation is not None and not activation.dropped
        if activation is not None:
            activation.pins -= 1
        if why == ENDED_OWNERSHIP_LOST or (why in _LOCAL_ENDS and not here):
            return
        assert session.actor is not None
        self.host.tell(session.actor, "disconnected", (session.caller, why))

    # ---- a client's requests ----

    def handle(self, session: Session, message: Request) -> Any:
        """The `Reply`, or a future of it. Raises typed errors."""
        handler = self._handlers.get(message.__class__)
        if handler is None:
            if message.__class__ is Hello:
                raise BadInput("hello is only a connection's first message")
            raise UnknownType(f"nothing handles {message.__class__.__name__}")
        return handler(session, message)

    def _route(self, route: Route) -> Handle:
        kind, name, key, roles = route.actor.kind, route.method.__name__, route.key, route.roles
        ask_now = self.host.ask_now

        def handle(session: Session, message: Any) -> Any:
            caller = session.caller
            _allow(caller.role, roles, message)
            return ask_now(actor_id(kind, key(caller, message)), name, (caller, message))

        return handle

    def _read_route(self, route: QueryRoute | StoreRoute) -> Handle:
        def handle(session: Session, message: Any) -> Any:
            _allow(session.caller.role, route.roles, message)
            answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            params = route.params(session.caller, message)
            self.host.supervisor.spawn(self._read(route, message, params, answer), f"query {route.query}")
            return answer

        return handle

    async def _read(
        self, route: QueryRoute | StoreRoute, message: Any, params: dict[str, Any], answer: "asyncio.Future[Reply]"
    ) -> None:
        try:
            if isinstance(route, StoreRoute):
                reply = route.answer(message, await self.store_queries.run(route.query, params))
            else:
                result = await self.host.query(route.query, params)
                reply = route.answer(message, result.rows, result.missing)
        except Exception as error:
            if not answer.done():
                answer.set_exception(error)
        else:
            if not answer.done():
                answer.set_result(reply)

    def fault(self, error: BaseException) -> Internal:
        """Something untyped was raised on a session's behalf: a fault of ours, logged."""
        self.metrics.task_crashes_total += 1
        log.error("request failed", exc_info=error)
        return Internal(type(error).__name__)

    # ---- moving and stopping ----

    def on_view(self, view: View) -> None:
        """The view has changed (the host has it already): sessions that belong elsewhere now are
        handed over, spread over time."""
        self.streams.on_view(view)
        self.mover.on_view()
        self.streams.renew(hurry=True)

    @property
    def leaving(self) -> bool:
        """This node's own member is leaving: hellos are redirected, sessions handed over."""
        return self.mover.leaving

    def sessions_left(self) -> int:
        """Sessions that are still here, attached or detached, and connections of those that were
        handed over."""
        return len(self.sessions) + len(self.mover.closing)

    def close_all(self, code: int) -> None:
        """End every session at once, and accept no more: the node lost its lease (4010), and
        nothing here may be acknowledged any more."""
        self.closed = True
        self._end_all(ENDED_OWNERSHIP_LOST, code, "this node does not serve any more")

    async def stop(self, within_s: float) -> None:
        """Hand over all sessions that have somewhere to go, accept no more, and send away who is
        left, all of it within `within_s`. The node has said that it leaves before; otherwise, and
        where no other node is up, nobody has anywhere to go."""
        deadline = self.now() + within_s
        if not self.closed:
            await self.mover.hand_over_all(within_s)
        self.closed = True
        attached = [session for session in self.sessions.values() if session.connection is not None]
        spread_s = min(max(0.0, deadline - self.now()), len(attached) / self.rebalance_per_s)
        for number, session in enumerate(attached, 1):
            if session.connection is not None:
                session.push(Broadcast(Going(0, "", 0)))
            session.end(ENDED_STOPPING, CloseCode.GOING_AWAY, "this node is stopping")
            if number % _STOP_BATCH == 0:
                await asyncio.sleep(spread_s * _STOP_BATCH / len(attached))
        for _ in range(len(self.detached)):
            self.metrics.closed(CloseCode.GOING_AWAY)  # lost like those, though nobody is told
        self._end_all(ENDED_STOPPING, CloseCode.GOING_AWAY, "this node is stopping")

    def _end_all(self, why: str, code: int, reason: str) -> None:
        for opening in list(self.openings):
            opening.leave(None, code, reason)
        for session in (*self.sessions.values(), *self.mover.closing):
            session.end(why, code, reason)

    # ---- for operators ----

    def session_rows(self, offset: int, limit: int, subject: str) -> list[dict[str, Any]]:
        """See `server.sessions.read_model.session_rows`."""
        return session_rows(self, offset, limit, subject)


def _allow(role: Role, roles: frozenset[Role], message: Request) -> None:
    if role not in roles:
        raise Forbidden(f"a {role} may not send {message.__struct_config__.tag}")
