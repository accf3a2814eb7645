"""Troubles that a scenario draws one after the other for as long as it goes on: two processes are slow to each other or
cut off, one stops or crashes and comes back, some statements of the store are slow, late or forgotten."""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final

from tests.sim.faults import StoreTroubles
from tests.sim.world import World

KINDS: Final = ("slow", "cut", "stop", "crash", "crash", "store")
"""Kinds of trouble, as often as each is drawn."""
STATEMENTS: Final = ("write", "append", "claim", "release", "migrate")
OF_ROWS: Final = ("write", "claim", "release", "migrate")
"""Statements of a scenario without logs."""


def slow_s(rng: random.Random) -> float:
    """Seconds that each message takes on a slow way."""
    return rng.uniform(0.3, 4.0)


async def trouble(
    world: World,
    rng: random.Random,
    until_s: float,
    *,
    kinds: Sequence[str] = KINDS,
    statements: Sequence[str] = STATEMENTS,
    pause_s: tuple[float, float] = (0.3, 2.5),
    slow_s: Callable[[random.Random], float] = slow_s,
) -> None:
    """Make trouble until virtual time `until_s`, after a pause each time. `statements`: those of the store that suffer.
    Ways that are slow stay so until `heal`."""
    weather = world.network.weather
    world.store.faults = troubles = StoreTroubles(rng)
    while world.loop.time() < until_s:
        await asyncio.sleep(rng.uniform(*pause_s))
        names = sorted(world.processes)
        source, target = rng.sample(names, 2)
        what = rng.choice(kinds)
        if what == "slow":
            weather.slow_down(source, target, slow_s(rng))
        elif what == "cut":
            weather.cut(source, target)
            await asyncio.sleep(rng.uniform(0.3, 1.5))
            weather.mend(source, target)
        elif what == "store":
            number = troubles.begin(
                0.7, frozenset({rng.choice(statements)}), None, (rng.choice(("slow", "late", "forget")),)
            )
            await asyncio.sleep(rng.uniform(0.3, 1.5))
            troubles.end(number)
        elif len(world.nodes) == len(names):
            if what == "stop":
                await world.stop_process(source)
            else:
                world.crash_process(source)
            await asyncio.sleep(rng.uniform(0.0, 2.0))
            world.launch(source)
