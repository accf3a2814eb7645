"""Sessions that an actor ends, wherever they are.

Every member is told, and told again until it has answered or has left the view: a player's session may be on its
slot's node or any other, attached or detached. Sessions that change node at the same time do not slip through: a
node that has just sent the session on passes the word on after it; a node that has it packed ends it, and ends the
copy there at once and once it is known to have arrived; a node that is about to get it is told by one of those two.
Where the node that has the session is not reached before it stops, or before the client has left it for the next one,
the session goes on there: whoever must keep a player out says so in `connected` too.
"""

import asyncio
import random
from typing import Final, Protocol

from msgspec.structs import replace

from server.errors import GarrisonError
from server.ids import NodeAddress
from server.runtime.backoff import backoff_s
from server.runtime.supervisor import Supervisor
from server.sessions.end_reasons import ENDED_DISMISSED
from server.sessions.mover import Mover
from server.sessions.ports import NodeView
from server.sessions.stream_frames import Dismiss, encode
from server.sessions.table import SessionTable
from server.sessions.ticks import TickClock
from server.sessions.transfer import DepartedSessions
from server.transport.ports import Service, Transport

_HOPS: Final = 4
_ANSWER_S: Final = 1.0


class Hellos(Protocol):
    """Connections whose hello is being answered."""

    def dismiss(self, frame: Dismiss) -> None:
        """Close those that `frame` is for."""
        ...


class Dismissals:
    """See the module's head. `keep_on_s`: a member that does not answer is told again for so long."""

    def __init__(
        self,
        node: NodeView,
        transport: Transport,
        supervisor: Supervisor,
        rng: random.Random,
        ticks: TickClock,
        table: SessionTable,
        mover: Mover,
        departures: DepartedSessions,
        hellos: Hellos,
        keep_on_s: float,
    ) -> None:
        self._node, self._transport, self._supervisor, self._rng = node, transport, supervisor, rng
        self._ticks, self._table, self._mover, self._departures = ticks, table, mover, departures
        self._hellos, self._keep_on_s = hellos, keep_on_s

    def end_sessions(
        self, subject: str, code: int, reason: str, issued_before_ms: int = 0, every_role: bool = False
    ) -> None:
        """See `server.actors.outlet.Outlet.end_sessions`."""
        frame = Dismiss(subject, code, reason, _HOPS, "", issued_before_ms, every_role)
        for address in self._node.view.addresses:
            if address != self._node.me:
                self._tell(address, frame)
        self.arrived(frame)

    def end_session(self, subject: str, session: str, at: NodeAddress, code: int, reason: str) -> None:
        """See `server.actors.outlet.Outlet.end_session`."""
        frame = Dismiss(subject, code, reason, _HOPS, session)
        if at == self._node.me:
            self.arrived(frame)
        else:
            self._tell(at, frame)

    def arrived(self, frame: Dismiss) -> None:
        """End the player's sessions here, or the one that is named, and pass the word on to where its session went."""
        subject, code, reason = frame.subject, frame.code, frame.reason
        if not frame.session:
            self._hellos.dismiss(frame)
        went = self._departures.of_player(subject, self._ticks.now())
        closing = [session for session in self._mover.closing if session.caller.subject == subject]
        for session in (*self._table.of_subject(subject), *closing):
            named = frame.session in ("", session.caller.session)
            if named and frame.is_for(session.caller.role, session.issued_ms):
                session.end(ENDED_DISMISSED, code, reason)
        if went is not None and went != self._node.me and frame.hops > 0:
            self._tell(went, replace(frame, hops=frame.hops - 1))

    def _tell(self, to: NodeAddress, frame: Dismiss) -> None:
        self._supervisor.spawn(self._tell_until_heard(to, encode(frame)), f"dismiss {frame.subject} at {to}")

    async def _tell_until_heard(self, to: NodeAddress, payload: bytes) -> None:
        give_up_at, attempt = self._ticks.now() + self._keep_on_s, 0
        while to in self._node.view.addresses and self._ticks.now() < give_up_at:
            try:
                await self._transport.request(to, Service.STREAM, payload, _ANSWER_S)
                return
            except GarrisonError:
                await asyncio.sleep(backoff_s(attempt, self._rng))
                attempt += 1
