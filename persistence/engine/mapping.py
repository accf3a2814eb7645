"""How a kind's state becomes columns: the seam between the stores and whatever they store.

A kind without a mapping of its own goes to table `actors` as msgpack (`GenericMapping`). Own
columns are one `Mapping` and one migration. Encoding works on a whole batch, column by column,
because that is how it travels: PostgreSQL gets one array a column.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
from sqlalchemy import Table

from persistence.engine import tables

Columns = list[Sequence[Any]]
"""One sequence a column, all of the length of the batch."""


class Children(Protocol):
    """Rows that belong to an entity (a match's participants). Their table's first columns are
    the entity's key, the child's key, and `projected_seq`."""

    table: Table
    columns: tuple[str, ...]
    """The columns after those three."""

    def encode(self, keys: Sequence[str], seqs: Sequence[int], states: Sequence[Any]) -> Columns:
        """Key, child key, sequence number and `columns` of every child row, in key order."""
        ...


class Mapping(Protocol):
    """One kind's state and its columns. Every column must be nullable or have a default in the
    database: a claim inserts the row before there is any state."""

    state_type: type[msgspec.Struct]
    table: Table
    key: str
    """The key column."""
    kind: str | None
    """The value of the `kind` column, if the table is shared."""
    columns: tuple[str, ...]
    children: Children | None
    live: str | None
    """For a kind that lives on by itself: the condition on its own columns, in SQL of both
    databases, of an entity that exists and still does. Worth a partial index."""

    def __hash__(self) -> int: ...

    def encode(self, states: Sequence[Any]) -> Columns:
        """The values of `columns` of a batch; JSON columns as text."""
        ...

    def decode(self, values: Sequence[Any]) -> Any:
        """The state in one row's `columns`. Raises `ValueError` or a `msgspec.MsgspecError`."""
        ...

    def final(self, state: Any) -> bool:
        """Whether a projection of this state is to be written through (an ended match)."""
        ...


class GenericMapping:
    """Kind `kind` in table `actors`, its state as msgpack."""

    table: Table = tables.actors
    key: str = "key"
    columns: tuple[str, ...] = ("state",)
    children: Children | None = None
    live: str | None = None

    def __init__(self, kind: str, state_type: type[msgspec.Struct]) -> None:
        self.kind: str | None = kind
        self.state_type = state_type
        self._decode = msgspec.msgpack.Decoder(state_type).decode

    def encode(self, states: Sequence[Any]) -> Columns:
        encode = msgspec.msgpack.encode
        return [[encode(state) for state in states]]

    def decode(self, values: Sequence[Any]) -> Any:
        if values[0] is None:
            raise ValueError("a version but no state")
        return self._decode(values[0])

    def final(self, state: Any) -> bool:
        return True
