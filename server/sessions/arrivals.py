"""Takes in sessions that come from other nodes, and answers those nodes' questions: the receiver's shell around
`transfer.py`, which decides."""

from server.actors.actor import Caller
from server.ids import NodeAddress
from server.sessions.binding import SessionActors
from server.sessions.end_reasons import ENDED_CLOSED, ENDED_DISMISSED, ENDED_MOVED, ENDS_FOR_GOOD
from server.sessions.homes import Homes
from server.sessions.mover import Mover
from server.sessions.outbox import Outbox
from server.sessions.ports import NodeView
from server.sessions.pushes import Pushes
from server.sessions.seeker import Seeker
from server.sessions.session import Session, SessionKit
from server.sessions.subscriptions import Subscriptions
from server.sessions.table import SessionTable
from server.sessions.transfer import ArrivalFacts, Copy, DepartedSessions, admit, heed_reclaim, takes_over
from server.sessions.transfer_frames import (
    REFUSED,
    Dismissed,
    Forget,
    Packed,
    Shipment,
    Verdict,
    Want,
    Wanted,
    decode,
    encode,
    unpack_outbox,
)
from server.transport.ports import Answer, Service, Transport


class SessionArrivals:
    """See the module's head. `closed` is set when the gateway takes nothing in any more."""

    def __init__(
        self,
        kit: SessionKit,
        node: NodeView,
        transport: Transport,
        homes: Homes,
        table: SessionTable,
        actors: SessionActors,
        watched: Subscriptions,
        pushes: Pushes,
        seeker: Seeker,
        departures: DepartedSessions,
        mover: Mover,
    ) -> None:
        self._kit, self._node, self._homes, self._table, self._actors = kit, node, homes, table, actors
        self._watched, self._pushes, self._seeker = watched, pushes, seeker
        self._departures, self._mover, self._transport = departures, mover, transport
        self.closed = False
        transport.serve(Service.SESSION, self.serve)

    def serve(self, sender: NodeAddress, payload: bytes) -> Answer:
        """Answer a message from another node. Raises `BadInput`."""
        message = decode(payload)
        if isinstance(message, Shipment):
            return encode([self._verdict(sender, packed) for packed in message.sessions])
        if isinstance(message, Want):
            return encode([self._place(sender, wanted) for wanted in message.wanted])
        session = self._table.sessions.get(message.resume)
        if isinstance(message, Dismissed):
            self._dismiss(message, session)
        elif message.why == ENDED_MOVED:
            self._heed_reclaim(sender, message, session)
        elif session is not None and session.moves == message.moves and session.connection is None:
            session.end(message.why if message.why in ENDS_FOR_GOOD else ENDED_CLOSED)
        return None

    def _dismiss(self, message: Dismissed, session: Session | None) -> None:
        """End a session that an actor has ended while it was on its way here, whatever has become of it since: also
        if its client has resumed it, and wherever it went."""
        if session is not None:
            if session.moves >= message.moves:
                session.end(ENDED_DISMISSED, message.code, message.reason)
            return
        to, moves = (
            self._departures.place(message.resume, self._kit.ticks.now()),
            self._departures.moves(message.resume),
        )
        if to is not None and moves > message.moves:  # rising, so that it goes in no circle
            self._mover.tell_dismissed(to, Dismissed(message.resume, moves, message.code, message.reason))
        elif to is None:  # its shipment may come yet, and is no news then
            self._mover.note_ended(message.resume, message.moves)

    def _heed_reclaim(self, sender: NodeAddress, message: Forget, session: Session | None) -> None:
        here_moves = session.moves if session is not None else 0
        gone_moves = self._departures.moves(message.resume)
        verdict = heed_reclaim(message.moves, _copy(session), here_moves, gone_moves)
        if verdict == "ignore":
            return
        player = ""
        if session is not None:
            player = session.caller.subject if session.caller.role == "player" else ""
            self._table.supersede(session)
        until = self._kit.ticks.now() + self._kit.settings.resume_window_s
        self._departures.note(message.resume, player, sender, message.moves, until)

    def _verdict(self, sender: NodeAddress, packed: Packed | None) -> Verdict:
        """Take a session in, or say why not. A session that is none, and a fault while it is installed, are refused:
        they concern no other session of the shipment."""
        if packed is None:
            return REFUSED
        try:
            return self._install(sender, packed)
        except Exception as error:
            self._kit.requests.fault(error)
            copy = self._table.sessions.get(packed.resume)
            if copy is not None and copy.moves == packed.moves and copy.connection is None:
                self._table.supersede(copy)  # half installed: it goes on at its sender
            return REFUSED

    def _install(self, sender: NodeAddress, packed: Packed) -> Verdict:
        """Take a session in, detached, unless it is no news, does not fit, or gives way to another one."""
        settings, here = self._kit.settings, self._table.sessions.get(packed.resume)
        outbox = unpack_outbox(packed, settings.outbox_max_messages, settings.outbox_max_bytes)
        rival = self._table.rival(packed.role, packed.subject, None)
        if rival is here:
            rival = None
        attached = rival is not None and rival.connection is not None
        sought = self._seeker.seeks(packed.resume)
        admission = admit(
            ArrivalFacts(
                moves=packed.moves,
                last_moves=here.moves if here is not None else self._last_moves(packed.resume),
                here=_copy(here),
                fits=outbox is not None and self._fits(packed, here),
                rival_moving=rival is not None and rival.moving,
                rival_stays=rival is not None and not takes_over(packed, rival.since_ms, attached, sought),
                abandoned=packed.pulled and not sought,
            )
        )
        if admission.here == "departed":
            assert here is not None and here.transfer is not None
            attached = here.connection is not None
            self._mover.carry_out(here, here.transfer.arrived(sender, ended=False, attached=attached))
        elif admission.here == "supersede":
            assert here is not None
            self._table.supersede(here)
        if admission.install:
            assert outbox is not None
            self._add(sender, packed, outbox, rival)
        return admission.verdict

    def _add(self, sender: NodeAddress, packed: Packed, outbox: Outbox, rival: Session | None) -> None:
        self._departures.forget(packed.resume)
        caller = Caller(packed.role, packed.subject, packed.session)
        session = Session(self._kit, caller, packed.resume, packed.format, packed.stays)
        session.actor = self._actors.actor_of(packed.role, packed.subject)
        session.arrive(packed, outbox)
        self._table.add(session, rival)
        self._pushes.arrived_from(session, sender)
        self._watched.restore(session, packed.topics)
        self._seeker.arrived(packed.resume)
        if session.actor is None:  # the word that it is to end may have been here before it
            self._actors.tell_again(session)

    def _fits(self, packed: Packed, here: Session | None) -> bool:
        """Tell whether there is room for a session in place of the copy `here`, on a node that stays."""
        settings = self._kit.settings
        others = len(self._table) - (here is not None)
        return (
            len(packed.topics) <= settings.max_subscriptions
            and others < settings.max_connections
            and not (self._homes.leaving or self.closed)
        )

    def _last_moves(self, resume: str) -> int:
        """The last shipment of a session that is not here any more; 0 if that is not known."""
        return max(self._departures.moves(resume), self._mover.ended_transfers.moves(resume))

    def _place(self, sender: NodeAddress, wanted: Wanted) -> str:
        """The node of a session that `sender` asks for, empty if that is not known; a session that is here goes to
        `sender` now."""
        session = self._table.sessions.get(wanted.resume)
        if session is None:
            to = self._departures.place(wanted.resume, self._kit.ticks.now())
            return str(to) if to is not None else ""
        if (session.caller.subject, session.caller.role) != (wanted.subject, wanted.role):
            return ""
        if session.moving:
            assert session.transfer is not None
            return str(session.transfer.to)
        member = self._node.view.addresses.get(sender)
        if member is None or not member.client_url:
            return ""
        self._mover.pull(session, member)
        return str(sender)


def _copy(session: Session | None) -> Copy:
    if session is None:
        return "none"
    if session.moving:
        return "moving"
    return "untouched" if session.phase == "arrived" else "live"
