"""Matches that say who comes, while nodes crash, stop, are slow and have a silent store.

    admissions  players and parties join, leave, are kicked and may come again; some matches take nobody out of others.
                When all is whole again rosters and players agree (`rosters.py`), and each log shows: nobody came in
                who was kicked, a party came once for each of its numbers, and never did a match have more players
                than it has places for.
    crossings   a player is taken in by two matches at the same moment, one of which takes nobody out of others: it
                stays in the other one, whichever it hears of first. At last it is kicked there.

Each is `play(seed) -> violations`.
"""

import asyncio
import random
from collections.abc import Iterable
from typing import Any, Final

from game.app import App
from game.match.events import Kicked, Unkicked
from game.match.messages import AdmitParty, MatchKick, MatchUnkick
from game.match.state import MatchState
from game.messages import Joined, MatchCreate, MatchJoin, MatchLeave, MatchOptions, MatchTick, PartyJoined
from game.replay import steps
from server.actors.actor import Caller
from server.errors import Rejected
from server.eventlog.ports import StoredLog
from server.ids import ActorId, actor_id
from tests.sim.client import until as wait_until
from tests.sim.directed import ask, ask_any, heal, insist, play
from tests.sim.rosters import EXPECTED, different, stored
from tests.sim.troubles import trouble
from tests.sim.world import World

LENGTH_S: Final = 25.0
AGREED_S: Final = 60.0
PLACES, PLAYERS = 4, 7
HOST: Final = Caller("host", "host", "h")
PARTIES: Final = {"red": ["p0", "p1"], "blue": ["p2", "p3", "p4"]}


def options(refuses: bool = False, places: int = PLACES) -> MatchOptions:
    return MatchOptions(max_players=places, score_limit=0, time_limit_ms=0, countdown_ms=0, refuses_elsewhere=refuses)


def admissions(seed: int) -> list[str]:
    """See the module's head."""
    return play(seed, lambda world: _Play(world).run(), journal="none" if seed % 2 else "local", app=App)


class _Play:
    """One run of the scenario."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng("admissions")
        self.until = world.loop.time() + LENGTH_S
        self.matches = {"open": False, "other": False, "strict": True}
        self.number = 0

    async def run(self) -> list[str]:
        world = self.world
        for match, refuses in self.matches.items():
            message = MatchCreate(1, "l", 1, match, options(refuses))
            await insist(world, actor_id("match", match), "create", HOST, message)
        host = world.loop.create_task(self._ticks())
        async with asyncio.TaskGroup() as group:
            for number in range(PLAYERS):
                group.create_task(self._live(f"p{number}"))
            for party in PARTIES:
                group.create_task(self._parties(party))
            group.create_task(self._kicks())
            group.create_task(trouble(world, self.rng, self.until))
        heal(world)
        try:
            await world.started(3, 15.0)
            await wait_until(lambda: not different(world), AGREED_S, "rosters and players agree", 0.5)
        except AssertionError as error:
            return [str(error), *different(world), *world.faults]
        finally:
            host.cancel()
        faults = (line for line in world.faults if not any(words in line for words in EXPECTED))
        return [*(line for match in self.matches for line in log_is_wrong(log_of(world, match))), *faults]

    def _next(self) -> int:
        self.number += 1
        return self.number

    async def _somewhere(self, id: ActorId, method: str, *args: Any) -> bool:
        return await ask_any(self.world, self.rng, id, method, *args)

    async def _ticks(self) -> None:
        while True:
            for match in self.matches:
                await self._somewhere(actor_id("match", match), "tick", HOST, MatchTick(1, match, 0))
            await asyncio.sleep(4.0)

    async def _live(self, name: str) -> None:
        """Sessions of a player, one after the other; in each it joins matches, and it may vanish without a word."""
        player = actor_id("player", name)
        while self.world.loop.time() < self.until:
            caller = Caller("player", name, f"s{self._next()}")
            await self._somewhere(player, "connected", caller)
            for _ in range(self.rng.randint(1, 4)):
                match = self.rng.choice(sorted(self.matches))
                leaves = self.rng.random() < 0.3
                message: Any = (MatchLeave if leaves else MatchJoin)(1, "l", self._next(), match)
                await self._somewhere(actor_id("match", match), "leave" if leaves else "join", caller, message)
                await asyncio.sleep(self.rng.choice((0.0, 0.2, 1.5)))
            await self._somewhere(player, "disconnected", caller, "gone")
            await asyncio.sleep(self.rng.choice((0.5, 9.8, 11.5)))

    async def _parties(self, party: str) -> None:
        """A party comes to one match after the other, and asks again, also by another command, where it heard
        nothing."""
        caller, number = Caller("player", PARTIES[party][0], "p"), 0
        while self.world.loop.time() < self.until:
            match, number = self.rng.choice(sorted(self.matches)), number + 1
            for _ in range(self.rng.randint(1, 3)):
                command = self._next()
                for _ in range(2):
                    message = AdmitParty(party, number, PARTIES[party], "l", command)
                    await self._somewhere(actor_id("match", match), "admit_party", caller, message)
            await asyncio.sleep(self.rng.choice((0.5, 3.0)))

    async def _kicks(self) -> None:
        while self.world.loop.time() < self.until:
            match, player = self.rng.choice(sorted(self.matches)), f"p{self.rng.randrange(PLAYERS)}"
            kick = MatchKick(1, "l", self._next(), match, player, "afk")
            await self._somewhere(actor_id("match", match), "kick", HOST, kick)
            await asyncio.sleep(self.rng.uniform(0.5, 3.0))
            if self.rng.random() < 0.7:
                unkick = MatchUnkick(1, "l", self._next(), match, player)
                await self._somewhere(actor_id("match", match), "unkick", HOST, unkick)


# ---- what the log of a match shows ------------------------------------------------------------------


def log_of(world: World, match: str) -> StoredLog:
    entity = world.database.entities[actor_id("match", match)]
    return StoredLog(entity.next_seq, entity.head, entity.chunks)


def log_is_wrong(log: StoredLog) -> list[str]:
    """How the admissions of a match's log break their rules."""
    return admissions_are_wrong((step.record.seq, step.record.event, step.after) for step in steps(log))


