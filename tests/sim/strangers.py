"""Scenarios with two databases: nodes that hear each other and do not belong together.

    strangers  two groups of nodes with one cluster name and a database each (F1): one comes late, both start at
               once, or they served apart until gossip joined them. One group serves in the end, and the others
               wait until it is gone
    cloned     the same with a clone of the whole medium, which has the same name and place: the live marks tell
    copied     a copy of a running cluster's database, with its rows of runs and so the places of their journals, and a
               node on it that reaches the same journals (F3): the running cluster loses nothing

Each is `play(seed) -> violations`.
"""

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import Final

from server.cluster.belonging import FOREIGN_S, WARY_S
from server.errors import GarrisonError
from server.ids import ActorId, NodeId, actor_id
from server.storage.ports import DatabaseIdentity
from tests.sim import ownership
from tests.sim.client import until
from tests.sim.directed import LIMIT_S, SETTINGS, TOYS, ask, insist, of_node, versions_lost
from tests.sim.faults import StoreTroubles
from tests.sim.loop import SimLoop, simulate
from tests.sim.world import JournalMode, World, silent
from tests.support.phases import refused_transitions

SETTLED_S: Final = FOREIGN_S + 6.0
BACK_S: Final = WARY_S + 6.0
LATE_S: Final = 0.05
OTHER: Final = "e" * 32


def play(seed: int, run: Callable[[World, World], Awaitable[list[str]]], journal: JournalMode = "none") -> list[str]:
    """Make two worlds with a database each and everything else in common, do `run`, check what always holds."""
    worlds: list[World] = []

    async def main(loop: SimLoop) -> list[str]:
        world, other = (World(loop, f"{seed}{name}", SETTINGS, journal, TOYS) for name in ("", "/other"))
        other.network, other.gossip, other.journals = world.network, world.gossip, world.journals
        other.database.identity = DatabaseIdentity(OTHER)
        worlds.extend((world, other))
        for one in worlds:
            one.store.timeout_s = 0.6
        with world.catching_logs():
            wrong = await run(world, other)
            for one in worlds:
                for name in list(one.processes):
                    await one.stop_process(name)
            await asyncio.sleep(1)
        return wrong

    try:
        with silent():
            wrong = simulate(seed, main, 2 * LIMIT_S).result
    except Exception as error:
        wrong = [f"{type(error).__name__}: {error}"]
    return [
        *wrong,
        *(f"illegal transition: {line}" for line in refused_transitions()),
        *(line for world in worlds for line in ownership.one_writer(world.audit)),
        *(line for world in worlds for line in ownership.taken_from_the_dead_only(world.audit)),
        *(line for world in worlds for line in ownership.released_by_the_owner(world.audit)),
    ]


def strangers(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World, other: World) -> list[str]:
        rng = world.rng("strangers")
        here = [f"n{number}" for number in range(1, rng.randint(1, 3) + 1)]
        there = [f"x{number}" for number in range(1, rng.choice((len(here), rng.randint(1, 3))) + 1)]
        how = rng.choice(("late", "at once", "apart"))
        if how == "apart":
            world.gossip.split({NodeId(name) for name in here}, {NodeId(name) for name in there})
        starts = [(world, name) for name in here] + [(other, name) for name in there]
        if how == "at once":
            rng.shuffle(starts)
        for place, (owner, name) in enumerate(starts):
            if place == len(here) and how == "late":
                await world.started(len(here))
                world.gossip.delay = lambda _frm, _to: LATE_S  # a seed answers at once with all that it knows
            owner.launch(name)
            if how == "at once":
                await asyncio.sleep(rng.uniform(0.0, 0.1))
        await until(lambda: len(world.nodes) == len(here) and len(other.nodes) == len(there), 10.0, "the starts")
        first = {name: world.nodes[name].address for name in here}
        if how == "apart":
            await asyncio.sleep(rng.uniform(2.0, 6.0))
            world.gossip.heal()
        await asyncio.sleep(SETTLED_S)
        wrong = _one_serves(world, other, f"{how}, {len(here)} and {len(there)}")
        if wrong:
            return wrong
        winner, loser = (world, other) if _serving(world) else (other, world)
        if how == "late" and (winner is not world or {n: world.nodes[n].address for n in here} != first):
            return [f"{how}: who came late stopped who served"]
        if how == "apart" and len(here) != len(there) and (winner is world) != (len(here) > len(there)):
            return [f"{how}: the smaller group goes on"]
        for node in list(loser.nodes.values()):
            if not isinstance(await ask(node, actor_id("pair", "p"), "both"), GarrisonError):
                return [f"{how}: {node.name} does not serve and takes changes"]
        for name in list(winner.processes):
            await winner.stop_process(name)
        await until(lambda: len(_serving(loser)) == len(loser.nodes), BACK_S, "the others to serve")
        await loser.converged(10)
        return []

    return play(seed, run)


