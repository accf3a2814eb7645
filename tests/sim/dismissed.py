"""`dismissed(seed) -> violations`: an actor ends the sessions of players whose sessions move from node to node, while
ways between nodes are slow or cut.

A session that was there when its end was said is over soon after that, wherever it was then, and on its way too. Its
client may begin another one.
"""

import asyncio
from typing import Final

import msgspec
from msgspec.structs import replace

from game.app import App as Game
from server.actors.actor import Actor, remote
from server.actors.app import App
from server.ids import actor_id
from tests.sim.client import SimClient
from tests.sim.directed import insist, play
from tests.sim.world import SimNode, World

PLAYERS: Final = 8
LENGTH_S: Final = 10.0
TOLD_S: Final = 2.0
"""Time within which everybody is told by a node that does not stop."""
OVER_S: Final = 3.5
"""Time after which a session that was ended may be nowhere any more: no way is bad for longer than a second."""


class WardenState(msgspec.Struct, frozen=True):
    ended: int = 0


class Warden(Actor[WardenState]):
    """Ends players' sessions."""

    kind = "warden"
    State = WardenState
    __slots__ = ()

    @remote
    def dismiss(self, player: str) -> str:
        """End the player's sessions. Returns the name of the node that says so to the others."""
        self.state = WardenState(self.state.ended + 1)
        self.end_sessions(player, "enough")
        return self.node


WARDED: Final[App] = replace(Game, name="warded", actors=(*Game.actors, Warden))


def dismissed(seed: int) -> list[str]:
    """See the module's head."""
    return play(seed, lambda world: _Play(world).run(), journal="local", app=WARDED)


class _Play:
    """One run of the scenario."""

    def __init__(self, world: World) -> None:
        self.world, self.rng, self.weather = world, world.rng("dismissed"), world.network.weather
        self.clients = [world.client(f"p{number}", "player") for number in range(PLAYERS)]
        self.wrong: list[str] = []
        self.until = world.loop.time() + LENGTH_S

    async def run(self) -> list[str]:
        world = self.world
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stops())
            for _ in range(2):
                group.create_task(self._bad_ways())
            for client in self.clients:
                group.create_task(self._dismiss(client))
        self.weather.mend()
        await world.started(3, 15.0)
        await world.stop_clients()
        return [*self.wrong, *world.faults]

    async def _dismiss(self, client: SimClient) -> None:
        """End the player's session now and then, and look whether some node still has it a while later."""
        loop = self.world.loop
        while loop.time() < self.until:
            await asyncio.sleep(self.rng.uniform(0.1, 1.5))
            await client.online()
            session, warden = client.session, actor_id(Warden.kind, f"w{self.rng.randrange(6)}")
            name = await insist(self.world, warden, "dismiss", client.name)
            said, nodes = loop.time(), self.world.nodes
            need = {name: nodes.get(name)}
            need |= {other: node for other, node in nodes.items() if _has(node, session)}
            await asyncio.sleep(TOLD_S)
            if any(node is None or nodes.get(other) is not node for other, node in need.items()):
                continue  # who was to tell, or to hear it, has stopped before that
            await asyncio.sleep(OVER_S - TOLD_S)
            for node in self.world.nodes.values():
                if _has(node, session):
                    self.wrong.append(f"{node.name} has session {session} of {client.name}, ended at {said:.1f}")

    async def _stops(self) -> None:
        """Nodes stop and come back, so that sessions move."""
        rng, world = self.rng, self.world
        while world.loop.time() < self.until:
            await asyncio.sleep(rng.uniform(0.1, 0.5))
            name = rng.choice(sorted(world.processes))
            await world.stop_process(name)
            world.launch(name)
            await world.started(3, 15.0)

    async def _bad_ways(self) -> None:
        """Ways are slow, or cut for a moment."""
        rng, world = self.rng, self.world
        while world.loop.time() < self.until:
            source, target = rng.sample(["n1", "n2", "n3"], 2)
            if rng.random() < 0.5:
                self.weather.slow_down(source, target, rng.uniform(0.1, 0.6))
                await asyncio.sleep(rng.uniform(0.2, 1.0))
                self.weather.slow_down(source, target, 0)
            else:
                self.weather.cut(source, target)
                await asyncio.sleep(rng.uniform(0.05, 0.4))
                self.weather.mend(source, target)


def _has(node: SimNode, session: str) -> bool:
    sessions = node.node.gateway.table.sessions.values()
    return any(each.caller.session == session for each in sessions)
