"""Sessions that move: to the node that their player's slot went to, and away from a node that leaves.

    due -> queued -> frozen, packed and shipped -> handed over: the client is told (`Going`), then closed
              \\                     `--> refused, or nothing was sent: goes on here, tried again
               `- one shipment at a time to each node; its outcome unknown: frozen until it is known

Frozen, nothing of a session changes: it gets no events (its cursors travel), a push is kept and
sent after it, `watch` is refused for the moment. The client's other requests are answered as ever,
until its connection is closed `MOVE_GRACE_S` after the handover; it resumes where it was sent, or
anywhere (`server/sessions/seeker.py`). `Going` is the last push that is packed, so that its number
is the session's wherever it goes on.

Only one node ever goes on with a session: a sender that does not know whether its shipment has
arrived asks again (the receiver knows a session that it has) until it is answered or the receiver
has left its view. Then the session is taken back: it goes on at its sender. A receiver that was only
silent may install it all the same: it is told to forget it as soon as it is in the view again. Until
then a client that has had a push since cannot resume it there: numbers that were packed are not
given again, and what the copy has numbered since and not sent to anybody the client cannot have had
(`Packed.sent`, where the copy moves on).
"""

import asyncio
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import structlog

from server.cluster.view import Member
from server.errors import Corrupt, GarrisonError, Internal, OutcomeUnknown
from server.ids import ActorId, NodeAddress
from server.runtime.backoff import backoff_s
from server.sessions.broadcast import Broadcast
from server.sessions.handover import (
    INSTALLED,
    MAX_BATCH,
    MAX_BATCH_BYTES,
    MAX_REMEMBERED,
    REFUSED,
    REPLACED,
    ClientRole,
    Forget,
    Move,
    Packed,
    Remembered,
    Ship,
    Verdict,
    Want,
    Wanted,
    decode,
    decode_verdicts,
    encode,
    takes_over,
    unpack_outbox,
)
from server.sessions.seeker import Seeker
from server.sessions.session import (
    ENDED_CLOSED,
    ENDED_EXPIRED,
    ENDED_MOVED,
    ENDED_OVERFLOW,
    ENDED_OWNERSHIP_LOST,
    ENDED_REPLACED,
    ENDED_STOPPING,
    Session,
)
from server.transport.ports import Answer, Service
from server.wire.messages import CloseCode, Going

if TYPE_CHECKING:
    from server.sessions.gateway import Gateway

log = structlog.get_logger(__name__)

MOVE_GRACE_S: Final = 2.0
"""From telling a client that it should move until its connection is closed."""
MOVE_SPREAD_S: Final = 1.0
SHIP_TIMEOUT_S: Final = 1.0
RETRY_CAP_S: Final = 5.0
_STEP: Final = 100
_ON_THE_WAY: Final = 600
"""About what a packed session takes besides its outbox and topics, in bytes."""
_STILL_THE_CLIENTS: Final = frozenset({ENDED_STOPPING, ENDED_OWNERSHIP_LOST, ENDED_MOVED})
"""Ends of a connection's life here that are none of the session's: where it went it goes on."""
_FOR_GOOD: Final = frozenset({ENDED_CLOSED, ENDED_EXPIRED, ENDED_OVERFLOW, ENDED_REPLACED})


class _TakenBack:
    """A session that goes on here although node `to` may have it by move number `moves`. It is told
    until it answers, or until nobody could resume it there any more."""

    __slots__ = ("moves", "telling", "to", "until")

    def __init__(self, to: NodeAddress, moves: int, until: float) -> None:
        self.to, self.moves, self.until = to, moves, until
        self.telling = False