def _serving(world: World) -> list[str]:
    return [name for name, node in world.nodes.items() if node.node.serves.is_set() and not node.node.ended.is_set()]


def _one_serves(world: World, other: World, how: str) -> list[str]:
    serving = {id(one): sorted(_serving(one)) for one in (world, other)}
    mine, theirs = serving[id(world)], serving[id(other)]
    if bool(mine) == bool(theirs):
        return [f"{how}: of one database serve {mine}, of the other {theirs}"]
    for one in (world, other):
        names = {NodeId(name) for name in one.nodes}
        if (found := serving[id(one)]) and len(found) != len(one.nodes):
            return [f"{how}: only {found} of {sorted(names)} serve"]
        for node in one.nodes.values():
            if strange := set(node.node.system.view.members) - names:
                return [f"{how}: {node.name} has {sorted(strange)} in its view"]
            if not found and not node.node.not_ready():
                return [f"{how}: {node.name} says that it is ready"]
    return []


def cloned(seed: int) -> list[str]:
    """See the module's head."""
    return copied(seed, "d" * 32)


def copied(seed: int, uuid: str = OTHER) -> list[str]:
    """See the module's head."""

    async def run(world: World, other: World) -> list[str]:
        rng, acked = world.rng("copied"), dict[ActorId, int]()
        for number in range(1, 4):
            world.launch(f"n{number}")
        await world.started(3)
        victim = world.nodes["n2"]
        pairs = of_node(victim, "pair", 6)
        for id in pairs:
            acked[id] = await ask(victim, id, "both")
        await asyncio.sleep(2.0)
        troubles = StoreTroubles(rng)  # nothing is flushed any more: what follows is in the journal only
        world.store.faults = troubles
        number = troubles.begin(1.0, frozenset({"write"}), "n2", ("refuse",))
        for name in ("nodes", "entities", "reminders", "last_incarnation"):
            setattr(other.database, name, copy.deepcopy(getattr(world.database, name)))
        other.database.identity = DatabaseIdentity(uuid)
        for id in pairs:
            acked[id] = await ask(victim, id, "both")
        journals, before = world.journals, dict(world.nodes)
        assert journals is not None
        other.gossip = type(world.gossip)(world.gossip.delay)
        other.launch("c1")
        await other.started(1)
        for id in pairs:
            await ask(other.nodes["c1"], id, "both")
        await asyncio.sleep(rng.uniform(1.0, 4.0))
        for name, node in before.items():
            kept = journals.runs.get(node.address)
            if world.nodes.get(name) is not node or node.node.lease_lost or kept is None or kept.sealed:
                return [f"the journal of {node.address} was taken by a node of a copy"]
        if uuid != OTHER:
            await other.stop_process("c1")  # nothing tells a clone from its original once the owner is dead
        world.crash_process("n2")
        await asyncio.sleep(1.0)
        troubles.end(number)
        for id in acked:
            version = await insist(world, id, "look")
            if version < acked[id]:
                return [f"{id} had {acked[id]} acknowledged and has {version}"]
        await asyncio.sleep(2.0)
        return versions_lost(world, acked)

    return play(seed, run, journal=("local", "redis")[seed % 2])
