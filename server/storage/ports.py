"""Ports of the relational store: node leases, fenced entities, reminders.

The rules that make ownership safe live behind these three ports; gossip only proposes, the store decides:

    NodeStore       runs of nodes, their leases (Gray & Cheriton 1989) and the journals that they left
    EntityStore     who owns an entity, and its state; every write carries the owner's epoch, a fencing token
    ReminderStore   calls that are due later

`Store` is all three with a connection; a driver implements it, and each consumer asks for the part that it
uses. Times are the store's own clock. Every method raises `Unavailable` when the store cannot be reached or is
locked for too long, and `Corrupt` where the store itself is damaged; nothing else of a driver leaks through.
"""

from collections.abc import Collection, Sequence
from typing import Any, Literal, Protocol

import msgspec

from server.errors import Corrupt
from server.ids import ActorId, Epoch, Incarnation, NodeAddress, NodeId

# ---- nodes ----

NodeState = Literal["up", "evicting", "dead", "left"]
"""`up`: it may renew its lease. `evicting`: it may not any more. `dead` and `left` (it stopped in order) are
final: the run is over."""


class NodeRow(msgspec.Struct, frozen=True):
    """One run of a node. `lease_left_s` is infinite without a lease; `journal` is empty without an unsettled
    journal."""

    node: NodeId
    incarnation: Incarnation
    state: NodeState
    lease_left_s: float
    journal: str = ""


class Estate(msgspec.Struct, frozen=True, order=True):
    """A run of a node that is over (`dead` or `left`) and whose journal may hold changes that the
    store does not have. `journal` says where it is, in the words of the journal's driver."""

    owner: NodeAddress
    journal: str


class NodeStore(Protocol):
    """Runs of nodes: one row each, which is never reused."""

    async def register_node(self, node: NodeId, lease_s: float | None, journal: str = "") -> Incarnation:
        """Issue a new incarnation of `node`, state `up`, its lease running, its journal at `journal`
        (empty: it keeps none). Earlier runs of the same name that are `left`, expired or without
        a lease become `dead`; raises `Unavailable` with `retry_after_s` while an earlier run still
        holds a live lease."""
        ...

    async def renew_lease(self, me: NodeAddress, lease_s: float) -> bool:
        """Extend the lease from now. False, for ever, once the node is not `up`."""
        ...

    async def bury_expired(self, spare: Collection[NodeAddress] = (), grace_s: float = 0.0) -> list[NodeAddress]:
        """Set every `up` or `evicting` node whose lease has run out `dead` (final); returns
        those. An `up` node in `spare` (gossip says that it lives) has `grace_s` more to come back
        and renew: until then it acknowledges nothing, so waiting costs time, never safety."""
        ...

    async def bury(self, address: NodeAddress) -> bool:
        """Set `address` `dead` whatever its lease says: its process is *proven* to be gone.
        Returns whether it is `dead` now."""
        ...

    async def evict(self, suspects: Collection[NodeAddress], side: Collection[NodeAddress]) -> list[NodeAddress]:
        """Set those of `suspects` that are `up` `evicting`, which refuses their next renewal; they
        are `dead` once their lease has run out. Done only if `side` (the nodes that the caller is
        in touch with, itself included) holds a strict majority of the live leases, or exactly
        half of them with the lowest address among all live ones. Returns those it set now."""
        ...

    async def retire_node(self, me: NodeAddress, settled: bool = True) -> None:
        """Set `me` `left` after a clean stop; what it still owns may be claimed at once. `settled`: all
        of its changes are stored, so that its journal, if any, is of no more use."""
        ...

    async def estates(self) -> list[Estate]:
        """List the runs that are over and whose journal is not settled yet, in order."""
        ...

    async def close_estate(self, owner: NodeAddress) -> None:
        """Note that everything in the journal of that run, which is over, is in the store. Idempotent."""
        ...

    async def nodes(self) -> list[NodeRow]:
        """List every run of every node that is kept, ordered by node and incarnation."""
        ...


# ---- entities ----


class Owned(msgspec.Struct, frozen=True):
    """A claim that succeeded. `state` is None where nothing was ever stored; then
    `state_epoch` and `state_version` are 0. For a logged actor `next_seq` is the number that
    its next event gets (1 for a new log) and `head` the running hash before it (empty if new).
    `clean`: its last owner gave it up in order. If not (that owner died or stopped with changes
    unstored, or is this very node with an earlier claim), a journal may hold a newer state."""

    epoch: Epoch
    state_epoch: Epoch
    state_version: int
    state: Any
    next_seq: int = 1
    head: bytes = b""
    clean: bool = True


class Elsewhere(msgspec.Struct, frozen=True):
    """A claim that was refused: `owner` holds the entity and is not known dead."""

    owner: NodeAddress


class Absent(msgspec.Struct, frozen=True):
    """A claim of an entity that the store does not know, and that was not to be made."""


class Claim(msgspec.Struct, frozen=True):
    """A node's wish to own an entity. `token` rises with every claim that this node makes of it: a late,
    repeated statement of an older claim must not fence a newer one. Without `make`, an entity that the store
    does not know is not made."""

    id: ActorId
    token: int
    make: bool = True


