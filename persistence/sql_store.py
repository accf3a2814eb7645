"""`SqlStore`: the engine's `Store` and `LogStore` on PostgreSQL or SQLite.

States are encoded here, before any transaction, and decoded here, after it; what lies below
(`persistence/engine`) moves columns. A kind with a mapping has a table of its own; any other
kind goes to table `actors` as msgpack. Where an entity has an event log, the log is the truth:
`claim` and `read` then give no state, only the versions and the log's end.

Epochs are never reset. Rows of owned entities are deleted with their logs only (`persistence/engine/over.py`), and who
comes after one has a higher epoch; making another entity anew means writing an empty state over it. Incarnations rise
over all nodes together.
"""

import asyncio
import random
import time
from collections.abc import Collection, Iterable, Sequence
from collections.abc import Mapping as Map
from typing import Any

import msgspec

from persistence.engine import identity, tables
from persistence.engine.keyed_hashes import KeyedHashes
from persistence.engine.mapping import Columns, GenericMapping, Mapping, Totals
from persistence.engine.rows import (
    Bar,
    Batch,
    ChildRows,
    ClaimBatch,
    Database,
    Moves,
    Projection,
    ReminderRow,
    Row,
    has_facts,
    has_log,
)
from persistence.engine.sqlite_database import SqliteDatabase
from persistence.engine.tables import SCHEMA_VERSION, VERSION_TABLE, newer
from persistence.engine.urls import FIELD, Address, parse
from persistence.sql_runs import SqlRuns
from server.actors.facts import RowFacts
from server.errors import BadSetting, Corrupt, Internal
from server.eventlog.ports import (
    Append,
    AppendResult,
    DeleteResult,
    InsertResult,
    OverLog,
    RedactResult,
    Seal,
    StoredLog,
    WholeLog,
)
from server.eventlog.sealing import check_same, check_whole
from server.ids import ActorId, Epoch, Incarnation, NodeAddress, NodeId, actor_id, key_of, kind_of
from server.settings import StoreSettings
from server.storage.ports import (
    Absent,
    Change,
    Claim,
    ClaimResult,
    DatabaseIdentity,
    Elsewhere,
    EntityMove,
    Erased,
    MoveResult,
    Owned,
    Reminder,
    Stored,
    WriteResult,
)

MAX_CLAIMS = 500
STRETCH_S = 0.002
"""Time for which states are decoded before the loop does other things: 500 lists of friends take 100 times that."""
RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
"""Rights of a node on each of its tables."""
NAMED_RIGHTS = 6
"""Missing rights that an error names."""
_FOREVER = 2**62
"""Above any sequence number, and within a column of 64 bits."""
_BEFORE_ALL = ReminderRow(-(2**62), "", "", "", 0, 0)


