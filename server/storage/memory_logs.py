"""The memory twin of `LogStore`, over the same `MemoryDatabase` as the memory `Store`."""

from collections.abc import Sequence

import msgspec

from server import states
from server.eventlog.ports import (
    Append,
    AppendResult,
    Chunk,
    DeleteResult,
    InsertResult,
    OverLog,
    RedactResult,
    Seal,
    StoredLog,
    WholeLog,
)
from server.eventlog.sealing import check_same, check_whole, replaces
from server.ids import ActorId, Epoch, kind_of
from server.states import Map
from server.storage.memory import EntityRow, MemoryDatabase


class MemoryLogStore:
    """Every call is one indivisible step; nothing fails but what the port says."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database

    async def append(self, kind: str, batch: Sequence[Append]) -> dict[ActorId, AppendResult]:
        projections = [None if a.projection is None else self._projected(a) for a in batch]
        return {a.id: self._append(a, projection) for a, projection in zip(batch, projections, strict=True)}

    def _projected(self, append: Append) -> bytes:
        """The row as a database has it that writes only what differs from `append.projected`."""
        state, before = append.projection, append.projected
        entity = self.database.entities.get(append.id)
        if before is None or entity is None or entity.state is None:
            return states.encode(state)
        stored = states.decoder(type(state))(entity.state)
        for name in state.__struct_fields__:
            value = getattr(state, name)
            if isinstance(value, Map):
                rows = dict(getattr(stored, name))
                for key in value.changes_since(getattr(before, name)):
                    rows[key] = value.get(key)
                kept = {key: row for key, row in rows.items() if row is not None}
                state = msgspec.structs.replace(state, **{name: type(value)(kept)})
        return states.encode(state)

    def _append(self, append: Append, projection: bytes | None) -> AppendResult:
        entity = self.database.entities.get(append.id)
        if entity is None:
            return "fenced"
        if (entity.epoch, entity.next_seq, entity.head) != (append.epoch, append.first_seq, append.prev_head):
            again = (entity.next_seq, entity.head) == (append.last_seq + 1, append.head)
            return "written" if again else "fenced"
        entity.next_seq, entity.head = append.last_seq + 1, append.head
        entity.chunks = [*entity.chunks, Chunk(append.first_seq, append.last_seq, False, append.data)]
        if append.recorder is not None:
            entity.recorders = {**entity.recorders, append.first_seq: append.recorder}
        if projection is not None:
            entity.state_epoch, entity.state_version, entity.state = append.epoch, append.last_seq, projection
            entity.open_facts = self.database.has_open_facts(append.id, append.projection)
        return "written"

    async def seal(self, kind: str, seal: Seal) -> AppendResult:
        """See the port. A segment that is there already is `written`. Raises `Corrupt` if the
        open chunks are not exactly those that the segment replaces."""
        entity = self.database.entities.get(seal.id)
        if entity is None or entity.epoch != seal.epoch:
            return "fenced"
        touched = [c for c in entity.chunks if c.last_seq >= seal.first_seq and c.first_seq <= seal.last_seq]
        if replaces(seal, [(c.first_seq, c.last_seq, c.sealed) for c in touched]):
            segment = Chunk(seal.first_seq, seal.last_seq, True, seal.data)
            before = [c for c in entity.chunks if c.last_seq < seal.first_seq]
            after = [c for c in entity.chunks if c.first_seq > seal.last_seq]
            entity.chunks = [*before, segment, *after]
        return "written"

    async def insert_log(self, kind: str, id: ActorId, log: WholeLog) -> InsertResult:
        check_whole(id, log)
        state = states.encode(log.projection)
        entity = self.database.entities.setdefault(id, EntityRow())
        if entity.next_seq > 1 or entity.owner is not None:
            check_same(id, log, entity.next_seq, entity.head)
            return "exists"
        entity.epoch = self.database.next_epoch(entity)
        entity.next_seq, entity.head, entity.chunks = log.last_seq + 1, log.head, list(log.segments)
        entity.state_epoch, entity.state_version, entity.state = entity.epoch, log.last_seq, state
        entity.open_facts, entity.redactions = self.database.has_open_facts(id, log.projection), log.redactions
        return "written"

    async def redact(self, kind: str, id: ActorId, was: StoredLog, log: WholeLog) -> RedactResult:
        check_whole(id, log)
        entity = self.database.entities.get(id)
        if entity is not None and (entity.next_seq, entity.head) == (was.next_seq, log.head):
            return "written"
        if entity is None or entity.open_facts or self.database.is_kept(entity):
            return "busy"
        if (entity.next_seq, entity.head) != (was.next_seq, was.head):
            return "busy"
        entity.epoch += 1
        entity.owner, entity.head, entity.chunks = None, log.head, list(log.segments)
        entity.state_epoch, entity.state = entity.epoch, states.encode(log.projection)
        entity.redactions = log.redactions
        return "written"

    async def read_log(self, kind: str, id: ActorId, from_seq: int = 1, to_seq: int | None = None) -> StoredLog | None:
        entity = self._entity(id)
        if entity is None:
            return None
        end = entity.next_seq if to_seq is None else to_seq
        chunks = [chunk for chunk in entity.chunks if chunk.last_seq >= from_seq and chunk.first_seq < end]
        return StoredLog(entity.next_seq, entity.head, chunks, entity.redactions if from_seq == 1 else ())

    async def list_logs(self, kind: str, limit: int, after: ActorId | None = None) -> list[ActorId]:
        begun = [id for id, row in self.database.entities.items() if kind_of(id) == kind and row.next_seq > 1]
        return sorted(id for id in begun if after is None or id > after)[:limit]

    async def list_over(
        self, kind: str, limit: int, after: OverLog | None = None, newest_first: bool = False, sizes: bool = True
    ) -> list[OverLog]:
        rows = [(id, row) for id, row in self.database.entities.items() if kind_of(id) == kind]
        found = [log for id, row in rows if (log := self._over(kind, id, row, sizes)) is not None]
        found.sort(key=_place, reverse=newest_first)
        if after is not None:
            found = [log for log in found if (_place(log) < _place(after)) == newest_first and log.id != after.id]
        return found[:limit]

    def _over(self, kind: str, id: ActorId, row: EntityRow, sizes: bool) -> OverLog | None:
        since = self.database.over.get(kind)
        ended_ms = since(row.state) if since is not None and row.state is not None and row.next_seq > 1 else 0
        if not ended_ms:
            return None
        size = sum(len(chunk.data) for chunk in row.chunks) if sizes else 0
        is_open = row.open_facts or row.owner is not None
        return OverLog(id, ended_ms, Epoch(row.epoch), size, row.is_pinned, is_open)

    async def delete_logs(self, kind: str, logs: Sequence[OverLog]) -> dict[ActorId, DeleteResult]:
        return {log.id: self._delete(kind, log) for log in logs}

    def _delete(self, kind: str, log: OverLog) -> DeleteResult:
        row = self.database.entities.get(log.id)
        now = None if row is None else self._over(kind, log.id, row, sizes=False)
        if now is None or now.is_pinned or now.is_open or now.epoch != log.epoch:
            return "kept"
        del self.database.entities[log.id]
        for key in [key for key in self.database.reminders if key[0] == log.id]:
            del self.database.reminders[key]
        self.database.deleted_epoch = max(self.database.deleted_epoch, now.epoch)
        return "deleted"

    async def pin_log(self, kind: str, id: ActorId, pinned: bool) -> bool:
        row = self._entity(id)
        if row is None or kind not in self.database.over:
            return False
        row.is_pinned = pinned
        return True

    async def now_ms(self) -> int:
        return self.database.clock.wall_ms()

    async def read_tail(self, kind: str, id: ActorId) -> StoredLog | None:
        entity = self._entity(id)
        if entity is None:
            return None
        start = max((chunk.first_seq for chunk in entity.chunks if chunk.sealed), default=0)
        chunks = [chunk for chunk in entity.chunks if chunk.first_seq >= start]
        return StoredLog(entity.next_seq, entity.head, chunks)

    def _entity(self, id: ActorId) -> EntityRow | None:
        entity = self.database.entities.get(id)
        return None if entity is None or entity.next_seq == 1 else entity


def _place(log: OverLog) -> tuple[int, ActorId]:
    return log.ended_ms, log.id
