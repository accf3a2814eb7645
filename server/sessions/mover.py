"""Moves sessions to other nodes: the sender's shell around `transfer.py`, which decides. See `arrivals.py` for the
receiver's.

Sessions leave when their player's slot has gone to another node, and all of them when this node leaves. They stand
in line for their node: one shipment at a time is on its way to each, and while its outcome is unknown its sessions
are frozen. A client's other requests are answered as ever, until its connection is closed `grace_s` after the
session has arrived; it resumes where it was sent, or anywhere (`seeker.py`).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Final, assert_never, cast

import structlog

from server.cluster.view import Member
from server.errors import Corrupt, GarrisonError, Internal, OutcomeUnknown
from server.ids import NodeAddress
from server.runtime.backoff import backoff_s
from server.sessions.broadcast import Broadcast
from server.sessions.end_reasons import ENDED_DISMISSED, ENDED_MOVED, Ending
from server.sessions.gateway_bequest import DepartedCopy, address_of, place_of
from server.sessions.homes import Homes
from server.sessions.ports import GatewayDrivers, NodeView
from server.sessions.pushes import Pushes
from server.sessions.session import Session, SessionKit
from server.sessions.session_phases import Phase
from server.sessions.subscriptions import Subscriptions
from server.sessions.table import SessionTable
from server.sessions.time_limits import TransferLimits
from server.sessions.transfer import (
    Attempts,
    Departed,
    DepartedSessions,
    Effects,
    EndHere,
    ForgetThere,
    GoOn,
    JoinLine,
    Reclaim,
    Reclaimed,
    Reclaims,
    Release,
    Target,
    TellClient,
    Transfer,
)
from server.sessions.transfer_frames import (
    MAX_BATCH,
    MAX_BATCH_BYTES,
    REFUSED,
    ClientRole,
    Dismissed,
    Forget,
    Packed,
    Shipment,
    Verdict,
    decode_verdicts,
    encode,
)
from server.transport.ports import Service
from server.wire.messages import CloseCode, Going

log = structlog.get_logger(__name__)

_STEP: Final = 100
_ON_THE_WAY: Final = 600
"""About what a packed session takes besides its outbox and topics, in bytes."""

Line = OrderedDict[Session, None]
Batch = list[tuple[Session, Transfer, Packed]]


class Mover:
    """See the module's head. `per_s`: sessions that leave in a second at most; `bytes_at_most`: of one shipment."""

    def __init__(
        self,
        drivers: GatewayDrivers,
        kit: SessionKit,
        node: NodeView,
        homes: Homes,
        table: SessionTable,
        watched: Subscriptions,
        pushes: Pushes,
        departures: DepartedSessions,
        limits: TransferLimits,
        per_s: int,
        bytes_at_most: int,
    ) -> None:
        self._transport, self._supervisor, self._rng = drivers.transport, drivers.supervisor, drivers.rng
        self._metrics, self._settings, self._ticks = drivers.metrics, kit.settings, kit.ticks
        self._node, self._homes, self._table = node, homes, table
        self._watched, self._pushes, self._departures = watched, pushes, departures
        self._limits, self._per_s, self._bytes_at_most = limits, per_s, min(MAX_BATCH_BYTES, bytes_at_most)
        self.ended_transfers = DepartedSessions()
        """For each session that ended here, the number of the shipment that brought it, or that it went by. A
        repeated shipment must not revive it."""
        self._reclaims = Reclaims()
        self.closing: dict[Session, None] = {}
        """Sessions that live elsewhere, with their connections not closed yet."""
        self._lines: dict[NodeAddress, Line] = {}
        self._grace_s = limits.grace_s
        self._progress = asyncio.Event()
        self._may_ship = asyncio.Event()
        self._may_ship.set()
        self.shipping = 0
        """Shipments whose outcome is not known."""
        table.on_end(self.session_ended)

    # ---- when it goes ----

    def on_view(self) -> None:
        """Let sessions move that belong elsewhere in the new view, spread over time, and those stay that do not
        any more."""
        moving = []
        for session in self._table.sessions.values():
            transfer = session.transfer
            if transfer is not None and (transfer.frozen or transfer.pulled):
                continue
            target = self._homes.target(session)
            if transfer is None:
                if target is not None:
                    session.transfer = Transfer(str(session), target)
                    moving.append(session)
            elif target is None:
                transfer.call_off()
                session.transfer = None
            else:
                transfer.retarget(target)
        spread_s = max(self._limits.spread_s, len(moving) / self._per_s)
        for session in moving:
            self._later(session, self._rng.uniform(0, spread_s))
        now = self._ticks.now()
        self._departures.expire(now)
        self.ended_transfers.expire(now)
        for entry in self._reclaims.idle(now):
            self._tell_reclaimed(entry, 0.0)
        self._progress.set()

    def consider(self, session: Session) -> None:
        """Let a session move that was just opened or resumed: the view may have changed meanwhile."""
        target = None if session.ended else self._homes.target(session)
        if target is not None and session.transfer is None:
            session.transfer = Transfer(str(session), target)
            self._later(session, self._rng.uniform(0, self._limits.spread_s))

    def pull(self, session: Session, to: Member) -> None:
        """Send the session to `to`, where its client is, and to no other node any more."""
        target = Target(to.address, to.client_url)
        transfer = session.transfer
        if transfer is not None and transfer.phase == "due":
            transfer.call_off()  # and with it the timer that waits for it
            transfer = None
        if transfer is None:
            transfer = session.transfer = Transfer(str(session), target)
        self.carry_out(session, transfer.pull(target))

    def _later(self, session: Session, wait_s: float) -> None:
        self._ticks.after(wait_s, partial(self._due, session, session.transfer))

    def _due(self, session: Session, transfer: Transfer | None, _now: float) -> None:
        if transfer is not None and session.transfer is transfer and transfer.phase == "due":
            self.carry_out(session, transfer.join_line())

    def _join_line(self, session: Session, to: NodeAddress, left: NodeAddress | None) -> None:
        old = self._lines.get(left) if left is not None else None
        if old is not None:
            old.pop(session, None)
        line = self._lines.get(to)
        if line is not None:
            line[session] = None
        else:
            self._lines[to] = OrderedDict({session: None})
            self._supervisor.spawn(self._work_off(to), f"sessions to {to}")

    # ---- shipping ----

    async def _work_off(self, to: NodeAddress) -> None:
        """Ship the sessions in line for one node, a batch at a time."""
        line = self._lines[to]
        try:
            while line:
                await self._may_ship.wait()
                batch = self._pack_some(line, to)
                if batch:
                    self.shipping += 1
                    try:
                        await self._ship(to, batch)
                    finally:
                        self.shipping -= 1
        finally:
            del self._lines[to]

    def _pack_some(self, line: Line, to: NodeAddress) -> Batch:
        batch: Batch = []
        room = self._bytes_at_most
        while line and len(batch) < MAX_BATCH:
            session = next(iter(line))
            room -= (
                _ON_THE_WAY
                + session.outbox.bytes
                + 5 * len(session.outbox)
                + 150 * (len(session.topics or ()) + len(session.latest or ()))
            )
            if batch and room < 0:
                break
            del line[session]
            transfer = session.transfer
            turn = transfer.at_head(to) if transfer is not None else "not here"
            if transfer is None or turn == "not here":
                continue
            if turn == "elsewhere":
                self.carry_out(session, transfer.join_line())
                continue
            try:
                batch.append((session, transfer, self._pack(session, transfer)))
            except Exception as error:  # a fault of ours, which must not keep the others
                self._give_up(session, error)
        return batch

    def _give_up(self, session: Session, error: Exception) -> None:
        """End a session that cannot be packed: its client opens another one where it belongs."""
        self._metrics.task_crashes_total += 1
        log.error("a session cannot be handed over", session=str(session), exc_info=error)
        session.end(ENDED_MOVED, CloseCode.MOVED, "the player is served by another node now")

    def _pack(self, session: Session, transfer: Transfer) -> Packed:
        """Freeze: from here on nothing of the session changes."""
        assert not session.ended
        session.moves += 1
        session.changed()
        self._watched.leave(session)
        outbox = session.outbox
        frames, going = outbox.frames, b""
        if session.connection is not None and not transfer.pulled:
            going = Broadcast(self._going(transfer.url)).render(session.format, outbox.last + 1)
            frames.append(going)
        transfer.freeze(self._watched.withdraw(session), going)
        caller, role = session.caller, cast(ClientRole, session.caller.role)
        return Packed(
            session.resume, caller.session, caller.subject, role, session.format, session.stays, session.moves,
            session.since_ms, session.beats, outbox.acked, frames, transfer.topics,
            outbox.sent if session.connection is None else None, session.client, transfer.pulled,
            session.device, session.login_number, session.issued_ms, session.age_ms, session.instead_of,
        )  # fmt: skip

    def _going(self, url: str) -> Going:
        return Going(0, url, round(self._grace_s * 1000))

    def _encoded(self, batch: Batch) -> bytes:
        """The shipment of a batch, without sessions that cannot be encoded, which leave it."""
        try:
            return encode(Shipment([packed for _, _, packed in batch]))
        except Exception:
            for each in list(batch):
                try:
                    encode(Shipment([each[2]]))
                except Exception as error:
                    batch.remove(each)
                    self._give_up(each[0], error)
            return encode(Shipment([packed for _, _, packed in batch]))

    async def _ship(self, to: NodeAddress, batch: Batch) -> None:
        """Send a batch until its outcome is known."""
        payload = self._encoded(batch)
        attempts = Attempts(self._ticks.now() + self._settings.resume_window_s)
        verdicts: list[Verdict] = []
        attempt = 0
        while True:
            try:
                answer = await self._transport.request(to, Service.SESSION, payload, self._limits.answer_s)
                verdicts = decode_verdicts(answer, len(batch))
                break
            except GarrisonError as error:
                unknown = isinstance(error, OutcomeUnknown | Internal | Corrupt)
                outcome = attempts.failed(unknown, to in self._node.view.addresses, self._ticks.now())
                why = error.message
            if outcome == "refused":
                verdicts = [REFUSED] * len(batch)
            elif outcome == "given up":
                log.warning("sessions cannot be handed over", to=str(to), count=len(batch), why=why)
            if outcome != "again":
                break
            await asyncio.sleep(backoff_s(attempt, self._rng))
            attempt += 1
        for number, (session, transfer, _) in enumerate(batch):
            if verdicts:
                effects = transfer.answered(verdicts[number], session.ended, session.connection is not None)
            else:
                effects = transfer.lost(session.ended) if outcome == "lost" else transfer.given_up()
            self.carry_out(session, effects)
        self._progress.set()

    # ---- effects ----

    def carry_out(self, session: Session, effects: Effects) -> None:
        """Do what a transfer has decided, in order."""
        for effect in effects:
            match effect:
                case JoinLine(to, left):
                    self._join_line(session, to, left)
                case Departed(to, late):
                    self._note_departure(session, to)
                    self._pushes.pass_on(session.caller.subject, late, to)
                case Release():
                    self._metrics.sessions_handed_over_total += 1
                    self._table.release(session)
                    self.closing[session] = None
                case TellClient(going):
                    if going and not session.send_last(going):
                        self._hang_up(session, 0.0)
                    else:
                        self._ticks.after(self._grace_s, partial(self._hang_up, session))
                case EndHere(why, code, reason):
                    session.end(why, code, reason)
                case ForgetThere(to, ending):
                    self._departures.forget(session.resume)
                    self._note_ended(session)
                    self._tell_end(session, to, ending)
                case Reclaim(to):
                    until = self._ticks.now() + 2 * self._settings.resume_window_s
                    self._reclaims.note(Reclaimed(session.resume, to, session.moves, until))
                case GoOn():
                    self._go_on(session, effect)
                case _:
                    assert_never(effect)

    def _tell_end(self, session: Session, to: NodeAddress, ending: Ending) -> None:
        resume, moves = session.resume, session.moves
        if ending.why == ENDED_DISMISSED:
            self.tell_dismissed(to, Dismissed(resume, moves, ending.code, ending.reason))
        else:
            self._transport.send(to, Service.SESSION, encode(Forget(resume, moves, ending.why)))

    def tell_dismissed(self, to: NodeAddress, word: Dismissed) -> None:
        """Tell the node that has a dismissed session, or may get it, until it has heard or nobody could resume the
        session any more: its player would play on otherwise."""
        self._tell_dismissed(to, encode(word), self._ticks.now() + self._settings.resume_window_s, 0.0)

    def _tell_dismissed(self, to: NodeAddress, word: bytes, until: float, _now: float) -> None:

        def heard(answer: "asyncio.Future[bytes]") -> None:
            if answer.cancelled() or answer.exception() is not None:
                again()

        def again() -> None:
            if self._ticks.now() < until and to in self._node.view.addresses:
                self._ticks.after(self._limits.answer_s / 4, partial(self._tell_dismissed, to, word, until))

        try:
            self._transport.request(to, Service.SESSION, word, self._limits.answer_s).add_done_callback(heard)
        except GarrisonError:
            again()

    def _note_departure(self, session: Session, to: NodeAddress) -> None:
        player = session.caller.subject if session.caller.role == "player" else ""
        until = self._ticks.now() + self._settings.resume_window_s
        self._departures.note(session.resume, player, to, session.moves, until)

    def _note_ended(self, session: Session) -> None:
        """Remember that shipments of the session up to its last one are no news any more, should one be repeated."""
        if session.moves:
            self.note_ended(session.resume, session.moves)

    def note_ended(self, resume: str, moves: int) -> None:
        """Remember that shipments up to `moves` of a session are no news."""
        until = self._ticks.now() + 2 * self._settings.resume_window_s
        self.ended_transfers.note(resume, "", self._node.me, max(moves, self.ended_transfers.moves(resume)), until)

    def _go_on(self, session: Session, thawed: GoOn) -> None:
        """Let the session go on here, and try again later if it still belongs elsewhere."""
        transfer, session.transfer = session.transfer, None
        session.changed()
        assert transfer is not None and not session.ended
        if thawed.stay:  # the number of the packed `going` is taken: here by one that says where its client is
            me = self._node.view.addresses.get(self._node.me)
            url = me.client_url if me is not None and not session.stays else ""
            session.push(Broadcast(self._going(url)))
        self._watched.restore(session, thawed.topics)
        for push in thawed.late:
            session.push(Broadcast(push))
        target = None if session.ended else self._homes.target(session)
        if target is not None:
            session.transfer = Transfer(str(session), target, transfer.attempt + 1)
            self._later(session, backoff_s(transfer.attempt, self._rng, 0.1, self._limits.retry_cap_s))

    def _hang_up(self, session: Session, _now: float) -> None:
        session.end(ENDED_MOVED, CloseCode.MOVED, "the session is served by another node now")

    def session_ended(self, session: Session, before: Phase, ending: Ending) -> None:
        """Take in that a session has ended here, maybe on its way: the table's call."""
        if before == "transferred":
            self.closing.pop(session, None)
        else:
            self._note_ended(session)
        if session.transfer is not None:
            self.carry_out(session, session.transfer.session_ended(ending))
        self._progress.set()

    # ---- a rest, and what goes over to the next process of this node ----

    def rest(self) -> None:
        """Ship nothing more until `go_on`."""
        self._may_ship.clear()

    def go_on(self) -> None:
        """Ship what is in line."""
        self._may_ship.set()

    def close_those_that_went(self) -> None:
        """Close the connections of sessions that live elsewhere: their clients were told where to."""
        for session in list(self.closing):
            self._hang_up(session, 0.0)

    def bequeath(self) -> tuple[list[DepartedCopy], list[DepartedCopy], list[DepartedCopy]]:
        """Sessions that went, that ended here, and that were taken back."""
        departures, ended = (
            [
                DepartedCopy(resume, place_of(entry.to), entry.moves, entry.until, entry.player)
                for resume, entry in some.entries()
            ]
            for some in (self._departures, self.ended_transfers)
        )
        reclaims = [
            DepartedCopy(entry.resume, place_of(entry.to), entry.moves, entry.until) for entry in self._reclaims
        ]
        return departures, ended, reclaims

    def learn(
        self, departures: Sequence[DepartedCopy], ended: Sequence[DepartedCopy], reclaims: Sequence[DepartedCopy]
    ) -> None:
        """Take in what the process before remembered."""
        for copies, some in ((departures, self._departures), (ended, self.ended_transfers)):
            for copy in copies:
                some.note(copy.resume, copy.player, address_of(copy.to), copy.moves, copy.until)
        for copy in reclaims:
            self._reclaims.note(Reclaimed(copy.resume, address_of(copy.to), copy.moves, copy.until))

    # ---- word of sessions that were taken back ----

    def _tell_reclaimed(self, entry: Reclaimed, _now: float) -> None:
        if not self._reclaims.begin(entry, self._node.view.addresses):
            return
        payload = encode(Forget(entry.resume, entry.moves, ENDED_MOVED))
        try:
            answer = self._transport.request(entry.to, Service.SESSION, payload, self._limits.answer_s)
        except GarrisonError:
            self._tell_again(entry)
        else:
            answer.add_done_callback(partial(self._heard, entry))

    def _heard(self, entry: Reclaimed, answer: "asyncio.Future[bytes]") -> None:
        if answer.cancelled() or answer.exception() is not None:
            self._tell_again(entry)
        else:
            self._reclaims.heard(entry)

    def _tell_again(self, entry: Reclaimed) -> None:
        if self._ticks.now() < entry.until:
            self._ticks.after(self._limits.answer_s, partial(self._tell_reclaimed, entry))

    # ---- all of them ----

    async def hand_over_all(self, within_s: float) -> None:
        """Send every session away that has somewhere to go, within `within_s`."""
        deadline = self._ticks.now() + within_s
        self._grace_s = min(self._limits.grace_s, within_s / 4)
        going = [session for session in self._table.sessions.values() if self._homes.target(session) is not None]
        spread_s = min(within_s / 2, len(going) / self._per_s)
        for number, session in enumerate(going, 1):
            self.send_now(session)
            if number % _STEP == 0:
                await asyncio.sleep(spread_s * _STEP / len(going))
        while True:
            while going and going[-1].phase in ("ended", "transferred"):
                going.pop()
            if not (going or self.closing) or self._ticks.now() >= deadline:
                break
            self._progress.clear()
            try:
                async with asyncio.timeout(max(0.0, deadline - self._ticks.now())):
                    await self._progress.wait()
            except TimeoutError:
                break
        for session in list(self.closing):
            self._hang_up(session, 0.0)

    def send_now(self, session: Session) -> None:
        """Put a session in line at once that belongs elsewhere."""
        target = self._homes.target(session)
        if session.ended or session.moving or target is None:
            return
        if session.transfer is None:
            session.transfer = Transfer(str(session), target)
        if session.transfer.phase == "due":
            self.carry_out(session, session.transfer.join_line())
