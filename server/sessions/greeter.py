"""From a connection's hello to a session: the shell around `hello_rules.py`, which decides."""

import asyncio
import random
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, assert_never, cast

import structlog

from server.activations.awaiting import resolve
from server.actors.actor import Caller
from server.actors.devices import mark_of
from server.cluster.view import Member
from server.errors import (
    BadToken,
    Forbidden,
    GarrisonError,
    Retryable,
    TokenExpired,
    Unavailable,
)
from server.ids import ActorId
from server.runtime.metrics import Metrics
from server.sessions.binding import SessionActors
from server.sessions.connection import NOBODY, Connection, Receiver
from server.sessions.end_reasons import ENDED_CLOSED, ENDED_REPLACED, NODE_STOPS, TOOK_OVER
from server.sessions.hello_rules import REFUSALS, Facts, Home, decide, refusal_code
from server.sessions.homes import Homes
from server.sessions.known_tokens import KnownTokens
from server.sessions.latest import LatestTopics
from server.sessions.mover import Mover
from server.sessions.opening import Opening
from server.sessions.ports import NodeView
from server.sessions.presence import PresenceWatches
from server.sessions.seeker import Seeker
from server.sessions.session import Session, SessionKit
from server.sessions.slices import Slices
from server.sessions.stream_frames import Dismiss
from server.sessions.table import SessionTable
from server.sessions.time_limits import MOVING_RETRY_S, Limits
from server.sessions.tokens import TokenClaims, TokenRules, check
from server.sessions.transfer import DepartedSessions
from server.sessions.transfer_frames import ClientRole, Wanted
from server.settings import GatewaySettings
from server.transport.ports import Transport
from server.wire.codec import Codec, Format
from server.wire.messages import CloseCode, Hello, Redirect, Renewed, TokenRenew, Welcome

log = structlog.get_logger(__name__)
HELLO_UNITS: Final = 10
"""Weight of a hello among what the loop does in slices."""


