"""The ownership protocol on SQLite: leases, claims, fenced writes and logs.

All processes of the cluster are on one machine and so share its clock, which is the store's.
"""

import json
import random
import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from persistence.engine import identity
from persistence.engine.mapping import Mapping
from persistence.engine.over import OF_LOG_DELETE_SQLITE, RAISE_SQLITE, SqliteOver
from persistence.engine.recorders import note_recorders
from persistence.engine.rows import (
    NO_ERASURE_KEY,
    Batch,
    ClaimBatch,
    Claimed,
    Ends,
    Moves,
    OverRow,
    Projection,
    ReminderRow,
    Row,
    Versions,
    is_appended,
    is_stored,
    refused_moves,
)
from persistence.engine.sqlite import SqliteFile
from persistence.engine.sqlite_projections import by_key, project, projection_rows
from persistence.engine.sqlite_runs import IS_UP, SqliteRuns
from persistence.engine.statements import (
    BAR,
    CHUNK_COVERED,
    CHUNK_DELETE,
    CHUNK_INSERT_SQLITE,
    CHUNKS_FROM,
    CHUNKS_TAIL,
    ERASURE_KEY_READ,
    FLOORS_SQLITE,
    LIFT,
    PARDON,
    REDACTIONS,
    REMINDER_DROP,
    REMINDER_SET_SQLITE,
    REMINDER_UNSET_SQLITE,
    REMINDERS_DUE,
    REVIVED,
    SQLITE_NOW,
    SqliteStatements,
)
from persistence.engine.urls import Address
from persistence.engine.whole_rows import erase, put_log
from server.errors import Corrupt, Unavailable
from server.eventlog.ports import Append, Chunk, Redaction, Seal, StoredLog, WholeLog
from server.eventlog.sealing import replaces
from server.ids import Incarnation, NodeAddress, NodeId
from server.settings import StoreSettings
from server.storage.ports import DatabaseIdentity

IN_LIST: Final = 500
_PLACES: Final = ("?1", "?2", "?3", "?4")

_WRITE_PLACE = "UPDATE database_identity SET place = ? WHERE place = ?"
_REMINDER_DROP = REMINDER_DROP.format(*"??????")
_REMINDERS_DUE = REMINDERS_DUE.format(*"??????")


@lru_cache(256)
def _statements(mapping: Mapping) -> SqliteStatements:
    return SqliteStatements(mapping)


@lru_cache(256)
def _of_over(mapping: Mapping) -> SqliteOver:
    assert mapping.over is not None, "a kind that is never over has no such statement"
    return SqliteOver(mapping, mapping.over)


