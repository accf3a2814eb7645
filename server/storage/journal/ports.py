"""The port of a crash journal (a write-ahead log): it keeps a node's acknowledged write-behind changes until
the store has them, and a successor finds them there.

A driver has both sides. The owner's side is used by the node whose changes they are:

    place      -> what the store's row of this run says (known before the run has its incarnation); it names the
                  database too, since a copy of a database has copies of these rows
    open       -> the journal of this run exists and is empty
    append     -> a record of the state that a turn ends with; at once durable, or later
    alive_for  -> the live mark: this run's lease was granted again
    position, truncate -> everything up to a position is in the store
    close      -> `keep`: something in it is not stored, a successor needs it

The successor's side is used by whoever takes over from a run that is over:

    reads      -> whether a journal at that place can be read from here at all
    is_dead    -> whether its process is proven to be gone (so its lease need not be waited for)
    recover    -> where its owner's live mark stands still: seal it, so that a late append is refused or never seen,
                  and read it
    remove     -> everything in it is in the store

In a succession an heir takes a run over from a living process. Its journal is a fresh one of the same run, at a place
of its own; the one before is empty by then, since everything is stored before the heir begins:

    prepare, open   -> the heir's, while its predecessor still serves; `close(keep=False)` where it is called off
    lock, hold      -> the heir holds its predecessor's lock too, so that neighbours, who go by the place in the store's
                       row, see a living process from before the predecessor's end until the row names the heir's place
    surrender       -> the predecessor appends nothing any more, and leaves its files as they are
    clear           -> the heir lets go of that lock and removes the predecessor's journal

An heir that dies before the row names its place lets go of both locks: neighbours bury the run as after a crash.
Should they bury it earlier (nobody has handed the lock on), the store refuses the heir, which is then no owner of
anything; and once the row names the heir's place, a proof by the old one buries nobody (`NodeStore.bury`).
"""

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from server.errors import Unavailable
from server.ids import ActorId, Epoch, NodeAddress


class Journaled(Protocol):
    """An activation as the journal sees it, at the end of a turn that changed its state: the new
    state gets `version + 1`."""

    id: ActorId
    epoch: Epoch
    version: int


class JournalRecord(msgspec.Struct, frozen=True, array_like=True):
    """An acknowledged change. `state` is the whole state as msgpack: a later record of the same entity makes
    an earlier one worthless."""

    id: ActorId
    epoch: Epoch
    version: int
    state: msgspec.Raw


class Recovered(msgspec.Struct, frozen=True):
    """Contents of a journal: for each entity its newest record, by (epoch, version). `damage`
    names, in a sentence each, places whose bytes fail their check; a torn last record, which was
    never acknowledged, is not damage."""

    newest: dict[ActorId, JournalRecord]
    damage: list[str]


def still_alive(owner: NodeAddress) -> Unavailable:
    """The complaint about a journal whose owner renews its lease, though this database has it as over."""
    why = f"the journal of {owner} is in use: that node renews its lease, in another database than this one"
    return Unavailable(f"{why}, which is a copy: stop its nodes and say `garrison database copy --yes`")


class Journal(Protocol):
    """See the module's head. Raises `Unavailable` where the place cannot be reached, `BadSetting`
    at `prepare` where it can never be."""

    database: str
    """The UUID of the database whose changes it keeps, set by whoever uses it before `prepare`. A journal of another
    database is not read here, and never removed; one that names none is of an earlier version."""

    on_durable: Callable[[Any, int], None]
    """Set by whoever uses it: called with (entity, version) for appends that were not durable at
    once, in order, when they are."""

    @property
    def durable_at_once(self) -> bool:
        """Whether every append is durable when it returns; constant."""
        ...

    async def prepare(self) -> None:
        """Check the settings and make what is shared by all runs. Raises `BadSetting`, and
        `Unavailable` where it may work later. Again before `open` it makes another `place`: what was
        registered with the one before, and is no run of this process, reads as never opened."""
        ...

    @property
    def place(self) -> str:
        """The place of this node's journal, for the store's row. Never empty."""
        ...

    async def open(self, me: NodeAddress) -> None: ...

    def append(self, entity: Journaled, state: msgspec.Struct) -> bool:
        """Record `state` as version `entity.version + 1`. True: it is durable; False: `on_durable`
        says when. Raises `Unavailable` if there is no room, or the place does not answer: then
        nothing was recorded."""
        ...

    def alive_for(self, seconds: float) -> None:
        """Move this run's live mark, where a successor looks for it: its lease was granted, and holds for so long. Does
        not wait; without an open journal it does nothing."""
        ...

    @property
    def broken(self) -> bool:
        """Whether nothing can ever be appended any more (it was sealed, or its place has lost it):
        the node should go on as a new run. It may look at the place: ask now and then, not for
        each change. Once true, every append is refused."""
        ...

    @property
    def refusal(self) -> str | None:
        """Why every append is refused now; None while records are taken, and where that is not known before one is
        tried. Cheap."""
        ...

    @property
    def in_flight(self) -> int:
        """Records that were appended and are not known to be durable."""
        ...

    @property
    def lock(self) -> int | None:
        """The descriptor whose lock shows neighbours that this process lives; None where nothing does, or no run is
        open. A duplicate of it shows the same."""
        ...

    def hold(self, lock: int) -> None:
        """Keep the lock of the process before this one held; `lock` is this process's own duplicate."""
        ...

    def surrender(self) -> None:
        """Append nothing any more, for good: each append raises `Unavailable`. Nothing is unlocked, marked, closed or
        removed, by whatever comes after."""
        ...

    async def clear(self, owner: NodeAddress, place: str) -> None:
        """Let go of the lock that was held for the process before this one, and remove its journal at `place`, which is
        empty. Call it once that process is gone. Raises `Unavailable`, also where its lock is still held."""
        ...

    @property
    def position(self) -> int:
        """After the newest record."""
        ...

    def truncate(self, position: int) -> None:
        """Every record before `position` is in the store, or its entity has another owner."""
        ...

    async def close(self, keep: bool) -> None:
        """Give the journal of this run up; remove it unless `keep`. Idempotent. Raises `Unavailable` where it could
        not be removed: it is given up and still there."""
        ...

    # ---- the successor's side ----

    def reads(self, place: str) -> bool:
        """Whether a journal at that place can be read from here. Cheap, does not block."""
        ...

    def is_dead(self, owner: NodeAddress, place: str) -> bool:
        """Cheap, does not block. False also where nothing is known."""
        ...

    async def recover(self, owner: NodeAddress, place: str) -> Recovered:
        """Call it only when `owner` is `dead` or `left` in the store. May be called again. Raises
        `Unavailable`, also while the owner's live mark says that it lives: then this database is a copy, whose rows
        say of it what is not so in the original. A journal that was removed since, or never opened, is empty; one
        that is missing for another reason is damage."""
        ...

    async def remove(self, owner: NodeAddress, place: str) -> None:
        """Idempotent."""
        ...