class Greeter:
    """See the module's head; it is the `Reception` of new connections. `token_rules`: conditions of a
    good token; whoever reads the keys again sets them anew."""

    def __init__(
        self,
        kit: SessionKit,
        token_rules: TokenRules,
        node: NodeView,
        transport: Transport,
        rng: random.Random,
        homes: Homes,
        table: SessionTable,
        actors: SessionActors,
        departures: DepartedSessions,
        seeker: Seeker,
        mover: Mover,
        latest: LatestTopics,
        presence: PresenceWatches,
        slices: Slices,
        limits: Limits,
    ) -> None:
        self._kit, self._node, self._transport, self._rng = kit, node, transport, rng
        self._token_rules, self._known_tokens = token_rules, KnownTokens()
        self._homes, self._table, self._actors, self._departures = homes, table, actors, departures
        self._seeker, self._mover, self._latest, self._presence, self._limits = seeker, mover, latest, presence, limits
        self._ticks, self._slices = kit.ticks, slices
        self.settings: GatewaySettings = kit.settings
        self.metrics: Metrics = kit.metrics
        self.codecs: Mapping[Format, Codec] = kit.codecs
        self.openings: dict[Opening, None] = {}
        self.closed = False
        """No connection is taken any more."""
        self.hellos = 0
        """Number of the newest hello, which is in the name of the session that it opens."""

    def accept(self, connection: Connection) -> Receiver:
        """See `server.sessions.connection.Acceptor`."""
        if self.closed:
            connection.close(CloseCode.GOING_AWAY, NODE_STOPS)
            return NOBODY
        opening = Opening(self, connection)
        self.openings[opening] = None
        self._ticks.after(self.settings.hello_timeout_s, opening.check)
        return opening

    def opening_over(self, opening: Opening) -> None:
        """The connection is closed, or belongs to a session now."""
        self.openings.pop(opening, None)

    @property
    def token_rules(self) -> TokenRules:
        return self._token_rules

    @token_rules.setter
    def token_rules(self, rules: TokenRules) -> None:
        if rules != self._token_rules:
            self._known_tokens.forget()
        self._token_rules = rules

    def hello(self, opening: Opening, hello: Hello) -> None:
        """Answer the first message of a connection, now or later: a slice has room for so many."""
        self.hellos += 1
        opening.order = self.hellos
        opening.since_ms, opening.since = self._ticks.wall_ms(), self._ticks.now()
        opening.busy = True
        self._slices.do(HELLO_UNITS, partial(self._hello, opening, hello))

    def _hello(self, opening: Opening, hello: Hello) -> None:
        """Check the token of a hello, and answer."""
        if opening.closed:
            return
        try:
            claims = self._known_claims(hello) or check(hello.token, self._token_rules, self._ticks.wall_ms())
        except TokenExpired as error:
            opening.refuse(hello.id, error, CloseCode.TOKEN_EXPIRED)
            return
        except BadToken as error:
            opening.refuse(hello.id, error, CloseCode.BAD_TOKEN)
            return
        except Retryable as error:  # the token is not good yet, or its key is not here yet
            opening.refuse(hello.id, error, CloseCode.INTERNAL)
            return
        opening.subject, opening.role, opening.issued_ms = claims.subject, claims.role, _issued_ms(claims)
        self._greet(opening, hello, claims, False)

    def renew(self, session: Session, message: TokenRenew) -> "Renewed | asyncio.Future[Renewed]":
        """Let a session go on under another token, once the application's judge has said yes. Raises what a bad token
        does, and `Forbidden` for one of another subject or role; the session goes on under the present one then, for as
        long as that is good."""
        claims = check(message.token, self._token_rules, self._ticks.wall_ms())
        if (claims.subject, claims.role) != (session.caller.subject, session.caller.role):
            raise Forbidden("the token is for another subject or role")

        def renewed(_judged: Any) -> Renewed:
            self._take_token(session, claims, message.token)
            return Renewed(message.id, self._token_left_ms(session))

        judged = self._actors.judge(session.caller, _issued_ms(claims))
        if not isinstance(judged, asyncio.Future):
            return renewed(judged)
        answer: asyncio.Future[Renewed] = asyncio.get_running_loop().create_future()
        judged.add_done_callback(partial(resolve, answer, then=renewed))
        return answer

    def _take_token(self, session: Session, claims: TokenClaims, token: str) -> None:
        session.issued_ms = _issued_ms(claims)
        session.token_until_ms = (claims.expires_s + self._token_rules.skew_s) * 1000
        session.token_mark = self._known_tokens.mark(token)
        session.changed()

    def _known_claims(self, hello: Hello) -> TokenClaims | None:
        """The claims of a token that was found good when the session that is to be resumed was given it, under the
        same conditions, and has not expired since; None: it must be checked."""
        session = self._table.sessions.get(hello.resume) if hello.resume else None
        if session is None or not self._known_tokens.knows(hello.token, session.token_mark):
            return None
        if session.token_until_ms <= self._ticks.wall_ms():
            return None
        expires_s = session.token_until_ms / 1000 - self._token_rules.skew_s
        caller = session.caller
        return TokenClaims(caller.subject, caller.role, session.issued_ms / 1000, expires_s, session.device)

    def _token_left_ms(self, session: Session) -> int:
        return max(0, round(session.token_until_ms - self._ticks.wall_ms()))

    def dismiss(self, frame: Dismiss) -> None:
        """Close connections whose hello is being answered, of whom `frame` is for: an actor ends the player's sessions,
        and may have done so after it took this one."""
        for opening in [opening for opening in self.openings if opening.subject == frame.subject]:
            if frame.is_for(opening.role, opening.issued_ms):
                opening.leave(None, frame.code, frame.reason)

    # ---- the answer ----

    def _greet(self, opening: Opening, hello: Hello, claims: TokenClaims, sought: bool) -> None:
        """Answer a hello with a good token. `sought`: the session that it would resume is here, or
        nowhere to be found."""
        table = self._table
        actor = self._actors.actor_of(claims.role, claims.subject)
        member = self._home(actor, hello)
        earlier = table.of_client(hello.resume, claims.role, claims.subject)
        rival = table.rival(claims.role, claims.subject, earlier)
        wanted = Wanted(hello.resume, claims.subject, cast(ClientRole, claims.role)) if hello.resume else None
        home: Home = "here" if member is None else "elsewhere" if self._answers(member) else "silent"
        facts = Facts(
            over=opening.closed or self.closed,
            home=home,
            follows=hello.redirects,
            may_wait=opening.waits_since is None or self._ticks.now() < opening.waits_since + self._limits.home_wait_s,
            leaving=self._homes.leaving,
            to_seek=not sought
            and wanted is not None
            and wanted.resume not in table.sessions
            and self._seeker.may_find(wanted),
            overtaken=rival is not None and rival.order > opening.order,
            moving=earlier is not None and earlier.moving,
            resumable=earlier is not None and earlier.format == opening.format and earlier.outbox.can_rewind(hello.ack),
            room=not table.full or bool(table.detached),
        )
        match decide(facts):
            case "stopping" | "leaving":
                opening.leave(None, CloseCode.GOING_AWAY, NODE_STOPS)
            case "wait for home":
                self._wait_for_home(opening, hello, claims, sought)
            case "redirect":
                assert member is not None
                self.metrics.redirects_total += 1
                answer = Redirect(hello.id, member.client_url, member.node)
                opening.leave(answer, CloseCode.REDIRECTED, "served elsewhere")
            case "seek":
                assert wanted is not None
                opening.busy = True
                then = partial(self._greet, opening, hello, claims, True)
                self._seeker.find(wanted, then, lambda: not opening.closed)
            case "replaced":
                opening.leave(None, CloseCode.REPLACED, TOOK_OVER)
            case "moving":
                error = Unavailable("this session is moving to another node", retry_after_s=MOVING_RETRY_S)
                opening.refuse(hello.id, error, CloseCode.GOING_AWAY)
            case "resume":
                assert earlier is not None
                self._resume(opening, hello, earlier, claims)
            case "full":
                opening.leave(None, CloseCode.FULL, "no room for another session")
            case "open":
                if table.full:
                    table.make_room()
                self._open(opening, hello, claims, actor, earlier)
            case decision:
                assert_never(decision)

    def _home(self, actor: ActorId | None, hello: Hello) -> Member | None:
        """The member that should serve the client that says `hello`, if it is another one and known."""
        if actor is not None:
            return self._homes.of_actor(actor)
        if hello.resume and self._homes.leaving:
            went = self._departures.place(hello.resume, self._ticks.now())
            if went is not None and went in self._node.view.addresses:
                return self._node.view.addresses[went]
        return self._homes.elsewhere(hello.resume or hello.token)

    def _answers(self, home: Member) -> bool:
        return not home.suspect and self._transport.reaches(home.address)

    def _wait_for_home(self, opening: Opening, hello: Hello, claims: TokenClaims, sought: bool) -> None:
        """Let the hello wait, for a while, until the view knows who serves the player: the node to redirect to seems
        to be gone, and a client that is sent there comes back after a growing wait."""
        now = self._ticks.now()
        if opening.waits_since is None:
            opening.waits_since = now
        opening.busy = True
        self._ticks.wheel.add(now + self._ticks.tick_s, lambda _now: self._greet(opening, hello, claims, sought))

    # ---- resumed ----

    def _resume(self, opening: Opening, hello: Hello, session: Session, claims: TokenClaims) -> None:
        assert session.outbox.can_rewind(hello.ack)
        session.outbox.rewind(hello.ack)
        session.give_way()
        self._table.attached(session)
        self.metrics.sessions_resumed_total += 1
        session.stays, session.client = not hello.redirects, hello.client
        self._take_token(session, claims, hello.token)
        session.acknowledge(hello.ack)  # the outbox knows it already: streams that wait for room go on
        goes_on = self._presence.resume(session, hello.presence)
        self._welcome(opening, hello.id, session, recovered=True, presence=goes_on)
        self._actors.resumed(session)  # its actor may refuse it at once, which closes the connection with the reason
        if session.ended:
            return
        self._latest.resume(session, hello.latest)
        if not session.ended:  # its actor knows that it is over
            self._mover.consider(session)

    # ---- opened ----

    def _open(
        self, opening: Opening, hello: Hello, claims: TokenClaims, actor: ActorId | None, earlier: Session | None
    ) -> None:
        me = self._node.me
        caller = Caller(claims.role, claims.subject, f"{me.node}-{me.incarnation}-{opening.order}")
        resume = f"{self._rng.getrandbits(128):032x}"
        session = Session(self._kit, caller, resume, opening.format, not hello.redirects)
        session.actor, session.client = actor, hello.client
        said = hello.device if self.settings.device_kind_from_hello else ""
        session.device, session.instead_of = claims.device or said, mark_of(hello.resume)
        session.since_ms, session.began, session.country = opening.since_ms, opening.since, opening.country
        self._take_token(session, claims, hello.token)
        opening.busy = True
        try:
            result = self._actors.connect(session)
        except Exception as error:
            self._not_opened(opening, hello.id, session, error)
            return
        if not isinstance(result, asyncio.Future):
            self._opened(opening, hello.id, session, earlier, result is True)
            return

        def done(future: "asyncio.Future[Any]") -> None:
            error = GarrisonError("cancelled") if future.cancelled() else future.exception()
            again = self._actors.connect_without_login(session, error)
            if again is not None:
                again.add_done_callback(done)
            elif error is not None:
                self._not_opened(opening, hello.id, session, error)
            else:
                self._opened(opening, hello.id, session, earlier, future.result() is True)

        result.add_done_callback(done)

    def _not_opened(self, opening: Opening, request_id: int, session: Session, error: BaseException) -> None:
        """Refuse a hello: the application refuses this player for good, or the actor cannot be had just now."""
        typed = error if isinstance(error, GarrisonError) else self._kit.requests.fault(error)
        refused = isinstance(typed, REFUSALS)
        if not refused:
            self._actors.not_begun(session, ENDED_CLOSED)  # the actor may have heard of it all the same
        opening.refuse(request_id, typed, refusal_code(typed) if refused else CloseCode.INTERNAL)

    def _opened(
        self, opening: Opening, request_id: int, session: Session, earlier: Session | None, waits: bool = False
    ) -> None:
        """Begin a session that the player's actor has taken, or that has none to ask. `waits`: the actor ends others
        for it once it has begun."""
        caller = session.caller
        rival = self._table.rival(caller.role, caller.subject, earlier)
        if opening.closed or self.closed:
            self._actors.not_begun(session, ENDED_CLOSED)
            opening.leave(None, CloseCode.GOING_AWAY, NODE_STOPS)
            return
        if rival is not None and rival.order > opening.order:
            self._actors.not_begun(session, ENDED_REPLACED)
            opening.leave(None, CloseCode.REPLACED, TOOK_OVER)
            return
        self._actors.bind(session)
        self.metrics.sessions_opened_total += 1
        self._table.add(session, rival)
        self._welcome(opening, request_id, session, recovered=False)
        if waits:
            self._actors.tell_again(session)
        if not session.ended:
            self._mover.consider(session)

    def _welcome(
        self, opening: Opening, request_id: int, session: Session, recovered: bool, presence: bool = False
    ) -> None:
        settings, caller = self.settings, session.caller
        welcome = Welcome(
            request_id,
            caller.session,
            str(self._node.me.node),
            caller.subject,
            caller.role,
            session.resume,
            recovered,
            round(settings.heartbeat_interval_s * 1000),
            round(settings.resume_window_s * 1000),
            settings.max_frame_bytes,
            self._ticks.wall_ms(),
            self._token_left_ms(session),
            presence,
        )
        opening.hand_on(session, session.codec.encode(welcome))
        log.debug(
            "session resumed" if recovered else "session opened",
            session=caller.session, subject=caller.subject, role=caller.role, client=session.client,
            address=session.remote,
        )  # fmt: skip


def _issued_ms(claims: TokenClaims) -> int:
    return round(claims.issued_s * 1000)
