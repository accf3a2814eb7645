"""Write-behind: dirty entities go to the store in coalesced, fenced batches.

One flush runs at a time, so that an entity's versions reach the store in order. What a flush
sees is an entity's last turn boundary. Bounds: `max_dirty` entities and `max_dirty_age_s`; past
either, the node refuses further durable changes, and memory stays bounded while the store is away.

Entities that are *written through* are written at once, and their outputs wait for it; what cannot be written
then is dirty as anything else.

A state that the store cannot take stays, and is tried again. After each flush the journal's retention is
told what is stored, and what had to be given up; what the journal forgets is decided there.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import Any, Protocol

import structlog

from server.errors import Corrupt, GarrisonError, Unavailable
from server.ids import ActorId, Epoch
from server.runtime.backoff import backoff_s
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics
from server.settings import StoreSettings
from server.storage.dirty import DirtySet
from server.storage.journal.retention import JournalRetention
from server.storage.ports import Change, EntityStore

log = structlog.get_logger(__name__)


_by_id = attrgetter("id")


class Flushable(Protocol):
    """An activation as the flusher sees it."""

    id: ActorId
    kind: str
    epoch: Epoch
    version: int
    boundary: Any
    stored_version: int
    dirty: bool

    def note_stored(self, version: int) -> None:
        """Everything up to `version` is in the store: `stored_version` says so."""
        ...

    def released(self, version: int) -> None:
        """Everything up to `version` is durable: answers that waited for that may leave."""
        ...

    def fenced(self) -> None:
        """The store refused a write: another owner has it. Drop at once."""
        ...


class WrittenThrough(Flushable, Protocol):
    """An activation whose outputs wait for the commit of its changes."""

    def overdue(self) -> None:
        """Tell those whose answers have waited past the deadline that the store is away."""
        ...


class WriteBehind:
    """The dirty set of one node and its flush loop."""

    def __init__(
        self,
        store: EntityStore,
        settings: StoreSettings,
        clock: Clock,
        metrics: Metrics,
        rng: random.Random,
        retention: JournalRetention,
    ) -> None:
        self._store, self._settings, self._clock, self._metrics = store, settings, clock, metrics
        self._rng, self._retention = rng, retention
        self._dirty: DirtySet[Flushable] = DirtySet()
        self._aside: dict[ActorId, tuple[Flushable, float]] = {}
        self._lock = asyncio.Lock()
        self._failures = 0
        self._hurry = asyncio.Event()
        self._through: dict[ActorId, WrittenThrough] = {}
        """Entities whose newest change is awaited in the store."""
        self._asked_through = asyncio.Event()
        self.failure = ""
        """Why the last flush failed as a whole because the store was not reached; empty after one that came through."""
        self.refusal: str | None = None
        """Why durable changes are refused now; None while they are accepted."""

    def __len__(self) -> int:
        return len(self._dirty) + len(self._aside)

    def age_s(self) -> float:
        """Age of the oldest change that is not in the store."""
        return self._dirty.age_s(self._clock.now())

    def check(self, entity: Flushable) -> None:
        """`entity` is about to change and is not marked dirty. Raises `Unavailable` at the bound of
        dirty entities, and for one whose last state the store could not take."""
        if entity.id in self._dirty:
            raise Unavailable(f"the state of {entity.id} cannot be stored", retry_after_s=5.0)
        if len(self._dirty) >= self._settings.max_dirty:
            raise Unavailable("too many changes wait for the store", retry_after_s=1.0)

    def mark(self, entity: Flushable) -> None:
        """`entity`, which `check` let pass, changes now."""
        entity.dirty = True
        self._dirty.mark(entity, self._clock.now())

    def forget(self, entity: Flushable) -> None:
        """`entity` is gone; what it had is stored or counted as lost elsewhere."""
        if (entity.dirty or self.is_stuck(entity)) and entity.version > entity.stored_version:
            self._retention.doubt()
        self._clean(entity)

    def _clean(self, entity: Flushable) -> None:
        entity.dirty = False
        if self._through.get(entity.id) is entity:
            del self._through[entity.id]
        held = self._aside.get(entity.id)
        if held is not None and held[0] is entity:
            del self._aside[entity.id]
        self._dirty.clean(entity)

    async def run(self) -> None:
        """Flush every `flush_interval_s`; back off while the store is away."""
        while True:
            pause = self._settings.flush_interval_s
            if self._failures:
                pause = backoff_s(self._failures, self._rng, base_s=0.2, cap_s=2 * pause)
            await self._pause(pause)
            try:
                await self.flush()
                self.failure = ""
            except Exception as error:
                known = isinstance(error, GarrisonError)
                self.failure = str(error) if isinstance(error, Unavailable) else ""
                log.warning(
                    "flush failed",
                    why=str(error),
                    dirty=len(self._dirty),
                    age_s=round(self.age_s(), 1),
                    exc_info=None if known else error,
                )
            self.observe()

    async def _pause(self, longest_s: float) -> None:
        try:
            async with asyncio.timeout(longest_s):
                await self._hurry.wait()
        except TimeoutError:
            return
        self._hurry.clear()
        await asyncio.sleep(longest_s / 10)  # asking again and again is no reason to spin

    def hurry(self) -> None:
        """Flush soon: the journal has no room."""
        self._hurry.set()

    # ---- written through ----

    def write_soon(self, entity: WrittenThrough) -> None:
        """Write `entity`, which `mark` was told of, as soon as `run_through` gets to it: outputs wait for that."""
        self._through[entity.id] = entity
        self._asked_through.set()

    async def run_through(self) -> None:
        """Write what `write_soon` was told, at once; changes that come while a write is under way go together
        into the next one, as with a group commit. Where the store is away, tell those who have waited too long."""
        failures = 0
        while True:
            await self._asked_through.wait()
            self._asked_through.clear()
            try:
                async with self._lock:
                    await self._write_through()
                failures = 0
            except Exception as error:
                failures += 1
                if failures == 1:
                    known = isinstance(error, GarrisonError)
                    what = {"count": len(self._through), "exc_info": None if known else error}
                    log.warning("not written through", why=str(error), **what)
                for entity in list(self._through.values()):
                    entity.overdue()
                await asyncio.sleep(backoff_s(failures, self._rng, base_s=0.1, cap_s=1.0))
                self._asked_through.set()

    async def _write_through(self) -> None:
        """Write what is awaited now, under the lock. Raises as `flush`, and `Unavailable` where the store cannot
        take one of the states."""
        asked = [entity for entity in self._through.values() if entity.id in self._dirty]
        size = self._settings.flush_batch
        try:
            for start in range(0, len(asked), size):
                await self._write(list(asked[start : start + size]))
        finally:
            for entity in list(self._through.values()):
                if entity.stored_version >= entity.version:
                    del self._through[entity.id]
        stuck = [entity.id for entity in asked if self.is_stuck(entity)]
        if stuck:
            raise Unavailable(f"{len(stuck)} states could not be stored, {stuck[0]} first")

    # ---- the flush ----

    def observe(self) -> None:
        """Bring the gauges and the refusal up to date."""
        self._metrics.dirty = len(self._dirty)
        self._metrics.dirty_age_seconds = age_s = self.age_s()
        away = self._failures > 0 and age_s > self._settings.max_dirty_age_s
        self.refusal = "the store is away and the oldest change is at its bound" if away else None

    async def flush(self) -> None:
        """Store everything that is dirty now. Raises `Unavailable`, `Corrupt` where the store is
        damaged; what is stored is clean, and the journal may forget what it held when the flush
        began."""
        async with self._lock:
            position = self._retention.position
            left = len(self._dirty)
            while left > 0:
                batch = self._dirty.oldest(min(left, self._settings.flush_batch))
                if not batch:
                    break
                left -= len(batch)
                await self._write(batch)
            if self._retention.active:
                stuck = [it for it in self._dirty if not it.dirty and it.id not in self._through]
                self._retention.flushed(position, stuck, owner_unknown=bool(self._aside))

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """While this is held, no write is under way but what the given function does: it writes what is
        to be written through."""
        async with self._lock:
            yield self._write_through

    @property
    def writing(self) -> bool:
        """Whether a statement is under way."""
        return self._lock.locked()

    @property
    def failing(self) -> bool:
        """The store did not take the last flush."""
        return self._failures > 0

    def is_stuck(self, entity: Flushable) -> bool:
        """The store cannot take the state of `entity`."""
        return entity.id in self._dirty and not entity.dirty

    def set_aside(self, entity: Flushable) -> None:
        """Stop writing `entity` while its owner is not known (a migration with an unknown outcome): the journal keeps
        its records until `put_back` or `forget`. Only in `quiet`."""
        assert self._lock.locked(), "a write that is under way may store it still"
        self._aside[entity.id] = (entity, self._dirty.since(entity, self._clock.now()))
        self._dirty.clean(entity)

    def put_back(self, entity: Flushable) -> None:
        """Go on writing `entity`: this node owns it still."""
        held = self._aside.pop(entity.id, None)
        if held is not None and entity.dirty:
            self._dirty.mark(entity, held[1])

    async def flush_these(self, entities: Iterable[Flushable]) -> None:
        """Store these, if dirty, before they are given up. Raises what `flush` does, and `Unavailable`
        if one of them could not be stored."""
        async with self._lock:
            batch = [entity for entity in entities if entity.id in self._dirty]
            await self._write(batch)
            left = [entity.id for entity in batch if entity.id in self._dirty]
        if left:
            raise Unavailable(f"{len(left)} states could not be stored, {left[0]} first")

    async def _write(self, batch: list[Flushable]) -> None:
        by_kind: dict[str, list[Flushable]] = {}
        for entity in batch:
            by_kind.setdefault(entity.kind, []).append(entity)
        for kind, entities in sorted(by_kind.items()):
            await self._write_kind(kind, entities)

    async def _write_kind(self, kind: str, entities: list[Flushable]) -> None:
        entities.sort(key=_by_id)
        begin = self._clock.now()
        changes = [Change(it.id, it.epoch, it.version, it.boundary, it.stored_version) for it in entities]
        try:
            results = await self._store.write(kind, changes)
        except (Unavailable, Corrupt):  # the store fails, whatever is written
            self._failures += 1
            self._metrics.flush_failures_total += 1
            raise
        except Exception as error:
            if len(entities) == 1:
                self._refused(entities[0], error)
                return
            middle = len(entities) // 2  # a state that cannot be stored must not hinder the others
            await self._write_kind(kind, entities[:middle])
            await self._write_kind(kind, entities[middle:])
            return
        self._failures = 0
        now = self._clock.now()
        self._metrics.flush_seconds.observe(now - begin)
        self._metrics.flushed_rows_total += len(changes)
        fenced = {identity for identity, result in results.items() if result == "fenced"}
        clean: list[Flushable] = []
        for entity, change in zip(entities, changes, strict=True):
            if fenced and entity.id in fenced:
                self._retention.doubt()
                self._clean(entity)
                entity.fenced()
                continue
            assert change.version <= entity.version, f"{entity.id}: versions only rise"
            entity.note_stored(change.version)
            if self._retention.active or entity.id in self._through:
                entity.released(change.version)  # awaited, or in the store before the journal said so
            if entity.version == change.version:
                entity.dirty = False
                clean.append(entity)
            else:
                self._dirty.renew(entity, begin)
        self._dirty.clean(*clean)

    def _refused(self, entity: Flushable, error: Exception) -> None:
        """The store is there and cannot take this state. It is kept and tried again; until that
        succeeds, `mark` refuses further changes of it, so that no more is promised."""
        self._metrics.flush_failures_total += 1
        if entity.dirty:
            log.error("state cannot be stored", actor=entity.id, version=entity.version, exc_info=error)
        entity.dirty = False
        self._dirty.renew(entity, self._clock.now())
