"""`migrate`: how long a caller on a third node waits for a player that moves, under load.

Players move to and fro between two node processes in batches, as in a drain, while every one of
them is called and changed. Eight of them are called a thousand times a second each: the longest
call of each during a move, which had to wait until the player could answer again, is one pause.
The floor is the longest call of the same length of time in which nothing moves.
"""

import asyncio
import time
from typing import Any

from server.ids import ActorId
from server.lab.bench.harness import Effort, Outcome, machine, progress
from server.lab.bench.moving import Calls, Store, Systems, percentiles, stores, systems, under_way

PLAYERS = 256
PROBES = 8
MOVES = 40
PROBE_PAUSE_S = 0.001
LOAD_PAUSE_S = 0.01
REST_S = 0.05
GOAL_MS = 10.0


async def run(effort: Effort) -> Outcome:
    """ms, p99 of the pause, and of the longest ordinary calls. `pause_ms` in `detail` is over all."""
    moving: list[float] = []
    quiet: list[float] = []
    detail: dict[str, Any] = {}
    for store in stores(effort):
        pauses, ordinary = await _sample(store, effort)
        detail[store] = {"pause_ms": percentiles(pauses), "without_ms": percentiles(ordinary)}
        moving, quiet = moving + pauses, quiet + ordinary
    figure, floor = percentiles(moving), percentiles(quiet)
    return Outcome(
        "migrate", "ms", figure["p99"], floor["p99"], round(figure["p99"] / floor["p99"], 3), 0.0, machine(),
        round(GOAL_MS / floor["p99"], 3), {"pause_ms": figure, "goal_ms": GOAL_MS, "pauses": len(moving), **detail},
    )  # fmt: skip


async def _sample(store: Store, effort: Effort) -> tuple[list[float], list[float]]:
    async with systems(("node-1", "node-2"), store, roaming=True) as world:
        await world.show(("node-1", "node-2"))
        ids = await world.fill(PLAYERS, world.processes[0])
        probes = [Calls(world, [identity], PROBE_PAUSE_S) for identity in ids[:PROBES]]
        load = Calls(world, ids, LOAD_PAUSE_S)
        async with under_way([*probes, load]):
            return await _moves(world, ids, probes, max(2, effort.rounds * effort.size(MOVES) // 7), store)


async def _moves(
    world: Systems, ids: list[ActorId], probes: list[Calls], moves: int, store: Store
) -> tuple[list[float], list[float]]:
    """Pauses, and what calls take in as much time without a move."""
    pauses: list[float] = []
    ordinary: list[float] = []
    source, target = world.processes
    for number in range(moves):
        await asyncio.sleep(REST_S)
        begin = time.perf_counter()
        moved = await world.move(ids, source, target)
        end = time.perf_counter()
        await asyncio.sleep(REST_S)
        pauses += [probe.longest_ms(begin, end) for probe in probes]
        await asyncio.sleep(end - begin)
        ordinary += [probe.longest_ms(end + REST_S, 2 * end - begin + REST_S) for probe in probes]
        source, target = target, source
        longest = max(pauses[-len(probes) :])
        progress(f"migrate: round {number + 1}/{moves} on {store}: {moved} moved, longest pause {longest:.2f} ms")
    return pauses, ordinary