class Mover:
    """See the module's head. One for each gateway."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._host = gateway.host
        self.seeker = Seeker(gateway.host)
        self.gone = Remembered()
        self._over = Remembered()
        """What ended here, by the move that it had come by: that shipment may be repeated."""
        self.closing: dict[Session, None] = {}
        """Handed over, and their connections not closed yet."""
        self._queues: dict[NodeAddress, OrderedDict[Session, None]] = {}
        self._taken_back: dict[str, _TakenBack] = {}
        """By resume token."""
        self._grace_s = MOVE_GRACE_S
        self._progress = asyncio.Event()
        gateway.host.transport.serve(Service.SESSION, self._serve)

    # ---- where a session belongs ----

    @property
    def leaving(self) -> bool:
        """This node is leaving: it takes no session in, and all that it has have to go."""
        me = self._host.view.addresses.get(self._host.me)
        return me is not None and me.state == "leaving"

    def target(self, session: Session) -> Member | None:
        """The member that should have the session, if that is another one. Sessions without an
        actor, and of clients that cannot be redirected, stay until this node leaves."""
        if session.actor is not None:
            return None if session.stays and not self.leaving else self.member(session.actor)
        return self.elsewhere(session.resume)

    def elsewhere(self, key: str) -> Member | None:
        """Where a session that belongs nowhere in particular goes when this node leaves: the same
        node for the same `key`, in equal views."""
        return self.member(ActorId(f"session/{key}")) if self.leaving else None

    def member(self, actor: ActorId) -> Member | None:
        """The owner of an actor's slot, if it is another node that serves clients."""
        owner = self._host.owner(actor)
        if owner is None or owner == self._host.me:
            return None
        member = self._host.view.addresses.get(owner)
        return member if member is not None and member.client_url else None

    # ---- when it goes ----

    def on_view(self) -> None:
        """The view has changed: let those move, spread over time, who belong elsewhere now, and
        let those stay who do not any more."""
        moving = []
        for session in self._gateway.sessions.values():
            move = session.move
            if move is not None and (move.frozen or move.pulled):
                continue
            target = self.target(session)
            if target is None:
                session.move = None
            elif move is None:
                session.move = Move(target.address, _url(session, target))
                moving.append(session)
            else:
                move.to, move.url = target.address, _url(session, target)
        spread_s = max(MOVE_SPREAD_S, len(moving) / self._gateway.rebalance_per_s)
        for session in moving:
            self._later(session, self._gateway.rng.uniform(0, spread_s))
        self.gone.expire(self._gateway.now())
        self._over.expire(self._gateway.now())
        self._tell_taken_back()
        self._progress.set()

    def consider(self, session: Session) -> None:
        """The view may have changed while the session was opened."""
        target = self.target(session)
        if target is not None and session.move is None:
            session.move = Move(target.address, _url(session, target))
            self._later(session, self._gateway.rng.uniform(0, MOVE_SPREAD_S))

    def pull(self, session: Session, to: Member) -> None:
        """Its client is at `to`, and wants it: it waits no longer for another node."""
        move = session.move
        if move is None or move.queued is None:
            session.move = move = Move(to.address, to.client_url)
        move.to, move.url, move.pulled = to.address, to.client_url, True
        self._enqueue(session, move)

    def _later(self, session: Session, wait_s: float) -> None:
        self._gateway.wheel.add(self._gateway.now() + wait_s, partial(self._due, session, session.move))

    def _due(self, session: Session, move: Move | None, _now: float) -> None:
        if move is not None and session.move is move and not (session.ended or move.queued is not None or move.frozen):
            self._enqueue(session, move)

    def _enqueue(self, session: Session, move: Move) -> None:
        """To the end of the line for its node, and out of any other line."""
        if move.queued == move.to:
            return
        left = self._queues.get(move.queued) if move.queued is not None else None
        if left is not None:
            left.pop(session, None)
        move.queued = move.to
        queue = self._queues.get(move.to)
        if queue is not None:
            queue[session] = None
        else:
            self._queues[move.to] = OrderedDict({session: None})
            self._host.supervisor.spawn(self._run(move.to), f"sessions to {move.to}")

    # ---- shipping ----

    async def _run(self, to: NodeAddress) -> None:
        """Ship what is queued for one node, a batch at a time."""
        queue = self._queues[to]
        try:
            while queue:
                batch = self._pack_some(queue, to)
                if batch:
                    await self._ship(to, batch)
        finally:
            del self._queues[to]

    def _pack_some(self, queue: OrderedDict[Session, None], to: NodeAddress) -> list[tuple[Session, Packed]]:
        batch: list[tuple[Session, Packed]] = []
        room = min(MAX_BATCH_BYTES, self._host.settings.transport.max_frame_bytes // 2)
        while queue and len(batch) < MAX_BATCH:
            session = next(iter(queue))
            room -= _ON_THE_WAY + session.outbox.bytes + 5 * len(session.outbox) + 150 * len(session.topics or ())
            if batch and room < 0:
                break
            del queue[session]
            move = session.move
            if session.ended or move is None or move.frozen or move.queued != to:
                continue
            move.queued = None
            if move.to != to:
                self._enqueue(session, move)
            else:
                batch.append((session, self._pack(session, move)))
        return batch

    def _pack(self, session: Session, move: Move) -> Packed:
        """Freeze: from here on nothing of the session changes."""
        move.frozen = True
        move.topics = self._gateway.streams.withdraw(session)
        session.moves += 1
        outbox = session.outbox
        frames = outbox.frames
        if session.connection is not None and not move.pulled:
            going = Broadcast(Going(0, move.url, round(self._grace_s * 1000)))
            move.going = going.render(session.format, outbox.last + 1)
            frames.append(move.going)
        caller, role = session.caller, cast(ClientRole, session.caller.role)
        return Packed(
            session.resume, caller.session, caller.subject, role, session.format, session.stays, session.moves,
            session.since_ms, session.beats, outbox.acked, frames, move.topics,
            outbox.sent if session.connection is None else None,
        )  # fmt: skip

    async def _ship(self, to: NodeAddress, batch: list[tuple[Session, Packed]]) -> None:
        """Send a batch until its outcome is known."""
        gateway = self._gateway
        payload = encode(Ship([packed for _, packed in batch]))
        give_up_at = gateway.now() + gateway.settings.resume_window_s
        attempt, unknown = 0, False
        while True:
            try:
                answer = await self._host.transport.request(to, Service.SESSION, payload, SHIP_TIMEOUT_S)
                verdicts = decode_verdicts(answer, len(batch))
                break
            except GarrisonError as error:
                unknown = unknown or isinstance(error, OutcomeUnknown | Internal | Corrupt)
                why = error.message
            if not unknown:
                verdicts = [REFUSED] * len(batch)
                break
            if to not in self._host.view.addresses:
                for session, _ in batch:
                    self._take_back(session, to)
                self._progress.set()
                return
            if gateway.now() >= give_up_at:
                log.warning("sessions cannot be handed over", to=str(to), count=len(batch), why=why)
                for session, _ in batch:
                    session.end(ENDED_MOVED, CloseCode.MOVED, "the player is served by another node now")
                return
            await asyncio.sleep(backoff_s(attempt, gateway.rng))
            attempt += 1
        for (session, _), verdict in zip(batch, verdicts, strict=True):
            self._shipped(session, to, verdict)
        self._progress.set()

    def _shipped(self, session: Session, to: NodeAddress, verdict: Verdict) -> None:
        if session.handed:
            return  # it has been back since
        if verdict == INSTALLED:
            self._handed_over(session, to)
        elif verdict == REPLACED:
            session.end(ENDED_REPLACED, CloseCode.REPLACED, "another connection of this player took over")
        else:
            self._thaw(session)

    def _take_back(self, session: Session, to: NodeAddress) -> None:
        """Node `to` is gone, and whether it had the session is not known."""
        if session.handed:
            return  # it has been back since
        until = self._gateway.now() + 2 * self._gateway.settings.resume_window_s
        self._taken_back.pop(session.resume, None)
        self._taken_back[session.resume] = _TakenBack(to, session.moves, until)
        if len(self._taken_back) > MAX_REMEMBERED:
            del self._taken_back[next(iter(self._taken_back))]
        self._thaw(session, taken_back=True)

    def _tell_taken_back(self) -> None:
        """Who is in the view again, and may have what has gone on here, forgets it."""
        for resume, held in list(self._taken_back.items()):
            if self._gateway.now() >= held.until:
                del self._taken_back[resume]
            elif not held.telling:
                self._tell(resume, held, 0.0)

    def _tell(self, resume: str, held: "_TakenBack", _now: float) -> None:
        held.telling = held.to in self._host.view.addresses and self._taken_back.get(resume) is held
        if not held.telling:
            return
        payload = encode(Forget(resume, held.moves, ENDED_MOVED))
        try:
            answer = self._host.transport.request(held.to, Service.SESSION, payload, SHIP_TIMEOUT_S)
        except GarrisonError:
            self._tell_again(resume, held)
        else:
            answer.add_done_callback(partial(self._told, resume, held))

    def _told(self, resume: str, held: "_TakenBack", answer: "asyncio.Future[bytes]") -> None:
        if answer.cancelled() or answer.exception() is not None:
            self._tell_again(resume, held)
        elif self._taken_back.get(resume) is held:
            del self._taken_back[resume]

    def _tell_again(self, resume: str, held: "_TakenBack") -> None:
        if self._gateway.now() < held.until:
            self._gateway.wheel.add(self._gateway.now() + SHIP_TIMEOUT_S, partial(self._tell, resume, held))

    def _thaw(self, session: Session, taken_back: bool = False) -> None:
        """It goes on here, and is tried again later if it still belongs elsewhere."""
        move, session.move = session.move, None
        if session.ended or move is None:
            return
        if taken_back and move.going:  # that number is a `going` there: so here, to where its client is
            me = self._host.view.addresses.get(self._host.me)
            url = me.client_url if me is not None and not session.stays else ""
            session.push(Broadcast(Going(0, url, round(self._grace_s * 1000))))
        self._gateway.streams.restore(session, move.topics)
        for push in move.late:
            session.push(Broadcast(push))
        target = None if session.ended else self.target(session)
        if target is not None:
            session.move = Move(target.address, _url(session, target), move.attempt + 1)
            self._later(session, backoff_s(move.attempt, self._gateway.rng, 0.1, RETRY_CAP_S))

    def _handed_over(self, session: Session, to: NodeAddress) -> None:
        """Node `to` has it: what is left is to tell the client."""
        gateway, move = self._gateway, session.move
        assert move is not None
        player = session.caller.subject if session.caller.role == "player" else ""
        until = gateway.now() + gateway.settings.resume_window_s
        self.gone.note(session.resume, player, to, session.moves, until)
        gateway.streams.pass_on(session.caller.subject, move.late, to)
        move.late = []
        if session.ended:
            self._forget(session, to, move.over)
            return
        gateway.metrics.sessions_handed_over_total += 1
        gateway.release(session)
        session.handed = True
        self.closing[session] = None
        if session.connection is None:
            session.end(ENDED_MOVED)
        elif move.pulled:
            session.end(ENDED_MOVED, CloseCode.REPLACED, "resumed on another connection")
        elif not move.going or session.send_last(move.going):
            gateway.wheel.add(gateway.now() + self._grace_s, partial(self._hang_up, session))
        else:
            self._hang_up(session, 0.0)

    def _hang_up(self, session: Session, _now: float) -> None:
        session.end(ENDED_MOVED, CloseCode.MOVED, "the session is served by another node now")

    def ended(self, session: Session, why: str) -> None:
        """A session has ended here, maybe one on its way: the gateway's call."""
        move = session.move
        if not session.handed:
            self._note_over(session)
        if move is not None and move.frozen:
            move.over = why
            if session.handed:
                self.closing.pop(session, None)
                self._forget(session, move.to, why)
        self._progress.set()

    def _forget(self, session: Session, to: NodeAddress, why: str) -> None:
        if why not in _STILL_THE_CLIENTS:
            self.gone.forget(session.resume)
            self._note_over(session)
            self._host.transport.send(to, Service.SESSION, encode(Forget(session.resume, session.moves, why)))

    def _note_over(self, session: Session) -> None:
        """Shipments up to this one are no news any more, should one be repeated."""
        if session.moves:
            until = self._gateway.now() + 2 * self._gateway.settings.resume_window_s
            self._over.note(session.resume, "", self._host.me, session.moves, until)

    # ---- all of them ----

    async def hand_over_all(self, within_s: float) -> None:
        """Send every session away that has somewhere to go, within `within_s`."""
        gateway = self._gateway
        deadline = gateway.now() + within_s
        self._grace_s = min(MOVE_GRACE_S, within_s / 4)
        going = [session for session in gateway.sessions.values() if self.target(session) is not None]
        spread_s = min(within_s / 2, len(going) / gateway.rebalance_per_s)
        for number, session in enumerate(going, 1):
            self._go_now(session)
            if number % _STEP == 0:
                await asyncio.sleep(spread_s * _STEP / len(going))
        while True:
            while going and (going[-1].ended or going[-1].handed):
                going.pop()
            if not (going or self.closing) or gateway.now() >= deadline:
                break
            self._progress.clear()
            try:
                async with asyncio.timeout(max(0.0, deadline - gateway.now())):
                    await self._progress.wait()
            except TimeoutError:
                break
        for session in list(self.closing):
            self._hang_up(session, 0.0)

    def _go_now(self, session: Session) -> None:
        target = self.target(session)
        if session.ended or session.moving or target is None:
            return
        if session.move is None:
            session.move = Move(target.address, _url(session, target))
        if session.move.queued is None:
            self._enqueue(session, session.move)

    # ---- from other nodes ----

    def _serve(self, sender: NodeAddress, payload: bytes) -> Answer:
        message = decode(payload)
        if isinstance(message, Ship):
            return encode([self._install(sender, packed) for packed in message.sessions])
        if isinstance(message, Want):
            return encode([self._place(sender, wanted) for wanted in message.wanted])
        session = self._gateway.sessions.get(message.resume)
        if message.why == ENDED_MOVED:
            self._goes_on_at(sender, message, session)
        elif session is not None and session.moves == message.moves and session.connection is None:
            session.end(message.why if message.why in _FOR_GOOD else ENDED_CLOSED)
        return None

    def _goes_on_at(self, sender: NodeAddress, message: Forget, session: Session | None) -> None:
        """What `sender` shipped here it has taken back, whether that has arrived or still will."""
        if session is not None:
            if session.moves != message.moves or not session.untouched or session.moving:
                return
            self._gateway.supersede(session)
        elif self.gone.moves(message.resume) >= message.moves:
            return
        player = session.caller.subject if session is not None and session.caller.role == "player" else ""
        until = self._gateway.now() + self._gateway.settings.resume_window_s
        self.gone.note(message.resume, player, sender, message.moves, until)

    def _install(self, sender: NodeAddress, packed: Packed) -> Verdict:
        """Take a session in, detached. One that is here or was here by this move is no news, also if
        it has ended: its client may have missed something, and is to learn that."""
        gateway = self._gateway
        here = gateway.sessions.get(packed.resume)
        moves = here.moves if here is not None else self._last_move(packed.resume)
        if moves >= packed.moves:
            return INSTALLED
        if here is not None:
            if here.moving:
                self._handed_over(here, sender)  # it had arrived, and comes back
            elif here.untouched:
                gateway.supersede(here)
            else:
                return REPLACED  # it was believed lost with `sender`, and went on here
        outbox = unpack_outbox(packed, gateway.settings.outbox_max_messages, gateway.settings.outbox_max_bytes)
        too_much = len(packed.topics) > gateway.settings.max_subscriptions
        full = len(gateway.sessions) >= gateway.settings.max_connections
        if outbox is None or too_much or full or self.leaving or gateway.closed:
            return REFUSED
        other = gateway.players.get(packed.subject) if packed.role == "player" else None
        if other is not None and other.moving:
            return REFUSED
        sought = self.seeker.seeks(packed.resume)
        if other is not None and not takes_over(packed, other.since_ms, other.connection is not None, sought):
            return REPLACED
        self.gone.forget(packed.resume)
        session = gateway.install(packed, outbox, other)
        gateway.streams.arrived_from(session, sender)
        gateway.streams.restore(session, packed.topics)
        self.seeker.arrived(packed.resume)
        return INSTALLED

    def _last_move(self, resume: str) -> int:
        """The last move of a session that is not here any more; 0 if that is not known."""
        return max(self.gone.moves(resume), self._over.moves(resume))

    def _place(self, sender: NodeAddress, wanted: Wanted) -> str:
        """Where a session is that `sender` asks for; one that is here goes there now."""
        session = self._gateway.sessions.get(wanted.resume)
        if session is None:
            to = self.gone.where(wanted.resume, self._gateway.now())
            return str(to) if to is not None else ""
        if (session.caller.subject, session.caller.role) != (wanted.subject, wanted.role):
            return ""
        if session.moving:
            assert session.move is not None
            return str(session.move.to)
        member = self._host.view.addresses.get(sender)
        if member is None or not member.client_url:
            return ""
        self.pull(session, member)
        return str(sender)


def _url(session: Session, target: Member) -> str:
    """What the client is told: any node, if it cannot choose one."""
    return "" if session.stays else target.client_url