class SqlStore(SqlRuns):
    """Implements `server.storage.ports.Store` and `server.eventlog.ports.LogStore`.

    `state_types` names every durable kind's state; `mappings` those with columns of their own; `versions`, of
    the application's migrations, its version table and the revision that it needs there; `open_facts` says of kinds
    with facts whether a state has an open one, for the column of that name; `personal` are kinds whose keys are people.
    """

    def __init__(
        self,
        settings: StoreSettings,
        state_types: Map[str, type[msgspec.Struct]],
        mappings: Map[str, Mapping] | None = None,
        rng: random.Random | None = None,
        versions: Map[str, str] | None = None,
        open_facts: RowFacts | None = None,
        personal: Collection[str] = (),
    ) -> None:
        self._address = parse(settings.url)
        super().__init__(_database_of(self._address, settings, rng or random.Random()))
        self._opened: tuple[DatabaseIdentity, str] | None = None
        """The database that was opened, and its place then."""
        self._versions = {VERSION_TABLE: SCHEMA_VERSION, **(versions or {})}
        own = mappings or {}
        self._mappings: dict[str, Mapping] = {
            kind: own.get(kind) or GenericMapping(kind, state_type) for kind, state_type in state_types.items()
        }
        self._open_facts = dict(open_facts or {})
        self._personal = frozenset(personal)
        self._hashes = KeyedHashes(self._database)

    async def open(self, *, reads_only: bool = False) -> None:
        """Connect, check the schema and, unless the caller `reads_only`, the rights that a node needs. Raises
        `BadSetting` (no such database, not writable, to be migrated, rights are missing), `Corrupt` (a file that is
        no database), `Unavailable`."""
        await self._database.open()
        try:
            await self._check_rights(self._versions, ("SELECT",))
            await self._check_versions()
            if not reads_only:
                await self._check_rights(self._tables(), RIGHTS)
                await self._identify()
        except BaseException:
            await self._database.close()
            raise

    @property
    def identity(self) -> DatabaseIdentity:
        """The database that was opened, not only to read."""
        assert self._opened is not None, "open first"
        return self._opened[0]

    async def check(self) -> None:
        """Raises `BadSetting` for another schema than this program's, or another database than was opened,
        `Unavailable`."""
        await self._check_versions()
        if self._opened is None:
            return
        opened, place = self._opened
        found, here = await self._database.identity()
        if found.name != opened.name or not identity.is_same(place, here):
            names = f"{found.name} ({here}) and no longer {opened.name} ({place})"
            raise BadSetting(FIELD, f"{self._address.shown} is database {names}: start the nodes on it anew")

    async def _check_versions(self) -> None:
        for table, wanted in self._versions.items():
            await self._check_version(table, wanted)

    async def _identify(self) -> None:
        """Look whether the database is where it was when nodes last ran on it; the first of them writes that. Raises
        `BadSetting`, `Corrupt`."""
        found, here = await self._database.identity()
        if identity.is_new(found.place, here):
            await self._database.write_place(found.place, here)
        elif not identity.is_same(found.place, here):
            raise BadSetting(FIELD, identity.moved(self._address.shown, found, here))
        self._opened = found, here

    def _tables(self) -> list[str]:
        """Every table that a node reads and writes."""
        shared = [tables.database_identity, tables.nodes, tables.counters, tables.tombstones]
        shared += [tables.actors, tables.log_chunks, tables.log_recorders, tables.redactions, tables.reminders]
        own = [mapping.table for mapping in self._mappings.values()]
        own += [children.table for mapping in self._mappings.values() for children in mapping.children]
        own += [mapping.additions.table for mapping in self._mappings.values() if mapping.additions is not None]
        own += [total.table for mapping in self._mappings.values() for total in _totals(mapping)]
        return list(dict.fromkeys(table.name for table in (*shared, *own)))

    async def _check_rights(self, names: Iterable[str], rights: Sequence[str]) -> None:
        """Raises `BadSetting`. Without one of them a node would be ready and its first change of that sort would
        fail and be tried again, for as long as nobody looks."""
        missing = await self._database.missing_rights([(name, right) for name in names for right in rights])
        if missing:
            lacks = ", ".join(f"{right} on {name}" for name, right in missing[:NAMED_RIGHTS])
            more = f" and {len(missing) - NAMED_RIGHTS} more" if len(missing) > NAMED_RIGHTS else ""
            raise BadSetting(FIELD, f"the user of {self._address.shown} lacks {lacks}{more}: GRANT them")

    async def _check_version(self, table: str, wanted: str) -> None:
        """Raises `BadSetting`. Only the engine's revisions are known to be in the order of their names."""
        found = await self._database.schema_version(table)
        if found == wanted:
            return
        where, app = self._address.shown, table.removeprefix(VERSION_TABLE).removeprefix("_")
        if found is not None and not app and found > wanted:
            raise BadSetting(FIELD, f"{where} {newer(found)}")
        has = "is empty" if found is None else f"has schema {found}"
        if app:
            has = f"has no tables of {app}" if found is None else f"has schema {app}: {found}"
        raise BadSetting(FIELD, f"{where} {has} and this program needs {wanted}: run `garrison migrate`")

    async def close(self) -> None:
        await self._database.close()

    @property
    def under_way(self) -> int:
        return self._database.under_way

    def surrender(self) -> None:
        self._database.surrender()

    # ---- fenced state ----

    async def claim(
        self,
        kind: str,
        claims: Sequence[Claim],
        me: NodeAddress,
        journals: Collection[str] | None = None,
        generation: int = 0,
    ) -> dict[ActorId, ClaimResult | Corrupt]:
        """See the port. A claim whose token is not newer than one of mine that the store has
        seen is refused with my own address, unless it is that very claim again."""
        if not claims:
            return {}
        if len(claims) > MAX_CLAIMS:
            raise Internal(f"at most {MAX_CLAIMS} claims at once, not {len(claims)}")
        mapping = self._mapping(kind)
        keys = [key_of(claim.id) for claim in claims]
        made = [key for claim, key in zip(claims, keys, strict=True) if claim.make]
        bars: list[Bar] | None = None
        if kind in self._personal:
            hash_of = await self._hashes.ready()
            bars = [Bar(hash_of(key), claim.revive) for claim, key in zip(claims, keys, strict=True) if claim.make]
        tokens = [claim.token for claim in claims]
        found = await self._database.claim(mapping, ClaimBatch(keys, tokens, made, bars, me, journals, generation))
        results: dict[ActorId, ClaimResult | Corrupt] = {}
        rest_at = time.perf_counter() + STRETCH_S
        for claim, key in zip(claims, keys, strict=True):
            row = found.rows.get(key)
            nothing = Erased() if claim.make else Absent()
            results[claim.id] = nothing if row is None else self._claimed(mapping, claim, row, me, key in found.clean)
            if time.perf_counter() > rest_at:
                await asyncio.sleep(0)
                rest_at = time.perf_counter() + STRETCH_S
        return results

    def _claimed(self, mapping: Mapping, claim: Claim, row: Row, me: NodeAddress, clean: bool) -> ClaimResult | Corrupt:
        if fault := row.fault():
            return _corrupt(mapping, row, fault)
        if row.owner_incarnation == me.incarnation and row.owner_node in (None, me.node):
            if row.owner_node is None or row.claim_token != claim.token:
                return Elsewhere(me)
            state = _decode(mapping, row)
            if isinstance(state, Corrupt):
                return state
            epoch, state_epoch = Epoch(row.epoch), Epoch(row.state_epoch)
            ends = (row.next_seq, row.head, clean, row.open_facts)
            return Owned(epoch, state_epoch, row.state_version, state, *ends)
        return Elsewhere(NodeAddress(NodeId(row.owner_node or ""), Incarnation(row.owner_incarnation or 0)))

    # ---- erasure ----

    async def bar(self, key: str, until_s: float = 0.0) -> None:
        await self._database.bar(await self.hash_of(key), until_s)

    async def lift(self, key: str) -> bool:
        return await self._database.lift(await self.hash_of(key))

    async def pardon(self, key: str) -> None:
        await self._database.pardon(await self.hash_of(key))

    async def erase(self, kind: str, key: str) -> bool:
        return await self._database.erase(self._mapping(kind), kind, key, await self.hash_of(key))

    async def floors(self, kind: str, ids: Sequence[ActorId]) -> dict[ActorId, Epoch]:
        if kind not in self._personal or not ids:
            return {}
        hash_of = await self._hashes.ready()
        hashes = {hash_of(key_of(id)): id for id in ids}
        return {hashes[hash]: Epoch(epoch) for hash, epoch in (await self._database.floors(list(hashes))).items()}

    async def hash_of(self, key: str) -> bytes:
        """The keyed hash by which a person who was erased is known in this database."""
        return (await self._hashes.ready())(key)

    async def write(self, kind: str, changes: Sequence[Change]) -> dict[ActorId, WriteResult]:
        if not changes:
            return {}
        mapping = self._mapping(kind)
        after_slash = len(kind) + 1
        ids = [change.id for change in changes]
        epochs: list[int] = [change.epoch for change in changes]
        columns = self._columns(kind, ids, [change.state for change in changes])
        keys, versions = [id[after_slash:] for id in ids], [change.version for change in changes]
        batch = Batch(keys, epochs, versions, columns, _additions(mapping, keys, changes))
        results: dict[ActorId, WriteResult] = dict.fromkeys(ids, "written")
        for key in sorted(await self._database.write(mapping, batch)):
            results[actor_id(kind, key)] = "fenced"
        return results

    def _columns(self, kind: str, ids: Sequence[ActorId], states: Sequence[Any]) -> Columns:
        """The columns that states are written to: those of their mapping, and whether a fact is open."""
        mapping = self._mapping(kind)
        columns = mapping.encode(states)
        if has_facts(mapping):
            is_open = self._open_facts.get(kind)
            columns = [*columns, [is_open is not None and is_open(*pair) for pair in zip(ids, states, strict=True)]]
        return columns

    async def release(
        self,
        kind: str,
        held: Sequence[tuple[ActorId, Epoch]],
        told: Collection[ActorId] = (),
        generation: int = 0,
    ) -> None:
        if held:
            keys = [key_of(identity) for identity, _ in held]
            told_all = [identity in told for identity, _ in held]
            epochs = [epoch for _, epoch in held]
            await self._database.release(self._mapping(kind), keys, epochs, told_all, generation)

    async def migrate(self, kind: str, moves: Sequence[EntityMove], generation: int = 0) -> dict[ActorId, MoveResult]:
        """See the port. Raises `Internal` for a `next_seq` of a kind that has no log."""
        if not moves:
            return {}
        mapping = self._logged(kind) if any(move.next_seq for move in moves) else self._mapping(kind)
        results: dict[ActorId, MoveResult] = {move.id: "moved" for move in moves}
        for key in sorted(await self._database.migrate(mapping, self._encoded(kind, moves), generation)):
            results[actor_id(kind, key)] = "fenced"
        return results

    async def count_owned(self, kind: str) -> dict[NodeAddress, int]:
        return await self._database.count_owned(self._mapping(kind))

    async def orphans(self, kind: str, limit: int, after: ActorId | None = None) -> list[ActorId]:
        mapping = self._mapping(kind)
        if mapping.live is None and not has_facts(mapping):
            return []
        keys = await self._database.orphans(mapping, limit, "" if after is None else key_of(after))
        return [_identity(kind, key) for key in keys]

    async def strays(self, kind: str, limit: int, after: ActorId | None = None) -> list[ActorId]:
        mapping = self._mapping(kind)
        if mapping.here is None:
            return []
        keys = await self._database.strays(mapping, limit, "" if after is None else key_of(after))
        return [_identity(kind, key) for key in keys]

    async def read(self, kind: str, ids: Sequence[ActorId]) -> dict[ActorId, Stored]:
        if not ids:
            return {}
        mapping = self._mapping(kind)
        by_key = {key_of(identity): identity for identity in ids}
        rows = await self._database.read(mapping, list(by_key))
        return {
            by_key[row.key]: Stored(Epoch(row.state_epoch), row.state_version, _decode(mapping, row))
            if not (fault := row.fault())
            else Stored(Epoch(0), 0, _corrupt(mapping, row, fault))
            for row in rows
            if row.fault() or row.state_version > 0 or row.next_seq > 1
        }

    # ---- reminders ----

    async def set_reminder(self, reminder: Reminder) -> bool:
        return await self._database.set_reminder(self._mapping(kind_of(reminder.id)), _reminder_row(reminder))

    async def unset_reminder(self, reminder: Reminder) -> bool:
        return await self._database.unset_reminder(self._mapping(kind_of(reminder.id)), _reminder_row(reminder))

    async def drop_reminder(self, reminder: Reminder) -> None:
        await self._database.drop_reminder(_reminder_row(reminder))

    async def due_reminders(self, until_ms: int, limit: int, after: Reminder | None = None) -> list[Reminder]:
        begin = _BEFORE_ALL if after is None else _reminder_row(after)
        rows = await self._database.due_reminders(until_ms, limit, begin)
        return [
            Reminder(_identity(row.kind, row.key), row.name, row.due_ms, Epoch(_number(row.epoch)), _number(row.number))
            for row in rows
        ]

    # ---- logs ----

    async def append(self, kind: str, batch: Sequence[Append]) -> dict[ActorId, AppendResult]:
        """See the port. On SQLite an append that carries a final projection is on the disk when
        this returns; others are when the next such one is, or at the next checkpoint."""
        if not batch:
            return {}
        mapping = self._logged(kind)
        keys = [key_of(append.id) for append in batch]
        projection, through = self._projected(kind, keys, batch)
        written = await self._database.append(mapping, kind, keys, batch, projection, through)
        return {append.id: "written" if key in written else "fenced" for append, key in zip(batch, keys, strict=True)}

    async def seal(self, kind: str, seal: Seal) -> AppendResult:
        """See the port. A segment that is there already is `written`. Raises `Corrupt` if the
        open chunks are not exactly those that the segment replaces."""
        done = await self._database.seal(self._logged(kind), kind, key_of(seal.id), seal)
        return "written" if done else "fenced"

    async def insert_log(self, kind: str, id: ActorId, log: WholeLog) -> InsertResult:
        check_whole(id, log)
        mapping, key = self._logged(kind), key_of(id)
        last = Append(id, Epoch(1), 1, log.last_seq, b"", log.head, b"", log.projection)
        projection, _ = self._projected(kind, [key], [last])
        assert projection is not None
        there = await self._database.insert_log(mapping, kind, key, log, projection)
        if there is None:
            return "written"
        check_same(id, log, *there)
        return "exists"

    async def redact(self, kind: str, id: ActorId, was: StoredLog, log: WholeLog) -> RedactResult:
        check_whole(id, log)
        mapping, key = self._logged(kind), key_of(id)
        last = Append(id, Epoch(1), 1, log.last_seq, b"", log.head, b"", log.projection)
        projection, _ = self._projected(kind, [key], [last])
        assert projection is not None
        if has_facts(mapping):
            projection.batch.columns[-1] = [False]  # no fact was open, whatever the state says: nobody is told again
        for row in await self._database.read(mapping, [key]):
            for place in map(mapping.columns.index, mapping.kept):
                projection.batch.columns[place] = [row.values[place]]
        return "written" if await self._database.redact(mapping, kind, key, was, log, projection) else "busy"

    async def read_log(self, kind: str, id: ActorId, from_seq: int = 1, to_seq: int | None = None) -> StoredLog | None:
        return await self._read_log(kind, id, from_seq, _FOREVER if to_seq is None else to_seq)

    async def list_logs(self, kind: str, limit: int, after: ActorId | None = None) -> list[ActorId]:
        keys = await self._database.list_logs(self._logged(kind), limit, "" if after is None else key_of(after))
        return [_identity(kind, key) for key in keys]

    async def list_over(
        self, kind: str, limit: int, after: OverLog | None = None, *, newest_first: bool = False, sizes: bool = True
    ) -> list[OverLog]:
        mapping = self._logged(kind)
        if mapping.over is None:
            return []
        begin = (_FOREVER, "") if newest_first else (-_FOREVER, "")
        if after is not None:
            begin = (after.ended_ms, key_of(after.id))
        rows = await self._database.list_over(mapping, kind if sizes else "", limit, begin, newest_first)
        return [
            OverLog(_identity(kind, row.key), row.ended_ms, Epoch(row.epoch), row.size, row.is_pinned, row.is_open)
            for row in rows
        ]

    async def delete_logs(self, kind: str, logs: Sequence[OverLog]) -> dict[ActorId, DeleteResult]:
        mapping = self._logged(kind)
        if mapping.over is None or not logs:
            return {log.id: "kept" for log in logs}
        keys, epochs = [key_of(log.id) for log in logs], [log.epoch for log in logs]
        deleted = await self._database.delete_logs(mapping, kind, keys, epochs)
        return {log.id: "deleted" if key in deleted else "kept" for log, key in zip(logs, keys, strict=True)}

    async def pin_log(self, kind: str, id: ActorId, pinned: bool) -> bool:
        mapping = self._logged(kind)
        return mapping.over is not None and await self._database.pin_log(mapping, key_of(id), pinned)

    async def now_ms(self) -> int:
        return await self._database.now_ms()

    async def read_tail(self, kind: str, id: ActorId) -> StoredLog | None:
        return await self._read_log(kind, id, None)

    async def _read_log(self, kind: str, id: ActorId, from_seq: int | None, to_seq: int = _FOREVER) -> StoredLog | None:
        ends = await self._database.read_log(self._logged(kind), kind, key_of(id), from_seq, to_seq)
        if ends is None or ends.next_seq == 1:
            return None
        numbers = [ends.next_seq, *(number for chunk in ends.chunks for number in (chunk.first_seq, chunk.last_seq))]
        texts = [ends.head, *(chunk.data for chunk in ends.chunks)]
        if any(type(number) is not int for number in numbers) or any(type(data) is not bytes for data in texts):
            raise Corrupt(f"the log of {id}: a column of its row, or of a chunk's, holds a value of another type")
        return StoredLog(ends.next_seq, ends.head, ends.chunks, ends.redactions)

    def _encoded(self, kind: str, moves: Sequence[EntityMove]) -> Moves:
        keys = [key_of(move.id) for move in moves]
        some = [(key, move) for key, move in zip(keys, moves, strict=True) if move.state is not None]
        states = None
        if some:
            epochs, versions = [move.epoch + 1 for _, move in some], [move.version for _, move in some]
            columns = self._columns(kind, [move.id for _, move in some], [move.state for _, move in some])
            moved, added = [key for key, _ in some], [move for _, move in some]
            states = Batch(moved, epochs, versions, columns, _additions(self._mapping(kind), moved, added))
        return Moves(
            keys,
            [move.epoch for move in moves],
            [move.to for move in moves],
            [move.next_seq for move in moves],
            [move.token for move in moves],
            states,
        )

    def _projected(self, kind: str, keys: list[str], batch: Sequence[Append]) -> tuple[Projection | None, bool]:
        """The encoded projections of a batch of appends, and whether one of them is final."""
        mapping = self._logged(kind)
        some = [(key, append) for key, append in zip(keys, batch, strict=True) if append.projection is not None]
        if not some:
            return None, False
        projected = [key for key, _ in some]
        seqs = [append.last_seq for _, append in some]
        states = [append.projection for _, append in some]
        stored = [append.projected for _, append in some]
        before = list(zip(projected, states, stored, strict=True))
        children = [
            ChildRows(
                rows.encode(projected, seqs, states, stored),
                [key for key, state, was in before if rows.is_whole(state, was)],
            )
            for rows in mapping.children
        ]
        epochs: list[int] = [append.epoch for _, append in some]
        encoded = Batch(projected, epochs, seqs, self._columns(kind, [append.id for _, append in some], states))
        return Projection(encoded, children), any(mapping.final(state) for state in states)

    # ---- kinds ----

    def _mapping(self, kind: str) -> Mapping:
        mapping = self._mappings.get(kind)
        if mapping is None:
            raise Internal(f"kind {kind} was not named to the store")
        return mapping

    def _logged(self, kind: str) -> Mapping:
        mapping = self._mapping(kind)
        if not has_log(mapping):
            raise Internal(f"kind {kind} has no event log: table {mapping.table.name}")
        return mapping


