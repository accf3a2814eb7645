"""`rebalance`: a third node joins two that have 100,000 players: how long until each has its share, at
the set rate, and what calls from a fourth node take meanwhile, in p50 and p99, beside before.

Players are called at random, and changed. The figure is the p99 during the join, the floor the p99
before it; `detail` has the seconds, and how many moved.
"""

import asyncio
import random
import time
from typing import Any

from server.errors import Unavailable
from server.lab.bench.harness import Effort, Outcome, machine, progress
from server.lab.bench.moving import Calls, Systems, percentiles, systems, under_way
from server.settings import ActorSettings

PLAYERS = 100_000
CALLERS = 4
PAUSE_S = 0.002
BEFORE_S = 5.0
LONGEST_S = 300.0
NAMES = ("node-1", "node-2", "node-3")


async def run(effort: Effort) -> Outcome:
    """ms, p99 of calls."""
    async with systems(NAMES, "sqlite") as world:
        await world.show(NAMES[:2])
        progress(f"rebalance: round 1/1: {effort.size(PLAYERS)} players begin to live on two nodes")
        ids = await world.fill(effort.size(PLAYERS))
        random.Random(1).shuffle(ids)
        share = len(ids) // CALLERS
        calls = [Calls(world, ids[n * share : (n + 1) * share], PAUSE_S) for n in range(CALLERS)]
        async with under_way(calls):
            await asyncio.sleep(effort.seconds(BEFORE_S))
            joined = time.perf_counter()
            await world.show(NAMES)
            counts = await _balanced(world)
            balanced = time.perf_counter()
    before = percentiles([1e3 * took for player in calls for at, took in player.took if at < joined])
    during = percentiles([1e3 * took for player in calls for at, took in player.took if joined <= at < balanced])
    detail: dict[str, Any] = {
        "players": len(ids),
        "moved": sum(moved for _, _, moved in counts),
        "seconds": round(balanced - joined, 2),
        "rebalance_per_s": ActorSettings().rebalance_per_s,
        "before_ms": before,
        "during_ms": during,
        "extra_ms": {name: round(during[name] - before[name], 3) for name in ("p50", "p99")},
        "calls": sum(len(player.took) for player in calls),
        "calls_failed": sum(player.failed for player in calls),
    }
    ratio = round(during["p99"] / before["p99"], 3)
    return Outcome("rebalance", "ms", during["p99"], before["p99"], ratio, 0.0, machine(), None, detail)


async def _balanced(world: Systems) -> list[list[int]]:
    """The counts once nothing is misplaced on any node. Raises `Unavailable` if that takes too long."""
    begin, shown = time.perf_counter(), 0.0
    while time.perf_counter() - begin < LONGEST_S:
        counts = await world.counts()
        if not any(misplaced for _, misplaced, _ in counts) and all(live for live, _, _ in counts):
            return counts
        if time.perf_counter() - shown > 2.0:
            shown = time.perf_counter()
            progress(
                f"rebalance: {[live for live, _, _ in counts]} live, {sum(count for _, count, _ in counts)} misplaced"
            )
        await asyncio.sleep(0.05)
    raise Unavailable(f"not balanced after {LONGEST_S:.0f} s")
