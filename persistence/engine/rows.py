"""What passes between `SqlStore`, which knows states, and a database, which knows bytes."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from persistence.engine.mapping import Columns, Mapping
from server.eventlog.ports import Append, Chunk, Seal
from server.ids import NodeAddress
from server.storage.ports import NodeRow

BASE_COLUMNS = ("epoch", "state_epoch", "state_version", "owner_node", "owner_incarnation", "claim_token")
"""What every row read begins with, after its key; `next_seq` and `head` and the state follow."""


class Row(NamedTuple):
    """One entity as it is stored; `values` are the mapping's columns."""

    key: str
    epoch: int
    state_epoch: int
    state_version: int
    owner_node: str | None
    owner_incarnation: int | None
    claim_token: int
    next_seq: int
    head: bytes
    values: Sequence[Any]


class Versions(NamedTuple):
    """What is read back of a row that a write did not hit."""

    key: str
    epoch: int
    state_epoch: int
    state_version: int
    next_seq: int
    head: bytes


class Batch(msgspec.Struct, frozen=True):
    """Encoded states, column by column, in key order."""

    keys: list[str]
    epochs: list[int]
    versions: list[int]
    columns: Columns


class Projection(msgspec.Struct, frozen=True):
    """Encoded projections of some of the logs of an append; `children` may be empty."""

    batch: Batch
    children: Columns


class Ends(msgspec.Struct, frozen=True):
    """A log's end and its chunks, first to last."""

    next_seq: int
    head: bytes
    chunks: list[Chunk]


class Database(Protocol):
    """One of the two databases. Raises `Unavailable` and `Corrupt` only."""

    async def open(self) -> None:
        """Connect. Raises `BadSetting` where the place itself cannot be used."""
        ...

    async def close(self) -> None: ...

    async def schema_version(self) -> str | None:
        """The newest migration that was applied; None for an empty database."""
        ...

    async def register_node(self, node: str, lease_s: float | None) -> tuple[int, float]:
        """The new incarnation and 0.0, or 0 and how long an earlier run's lease still holds."""
        ...

    async def renew_lease(self, me: NodeAddress, lease_s: float) -> bool: ...

    async def bury_expired(self, spare: Sequence[str], grace_s: float) -> list[NodeAddress]: ...

    async def retire_node(self, me: NodeAddress) -> None: ...

    async def nodes(self) -> list[NodeRow]: ...

    async def claim(
        self, mapping: Mapping, keys: Sequence[str], tokens: Sequence[int], me: NodeAddress
    ) -> dict[str, Row]:
        """Every row after the claim: those that are mine under my token were claimed. Raises
        `Unavailable` if this run of the node is not `up`."""
        ...

    async def write(self, mapping: Mapping, batch: Batch) -> set[str]:
        """The keys that were refused: not stored under my epoch, neither now nor already."""
        ...

    async def release(self, mapping: Mapping, keys: Sequence[str], epochs: Sequence[int]) -> None: ...

    async def read(self, mapping: Mapping, keys: Sequence[str]) -> list[Row]: ...

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

    async def read_log(self, mapping: Mapping, kind: str, key: str, from_seq: int | None, to_seq: int) -> Ends | None:
        """Chunks that hold `from_seq` or later; None: the last segment and what follows."""
        ...


def has_log(mapping: Mapping) -> bool:
    """Whether the kind's table can carry an event log."""
    return "next_seq" in mapping.table.c


def is_stored(row: Versions, epoch: int, version: int) -> bool:
    """Whether a write that did not hit had been applied already (its reply was lost)."""
    return row.state_epoch == epoch and row.state_version >= version


def is_appended(row: Versions, append: Append) -> bool:
    """Whether an append that did not hit had been applied already."""
    return row.next_seq == append.last_seq + 1 and row.head == append.head
