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
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Union, cast

import msgspec

from server.actors.actor import Attached, EventBatch, LoggedActor
from server.errors import GarrisonError, NotFound, Rejected
from server.ids import ActorId, NodeAddress, actor_id, kind_of, parse_actor_id
from server.runtime.backoff import backoff_s
from server.sessions.broadcast import Broadcast
from server.sessions.cursors import Cursors
from server.transport.ports import Service
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


class _EventsTo(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """Durable events for the watchers on the receiving node."""

    topic: ActorId
    first_seq: int
    events: list[bytes]


class _PushTo(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """A push for a player. `forward`: the receiver may pass it on to nodes that serve it away."""

    subject: str
    push: bytes
    forward: bool


class _ServedHere(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """The sender has sessions of these players, whose slots are the receiver's."""

    subjects: list[str]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_EventsTo | _PushTo | _ServedHere).decode


class Topic:
    """One watched stream."""

    __slots__ = ("attaching", "cursors", "filling", "finished", "id")

    def __init__(self, identity: ActorId) -> None:
        self.id = identity
        self.cursors: Cursors[Session] = Cursors()
        self.filling = False
        self.attaching = False
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
            self._push_here(subject, message, forward=True)
        else:
            self._transport.send(owner, Service.STREAM, _encode(_PushTo(subject, _encode(message), True)))

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
        message = _decode(payload)
        if isinstance(message, _EventsTo):
            self._arrived(message.topic, message.first_seq, message.events)
        elif isinstance(message, _PushTo):
            self._push_here(message.subject, self._decode_push(message.push), message.forward)
        else:
            until = self._gateway.now() + AWAY_S
            for subject in message.subjects:
                self._away.setdefault(subject, {})[sender] = until

    def _push_here(self, subject: str, message: Push, forward: bool) -> None:
        session = self._gateway.players.get(subject)
        if session is not None:
            session.push(Broadcast(message))
        away = self._away.get(subject) if forward else None
        if away is not None:
            now = self._gateway.now()
            payload = _encode(_PushTo(subject, _encode(message), False))
            for node, until in list(away.items()):
                if until < now:
                    del away[node]
                else:
                    self._transport.send(node, Service.STREAM, payload)
            if not away:
                del self._away[subject]

    # ---- from clients ----

    def watch(self, session: "Session", message: Watch) -> "Watching | asyncio.Future[Watching]":
        """Subscribe. Raises, or its future does, `BadInput`, `NotFound`, `Rejected` (too many
        subscriptions) and what the actor answers."""
        identity = parse_actor_id(message.topic)
        cls = self._host.app.actor(kind_of(identity))
        if cls is None or not issubclass(cls, LoggedActor):
            raise NotFound(f"{kind_of(identity)} has no stream")
        held = session.topics or {}
        if message.topic not in held and len(held) >= self._gateway.settings.max_subscriptions:
            raise Rejected("too_many_subscriptions", f"at most {self._gateway.settings.max_subscriptions}")
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
            else:
                answer.set_result(Watching(message.id, message.topic, future.result().next_seq))
                self._subscribe(session, message, identity, future.result())

        found.add_done_callback(attached)
        return answer

    def _subscribe(self, session: "Session", message: Watch, identity: ActorId, found: Attached) -> None:
        """Note the topic now, so that it learns of new events; deliver after the reply."""
        if session.ended:
            return
        topic = self.topics.get(identity)
        if topic is None:
            topic = self.topics[identity] = Topic(identity)
        topic.learn(found)
        if session.topics is None:
            session.topics = {}
        session.topics[message.topic] = topic
        asyncio.get_running_loop().call_soon(self._begin, session, topic, message.from_seq)

    def _begin(self, session: "Session", topic: Topic, from_seq: int) -> None:
        if session.topics is not None and session.topics.get(topic.id) is topic:
            topic.cursors.watch(session, from_seq)
            self.topics[topic.id] = topic
            self._fill(topic)
        elif not len(topic.cursors):
            self.topics.pop(topic.id, None)

    def unwatch(self, session: "Session", message: Unwatch) -> Done:
        """Unsubscribe; unknown topics are no error."""
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
        if not len(topic.cursors):
            self.topics.pop(topic.id, None)

    # ---- staying attached ----

    def renew(self) -> None:
        """Attach every topic again that goes on, and tell slot owners whom this node serves for
        them."""
        for topic in list(self.topics.values()):
            if topic.finished:
                self._fill(topic)  # wakes its actor only if somebody lacks something
            elif not topic.attaching:
                self._attach(topic)
        self._announce()

    def _attach(self, topic: Topic) -> None:
        me = self._host.me
        try:
            found = self._host.ask_now(topic.id, "attach", (str(me.node), int(me.incarnation)))
        except GarrisonError:
            return  # the next renewal tries again
        if not isinstance(found, asyncio.Future):
            self._learned(topic, found)
            return
        topic.attaching = True

        def attached(future: "asyncio.Future[Attached]") -> None:
            topic.attaching = False
            if not future.cancelled() and future.exception() is None:
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
            if owner is not None and owner != self._host.me:
                homes.setdefault(owner, []).append(subject)
        for owner, subjects in homes.items():
            for start in range(0, len(subjects), _AWAY_BATCH):
                payload = _encode(_ServedHere(subjects[start : start + _AWAY_BATCH]))
                self._transport.send(owner, Service.STREAM, payload)
        now = self._gateway.now()
        for subject in [name for name, nodes in self._away.items() if max(nodes.values()) < now]:
            del self._away[subject]

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
