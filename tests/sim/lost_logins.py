"""Short plays of logins of which a rare word is lost, or a rare moment is met; each is `play(seed) -> violations`.

unheard     the word that a session has to go for a later one is lost, and its client goes on hearing other things
unseen      a player moves to a node that never saw the one whose session it has go
overtaken   a session that is just going to another node tells its login from the old one
"""

from typing import Any, Final

from game.app import App
from game.messages import MatchAssigned
from server.ids import actor_id
from tests.sim.client import SimClient
from tests.sim.client import until as wait_until
from tests.sim.directed import play
from tests.sim.world import SimNode, World

SUBJECT: Final = "ann"
PLAYER: Final = actor_id("player", SUBJECT)
GATEWAY: Final = {"heartbeat_interval_s": 1.0, "resume_window_s": 5.0}


def unheard(seed: int) -> list[str]:
    """See the module's head."""
    return play(seed, _unheard, app=App, gateway=GATEWAY)


def unseen(seed: int) -> list[str]:
    """See the module's head."""
    return play(seed, _unseen, nodes=2, app=App, gateway=GATEWAY)


def overtaken(seed: int) -> list[str]:
    """See the module's head."""
    return play(seed, _overtaken, app=App, gateway=GATEWAY)


def client_at(world: World, name: str, node: SimNode, stays: bool = True) -> SimClient:
    """A client of the player that connects to `node` first."""
    client = world.client(name, "player", subject=SUBJECT, stays=stays)
    client._urls = lambda: [node.listener.url]
    return client


def devices(world: World) -> dict[str, tuple[str, int]]:
    """Node and run of each session that the player knows."""
    found = [node.node.system.find(PLAYER) for node in world.nodes.values()]
    actors: list[Any] = [activation.actor for activation in found if activation is not None]
    return {
        name: (device.login.node, device.login.incarnation) for actor in actors for name, device in actor.here.items()
    }


def away_from_home(world: World) -> SimNode:
    """A node that does not own the player's slot."""
    return next(node for node in world.nodes.values() if node.node.system.owner(PLAYER) != node.address)


async def _unheard(world: World) -> list[str]:
    first = away_from_home(world)
    earlier = client_at(world, "earlier", first)
    await earlier.online()
    first.node.gateway.outlet._dismissals.arrived = lambda _: None  # type: ignore[method-assign]
    later = client_at(world, "later", next(node for node in world.nodes.values() if node is not first))
    await later.online()
    wrong = []

    def is_over() -> bool:
        first.node.system.outlet.push(SUBJECT, MatchAssigned(0, "m"))  # or it would come again, as it hears nothing
        return earlier.finished is not None

    try:
        await wait_until(is_over, 15.0, "the earlier session is over", 0.5)
    except AssertionError as error:
        wrong.append(str(error))
    if later.finished is not None:
        wrong.append(f"the later one is over: {later.finished}")
    await world.stop_clients()
    return wrong


async def _unseen(world: World) -> list[str]:
    first = away_from_home(world)
    client = client_at(world, "client", first)
    await client.online()
    home = next(node for node in world.nodes.values() if node.node.system.find(PLAYER) is not None)
    client.vanish()
    world.crash_process(first.name)
    await wait_until(lambda: first.address not in home.node.system.view.addresses, 8.0, "its node is missed")
    world.launch("n9")
    await world.started(2)
    await world.stop_process(home.name)
    wrong = [] if devices(world) else ["the player has not come to the new node with its session"]
    try:
        await wait_until(lambda: not devices(world), 60.0, "the session is known to be over", 1.0)
    except AssertionError as error:
        wrong.append(str(error))
    await world.stop_clients()
    return wrong


async def _overtaken(world: World) -> list[str]:
    first = next(node for node in world.nodes.values() if node.node.system.owner(PLAYER) == node.address)
    client = client_at(world, "client", first, stays=False)
    await client.online()
    mover, binding = first.node.gateway.mover, first.node.gateway.kit.actors
    pack = mover._pack

    def packed(session: Any, transfer: Any) -> Any:
        out = pack(session, transfer)
        binding.tell_again(session)  # as the answer to a heartbeat that was under way makes it do
        return out

    mover._pack = packed  # type: ignore[method-assign]
    client._urls = lambda: [node.listener.url for node in world.nodes.values()]
    await world.stop_process(first.name)
    wrong = []
    try:
        await wait_until(lambda: client.node not in ("", first.name) and client.link is not None, 8.0, "it is back")
        await wait_until(
            lambda: [node for node, _ in devices(world).values()] == [client.node], 1.5, "its player knows where it is"
        )
    except AssertionError as error:
        wrong.append(f"{error}: {devices(world)}, and it is at {client.node}")
    await world.stop_clients()
    return wrong
