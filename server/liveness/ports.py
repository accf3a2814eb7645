"""Ports of liveness: the store's rows of runs, gossip's opinion, and the proof that a process is gone.

A run is one incarnation of a node: it begins when the store issues its number and ends, for good, when the
store says `dead` or `left`. Processes of a run are counted by generations: the first is 0, and each that takes it over
from the one before while it lives (a succession) is one more. Statements in the name of a run say the generation of
the process that sends them, and change nothing once a later one has taken over. Times are the store's own clock. Every
method of a store raises `Unavailable` when it cannot be reached or is locked for too long, and `Corrupt` where it is
damaged.
"""

from collections.abc import Collection
from typing import Literal, Protocol

import msgspec

from server.ids import Incarnation, NodeAddress, NodeId

NodeState = Literal["up", "evicting", "dead", "left"]
"""`up`: it may renew its lease. `evicting`: it may not any more. `dead` and `left` (it stopped in order) are
final: the run is over."""


class NodeRow(msgspec.Struct, frozen=True):
    """A run of a node as the store has it. `lease_left_s` is infinite without a lease; `journal` is the
    place of a journal that may hold changes that are not in the store, else empty."""

    node: NodeId
    incarnation: Incarnation
    state: NodeState
    lease_left_s: float
    journal: str = ""
    generation: int = 0


class Estate(msgspec.Struct, frozen=True, order=True):
    """A run of a node that is over (`dead` or `left`) and whose journal may hold changes that the
    store does not have. `journal` says where it is, in the words of the journal's driver."""

    owner: NodeAddress
    journal: str


class LeaseStore(Protocol):
    """The store, as far as a lease is renewed in it."""

    async def renew_lease(self, me: NodeAddress, lease_s: float, generation: int = 0) -> bool:
        """Extend the lease from now. False, for ever, once the node is not `up`, or has another generation."""
        ...


class OwnLeaseStore(LeaseStore, Protocol):
    """A connection for renewals alone. It connects when it is first used, and belongs to the loop that uses it."""

    async def close(self) -> None: ...


class NodeStore(LeaseStore, Protocol):
    """Runs of nodes. Incarnations come from a counter that only rises, so that none is issued again. A run that is
    over and whose journal is closed is *done*: nothing depends on its row, which is pruned. An incarnation that
    was issued and has no row is that of such a run."""

    async def register_node(self, node: NodeId, lease_s: float | None, journal: str = "") -> Incarnation:
        """Issue a new incarnation of `node`, state `up`, its lease running, its journal at `journal`
        (empty: it keeps none). Earlier runs of the same name that are `left`, expired or without
        a lease become `dead`; raises `Unavailable` with `retry_after_s` while an earlier run still
        holds a live lease."""
        ...

    async def succeed_node(self, me: NodeAddress, generation: int, journal: str, lease_s: float | None) -> bool:
        """Take the run over from the process of the generation before, in one statement: from here on it is refused
        what it asks in the name of the run. The lease runs anew, and the journal is the one at `journal`. False, and
        nothing is changed, where the run is not `up` or has another generation; True also where this very process has
        done so already, since an answer may be lost."""
        ...

    async def bury_expired(self, spare: Collection[NodeAddress] = (), grace_s: float = 0.0) -> list[NodeAddress]:
        """Set every `up` or `evicting` node whose lease has run out `dead` (final); returns
        those. An `up` node in `spare` (gossip says that it lives) has `grace_s` more to come back
        and renew: until then it acknowledges nothing, so waiting costs time, never safety."""
        ...

    async def bury(self, address: NodeAddress, journal: str | None = None) -> bool:
        """Set `address` `dead` whatever its lease says: its process is *proven* to be gone, by its journal at the place
        `journal` (None: in another way). Returns whether it is over now. A run whose journal is at another place is
        left alone: the process that is gone may be the one before a succession."""
        ...

    async def evict(self, suspects: Collection[NodeAddress], side: Collection[NodeAddress]) -> list[NodeAddress]:
        """Set those of `suspects` that are `up` `evicting`, which refuses their next renewal; they
        are `dead` once their lease has run out. Done only if `side` (the nodes that the caller is
        in touch with, itself included) holds a strict majority of the live leases, or exactly
        half of them with the lowest address among all live ones. Returns those it set now."""
        ...

    async def retire_node(self, me: NodeAddress, all_stored: bool = True, generation: int = 0) -> None:
        """Set `me`, if it has that generation, `left` after a clean stop; what it still owns may be claimed at once.
        `all_stored`: all of its changes are stored, so that its journal, if any, is of no more use."""
        ...

    async def estates(self) -> list[Estate]:
        """List the runs that are over and whose journal may hold changes that are not in the store, in order."""
        ...

    async def close_estate(self, owner: NodeAddress) -> None:
        """Note that everything in the journal of that run, which is over, is in the store. Idempotent."""
        ...

    async def forget_estate(self, estate: Estate) -> bool:
        """Give up what that run's journal holds and the store does not: what it owns can be claimed as stored. False
        where the run is not over with that journal open, so that its return, or whoever closes the estate, may have
        been faster. The journal itself is left where it is."""
        ...

    async def nodes(self) -> list[NodeRow]:
        """List every run of every node that is kept, ordered by node and incarnation: for tools. What a node asks
        regularly is `living` and `runs`, which do not grow with what is over."""
        ...

    async def living(self) -> list[NodeRow]:
        """List the runs that are `up` or `evicting`, ordered by node and incarnation."""
        ...

    async def runs(self, of: Collection[NodeAddress]) -> dict[NodeAddress, NodeRow]:
        """The rows of these runs; one that was pruned is `dead`, one that was never issued is left out."""
        ...

    async def prune_nodes(self, kept_s: float, limit: int) -> int:
        """Delete the rows of runs that are done and whose lease ran out `kept_s` ago or earlier, at most `limit`;
        returns how many those were. Entities that such a run still owns stay as claimable as before."""
        ...


class Neighbours(Protocol):
    """Gossip's opinion of the other nodes."""

    @property
    def alone_at(self) -> float:
        """Boot time at which gossip last lost all the others; 0 if it never did."""
        ...

    def lively(self) -> Collection[NodeAddress]:
        """Nodes that answer gossip now, this one included."""
        ...

    def vanished(self) -> Collection[NodeAddress]:
        """Nodes that have been out of the view for `evict_after_s` without having said goodbye."""
        ...


class RunJournal(Protocol):
    """The crash journal, as far as it tells which runs are alive (`server/storage/journal/ports.py`)."""

    async def prepare(self) -> None: ...

    @property
    def place(self) -> str: ...

    @property
    def broken(self) -> bool: ...

    def is_dead(self, owner: NodeAddress, place: str) -> bool: ...
