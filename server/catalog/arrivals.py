"""Activations that come from other nodes: the receiving side of a migration.

    expected   offered and taken: a call for it waits here, and nobody claims it
    held       its parcel is here, decoded, beside what lives
    frozen     its sender has said that it is this node's: it lives, calls queue behind those that the
               sender passes on
    thawed     the sender says that this was all, or is not heard of for too long

A parcel counts only while it is expected. Whoever activates an id here has ended its expectation
first (it is not expected any more after `EXPECT_S`), so a late parcel can neither replace nor
precede what was claimed from the store meanwhile: the store has all of it.
"""

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Final

import structlog

from server.activations.activation import Activation
from server.activations.awaiting import resolve, shared
from server.activations.parcels import Arrival, Go, Offer, Open, Queued, Ship, Taken, decode, encode, unpack
from server.activations.ports import ActivationNode
from server.catalog.calls import decode_call
from server.catalog.expected import Expected
from server.catalog.ports import Arriving, Claims, ServedCalls
from server.catalog.services import CurrentView, Services
from server.errors import BadInput, GarrisonError, Unavailable
from server.ids import ActorId, NodeAddress, kind_of, parse_actor_id
from server.transport.ports import Answer, Service

log = structlog.get_logger(__name__)
EXPECT_S: Final = 2.0
"""Time for a sender to send what it has offered."""
OPEN_S: Final = 1.0
"""Time that frozen activations wait for their sender's last word."""
MAX_EXPECTED: Final = 10_000
MAX_MIGRATIONS: Final = 1_000
"""Migrations under way to this node, and those over that are remembered."""

_Key = tuple[NodeAddress, int]


class _Incoming:
    """A migration to this node."""

    def __init__(self, source: NodeAddress, number: int) -> None:
        self.key: _Key = (source, number)
        self.expected: dict[ActorId, Arrival | None] = {}
        """Actors that were taken, with their parcels where they are held."""
        self.frozen: dict[ActorId, tuple[Activation, int]] = {}
        """Activations that live frozen, and for each the place in its mailbox where the next call that is
        passed on goes."""
        self.answers: dict[int, asyncio.Future[bytes]] = {}
        """The answer to each part of the shipment: the same part again gets the same one."""
        self.timer: asyncio.TimerHandle | None = None


