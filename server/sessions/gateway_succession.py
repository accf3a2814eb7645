"""Sessions and their connections in a succession: the node goes on in another process, and clients notice nothing.

    here     rest, while what is under way ends; end_waiting, where it does not in time; part_with_some; then copies
             of the sessions that have changed. Or else `go_on`, and nothing has been
    there    copies of sessions are unpacked as they come, descriptors carried; then `take_up`

A connection that cannot go over is closed after a `going`; its session goes over all the same, and waits for it.
`gateway_going_over.py` has all of a gateway that is no session's.
"""

from collections import Counter
from typing import Final

import structlog

from server.errors import BadInput
from server.runtime.metrics import Metrics
from server.sessions.broadcast import Broadcast
from server.sessions.connection import ClientSockets, Connection
from server.sessions.greeter import Greeter
from server.sessions.mover import Mover
from server.sessions.ports import NodeView
from server.sessions.session import Session
from server.sessions.session_copies import SessionCopies
from server.sessions.slices import Slices
from server.sessions.table import SessionTable
from server.sessions.turnstile import Turnstile
from server.wire.messages import CloseCode, Going

log = structlog.get_logger(__name__)
MEANWHILE: Final = "this node goes over to another process: connect again"


class GatewaySuccession:
    """See the module's head. `sockets`: the node's listener, set by the node."""

    sockets: ClientSockets

    def __init__(
        self,
        copies: SessionCopies,
        node: NodeView,
        metrics: Metrics,
        table: SessionTable,
        greeter: Greeter,
        turnstile: Turnstile,
        slices: Slices,
        mover: Mover,
    ) -> None:
        self.copies, self._node, self._metrics, self._table = copies, node, metrics, table
        self._greeter, self._turnstile, self._slices, self._mover = greeter, turnstile, slices, mover
        self._carried: dict[Connection, Session] = {}

    # ---- here ----

    def rest(self) -> None:
        """Read from no client, take no connection in, send no session elsewhere. What is under way goes on."""
        self.sockets.rest()
        self._mover.rest()

    def go_on(self) -> None:
        """Read again what has come meanwhile, and go on. After `end_waiting` late answers are dropped."""
        self._mover.go_on()
        self._turnstile.go_on()
        self.sockets.go_on()

    @property
    def under_way(self) -> int:
        """Requests without an answer, hellos that are being answered, messages in line, and shipments of sessions."""
        waiting = sum(len(session.unanswered) for session in self._sessions() if session.unanswered)
        return waiting + sum(opening.busy for opening in self._greeter.openings) + len(self._turnstile) + self.shipping

    @property
    def shipping(self) -> int:
        """Shipments of sessions to other nodes whose outcome is not known: with any of them nothing can go over."""
        return self._mover.shipping

    def _sessions(self) -> list[Session]:
        return [*self._table.sessions.values(), *self._mover.closing]

    def end_waiting(self) -> None:
        """Answer every request that waits, since its outcome is not known here; close connections that have no session
        yet, or have it elsewhere. Their clients connect again. Messages in line stay there, and go over. Only shipments
        go on."""
        self._turnstile.rest()
        for session in self._sessions():
            session.end_waiting()
        for opening in list(self._greeter.openings):
            opening.leave(None, CloseCode.GOING_AWAY, MEANWHILE)
        self._mover.close_those_that_went()

    def part_with_some(self) -> Counter[str]:
        """Close the connections that cannot go over, each after a `going` that leads its client back here. Returns how
        many, by reason."""
        me = self._node.view.addresses.get(self._node.me)
        going = Broadcast(Going(0, me.client_url if me is not None else "", 0))
        gone: Counter[str] = Counter()
        for session in self.copies.all():
            connection = session.connection
            why = self.sockets.movable(connection) if connection is not None else ""
            if why:
                gone[why] += 1
                self._metrics.not_carried(why)
                session.push(going)
                session.close(CloseCode.GOING_AWAY, MEANWHILE)
        return gone

    def descriptor(self, session: Session) -> int:
        """The descriptor of a session's connection, whether or not that can go over just now; -1 where it has none that
        ever could."""
        connection = session.connection
        if connection is None or self.sockets.movable(connection) in ("tls", "closing"):
            return -1
        return self.sockets.descriptor(connection)

    # ---- there ----

    def carry(self, resume: str, descriptor: int) -> bool:
        """Keep a descriptor that has come, for the session of that resume token. It is this gateway's from here on.
        False: there is no such session, and it is closed."""
        session = self._table.sessions.get(resume)
        if session is None or session.phase != "attached" or session.connection is not None:
            self.sockets.drop(descriptor)
            self._metrics.not_carried("no session")
            return False
        try:
            connection = self.sockets.carry(descriptor, session.format, session.remote, session.country)
        except OSError as error:
            log.warning("a connection has not come", session=str(session), why=str(error))
            return False
        self.copies.attach(session, connection)
        self._carried[connection] = session
        return True

    def take_up(self) -> None:
        """Serve: this process has the node now. Call it once the gateway has started."""
        carried, self._carried = self._carried, {}

        def attached(before: Connection, connection: Connection) -> None:
            session = carried.pop(before, None)
            if session is not None:
                self.copies.attached(session, before, connection)

        self.sockets.take_up(attached)
        self.copies.take_up(self._slices.do)

    def unpack(self, data: bytes) -> bool:
        """Let the session of a copy be here, without its connection. False: it cannot be read, and its client opens
        another session."""
        try:
            self.copies.unpack(data)
        except BadInput as error:
            self._metrics.not_carried("bad copy")
            log.warning("a session cannot go over", why=error.message)
            return False
        return True
