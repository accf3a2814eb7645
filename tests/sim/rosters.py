"""`rosters(seed) -> violations`: players join, leave, change their match, vanish and come back, while nodes crash,
stop, are slow and have a silent store. When all is whole again, whoever is in a match's roster says so itself, and
nobody else does.

Each player acts through any node, as its sessions would, and nobody asks the players that are left alone.
"""

import asyncio
from typing import Any, Final

import msgspec

from game import replay
from game.app import App
from game.match.state import MatchState
from game.messages import MatchCreate, MatchJoin, MatchLeave, MatchOptions, MatchTick
from game.player.state import PlayerState
from server.actors.actor import Caller
from server.eventlog.ports import StoredLog
from server.ids import ActorId, actor_id
from tests.sim.client import until as wait_until
from tests.sim.directed import ask, ask_any, heal, insist, play
from tests.sim.troubles import trouble
from tests.sim.world import World

LENGTH_S: Final = 30.0
AGREED_S: Final = 60.0
MATCHES, PLAYERS = 3, 6
HOST: Final = Caller("host", "host", "h")
OPTIONS: Final = MatchOptions(mode="recorded", score_limit=0, time_limit_ms=0, countdown_ms=0)
EXPECTED: Final = ("not everything could be stored", "lease refused", "activation fenced off", "journal damaged")


def rosters(seed: int) -> list[str]:
    """See the module's head."""
    return play(seed, lambda world: _Play(world).run(), journal="none" if seed % 2 else "local", app=App)


class _Play:
    """One run of the scenario."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng("rosters")
        self.weather = world.network.weather
        self.until = world.loop.time() + LENGTH_S
        self.matches = [f"m{number}" for number in range(MATCHES)]
        self.number = 0

    async def run(self) -> list[str]:
        world = self.world
        for match in self.matches:
            await insist(world, actor_id("match", match), "create", HOST, MatchCreate(1, "l", 1, match, OPTIONS))
        host = world.loop.create_task(self._host())
        async with asyncio.TaskGroup() as group:
            for number in range(PLAYERS):
                group.create_task(self._live(f"p{number}"))
            group.create_task(trouble(world, self.rng, self.until))
        heal(world)
        try:
            await world.started(3, 15.0)
            wrong = await self._late_words()
            await wait_until(lambda: not different(world), AGREED_S, "rosters and players agree", 0.5)
        except AssertionError as error:
            return [str(error), *different(world), *world.faults]
        finally:
            host.cancel()
        return [*wrong, *(line for line in world.faults if not any(words in line for words in EXPECTED))]

    async def _host(self) -> None:
        """The matches' host is heard of, so that they go on to the end of the run."""
        while True:
            for match in self.matches:
                await self._somewhere(actor_id("match", match), "tick", HOST, MatchTick(1, match, 0))
            await asyncio.sleep(4.0)

    async def _live(self, name: str) -> None:
        """Sessions of a player, one after the other; in each it joins matches, and it may vanish without a word."""
        player = actor_id("player", name)
        while self.world.loop.time() < self.until:
            self.number += 1
            caller = Caller("player", name, f"s{self.number}")
            await self._somewhere(player, "connected", caller)
            for _ in range(self.rng.randint(1, 4)):
                match = self.rng.choice(self.matches)
                self.number += 1
                if self.rng.random() < 0.7:
                    message: Any = MatchJoin(1, "l", self.number, match)
                    await self._somewhere(actor_id("match", match), "join", caller, message)
                else:
                    message = MatchLeave(1, "l", self.number, match)
                    await self._somewhere(actor_id("match", match), "leave", caller, message)
                await asyncio.sleep(self.rng.choice((0.0, 0.2, 1.5)))
            await self._somewhere(player, "disconnected", caller, "gone")
            await asyncio.sleep(self.rng.choice((0.5, 9.8, 10.1, 11.5)))

    async def _somewhere(self, id: ActorId, method: str, *args: Any) -> bool:
        return await ask_any(self.world, self.rng, id, method, *args)

    async def _late_words(self) -> list[str]:
        """What is said of a place that is left comes to where its player, or its match, has a newer one meanwhile."""
        here, there = self.rng.sample(sorted(self.world.processes), 2)
        await asyncio.sleep(12.0)  # sessions of before are gone
        left, back = self._homes("player", there, "left"), self._homes("player", here, "back")
        first, second, third = (self._homes("match", node, f"late{n}") for n, node in enumerate((here, there, there)))
        for match in (first, second, third):
            self.matches.append(match.partition("/")[2])
            await insist(self.world, match, "create", HOST, MatchCreate(1, "l", 1, self.matches[-1], OPTIONS))
        for player in (left, back):
            await insist(self.world, player, "connected", self._caller(player))
        await self._join(there, third, back)
        await asyncio.sleep(2.5)
        self.weather.slow_down(here, there, 6.0)
        await asyncio.gather(self._changes(left, first, second, here, there), self._returns(back, third, there))
        self.weather.slow_down(here, there, 0)
        _, players = stored(self.world)
        return [
            f"{player} is in {state.match or 'no match'}, and joined {match} last"
            for player, match in ((left, second), (back, third))
            if (state := players[player.partition("/")[2]]).match != match.partition("/")[2]
        ]

    async def _changes(self, player: ActorId, first: ActorId, second: ActorId, here: str, there: str) -> None:
        """The first match tells the player of its place twice, the second time when it is in another match."""
        await self._join(here, first, player)
        await asyncio.sleep(7.5)
        await self._join(there, second, player)
        await asyncio.sleep(17.0)

    async def _returns(self, player: ActorId, match: ActorId, there: str) -> None:
        """The player is gone for long enough to leave, and joins again before its match hears of that."""
        await insist(self.world, player, "disconnected", self._caller(player), "gone")
        await asyncio.sleep(12.5)
        await insist(self.world, player, "connected", self._caller(player))
        await self._join(there, match, player)
        await asyncio.sleep(12.0)

    async def _join(self, node: str, match: ActorId, player: ActorId) -> None:
        """Join, asked on `node`, where the match lives."""
        self.number += 1
        message = MatchJoin(1, "l", self.number, match.partition("/")[2])
        await ask(self.world.nodes[node], match, "join", self._caller(player), message)

    def _caller(self, player: ActorId) -> Caller:
        return Caller("player", player.partition("/")[2], "late")

    def _homes(self, kind: str, node: str, name: str) -> ActorId:
        """An id of `kind` whose slot `node` owns."""
        system = self.world.nodes[node].node.system
        ids = (actor_id(kind, f"{name}-{number}") for number in range(10_000))
        return next(id for id in ids if system.owner(id) == system.me)


