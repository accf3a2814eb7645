"""Mappings of a kind's state to columns: the seam between the stores and the states that they store.

A kind without a mapping of its own goes to table `actors` as msgpack (`GenericMapping`). Own
columns are one `Mapping` and one migration. Encoding works on a whole batch, column by column,
because that is how it travels: PostgreSQL gets one array a column.
"""

from collections.abc import Callable, Sequence
from collections.abc import Mapping as Map
from typing import Any, NamedTuple, Protocol, get_type_hints

import msgspec
from sqlalchemy import LargeBinary, String, Table

from persistence.engine import tables
from server.states import decoder as state_decoder
from server.states import encode as encode_state

Columns = list[Sequence[Any]]
"""A sequence for each column, all of the length of the batch."""


class Over(NamedTuple):
    """Columns of a logged kind that is over at some time: the condition for that, in SQL of both databases, and the
    columns that say since when (Unix ms) and whether the log is kept for good. Worth an index by the second, for the
    condition."""

    condition: str
    ended: str
    pinned: str


class Children(Protocol):
    """Rows that belong to an entity (a match's participants). Their table's first columns are
    the entity's key, the child's key, and `projected_seq`."""

    table: Table
    columns: tuple[str, ...]
    """The columns after those three."""

    def encode(self, keys: Sequence[str], seqs: Sequence[int], states: Sequence[Any], stored: Sequence[Any]) -> Columns:
        """Key, child key, sequence number and `columns` of child rows, in key order: of all of a state, or, where
        `stored` has the state whose rows are in the store, of those that differ from it, unless `is_whole`."""
        ...

    def is_whole(self, state: Any, stored: Any) -> bool:
        """Whether `encode` gives all rows of this state, so that others are to be deleted: where `stored` is None, and
        where a child may be gone since."""
        ...


class Totals(NamedTuple):
    """A table of sums over rows that are added. `statement` adds what the rows `{added}` (columns of their table) say:
    `INSERT INTO … SELECT … FROM {added} AS a WHERE true GROUP BY … ON CONFLICT … DO UPDATE SET n = t.n + excluded.n`.
    It runs in the transaction that inserts them, and only for rows that were not there before: so a sum has each row
    exactly once, however often the state that brings it is written. Where rows are put into it does not matter: sums
    are of one entity, whose row is locked. `sqlite`, if it differs, is the statement for that."""

    table: Table
    statement: str
    sqlite: str = ""


class Additions(Protocol):
    """Rows that a state brings along, written in the transaction that stores it. Either they stay as they are (a
    player's careers): each is inserted with the first state which has it, and is left alone if it is there. Or they
    are `current` (a player's friendships): each replaces the one of its primary key, or takes it away. Their table's
    first column is the entity's key."""

    table: Table
    columns: tuple[str, ...]
    """All columns, those of the primary key first."""

    current: bool
    totals: tuple[Totals, ...]
    """Tables that sum up rows that stay as they are."""

    def encode(self, keys: Sequence[str], stored: Sequence[int], states: Sequence[Any]) -> Columns:
        """The rows that are new since the version that is `stored` of each entity; nothing where there are none. Of
        those that are `current` there is one for each primary key, and a further column at the end says which are
        gone."""
        ...


class Mapping(Protocol):
    """The columns of a kind's state. Every column must be nullable or have a default in the
    database: a claim inserts the row before there is any state."""

    state_type: type[msgspec.Struct]
    table: Table
    key: str
    """The key column."""
    kind: str | None
    """The value of the `kind` column, if the table is shared."""
    columns: tuple[str, ...]
    children: tuple[Children, ...]
    additions: Additions | None
    kept: tuple[str, ...]
    """Columns of which the log of a kind does not know all: a log that takes another's place leaves them as they
    are."""

    live: str | None
    """For a kind that lives on by itself: the condition on its own columns, in SQL of both databases, of an entity
    that does, if it exists (has an event, where it has a log). Worth a partial index."""

    here: str | None
    """For a kind whose rows say that somebody is here: the condition for that, as `live` is. Worth a partial index."""

    over: Over | None
    """For a kind whose logs may be deleted once they are over."""

    goes: bool
    """Whether rows of the kind are deleted in another way (docs/operations.md): the highest epoch of what goes is
    remembered then, as for logs, and an entity of that name begins above it."""

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


