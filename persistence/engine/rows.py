"""Rows as they pass between `SqlStore`, which knows states, and a database, which knows bytes."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from persistence.engine.mapping import Columns, Mapping
from server.eventlog.ports import Append, Chunk, Redaction, Seal, StoredLog, WholeLog
from server.ids import NodeAddress
from server.liveness.ports import Estate, NodeRow
from server.storage.ports import DatabaseIdentity

BASE_COLUMNS = ("epoch", "state_epoch", "state_version", "owner_node", "owner_incarnation", "claim_token")
"""Columns that every row read begins with, after its key; `next_seq`, `head`, `open_facts` and the state follow."""


SURRENDERED = "this process has handed its run on: it sends no statement any more"
NO_ERASURE_KEY = "table counters lacks the key by which people who were erased are known: put it back from a backup"
NOT_BARRED = "only what is barred can be erased"
NO_COUNTER = "table counters lacks the number of the newest run: put it back, no lower than any that was given out"


class Row(NamedTuple):
    """An entity as it is stored; `values` are the mapping's columns."""

    key: str
    epoch: int
    state_epoch: int
    state_version: int
    owner_node: str | None
    owner_incarnation: int | None
    claim_token: int
    next_seq: int
    head: bytes
    open_facts: bool
    values: Sequence[Any]

    def fault(self) -> str:
        """The first of the engine's columns that holds no value of its type, which SQLite lets happen; empty if none
        does."""
        numbers = (*self[1:4], self.claim_token, self.next_seq)
        if not all(type(number) is int for number in numbers) or type(self.owner_incarnation) not in (int, type(None)):
            return "a number column holds something else"
        if type(self.owner_node) not in (str, type(None)) or type(self.head) is not bytes:
            return "`owner_node` or `head` holds something else"
        return ""


class Bar(NamedTuple):
    """How a key that is a person's is known to tombstones, and whether a claim makes it though it was erased."""

    hash: bytes
    revive: int


class ClaimBatch(msgspec.Struct, frozen=True):
    """Claims of the run `me`, whose process is `generation`: a token for each key. Of those in `made` that have no row
    yet one is made, but for those that their `bars` keep from it: one for each, or None where the keys are no persons'.
    `journals`: see the port of the store."""

    keys: Sequence[str]
    tokens: Sequence[int]
    made: Sequence[str]
    bars: Sequence[Bar] | None
    me: NodeAddress
    journals: Collection[str] | None
    generation: int


class Claimed(msgspec.Struct, frozen=True):
    """Rows after a claim, by key. `clean`: keys of those that were claimed and had no owner
    before; of a claim that is repeated it is not known any more."""

    rows: dict[str, Row]
    clean: set[str]


class Versions(NamedTuple):
    """Part of a row that is read back where a write did not hit it."""

    key: str
    epoch: int
    state_epoch: int
    state_version: int
    next_seq: int
    head: bytes


class ReminderRow(NamedTuple):
    """In the order in which reminders are due: by the first four, of which there is one row."""

    due_ms: int
    kind: str
    key: str
    name: str
    epoch: int
    number: int


class OverRow(NamedTuple):
    """A row of an actor that is over, with the bytes in its log's chunks."""

    key: str
    ended_ms: int
    epoch: int
    size: int
    is_pinned: bool
    is_open: bool


class Batch(msgspec.Struct, frozen=True):
    """Encoded states, column by column, in key order; `additions` are rows that come with them, whose first column is
    the key, and often none."""

    keys: list[str]
    epochs: list[int]
    versions: list[int]
    columns: Columns
    additions: Columns = []


class Moves(msgspec.Struct, frozen=True):
    """Entities that get another owner, in key order; `next_seqs` are 0 where there is no log.
    `states` are of some of them, under the epochs that the new owners get."""

    keys: list[str]
    epochs: list[int]
    targets: list[NodeAddress]
    next_seqs: list[int]
    tokens: list[int]
    states: Batch | None


class ChildRows(NamedTuple):
    """Encoded rows of one kind of children; `columns` may be empty. Of the logs in `whole` it has every child, and rows
    of others are to be deleted."""

    columns: Columns
    whole: list[str]


class Projection(msgspec.Struct, frozen=True):
    """Encoded projections of some of the logs of an append, with their children in the order of the mapping's."""

    batch: Batch
    children: list[ChildRows]

    def at(self, epoch: int) -> "Projection":
        """The same under the epoch that a row turned out to get."""
        batch = msgspec.structs.replace(self.batch, epochs=[epoch] * len(self.batch.keys))
        return msgspec.structs.replace(self, batch=batch)


