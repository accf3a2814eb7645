"""Parties and players, in two scenarios, each `play(seed) -> violations`:

    parties      players make parties, join them, leave, are kicked and promoted, change their party, go away and come
                 back, and go into matches together, while nodes crash, stop, are slow and have a silent store. When
                 all is whole again each party and its members agree, nobody is in two, and the leader is here if
                 anybody is
    late_words   what is said of a membership comes late; then the party's node dies while the leader is away

In runs with odd seeds members who are away are let go soon; in the others never, so that a leader who is away must be
replaced. Each player acts through any node, and nobody asks the actors that are left alone.
"""

import asyncio
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from game.app import App
from game.messages import MatchCreate, MatchTick
from game.party.actor import Party
from game.party.codes import name_of_new
from game.party.messages import (
    PartyCreate,
    PartyInvite,
    PartyJoin,
    PartyJoinCode,
    PartyKick,
    PartyLeave,
    PartyPlay,
    PartyPromote,
    PartyRecode,
)
from game.party.rules import Grace
from game.party.state import PartyState
from game.player.state import PlayerState
from server.actors.actor import Caller
from server.ids import ActorId, actor_id
from tests.sim.client import until as wait_until
from tests.sim.directed import ask, ask_any, heal, insist, play
from tests.sim.rosters import EXPECTED, HOST, OPTIONS, rosters_differ, stored
from tests.sim.troubles import OF_ROWS, trouble
from tests.sim.world import World

LENGTH_S: Final = 30.0
AGREED_S: Final = 70.0
PLAYERS: Final = 6
MATCHES: Final = 2
SHORT: Final = Grace(leader_ms=3_000, member_ms=12_000)
LONG: Final = Grace(leader_ms=3_000, member_ms=3_600_000)


class ShortParty(Party):
    grace = SHORT
    __slots__ = ()


class LongParty(Party):
    grace = LONG
    __slots__ = ()


def _app(party: type[Party]) -> Any:
    return replace(App, actors=tuple(party if cls is Party else cls for cls in App.actors), routes={})


SHORT_APP, LONG_APP = _app(ShortParty), _app(LongParty)


def parties(seed: int) -> list[str]:
    """See the module's head."""
    app = SHORT_APP if seed % 2 else LONG_APP
    return play(seed, lambda world: _Play(world).run(), journal="none" if seed % 3 else "local", app=app, strays=True)


def late_words(seed: int) -> list[str]:
    """See the module's head."""
    return play(seed, lambda world: _Late(world).run(), app=LONG_APP, strays=True)


def _unexpected(world: World) -> list[str]:
    return [line for line in world.faults if not any(words in line for words in EXPECTED)]


def _seen(world: World, key: str) -> PartyState:
    """A party as one of its activations has it: what some client could know."""
    for node in world.nodes.values():
        activation = node.node.system.find(actor_id("party", key))
        if activation is not None:
            state: PartyState = activation.boundary
            return state
    return PartyState()


