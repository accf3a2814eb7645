"""Units of work that replace or delete everything of an entity: its log and the marks of it, or all its rows."""

import sqlite3
from typing import Any

from msgspec.structs import astuple

from persistence.engine.rows import NOT_BARRED
from persistence.engine.statements import (
    CHUNK_INSERT,
    CHUNK_INSERT_SQLITE,
    CHUNKS_DROP,
    FLOOR,
    REDACTION_INSERT,
    REDACTIONS_DROP,
    REMINDERS_OF_DROP,
    PostgresStatements,
    SqliteStatements,
)
from server.errors import Internal
from server.eventlog.ports import WholeLog


def put_log(connection: sqlite3.Connection, kind: str, key: str, log: WholeLog) -> None:
    """Store the chunks and marks of a log in the place of whatever there is, also leftovers of a row that was deleted
    by hand."""
    for drop in (CHUNKS_DROP, REDACTIONS_DROP):
        connection.execute(drop.format("?", "?"), (kind, key))
    chunks = [(kind, key, part.first_seq, part.last_seq, True, part.data) for part in log.segments]
    connection.executemany(CHUNK_INSERT_SQLITE, chunks)
    marks = [(kind, key, number, *astuple(mark)) for number, mark in enumerate(log.redactions, 1)]
    connection.executemany(REDACTION_INSERT.format(*"??????"), marks)


async def put_log_postgres(connection: Any, kind: str, key: str, log: WholeLog) -> None:
    """The same."""
    for drop in (CHUNKS_DROP, REDACTIONS_DROP):
        await connection.execute(drop.format("$1", "$2"), kind, key)
    chunks = [(kind, key, part.first_seq, part.last_seq, part.data) for part in log.segments]
    await connection.executemany(CHUNK_INSERT, chunks)
    marks = [(kind, key, number, *astuple(mark)) for number, mark in enumerate(log.redactions, 1)]
    await connection.executemany(REDACTION_INSERT.format("$1", "$2", "$3", "$4", "$5", "$6"), marks)


def erase(connection: sqlite3.Connection, sql: SqliteStatements, kind: str, key: str, hash: bytes) -> bool:
    """Delete an entity that is barred, unless somebody owns it; whether it is gone. Its epoch stays in the tombstone.
    Raises `Internal` where it is not barred."""
    found = connection.execute(sql.owner, (key,)).fetchone()
    if found is not None and found[1] is not None:
        return False
    if connection.execute(FLOOR.format("?1", "?2"), (hash, 0 if found is None else found[0])).rowcount == 0:
        raise Internal(NOT_BARRED)
    for delete in sql.delete:
        connection.execute(delete, (key,))
    connection.execute(REMINDERS_OF_DROP.format("?", "?"), (kind, key))
    return True


async def erase_postgres(connection: Any, sql: PostgresStatements, kind: str, key: str, hash: bytes) -> bool:
    """The same. The row is locked, so that whoever claims it meanwhile waits, and finds none."""
    found = await connection.fetchrow(sql.owner, key)
    if found is not None and found[1] is not None:
        return False
    epoch = 0 if found is None else found[0]
    barred = await connection.fetchval(f"{FLOOR.format('$1', '$2::int8')} RETURNING true", hash, epoch)
    if barred is None:
        raise Internal(NOT_BARRED)
    for delete in sql.delete:
        await connection.execute(delete, key)
    await connection.execute(REMINDERS_OF_DROP.format("$1", "$2"), kind, key)
    return True
