"""`hidden(seed) -> violations`: players become invisible and visible, join matches and leave them, while nodes crash
and are slow and cut off. When all is whole again, and a minute has passed, somebody who takes part in nothing sees on
each scoreboard those who are visible, and nobody else.
"""

import asyncio
from typing import Any, Final

from game.app import App
from game.messages import MatchCreate, MatchGet, MatchJoin, MatchLeave, MatchOptions, MatchTick, Scoreboard
from game.player.messages import PresenceSet
from game.player.state import PlayerState
from server.actors.actor import Caller
from server.ids import ActorId, actor_id
from tests.sim.client import until as wait_until
from tests.sim.directed import ask, ask_any, heal, insist, play
from tests.sim.rosters import stored
from tests.sim.world import World

LENGTH_S: Final = 40.0
AGREED_S: Final = 75.0
"""A word that is lost is said again within a minute."""
BEAT_S: Final = 5.0
MATCHES, PLAYERS = 2, 4
HOST: Final = Caller("host", "host", "h")
OUTSIDER: Final = Caller("player", "nobody", "n")
OPTIONS: Final = MatchOptions(mode="recorded", score_limit=0, time_limit_ms=0, countdown_ms=0)


def hidden(seed: int) -> list[str]:
    """See the module's head."""
    return play(seed, lambda world: _Play(world).run(), journal="none" if seed % 2 else "local", app=App)


