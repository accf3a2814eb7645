"""Ports of the relational store: node leases, fenced entities, reminders.

The rules that make ownership safe live behind these three ports; gossip only proposes, the store decides:

    NodeStore       runs of nodes, their leases and the journals that they left (`server/liveness/ports.py`)
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
from server.ids import ActorId, Epoch, NodeAddress
from server.liveness.ports import NodeStore

# ---- the database ----


class DatabaseIdentity(msgspec.Struct, frozen=True):
    """The name of a database, 32 hexadecimal digits that no other database has, its timeline (a restore from a
    backup begins the next one), and a fingerprint of its place, in the words of its driver."""

    uuid: str
    timeline: int = 1
    place: str = ""

    @property
    def name(self) -> str:
        """Database and timeline: nodes with different ones do not belong together."""
        return f"{self.uuid}.{self.timeline}"


# ---- entities ----


class Owned(msgspec.Struct, frozen=True):
    """A claim that succeeded. `state` is None where nothing was ever stored; then
    `state_epoch` and `state_version` are 0. For a logged actor `next_seq` is the number that
    its next event gets (1 for a new log) and `head` the running hash before it (empty if new).
    `clean`: its last owner gave it up in order. If not (that owner died or stopped with changes
    unstored, or is this very node with an earlier claim), a journal may hold a newer state. `open_facts`: its row says
    that facts are open (`server/actors/facts.py`)."""

    epoch: Epoch
    state_epoch: Epoch
    state_version: int
    state: Any
    next_seq: int = 1
    head: bytes = b""
    clean: bool = True
    open_facts: bool = False


class Elsewhere(msgspec.Struct, frozen=True):
    """A claim that was refused: `owner` holds the entity and is not known dead."""

    owner: NodeAddress


class Absent(msgspec.Struct, frozen=True):
    """A claim of an entity that the store does not know, and that was not to be made."""


class Claim(msgspec.Struct, frozen=True):
    """A node's wish to own an entity. `token` rises with every claim that this node makes of it: a late,
    repeated statement of an older claim must not fence a newer one. Without `make`, an entity that the store
    does not know is not made. `revive`: nor is one that was erased, unless
    this is 1, and the time is there that `ErasureStore.bar` named, or 2."""

    id: ActorId
    token: int
    make: bool = True
    revive: int = 0


class Change(msgspec.Struct, frozen=True):
    """The newest state of an entity. `version` counts its changes for ever, over all epochs; what was new up to version
    `stored` is known to be in the store."""

    id: ActorId
    epoch: Epoch
    version: int
    state: Any
    stored: int = 0


class EntityMove(msgspec.Struct, frozen=True):
    """An entity that migrates to another live node with everything: its newest state where that is
    not stored yet (`state` is not None), and its ownership. `next_seq` is the end of a logged
    entity's log, which must be stored up to there; 0 where there is no log. `token` is the newest
    claim token that the new owner has used: an older claim of its that comes late is void. `stored`: as in `Change`."""

    id: ActorId
    epoch: Epoch
    version: int
    to: NodeAddress
    state: Any = None
    next_seq: int = 0
    token: int = 0
    stored: int = 0


class Stored(msgspec.Struct, frozen=True):
    """An entity's row, read without claiming it. `state` is a `Corrupt` where what is stored is none of this
    program's."""

    state_epoch: Epoch
    state_version: int
    state: Any


class Erased(msgspec.Struct, frozen=True):
    """A claim of an entity that was erased, or is being, and that this claim may not make."""


ClaimResult = Owned | Elsewhere | Absent | Erased
WriteResult = Literal["written", "fenced"]
MoveResult = Literal["moved", "fenced"]


