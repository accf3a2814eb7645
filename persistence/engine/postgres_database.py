"""The ownership protocol on PostgreSQL: leases, claims, fenced writes and logs."""

import random
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any, Final

from persistence.engine import identity
from persistence.engine.mapping import Mapping
from persistence.engine.over import PostgresOver
from persistence.engine.postgres import ALL_LANES, Lane, PostgresPool, affected
from persistence.engine.postgres_rows import insert_rows, of_keys, project
from persistence.engine.postgres_runs import IS_UP, PostgresRuns, addresses
from persistence.engine.recorders import note_recorders_postgres
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
from persistence.engine.statements import (
    BAR,
    CHUNK_COVERED,
    CHUNK_DELETE,
    CHUNK_INSERT,
    CHUNKS_FROM,
    CHUNKS_TAIL,
    ERASURE_KEY_READ,
    FLOORS_PG,
    LIFT,
    PARDON,
    PG_NOW,
    REDACTIONS,
    REMINDER_DROP,
    REMINDERS_DUE,
    PostgresStatements,
)
from persistence.engine.urls import Address
from persistence.engine.whole_rows import erase_postgres, put_log_postgres
from server.errors import Corrupt, Unavailable
from server.eventlog.ports import Append, Chunk, Redaction, Seal, StoredLog, WholeLog
from server.eventlog.sealing import replaces
from server.ids import Incarnation, NodeAddress, NodeId
from server.settings import StoreSettings
from server.storage.ports import DatabaseIdentity

CLAIM_ROUNDS: Final = 3
_PLACES: Final = ("$1", "$2", "$3", "$4")

_MISSING_RIGHTS = (
    # `to_regclass` is NULL for a table that is not there: the schema's version says that better.
    "SELECT w.name, w.allowed FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w(name, allowed, place) "
    "WHERE NOT has_table_privilege(to_regclass(quote_ident(w.name)), w.allowed) ORDER BY w.place"
)
_WRITE_PLACE = "UPDATE database_identity SET place = $1 WHERE place = $2"
_DOLLARS: Final = ("$1", "$2", "$3", "$4", "$5", "$6")
_REMINDER_DROP = REMINDER_DROP.format(*_DOLLARS)
_REMINDERS_DUE = REMINDERS_DUE.format(*_DOLLARS)


@lru_cache(256)
def _statements(mapping: Mapping) -> PostgresStatements:
    return PostgresStatements(mapping)


@lru_cache(256)
def _of_over(mapping: Mapping) -> PostgresOver:
    assert mapping.over is not None, "a kind that is never over has no such statement"
    return PostgresOver(mapping, mapping.over)