# ---- what the store says -----------------------------------------------------------------------


def stored(world: World) -> tuple[dict[str, MatchState], dict[str, PlayerState]]:
    """Matches, by their logs, and players."""
    matches: dict[str, MatchState] = {}
    players: dict[str, PlayerState] = {}
    for id, entity in world.database.entities.items():
        kind, _, key = id.partition("/")
        if kind == "match" and entity.next_seq > 1:
            matches[key] = replay.final_state(StoredLog(entity.next_seq, entity.head, entity.chunks))
        elif kind == "player" and entity.state is not None:
            players[key] = msgspec.msgpack.decode(entity.state, type=PlayerState)
    return matches, players


def different(world: World) -> list[str]:
    """How rosters and players differ, as they are stored."""
    return rosters_differ(*stored(world))


def rosters_differ(matches: dict[str, MatchState], players: dict[str, PlayerState]) -> list[str]:
    """Who is in a roster says so, with the same number, and who says so is in it; nobody has still to tell."""
    out = [f"player/{name} has {state.leaving} to tell" for name, state in players.items() if state.leaving]
    for key, match in matches.items():
        if match.phase == "ended":
            continue
        for name, line in match.players.items():
            state = players.get(name, PlayerState())
            says = (state.match, state.birth, state.member) == (key, match.created_wall_ms, line.member)
            if line.present != says:
                where = f"{state.match or 'no match'} as {state.member}"
                out.append(f"match/{key} has {name} {line.present} as {line.member}, who is in {where}")
    for name, state in players.items():
        match = matches.get(state.match, MatchState())
        if state.match and (match.phase == "ended" or name not in match.players):
            out.append(f"player/{name} is in {state.match}, which is over or has no such player")
    return out