def admissions_are_wrong(events: Iterable[tuple[int, Any, MatchState]]) -> list[str]:
    """See the module's head; each event comes with its number and the state after it."""
    out, kicked, parties = [], set[str](), dict[str, int]()
    for seq, event, after in events:
        came: list[str] = []
        if isinstance(event, Kicked):
            kicked.add(event.player)
            out += [f"{seq}: {event.player} is there, kicked"] * (
                event.player in after.players and after.players[event.player].present
            )
        elif isinstance(event, Unkicked):
            kicked.discard(event.player)
        elif isinstance(event, Joined):
            came = [event.player]
        elif isinstance(event, PartyJoined):
            came = [place.player for place in event.members]
            if event.number <= parties.get(event.party, 0):
                out.append(f"{seq}: party {event.party} came under {event.number} after {parties[event.party]}")
            parties[event.party] = event.number
            if came != PARTIES.get(event.party, came):
                out.append(f"{seq}: of party {event.party} came {came}")
        out += [f"{seq}: {player} came though kicked" for player in came if player in kicked]
        if after.players.present > after.options.max_players:
            out.append(f"{seq}: {after.players.present} players on {after.options.max_players} places")
    return out


# ---- crossings --------------------------------------------------------------------------------------


def crossings(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World) -> list[str]:
        rng = world.rng("crossings")
        here, there = rng.sample(sorted(world.processes), 2)
        player = _homes(world, "player", here, "p")
        name, wrong = player.partition("/")[2], []
        caller = Caller("player", name, "s")
        await insist(world, player, "connected", caller)
        strict, plain = (_homes(world, "match", there, match) for match in ("strict", "plain"))
        for match, refuses in ((strict, True), (plain, False)):
            key = match.partition("/")[2]
            await insist(world, match, "create", HOST, MatchCreate(1, "l", 1, key, options(refuses)))
        host = world.loop.create_task(_ticks(world, rng, [strict, plain]))
        world.network.weather.slow_down(there, here, rng.uniform(0.0, 0.3))
        world.network.weather.slow_down(here, there, rng.uniform(0.0, 0.3))
        first, second = rng.sample([strict, plain], 2)
        await asyncio.gather(
            _join(world, there, first, caller, 0.0), _join(world, there, second, caller, rng.uniform(0.0, 0.5))
        )
        for source, target in ((here, there), (there, here)):
            world.network.weather.slow_down(source, target, 0)
        if rng.random() < 0.5:
            world.crash_process(rng.choice((here, there)))
            await insist(world, player, "connected", Caller("player", name, "again"))
        try:
            await wait_until(lambda: not different(world), AGREED_S, "rosters and player agree", 0.5)
        except AssertionError as error:
            wrong = [str(error), *different(world)]
        _, players = stored(world)
        if (found := players[name].match) != plain.partition("/")[2]:
            wrong.append(f"{name} is in {found or 'no match'}")
        wrong += await _refusal(world, strict, caller)
        await insist(world, plain, "kick", HOST, MatchKick(1, "l", 2, plain.partition("/")[2], name))
        try:
            await wait_until(lambda: not different(world), AGREED_S, "who is kicked knows it", 0.5)
        except AssertionError as error:
            wrong += [str(error), *different(world)]
        host.cancel()
        return wrong

    return play(seed, run, app=App)


async def _join(world: World, node: str, match: ActorId, caller: Caller, after_s: float) -> None:
    """Join, until that is accepted or refused."""
    await asyncio.sleep(after_s)
    message = MatchJoin(1, "l", 1, match.partition("/")[2])
    while True:
        answer = await ask(world.nodes[node], match, "join", caller, message)
        if not isinstance(answer, Exception) or isinstance(answer, Rejected):
            return
        await asyncio.sleep(0.2)


async def _refusal(world: World, strict: ActorId, caller: Caller) -> list[str]:
    """Ask to join from another match, with nobody in a hurry: refused by its code."""
    message = MatchJoin(1, "l", 2, strict.partition("/")[2])
    for _ in range(100):
        for node in list(world.nodes.values()):
            answer = await ask(node, strict, "join", caller, message)
            if isinstance(answer, Rejected) and answer.code == "in_another_match":
                return []
            if not isinstance(answer, Exception):
                return [f"{strict} took {caller.subject} out of another match"]
        await asyncio.sleep(0.2)
    return [f"{strict} did not answer {caller.subject}"]


async def _ticks(world: World, rng: random.Random, matches: list[ActorId]) -> None:
    while True:
        for match in matches:
            await ask_any(world, rng, match, "tick", HOST, MatchTick(1, match.partition("/")[2], 0))
        await asyncio.sleep(4.0)


def _homes(world: World, kind: str, node: str, name: str) -> ActorId:
    """An id of `kind` whose slot `node` owns."""
    system = world.nodes[node].node.system
    ids = (actor_id(kind, f"{name}-{number}") for number in range(10_000))
    return next(id for id in ids if system.owner(id) == system.me)