class _Play:
    """One run of the scenario."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng("hidden")
        self.weather = world.network.weather
        self.until = world.loop.time() + LENGTH_S
        self.matches = [f"m{number}" for number in range(MATCHES)]
        self.players = [f"p{number}" for number in range(PLAYERS)]
        self.number = 0
        self.boards: dict[str, Scoreboard] = {}
        self.over = False

    async def run(self) -> list[str]:
        world = self.world
        for match in self.matches:
            await insist(world, actor_id("match", match), "create", HOST, MatchCreate(1, "l", 1, match, OPTIONS))
        others = [world.loop.create_task(self._host())]
        others += [world.loop.create_task(self._beat(name)) for name in self.players]
        async with asyncio.TaskGroup() as group:
            for name in self.players:
                group.create_task(self._live(name))
            group.create_task(self._trouble())
        heal(world)
        try:
            await world.started(3, 15.0)
            others.append(world.loop.create_task(self._look()))
            await wait_until(lambda: not self._wrong(), AGREED_S, "boards show who is visible", 1.0)
        except AssertionError as error:
            return [str(error), *self._wrong()]
        finally:
            self.over = True
            await asyncio.gather(*others)
        return []

    def _wrong(self) -> list[str]:
        return boards_are_wrong(self.boards, stored(self.world)[1], self.matches)

    async def _look(self) -> None:
        """Somebody who takes part in nothing asks for scoreboards."""
        while not self.over:
            for match in self.matches:
                node = self.rng.choice(sorted(self.world.nodes))
                question = (actor_id("match", match), "get", OUTSIDER, MatchGet(1, match))
                answer = await ask(self.world.nodes[node], *question)
                if isinstance(answer, Scoreboard):
                    self.boards[match] = answer
            await asyncio.sleep(1.0)

    async def _host(self) -> None:
        while not self.over:
            for match in self.matches:
                await self._somewhere(actor_id("match", match), "tick", HOST, MatchTick(1, match, 0))
            await asyncio.sleep(4.0)

    async def _beat(self, name: str) -> None:
        """Be here all the time, as a client is: where the player does not know the session, it says its login."""
        player, caller = actor_id("player", name), Caller("player", name, f"s-{name}")
        while not self.over:
            if not await self._somewhere(player, "beat", caller, None):
                await self._somewhere(player, "connected", caller)
            await asyncio.sleep(BEAT_S)

    async def _live(self, name: str) -> None:
        player, caller = actor_id("player", name), Caller("player", name, f"s-{name}")
        await insist(self.world, player, "connected", caller)
        while self.world.loop.time() < self.until:
            self.number += 1
            match, what = self.rng.choice(self.matches), self.rng.random()
            if what < 0.5:
                status: Any = self.rng.choice(("invisible", "online"))
                await self._somewhere(player, "presence_set", caller, PresenceSet(1, status))
            elif what < 0.85:
                message = MatchJoin(1, "l", self.number, match)
                await self._somewhere(actor_id("match", match), "join", caller, message)
            else:
                leave = MatchLeave(1, "l", self.number, match)
                await self._somewhere(actor_id("match", match), "leave", caller, leave)
            await asyncio.sleep(self.rng.choice((0.0, 0.3, 2.0)))

    async def _somewhere(self, id: ActorId, method: str, *args: Any) -> bool:
        return await ask_any(self.world, self.rng, id, method, *args)

    async def _trouble(self) -> None:
        rng, world = self.rng, self.world
        while world.loop.time() < self.until:
            await asyncio.sleep(rng.uniform(0.5, 3.0))
            source, target = rng.sample(sorted(world.processes), 2)
            what = rng.choice(("slow", "cut", "crash", "crash"))
            if what == "slow":
                self.weather.slow_down(source, target, rng.uniform(0.3, 4.0))
            elif what == "cut":
                self.weather.cut(source, target)
                await asyncio.sleep(rng.uniform(0.3, 2.5))
                self.weather.mend(source, target)
            elif len(world.nodes) == len(world.processes):
                world.crash_process(source)
                await asyncio.sleep(rng.uniform(0.0, 2.0))
                world.launch(source)


def boards_are_wrong(boards: dict[str, Scoreboard], players: dict[str, PlayerState], matches: list[str]) -> list[str]:
    """How boards that a stranger sees differ from who is visible in which match, as players say it themselves."""
    wrong = [f"nobody has seen {match}" for match in matches if match not in boards]
    for match, board in boards.items():
        here = {name: state.status for name, state in players.items() if state.match == match}
        seen = {line.player for line in board.players if line.present}
        for name, status in here.items():
            if (name in seen) != (status != "invisible"):
                wrong.append(f"{name}, who is {status}, is {'on' if name in seen else 'not on'} the board of {match}")
        if board.player_count != len(board.players):
            wrong.append(f"{match} counts {board.player_count} and names {len(board.players)}")
    return wrong


# ---- a word that its player forgets ---------------------------------------------------------------


def forgotten_word(seed: int) -> list[str]:
    """A player becomes invisible, its match hears of it, and the player's node is gone before that is stored: the
    player comes again as it was, visible, and knows nothing of the word. Its match shows it soon."""
    return play(seed, _forgotten_word, app=App)


async def _forgotten_word(world: World) -> list[str]:
    match = actor_id("match", "m")
    await insist(world, match, "create", HOST, MatchCreate(1, "l", 1, "m", OPTIONS))
    there = next(node for node in world.nodes.values() if node.node.system.find(match) is not None)
    name = next(
        f"p{number}"
        for number in range(1_000)
        if there.node.system.owner(actor_id("player", f"p{number}")) != there.address
    )
    player, caller = actor_id("player", name), Caller("player", name, f"s-{name}")
    await insist(world, player, "connected", caller)
    await insist(world, match, "join", caller, MatchJoin(1, "l", 1, "m"))
    await wait_until(lambda: stored(world)[1].get(name, PlayerState()).match == "m", 10.0, "its place is stored")
    home = next(node for node in world.nodes.values() if node.node.system.find(player) is not None)
    await insist(world, player, "presence_set", caller, PresenceSet(1, "invisible"))
    activation = there.node.system.find(match)
    assert activation is not None
    heard: Any = activation.actor
    wrong = []
    try:
        await wait_until(lambda: name in heard.hidden.players, 1.0, "the match hears that it is hidden", 0.001)
        world.crash_process(home.name)
        await insist(world, player, "connected", caller)
        if stored(world)[1][name].status == "invisible":
            return []  # it was stored in time, so that nothing is forgotten
        await wait_until(lambda: name not in heard.hidden.players, 10.0, "the match shows the player", 0.1)
    except AssertionError as error:
        wrong.append(str(error))
    return wrong
