"""`journal`: what the crash journal adds to a turn that changes a player, encoding included.

The figure is the journal in files in shared memory. Beside it, in `detail`: the journal in Redis,
as CPU time of this process, `redis_changes_a_loop` changes in each iteration of the loop; None
where there is no Redis. The environment may name one (GARRISON_TEST_REDIS).
"""

import asyncio
import os
import random
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec

from game.player.state import PlayerState
from server.errors import BadSetting
from server.ids import ActorId, Epoch, Incarnation, NodeAddress, NodeId
from server.lab.bench.floors import journal as floor
from server.lab.bench.harness import Effort, Outcome, alternate, process_us, progress
from server.lab.chaos.journals import SHARED_MEMORY, journal
from server.runtime.clock import SystemClock
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import JournalSettings
from server.storage.journal.local import LocalJournal
from server.storage.journal.ports import Journal
from server.storage.journal.redis import RedisJournal

CHANGES: Final = 2_000
A_LOOP: Final = 32
ROUNDS: Final = 10
GOAL_US: Final = 2.0
REDIS: Final = "GARRISON_TEST_REDIS"
ME: Final = NodeAddress(NodeId("bench"), Incarnation(1))


class Player:
    """As much of an activation as the journal sees."""

    def __init__(self, number: int) -> None:
        self.id, self.epoch, self.version = ActorId(f"player/bench-{number:05}"), Epoch(1), number


Changes = list[tuple[Player, msgspec.Struct]]


async def run(effort: Effort) -> Outcome:
    """CPU us a change, in files."""
    changes: Changes = [
        (Player(n), PlayerState(f"Bench {n}", "helmet", "online", last_seen_ms=1_700_000_000_000 + n))
        for n in range(effort.size(CHANGES))
    ]
    memory = memoryview(bytearray(65_536))
    redis_us: list[float] = []
    async with _local() as local, _redis() as redis:

        async def below() -> float:
            return process_us(lambda: _sum(memory, changes), len(changes))

        async def above() -> float:
            if redis is not None:
                redis_us.append(await _redis_us(redis, changes))
            return process_us(lambda: _append(local, changes), len(changes))

        result = await alternate("journal", "us", below, above, effort, goal=None)
    found = {
        "journal_local_us": result.figure,
        "journal_redis_us": round(statistics.median(redis_us[1:]), 4) if redis_us else None,
        "goal_us": GOAL_US,
        "redis_changes_a_loop": A_LOOP,
    }
    return msgspec.structs.replace(result, detail=found)


def _sum(memory: memoryview, changes: Changes) -> None:
    floor.run(memory, changes)


def _append(journal: Journal, changes: Changes) -> None:
    for player, state in changes:
        journal.append(player, state)
    journal.truncate(journal.position)


def _note(last: Player, stored: asyncio.Event, player: Any, version: int) -> None:
    if player is last:
        stored.set()


async def _redis_us(journal: Journal, changes: Changes) -> float:
    """Until the last of them is known to be stored."""
    begin = time.process_time()
    for _ in range(ROUNDS):
        stored = asyncio.Event()
        last = changes[-1][0]
        journal.on_durable = partial(_note, last, stored)
        for first in range(0, len(changes), A_LOOP):
            for player, state in changes[first : first + A_LOOP]:
                journal.append(player, state)
            await asyncio.sleep(0)
        await stored.wait()
        journal.truncate(journal.position)
    return (time.process_time() - begin) * 1e6 / (ROUNDS * len(changes))


@asynccontextmanager
async def _local() -> AsyncIterator[LocalJournal]:
    home = str(SHARED_MEMORY) if os.access(SHARED_MEMORY, os.W_OK) else None
    with TemporaryDirectory(prefix="garrison-bench-", dir=home) as folder:
        local = LocalJournal(JournalSettings(directory=folder), "bench", ME.node, Metrics())
        await local.prepare()
        await local.open(ME)
        try:
            yield local
        finally:
            await local.close(keep=False)


@asynccontextmanager
async def _redis() -> AsyncIterator[RedisJournal | None]:
    named = os.environ.get(REDIS)
    given = [f"journal.redis_url={named}"] if named else []
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="garrison-bench-")))
        redis: RedisJournal | None = None
        try:
            assignments, _ = await stack.enter_async_context(journal("redis", folder, given))
            url = [*assignments, *given][-1].partition("=")[2]
            redis = await stack.enter_async_context(_opened(url))
        except BadSetting as error:
            progress(f"journal: without Redis: {error}")
        yield redis


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[RedisJournal]:
    settings = JournalSettings(redis_url=url, redis_timeout_s=10.0)
    supervisor = Supervisor("bench")
    redis = RedisJournal(settings, "bench", ME.node, Metrics(), supervisor, SystemClock(), random.Random(1))
    await redis.prepare()
    await redis.open(ME)
    try:
        yield redis
    finally:
        await redis.close(keep=False)
        await supervisor.stop()
