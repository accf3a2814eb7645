"""Rows that name a person, in whatever table and column: found by the bytes of the name, then by what is read there.

    People.rows(table, name)     every row of a table that names the person, decoded, window by window
    names(value, name)           whether a decoded value names it
    entries(value, name)         the smallest parts of a value that do, each with its path

A value *names* a person where a text in it, or a key, is the person's key, or has it as a word. So nothing here knows
what a table is for, and a search that finds nothing says something about columns that nobody thought of, too. Bytes
that are msgpack are decoded first; those of event logs are compressed, and read by `server/eventlog/` instead.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import msgspec
from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    LargeBinary,
    Select,
    Table,
    Text,
    and_,
    cast,
    func,
    or_,
    select,
    tuple_,
)

from persistence.engine.urls import parse
from persistence.sql_queries import reader_of
from server.settings import StoreSettings
from server.texts import is_named

WINDOW_ROWS: Final = 20_000
"""Rows that a statement looks at: a fraction of a second, so that no limit of time ends it."""
OPAQUE: Final = frozenset({("log_chunks", "data"), ("matches", "head"), ("actors", "head"), ("redactions", "head")})
"""Columns of bytes that are no msgpack: logs, and hashes."""
Row = dict[str, Any]


class People:
    """See the module's head. Reads on connections of its own, which can read only."""

    def __init__(self, settings: StoreSettings) -> None:
        address = parse(settings.url)
        self._is_postgres = address.dialect == "postgresql"
        self._reader = reader_of(address, settings.statement_timeout_s)

    async def rows(self, table: Table, name: str, window: int = WINDOW_ROWS) -> AsyncIterator[Row]:
        """The rows of `table` that name the person, in the order of its primary key."""
        columns = [column for column in table.c if _may_name(column)]
        if not columns:
            return
        key = list(table.primary_key.columns)
        found = or_(*(self._has(column, name) for column in columns))
        after: tuple[Any, ...] | None = None
        while True:
            end = await self._end(key, after, window)
            wanted = select(table).where(found).order_by(*key)
            for row in await self._reader.rows(_between(wanted, key, after, end)):
                decoded = decoded_row(table, row)
                if names(list(decoded.values()), name):
                    yield decoded
            if end is None:
                return
            after = end

    async def _end(self, key: list[Column[Any]], after: tuple[Any, ...] | None, window: int) -> tuple[Any, ...] | None:
        """The primary key of the last row of a window; None where the rest of the table is no more than one."""
        rows = await self._reader.rows(_between(select(*key), key, after, None).order_by(*key).limit(1).offset(window))
        return tuple(rows[0].values()) if rows else None

    def _has(self, column: Column[Any], name: str) -> ColumnElement[bool]:
        """Whether the bytes of `name` are in a column."""
        if isinstance(column.type, LargeBinary):
            data = name.encode()
            if self._is_postgres:
                return func.position(cast(data, LargeBinary).op("IN")(column)) > 0
            return func.instr(column, data) > 0
        text: ColumnElement[Any] = cast(column, Text) if isinstance(column.type, JSON) else column
        return (func.strpos if self._is_postgres else func.instr)(text, name) > 0

    async def close(self) -> None:
        await self._reader.close()


def _may_name(column: Column[Any]) -> bool:
    is_text = isinstance(column.type, Text | JSON | LargeBinary)
    return is_text and (column.table.name, column.name) not in OPAQUE


def _between(
    wanted: Select[Any], key: list[Column[Any]], after: tuple[Any, ...] | None, end: tuple[Any, ...] | None
) -> Select[Any]:
    place = tuple_(*key)
    conditions = [place > after] if after is not None else []
    return wanted.where(and_(True, *conditions, *([place <= end] if end is not None else [])))


def decoded_row(table: Table, row: Row) -> Row:
    """A row with msgpack in its place decoded, and no bytes that are none."""
    return {name: _unpacked(value) for name, value in row.items() if (table.name, name) not in OPAQUE}


def _unpacked(value: Any) -> Any:
    if not isinstance(value, bytes | memoryview):
        return value
    try:
        return msgspec.msgpack.decode(bytes(value))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return bytes(value).decode("utf-8", "replace")


# ---- values ---------------------------------------------------------------------------------


def names(value: Any, name: str) -> bool:
    """Whether a decoded value names the person. A column that is the name of somebody else which has this one in it
    does not."""
    return any(is_named(text, name) for text in _texts(value))


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, inner in value.items():
                yield from _texts(key)
                yield from _texts(inner)
        case list() | tuple():
            for inner in value:
                yield from _texts(inner)


def entries(value: Any, name: str, path: str = "") -> Iterator[tuple[str, Any]]:
    """The smallest parts of a value that name the person: an entry of a map under its key, a list with its key in it, a
    text. The rest of a row of somebody else is nobody else's affair."""
    match value:
        case dict():
            for key, inner in value.items():
                here = f"{path}.{key}" if path else str(key)
                if isinstance(key, str) and is_named(key, name):
                    yield here, inner
                else:
                    yield from entries(inner, name, here)
        case list() | tuple():
            if any(isinstance(inner, str) and is_named(inner, name) for inner in value):
                yield path, value
                return
            for place, inner in enumerate(value):
                yield from entries(inner, name, f"{path}[{place}]")
        case str():
            if is_named(value, name):
                yield path, value
