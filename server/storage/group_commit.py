"""Group commit of event logs: the entries of all logs of a node that gathered within
`group_commit_s` go to the store in one transaction a kind. Answers and streams of a log wait
for `committed`, so nobody sees an event that a successor could replace (DESIGN rule 7).
"""

import asyncio
import random
from typing import Protocol

import structlog

from server.errors import GarrisonError, Overloaded
from server.eventlog.ports import Append, LogStore, Seal
from server.ids import ActorId
from server.runtime.backoff import backoff_s
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics
from server.settings import StoreSettings

log = structlog.get_logger(__name__)


class Log(Protocol):
    """One activation's log as the committer sees it."""

    id: ActorId
    kind: str

    def take(self) -> Append | None:
        """Everything up to the last turn boundary that is not stored yet."""
        ...

    def backlog(self) -> int: ...

    def committed(self, append: Append) -> None: ...

    def seal_due(self) -> Seal | None: ...

    def sealed(self, seal: Seal) -> None: ...

    def fenced(self) -> None: ...


class GroupCommit:
    """The logs of one node that have entries to store."""

    def __init__(
        self, logs: LogStore, settings: StoreSettings, clock: Clock, metrics: Metrics, rng: random.Random
    ) -> None:
        self._logs, self._settings, self._clock, self._metrics, self._rng = logs, settings, clock, metrics, rng
        self._waiting: dict[ActorId, Log] = {}
        self._to_seal: dict[ActorId, Log] = {}
        self._wake = asyncio.Event()
        self._backlog = 0
        self._lock = asyncio.Lock()

    def admit(self) -> None:
        """Raises `Overloaded` while the backlog is at its bound."""
        if self._backlog >= self._settings.max_log_backlog:
            raise Overloaded("too many log entries wait for the store", retry_after_s=1.0)

    def enqueue(self, entry_log: Log, entries: int) -> None:
        """`entry_log` has `entries` more to store."""
        self._backlog += entries
        self._waiting[entry_log.id] = entry_log
        self._wake.set()

    def forget(self, entry_log: Log) -> None:
        self._waiting.pop(entry_log.id, None)
        self._to_seal.pop(entry_log.id, None)

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
            except GarrisonError as error:
                failures += 1
                log.warning("group commit failed", why=error.message, logs=len(self._waiting), backlog=self._backlog)

    async def commit(self) -> None:
        """Store everything that waits now, then what is due for sealing. Raises `Unavailable`."""
        async with self._lock:
            self._wake.clear()
            waiting, self._waiting = self._waiting, {}
            try:
                await self._append(waiting)
                await self._seal()
            finally:
                self._backlog = sum(entry_log.backlog() for entry_log in self._waiting.values())
                if self._waiting or self._to_seal:
                    self._wake.set()

    async def _append(self, waiting: dict[ActorId, Log]) -> None:
        by_kind: dict[str, list[tuple[Log, Append]]] = {}
        for identity in sorted(waiting):
            append = waiting[identity].take()
            if append is not None:
                by_kind.setdefault(waiting[identity].kind, []).append((waiting[identity], append))
        kinds = sorted(by_kind)
        for place, kind in enumerate(kinds):
            begin = self._clock.now()
            try:
                results = await self._logs.append(kind, [append for _, append in by_kind[kind]])
            except GarrisonError:
                for failed in kinds[place:]:
                    for entry_log, _ in by_kind[failed]:
                        self._waiting.setdefault(entry_log.id, entry_log)
                raise
            self._metrics.log_commit_seconds.observe(self._clock.now() - begin)
            for entry_log, append in by_kind[kind]:
                self._settle(entry_log, append, results[entry_log.id] == "written")

    def _settle(self, entry_log: Log, append: Append, written: bool) -> None:
        if not written:
            entry_log.fenced()
            return
        self._metrics.log_entries_total += append.last_seq - append.first_seq + 1
        entry_log.committed(append)
        self._to_seal[entry_log.id] = entry_log

    async def _seal(self) -> None:
        """Turn full tails into segments."""
        for identity in sorted(self._to_seal):
            entry_log = self._to_seal.pop(identity)
            while (seal := entry_log.seal_due()) is not None:
                try:
                    result = await self._logs.seal(entry_log.kind, seal)
                except GarrisonError:
                    self._to_seal[identity] = entry_log
                    raise
                if result == "fenced":
                    entry_log.fenced()
                    break
                entry_log.sealed(seal)