class ColumnMapping:
    """A table whose columns are called as the fields of `state_type`, and which has the engine's columns beside
    them; its primary key is the actor's key. A field that is no plain value (a list, a struct) stands in
    a `LargeBinary` column, as msgpack. `computed` are further columns, each a function of the state: they are
    written, for SQL, and never read back.

    Raises `TypeError` where the table lacks one of these columns, or has another that must be given.
    """

    children: tuple[Children, ...] = ()
    additions: Additions | None = None
    kept: tuple[str, ...] = ()
    live: str | None
    here: str | None
    over: Over | None = None
    goes: bool = False
    kind: str | None = None

    def __init__(
        self,
        state_type: type[msgspec.Struct],
        table: Table,
        live: str | None = None,
        final: Callable[[Any], bool] | None = None,
        computed: Map[str, Callable[[Any], Any]] | None = None,
        here: str | None = None,
    ) -> None:
        self.state_type, self.table, self.live, self._final, self.here = state_type, table, live, final, here
        self._fields, self._computed = tuple(state_type.__struct_fields__), dict(computed or {})
        (key,) = table.primary_key.columns
        self.key = key.name
        self.columns = (*self._fields, *self._computed)
        if missing := sorted(set(self.columns) - set(table.c.keys())):
            raise TypeError(f"table {table.name} has no column {missing[0]!r} for {state_type.__name__}")
        given = (key.name, "head")
        must = [c.name for c in table.c if not (c.nullable or c.server_default is not None or c.name in given)]
        if must:
            raise TypeError(f"{table.name}.{must[0]} needs a server default: a row is claimed before it has a state")
        hints = get_type_hints(state_type)
        self._packed: dict[int, Callable[[bytes], Any]] = {}
        self._texts: list[int] = []
        for place, name in enumerate(self.columns):
            if isinstance(table.c[name].type, LargeBinary) and hints.get(name, bytes) is not bytes:
                self._packed[place] = state_decoder(hints[name])
            elif isinstance(table.c[name].type, String):
                self._texts.append(place)

    def encode(self, states: Sequence[Any]) -> Columns:
        columns: Columns = [[getattr(state, name) for state in states] for name in self._fields]
        columns += [list(map(compute, states)) for compute in self._computed.values()]
        for place in self._packed:
            columns[place] = [encode_state(value) for value in columns[place]]
        for place in self._texts:  # PostgreSQL takes no NUL, and one text must not keep a batch from being stored
            columns[place] = [None if text is None else text.replace("\0", "") for text in columns[place]]
        return columns

    def decode(self, values: Sequence[Any]) -> Any:
        fields = dict(zip(self._fields, values, strict=False))
        for place, unpack in self._packed.items():
            fields[self.columns[place]] = unpack(values[place])
        return msgspec.convert(fields, self.state_type, strict=False)

    def final(self, state: Any) -> bool:
        return self._final is not None and self._final(state)


class GenericMapping:
    """Kind `kind` in table `actors`, its state as msgpack."""

    table: Table = tables.actors
    key: str = "key"
    columns: tuple[str, ...] = ("state",)
    children: tuple[Children, ...] = ()
    additions: Additions | None = None
    kept: tuple[str, ...] = ()
    live: str | None = None
    here: str | None = None
    over: Over | None = None
    goes: bool = False

    def __init__(self, kind: str, state_type: type[msgspec.Struct]) -> None:
        self.kind: str | None = kind
        self.state_type = state_type
        self._decode = state_decoder(state_type)

    def encode(self, states: Sequence[Any]) -> Columns:
        return [[encode_state(state) for state in states]]

    def decode(self, values: Sequence[Any]) -> Any:
        if values[0] is None:
            raise ValueError("a version but no state")
        return self._decode(values[0])

    def final(self, state: Any) -> bool:
        return True
