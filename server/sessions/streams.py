"""A node's streams: what its clients watch, and pushes to players on any node.

A topic (a logged actor) with local watchers is *attached*: its actor sends its durable events to
this node for ten seconds, so the node attaches again every few seconds and at each view change,
and learns the durable end each time, until it learns that the log is finished. What comes is
given to the subscriptions by their cursors (`server/sessions/cursors.py`); whoever lags reads from
the log, in batches, and only as fast as the client acknowledges. So a lost message between nodes, a
dead owner and a slow client are all the same case: a cursor below the end.

A push to a player goes to the node of the player's slot, which has the session, or knows the
nodes that serve it for a client that cannot follow redirects (they say so every few seconds).
"""

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Union, cast

import msgspec

from server.actors.actor import Attached, EventBatch, LoggedActor
from server.cluster.slots import SlotTable
from server.cluster.view import View
from server.errors import BadInput, GarrisonError, NotFound, Overloaded, Rejected, Unavailable
from server.ids import ActorId, NodeAddress, actor_id, kind_of, parse_actor_id
from server.runtime.backoff import backoff_s
from server.sessions.broadcast import Broadcast
from server.sessions.cursors import Cursors
from server.transport.ports import Service
from server.wire.codec import UNDECODABLE
from server.wire.messages import (
    ENGINE_ANSWERS,
    Done,
    Events,
    Push,
    Unwatch,
    Watch,
    Watching,
)

if TYPE_CHECKING:
    from server.sessions.gateway import Gateway
    from server.sessions.session import Session

RENEW_S: Final = 2.5
AWAY_S: Final = 10.0
MAX_EVENTS: Final = 512
MAX_RUN_BYTES: Final = 48 * 1024
"""A frame of events to a client holds about this much at most."""
_AWAY_BATCH: Final = 1_000
_HOPS: Final = 3
_EARLIER_TABLES: Final = 16
_MOVING_RETRY_S: Final = 0.2
_SLICE: Final = 256
"""Topics that are attached again in one turn of the loop, where a renewal need not be spread wider."""