class _Play:
    """One run of the scenario."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng("parties")
        self.until = world.loop.time() + LENGTH_S
        self.matches = [f"m{number}" for number in range(MATCHES)]
        self.names: list[str] = []
        """Parties that were made."""
        self.number = 0

    async def run(self) -> list[str]:
        world = self.world
        for match in self.matches:
            await insist(world, actor_id("match", match), "create", HOST, MatchCreate(1, "l", 1, match, OPTIONS))
        host = world.loop.create_task(self._host())
        async with asyncio.TaskGroup() as group:
            for number in range(PLAYERS):
                group.create_task(self._live(f"p{number}", stays=number < PLAYERS // 2))
            group.create_task(self._ghosts())
            group.create_task(trouble(world, self.rng, self.until, statements=OF_ROWS))
        heal(world)
        try:
            await world.started(3, 15.0)
            await wait_until(lambda: not different(world), AGREED_S, "parties and players agree", 0.5)
        except AssertionError as error:
            return [str(error), *different(world), *world.faults]
        finally:
            host.cancel()
        return _unexpected(world)

    async def _host(self) -> None:
        """The matches' host is heard of, so that they go on to the end of the run."""
        while True:
            for match in self.matches:
                await self._somewhere(actor_id("match", match), "tick", HOST, MatchTick(1, match, 0))
            await asyncio.sleep(4.0)

    async def _live(self, name: str, stays: bool) -> None:
        """Sessions of a player, one after the other; the last one is there at the end if the player `stays`."""
        player = actor_id("player", name)
        while True:
            self.number += 1
            caller = Caller("player", name, f"s{self.number}")
            over = self.world.loop.time() >= self.until
            if over and not stays:
                return
            await (
                insist(self.world, player, "connected", caller)
                if over
                else self._somewhere(player, "connected", caller)
            )
            if over:
                return
            for _ in range(self.rng.randint(2, 6)):
                await self._act(caller)
                await asyncio.sleep(self.rng.choice((0.0, 0.2, 1.5)))
            await self._somewhere(player, "disconnected", caller, "gone")
            await asyncio.sleep(self.rng.choice((0.5, 2.0, 3.5, 9.8, 14.0)))

    async def _act(self, caller: Caller) -> None:
        """Do something in a party, or to it."""
        rng, name = self.rng, caller.subject
        self.number += 1
        command: Any = (1, "l", self.number)
        if not self.names or rng.random() < 0.15:
            made = name_of_new(name, "l", self.number)
            if await self._somewhere(actor_id("party", made), "create", caller, PartyCreate(*command, 4)):
                self.names = [*self.names[-3:], made]
            return
        key = rng.choice(self.names)
        party, state = actor_id("party", key), _seen(self.world, key)
        others = sorted(state.members) or ["p0"]
        other = rng.choice(others)
        what = rng.choice(("code", "code", "code", "invite", "leave", "kick", "promote", "play", "recode"))
        if what == "code":
            await self._somewhere(party, "join_code", caller, PartyJoinCode(*command, self._code(key)))
        elif what == "invite":
            other = f"p{rng.randrange(PLAYERS)}"
            by = Caller("player", state.leader or name, "s")
            if await self._somewhere(party, "invite", by, PartyInvite(*command, key, other)):
                self.number += 1
                guest = Caller("player", other, "s")
                await self._somewhere(party, "join", guest, PartyJoin(1, "l", self.number, key))
        elif what == "leave":
            await self._somewhere(party, "leave", caller, PartyLeave(*command, key))
        elif what == "kick" and other in state.members:
            leader = Caller("player", state.leader, "s")
            kick = PartyKick(*command, key, other, state.members[other].number)
            await self._somewhere(party, "kick", leader, kick)
        elif what == "promote":
            await self._somewhere(
                party, "promote", Caller("player", state.leader, "s"), PartyPromote(*command, key, other)
            )
        elif what == "play":
            leader = Caller("player", state.leader, "s")
            await self._somewhere(party, "play", leader, PartyPlay(*command, key, rng.choice(self.matches)))
        elif what == "recode":
            await self._somewhere(party, "recode", Caller("player", state.leader, "s"), PartyRecode(*command, key))

    async def _ghosts(self) -> None:
        """Callers that are no players come in now and then."""
        for number in range(4):
            await asyncio.sleep(self.rng.uniform(2.0, LENGTH_S / 4))
            if self.names:
                key = self.rng.choice(self.names)
                message = PartyJoinCode(1, "l", 1, self._code(key))
                await self._somewhere(
                    actor_id("party", key), "join_code", Caller("player", f"ghost{number}", "g"), message
                )

    async def _somewhere(self, id: ActorId, method: str, *args: Any) -> bool:
        return await ask_any(self.world, self.rng, id, method, *args)

    def _code(self, key: str) -> str:
        return _seen(self.world, key).code or "AAA"