class Change(msgspec.Struct, frozen=True):
    """One entity's newest state. `version` counts its changes for ever, over all epochs."""

    id: ActorId
    epoch: Epoch
    version: int
    state: Any


class EntityMove(msgspec.Struct, frozen=True):
    """An entity that migrates to another live node with everything: its newest state where that is
    not stored yet (`state` is not None), and its ownership. `next_seq` is the end of a logged
    entity's log, which must be stored up to there; 0 where there is no log. `token` is the newest
    claim token that the new owner has used: an older claim of its that comes late is void."""

    id: ActorId
    epoch: Epoch
    version: int
    to: NodeAddress
    state: Any = None
    next_seq: int = 0
    token: int = 0


class Stored(msgspec.Struct, frozen=True):
    """An entity's row, read without claiming it. `state` is a `Corrupt` where what is stored is none of this
    program's."""

    state_epoch: Epoch
    state_version: int
    state: Any


ClaimResult = Owned | Elsewhere | Absent
WriteResult = Literal["written", "fenced"]
MoveResult = Literal["moved", "fenced"]


class EntityStore(Protocol):
    """Fenced state. All entities of one call are of one `kind`; ids are sorted and unique."""

    async def claim(
        self, kind: str, claims: Sequence[Claim], me: NodeAddress, journals: Collection[str] | None = None
    ) -> dict[ActorId, ClaimResult | Corrupt]:
        """Load and claim, at most 500 at once. Succeeds for a row that is absent, released,
        already mine, or whose owner is `dead` or `left` with a journal that is empty (settled,
        or it kept none) or one of `journals`, the places that can be read here; None: whatever
        its journal. Sets `epoch` (+1, never reset) and owner only.

        `Elsewhere(me)`: a later claim of mine has overtaken this one; it is void. `Absent` only for a claim
        without `make`. `Corrupt` for an entity that is mine now, and whose stored state is none of this
        program's."""
        ...

    async def write(self, kind: str, changes: Sequence[Change]) -> dict[ActorId, WriteResult]:
        """Store states where `epoch = mine and state_version < new`, all in one transaction.
        A change that is already stored under my epoch is `written`."""
        ...

    async def release(self, kind: str, held: Sequence[tuple[ActorId, Epoch]]) -> None:
        """Give ownership up where the epoch is still mine."""
        ...

    async def migrate(self, kind: str, moves: Sequence[EntityMove]) -> dict[ActorId, MoveResult]:
        """Hand ownership on: where `epoch = mine` (and the log ends at `next_seq`, if given) and
        the target is `up`, set the state if there is one, `epoch + 1` and the new owner, all in
        one transaction. A move that is applied already is `moved`. Of the new owner's claims of the
        same entity, those with a token above the move's succeed."""
        ...

    async def read(self, kind: str, ids: Sequence[ActorId]) -> dict[ActorId, Stored]:
        """Read rows without claiming or inserting; absent ids are left out."""
        ...

    async def orphans(self, kind: str, limit: int, after: ActorId | None = None) -> list[ActorId]:
        """List entities of `kind` that live on by themselves and have no owner that is `up` or
        `evicting`, in id order after `after`: a match that is not over, or that is and whose owner
        died before it had told the results. Empty for a kind of which none does."""
        ...


# ---- reminders ----


class Reminder(msgspec.Struct, frozen=True):
    """Call `name` of actor `id` at `due_ms` (Unix time, UTC) or later, at least once. `epoch` is
    that of the owner that says so; `number` grows with each such statement of one activation, so that
    of two statements about the same actor and name the later has the greater (epoch, number)."""

    id: ActorId
    name: str
    due_ms: int
    epoch: Epoch = Epoch(0)
    number: int = 0


class ReminderStore(Protocol):
    """Reminders, at most one an actor and name; only the actor's owner may set them."""

    async def set_reminder(self, reminder: Reminder) -> bool:
        """Keep it, where the actor's epoch is still `reminder.epoch`; False where it is not, and
        nothing has changed. A reminder of the same actor and name with a lower (epoch, number) is replaced;
        with any other, this statement is late and changes nothing."""
        ...

    async def unset_reminder(self, reminder: Reminder) -> bool:
        """Delete the reminder of the same actor and name that has a lower (epoch, number), if there is
        one, whatever its time. The same condition and the same answer as with `set_reminder`."""
        ...

    async def drop_reminder(self, reminder: Reminder) -> None:
        """Delete exactly this reminder, which was delivered. Any node may say so; a newer one of the same
        actor and name stays."""
        ...

    async def due_reminders(self, until_ms: int, limit: int, after: Reminder | None = None) -> list[Reminder]:
        """List those due at `until_ms` or before, ordered by (due, id, name), after `after`."""
        ...


class Store(NodeStore, EntityStore, ReminderStore, Protocol):
    """One database that a driver connects to, with all three."""

    async def open(self) -> None:
        """Connect and check that the schema is the one this program was made for."""
        ...

    async def close(self) -> None: ...
