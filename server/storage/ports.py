"""What the engine needs from a relational store: node leases, claims, fenced writes.

The rules that make ownership safe live behind this port (DESIGN: safety comes from the store,
never from gossip). Times are the store's own clock. Every method raises `Unavailable` when the
store cannot be reached or is locked for too long; nothing else leaks through.
"""

from collections.abc import Collection, Sequence
from typing import Any, Literal, Protocol

import msgspec

from server.ids import ActorId, Epoch, Incarnation, NodeAddress, NodeId


class Owned(msgspec.Struct, frozen=True):
    """A claim that succeeded. `state` is None where nothing was ever stored; then
    `state_epoch` and `state_version` are 0. For a logged actor `next_seq` is the number that
    its next event gets (1 for a new log) and `head` the running hash before it (empty if new)."""

    epoch: Epoch
    state_epoch: Epoch
    state_version: int
    state: Any
    next_seq: int = 1
    head: bytes = b""


class Elsewhere(msgspec.Struct, frozen=True):
    """A claim that was refused: `owner` holds the entity and is not known dead."""

    owner: NodeAddress


class Claim(msgspec.Struct, frozen=True):
    """`token` rises with every claim that this node makes of the entity: a late, repeated
    statement of an older claim must not fence a newer one."""

    id: ActorId
    token: int


class Change(msgspec.Struct, frozen=True):
    """One entity's newest state. `version` counts its changes for ever, over all epochs."""

    id: ActorId
    epoch: Epoch
    version: int
    state: Any


class Stored(msgspec.Struct, frozen=True):
    """What the store has of an entity, read without claiming it."""

    state_epoch: Epoch
    state_version: int
    state: Any


class NodeRow(msgspec.Struct, frozen=True):
    node: NodeId
    incarnation: Incarnation
    state: Literal["up", "dead", "left"]
    lease_left_s: float


ClaimResult = Owned | Elsewhere
WriteResult = Literal["written", "fenced"]


class Store(Protocol):
    """Fenced state. All entities of one call are of one `kind`; ids are sorted and unique."""

    async def open(self) -> None:
        """Connect and check that the schema is the one this program was made for."""
        ...

    async def close(self) -> None: ...

    async def register_node(self, node: NodeId, lease_s: float | None) -> Incarnation:
        """A new incarnation of `node`, state `up`, its lease running. Earlier runs of the same
        name that are `left`, expired or without a lease become `dead`; raises `Unavailable` with
        `retry_after_s` while an earlier run still holds a live lease."""
        ...

    async def renew_lease(self, me: NodeAddress, lease_s: float) -> bool:
        """Extend the lease from now. False, for ever, once the node is not `up`."""
        ...

    async def bury_expired(self, spare: Collection[NodeAddress] = (), grace_s: float = 0.0) -> list[NodeAddress]:
        """Set every `up` node whose lease has run out `dead` (final); returns those. A node in
        `spare` (gossip says that it lives) has `grace_s` more to come back and renew: until then
        it acknowledges nothing, so waiting costs time, never safety."""
        ...

    async def retire_node(self, me: NodeAddress) -> None:
        """A clean stop: state `left`; what it still owns may be claimed at once."""
        ...

    async def nodes(self) -> list[NodeRow]: ...

    async def claim(self, kind: str, claims: Sequence[Claim], me: NodeAddress) -> dict[ActorId, ClaimResult]:
        """Load-and-claim, at most 500 at once. Succeeds for a row that is absent, released,
        already mine, or whose owner is not `up`; sets `epoch` (+1, never reset) and owner only.
        `Elsewhere(me)`: a later claim of mine has overtaken this one; it is void."""
        ...

    async def write(self, kind: str, changes: Sequence[Change]) -> dict[ActorId, WriteResult]:
        """Store states where `epoch = mine and state_version < new`, all in one transaction.
        A change that is already stored under my epoch is `written`."""
        ...

    async def release(self, kind: str, held: Sequence[tuple[ActorId, Epoch]]) -> None:
        """Give ownership up where the epoch is still mine."""
        ...

    async def read(self, kind: str, ids: Sequence[ActorId]) -> dict[ActorId, Stored]:
        """What is stored, without claiming or inserting; absent ids are left out."""
        ...