class _Late:
    """One run of the second scenario. Players live on node `here`, parties on `there`."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng("late words")
        self.weather = world.network.weather
        self.number = 0
        self.here, self.there = self.rng.sample(sorted(world.processes), 2)

    async def run(self) -> list[str]:
        ann, bob, cyd = (self._homes("player", name) for name in ("ann", "bob", "cyd"))
        for player in (ann, bob, cyd):
            await insist(self.world, player, "connected", self._caller(player))
        one, two = await self._made(cyd), await self._made(ann)
        first = await self._joins(one, bob)
        await asyncio.sleep(3.0)
        wrong = await self._returns(one, two, bob, first, cyd)
        wrong += await self._wavers(one, bob)
        wrong += await self._left_alone(one, cyd)
        try:
            await wait_until(lambda: not different(self.world), 30.0, "parties and players agree", 0.5)
        except AssertionError as error:
            return [*wrong, str(error), *different(self.world)]
        return [*wrong, *_unexpected(self.world)]

    async def _returns(self, one: ActorId, two: ActorId, bob: ActorId, first: int, leader: ActorId) -> list[str]:
        """A member goes to another party and comes back before its node has said so, and a kick of its first
        membership comes when there is a second one."""
        self._slow(6.0)
        await self._joins(two, bob)
        await asyncio.sleep(2.0)
        await self._joins(one, bob)
        self.number += 1
        kick = PartyKick(1, "l", self.number, self._key(one), self._key(bob), first)
        await ask(self.world.nodes[self.there], one, "kick", self._caller(leader), kick)
        await asyncio.sleep(1.0)
        kicked = self._key(bob) not in _seen(self.world, self._key(one)).members
        self._slow(0.2)
        await asyncio.sleep(12.0)
        kicked = kicked or self._key(bob) not in _seen(self.world, self._key(one)).members
        wrong = [f"{bob} is taken out of {one} by what was said of an earlier membership"] if kicked else []
        party = stored(self.world)[1][self._key(bob)].in_party.party
        return wrong if party == self._key(one) else [*wrong, f"{bob} is in {party or 'none'}, and joined {one} last"]

    async def _wavers(self, party: ActorId, player: ActorId) -> list[str]:
        """The player goes and comes back, and joins again meanwhile: its words come late and in any order."""
        self._slow(3.0)
        for _ in range(2):
            await ask(self.world.nodes[self.here], player, "disconnected", self._caller(player), "gone")
            await asyncio.sleep(1.3)
            await ask(self.world.nodes[self.here], player, "connected", self._caller(player))
            await asyncio.sleep(self.rng.uniform(0.0, 1.0))
        await self._joins(party, player)
        await asyncio.sleep(self.rng.uniform(0.0, 2.0))
        self._slow(0)
        await asyncio.sleep(8.0)
        member = _seen(self.world, self._key(party)).members.get(self._key(player))
        return [] if member is not None and member.here else [f"{player} is here, and {party} says {member}"]

    async def _left_alone(self, party: ActorId, leader: ActorId) -> list[str]:
        """The leader is away when the party's node dies, and nobody calls the party."""
        await insist(self.world, leader, "disconnected", self._caller(leader), "gone")
        await asyncio.sleep(2.2)
        self.world.crash_process(self.there)
        await asyncio.sleep(30.0)
        self.world.launch(self.there)
        await self.world.started(3, 15.0)
        entity = self.world.database.entities[party]
        state = msgspec.msgpack.decode(entity.state or b"", type=PartyState)
        return [f"{party} is led by {leader}, who is away"] if state.leader == self._key(leader) else []

    async def _made(self, player: ActorId) -> ActorId:
        """A party of `player` that lives on `there`."""
        while True:
            self.number += 1
            name = name_of_new(self._key(player), "l", self.number)
            party, system = actor_id("party", name), self.world.nodes[self.there].node.system
            if system.owner(party) == system.me:
                await insist(self.world, party, "create", self._caller(player), PartyCreate(1, "l", self.number, 4))
                return party

    async def _joins(self, party: ActorId, player: ActorId) -> int:
        """Join, asked on the party's node; the number of the membership."""
        self.number += 1
        message = PartyJoinCode(1, "l", self.number, _seen(self.world, self._key(party)).code)
        await ask(self.world.nodes[self.there], party, "join_code", self._caller(player), message)
        member = _seen(self.world, self._key(party)).members.get(self._key(player))
        return member.number if member else 0

    def _caller(self, player: ActorId) -> Caller:
        return Caller("player", self._key(player), "late")

    @staticmethod
    def _key(id: ActorId) -> str:
        return id.partition("/")[2]

    def _slow(self, seconds: float) -> None:
        self.weather.slow_down(self.here, self.there, seconds)

    def _homes(self, kind: str, name: str) -> ActorId:
        """An id of `kind` whose slot `here` owns."""
        system = self.world.nodes[self.here].node.system
        ids = (actor_id(kind, f"{name}-{number}") for number in range(10_000))
        return next(id for id in ids if system.owner(id) == system.me)


# ---- what the store says -----------------------------------------------------------------------


def different(world: World) -> list[str]:
    """How parties, matches and players differ, as they are stored."""
    matches, players = stored(world)
    found = {
        id.partition("/")[2]: msgspec.msgpack.decode(entity.state, type=PartyState)
        for id, entity in world.database.entities.items()
        if id.startswith("party/") and entity.state is not None
    }
    grace = next(cls.grace for cls in world.app.actors if issubclass(cls, Party))
    return [*parties_differ(found, players, away=grace is LONG), *rosters_differ(matches, players)]


def parties_differ(parties: dict[str, PartyState], players: dict[str, PlayerState], away: bool) -> list[str]:
    """Who is in a party says so, with the same number and whether it is here, and who says so is in it; the leader is
    a member, and here if anybody is; nobody has still to tell. `away`: members may be away for long."""
    out = [
        f"player/{name} has {left} to tell"
        for name, state in players.items()
        if (left := state.in_party.places.leaving)
    ]
    where: dict[str, str] = {}
    for key, party in parties.items():
        out += [f"party/{key} has to tell {name} {word}" for name, word in party.untold.items()]
        if bool(party.members) == bool(party.ended_wall_ms) or len(party.members) > party.room:
            out.append(f"party/{key} has {len(party.members)} members of {party.room}, ended {party.ended_wall_ms}")
        here = [name for name, member in party.members.items() if member.here]
        if party.members and party.leader not in (here or party.members):
            out.append(f"party/{key} is led by {party.leader}, of {sorted(party.members)} these are here: {here}")
        for name, member in party.members.items():
            state = players.get(name, PlayerState())
            current = state.in_party.places.current
            if (current.name, current.birth, current.number) != (key, party.created_wall_ms, member.number):
                out.append(f"party/{key} has {name} as {member.number}, who is in {current}")
            if member.here != (state.status != "offline") or not (member.here or away):
                out.append(f"party/{key} has {name} here: {member.here}, who is {state.status}")
            if name in where:
                out.append(f"{name} is in party/{key} and party/{where[name]}")
            where[name] = key
    for name, state in players.items():
        party = parties.get(state.in_party.party, PartyState())
        if state.in_party.party and name not in party.members:
            out.append(f"player/{name} is in party/{state.in_party.party}, which has no such member")
    return out
