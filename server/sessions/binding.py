"""Sessions and their actors: which actor a session is bound to, and what that actor is told of it.

A session is bound to the activation of its player's actor while that lives on this node: it is pinned, and a
heartbeat is a plain call of it. Elsewhere, and where the activation has ended, heartbeats are forwarded.
"""

import asyncio
from functools import partial
from typing import Any, Final

from server.actors.actor import Caller
from server.actors.app import StandingCheck
from server.actors.devices import Login
from server.errors import BadInput
from server.ids import ActorId, actor_id
from server.runtime.supervisor import Supervisor
from server.sessions.end_reasons import ENDED_DISMISSED, ENDED_OWNERSHIP_LOST, TOLD_ONLY_HERE
from server.sessions.hello_rules import REFUSALS, refusal_code
from server.sessions.ports import BoundActors
from server.sessions.session import Session
from server.wire.messages import CloseCode

_TOO_MANY_WORDS: Final = "arguments of connected"


class SessionActors:
    """The actors of a node's sessions. `kind`: of the application's session actor; None where it has none. `policy`:
    the login policy, for logins. `standing`: the application's judge of logins, if it has one."""

    def __init__(
        self,
        actors: BoundActors,
        supervisor: Supervisor,
        kind: str | None,
        policy: str,
        standing: StandingCheck | None = None,
    ) -> None:
        self._actors = actors
        self._supervisor = supervisor
        self._policy = policy
        self._standing = standing
        self.kind = kind
        self._telling: dict[Session, None] = {}
        """Sessions whose actors are just being told of them."""

    def actor_of(self, role: str, subject: str) -> ActorId | None:
        """The actor of a player's session; None for other roles."""
        return actor_id(self.kind, subject) if self.kind is not None and role == "player" else None

    def connect(self, session: Session) -> Any:
        """Ask the actor to take the session, or where it has none, whether its subject may have it. The result, or a
        future of it; raises what the turn raises."""
        if session.actor is None:
            return self.judge(session.caller, session.issued_ms)
        return self._actors.ask_now(session.actor, "connected", (session.caller, self._login(session)))

    def judge(self, caller: Caller, issued_ms: int) -> Any:
        """Ask whether `caller` may have a session by a token that was issued at `issued_ms`. None, or a future of it;
        raises what the turn raises. An application that has no judge takes everybody."""
        if self._standing is None:
            return None
        standing = actor_id(self._standing.actor.kind, caller.subject)
        return self._actors.ask_now(standing, self._standing.method.__name__, (caller, issued_ms))

    def connect_without_login(self, session: Session, error: BaseException | None) -> "asyncio.Future[Any] | None":
        """Ask again, in the words of an earlier version, where `error` says that the actor's node is of one; else
        None."""
        if session.actor is None or not isinstance(error, BadInput) or not error.message.startswith(_TOO_MANY_WORDS):
            return None
        call = self._actors.ask(session.actor, "connected", (session.caller,))
        return self._supervisor.spawn(call, f"connected {session.actor}")

    def _login(self, session: Session) -> Login:
        me = self._actors.me
        return session.login(me.node, me.incarnation, self._policy)

    def bind(self, session: Session) -> None:
        """Pin the activation of the session's actor, if it lives here."""
        assert session.activation is None or session.activation.dropped, f"{session} is bound already"
        activation = self._actors.find(session.actor) if session.actor is not None else None
        session.activation = activation
        if activation is not None:
            activation.pins += 1

    def resumed(self, session: Session) -> None:
        """Bind a resumed session that was not, and tell its actor, which may be another activation by now. One without
        an actor is judged again."""
        if session.actor is None:
            self.tell_again(session)
        elif session.activation is None and not session.ended:
            self.bind(session)
            self.tell_again(session)

    def tell_again(self, session: Session) -> None:
        """Tell the actor of a session that has begun, and that it may not know: it judges its login. One that it does
        not take ends; where it cannot be had just now, it will say again that it does not know the session. A session
        without an actor is judged by the application's judge, if there is one."""
        if session in self._telling or (session.actor is None and self._standing is None):
            return
        try:
            result = self._introduce(session)
        except Exception as error:
            self._judged(session, error)
            return
        if isinstance(result, asyncio.Future):
            self._telling[session] = None
            result.add_done_callback(partial(self._told, session))

    def _introduce(self, session: Session) -> Any:
        session.login_number += 1
        session.changed()
        return self.connect(session)

    def _told(self, session: Session, result: "asyncio.Future[Any]") -> None:
        del self._telling[session]
        self._judged(session, None if result.cancelled() else result.exception())

    def _judged(self, session: Session, error: BaseException | None) -> None:
        """End a session that its actor refuses for good."""
        if isinstance(error, REFUSALS) and not session.ended and not str(error).startswith(_TOO_MANY_WORDS):
            code = refusal_code(error)
            session.end(ENDED_DISMISSED, CloseCode.DISMISSED if code == CloseCode.BAD_TOKEN else code, str(error)[:120])

    def release(self, session: Session) -> None:
        """Unpin the activation."""
        activation, session.activation = session.activation, None
        if activation is not None:
            activation.pins -= 1

    def not_begun(self, session: Session, why: str) -> None:
        """Take leave of the actor for a session that does not begin, and that it may have taken."""
        if session.actor is not None:
            self._actors.tell(session.actor, "disconnected", (session.caller, why))

    def farewell_soon(self, session: Session, why: str) -> None:
        """Take leave of the actor for a session that has ended, after whatever turn is going on."""
        if session.actor is not None:
            asyncio.get_running_loop().call_soon(self._farewell, session, why)

    def _farewell(self, session: Session, why: str) -> None:
        activation = session.activation
        here = activation is not None and not activation.dropped
        self.release(session)
        if why == ENDED_OWNERSHIP_LOST or (why in TOLD_ONLY_HERE and not here):
            return
        assert session.actor is not None
        self._actors.tell(session.actor, "disconnected", (session.caller, why))

    def beat_elsewhere(self, session: Session, state: str | None) -> Any:
        """Deliver a heartbeat of a session whose actor was not here a moment ago: bind to it if it is
        now, else forward. An actor that lives here, or will, is told of the session before."""
        actor, caller = session.actor, session.caller
        assert actor is not None
        if session.phase == "transferred":
            return self._actors.ask_now(actor, "beat", (caller, state))
        self.bind(session)
        if session.activation is not None or self._actors.owner(actor) == self._actors.me:
            try:
                told = self._introduce(session)
            except REFUSALS as error:
                self._judged(session, error)
                raise
            if isinstance(told, asyncio.Future):
                return self._supervisor.spawn(self._beat_after(told, session, actor, state), f"beat {actor}")
        return self._actors.ask_now(actor, "beat", (caller, state))

    async def _beat_after(
        self, told: "asyncio.Future[Any]", session: Session, actor: ActorId, state: str | None
    ) -> None:
        try:
            await told
        except BadInput as error:
            again = self.connect_without_login(session, error)
            if again is None:
                self._judged(session, error)
                raise
            await again
        except REFUSALS as error:
            self._judged(session, error)
            raise
        await self._actors.ask(actor, "beat", (session.caller, state))