def _number(value: object) -> int:
    """The number in a column; 0, which is older than all, for a text that SQLite has taken there."""
    return value if isinstance(value, int) else 0


def _identity(kind: str, key: str) -> ActorId:
    """The id of a row, also of one that was made by hand and is no actor's: a page of rows goes on past it."""
    return ActorId(f"{kind}/{key}")


def _additions(mapping: Mapping, keys: Sequence[str], changes: Sequence[Change] | Sequence[EntityMove]) -> Columns:
    """The rows that the states of `changes` bring along; nothing where there are none."""
    if mapping.additions is None:
        return []
    return mapping.additions.encode(keys, [it.stored for it in changes], [it.state for it in changes])


def _totals(mapping: Mapping) -> Sequence[Totals]:
    return mapping.additions.totals if mapping.additions is not None else ()


def _reminder_row(reminder: Reminder) -> ReminderRow:
    kind, key = kind_of(reminder.id), key_of(reminder.id)
    return ReminderRow(reminder.due_ms, kind, key, reminder.name, reminder.epoch, reminder.number)


def _decode(mapping: Mapping, row: Row) -> Any:
    """The stored state; None where there is none, or where the log is the truth; a `Corrupt` that
    names the row where it cannot be read."""
    if row.state_version == 0 or row.next_seq > 1:
        return None
    try:
        return mapping.decode(row.values)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        return _corrupt(mapping, row, str(error))


def _corrupt(mapping: Mapping, row: Row, why: str) -> Corrupt:
    kind = f"{mapping.kind}/" if mapping.kind else ""
    return Corrupt(f"table {mapping.table.name}, row {kind}{row.key}: {why}")


def _database_of(address: Address, settings: StoreSettings, rng: random.Random) -> Database:
    """The database at `address`, whose driver alone is imported."""
    if address.dialect != "postgresql":
        return SqliteDatabase(address, settings, rng)
    from persistence.engine.postgres_database import PostgresDatabase

    return PostgresDatabase(address, settings, rng)