class PostgresDatabase(PostgresRuns):
    """`persistence.engine.rows.Database` on PostgreSQL."""

    def __init__(
        self, address: Address, settings: StoreSettings, rng: random.Random, lanes: Collection[Lane] = ALL_LANES
    ) -> None:
        super().__init__(PostgresPool(address, settings, rng, lanes))

    async def open(self) -> None:
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close()

    @property
    def under_way(self) -> int:
        return self._pool.under_way

    def surrender(self) -> None:
        self._pool.surrender()

    async def schema_version(self, table: str) -> str | None:
        async def work(connection: Any) -> str | None:
            if await connection.fetchval("SELECT to_regclass($1)::text", table) is None:
                return None
            found: str | None = await connection.fetchval(f"SELECT max(version_num) FROM {table}")
            return found

        return await self._pool.run(work)

    async def missing_rights(self, wanted: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        given = [table for table, _ in wanted], [right for _, right in wanted]
        return [
            tuple(row) for row in await self._pool.run(lambda connection: connection.fetch(_MISSING_RIGHTS, *given))
        ]

    async def identity(self) -> tuple[DatabaseIdentity, str]:
        async def work(connection: Any) -> tuple[DatabaseIdentity, str]:
            rows = await connection.fetch(identity.READ)
            oid, may_ask = await connection.fetchrow(identity.PG_OID)
            system = await connection.fetchval(identity.PG_SYSTEM) if may_ask else None
            return identity.stored(rows), identity.postgres_place(oid, system)

        return await self._pool.run(work)

    async def write_place(self, before: str, place: str) -> None:
        await self._pool.run(lambda connection: connection.execute(_WRITE_PLACE, place, before))

    # ---- fenced state ----

    async def claim(self, mapping: Mapping, claims: ClaimBatch) -> Claimed:
        """Claim in two statements: first the rows without an owner, since PostgreSQL does not say what an updated
        row was before."""
        sql = _statements(mapping)
        me, made, generation = claims.me, claims.made, claims.generation
        token_of = dict(zip(claims.keys, claims.tokens, strict=True))
        readable = None if claims.journals is None else list(claims.journals)
        bar_of = None if claims.bars is None else dict(zip(made, claims.bars, strict=True))

        async def claim(connection: Any, statement: str, keys: list[str], *more: Any) -> dict[str, Row]:
            given = (keys, [token_of[key] for key in keys], *me, generation, *more)
            return {row[0]: _row(row) for row in await connection.fetch(statement, *given)}

        async def work(connection: Any) -> Claimed:
            rows: dict[str, Row] = {}
            clean: set[str] = set()
            open_keys = list(claims.keys)
            for _ in range(CLAIM_ROUNDS):
                if new := [key for key in made if key not in rows]:  # again: one may be deleted meanwhile
                    await insert_rows(connection, sql, new, bar_of)
                rows |= (unowned := await claim(connection, sql.claim, open_keys))
                clean |= unowned.keys()
                missed = [key for key in open_keys if key not in rows]
                if missed:
                    rows |= await claim(connection, sql.take_over, missed, readable)
                missed = [key for key in missed if key not in rows]
                if not missed:
                    return Claimed(rows, clean)
                if await connection.fetchval(IS_UP, *me, generation) is None:
                    raise Unavailable(f"{me} is not up in the store and may claim nothing")
                absent = set(missed).difference(made if bar_of is None else ())
                for row in await connection.fetch(sql.read, missed):
                    absent.discard(row[0])
                    if not _free(found := _row(row), token_of[row[0]], me):
                        rows[found.key] = found
                open_keys = [key for key in missed if key not in rows and key not in absent]
                if not open_keys:
                    return Claimed(rows, clean)
            raise Unavailable("claims race with releases of the same rows", retry_after_s=0.1)

        return await self._pool.run(work, transaction="BEGIN")

    async def erasure_key(self) -> int:
        found = await self._pool.run(lambda connection: connection.fetchval(ERASURE_KEY_READ))
        if found is None:
            raise Corrupt(NO_ERASURE_KEY)
        return int(found)

    async def bar(self, hash: bytes, until_s: float) -> None:
        await self._pool.run(lambda connection: connection.execute(BAR.format("$1", "$2"), hash, until_s))

    async def lift(self, hash: bytes) -> bool:
        return affected(await self._pool.run(lambda connection: connection.execute(LIFT.format("$1"), hash))) == 1

    async def pardon(self, hash: bytes) -> None:
        await self._pool.run(lambda connection: connection.execute(PARDON.format("$1"), hash))

    async def erase(self, mapping: Mapping, kind: str, key: str, hash: bytes) -> bool:
        given = (_statements(mapping), kind, key, hash)
        return await self._pool.run(lambda connection: erase_postgres(connection, *given), transaction="BEGIN")

    async def floors(self, hashes: Sequence[bytes]) -> dict[bytes, int]:
        return dict(await self._pool.run(lambda connection: connection.fetch(FLOORS_PG, hashes)))

    async def write(self, mapping: Mapping, batch: Batch) -> set[str]:
        sql = _statements(mapping)

        async def work(connection: Any) -> set[str]:
            hit = await connection.fetch(*_write(sql, batch))
            if len(hit) == len(batch.keys):
                return set()
            wanted = dict(zip(batch.keys, zip(batch.epochs, batch.versions, strict=True), strict=True))
            refused = set(batch.keys) - {row[0] for row in hit}
            for row in await connection.fetch(sql.versions, sorted(refused)):
                if is_stored(Versions(*row), *wanted[row[0]]):
                    refused.remove(row[0])
            return refused

        return await self._pool.run(work)

    async def release(
        self, mapping: Mapping, keys: Sequence[str], epochs: Sequence[int], told: Sequence[bool], generation: int
    ) -> None:
        given = (_statements(mapping).release, keys, epochs, told, generation)
        await self._pool.run(lambda connection: connection.execute(*given))

    async def migrate(self, mapping: Mapping, moves: Moves, generation: int) -> set[str]:
        sql = _statements(mapping)
        columns = (moves.keys, moves.epochs, *addresses(moves.targets), moves.next_seqs, moves.tokens, generation)

        async def work(connection: Any) -> set[str]:
            moved = {row[0] for row in await connection.fetch(sql.move, *columns)}
            if moves.states is not None:
                batch = of_keys(moves.states, moved)
                await connection.execute(*_write(sql, batch))
            missed = [key for key in moves.keys if key not in moved]
            return refused_moves(moves, moved, await connection.fetch(sql.owners, missed) if missed else [])

        return await self._pool.run(work, transaction="BEGIN")

    async def read(self, mapping: Mapping, keys: Sequence[str]) -> list[Row]:
        rows = await self._pool.run(lambda connection: connection.fetch(_statements(mapping).read, keys))
        return [_row(row) for row in rows]

    async def count_owned(self, mapping: Mapping) -> dict[NodeAddress, int]:
        statement = _statements(mapping).count_owned
        rows = await self._pool.run(lambda connection: connection.fetch(statement))
        return {NodeAddress(NodeId(node), Incarnation(run)): count for node, run, count in rows}

    async def orphans(self, mapping: Mapping, limit: int, after: str) -> list[str]:
        rows = await self._pool.run(lambda connection: connection.fetch(_statements(mapping).unowned, limit, after))
        return [row[0] for row in rows]

    async def strays(self, mapping: Mapping, limit: int, after: str) -> list[str]:
        rows = await self._pool.run(lambda connection: connection.fetch(_statements(mapping).strays, limit, after))
        return [row[0] for row in rows]

    # ---- reminders ----

    async def set_reminder(self, mapping: Mapping, reminder: ReminderRow) -> bool:
        given = (_statements(mapping).set_reminder, *reminder[1:], reminder.due_ms)
        return await self._pool.run(lambda connection: connection.fetchval(*given)) is not None

    async def unset_reminder(self, mapping: Mapping, reminder: ReminderRow) -> bool:
        given = (_statements(mapping).unset_reminder, *reminder[1:])
        return await self._pool.run(lambda connection: connection.fetchval(*given)) is not None

    async def drop_reminder(self, reminder: ReminderRow) -> None:
        await self._pool.run(lambda connection: connection.execute(_REMINDER_DROP, *reminder))

    async def due_reminders(self, until_ms: int, limit: int, after: ReminderRow) -> list[ReminderRow]:
        given = (*after[:4], until_ms, limit)
        rows = await self._pool.run(lambda connection: connection.fetch(_REMINDERS_DUE, *given))
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
        is_more = projection is not None or any(append.recorder is not None for append in batch)
        columns = (
            kind,
            keys,
            [append.epoch for append in batch],
            [append.first_seq for append in batch],
            [append.last_seq for append in batch],
            [append.prev_head for append in batch],
            [append.head for append in batch],
            [append.data for append in batch],
        )

        async def work(connection: Any) -> set[str]:
            written = {row[0] for row in await connection.fetch(sql.append, *columns)}
            await note_recorders_postgres(connection, kind, batch, written)
            if projection is not None:
                await project(connection, sql, projection, written)
            if len(written) < len(batch):
                wanted = {key: append for key, append in zip(keys, batch, strict=True) if key not in written}
                for row in await connection.fetch(sql.versions, list(wanted)):
                    if is_appended(Versions(*row), wanted[row[0]]):
                        written.add(row[0])
            return written

        return await self._pool.run(work, transaction="BEGIN" if is_more else None)

    async def seal(self, mapping: Mapping, kind: str, key: str, seal: Seal) -> bool:
        async def work(connection: Any) -> bool:
            if await connection.fetchval(_statements(mapping).lock, key) != seal.epoch:
                return False
            span = (kind, key, seal.first_seq, seal.last_seq)
            found = await connection.fetch(CHUNK_COVERED.format(*_PLACES), *span)
            if replaces(seal, [tuple(row) for row in found]):
                await connection.execute(CHUNK_DELETE.format(*_PLACES), *span)
                await connection.execute(CHUNK_INSERT, *span, seal.data)
            return True

        return await self._pool.run(work, transaction="BEGIN")

    async def insert_log(
        self, mapping: Mapping, kind: str, key: str, log: WholeLog, projection: Projection
    ) -> tuple[int, bytes] | None:
        sql = _statements(mapping)

        async def work(connection: Any) -> tuple[int, bytes] | None:
            await connection.execute(sql.insert, [key])
            epoch = await connection.fetchval(sql.fill, key, log.last_seq + 1, log.head)
            if epoch is None:
                next_seq, head = await connection.fetchrow(sql.end, key)
                return next_seq, head
            await put_log_postgres(connection, kind, key, log)
            await project(connection, sql, projection.at(epoch), {key})
            return None

        return await self._pool.run(work, transaction="BEGIN")

    async def redact(
        self, mapping: Mapping, kind: str, key: str, was: StoredLog, log: WholeLog, projection: Projection
    ) -> bool:
        sql = _statements(mapping)

        async def work(connection: Any) -> bool:
            epoch = await connection.fetchval(sql.redact, key, was.next_seq, was.head, log.head)
            if epoch is None:
                end = await connection.fetchrow(sql.end, key)
                return end is not None and tuple(end) == (was.next_seq, log.head)
            await put_log_postgres(connection, kind, key, log)
            for children in sql.children:
                await connection.execute(children.clear, key)
            await project(connection, sql, projection.at(epoch), {key})
            return True

        return await self._pool.run(work, transaction="BEGIN")

    async def list_logs(self, mapping: Mapping, limit: int, after: str) -> list[str]:
        statement = _statements(mapping).list_logs
        return [row[0] for row in await self._pool.run(lambda connection: connection.fetch(statement, limit, after))]

    async def list_over(
        self, mapping: Mapping, kind: str, limit: int, after: tuple[int, str], newest_first: bool
    ) -> list[OverRow]:
        sql = _of_over(mapping)
        given = (sql.last if newest_first else sql.first, *after, limit, kind)
        return [OverRow(*row) for row in await self._pool.run(lambda connection: connection.fetch(*given))]

    async def delete_logs(self, mapping: Mapping, kind: str, keys: Sequence[str], epochs: Sequence[int]) -> set[str]:
        sql = _of_over(mapping)

        async def work(connection: Any) -> set[str]:
            locked = [row[0] for row in await connection.fetch(sql.lock, keys, epochs)]
            if locked:
                await connection.execute(sql.delete, kind, locked)
            return set(locked)

        return await self._pool.run(work, transaction="BEGIN")

    async def pin_log(self, mapping: Mapping, key: str, pinned: bool) -> bool:
        given = (_of_over(mapping).pin, key, pinned)
        return await self._pool.run(lambda connection: connection.fetchval(*given)) is not None

    async def now_ms(self) -> int:
        now: int = await self._pool.run(lambda connection: connection.fetchval(f"SELECT ({PG_NOW} * 1000)::int8"))
        return now

    async def read_log(self, mapping: Mapping, kind: str, key: str, from_seq: int | None, to_seq: int) -> Ends | None:
        async def work(connection: Any) -> Ends | None:
            end = await connection.fetchrow(_statements(mapping).end, key)
            if end is None:
                return None
            marks = []
            if from_seq is None:
                found = await connection.fetch(CHUNKS_TAIL.format(*_PLACES), kind, key)
            else:
                found = await connection.fetch(CHUNKS_FROM.format(*_PLACES), kind, key, from_seq, to_seq)
            if from_seq == 1:
                marks = await connection.fetch(REDACTIONS.format(*_PLACES), kind, key)
            return Ends(end[0], end[1], [Chunk(*row) for row in found], tuple(Redaction(*mark) for mark in marks))

        return await self._pool.run(work, transaction="BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")


def _write(sql: PostgresStatements, batch: Batch) -> tuple[Any, ...]:
    """The statement that writes `batch`, and its parameters."""
    statement = sql.write_adding if batch.additions else sql.write
    return (statement, batch.keys, batch.epochs, batch.versions, *batch.columns, *batch.additions)


def _free(row: Row, token: int, me: NodeAddress) -> bool:
    """Whether the row became claimable after the claim had passed it by."""
    stale = row.owner_incarnation == me.incarnation and row.claim_token >= token
    return row.owner_node is None and not stale


def _row(record: Any) -> Row:
    return Row._make((*record[:10], record[10:]))
