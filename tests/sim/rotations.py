"""Scenario `rotations`: the keys of client tokens change node by node while the cluster runs (F62), and somebody starts
a node that has none in common with anybody.

All nodes have key a, then each is restarted with a and b, then each with b alone; orders and moments are the seed's.
Each node serves again after its restart, whoever is beside it. The outsider hears them all the time and never serves,
owns no slot and takes nothing away; once the others are gone it comes up by itself.

`play(seed) -> violations`.
"""

import asyncio
from functools import partial
from typing import Final

from server.cluster.terms import Terms
from server.errors import GarrisonError
from server.ids import NodeId, actor_id
from tests.sim.client import until
from tests.sim.directed import ask
from tests.sim.strangers import play as play_worlds
from tests.sim.world import World

BACK_S: Final = 8.0
OUTSIDER: Final = "x"


def play(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World, _other: World) -> list[str]:
        rng = world.rng("rotations")
        names = [f"n{number}" for number in range(1, rng.randint(1, 4) + 1)]
        for name in names:
            world.terms[name] = Terms(tokens="a")
            world.launch(name)
        await world.started(len(names))
        world.terms[OUTSIDER] = Terms(tokens="z")
        steps = [(name, keys) for keys in ("a.b", "b") for name in rng.sample(names, len(names))]
        if len(names) > 2 and rng.random() < 0.5:  # taken back at one node, when another is through already
            steps[len(names) + 1 : len(names) + 1] = [(steps[-1][0], "a")]
        outsider_at = rng.randrange(len(steps))
        for number, (name, keys) in enumerate(steps):
            if number == outsider_at:
                world.launch(OUTSIDER)
                await until(lambda: OUTSIDER in world.nodes, BACK_S, "the start of the outsider")
            world.terms[name] = Terms(tokens=keys)
            if len(names) > 1:
                await world.stop_process(name)
                await asyncio.sleep(rng.uniform(0.0, 1.0))
                world.launch(name)
            else:  # alone it would leave the cluster to the outsider: SIGHUP reads its keys
                world.nodes[name].node.gateway.use_token_rules(world.rules())
            told = partial(_told, world, name, keys)
            await until(told, BACK_S, f"{name} to serve with keys {keys}, and to tell them")
            if wrong := await _looked_at(world, names):
                return wrong
            await asyncio.sleep(rng.uniform(0.0, 1.5))
        for name in names:
            await world.stop_process(name)
        await until(lambda: _serves(world, OUTSIDER), BACK_S, "the outsider to serve alone")
        return []

    return play_worlds(seed, run)


def _serves(world: World, name: str) -> bool:
    return name in world.nodes and world.nodes[name].node.serves.is_set()


def _told(world: World, name: str, keys: str) -> bool:
    """Whether that node serves, and all that have it in their view know its keys."""
    views = [node.node.system.view.members.get(NodeId(name)) for node in world.nodes.values()]
    told = [member.terms.tokens for member in views if member is not None]
    return _serves(world, name) and set(told) == {keys}


async def _looked_at(world: World, names: list[str]) -> list[str]:
    if OUTSIDER not in world.nodes:
        return []
    outsider = world.nodes[OUTSIDER].node
    if outsider.serves.is_set() or not outsider.not_ready():
        return ["a node that has no key in common with any other serves"]
    for name in names:
        node = world.nodes[name]
        member = node.node.system.view.members.get(NodeId(OUTSIDER))
        if member is not None and member.state != "joining":
            return [f"{name} has the outsider as {member.state}"]
        answer = await ask(node, actor_id("pair", f"p{name}"), "both")
        if isinstance(answer, GarrisonError) and name == names[0]:
            return [f"{name} takes no changes: {answer!r}"]
    return []
