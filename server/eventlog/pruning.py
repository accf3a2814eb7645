"""Deletion of logs by the rule of `server/eventlog/retention.py`, a few at a time: for the command and for nodes.

Nothing is remembered between two batches, and each is a transaction of the store: whoever is stopped in the middle has
deleted whole logs, and the next one goes on. Two who do this at once, or an owner that wakes a match meanwhile, are
safe: the store deletes what nobody has claimed since it was listed (`LogStore.delete_logs`).
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from server.eventlog.ports import LogStore, OverLog
from server.eventlog.retention import Bound, Place, RetentionLimits, goes, place_of
from server.ids import ActorId

PAGE: Final = 256
BATCH: Final = 16
BATCH_BYTES: Final = 8 * 1024 * 1024
"""Bytes of chunks after which a batch ends: a transaction is short, and others get the store between two of them."""
MAX_HELD: Final = 64


class Batch(msgspec.Struct, frozen=True):
    """The logs of a batch; `deleted` are those that are gone, `kept` those that somebody has claimed, pinned or deleted
    since they were listed."""

    deleted: list[OverLog]
    kept: list[OverLog]

    @property
    def size(self) -> int:
        """Bytes that were deleted."""
        return sum(log.size for log in self.deleted)


async def find_bound(logs: LogStore, kind: str, limits: RetentionLimits, pause_s: float = 0.0) -> Place | None:
    """The bound for logs of `kind` now, on the store's clock. Reads rows newest first as far as it needs, a page at a
    time with a pause after each. Raises the store's errors."""
    bound = Bound(limits, await logs.now_ms())
    after: OverLog | None = None
    while not bound.is_found:
        page = await logs.list_over(kind, PAGE, after, newest_first=True, sizes=bool(limits.max_bytes))
        if not page:
            break
        bound.take(page)
        after = page[-1]
        await asyncio.sleep(pause_s)
    return bound.place


async def due(
    logs: LogStore, kind: str, bound: Place | None, held: list[ActorId] | None = None
) -> AsyncIterator[list[OverLog]]:
    """Logs that go, oldest first, in batches. Into `held` come the first of those that would, had they no owner and no
    open facts. Raises the store's errors."""
    after: OverLog | None = None
    while bound is not None:
        page = await logs.list_over(kind, PAGE, after)
        batch: list[OverLog] = []
        for log in page:
            if not goes(log, bound):
                if (
                    held is not None
                    and log.is_open
                    and not log.is_pinned
                    and place_of(log) <= bound
                    and len(held) < MAX_HELD
                ):
                    held.append(log.id)
                continue
            batch.append(log)
            if len(batch) >= BATCH or sum(due_log.size for due_log in batch) >= BATCH_BYTES:
                yield batch
                batch = []
        if batch:
            yield batch
        if len(page) < PAGE or place_of(page[-1]) > bound:
            return
        after = page[-1]


async def delete(logs: LogStore, kind: str, batch: list[OverLog]) -> Batch:
    """Delete those of `batch` that are still as they were listed. Raises the store's errors."""
    results = await logs.delete_logs(kind, sorted(batch, key=lambda log: log.id))
    gone = {id for id, result in results.items() if result == "deleted"}
    return Batch([log for log in batch if log.id in gone], [log for log in batch if log.id not in gone])
