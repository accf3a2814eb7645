"""The directory service of one node: its partition, kept right while the view changes.

When the view changes
  1. entries of members that are gone, and of slots that went elsewhere, are forgotten;
  2. slots that came here settle: every other member is asked which of its activations belong
     to them (the activations are the truth, entries only point at them). The members' answers,
     or `directory_wait_s`, end the settling; look-ups of these slots wait that long at most;
  3. this node tells the new owners about its own activations that do not live on their slot's
     owner. An owner that knows another copy answers with the ids to drop (volatile actors may
     exist twice for a moment; the registered copy wins).
Both directions are sent, so that views which change at different moments still converge: the
question finds what lives on members whose view is old, the announcement what moved since.

Invariant: an entry names an address of the current view, for a slot that this node owns. A
wrong entry costs one redirect: the node that is named answers `gone` and the entry is removed.
Safety does not rest here: a durable actor is claimed from the store whatever the directory says.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final, Protocol

import msgspec

from server.cluster.view import View
from server.directory.partition import Partition
from server.errors import BadInput, GarrisonError
from server.ids import SLOT_COUNT, ActorId, Incarnation, NodeAddress, NodeId, slot
from server.runtime.supervisor import Supervisor
from server.settings import ActorSettings
from server.transport.ports import Answer, Service, Transport

_BATCH: Final = 5_000


class ActivationSource(Protocol):
    """The catalog, as the directory sees it."""

    def activation_ids(self) -> Iterable[ActorId]: ...

    def drop_duplicate(self, identity: ActorId, winner: NodeAddress) -> None:
        """Another copy is registered: drop the local one if it is volatile."""
        ...


class Ask(msgspec.Struct, array_like=True, tag="ask", frozen=True):
    """Which activations do you have in these slots? `slots`: one bit a slot, 8 KiB."""

    slots: bytes


class Tell(msgspec.Struct, array_like=True, tag="tell", frozen=True):
    """These live with me. The answer lists those that are registered elsewhere."""

    ids: list[ActorId]


class Gone(msgspec.Struct, array_like=True, tag="gone", frozen=True):
    """This is not (any more) at that address."""

    id: ActorId
    node: NodeId
    incarnation: Incarnation


_request = msgspec.msgpack.Decoder(Ask | Tell | Gone)
_ids = msgspec.msgpack.Decoder(list[ActorId])
_rivals = msgspec.msgpack.Decoder(list[tuple[ActorId, NodeId, Incarnation]])
_encode = msgspec.msgpack.encode


class Directory:
    """See the module's head."""

    def __init__(
        self,
        transport: Transport,
        settings: ActorSettings,
        supervisor: Supervisor,
        source: ActivationSource,
    ) -> None:
        self._transport, self._settings, self._supervisor, self._source = transport, settings, supervisor, source
        self.partition = Partition()
        self._me = NodeAddress(NodeId(""), Incarnation(0))
        self._view: View | None = None
        self._owned = bytes(SLOT_COUNT)
        self._change = 0
        self._settled = asyncio.Event()
        self._settled.set()
        transport.serve(Service.DIRECTORY, self._serve)

    def start(self, me: NodeAddress) -> None:
        self._me = me

    # ---- look-ups ----

    def find(self, identity: ActorId) -> NodeAddress | None:
        """The exception's address, for a slot that this node owns."""
        return self.partition.find(identity)

    async def settled(self, identity: ActorId) -> None:
        """Wait, within `directory_wait_s`, until the slot of `identity` has settled."""
        try:
            async with asyncio.timeout(self._settings.directory_wait_s):
                while self.partition.is_settling(identity):
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            return

    def register(self, identity: ActorId, address: NodeAddress) -> NodeAddress:
        return self.partition.register(identity, address)

    def forget(self, identity: ActorId, address: NodeAddress, owner: NodeAddress | None) -> None:
        """`identity` turned out not to live at `address`."""
        if owner == self._me:
            self.partition.unregister(identity, address)
        elif owner is not None:
            self._transport.send(owner, Service.DIRECTORY, _encode(Gone(identity, address.node, address.incarnation)))

    # ---- view changes ----

    def on_view(self, view: View) -> None:
        """The slot table has changed, or a member has come or gone."""
        self._view = view
        owned = view.table.owned_by(self._me)
        gained = [number for number in range(SLOT_COUNT) if owned[number] and not self._owned[number]]
        self._owned = owned
        self.partition.keep(view.addresses, owned)
        self._change += 1
        others = [address for address in view.addresses if address != self._me]
        if gained and others:
            self.partition.gain(gained, self._change)
            self._supervisor.spawn(self._settle(self._change, _bits(gained), others), "directory-settle")
        self._supervisor.spawn(self._announce(view), "directory-announce")

    async def _settle(self, change: int, slots: bytes, others: list[NodeAddress]) -> None:
        """Ask every other member; a member that cannot answer in time has nothing to say."""
        question, timeout_s = _encode(Ask(slots)), self._settings.directory_wait_s
        try:
            await asyncio.gather(*(self._ask(other, question, timeout_s) for other in others))
        finally:
            self.partition.settled(change)
            self._settled.set()

    async def _ask(self, other: NodeAddress, question: bytes, timeout_s: float) -> None:
        try:
            self._learn(
                other, _ids.decode(await self._transport.request(other, Service.DIRECTORY, question, timeout_s))
            )
        except (GarrisonError, msgspec.DecodeError):
            return

    def _learn(self, address: NodeAddress, identities: list[ActorId]) -> list[tuple[ActorId, NodeId, Incarnation]]:
        """Register what lives at `address`; returns those that live elsewhere already."""
        rivals = []
        for identity in identities:
            if self._owned[slot(identity)] and self._view is not None and self._view.has(address):
                winner = self.partition.register(identity, address)
                if winner != address:
                    rivals.append((identity, winner.node, winner.incarnation))
        return rivals

    async def _announce(self, view: View) -> None:
        """Tell slot owners what lives here although its slot is theirs."""
        by_owner: dict[NodeAddress, list[ActorId]] = {}
        for identity in self._source.activation_ids():
            owner = view.table.owner(identity)
            if owner is not None and owner != self._me:
                by_owner.setdefault(owner, []).append(identity)
        for owner, identities in by_owner.items():
            for start in range(0, len(identities), _BATCH):
                await self._tell(owner, identities[start : start + _BATCH])

    async def _tell(self, owner: NodeAddress, identities: list[ActorId]) -> None:
        timeout_s = self._settings.directory_wait_s
        try:
            answer = await self._transport.request(owner, Service.DIRECTORY, _encode(Tell(identities)), timeout_s)
            for identity, node, incarnation in _rivals.decode(answer):
                self._source.drop_duplicate(identity, NodeAddress(node, incarnation))
        except (GarrisonError, msgspec.DecodeError):
            return  # the owner asks, or the next call finds the way

    def announce(self, identity: ActorId, owner: NodeAddress) -> None:
        """One activation was born here although its slot is `owner`'s."""
        self._supervisor.spawn(self._tell(owner, [identity]), "directory-announce")

    # ---- the other nodes' questions ----

    def _serve(self, peer: NodeAddress, payload: bytes) -> Answer:
        try:
            request: Any = _request.decode(payload)
        except msgspec.DecodeError as error:
            raise BadInput(f"directory request: {error}") from None
        if isinstance(request, Ask):
            return _encode(self._in_slots(request.slots))
        if isinstance(request, Tell):
            return _encode(self._learn(peer, request.ids))
        self.partition.unregister(request.id, NodeAddress(request.node, request.incarnation))
        return b""

    def _in_slots(self, bits: bytes) -> list[ActorId]:
        if len(bits) != SLOT_COUNT // 8:
            raise BadInput("directory request: the slot set has the wrong size")
        return [identity for identity in self._source.activation_ids() if _has(bits, slot(identity))]


def _bits(slots: Iterable[int]) -> bytes:
    bits = bytearray(SLOT_COUNT // 8)
    for number in slots:
        bits[number >> 3] |= 1 << (number & 7)
    return bytes(bits)


def _has(bits: bytes, number: int) -> bool:
    return bool(bits[number >> 3] & (1 << (number & 7)))