class _EventsTo(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """Durable events for the watchers on the receiving node."""

    topic: ActorId
    first_seq: int
    events: list[bytes]


class _PushTo(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """A push for a player. `hops`: how often it may be passed on to where its session went.
    `away`: the receiver is to send it to all nodes that serve the player away from its slot."""

    subject: str
    push: bytes
    hops: int
    away: bool


class _ServedHere(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """The sender has sessions of these players, whose slots are the receiver's, and has them from
    node `instead_of`, if that is said."""

    subjects: list[str]
    instead_of: NodeAddress | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_EventsTo | _PushTo | _ServedHere).decode


class Topic:
    """One watched stream."""

    __slots__ = ("asked_at", "attaching", "beginning", "cursors", "filling", "finished", "id")

    def __init__(self, identity: ActorId) -> None:
        self.id = identity
        self.cursors: Cursors[Session] = Cursors()
        self.beginning: dict[Session, int] = {}  # answered in this turn of the loop, not begun yet
        self.filling = False
        self.attaching = False
        self.asked_at = 0.0  # when its actor was last asked to attach, and there was room to ask
        self.finished = False  # no event will follow: nothing to stay attached for

    def learn(self, now: Attached) -> None:
        """What the actor said of its log."""
        self.cursors.learn(now.next_seq)
        self.finished = self.finished or now.finished


class Streams:
    """See the module's head; it is the node's `Outlet`."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._host = gateway.host
        self._transport = gateway.host.transport
        self.topics: dict[str, Topic] = {}
        self._away: dict[str, dict[NodeAddress, float]] = {}  # player -> nodes that serve it, until when
        self._table = gateway.host.view.table
        self._earlier: deque[tuple[SlotTable, float]] = deque(maxlen=_EARLIER_TABLES)  # each with its end
        self._due: deque[Topic] = deque()  # to be attached again, a slice at each tick
        self._slice = _SLICE
        self._renewing = False
        app = self._host.app
        kinds = [cls for cls in (*ENGINE_ANSWERS, *app.answers) if issubclass(cls, Push)]
        self._decode_push = msgspec.msgpack.Decoder(cast(Any, Union[tuple(kinds)])).decode  # noqa: UP007
        self._session_kind = app.session_actor.kind if app.session_actor is not None else None
        self._transport.serve(Service.STREAM, self._serve)

    def start(self) -> None:
        self._host.supervisor.every(RENEW_S, self.renew, "streams")

    # ---- Outlet: from actors ----

    def push(self, subject: str, message: Push) -> None:
        """See `server.actors.outlet.Outlet.push`."""
        if self._session_kind is None:
            return
        owner = self._host.owner(actor_id(self._session_kind, subject))
        if owner is None or owner == self._host.me:
            self._push_here(subject, message, _HOPS, True)
        else:
            self._transport.send(owner, Service.STREAM, _encode(_PushTo(subject, _encode(message), _HOPS, True)))

    def publish(self, watchers: Sequence[NodeAddress], topic: ActorId, first_seq: int, events: Sequence[bytes]) -> None:
        """See `server.actors.outlet.Outlet.publish`."""
        payload: bytes | None = None
        for node in watchers:
            if node == self._host.me:
                asyncio.get_running_loop().call_soon(self._arrived, topic, first_seq, list(events))
            else:
                if payload is None:
                    payload = _encode(_EventsTo(topic, first_seq, list(events)))
                self._transport.send(node, Service.STREAM, payload)

    # ---- from other nodes ----

    def _serve(self, sender: NodeAddress, payload: bytes) -> None:
        try:
            message = _decode(payload)
            push = self._decode_push(message.push) if isinstance(message, _PushTo) else None
        except UNDECODABLE as error:
            raise BadInput(f"stream message: {error}") from None
        if isinstance(message, _EventsTo):
            self._arrived(message.topic, message.first_seq, message.events)
        elif isinstance(message, _PushTo):
            self._push_here(message.subject, cast(Push, push), min(message.hops, _HOPS), message.away)
        else:
            until = self._gateway.now() + AWAY_S
            for subject in message.subjects:
                away = self._away.setdefault(subject, {})
                away[sender] = until
                if message.instead_of is not None:
                    away.pop(message.instead_of, None)

    def _push_here(self, subject: str, message: Push, hops: int, away: bool) -> None:
        session = self._gateway.players.get(subject)
        if session is not None:
            session.deliver(message)
        nodes: list[NodeAddress] = []
        if away and subject in self._away:
            nodes = self._served_away(subject, session)
            for node in nodes:
                self._transport.send(node, Service.STREAM, _encode(_PushTo(subject, _encode(message), hops - 1, False)))
        if session is None and not nodes and hops > 0:
            self._follow(subject, message, hops - 1, away)

    def _served_away(self, subject: str, session: "Session | None") -> list[NodeAddress]:
        """Without the node that `session`, from here, is just moving to: a push follows it there."""
        now = self._gateway.now()
        self._away[subject] = away = {node: until for node, until in self._away[subject].items() if until >= now}
        move = session.move if session is not None else None
        return [node for node in away if move is None or not move.frozen or node != move.to]

    def _follow(self, subject: str, message: Push, hops: int, away: bool) -> None:
        """The player has no session that this node knows of: perhaps it went, or has not come yet
        from the node that had the slot before."""
        now = self._gateway.now()
        node, asks = self._gateway.mover.gone.of_player(subject, now), False
        if node is None and away:
            node, asks = self._owner_before(subject, now), True
        if node is not None and node != self._host.me:
            self._transport.send(node, Service.STREAM, _encode(_PushTo(subject, _encode(message), hops, asks)))

    def _owner_before(self, subject: str, now: float) -> NodeAddress | None:
        """The last other owner of the player's slot, if it is a member and that was not long ago."""
        if self._session_kind is not None:
            identity = actor_id(self._session_kind, subject)
            for table, ended in self._earlier:
                owner = table.owner(identity)
                if ended >= now - AWAY_S and owner != self._host.me and owner in self._host.view.addresses:
                    return owner
        return None

    # ---- sessions that move ----

    def on_view(self, view: View) -> None:
        """Slots may have moved; for a while their players' sessions may still be where they were."""
        if view.table is not self._table:
            before, self._table = self._table, view.table
            if not before.owners:  # this node is new: before, the others had all
                before = SlotTable(tuple(one for one in view.table.owners if one[0] != self._host.me))
            self._earlier.appendleft((before, self._gateway.now()))

    def pass_on(self, subject: str, pushes: Sequence[Push], to: NodeAddress) -> None:
        """Pushes for a session that is at node `to` now."""
        for push in pushes:
            self._transport.send(to, Service.STREAM, _encode(_PushTo(subject, _encode(push), _HOPS - 1, False)))

    def arrived_from(self, session: "Session", sender: NodeAddress) -> None:
        """A session came from `sender`: a push for its player takes one way only, from now on."""
        subject = session.caller.subject
        self._away.get(subject, {}).pop(sender, None)
        owner = self._host.owner(session.actor) if session.actor is not None else None
        if owner is not None and owner != self._host.me:
            self._transport.send(owner, Service.STREAM, _encode(_ServedHere([subject], sender)))

    def withdraw(self, session: "Session") -> list[tuple[str, int]]:
        """End the session's subscriptions here: topic and next event of each."""
        topics, session.topics = session.topics, None
        out = []
        for name, topic in (topics or {}).items():
            cursor = topic.cursors.cursor(session)
            out.append((name, topic.beginning.get(session, cursor or 1)))
            self._leave(topic, session)
        return out

    def restore(self, session: "Session", cursors: Sequence[tuple[str, int]]) -> None:
        """The subscriptions of a session that came, or came back."""
        for name, next_seq in cursors:
            identity = parse_actor_id(name)
            cls = self._host.app.actor(kind_of(identity))
            if cls is None or not issubclass(cls, LoggedActor):
                continue
            topic = self.topics.get(identity)
            known = topic is not None
            if topic is None:
                topic = self.topics[identity] = Topic(identity)
            if session.topics is None:
                session.topics = {}
            session.topics[name] = topic
            topic.cursors.watch(session, next_seq)
            if known:
                self._fill(topic)
            elif not topic.attaching:
                self._attach(topic)

    # ---- from clients ----

    def watch(self, session: "Session", message: Watch) -> "Watching | asyncio.Future[Watching]":
        """Subscribe. Raises, or its future does, `BadInput`, `NotFound`, `Rejected` (too many
        subscriptions) and what the actor answers."""
        _check_still(session)
        identity = parse_actor_id(message.topic)
        cls = self._host.app.actor(kind_of(identity))
        if cls is None or not issubclass(cls, LoggedActor):
            raise NotFound(f"{kind_of(identity)} has no stream")
        full = self._full(session, message.topic)
        if full is not None:
            raise full
        me = self._host.me
        found = self._host.ask_now(identity, "attach", (str(me.node), int(me.incarnation)))
        if not isinstance(found, asyncio.Future):
            self._subscribe(session, message, identity, found)
            return Watching(message.id, message.topic, found.next_seq)
        answer: asyncio.Future[Watching] = asyncio.get_running_loop().create_future()

        def attached(future: "asyncio.Future[Attached]") -> None:
            if answer.cancelled():
                return
            error = GarrisonError("cancelled") if future.cancelled() else future.exception()
            if error is not None:
                answer.set_exception(error)
            elif session.moving:
                answer.set_exception(_is_moving())
            elif (full := self._full(session, message.topic)) is not None:
                answer.set_exception(full)  # others that were asked for meanwhile were here before
            else:
                answer.set_result(Watching(message.id, message.topic, future.result().next_seq))
                self._subscribe(session, message, identity, future.result())

        found.add_done_callback(attached)
        return answer

    def _full(self, session: "Session", topic: str) -> Rejected | None:
        """Why the session cannot watch `topic` too; None if it can, or does already."""
        held, most = session.topics or {}, self._gateway.settings.max_subscriptions
        if topic in held or len(held) < most:
            return None
        return Rejected("too_many_subscriptions", f"at most {most}")

    def _subscribe(self, session: "Session", message: Watch, identity: ActorId, found: Attached) -> None:
        """Note the topic now, so that it learns of new events; deliver after the reply."""
        if session.ended:
            return
        topic = self.topics.get(identity)
        if topic is None:
            topic = self.topics[identity] = Topic(identity)
        topic.asked_at = self._gateway.now()
        topic.learn(found)
        if session.topics is None:
            session.topics = {}
        session.topics[message.topic] = topic
        topic.beginning[session] = message.from_seq
        asyncio.get_running_loop().call_soon(self._begin, session, topic)

    def _begin(self, session: "Session", topic: Topic) -> None:
        from_seq = topic.beginning.pop(session, None)
        if from_seq is not None:  # else it has left again
            topic.cursors.watch(session, from_seq)
            self._fill(topic)

    def unwatch(self, session: "Session", message: Unwatch) -> Done:
        """Unsubscribe; unknown topics are no error."""
        _check_still(session)
        topic = session.topics.pop(message.topic, None) if session.topics else None
        if topic is not None:
            self._leave(topic, session)
        return Done(message.id)

    def forget(self, session: "Session") -> None:
        """The session has ended: so have its subscriptions."""
        topics, session.topics = session.topics, None
        for topic in (topics or {}).values():
            self._leave(topic, session)

    def refill(self, session: "Session") -> None:
        """The session's outbox has room again."""
        for topic in list((session.topics or {}).values()):
            self._fill(topic)

    def _leave(self, topic: Topic, session: "Session") -> None:
        topic.cursors.unwatch(session)
        topic.beginning.pop(session, None)
        if not len(topic.cursors) and not topic.beginning:
            self.topics.pop(topic.id, None)

    # ---- staying attached ----

    def renew(self, hurry: bool = False) -> None:
        """Attach every topic again that goes on, and tell slot owners whom this node serves for
        them. Many topics take slices, up to `RENEW_S` in all, the longest unattached first: what a
        link refuses because too much waits on it is never the same for long. `hurry`: their owners
        may have changed, so slices are as large as leaves a link room for other requests."""
        due = []
        for topic in list(self.topics.values()):
            if topic.finished:
                self._fill(topic)  # wakes its actor only if somebody lacks something
            else:
                due.append(topic)
        due.sort(key=lambda topic: topic.asked_at)
        self._due = deque(due)
        most = max(1, self._host.settings.transport.max_in_flight // 4)
        spread = math.ceil(len(due) * self._gateway.tick_s / RENEW_S)
        self._slice = most if hurry else min(most, max(_SLICE, spread))
        if not self._renewing:
            self._renewing = self._renew_some()
            if self._renewing:
                self._gateway.wheel.add(self._gateway.now() + self._gateway.tick_s, self._renew_on)
        self._announce()

    def _renew_on(self, now: float) -> float | None:
        """The wheel's call while topics are due."""
        self._renewing = self._renew_some()
        return now + self._gateway.tick_s if self._renewing else None

    def _renew_some(self) -> bool:
        """Attach one slice of what is due. False: nothing more is."""
        due = self._due
        for _ in range(min(self._slice, len(due))):
            topic = due.popleft()
            if not topic.attaching and self.topics.get(topic.id) is topic:
                self._attach(topic)
        return bool(due)

    def _attach(self, topic: Topic) -> None:
        me = self._host.me
        try:
            found = self._host.ask_now(topic.id, "attach", (str(me.node), int(me.incarnation)))
        except GarrisonError:
            return  # the next renewal tries again
        if not isinstance(found, asyncio.Future):
            topic.asked_at = self._gateway.now()
            self._learned(topic, found)
            return
        topic.attaching = True

        def attached(future: "asyncio.Future[Attached]") -> None:
            topic.attaching = False
            error = GarrisonError("cancelled") if future.cancelled() else future.exception()
            if not isinstance(error, Overloaded):  # else it comes first in the next renewal
                topic.asked_at = self._gateway.now()
            if error is None:
                self._learned(topic, future.result())

        found.add_done_callback(attached)

    def _learned(self, topic: Topic, found: Attached) -> None:
        topic.learn(found)
        self._fill(topic)

    def _announce(self) -> None:
        """Sessions that are served here although their slots are elsewhere."""
        homes: dict[NodeAddress, list[str]] = {}
        for subject, session in self._gateway.players.items():
            owner = self._host.owner(session.actor) if session.actor is not None else None
            if owner is not None and owner != self._host.me and not session.moving:
                homes.setdefault(owner, []).append(subject)
        for owner, subjects in homes.items():
            for start in range(0, len(subjects), _AWAY_BATCH):
                payload = _encode(_ServedHere(subjects[start : start + _AWAY_BATCH]))
                self._transport.send(owner, Service.STREAM, payload)
        now = self._gateway.now()
        for subject in [name for name, nodes in self._away.items() if max(nodes.values(), default=0.0) < now]:
            del self._away[subject]
        while self._earlier and self._earlier[-1][1] < now - AWAY_S:
            self._earlier.pop()

    # ---- events to subscriptions ----

    def _arrived(self, identity: ActorId, first_seq: int, events: Sequence[bytes]) -> None:
        topic = self.topics.get(identity)
        if topic is not None:
            self._deliver(topic, first_seq, [msgspec.Raw(event) for event in events])
            self._fill(topic)

    def _deliver(self, topic: Topic, first_seq: int, events: list[msgspec.Raw]) -> None:
        for start, run in _runs(first_seq, events):
            shared: dict[int, Broadcast] = {}
            for session, offset in topic.cursors.take(start, len(run), _has_room):
                broadcast = shared.get(offset)
                if broadcast is None:
                    push = Events(0, topic.id, start + offset, run[offset:] if offset else run)
                    broadcast = shared[offset] = Broadcast(push)
                session.push(broadcast)

    def _fill(self, topic: Topic) -> None:
        """Start reading from the log for whoever lags, unless that is under way."""
        if not topic.filling and topic.cursors.wanted(_has_room) is not None:
            topic.filling = True
            self._host.supervisor.spawn(self._read(topic), f"fill {topic.id}")

    async def _read(self, topic: Topic) -> None:
        attempt = 0
        try:
            while (wanted := topic.cursors.wanted(_has_room)) is not None and topic.id in self.topics:
                try:
                    batch: EventBatch = await self._host.ask(topic.id, "read_events", (wanted,))
                    if not batch.events or batch.first_seq > wanted:
                        raise NotFound(f"{topic.id} has no event {wanted}")
                except GarrisonError:
                    # The owner is gone or moving: the cursor stays, a later reader goes on.
                    await asyncio.sleep(backoff_s(attempt, self._gateway.rng))
                    attempt += 1
                    continue
                attempt = 0
                topic.cursors.learn(batch.next_seq)
                self._deliver(topic, batch.first_seq, batch.events)
                await asyncio.sleep(0)  # a long log must not keep the loop to itself
        finally:
            topic.filling = False


def _is_moving() -> Unavailable:
    return Unavailable("this session is moving to another node", retry_after_s=_MOVING_RETRY_S)


def _check_still(session: "Session") -> None:
    """Raises `Unavailable` while what the session watches is on its way elsewhere."""
    if session.moving:
        raise _is_moving()


def _has_room(session: "Session") -> bool:
    """Streams go on only while the client keeps up; `Session.acknowledge` calls back."""
    if session.outbox.half_full:
        session.starved = True
        return False
    return True


def _runs(first_seq: int, events: list[msgspec.Raw]) -> list[tuple[int, list[msgspec.Raw]]]:
    """`events` cut so that no run has more than `MAX_EVENTS` or about `MAX_RUN_BYTES`."""
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
