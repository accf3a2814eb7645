"""A node that only the store has lost: gossip hears it, its links and its clients reach it."""

import asyncio

import pytest

from game.player.messages import ProfileSet
from server.ids import actor_id
from tests.sim.client import SimClient, until
from tests.sim.history import Disconnected
from tests.sim.loop import SimLoop, simulate
from tests.sim.world import World, silent

GRACE_S, CUT_S = 3.0, 40.0


def players_of(world: World, node: str, count: int) -> list[SimClient]:
    """Clients whose players are in slots of `node`."""
    owner = world.nodes[node].node.system.owner
    names = [name for n in range(1_000) if owner(actor_id("player", name := f"p{n}")).node == node]
    return [world.client(name, "player") for name in names[:count]]


async def works(client: SimClient) -> None:
    await client.command(lambda id, lineage, number: ProfileSet(id, lineage, number, "name", ""), deadline_s=CUT_S)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_its_players_are_served_elsewhere_while_its_store_is_away(seed: int) -> None:
    async def main(loop: SimLoop) -> None:
        settings = {"store": {"lease_grace_s": GRACE_S}}
        world = World(loop, seed, settings, asks_store=True)
        with world.catching_logs():
            for name in ("n1", "n2", "n3"):
                world.launch(name)
            await world.started(3)
            here, *late = players_of(world, "n2", 2)
            await here.online()
            online_at = loop.time()
            await asyncio.sleep(2.0)  # what coming online changed is stored
            lost = world.nodes["n2"].node
            cut_at = loop.time()
            world.store.down_for["n2"] = 1
            # Out of the others' views, told so by one of them, and its clients sent away.
            await until(lambda: lost.lease_lost, 2.0 + GRACE_S + 6.0, "the node to hear that it is over")
            assert all("n2" not in world.nodes[name].node.system.view.members for name in ("n1", "n3"))
            async with asyncio.TaskGroup() as group:
                for client in (here, *late):
                    group.create_task(works(client))
            assert loop.time() < cut_at + CUT_S / 2, "served before its store is back"
            assert {client.node for client in (here, *late)} <= {"n1", "n3"}
            ends = [one for one in world.history if isinstance(one, Disconnected) and one.client == here.name]
            ends = [one for one in ends if one.at > online_at]  # not those that sent it to its node
            assert ends and ends[0].at > cut_at, "its session was there until the node knew"
            await asyncio.sleep(max(0.0, cut_at + CUT_S - loop.time()))
            del world.store.down_for["n2"]
            await world.started(3, 20.0)  # it comes back as a new incarnation
            assert world.nodes["n2"].node.system.me.incarnation > lost.system.me.incarnation
            await world.stop_clients()
            for name in list(world.processes):
                await world.stop_process(name)
            assert len(world.faults) == 1 and "this incarnation is over" in world.faults[0]

    with silent():
        simulate(seed, main, 300.0, max_steps=50_000_000)


def test_while_the_store_is_away_from_all_nobody_is_over() -> None:
    async def main(loop: SimLoop) -> None:
        world = World(loop, 4, {"store": {"lease_grace_s": GRACE_S}}, asks_store=True)
        with world.catching_logs():
            for name in ("n1", "n2"):
                world.launch(name)
            await world.started(2)
            nodes = [process.node for process in world.nodes.values()]
            for name in ("n1", "n2"):
                world.store.down_for[name] = 1
            await asyncio.sleep(30.0)
            assert [(node.lease.holds(), node.lease_lost, len(node.system.view.members)) for node in nodes] == [
                (False, False, 2)
            ] * 2
            world.store.down_for.clear()
            for name in list(world.processes):
                await world.stop_process(name)

    with silent():
        simulate(4, main, 300.0, max_steps=50_000_000)