class Arrivals:
    """See the module's head."""

    def __init__(
        self,
        services: Services,
        current: CurrentView,
        *,
        node: ActivationNode,
        catalog: Arriving,
        expected: Expected,
        calls: ServedCalls,
        claims: Claims,
    ) -> None:
        self._services, self._current, self._node = services, current, node
        self._catalog, self._expected, self._calls, self._claims = catalog, expected, calls, claims
        self._incoming: dict[_Key, _Incoming] = {}
        self._past: dict[_Key, _Incoming] = {}
        """Migrations that are over: what they send late is known as such."""
        services.transport.serve(Service.MIGRATE, self.serve)

    @property
    def under_way(self) -> int:
        """Migrations to this node that are not over."""
        return len(self._incoming)

    def over(self) -> list[tuple[NodeAddress, int]]:
        """The migrations to this node that are over, and those that would not be begun again."""
        return [*self._past, *self._incoming]

    def know(self, keys: Iterable[tuple[NodeAddress, int]]) -> None:
        """Know migrations that were to this node before it went on in this process."""
        for key in keys:
            self._past[key] = _Incoming(*key)

    def serve(self, peer: NodeAddress, payload: bytes) -> Answer:
        """A message of another node. Raises `BadInput`, `Unavailable`, and what a call raises."""
        message = decode(payload)
        if message.to != self._current.me.incarnation:
            raise BadInput("a migration to another run of this node")
        if isinstance(message, Offer):
            return encode(self._offered(peer, message))
        if isinstance(message, Ship):
            return self._shipped(peer, message)
        if isinstance(message, Queued):
            return self._queued(peer, message)
        incoming = self._incoming.get((peer, message.number))
        if isinstance(message, Go):
            self._is_ours(incoming, message)
        elif incoming is not None and isinstance(message, Open):
            self._thaw(incoming, message.ids)
        elif incoming is not None:
            self._end(incoming, heard=True)
        return b""

    # ---- what is expected ----

    def _offered(self, peer: NodeAddress, offer: Offer) -> Taken:
        key = (peer, offer.number)
        if self._catalog.closed is not None or self._current.is_leaving or self._current.resting:
            raise Unavailable("this node takes nothing over now")
        if key in self._incoming or key in self._past:
            raise BadInput(f"migration {offer.number} is known already")
        if len(self._incoming) >= MAX_MIGRATIONS:
            raise Unavailable("too many migrations to this node")
        incoming = _Incoming(peer, offer.number)
        room = min(MAX_EXPECTED, self._catalog.room) - len(self._expected)
        for identity in dict.fromkeys(offer.ids):
            if len(incoming.expected) < room and self._is_welcome(parse_actor_id(identity)):
                incoming.expected[identity] = None
        self._expected.begin(incoming.expected)
        self._incoming[key] = incoming
        self._end_after(incoming, EXPECT_S)
        return Taken(self._claims.newest_token, list(incoming.expected))

    def _is_welcome(self, identity: ActorId) -> bool:
        known = self._services.app.actor(kind_of(identity)) is not None
        return known and identity not in self._expected and not self._catalog.has(identity)

    def _expect_no_more(self, incoming: _Incoming, identity: ActorId) -> Arrival | None:
        """Take out the parcel of `identity`, which is not expected any more."""
        arrival = incoming.expected.pop(identity, None)
        self._expected.end(identity)
        return arrival

    # ---- parcels ----

    def _shipped(self, peer: NodeAddress, ship: Ship) -> Answer:
        incoming = self._incoming.get((peer, ship.number)) or self._past.get((peer, ship.number))
        if incoming is None:
            return encode([])
        known = incoming.answers.get(ship.part)
        if known is not None:
            return shared(known)
        arrivals = [arrival for data in ship.parcels if (arrival := self._unpacked(peer, data)) is not None]
        held = {it.activation.id: it for it in arrivals if it.activation.id in incoming.expected}
        incoming.expected.update(held)
        incoming.answers[ship.part] = answer = asyncio.get_running_loop().create_future()
        answer.set_result(encode(list(held)))
        return answer

    def _unpacked(self, peer: NodeAddress, data: bytes) -> Arrival | None:
        """None for a parcel that cannot be read: the others of its message can be all the same."""
        try:
            return unpack(self._services.app, self._node, data)
        except Exception as error:
            known = isinstance(error, GarrisonError)
            log.error("unreadable parcel", peer=str(peer), why=str(error), exc_info=None if known else error)
            return None

    # ---- ours ----

    def _is_ours(self, incoming: _Incoming | None, go: Go) -> None:
        """Let live what is held; what is not is in the store."""
        lively = dict.fromkeys(go.lively)
        for identity in dict.fromkeys(go.ids):
            arrival = None
            if incoming is not None and identity in incoming.expected:
                arrival = self._expect_no_more(incoming, identity)
            if incoming is not None and arrival is not None and self._lives(arrival):
                incoming.frozen[identity] = (arrival.activation, len(arrival.due))
            elif identity in lively and not self._catalog.has(parse_actor_id(identity)):
                self._calls.tell(identity, "wake", ())
        if incoming is not None:
            self._end_after(incoming, OPEN_S)

    def _lives(self, arrival: Arrival) -> bool:
        if self._catalog.closed is not None:
            return False
        try:
            self._catalog.arrived(arrival)
        except GarrisonError as error:
            log.warning("arrived and failed", actor=arrival.activation.id, why=error.message)
            return False
        return True

    def _queued(self, peer: NodeAddress, queued: Queued) -> Answer:
        """A call passed on: ahead of those that came here directly, in the order of the sender."""
        incoming = self._incoming.get((peer, queued.number))
        frame = decode_call(queued.call)
        if incoming is None or frame.id not in incoming.frozen:
            return self._calls.serve(peer, queued.call)
        activation, place = incoming.frozen[frame.id]
        args = activation.method(frame.method).decode_args(frame.args)
        deadline = self._services.clock.now() + frame.timeout_ms / 1000
        answer = activation.call_at(place, frame.method, args, tuple(frame.chain), deadline)
        incoming.frozen[frame.id] = (activation, place + 1)
        out: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(partial(resolve, out, then=encode))
        return out

    @staticmethod
    def _thaw(incoming: _Incoming, ids: Iterable[ActorId]) -> None:
        for identity in ids:
            frozen = incoming.frozen.pop(identity, None)
            if frozen is not None:
                frozen[0].thaw()

    # ---- the end ----

    def _end_after(self, incoming: _Incoming, seconds: float) -> None:
        if incoming.timer is not None:
            incoming.timer.cancel()
        incoming.timer = asyncio.get_running_loop().call_later(seconds, self._end, incoming, False)

    def _end(self, incoming: _Incoming, heard: bool) -> None:
        if incoming.timer is not None:
            incoming.timer.cancel()
        del self._incoming[incoming.key]
        self._past[incoming.key] = incoming
        if len(self._past) > MAX_MIGRATIONS:
            del self._past[next(iter(self._past))]
        self._thaw(incoming, list(incoming.frozen))
        for identity in list(incoming.expected):
            arrival = self._expect_no_more(incoming, identity)
            if not heard and arrival is not None and arrival.is_lively and arrival.activation.durable:
                self._calls.tell(identity, "wake", ())  # wherever it is: its sender may be gone
