"""A node's streams: the event logs that its clients watch.

A topic (a logged actor) with local watchers is *attached*: its actor sends its durable events to
this node for ten seconds, so the node attaches again every few seconds and at each view change,
and learns the durable end each time, until it learns that the log is finished. Events that come are
given to the subscriptions by their cursors (`server/sessions/cursors.py`); a watcher that lags reads from
the log, in batches, and only as fast as its client acknowledges. So a lost message between nodes, a
dead owner and a slow client are all the same case: a cursor below the end. So is a watcher that may not watch any more,
as far as this node knows: see `server/sessions/stream_guard.py`. So is one that lags, which has an end of its own: see
`server/activations/public_end.py`.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from server.actors.actor import Attached, EventBatch, LoggedActor
from server.actors.app import App
from server.actors.guard import OPEN, Guard
from server.errors import Forbidden, GarrisonError, NotFound, Overloaded, Rejected
from server.ids import ActorId, kind_of, parse_actor_id
from server.runtime.backoff import backoff_s
from server.runtime.supervisor import Supervisor
from server.sessions.broadcast import Broadcast
from server.sessions.end_reasons import Ending
from server.sessions.gateway_bequest import StreamTopicCopy
from server.sessions.ports import StreamActors
from server.sessions.renewals import Renewals
from server.sessions.session import Session
from server.sessions.session_copy import StreamCopy
from server.sessions.session_phases import Phase
from server.sessions.stream_guard import StreamGuard
from server.sessions.ticks import TickClock
from server.sessions.time_limits import StreamLimits
from server.sessions.topic import ALL_PUBLIC, Topic
from server.sessions.watching import after, ask_leave, check_still, is_moving, too_many
from server.wire.messages import Events, Watch, WatchEnded, Watching

MAX_EVENTS: Final = 512
MAX_RUN_BYTES: Final = 48 * 1024
"""A frame of events to a client holds about this much at most."""


class Streams:
    """See the module's head. `max_subscriptions`: topics of one session at most. `slice_at_most`: topics that are
    attached in one turn of the loop at most, so that a link has room for other requests."""

    def __init__(
        self,
        actors: StreamActors,
        app: App,
        ticks: TickClock,
        supervisor: Supervisor,
        rng: random.Random,
        max_subscriptions: int,
        slice_at_most: int,
        limits: StreamLimits,
    ) -> None:
        self._actors, self._app, self._ticks, self._supervisor, self._rng = actors, app, ticks, supervisor, rng
        self._most = max_subscriptions
        self.topics: dict[str, Topic[Session]] = {}
        self._renewals = Renewals(ticks, self._attach_due, slice_at_most, limits.renew_s)
        self._guard = StreamGuard(actors, self._refuse, self._fill)

    # ---- sessions that move ----

    def withdraw(self, session: Session) -> list[tuple[str, int]]:
        """End the subscriptions of a session that goes to another node: topic and next event of each."""
        topics, session.topics = session.topics, None
        session.changed()
        out = []
        for name, topic in (topics or {}).items():
            cursor = topic.cursors.cursor(session)
            out.append((name, topic.beginning.get(session, cursor or 1)))
            self._leave(topic, session)
        return out

    def restore(self, session: Session, cursors: Sequence[tuple[str, int]]) -> None:
        """Begin the subscriptions of a session that came, or came back."""
        for name, next_seq in cursors:
            identity = parse_actor_id(name)
            cls = self._app.actor(kind_of(identity))
            if cls is None or not issubclass(cls, LoggedActor):
                continue
            topic = self.topics.get(identity)
            known = topic is not None
            if topic is None:
                topic = self.topics[identity] = Topic[Session](identity)
            if session.topics is None:
                session.topics = {}
            session.topics[name] = topic
            topic.watch(session, next_seq)
            session.changed()
            if known:
                self._fill(topic)
            elif not topic.attaching:
                self._attach(topic)

    # ---- to the next process of this node ----

    def copies(self, session: Session) -> list[StreamCopy]:
        """The streams that a session watches, as they go over with it."""
        out = []
        for name, topic in (session.topics or {}).items():
            cursor = topic.beginning.get(session, topic.cursors.cursor(session) or 1)
            out.append(StreamCopy(name, cursor, topic.cleared(session), session in topic.late))
        return out

    def inherit(self, session: Session, copies: Sequence[StreamCopy]) -> None:
        """Let a session go on with its streams; nobody is asked yet."""
        for copy in copies:
            identity = parse_actor_id(copy.topic)
            cls = self._app.actor(kind_of(identity))
            if cls is None or not issubclass(cls, LoggedActor):
                continue
            topic = self.topics.get(identity)
            if topic is None:
                topic = self.topics[identity] = Topic[Session](identity)
            if session.topics is None:
                session.topics = {}
            session.topics[copy.topic] = topic
            topic.watch(session, copy.next_seq)
            topic.clear(session, copy.guard, copy.late)

    def bequeath(self) -> list[StreamTopicCopy]:
        """Facts of the watched streams that their actors have told."""
        return [
            StreamTopicCopy(name, topic.cursors.end, topic.finished, topic.guard, topic.public_seq)
            for name, topic in self.topics.items()
        ]

    def learn(self, copies: Sequence[StreamTopicCopy]) -> None:
        """Take in what the process before knew of the streams that are watched."""
        for copy in copies:
            topic = self.topics.get(copy.topic)
            if topic is not None:
                topic.learn(copy.end, copy.finished, copy.guard, copy.public_seq)

    # ---- from clients ----

    def watch(self, session: Session, message: Watch) -> "Watching | asyncio.Future[Watching]":
        """Subscribe. Raises, or its future does, `BadInput`, `NotFound`, `Forbidden`, `Rejected` (too many
        subscriptions) and what the actor answers."""
        check_still(session)
        identity = parse_actor_id(message.topic)
        cls = self._app.actor(kind_of(identity))
        if cls is None or not issubclass(cls, LoggedActor):
            raise NotFound(f"{kind_of(identity)} has no stream")
        leave = ask_leave(self._actors, cls, identity, session)
        return after(leave, lambda: self._compare(session, message, identity))

    def _compare(self, session: Session, message: Watch, identity: ActorId) -> "Watching | asyncio.Future[Watching]":
        """Subscribe a client that may watch, if the events that it has are those of the log."""
        if not message.known_seq or not message.known:
            return self._watch(session, message, identity)
        has = self._actors.ask_now(identity, "has_mark", (message.known_seq, message.known))

        def compared() -> "Watching | asyncio.Future[Watching]":
            if not (has.result() if isinstance(has, asyncio.Future) else has):
                raise Rejected("history_changed", f"event {message.known_seq} of {identity} is another one now")
            return self._watch(session, message, identity)

        return after(has, compared)

    def _watch(self, session: Session, message: Watch, identity: ActorId) -> "Watching | asyncio.Future[Watching]":
        """Subscribe a client that may watch."""
        check_still(session)
        full = self._full(session, message.topic)
        if full is not None:
            raise full
        me = self._actors.me
        found = self._actors.ask_now(identity, "attach", (str(me.node), int(me.incarnation)))
        if not isinstance(found, asyncio.Future):
            self._subscribe(session, message, identity, found)
            return Watching(message.id, message.topic, end_for_all(found, message.from_seq))
        answer: asyncio.Future[Watching] = asyncio.get_running_loop().create_future()

        def attached(future: "asyncio.Future[Attached]") -> None:
            if answer.cancelled():
                return
            error = GarrisonError("cancelled") if future.cancelled() else future.exception()
            if error is not None:
                answer.set_exception(error)
            elif session.moving:
                answer.set_exception(is_moving())
            elif (full := self._full(session, message.topic)) is not None:
                answer.set_exception(full)  # others that were asked for meanwhile were here before
            else:
                answer.set_result(Watching(message.id, message.topic, end_for_all(future.result(), message.from_seq)))
                self._subscribe(session, message, identity, future.result())

        found.add_done_callback(attached)
        return answer

    def _full(self, session: Session, topic: str) -> Rejected | None:
        """The reason why the session cannot watch `topic` too; None if it can, or does already."""
        return None if topic in (session.topics or {}) else too_many(session, self._most)

    def _subscribe(self, session: Session, message: Watch, identity: ActorId, found: Attached) -> None:
        """Note the topic now, so that it learns of new events; deliver after the reply."""
        if session.ended:
            return
        topic = self.topics.get(identity)
        if topic is None:
            topic = self.topics[identity] = Topic[Session](identity)
        topic.asked_at = self._ticks.now()
        topic.learn(found.next_seq, found.finished, found.guard, found.public_seq)
        if session.topics is None:
            session.topics = {}
        session.topics[message.topic] = topic
        session.changed()
        topic.beginning[session] = message.from_seq
        asyncio.get_running_loop().call_soon(self._begin, session, topic)

    def _begin(self, session: Session, topic: Topic[Session]) -> None:
        from_seq = topic.beginning.pop(session, None)
        if from_seq is not None:  # else it has left again
            topic.watch(session, from_seq)
            self._fill(topic)

    def unwatch(self, session: Session, topic: str) -> bool:
        """Unsubscribe. False: it did not watch that topic."""
        known = session.topics.pop(topic, None) if session.topics else None
        if known is not None:
            self._leave(known, session)
            session.changed()
        return known is not None

    def session_ended(self, session: Session, _before: Phase, _ending: Ending) -> None:
        """End the subscriptions of a session that has ended."""
        topics, session.topics = session.topics, None
        session.changed()
        for topic in (topics or {}).values():
            self._leave(topic, session)

    def refill(self, session: Session) -> None:
        """Go on with the streams that waited for room in the session's outbox."""
        for topic in list((session.topics or {}).values()):
            self._fill(topic)

    def _refuse(self, topic: Topic[Session], session: Session) -> None:
        """End a subscription whose client may watch no more, and tell it."""
        if session.topics is not None and session.topics.get(topic.id) is topic:
            del session.topics[topic.id]
            self._leave(topic, session)
            session.push(Broadcast(WatchEnded(0, topic.id, Forbidden.code)))

    def _leave(self, topic: Topic[Session], session: Session) -> None:
        topic.unwatch(session)
        if not topic.watched:
            self.topics.pop(topic.id, None)

    # ---- staying attached ----

    def renew(self, hurry: bool = False) -> None:
        """Attach every topic again that goes on. Many topics take slices, up to `renew_s` in all, the longest
        unattached first, so that a link on which too much waits does not refuse the same ones for long. `hurry`:
        their owners may have changed, so slices are as large as leaves a link room for other requests."""
        due = []
        for topic in list(self.topics.values()):
            if topic.finished:
                self._fill(topic)  # wakes its actor only if somebody lacks something
            else:
                due.append(topic)
        self._renewals.begin(sorted(due, key=lambda topic: topic.asked_at), hurry)

    def _attach_due(self, topic: Topic[Session]) -> None:
        if not topic.attaching and self.topics.get(topic.id) is topic:
            self._attach(topic)

    def _attach(self, topic: Topic[Session]) -> None:
        me = self._actors.me
        try:
            found = self._actors.ask_now(topic.id, "attach", (str(me.node), int(me.incarnation)))
        except GarrisonError:
            return  # the next renewal tries again
        if not isinstance(found, asyncio.Future):
            topic.asked_at = self._ticks.now()
            self._learned(topic, found)
            return
        topic.attaching = True

        def attached(future: "asyncio.Future[Attached]") -> None:
            topic.attaching = False
            error = GarrisonError("cancelled") if future.cancelled() else future.exception()
            if not isinstance(error, Overloaded):  # else it comes first in the next renewal
                topic.asked_at = self._ticks.now()
            if error is None:
                self._learned(topic, future.result())

        found.add_done_callback(attached)

    def _learned(self, topic: Topic[Session], found: Attached) -> None:
        topic.learn(found.next_seq, found.finished, found.guard, found.public_seq)
        self._fill(topic)

    # ---- events to subscriptions ----

    def arrived(
        self,
        identity: ActorId,
        first_seq: int,
        events: Sequence[bytes],
        guard: Guard = OPEN,
        mark: str = "",
        public_seq: int = -1,
    ) -> None:
        """Take in durable events of a watched stream, from its owner, with the hash of the log after them, or word of
        its public end."""
        topic = self.topics.get(identity)
        if topic is not None:
            topic.raise_guard(guard)
            if topic.public_seq < ALL_PUBLIC:
                topic.make_public(public_seq)
            raw = [msgspec.Raw(event) for event in events]
            self._deliver(topic, first_seq, raw, mark, _taker(topic))
            if topic.late:
                self._deliver_late(topic, first_seq, raw)
            self._fill(topic)

    def _deliver(
        self,
        topic: Topic[Session],
        first_seq: int,
        events: list[msgspec.Raw],
        mark: str,
        may_take: Callable[[Session], bool],
    ) -> None:
        """Give events to those who are at them."""
        end = first_seq + len(events)
        for start, run in runs_of(first_seq, events):
            shared: dict[int, Broadcast] = {}
            for session, offset in topic.cursors.take(start, len(run), may_take):
                broadcast = shared.get(offset)
                if broadcast is None:
                    at_end = mark if start + len(run) == end else ""
                    push = Events(0, topic.id, start + offset, run[offset:] if offset else run, at_end)
                    broadcast = shared[offset] = Broadcast(push)
                session.push(broadcast)

    def _deliver_late(self, topic: Topic[Session], first_seq: int, events: list[msgspec.Raw]) -> None:
        """Give what is public of `events` to those who lag. They get no hash of the log: without one they would know
        that there is more."""
        public = events[: max(0, topic.public_seq - first_seq)]
        self._deliver(topic, first_seq, public, "", lambda session: topic.is_late(session) and _has_room(session))

    def _fill(self, topic: Topic[Session]) -> None:
        """Ask about watchers if need be, and start reading from the log for those that lag, unless that is under
        way."""
        self._guard.check(topic)
        if not topic.filling and topic.cursors.wanted(_wanting(topic)) is not None:
            topic.filling = True
            self._supervisor.spawn(self._read(topic), f"fill {topic.id}")

    async def _read(self, topic: Topic[Session]) -> None:
        attempt = 0
        try:
            while (wanted := topic.cursors.wanted(_wanting(topic))) is not None and topic.id in self.topics:
                try:
                    batch: EventBatch = await self._actors.ask(topic.id, "read_events", (wanted,))
                    if not batch.events or batch.first_seq > wanted:
                        raise NotFound(f"{topic.id} has no event {wanted}")
                except GarrisonError:
                    # The owner is gone or moving: the cursor stays, a later reader goes on.
                    await asyncio.sleep(backoff_s(attempt, self._rng))
                    attempt += 1
                    continue
                attempt = 0
                topic.learn(batch.next_seq, False, batch.guard, batch.public_seq)
                self._deliver(topic, batch.first_seq, batch.events, batch.mark, _taker(topic))
                if topic.late:
                    self._deliver_late(topic, batch.first_seq, batch.events)
                self._guard.check(topic)
                await asyncio.sleep(0)  # a long log must not keep the loop to itself
        finally:
            topic.filling = False


