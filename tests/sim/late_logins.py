"""`late_logins(seed) -> violations`: what sessions say of themselves reaches their player late, twice and out of order,
through any node; one of them never begins, and its player moves and dies meanwhile. Each step is one promise of
`game/player/devices.py`.
"""

from typing import Any, Final

from game.app import App
from server.actors.actor import Caller
from server.actors.devices import Login
from server.errors import GarrisonError, Rejected
from server.ids import actor_id
from tests.sim.directed import ask, insist, play
from tests.sim.world import World

PLAYER: Final = actor_id("player", "ann")


def late_logins(seed: int) -> list[str]:
    """See the module's head."""
    return play(seed, lambda world: _Play(world).run(), app=App)


class _Play:
    """One run of the scenario. `first` and `second` are sessions, at any nodes."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng("late logins")
        self.wrong: list[str] = []

    async def run(self) -> list[str]:
        await insist(self.world, PLAYER, "connected", _caller("first"), _login("first", mark="one"))
        await self._beats("first", "it has logged in")
        await self._says("second", _login("second"))
        await self._beats("first", "the second one has not begun")
        await self._beats("second", "it was let in")
        await self._is_refused("first", "a later one has begun", "beat", None)
        await self._is_refused("first", "it gave way", "connected", _login("first", number=1))
        await self._stays_where_it_is()
        await self._own_client()
        return self.wrong

    async def _stays_where_it_is(self) -> None:
        """The second session goes to another node; what it said before comes after that, also to an activation that
        knows nothing."""
        for _ in range(2):
            await self._says("second", _login("second", node="n2", number=4))
            await self._says("second", _login("second", node="n1", number=3))
            if (found := self._known().get("second")) != ("n2", 4):
                self.wrong.append(f"second is at n2 with number 4, and its player says {found}")
            home = next(node for node in self.world.nodes.values() if node.node.system.find(PLAYER) is not None)
            self.world.crash_process(home.name)
            self.world.launch(home.name)
            await self.world.started(3, 15.0)
            await insist(self.world, PLAYER, "connected", _caller("second"), _login("second", node="n2", number=4))

    async def _own_client(self) -> None:
        """The client of the second session could not resume it, and comes with another one. The first wins now."""
        await self._says("third", _login("third", policy="first_wins", number=1), refused=True)
        await self._says("second", _login("second", node="n2", number=5, mark="two"))
        await self._says("third", _login("third", policy="first_wins", number=1, instead_of="two"))
        await self._beats("third", "it stands in for the second one")

    # ---- what sessions say ----

    async def _ask(self, session: str, method: str, *args: Any) -> Any:
        node = self.rng.choice(list(self.world.nodes.values()))
        return await ask(node, PLAYER, method, _caller(session), *args)

    async def _says(self, session: str, login: Login, refused: bool = False) -> None:
        answer = await self._ask(session, "connected", login)
        if isinstance(answer, GarrisonError) != refused:
            self.wrong.append(f"{session} logs in with number {login.number}: {answer!r}")

    async def _beats(self, session: str, why: str) -> None:
        answer = await self._ask(session, "beat", None)
        if isinstance(answer, GarrisonError):
            self.wrong.append(f"a heartbeat of {session} is not taken, though {why}: {answer!r}")

    async def _is_refused(self, session: str, why: str, method: str, *args: Any) -> None:
        answer = await self._ask(session, method, *args)
        if not isinstance(answer, Rejected):
            self.wrong.append(f"{method} of {session} is taken, though {why}")

    def _known(self) -> dict[str, tuple[str, int]]:
        """Node and login number of each device that the player knows."""
        found = [node.node.system.find(PLAYER) for node in self.world.nodes.values()]
        actors: list[Any] = [activation.actor for activation in found if activation is not None]
        return {
            name: (device.login.node, device.login.number) for actor in actors for name, device in actor.here.items()
        }


def _caller(session: str) -> Caller:
    return Caller("player", "ann", session)


def _login(session: str, **more: Any) -> Login:
    """Nodes of these sessions are of a run that nobody looks for."""
    return Login(**{"session": session, "incarnation": 2**40, **more})
