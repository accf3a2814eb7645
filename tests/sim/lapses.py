"""Short scenarios about leases that run out, and loops that are busy.

    busy     an event loop stands still for longer than a lease, its thread renews: nothing is lost, and nobody
             takes over
    wedged   an event loop stands still for good while gossip goes on: others take over all the same
    lapse    the store is away until the leases have run out: timers are not tried again and again, and go on when
             it is back

Each is `play(seed) -> violations`.
"""

import asyncio
from typing import Any, Final

from server.errors import GarrisonError
from server.ids import ActorId, actor_id
from server.settings import StoreSettings
from tests.sim.directed import play
from tests.sim.world import SimNode, World

STORE: Final = StoreSettings()
BUSY_S: Final = STORE.lease_period_s + 1.5
TAKEN_OVER_S: Final = STORE.lease_stall_s + STORE.lease_period_s + STORE.lease_grace_s + 4.0
TICKERS: Final = 12
AWAY_S: Final = 6.0


def busy(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World) -> list[str]:
        process, node = world.processes["n2"], world.nodes["n2"]
        pairs = _of_node(node, "pair", 3)
        for id in pairs:
            await _ask(node, id, "both")
        await asyncio.sleep(world.rng("busy").uniform(1, 2))
        held_since = node.node.lease.held_since
        world.loop.pause(process.domain, threads=False)
        await asyncio.sleep(BUSY_S)
        holds = node.node.lease.holds()
        world.loop.resume(process.domain, threads=False)
        await asyncio.sleep(3)
        wrong = []
        if not holds or node.node.lease.held_since != held_since or process.leases_lost:
            wrong.append(f"the lease of a busy loop was not renewed for {BUSY_S} s")
        wrong += [f"{id}: {answer}" for id in pairs if isinstance(answer := await _ask(node, id, "both"), Exception)]
        return wrong

    return play(seed, run)


def wedged(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World) -> list[str]:
        process, node = world.processes["n2"], world.nodes["n2"]
        pairs = _of_node(node, "pair", 3)
        for id in pairs:
            await _ask(node, id, "both")
        await asyncio.sleep(world.rng("wedged").uniform(1, 2))
        world.loop.pause(process.domain, threads=False)
        try:
            async with asyncio.timeout(TAKEN_OVER_S):
                for id in pairs:
                    await _insist(world.nodes["n1"], id, "both")
        except TimeoutError:
            return [f"a loop that stands still keeps its actors for longer than {TAKEN_OVER_S} s"]
        finally:
            world.loop.resume(process.domain, threads=False)
        await asyncio.sleep(5)
        return []

    return play(seed, run, asks_store=True)


def lapse(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World) -> list[str]:
        tickers = [actor_id("ticker", f"t{number}") for number in range(TICKERS)]
        for id in tickers:
            await _insist(world.nodes["n1"], id, "attach", "n1", 0)
        await asyncio.sleep(2.0)
        world.store.down = True
        await asyncio.sleep(AWAY_S)
        refused = sum(node.metrics.timers_refused_total for node in world.nodes.values())
        parked = sum(node.metrics.timers_parked for node in world.nodes.values())
        world.store.down = False
        await asyncio.sleep(2.0)
        before = _ticks(world)
        await asyncio.sleep(2.0)
        after = _ticks(world)
        wrong = [f"{id} does not go on after the store is back" for id in tickers if after[id] <= before[id]]
        if refused > 3 * TICKERS:
            wrong.append(f"{TICKERS} timers were refused {refused} times in {AWAY_S} s")
        if not parked:
            wrong.append("no timer waited for the lease")
        return wrong

    return play(seed, run)


def _ticks(world: World) -> dict[ActorId, int]:
    entities = world.database.entities
    return {id: entity.next_seq for id, entity in sorted(entities.items()) if id.startswith("ticker/")}


async def _ask(node: SimNode, id: ActorId, method: str, *args: Any) -> Any:
    """An actor's answer, asked from `node`; the error where there is none."""
    try:
        return await node.domain.run(node.world.loop.create_task, node.node.system.ask(id, method, args))
    except GarrisonError as error:
        return error


async def _insist(node: SimNode, id: ActorId, method: str, *args: Any) -> None:
    """Ask until there is an answer."""
    while True:
        if not isinstance(await _ask(node, id, method, *args), GarrisonError):
            return
        await asyncio.sleep(0.2)


def _of_node(node: SimNode, kind: str, count: int) -> list[ActorId]:
    """Ids of `kind` whose slots `node` owns."""
    ids = (actor_id(kind, f"{kind}{number}") for number in range(10_000))
    return [id for id in ids if node.node.system.owner(id) == node.address][:count]
