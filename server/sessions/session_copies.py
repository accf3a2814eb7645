"""Sessions on their way to the next process of this node: packed here, unpacked and put in their places there.

The process before packs its sessions while it serves, and again those that have changed since (`session_barrier.py`).
The next one unpacks each as it comes, with all that it watches, so that nothing is left to be made at the end; a newer
copy of a session takes the place of an older one. Until `take_up` nobody is asked, told or written to. Then sessions
are bound to their actors, silence counts from that moment on, and a session that came with a connection, but whose
connection did not come, waits for its client as a detached one does.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import structlog

from server.actors.actor import Caller
from server.errors import BadInput
from server.sessions.binding import SessionActors
from server.sessions.connection import Connection
from server.sessions.latest import LatestTopics
from server.sessions.mover import Mover
from server.sessions.outbox import Outbox
from server.sessions.ports import NodeView
from server.sessions.presence_copies import PresenceCopies
from server.sessions.rate_bucket import TokenBucket
from server.sessions.replays import Replays
from server.sessions.session import Session, SessionKit
from server.sessions.session_copy import BucketCopy, OutboxCopy, SessionCopy, decode_copy, encode_copy
from server.sessions.streams import Streams
from server.sessions.table import SessionTable

log = structlog.get_logger(__name__)
GOING_OVER: Final = frozenset({"attached", "detached", "arrived"})
"""Phases in which a session goes over; of a transferred one only its connection was left."""


class SessionCopies:
    """See the module's head."""

    def __init__(
        self,
        kit: SessionKit,
        node: NodeView,
        table: SessionTable,
        actors: SessionActors,
        streams: Streams,
        latest: LatestTopics,
        people: PresenceCopies,
        replays: Replays,
        mover: Mover,
    ) -> None:
        self._kit, self._node, self._table, self._actors = kit, node, table, actors
        self._streams, self._latest, self._people, self._replays, self._mover = streams, latest, people, replays, mover
        self._new: dict[Session, SessionCopy] = {}
        """Sessions that were unpacked and not taken up yet."""

    # ---- here ----

    def all(self) -> list[Session]:
        """The sessions that go over."""
        return [session for session in self._table.sessions.values() if session.phase in GOING_OVER]

    def unnoted(self) -> Iterator[Session]:
        """Sessions to be packed last whether or not the barrier has noted them: what they hold changes with no word to
        the session (messages that wait in line, players whose newest presence its client lacks, its way elsewhere)."""
        for session in self._table.sessions.values():
            people = session.people
            if session.in_line is not None or session.transfer is not None or (people is not None and people.behind):
                yield session

    def pack(self, session: Session) -> bytes:
        """All of a session. It changes nothing."""
        caller, outbox, bucket, transfer = session.caller, session.outbox, session.bucket, session.transfer
        until, line = session.token_until_ms, session.in_line
        assert session.phase in GOING_OVER and not session.moving, f"{session} does not go over"
        copy = SessionCopy(
            resume=session.resume,
            session=caller.session,
            subject=caller.subject,
            role=caller.role,  # type: ignore[arg-type]
            format=session.format,
            stays=session.stays,
            phase=session.phase,  # type: ignore[arg-type]
            order=session.order,
            moves=session.moves,
            login_number=session.login_number,
            since_ms=session.since_ms,
            began=session.began,
            detached_at=session.detached_at,
            issued_ms=session.issued_ms,
            token_until_ms=None if math.isinf(until) else until,
            remote=session.remote,
            country=session.country,
            traffic=session.traffic(),
            client=session.client,
            device=session.device,
            instead_of=session.instead_of,
            beats=session.beats,
            beat_due=session.beat_due,
            starved=session.starved,
            outbox=OutboxCopy(outbox.acked, outbox.sent, outbox.last, outbox.lost, outbox.frames),
            bucket=BucketCopy(*bucket.state),
            streams=self._streams.copies(session) if session.topics else [],
            latest=self._latest.copies(session) if session.latest else [],
            people=self._people.copy(session),
            replays=self._replays.copies(session),
            waiting=line.messages if line is not None else [],
            leaves=transfer is not None,
            pulled_to=str(transfer.to) if transfer is not None and transfer.pulled else "",
        )
        return encode_copy(copy)

    # ---- there ----

    def unpack(self, data: bytes) -> Session:
        """Make a session of its copy, without a connection, in place of an older copy. Raises `BadInput`; then nothing
        has changed."""
        copy = decode_copy(data)
        here = self._table.sessions.get(copy.resume)
        if here is not None and here not in self._new:
            raise BadInput(f"session {copy.session} is here already")
        session = self._made(copy)
        self.forget(copy.resume)
        self._new[session] = copy
        self._table.inherit(session)
        self._streams.inherit(session, copy.streams)
        self._latest.inherit(session, copy.latest)
        if copy.people is not None:
            self._people.inherit(session, copy.people)
        self._replays.inherit(session, copy.replays)
        ticks, settings = self._kit.ticks, self._kit.settings
        ticks.after(settings.heartbeat_interval_s, session.check)  # time does not go on here until `take_up`
        return session

    def _made(self, copy: SessionCopy) -> Session:
        caller = Caller(copy.role, copy.subject, copy.session)
        session = Session(self._kit, caller, copy.resume, copy.format, copy.stays)
        session.actor = self._actors.actor_of(copy.role, copy.subject)
        for phase in ("attached", "detached") if copy.phase == "detached" else (copy.phase,):
            session.enter(phase)
        session.order, session.moves, session.login_number = copy.order, copy.moves, copy.login_number
        session.since_ms, session.began, session.detached_at = copy.since_ms, copy.began, copy.detached_at
        session.issued_ms = copy.issued_ms
        session.token_until_ms = math.inf if copy.token_until_ms is None else copy.token_until_ms
        session.remote, session.country, session.client = copy.remote, copy.country, copy.client
        session.earlier_traffic = copy.traffic
        session.device, session.instead_of = copy.device, copy.instead_of
        session.beats, session.starved = copy.beats, copy.starved
        settings, box = self._kit.settings, copy.outbox
        session.outbox = Outbox.going_on(
            settings.outbox_max_messages, settings.outbox_max_bytes, box.acked, box.sent, box.frames, box.lost, box.last
        )
        now, bucket = self._kit.ticks.now(), copy.bucket
        session.bucket = TokenBucket(settings.rate_per_s, settings.rate_burst, now)
        session.bucket.state = (
            bucket.tokens, bucket.granted, bucket.hurried, bucket.rest, bucket.at, bucket.due, bucket.costly_due
        )  # fmt: skip
        return session

    def forget(self, resume: str) -> None:
        """Take an unpacked session back: it has ended since in the process before, or a newer copy comes."""
        session = self._table.sessions.get(resume)
        if session is None or self._new.pop(session, None) is None:
            return
        self._people.withdraw(session)
        self._replays.withdraw(session)
        self._latest.withdraw(session)
        self._streams.withdraw(session)
        self._table.withdraw(session)
        session.enter("ended")

    def attach(self, session: Session, connection: Connection) -> None:
        """Let an unpacked session have this connection of the process before, of which nothing is read yet."""
        assert session in self._new and session.connection is None
        if session.phase == "attached":
            session.connection = connection
            connection.set_receiver(session)

    def attached(self, session: Session, before: Connection, connection: Connection) -> None:
        """Its connection has taken another form."""
        if session.connection is before:
            session.go_on_over(connection)

    def take_up(self, soon: Callable[[int, Callable[[], Any]], None]) -> None:
        """Let all unpacked sessions go on. See `PresenceCopies.take_up` for `soon`."""
        new, self._new = self._new, {}
        ticks = self._kit.ticks
        ticks.advance()
        lost = 0
        for session, copy in new.items():
            session.heard_at = ticks.tick
            self._actors.bind(session)
            if session.connection is None and session.phase == "attached":
                session.enter("detached")
                session.detached_at = ticks.tick
                lost += 1
            if session.connection is None:
                self._table.session_waits(session)
            elif copy.beat_due:
                session.beats -= 1
                session.owe_beat()  # counts it again
        metrics = self._kit.metrics
        metrics.sessions = sum(session.connection is not None for session in new)
        metrics.presence_watched = sum(session.people.count for session in new if session.people is not None)
        metrics.replays = len(self._replays)
        for session, copy in new.items():
            self._go_on(session, copy)
        self._people.take_up(soon)
        self._replays.take_up()
        if lost:
            metrics.not_carried("lost", lost)
            log.warning("sessions came without their connections", count=lost)

    def _go_on(self, session: Session, copy: SessionCopy) -> None:
        """Let a session do at once whatever it was about to do."""
        if session.outbox.sent < session.outbox.last:
            session.flush()
        self._people.take_up_table(session)
        for data in copy.waiting:
            session.wait_in_line()
            assert session.in_line is not None
            session.in_line.on_message(data)
        if session.latest:
            self._latest.catch_up(session)
        if session.starved and not session.outbox.half_full:
            session.starved = False
            self._kit.streams.refill(session)
        if copy.leaves and not session.ended:
            member = next((each for at, each in self._node.view.addresses.items() if str(at) == copy.pulled_to), None)
            if member is not None and member.client_url and member.address != self._node.me:
                self._mover.pull(session, member)
            else:
                self._mover.consider(session)