class EntityStore(Protocol):
    """Fenced state. All entities of one call are of one `kind`; ids are sorted and unique."""

    async def claim(
        self,
        kind: str,
        claims: Sequence[Claim],
        me: NodeAddress,
        journals: Collection[str] | None = None,
        generation: int = 0,
    ) -> dict[ActorId, ClaimResult | Corrupt]:
        """Load and claim, at most 500 at once. Succeeds for a row that is absent, released,
        already mine, or whose owner is `dead` or `left` with a journal that is empty (all stored,
        or it kept none) or one of `journals`, the places that can be read here; None: whatever
        its journal. Sets `epoch` (+1, never reset) and owner only. Raises `Unavailable` where `me` is not `up`, or
        has another generation.

        `Elsewhere(me)`: a later claim of mine has overtaken this one; it is void. `Absent` only for a claim
        without `make`. `Corrupt` for an entity that is mine now, and whose stored state is none of this
        program's."""
        ...

    async def write(self, kind: str, changes: Sequence[Change]) -> dict[ActorId, WriteResult]:
        """Store states where `epoch = mine and state_version < new`, all in one transaction.
        A change that is already stored under my epoch is `written`."""
        ...

    async def release(
        self,
        kind: str,
        held: Sequence[tuple[ActorId, Epoch]],
        told: Collection[ActorId] = (),
        generation: int = 0,
    ) -> None:
        """Give ownership up where the epoch is still mine, and the owning run has no later generation. Of those in
        `told`, which are logged, no fact is open any more, whatever their state says."""
        ...

    async def migrate(self, kind: str, moves: Sequence[EntityMove], generation: int = 0) -> dict[ActorId, MoveResult]:
        """Hand ownership on: where `epoch = mine`, the owning run has no later generation (and the log ends at
        `next_seq`, if given) and the target is `up`, set the state if there is one, `epoch + 1` and the new owner, all
        in one transaction. A move that is applied already is `moved`. Of the new owner's claims of the same entity,
        those with a token above the move's succeed."""
        ...

    async def read(self, kind: str, ids: Sequence[ActorId]) -> dict[ActorId, Stored]:
        """Read rows without claiming or inserting; absent ids are left out."""
        ...

    async def count_owned(self, kind: str) -> dict[NodeAddress, int]:
        """How many entities of `kind` each run owns. Reads the whole table: for tools, not for nodes."""
        ...

    async def orphans(self, kind: str, limit: int, after: ActorId | None = None) -> list[ActorId]:
        """List entities of `kind` that live on by themselves, or have open facts, and have no owner that is `up` or
        `evicting`, in id order after `after`: a match that is not over, or that is and has not told all results.
        Empty for a kind of which none does."""
        ...

    async def strays(self, kind: str, limit: int, after: ActorId | None = None) -> list[ActorId]:
        """List entities of `kind` whose row says that somebody is here and that have no owner that is `up` or
        `evicting`, in id order after `after`: a connected player whose node died. Empty for a kind whose mapping
        has no `here`."""
        ...

    async def floors(self, kind: str, ids: Sequence[ActorId]) -> dict[ActorId, Epoch]:
        """The highest epoch that was issued to each of `ids` that was erased; what bears it, or a lower one, is of
        before the erasure."""
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


# ---- erasure ----


class ErasureStore(Protocol):
    """Entities of personal kinds whose key is a person that is erased. A tombstone, which knows the key by a keyed hash
    only, says three things: that nothing makes them now, that only who names the person anew does (`Claim.revive`),
    and which epochs were issued to those that there were: an entity that is made anew begins above them, so that
    whoever owned the old one, and a journal that has a record of it, can say nothing of the new one."""

    async def bar(self, key: str, until_s: float = 0.0) -> None:
        """Let nothing make entities of that key until `lift`, and then nothing before Unix time `until_s` (the store's
        clock) either; of two such times the later one holds."""
        ...

    async def erase(self, kind: str, key: str) -> bool:
        """Delete the row of a barred entity with all that belongs to it, and its reminders, in one transaction. False,
        and nothing is changed, while somebody owns it; True where there is none."""
        ...

    async def lift(self, key: str) -> bool:
        """Let a claim that revives make entities of that key, once the time is there that `bar` named; False where the
        key is not barred."""
        ...

    async def pardon(self, key: str) -> None:
        """Let the time that `bar` named be now."""
        ...


class Store(NodeStore, EntityStore, ReminderStore, ErasureStore, Protocol):
    """A database that a driver connects to, with all its ports."""

    async def open(self) -> None:
        """Connect and check that the schema is the one this program was made for, and that the database is where it
        was. Raises `BadSetting` where either is not so."""
        ...

    @property
    def identity(self) -> DatabaseIdentity:
        """The database that was opened."""
        ...

    async def check(self) -> None:
        """Check again: somebody may have changed the schema since, or put another database in this one's place.
        Raises `BadSetting` where it is no longer the one that was opened, `Unavailable`."""
        ...

    @property
    def under_way(self) -> int:
        """Statements that were begun and are not over, those included for whose answer nobody waits any more."""
        ...

    def surrender(self) -> None:
        """Send no statement any more, whoever asks: each raises `Unavailable`. For good. Raises `Unavailable`, and
        nothing has changed, while a transaction is being ended right now and does not come to its end."""
        ...

    async def close(self) -> None: ...
