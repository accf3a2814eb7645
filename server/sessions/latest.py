"""A node's latest topics: the newest pictures that its clients watch.

One picture a topic and node, however many watch; a session has beside its outbox a slot for each of its topics, which
says how much of the picture it has. At each tick the topics that changed are sent to their watchers: the keys that
changed since their slot, encoded once for all watchers that lack the same. A session that cannot be written to (its
client does not read, or is away, or it is on its way to another node) stays behind with its slot, and gets what is
newest then.

The picture of a topic is made before its actor is asked, so that a difference that overtakes the snapshot is kept:
the highest order wins (`picture.py`). Staying attached: as streams do (`renewals.py`), and at once where a difference
is missing.

A *guarded* topic is one whose actor says who may watch (`may_watch`). It is asked again for all watchers here before a
change is sent to them, so that whoever is let in no more sees nothing that is newer than that: the last it gets is an
empty picture.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from server.actors.actor import Actor
from server.actors.app import App
from server.actors.guard import TurnedAway
from server.actors.latest import LatestActor, LatestState, Order
from server.errors import BadInput, GarrisonError, NotFound, Overloaded, Rejected, Unavailable
from server.ids import ActorId, kind_of, parse_actor_id
from server.sessions.end_reasons import Ending
from server.sessions.gateway_bequest import LatestTopicCopy
from server.sessions.picture import Picture, Slot
from server.sessions.ports import StreamActors
from server.sessions.renewals import Renewals
from server.sessions.session import Session
from server.sessions.session_copy import LatestCopy
from server.sessions.session_phases import Phase
from server.sessions.ticks import TickClock
from server.sessions.watching import after, ask_leave, check_still, is_guarded, is_moving, refusal, too_many
from server.wire.codec import Format
from server.wire.messages import Latest, LatestItem, Seen, Snapshot, WatchLatest

CHECKED_AT_ONCE: Final = 500
"""Watchers about whom one message asks an actor."""
_encode_json: Final = msgspec.json.Encoder().encode
_encode: Final = msgspec.msgpack.Encoder().encode
_decode_value: Final = msgspec.msgpack.Decoder().decode


class LatestTopic:
    """A watched topic. `token`: the name of this picture in clients' cursors. `guarded`: see the module's head."""

    __slots__ = (
        "asked_at",
        "attaching",
        "checks",
        "guarded",
        "id",
        "pending",
        "picture",
        "token",
        "unsure",
        "waiting",
        "watchers",
    )

    def __init__(self, identity: ActorId, token: str, guarded: bool = False) -> None:
        self.id, self.token, self.guarded = identity, token, guarded
        self.checks = 0
        """Questions to its actor about watchers that are under way."""
        self.unsure = False
        """Whether one of them failed."""
        self.picture = Picture()
        self.watchers: dict[Session, Slot] = {}
        self.waiting: list[asyncio.Future[None]] = []
        """Watchers whose snapshot waits for the first picture."""
        self.pending = 0
        """Watchers that are neither answered nor refused yet: the topic stays for them."""
        self.attaching = False
        self.asked_at = 0.0

    @property
    def cursor(self) -> str:
        """The name of the present picture."""
        return f"{self.token}:{self.picture.revision}"

    @property
    def state(self) -> tuple[object, ...]:
        """A value that is another one once the picture is."""
        picture = self.picture
        return self.token, picture.revision, picture.known, picture.gap

    def copy(self) -> LatestTopicCopy:
        """Its picture, as it goes over to the next process of this node."""
        return LatestTopicCopy(self.id, self.token, self.picture.copy())

    def revision_of(self, cursor: str) -> int:
        """The revision that a cursor names; -1 for one of another picture."""
        token, _, revision = cursor.rpartition(":")
        if token != self.token or not revision.isdecimal() or int(revision) > self.picture.revision:
            return -1
        return int(revision)


class LatestTopics:
    """See the module's head. `most`: topics of one session at most, its streams counted."""

    def __init__(
        self,
        actors: StreamActors,
        app: App,
        ticks: TickClock,
        most: int,
        slice_at_most: int,
        renew_s: float,
    ) -> None:
        self._actors, self._app, self._ticks, self._most = actors, app, ticks, most
        self.topics: dict[str, LatestTopic] = {}
        self._changed: dict[LatestTopic, None] = {}
        self._late: dict[Session, None] = {}
        """Sessions that can be written to again and may lack something."""
        self._tokens = 0
        self._sent: dict[str, tuple[object, ...]] = {}
        """Pictures that were copied ahead, as they were."""
        self._arrived: dict[str, tuple[str, Picture]] = {}
        """Pictures that came from the process before, with their names."""
        self._renewals = Renewals(ticks, self._attach_due, slice_at_most, renew_s)

    # ---- from clients ----

    def watch(self, session: Session, message: WatchLatest) -> "Snapshot | asyncio.Future[Snapshot]":
        """Subscribe. Raises, or its future does, `BadInput`, `NotFound`, `Forbidden`, `Rejected` (too many
        subscriptions) and the errors of the actor."""
        check_still(session)
        identity = parse_actor_id(message.topic)
        leave = ask_leave(self._actors, self._kind(identity), identity, session)
        return after(leave, lambda: self._watch(session, message, identity))

    def _watch(
        self, session: Session, message: WatchLatest, identity: ActorId
    ) -> "Snapshot | asyncio.Future[Snapshot]":
        """Subscribe a client that may watch."""
        check_still(session)
        full = self._full(session, identity)
        if full is not None:
            raise full
        topic = self._topic(identity)
        if topic.picture.is_known:
            return self._first(session, topic, message)
        known: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        topic.waiting.append(known)
        answer: asyncio.Future[Snapshot] = self._pending(
            topic, after(known, lambda: self._first(session, topic, message))
        )
        if not topic.attaching:
            self._attach(topic)
        return answer

    def _pending(self, topic: LatestTopic, answer: "Snapshot | asyncio.Future[Snapshot]") -> Any:
        """Keep the topic until a watcher that is not answered yet is answered or refused."""
        if isinstance(answer, asyncio.Future):
            topic.pending += 1
            answer.add_done_callback(lambda _: self._no_longer_pending(topic))
        return answer

    def _no_longer_pending(self, topic: LatestTopic) -> None:
        topic.pending -= 1
        self._leave_if_unwatched(topic)

    def _kind(self, identity: ActorId) -> type[Actor[Any]]:
        cls = self._app.actor(kind_of(identity))
        if cls is None or not issubclass(cls, LatestActor):
            raise NotFound(f"{kind_of(identity)} has no latest topic")
        return cls

    def _full(self, session: Session, topic: str) -> Rejected | None:
        return None if topic in (session.latest or {}) else too_many(session, self._most)

    def _topic(self, identity: ActorId) -> LatestTopic:
        topic = self.topics.get(identity)
        if topic is None:
            self._tokens += 1
            me = self._actors.me
            token, guarded = f"{me.node}-{me.incarnation}-{self._tokens}", is_guarded(self._kind(identity))
            topic = self.topics[identity] = LatestTopic(identity, token, guarded)
        return topic

    def _first(
        self, session: Session, topic: LatestTopic, message: WatchLatest
    ) -> "Snapshot | asyncio.Future[Snapshot]":
        """Subscribe to a picture that is known. The actor of a guarded topic is asked once more, since the picture may
        be newer than its leave: the client gets the one of before the question."""
        assert self.topics.get(topic.id) is topic and topic.picture.is_known
        self._must_be_there(session, topic)
        picture = topic.picture
        revision, newest = picture.revision, picture.newest
        snapshot = Snapshot(message.id, topic.id, topic.cursor, _items(picture.whole(), session.format))
        if not topic.guarded:
            self._slot(session, topic, Slot(revision))
            return snapshot
        found = self._actors.ask_now(topic.id, "turns_away", ([session.caller],))

        def begin() -> Snapshot:
            told: TurnedAway = found.result() if isinstance(found, asyncio.Future) else found
            if told.refused:
                raise refusal(topic.id, session)
            if (told.epoch, told.n) < newest:
                raise Unavailable(f"{topic.id} has another owner")
            self._must_be_there(session, topic)
            self._slot(session, topic, Slot(revision))
            self._changed[topic] = None  # the picture may have changed since
            return snapshot

        answer: Snapshot | asyncio.Future[Snapshot] = self._pending(topic, after(found, begin))
        return answer

    def _must_be_there(self, session: Session, topic: LatestTopic) -> None:
        """Raises what a session is told that cannot watch the topic: others that were asked for meanwhile count."""
        if session.ended or session.moving:
            raise is_moving()
        full = self._full(session, topic.id)
        if full is not None:
            raise full

    def _slot(self, session: Session, topic: LatestTopic, slot: Slot) -> None:
        if session.latest is None:
            session.latest = {}
        session.latest[topic.id] = topic.watchers[session] = slot
        session.changed()

    def _is_guarded(self, name: str) -> bool:
        """Whether this names a guarded topic."""
        try:
            return is_guarded(self._kind(parse_actor_id(name)))
        except (BadInput, NotFound):
            return False

    def unwatch(self, session: Session, topic: str) -> bool:
        """Unsubscribe. False: it did not watch that topic."""
        slot = session.latest.pop(topic, None) if session.latest else None
        if slot is None:
            return False
        self._leave(self.topics[topic], session)
        session.changed()
        return True

    # ---- sessions that end, move, and come back ----

    def session_ended(self, session: Session, _before: Phase, _ending: Ending) -> None:
        """End the subscriptions of a session that has ended."""
        self.withdraw(session)

    def withdraw(self, session: Session) -> list[str]:
        """End the subscriptions of a session that goes to another node: its topics."""
        names, session.latest = list(session.latest or ()), None
        session.changed()
        self._late.pop(session, None)
        for name in names:
            self._leave(self.topics[name], session)
        return names

    def restore(self, session: Session, names: Iterable[str]) -> None:
        """Begin the subscriptions of a session that came, or came back: it has no picture yet."""
        for name in names:
            identity = parse_actor_id(name)
            cls = self._app.actor(kind_of(identity))
            if cls is None or not issubclass(cls, LatestActor):
                continue
            topic = self._topic(identity)
            self._slot(session, topic, Slot())
            if not topic.picture.is_known and not topic.attaching:
                self._attach(topic)
        self.catch_up(session)

    def resume(self, session: Session, seen: Iterable[Seen]) -> None:
        """Go on for a client that is back and has these pictures; other topics are sent whole. A guarded one that it
        has and does not watch has ended, and that word was lost on its way: it is told again."""
        cursors = {each.topic: each.cursor for each in seen}
        for name in cursors:
            if name not in (session.latest or {}) and self._is_guarded(name):
                self._slot(session, self._topic(ActorId(name)), Slot(over=True))
        for name, slot in (session.latest or {}).items():
            slot.revision = self.topics[name].revision_of(cursors.get(name, ""))
        session.changed()
        self.catch_up(session)

    def copies(self, session: Session) -> list[LatestCopy]:
        """The topics that a session watches, as they go over with it to the next process of this node."""
        return [LatestCopy(name, slot.revision, slot.over) for name, slot in (session.latest or {}).items()]

    def inherit(self, session: Session, copies: Iterable[LatestCopy]) -> None:
        """Let a session go on with its topics; nobody is asked yet."""
        for copy in copies:
            identity = parse_actor_id(copy.topic)
            cls = self._app.actor(kind_of(identity))
            if cls is not None and issubclass(cls, LatestActor):
                self._slot(session, self._topic(identity), Slot(copy.revision, copy.over))

    def not_copied(self) -> list[str]:
        """Topics that were not copied ahead, or have another picture since."""
        return [name for name, topic in self.topics.items() if self._sent.get(name) != topic.state]

    def copy_ahead(self, names: Iterable[str]) -> list[LatestTopicCopy]:
        """The pictures that clients have of these topics now, by their names in cursors, for the next process."""
        copies = []
        for name in names:
            if (topic := self.topics.get(name)) is not None:
                self._sent[name] = topic.state
                copies.append(topic.copy())
        return copies

    def inherit_ahead(self, copies: Iterable[LatestTopicCopy]) -> None:
        """Take in pictures that the process before had, of topics that are watched here already or not."""
        self._arrived.update((copy.topic, (copy.token, Picture.restored(copy.picture))) for copy in copies)

    def end_copying(self) -> None:
        """Forget what was copied ahead."""
        self._sent = {}

    def bequeath(self) -> tuple[int, list[LatestTopicCopy]]:
        """The number of the newest picture's name, and the pictures that were not copied ahead."""
        return self._tokens, [self.topics[name].copy() for name in self.not_copied()]

    def learn(self, tokens: int, copies: Iterable[LatestTopicCopy]) -> None:
        """Take in the pictures that the process before had of the topics that are watched, with those that came ahead.
        Watchers of any other topic have no picture."""
        self.inherit_ahead(copies)
        self._tokens = max(self._tokens, tokens)
        for name, topic in self.topics.items():
            if (arrived := self._arrived.get(name)) is not None:
                topic.token, topic.picture = arrived
            for slot in topic.watchers.values():
                if arrived is None or slot.revision > topic.picture.revision:
                    slot.revision = -1
        self._arrived = {}

    def catch_up(self, session: Session) -> None:
        """Send what the session lacks at the next tick: it can be written to again."""
        if session.latest:
            self._late[session] = None

    def _leave(self, topic: LatestTopic, session: Session) -> None:
        topic.watchers.pop(session, None)
        self._leave_if_unwatched(topic)

    def _leave_if_unwatched(self, topic: LatestTopic) -> None:
        if not topic.watchers and not topic.pending:
            if self.topics.get(topic.id) is topic:
                del self.topics[topic.id]
            self._changed.pop(topic, None)

    # ---- staying attached ----

    def renew(self, hurry: bool = False) -> None:
        """Attach every topic again. `hurry`: their owners may have changed."""
        self._renewals.begin(sorted(self.topics.values(), key=lambda topic: topic.asked_at), hurry)

    def _attach_due(self, topic: LatestTopic) -> None:
        if not topic.attaching and self.topics.get(topic.id) is topic:
            self._attach(topic)

    def _attach(self, topic: LatestTopic) -> None:
        me = self._actors.me
        args = (str(me.node), int(me.incarnation), topic.picture.source, *topic.picture.known)
        try:
            found = self._actors.ask_now(topic.id, "attach_latest", args)
        except GarrisonError as error:
            self._not_attached(topic, error)
            return
        if not isinstance(found, asyncio.Future):
            self._attached(topic, found)
            return
        topic.attaching = True

        def attached(future: "asyncio.Future[LatestState]") -> None:
            topic.attaching = False
            error = GarrisonError("cancelled") if future.cancelled() else future.exception()
            if error is None:
                self._attached(topic, future.result())
            else:
                self._not_attached(topic, error)

        found.add_done_callback(attached)

    def _not_attached(self, topic: LatestTopic, error: BaseException) -> None:
        """Leave the picture as it is: the next renewal tries again. Watchers that wait for the first one are told."""
        if not isinstance(error, Overloaded):
            topic.asked_at = self._ticks.now()
        waiting, topic.waiting = topic.waiting, []
        for future in waiting:
            if not future.done():
                future.set_exception(error)
        self._leave_if_unwatched(topic)

    def _attached(self, topic: LatestTopic, state: LatestState) -> None:
        topic.asked_at = self._ticks.now()
        order = (state.epoch, state.n)
        if state.items is not None:
            items = {key: bytes(value) for key, value in state.items.items()}
            if topic.picture.learn_all(state.source, order, items):
                self._changed[topic] = None
        if topic.unsure:
            self._changed[topic] = None
        waiting, topic.waiting = topic.waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def arrived(self, identity: ActorId, order: Order, key: str, value: bytes | None) -> None:
        """Take in a difference of a watched topic, from its actor."""
        topic = self.topics.get(identity)
        if topic is None:
            return
        if topic.picture.learn(order, key, value):
            self._changed[topic] = None
        if topic.picture.gap and topic.picture.is_known and not topic.attaching:
            self._attach(topic)

    # ---- to watchers ----

    def tick(self) -> None:
        """Send what changed to the watchers that can be written to."""
        changed, self._changed = self._changed, {}
        late, self._late = self._late, {}
        frames = _Frames()
        guarded: dict[LatestTopic, None] = {}
        for topic in changed:
            if topic.guarded:
                guarded[topic] = None
                continue
            for session, slot in list(topic.watchers.items()):
                self._send(session, topic, slot, frames)
        for session in late:
            for name, slot in list((session.latest or {}).items()):
                topic = self.topics[name]
                if not topic.guarded or slot.over:
                    self._send(session, topic, slot, frames)
                elif slot.revision != topic.picture.revision:
                    guarded[topic] = None
        for topic in guarded:
            self._check(topic)

    def _check(self, topic: LatestTopic) -> None:
        """Ask the actor of a guarded topic whom it lets in, and send to those."""
        if not topic.picture.is_known:
            return  # the first picture is sent to all
        if topic.checks:
            self._changed[topic] = None  # the next tick asks: those who are being asked about may lack this change
            return
        topic.unsure = False
        sessions = [session for session, slot in topic.watchers.items() if not slot.over]
        for start in range(0, len(sessions), CHECKED_AT_ONCE):
            self._check_some(topic, sessions[start : start + CHECKED_AT_ONCE])

    def _check_some(self, topic: LatestTopic, sessions: list[Session]) -> None:
        slots = [(session, topic.watchers[session]) for session in sessions]
        try:
            found = self._actors.ask_now(topic.id, "turns_away", ([session.caller for session in sessions],))
        except GarrisonError:
            topic.unsure = True  # the next renewal that its actor answers brings it here again
            return
        if not isinstance(found, asyncio.Future):
            self._checked(topic, slots, found)
            return
        topic.checks += 1

        def checked(future: "asyncio.Future[TurnedAway]") -> None:
            topic.checks -= 1
            if future.cancelled() or future.exception() is not None:
                topic.unsure = True
            else:
                self._checked(topic, slots, future.result())

        found.add_done_callback(checked)

    def _checked(self, topic: LatestTopic, slots: list[tuple[Session, Slot]], answer: TurnedAway) -> None:
        """End what those watch who are refused, and send what changed to the others, unless the answer is older than
        what would be sent: then the actor is asked again."""
        for place in answer.refused:
            slots[place][1].over = True
            slots[place][0].changed()
        late, frames = (answer.epoch, answer.n) < topic.picture.newest, _Frames()
        for session, slot in slots:
            if topic.watchers.get(session) is slot and (slot.over or not late):
                self._send(session, topic, slot, frames)
        if late and topic.watchers:
            self._changed[topic] = None

    def _send(self, session: Session, topic: LatestTopic, slot: Slot, frames: "_Frames") -> None:
        picture = topic.picture
        if slot.over:
            if session.takes_latest:
                session.send(_encoder(session.format)(Latest(topic.id, topic.cursor, True, [])))
                self.unwatch(session, topic.id)
            return
        if slot.revision == picture.revision or not picture.is_known or not session.takes_latest:
            return
        session.send(frames.of(topic, slot.revision, session.format))
        slot.revision = picture.revision


class _Frames:
    """The frames of one tick, each encoded once for all watchers that lack the same."""

    def __init__(self) -> None:
        self._frames: dict[tuple[LatestTopic, int, Format], bytes] = {}

    def of(self, topic: LatestTopic, since: int, format: Format) -> bytes:
        """The frame for a watcher that has the picture of revision `since`."""
        frame = self._frames.get((topic, since, format))
        if frame is None:
            changes = topic.picture.since(since) if since >= 0 else None
            items = topic.picture.whole() if changes is None else changes
            message = Latest(topic.id, topic.cursor, changes is None, _items(items, format))
            frame = self._frames[topic, since, format] = _encoder(format)(message)
        return frame


def _encoder(format: Format) -> Callable[[Any], bytes]:
    return _encode if format == "msgpack" else _encode_json


def _items(items: Iterable[tuple[str, bytes | None]], format: Format) -> list[LatestItem]:
    """Items as they travel to clients: values are kept as msgpack; in a JSON frame they must be JSON."""
    if format == "msgpack":
        return [LatestItem(key, None if value is None else msgspec.Raw(value)) for key, value in items]
    return [LatestItem(key, None if value is None else _decode_value(value)) for key, value in items]