class Ends(msgspec.Struct, frozen=True):
    """A log's end and its chunks, first to last."""

    next_seq: int
    head: bytes
    chunks: list[Chunk]
    redactions: tuple[Redaction, ...] = ()


class Database(Protocol):
    """The port of a database, SQLite or PostgreSQL. Raises `Unavailable`, `Corrupt`, and `Internal` for a value that
    does not fit its column."""

    async def open(self) -> None:
        """Connect. Raises `BadSetting` where the place itself cannot be used."""
        ...

    async def close(self) -> None: ...

    @property
    def under_way(self) -> int:
        """Units of work that have begun and not ended."""
        ...

    def surrender(self) -> None:
        """See `server.storage.ports.Store`."""
        ...

    async def schema_version(self, table: str) -> str | None:
        """The newest migration that was applied, by that version table; None where there is none."""
        ...

    async def missing_rights(self, wanted: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """The part of `wanted`, (table, right) with rights as SQL names them, that this user lacks on tables that
        are there."""
        ...

    async def identity(self) -> tuple[DatabaseIdentity, str]:
        """The identity that is stored, and the place where the database is now. Raises `Corrupt` where none is
        stored."""
        ...

    async def write_place(self, before: str, place: str) -> None:
        """Store `place` where `before` is stored still."""
        ...

    async def register_node(self, node: str, lease_s: float | None, journal: str) -> tuple[int, float]:
        """The new incarnation and 0.0, or 0 and how long an earlier run's lease still holds. Raises `Corrupt` where
        the counter of incarnations is gone."""
        ...

    async def renew_lease(self, me: NodeAddress, lease_s: float, generation: int) -> bool: ...

    async def succeed_node(
        self, me: NodeAddress, generation: int, journal: str, lease_s: float | None, heir: str
    ) -> bool:
        """`heir`: a random name of this process, by which a repeated statement is known."""
        ...

    async def bury_expired(self, spare: Sequence[str], grace_s: float) -> list[NodeAddress]: ...

    async def bury(self, address: NodeAddress, journal: str | None) -> bool:
        """Whether that run is over now, which one that was issued and has no row is, too."""
        ...

    async def evict(self, suspects: Collection[NodeAddress], side: Collection[NodeAddress]) -> list[NodeAddress]: ...

    async def retire_node(self, me: NodeAddress, all_stored: bool, generation: int) -> None: ...

    async def estates(self) -> list[Estate]: ...

    async def close_estate(self, owner: NodeAddress) -> None: ...

    async def forget_estate(self, estate: Estate) -> bool: ...

    async def nodes(self) -> list[NodeRow]: ...

    async def living(self) -> list[NodeRow]: ...

    async def runs(self, of: Sequence[NodeAddress]) -> tuple[list[NodeRow], int]:
        """The rows of these runs that are kept, and the highest incarnation that was issued."""
        ...

    async def prune_nodes(self, kept_s: float, limit: int) -> int: ...

    async def claim(self, mapping: Mapping, claims: ClaimBatch) -> Claimed:
        """Every row after the claim: those that are mine under my token were claimed. Raises `Unavailable` if this run
        of the node is not `up`, or has a process of another `generation`."""
        ...

    async def erasure_key(self) -> int:
        """The key of the hashes of tombstones. Raises `Corrupt` where it is gone."""
        ...

    async def bar(self, hash: bytes, until_s: float) -> None: ...

    async def lift(self, hash: bytes) -> bool: ...

    async def pardon(self, hash: bytes) -> None: ...

    async def erase(self, mapping: Mapping, kind: str, key: str, hash: bytes) -> bool: ...

    async def floors(self, hashes: Sequence[bytes]) -> dict[bytes, int]: ...

    async def write(self, mapping: Mapping, batch: Batch) -> set[str]:
        """The keys that were refused: not stored under my epoch, neither now nor already."""
        ...

    async def release(
        self, mapping: Mapping, keys: Sequence[str], epochs: Sequence[int], told: Sequence[bool], generation: int
    ) -> None:
        """Give up ownership; of those that are `told` no fact is open any more."""
        ...

    async def migrate(self, mapping: Mapping, moves: Moves, generation: int) -> set[str]:
        """The keys that were refused: their new owner is not the target, neither now nor already."""
        ...

    async def read(self, mapping: Mapping, keys: Sequence[str]) -> list[Row]: ...

    async def count_owned(self, mapping: Mapping) -> dict[NodeAddress, int]: ...

    async def orphans(self, mapping: Mapping, limit: int, after: str) -> list[str]:
        """Keys after `after` of a mapping that has `live` or facts."""
        ...

    async def strays(self, mapping: Mapping, limit: int, after: str) -> list[str]:
        """Keys after `after` of a mapping that has `here`."""
        ...

    async def set_reminder(self, mapping: Mapping, reminder: ReminderRow) -> bool:
        """Whether the actor's row is at the reminder's epoch."""
        ...

    async def unset_reminder(self, mapping: Mapping, reminder: ReminderRow) -> bool: ...

    async def drop_reminder(self, reminder: ReminderRow) -> None: ...

    async def due_reminders(self, until_ms: int, limit: int, after: ReminderRow) -> list[ReminderRow]: ...

    async def append(
        self,
        mapping: Mapping,
        kind: str,
        keys: Sequence[str],
        batch: Sequence[Append],
        projection: Projection | None,
        through: bool,
    ) -> set[str]:
        """The keys whose append is stored, now or already; `through`: flushed to the disk."""
        ...

    async def seal(self, mapping: Mapping, kind: str, key: str, seal: Seal) -> bool: ...

    async def insert_log(
        self, mapping: Mapping, kind: str, key: str, log: WholeLog, projection: Projection
    ) -> tuple[int, bytes] | None:
        """Store a log where there is none and nobody owns the row; the projection's epoch is the row's next one. The
        end of the log that is there where it is not (1 where there is none)."""
        ...

    async def redact(
        self, mapping: Mapping, kind: str, key: str, was: StoredLog, log: WholeLog, projection: Projection
    ) -> bool:
        """Put `log` in the place of the one that was read as `was`; whether it is there, now or already. The
        projection's epoch is the row's next one."""
        ...

    async def list_logs(self, mapping: Mapping, limit: int, after: str) -> list[str]:
        """Keys after `after` of rows that have an event."""
        ...

    async def list_over(
        self, mapping: Mapping, kind: str, limit: int, after: tuple[int, str], newest_first: bool
    ) -> list[OverRow]:
        """Rows of a mapping that has `over`; sizes where `kind` is given."""
        ...

    async def delete_logs(self, mapping: Mapping, kind: str, keys: Sequence[str], epochs: Sequence[int]) -> set[str]:
        """The keys that were deleted."""
        ...

    async def pin_log(self, mapping: Mapping, key: str, pinned: bool) -> bool: ...

    async def now_ms(self) -> int: ...

    async def read_log(self, mapping: Mapping, kind: str, key: str, from_seq: int | None, to_seq: int) -> Ends | None:
        """Chunks that hold `from_seq` or later; None: the last segment and what follows. Redactions of a log that is
        read from its first event on."""
        ...


def has_log(mapping: Mapping) -> bool:
    """Whether the kind's table can carry an event log."""
    return "next_seq" in mapping.table.c


def has_facts(mapping: Mapping) -> bool:
    """Whether the kind's table says which rows have open facts."""
    return "open_facts" in mapping.table.c


def written(mapping: Mapping) -> tuple[str, ...]:
    """The columns that a state is written to: the mapping's, and the one of facts."""
    return (*mapping.columns, "open_facts") if has_facts(mapping) else mapping.columns


def is_stored(row: Versions, epoch: int, version: int) -> bool:
    """Whether a write that did not hit had been applied already (its reply was lost)."""
    is_number = type(row.state_version) is int  # SQLite would hold a text there too, and it must not take the batch
    return is_number and row.state_epoch == epoch and row.state_version >= version


def refused_moves(moves: Moves, moved: Collection[str], owners: Sequence[tuple[str, int, str, int]]) -> set[str]:
    """Keys of moves that were refused: neither `moved` now nor, by the rows read back (key, epoch, owner), applied
    already."""
    hit = {(key, epoch - 1, (node, run)) for key, epoch, node, run in owners if type(epoch) is int}
    wanted = zip(moves.keys, moves.epochs, moves.targets, strict=True)
    return {key for key, epoch, to in wanted if key not in moved and (key, epoch, to) not in hit}


def is_appended(row: Versions, append: Append) -> bool:
    """Whether an append that did not hit had been applied already."""
    return row.next_seq == append.last_seq + 1 and row.head == append.head
