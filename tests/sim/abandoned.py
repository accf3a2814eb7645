"""`abandoned(seed) -> violations`: a client is connected where its session is while an older hello of its own asks for
that session at another node, from a connection that the client has given up.

Mostly that node hears that the connection is gone before its question is answered, or the search is over by then: the
session stays, and its connection is not touched. Where it hears nothing (a half-open connection), the session may go
there; its client is told to try again, and has it back with nothing missed.
"""

import asyncio
from typing import Any, Final, Literal

import msgspec

from server.wire.messages import Hello
from tests.sim.client import SimClient, until
from tests.sim.directed import play
from tests.sim.history import Disconnected
from tests.sim.network import ClientLink
from tests.sim.world import SimNode, World

Way = Literal["late", "quick", "half open"]
BACK_S: Final = 6.0


def abandoned(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World) -> list[str]:
        rng = world.rng("abandoned")
        way: Way = rng.choice(("late", "quick", "half open"))
        client = world.client("c", "service")
        await client.online()
        here = world.nodes[client.node.partition("#")[0]]
        there = world.nodes[rng.choice([name for name in sorted(world.nodes) if name != here.name])]
        session = client.session
        more_s = rng.uniform(1.1, 2.5) if way == "late" else rng.uniform(0.2, 0.7)
        world.network.weather.slow_down(there.name, here.name, more_s)
        ghost = _say_hello(world, client, there)
        await asyncio.sleep(rng.uniform(0.05, 0.15))
        if way == "quick":
            ghost.abort()
        elif way == "half open":
            ghost.half_open()
        await asyncio.sleep(more_s + 1.5)
        world.network.weather.slow_down(there.name, here.name, 0)
        wrong = []
        if way == "half open":
            await until(lambda: client.link is not None, BACK_S, "the client is back")
            await client.online()
        else:
            wrong = [f"{way}: closed with {code}" for code in _closed(world, client)]
        if client.session != session:
            wrong.append(f"{way}: the client got another session")
        if client.finished:
            wrong.append(f"{way}: the client gave up: {client.finished}")
        await world.stop_clients()
        return [*wrong, *world.faults]

    return play(seed, run)


def _say_hello(world: World, client: SimClient, node: SimNode) -> ClientLink:
    """Ask for the client's session on a connection of which the client itself knows nothing any more."""
    ignore: Any = lambda *_: None  # noqa: E731
    ghost = ClientLink(world.loop, world.network.domain, node.listener.connect("msgpack", "ghost"), ignore, ignore)
    hello = Hello(1, client._token(), client._resume, client._seen, "ghost")
    ghost.send(msgspec.msgpack.encode(hello))
    return ghost


def _closed(world: World, client: SimClient) -> list[int]:
    return [item.code for item in world.history if isinstance(item, Disconnected) and item.client == client.name]