def _taker(topic: Topic[Session]) -> Callable[[Session], bool]:
    """Whether a session can be given whatever events there are of the topic now."""
    if topic.guard == OPEN:
        return _has_room
    return lambda session: topic.is_prompt(session) and _has_room(session)


def _wanting(topic: Topic[Session]) -> Callable[[Session], bool]:
    """Whether a session can be given the event that it is at."""
    if topic.guard == OPEN:
        return _has_room
    return lambda session: topic.may_go_on(session) and _has_room(session)


def end_for_all(found: Attached, from_seq: int) -> int:
    """The end of a log that a watcher from `from_seq` is told. Whoever lags may not know how much more there is, and
    an end below what it has would mean that a restore took that back."""
    return found.next_seq if found.public_seq < 0 else max(min(found.next_seq, found.public_seq), from_seq)


def _has_room(session: Session) -> bool:
    """True while the client keeps up: streams go on only then, and `Session.acknowledge` calls back."""
    if session.outbox.half_full:
        session.starved = True
        session.changed()
        return False
    return True


def runs_of(first_seq: int, events: list[msgspec.Raw]) -> list[tuple[int, list[msgspec.Raw]]]:
    """Cut `events` so that no run has more than `MAX_EVENTS` or about `MAX_RUN_BYTES`."""
    out: list[tuple[int, list[msgspec.Raw]]] = []
    run: list[msgspec.Raw] = []
    size = 0
    for event in events:
        if run and (len(run) >= MAX_EVENTS or size + len(bytes(event)) > MAX_RUN_BYTES):
            out.append((first_seq, run))
            first_seq += len(run)
            run, size = [], 0
        run.append(event)
        size += len(bytes(event))
    if run:
        out.append((first_seq, run))
    return out
