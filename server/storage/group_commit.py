"""Group commit of event logs: the entries of all logs of a node that gathered within
`group_commit_s` go to the store in one transaction a kind, of `LOGS_AT_ONCE` logs at most. Answers and streams of a
log wait for `committed`, so nobody sees an event that a successor could replace (rule 7 in docs/guarantees.md).
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

import structlog

from server.errors import Overloaded, Unavailable
from server.eventlog.ports import Append, LogStore, Seal
from server.ids import ActorId
from server.runtime.backoff import backoff_s
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics
from server.settings import StoreSettings

log = structlog.get_logger(__name__)

APPEND_ENTRIES: Final = 4_096
LOGS_AT_ONCE: Final = 500
"""Logs in one transaction."""


class Log(Protocol):
    """The log of an activation, as the committer sees it."""

    id: ActorId
    kind: str

    def take(self) -> Append | None:
        """The next append, up to a turn boundary. The very same one until `committed`: an append with an unknown
        outcome may be in the store already, and only the same one is recognised there."""
        ...

    def backlog(self) -> int: ...

    def committed(self, append: Append) -> None: ...

    def overdue(self) -> None:
        """The store is away: answer who has waited past the deadline."""
        ...

    async def seal_due(self) -> Seal | None:
        """The next segment, the very same until `sealed`; None if nothing is due."""
        ...

    def sealed(self, seal: Seal) -> None: ...

    def seal_failed(self) -> None:
        """The store refused the segment: do not offer it again at once."""
        ...

    def fenced(self) -> None: ...

    def broken(self, error: Exception) -> None:
        """This log alone cannot be stored: drop the activation; nothing that was answered is lost."""
        ...


class GroupCommit:
    """The logs of one node that have entries to store; `append_entries` of one log in an append, or a whole turn's."""

    def __init__(
        self,
        logs: LogStore,
        settings: StoreSettings,
        clock: Clock,
        metrics: Metrics,
        rng: random.Random,
        append_entries: int = APPEND_ENTRIES,
    ) -> None:
        self.append_entries = append_entries
        self._logs, self._settings, self._clock, self._metrics, self._rng = logs, settings, clock, metrics, rng
        self._waiting: dict[ActorId, Log] = {}
        self._to_seal: dict[ActorId, Log] = {}
        self._wake = asyncio.Event()
        self._backlog = 0
        self.failure = ""
        """Why the last commit failed because the store was not reached; empty after one that came through."""
        self._lock = asyncio.Lock()

    @property
    def writing(self) -> bool:
        """Whether a statement is under way."""
        return self._lock.locked()

    @property
    def backlog(self) -> int:
        """Entries that are not in the store."""
        return self._backlog

    def admit(self) -> None:
        """Raises `Overloaded` while the backlog is at its bound."""
        if self._backlog >= self._settings.max_log_backlog:
            raise Overloaded("too many log entries wait for the store", retry_after_s=1.0)

    def enqueue(self, entry_log: Log, entries: int) -> None:
        """`entry_log` has `entries` more to store."""
        assert entries >= 0, f"{entry_log.id} has lost entries"
        self._backlog += entries
        self._waiting[entry_log.id] = entry_log
        self._wake.set()

    def seal_later(self, entry_log: Log) -> None:
        """`entry_log` was loaded with a tail that may be due for sealing."""
        self._to_seal[entry_log.id] = entry_log
        self._wake.set()

    def forget(self, entry_log: Log) -> None:
        """`entry_log` is gone; a newer one under the same id stays."""
        for waiting in (self._waiting, self._to_seal):
            if waiting.get(entry_log.id) is entry_log:
                del waiting[entry_log.id]

    async def run(self) -> None:
        """Commit while there is anything; wait a group interval so that others can join."""
        failures = 0
        while True:
            await self._wake.wait()
            pause = self._settings.group_commit_s
            await asyncio.sleep(backoff_s(failures, self._rng, base_s=0.1, cap_s=1.0) + pause if failures else pause)
            try:
                await self.commit()
                failures = 0
                self.failure = ""
            except Exception as error:
                failures += 1
                self.failure = str(error) if isinstance(error, Unavailable) else ""
                known = isinstance(error, Unavailable)
                log.warning(
                    "group commit failed",
                    why=str(error),
                    logs=len(self._waiting),
                    backlog=self._backlog,
                    exc_info=None if known else error,
                )
                for entry_log in list(self._waiting.values()):
                    entry_log.overdue()

    async def commit(self) -> None:
        """Store what waits now, then what is due for sealing. Raises `Unavailable`; whatever is
        without an outcome then waits on."""
        async with self._lock:
            await self._commit()

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """While this is held, nothing is under way but what the given `commit` does."""
        async with self._lock:
            yield self._commit

    async def _commit(self) -> None:
        self._wake.clear()
        waiting, self._waiting = self._waiting, {}
        try:
            await self._append(waiting)
            await self._seal()
        finally:
            for identity, entry_log in waiting.items():
                self._waiting.setdefault(identity, entry_log)
            self._backlog = sum(entry_log.backlog() for entry_log in self._waiting.values())
            if self._waiting or self._to_seal:
                self._wake.set()

    async def _append(self, waiting: dict[ActorId, Log]) -> None:
        """Store what `waiting` has, taking out of it what has an outcome. Not all at once: after an outage thousands
        wait, and the loop and the store's write lock are others' too."""
        identities = sorted(waiting)
        for start in range(0, len(identities), LOGS_AT_ONCE):
            await self._append_some(identities[start : start + LOGS_AT_ONCE], waiting)

    async def _append_some(self, identities: Sequence[ActorId], waiting: dict[ActorId, Log]) -> None:
        by_kind: dict[str, list[tuple[Log, Append]]] = {}
        for identity in identities:
            entry_log = waiting[identity]
            try:
                append = entry_log.take()
            except Exception as error:
                del waiting[identity]
                entry_log.broken(error)
                continue
            if append is None:
                del waiting[identity]
            else:
                by_kind.setdefault(entry_log.kind, []).append((entry_log, append))
        for kind in sorted(by_kind):
            await self._append_kind(kind, by_kind[kind], waiting)

    async def _append_kind(self, kind: str, batch: list[tuple[Log, Append]], waiting: dict[ActorId, Log]) -> None:
        begin = self._clock.now()
        try:
            results = await self._logs.append(kind, [append for _, append in batch])
        except Unavailable:
            raise
        except Exception as error:
            if len(batch) > 1:  # an append that cannot be stored must not hinder the others
                for pair in batch:
                    await self._append_kind(kind, [pair], waiting)
                return
            entry_log = batch[0][0]
            del waiting[entry_log.id]
            entry_log.broken(error)
            return
        self._metrics.log_commit_seconds.observe(self._clock.now() - begin)
        for entry_log, append in batch:
            del waiting[entry_log.id]
            self._conclude(entry_log, append, results[entry_log.id] == "written")

    def _conclude(self, entry_log: Log, append: Append, written: bool) -> None:
        if not written:
            entry_log.fenced()
            return
        self._metrics.log_entries_total += append.last_seq - append.first_seq + 1
        try:
            entry_log.committed(append)
        except Exception as error:
            entry_log.broken(error)
            return
        self._to_seal.setdefault(entry_log.id, entry_log)

    async def _seal(self) -> None:
        """Turn full tails into segments."""
        for identity in sorted(self._to_seal):
            entry_log = self._to_seal.get(identity)
            if entry_log is None:
                continue  # forgotten meanwhile
            await self._seal_one(entry_log)
            if self._to_seal.get(identity) is entry_log:
                del self._to_seal[identity]

    async def _seal_one(self, entry_log: Log) -> None:
        try:
            while (seal := await entry_log.seal_due()) is not None:
                if await self._logs.seal(entry_log.kind, seal) == "fenced":
                    entry_log.fenced()
                    return
                entry_log.sealed(seal)
        except Unavailable:
            raise
        except Exception as error:
            log.error("segment not sealed", log=entry_log.id, exc_info=error)
            entry_log.seal_failed()