class SqliteDatabase(SqliteRuns):
    """`persistence.engine.rows.Database` on SQLite."""

    def __init__(self, address: Address, settings: StoreSettings, rng: random.Random, *, urgent: bool = False) -> None:
        super().__init__(SqliteFile(address.path, settings, rng, urgent=urgent))

    async def open(self) -> None:
        await self._file.open()

    async def close(self) -> None:
        await self._file.close()

    @property
    def under_way(self) -> int:
        return self._file.under_way

    def surrender(self) -> None:
        self._file.surrender()

    async def schema_version(self, table: str) -> str | None:
        def work(connection: sqlite3.Connection) -> str | None:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchall():
                return None
            found: str | None = connection.execute(f"SELECT max(version_num) FROM {table}").fetchone()[0]
            return found

        return await self._file.read(work)

    async def missing_rights(self, wanted: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        return []  # a file is readable and writable, or does not open

    async def identity(self) -> tuple[DatabaseIdentity, str]:
        rows = await self._file.read(lambda connection: connection.execute(identity.READ).fetchall())
        return identity.stored(rows), self._file.place

    async def write_place(self, before: str, place: str) -> None:
        await self._file.write(lambda connection: connection.execute(_WRITE_PLACE, (place, before)).rowcount)

    # ---- fenced state ----

    async def claim(self, mapping: Mapping, claims: ClaimBatch) -> Claimed:
        sql = _statements(mapping)
        keys, made, bars = claims.keys, claims.made, claims.bars
        readable = None if claims.journals is None else json.dumps(list(claims.journals))
        inserts = [(key,) for key in made]
        claimer = (*claims.me, readable, claims.generation)
        claimed = [(key, token, *claimer) for key, token in zip(keys, claims.tokens, strict=True)]

        def work(connection: sqlite3.Connection) -> tuple[list[Any], list[Any]]:
            if connection.execute(IS_UP, (*claims.me, claims.generation)).fetchone() is None:
                raise Unavailable(f"{claims.me} is not up in the store and may claim nothing")
            if bars is None:
                connection.executemany(sql.insert, inserts)
            else:
                connection.executemany(sql.insert_barred, [(key, *bar) for key, bar in zip(made, bars, strict=True)])
                for revive, statement in REVIVED.items():
                    hashes = [(bar.hash,) for bar in bars if bar.revive == revive]
                    connection.executemany(statement.format("?", SQLITE_NOW), hashes)
            owned = _fetch(connection, sql.owned, keys)
            connection.executemany(sql.claim, claimed)
            return owned, _fetch(connection, sql.read, keys)

        owned, rows = await self._file.write(work)
        return Claimed({row[0]: _row(row) for row in rows}, set(keys) - {key for (key,) in owned})

    async def erasure_key(self) -> int:
        rows = await self._file.read(lambda connection: connection.execute(ERASURE_KEY_READ).fetchall())
        if not rows or type(rows[0][0]) is not int:
            raise Corrupt(NO_ERASURE_KEY)
        return int(rows[0][0])

    async def bar(self, hash: bytes, until_s: float) -> None:
        await self._change(BAR.format("?", "?"), hash, until_s)

    async def lift(self, hash: bytes) -> bool:
        return await self._change(LIFT.format("?"), hash) == 1

    async def pardon(self, hash: bytes) -> None:
        await self._change(PARDON.format("?"), hash)

    async def _change(self, statement: str, *given: Any) -> int:
        """Rows that a statement changes; on the disk then."""
        return await self._file.write(lambda connection: connection.execute(statement, given).rowcount, through=True)

    async def erase(self, mapping: Mapping, kind: str, key: str, hash: bytes) -> bool:
        given = (_statements(mapping), kind, key, hash)
        return await self._file.write(lambda connection: erase(connection, *given), through=True)

    async def floors(self, hashes: Sequence[bytes]) -> dict[bytes, int]:
        return dict(await self._file.read(lambda connection: _fetch(connection, FLOORS_SQLITE, hashes)))

    async def write(self, mapping: Mapping, batch: Batch) -> set[str]:
        sql = _statements(mapping)
        rows, added = _write_rows(batch), by_key(batch.additions)

        def work(connection: sqlite3.Connection) -> list[Any] | None:
            with_more = [(key, row) for key, row in zip(batch.keys, rows, strict=True) if key in added]
            plain = [row for key, row in zip(batch.keys, rows, strict=True) if key not in added] if added else rows
            hit = connection.executemany(sql.write, plain).rowcount if plain else 0
            hit += sum(_write_adding(connection, sql, row, added[key]) for key, row in with_more)
            return None if hit == len(rows) else _fetch(connection, sql.versions, batch.keys)

        found = await self._file.write(work)
        if found is None:
            return set()
        wanted = dict(zip(batch.keys, zip(batch.epochs, batch.versions, strict=True), strict=True))
        return set(batch.keys) - {row[0] for row in found if is_stored(Versions(*row), *wanted[row[0]])}

    async def release(
        self, mapping: Mapping, keys: Sequence[str], epochs: Sequence[int], told: Sequence[bool], generation: int
    ) -> None:
        rows = [(*row, generation) for row in zip(told, keys, epochs, strict=True)]
        await self._file.write(lambda connection: connection.executemany(_statements(mapping).release, rows).rowcount)

    async def migrate(self, mapping: Mapping, moves: Moves, generation: int) -> set[str]:
        sql = _statements(mapping)
        steps = [
            (key, epoch, *to, next_seq, token, generation)
            for key, epoch, to, next_seq, token in zip(
                moves.keys, moves.epochs, moves.targets, moves.next_seqs, moves.tokens, strict=True
            )
        ]
        batch = moves.states
        states = dict(zip(batch.keys, _write_rows(batch), strict=True)) if batch is not None else {}
        added = by_key(batch.additions) if batch is not None else {}

        def work(connection: sqlite3.Connection) -> tuple[set[str], list[Any]]:
            moved = set()
            for step in steps:
                key = step[0]
                if connection.execute(sql.move, step).rowcount == 1:
                    moved.add(key)
                    if key in states:
                        _write_adding(connection, sql, states[key], added.get(key, []))
            return moved, _fetch(connection, sql.owners, [key for key in moves.keys if key not in moved])

        return refused_moves(moves, *await self._file.write(work))

    async def read(self, mapping: Mapping, keys: Sequence[str]) -> list[Row]:
        rows = await self._file.read(lambda connection: _fetch(connection, _statements(mapping).read, keys))
        return [_row(row) for row in rows]

    async def count_owned(self, mapping: Mapping) -> dict[NodeAddress, int]:
        statement = _statements(mapping).count_owned
        rows = await self._file.read(lambda connection: connection.execute(statement).fetchall())
        return {NodeAddress(NodeId(node), Incarnation(run)): count for node, run, count in rows}

    async def orphans(self, mapping: Mapping, limit: int, after: str) -> list[str]:
        rows = await self._file.read(
            lambda connection: connection.execute(_statements(mapping).unowned, (limit, after)).fetchall()
        )
        return [key for (key,) in rows]

    async def strays(self, mapping: Mapping, limit: int, after: str) -> list[str]:
        rows = await self._file.read(
            lambda connection: connection.execute(_statements(mapping).strays, (limit, after)).fetchall()
        )
        return [key for (key,) in rows]

    # ---- reminders ----

    async def set_reminder(self, mapping: Mapping, reminder: ReminderRow) -> bool:
        return await self._remind(mapping, reminder, REMINDER_SET_SQLITE, (*reminder[1:], reminder.due_ms))

    async def unset_reminder(self, mapping: Mapping, reminder: ReminderRow) -> bool:
        return await self._remind(mapping, reminder, REMINDER_UNSET_SQLITE, reminder[1:])

    async def _remind(self, mapping: Mapping, of: ReminderRow, statement: str, given: tuple[Any, ...]) -> bool:
        """Nobody claims the actor in between: the transaction has the file's one write lock."""

        def work(connection: sqlite3.Connection) -> bool:
            if not connection.execute(_statements(mapping).is_at, (of.key, of.epoch)).fetchall():
                return False
            connection.execute(statement, given).close()
            return True

        return await self._file.write(work)

    async def drop_reminder(self, reminder: ReminderRow) -> None:
        await self._file.write(lambda connection: connection.execute(_REMINDER_DROP, reminder).rowcount)

    async def due_reminders(self, until_ms: int, limit: int, after: ReminderRow) -> list[ReminderRow]:
        given = (*after[:4], until_ms, limit)
        rows = await self._file.read(lambda connection: connection.execute(_REMINDERS_DUE, given).fetchall())
        return [ReminderRow(*row) for row in rows]

    # ---- logs ----

    async def append(
        self,
        mapping: Mapping,
        kind: str,
        keys: Sequence[str],
        batch: Sequence[Append],
        projection: Projection | None,
        through: bool,
    ) -> set[str]:
        sql = _statements(mapping)
        steps = [
            (
                key,
                (a.last_seq + 1, a.head, key, a.epoch, a.first_seq, a.prev_head),
                (kind, key, a.first_seq, a.last_seq, False, a.data),
            )
            for key, a in zip(keys, batch, strict=True)
        ]
        projected = projection_rows(projection)

        def work(connection: sqlite3.Connection) -> tuple[set[str], list[Any]]:
            written = set()
            for key, advance, chunk in steps:
                if connection.execute(sql.advance, advance).rowcount == 1:
                    connection.execute(CHUNK_INSERT_SQLITE, chunk)
                    written.add(key)
            note_recorders(connection, kind, batch, written)
            for key, row, children in projected:
                if key in written:
                    project(connection, sql, key, row, children)
            return written, _fetch(connection, sql.versions, [key for key in keys if key not in written])

        written, missed = await self._file.write(work, through=through)
        wanted = dict(zip(keys, batch, strict=True))
        return written | {row[0] for row in missed if is_appended(Versions(*row), wanted[row[0]])}

    async def seal(self, mapping: Mapping, kind: str, key: str, seal: Seal) -> bool:
        span = (kind, key, seal.first_seq, seal.last_seq)

        def work(connection: sqlite3.Connection) -> bool:
            end = connection.execute(_statements(mapping).end, (key,)).fetchone()
            if end is None or end[2] != seal.epoch:
                return False
            found = connection.execute(CHUNK_COVERED.format(*_PLACES), span).fetchall()
            if replaces(seal, [(first, last, bool(sealed)) for first, last, sealed in found]):
                connection.execute(CHUNK_DELETE.format(*_PLACES), span)
                connection.execute(CHUNK_INSERT_SQLITE, (*span, True, seal.data))
            return True

        return await self._file.write(work)

    async def insert_log(
        self, mapping: Mapping, kind: str, key: str, log: WholeLog, projection: Projection
    ) -> tuple[int, bytes] | None:
        sql = _statements(mapping)

        def work(connection: sqlite3.Connection) -> tuple[int, bytes] | None:
            connection.execute(sql.insert, (key,))
            filled = connection.execute(sql.fill, (key, log.last_seq + 1, log.head)).fetchall()
            if not filled:
                next_seq, head, _ = connection.execute(sql.end, (key,)).fetchone()
                return next_seq, head
            put_log(connection, kind, key, log)
            for _, row, children in projection_rows(projection.at(filled[0][0])):
                project(connection, sql, key, row, children)
            return None

        return await self._file.write(work, through=True)

    async def redact(
        self, mapping: Mapping, kind: str, key: str, was: StoredLog, log: WholeLog, projection: Projection
    ) -> bool:
        sql = _statements(mapping)

        def work(connection: sqlite3.Connection) -> bool:
            epochs = connection.execute(sql.redact, (key, was.next_seq, was.head, log.head)).fetchall()
            if not epochs:
                end = connection.execute(sql.end, (key,)).fetchone()
                return end is not None and end[:2] == (was.next_seq, log.head)
            put_log(connection, kind, key, log)
            for children in sql.children:
                connection.execute(children.clear, (key,))
            for _, row, rows in projection_rows(projection.at(epochs[0][0])):
                project(connection, sql, key, row, rows)
            return True

        return await self._file.write(work, through=True)

    async def list_logs(self, mapping: Mapping, limit: int, after: str) -> list[str]:
        given = (_statements(mapping).list_logs, (limit, after))
        return [key for (key,) in await self._file.read(lambda connection: connection.execute(*given).fetchall())]

    async def list_over(
        self, mapping: Mapping, kind: str, limit: int, after: tuple[int, str], newest_first: bool
    ) -> list[OverRow]:
        sql = _of_over(mapping)
        given = (sql.last if newest_first else sql.first, (*after, limit, kind))
        rows = await self._file.read(lambda connection: connection.execute(*given).fetchall())
        numbers = [row for row in rows if all(type(number) is int for number in row[1:4])]
        return [OverRow(key, at, epoch, size, bool(pin), bool(held)) for key, at, epoch, size, pin, held in numbers]

    async def delete_logs(self, mapping: Mapping, kind: str, keys: Sequence[str], epochs: Sequence[int]) -> set[str]:
        sql = _of_over(mapping)

        def work(connection: sqlite3.Connection) -> set[str]:
            deleted, highest = set(), 0
            for key, epoch in zip(keys, epochs, strict=True):
                if connection.execute(sql.delete, (key, epoch)).rowcount != 1:
                    continue
                for statement in OF_LOG_DELETE_SQLITE:
                    connection.execute(statement, (kind, key))
                for statement in sql.children:
                    connection.execute(statement, (key,))
                deleted.add(key)
                highest = max(highest, epoch)
            if deleted:
                connection.execute(RAISE_SQLITE, (highest,))
            return deleted

        return await self._file.write(work)

    async def pin_log(self, mapping: Mapping, key: str, pinned: bool) -> bool:
        given = (_of_over(mapping).pin, (pinned, key))
        return await self._file.write(lambda connection: connection.execute(*given).rowcount, through=True) == 1

    async def now_ms(self) -> int:
        statement = f"SELECT CAST({SQLITE_NOW} * 1000 AS INTEGER)"
        (now,) = await self._file.read(lambda connection: connection.execute(statement).fetchone())
        return int(now)

    async def read_log(self, mapping: Mapping, kind: str, key: str, from_seq: int | None, to_seq: int) -> Ends | None:
        def work(connection: sqlite3.Connection) -> tuple[Any, list[Any], list[Any]]:
            end = connection.execute(_statements(mapping).end, (key,)).fetchone()
            if from_seq is None:
                return end, connection.execute(CHUNKS_TAIL.format(*_PLACES), (kind, key)).fetchall(), []
            marks = connection.execute(REDACTIONS.format(*_PLACES), (kind, key)).fetchall() if from_seq == 1 else []
            found = connection.execute(CHUNKS_FROM.format(*_PLACES), (kind, key, from_seq, to_seq)).fetchall()
            return end, found, marks

        end, found, marks = await self._file.read(work)
        if end is None:
            return None
        chunks = [Chunk(first, last, bool(sealed), data) for first, last, sealed, data in found]
        return Ends(end[0], end[1], chunks, tuple(Redaction(*mark) for mark in marks))


def _write_rows(batch: Batch) -> list[tuple[Any, ...]]:
    return list(
        zip(batch.epochs, batch.versions, *batch.columns, batch.keys, batch.epochs, batch.versions, strict=True)
    )


def _write_adding(
    connection: sqlite3.Connection, sql: SqliteStatements, row: tuple[Any, ...], added: list[tuple[Any, ...]]
) -> bool:
    """Write one state, and what it brings along. False where it is not hit: nothing is added then."""
    hit = connection.execute(sql.write, row).rowcount == 1
    if not hit or not added:
        return hit
    if sql.drop:
        keys = sql.drop.count("?")
        connection.executemany(sql.drop, [more[:keys] for more in added if more[-1]])
        added = [more[:-1] for more in added if not more[-1]]
    if not sql.sums:
        connection.executemany(sql.add, added)
        return hit
    for more in added:
        if connection.execute(sql.add, more).rowcount == 1:
            for statement in sql.sums:
                connection.execute(statement, more[: sql.adds_keys])
    return hit


def _fetch(connection: sqlite3.Connection, statement: str, keys: Sequence[str] | Sequence[bytes]) -> list[Any]:
    """Rows of `keys`, asked for in lists that are within SQLite's bounds."""
    rows: list[Any] = []
    for start in range(0, len(keys), IN_LIST):
        some = keys[start : start + IN_LIST]
        rows += connection.execute(statement % ",".join("?" * len(some)), some).fetchall()
    return rows


def _row(row: Sequence[Any]) -> Row:
    return Row._make((*row[:9], bool(row[9]), row[10:]))
