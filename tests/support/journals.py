"""Journals of one cluster for tests: in files, in a real Redis, and the twin as either."""

import itertools
import os
import random
from pathlib import Path
from typing import Any

import msgspec

from server.ids import ActorId, Epoch, Incarnation, NodeAddress, NodeId
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import JournalSettings
from server.storage.journal.local import LocalJournal
from server.storage.journal.memory import MemoryJournal, MemoryJournals
from server.storage.journal.ports import Journal, JournalRecord
from server.storage.journal.redis import RedisJournal
from tests.support.redis_server import shared_url
from tests.support.virtual_time import LoopClock
from tests.support.waiting import until

KINDS = ("local", "redis", "twin-local", "twin-redis")
ROOM = 2 * 65_536
_numbers = itertools.count(1)


class Purse(msgspec.Struct, frozen=True):
    coins: int = 0
    note: str = ""


class Entity:
    """Changes one after the other, as an activation does."""

    def __init__(self, key: str, epoch: int = 1) -> None:
        self.id, self.epoch, self.version = ActorId(f"purse/{key}"), Epoch(epoch), 0

    def change(self, journal: Journal, coins: int, note: str = "") -> bool:
        durable = journal.append(self, Purse(coins, note))
        self.version += 1
        return durable


class Process:
    """A node's journal, with the changes that it reported durable."""

    def __init__(self, journal: Journal, metrics: Metrics) -> None:
        self.journal, self.metrics = journal, metrics
        self.heard: list[tuple[Entity, int]] = []
        journal.on_durable = lambda entity, version: self.heard.append((entity, version))


class JournalRig:
    """`kind` is one of KINDS. Room for two segments of 64 KiB, or as much in a stream."""

    def __init__(self, kind: str, folder: Path, redis_url: str | None = None, **settings: Any) -> None:
        self.kind, self.remote = kind, kind.endswith("redis")
        if kind == "redis":
            settings = {"redis_url": redis_url or shared_url(), "redis_timeout_s": 10.0} | settings
        self.settings = msgspec.convert(
            {"directory": str(folder / "journal"), "segment_bytes": 65_536, "segments": 2, "max_backlog_bytes": ROOM}
            | settings,
            JournalSettings,
        )
        self.cluster = f"test-{os.getpid()}-{next(_numbers)}"
        self.supervisor, self.clock = Supervisor("journals"), LoopClock()
        self.world = MemoryJournals("redis" if self.remote else "local", capacity_bytes=ROOM)
        self._opened: list[Journal] = []

    async def process(self, node: str, incarnation: int | None = 1) -> Process:
        """A process of `node` whose journal is prepared, and open as that run."""
        metrics = Metrics()
        journal = self._journal(NodeId(node), metrics)
        self._opened.append(journal)
        await journal.prepare()
        if incarnation is not None:
            await journal.open(run(node, incarnation))
        return Process(journal, metrics)

    def _journal(self, node: NodeId, metrics: Metrics) -> Journal:
        if self.kind == "local":
            return LocalJournal(self.settings, self.cluster, node, metrics)
        if self.kind == "redis":
            return RedisJournal(
                self.settings, self.cluster, node, metrics, self.supervisor, self.clock, random.Random(1)
            )
        return MemoryJournal(self.world, node, metrics, self.settings)

    async def durable(self, process: Process, changes: int) -> None:
        """Wait until so many changes of `process` are known to be durable."""
        if self.remote:
            await until(lambda: len(process.heard) >= changes)

    async def close(self) -> None:
        for journal in self._opened:
            await journal.close(keep=False)
        await self.supervisor.stop()


def run(node: str, incarnation: int = 1) -> NodeAddress:
    return NodeAddress(NodeId(node), Incarnation(incarnation))


def purse(record: JournalRecord) -> Purse:
    return msgspec.msgpack.decode(record.state, type=Purse)
