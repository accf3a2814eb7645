"""`friendships(seed) -> violations`: players who invite, accept, decline, remove, block and unblock each other at will,
while nodes crash, stop, are slow and have a silent store, and words that were told come again later. When all is whole
again, both sides of each pair agree; friends are those who both want it still; nobody is the friend of somebody who
blocks; and nothing is kept of a pair that is over.

`crossings(seed)` aims at words that come late, and at words that cross: they meet too rarely by chance.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

import msgspec

from game.app import App
from game.friends import messages as m
from game.friends import rules
from game.friends.state import FriendsState
from game.player.state import PlayerState
from server.actors.actor import Caller
from server.errors import GarrisonError, Rejected
from server.ids import actor_id
from tests.sim.client import until as wait_until
from tests.sim.directed import ask_any, heal, insist, play
from tests.sim.history import Wrote
from tests.sim.troubles import KINDS, OF_ROWS, trouble
from tests.sim.world import World

LENGTH_S: Final = 25.0
AGREED_S: Final = 60.0
PLAYERS: Final = 5
COMMANDS: Final[dict[str, Any]] = {
    "invite": m.FriendsInvite,
    "accept": m.FriendsAccept,
    "decline": m.FriendsDecline,
    "remove": m.FriendsRemove,
    "block": m.FriendsBlock,
    "unblock": m.FriendsUnblock,
}
OPENING, CLOSING = ("invite", "accept"), ("remove", "block")
SAME: Final = {"friend": "friend", "invited": "inviting", "inviting": "invited", "none": "none"}
"""The state that the other side shows, where nobody blocks."""
EXPECTED: Final = ("not everything could be stored", "lease refused", "activation fenced off", "journal damaged")


def friendships(seed: int) -> list[str]:
    """See the module's head."""
    return play(seed, lambda world: _Play(world).run(), journal="none" if seed % 2 else "local", app=App)


def crossings(seed: int) -> list[str]:
    """See the module's head."""
    return play(seed, lambda world: _Play(world).aim(), journal="none", app=App)


class Tried(msgspec.Struct):
    """A command: when it was sent first, and whether it was answered."""

    player: str
    act: str
    other: str
    answered: bool = False


def slow_or_not_s(rng: random.Random) -> float:
    """Seconds that each message takes on a way that is slow, or is so no longer."""
    return rng.choice((0.0, rng.uniform(0.3, 4.0)))


class _Play:
    """One run of the scenario."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng("friendships")
        self.weather = world.network.weather
        self.until = world.loop.time() + LENGTH_S
        self.players = [f"p{number}" for number in range(PLAYERS)]
        self.tried: list[Tried] = []
        self.number = 0

    async def run(self) -> list[str]:
        world = self.world
        for name in self.players:
            await insist(world, actor_id("player", name), "connected", Caller("player", name, "s"))
        async with asyncio.TaskGroup() as group:
            for name in self.players:
                group.create_task(self._live(name))
            group.create_task(
                trouble(world, self.rng, self.until, kinds=("slow", *KINDS), statements=OF_ROWS, slow_s=slow_or_not_s)
            )
            group.create_task(self._repeat())
        heal(world)
        return await self._agreed(lambda: unwanted(self.tried, stored(world)[0]))

    async def aim(self) -> list[str]:
        wrong = await self._aimed()
        return await self._agreed(lambda: wrong)

    async def _agreed(self, wrong: Callable[[], list[str]]) -> list[str]:
        """Whatever is wrong when both sides of each pair agree, which they do soon."""
        world = self.world
        try:
            await world.started(3, 15.0)
            await wait_until(lambda: not different(world), AGREED_S, "both sides of each pair agree", 0.5)
        except AssertionError as error:
            return [str(error), *different(world), *world.faults]
        return [*wrong(), *(line for line in world.faults if not any(words in line for words in EXPECTED))]

    async def _live(self, name: str) -> None:
        """A player does one thing after the other, to some others more often than to the rest."""
        others = [other for other in self.players if other != name]
        while self.world.loop.time() < self.until:
            other = self.rng.choice((others[0], others[0], *others))
            act = self.rng.choice(
                ("invite",) * 4 + ("accept",) * 4 + ("decline", "remove", "remove", "block", "unblock")
            )
            self.tried.append(tried := Tried(name, act, other))
            self.number += 1
            message = COMMANDS[act](1, name, self.number, other)
            for _ in range(3):  # a command that is not answered is sent again, as the SDK does
                if await self._somewhere(name, act, message):
                    tried.answered = True
                    break
            await asyncio.sleep(self.rng.choice((0.0, 0.1, 0.5, 2.0)))

    async def _somewhere(self, name: str, act: str, message: Any) -> bool:
        return await ask_any(self.world, self.rng, actor_id("friends", name), act, Caller("player", name, "s"), message)

    async def _repeat(self) -> None:
        """Words that were ever to be told come again, however late."""
        while self.world.loop.time() < self.until:
            await asyncio.sleep(self.rng.uniform(0.05, 0.3))
            entry = self.rng.choice(self.world.audit)
            if isinstance(entry, Wrote) and entry.id.startswith("friends/") and entry.after.state is not None:
                state = msgspec.msgpack.decode(entry.after.state, type=FriendsState)
                for other in state.untold:
                    args = (entry.id.partition("/")[2], state.links[other].mine)
                    await ask_any(self.world, self.rng, actor_id("friends", other), "hear", *args)

    # ---- what is aimed at ----

    async def _aimed(self) -> list[str]:
        here, there = self.rng.sample(sorted(self.world.processes), 2)
        wrong: list[str] = []
        for number, scene in enumerate(
            (
                self._late_invite,
                self._late_word,
                self._late_beside_own,
                self._crossing,
                self._invited_anew,
                self._lost_command,
            )
        ):
            who = [
                await self._newcomer(f"{name}{number}", here, node) for name, node in (("ann", here), ("bob", there))
            ]
            wrong += await scene(here, there, *who)
            heal(self.world)
        return wrong

    async def _late_invite(self, here: str, there: str, ann: str, bob: str) -> list[str]:
        """An invite comes late: it is taken back, and both sides have forgotten the pair."""
        await self._overtaken(here, ann, bob, "remove")
        return self._is(ann, bob, "none") + self._is(bob, ann, "none")

    async def _late_word(self, here: str, there: str, ann: str, bob: str) -> list[str]:
        """An invite comes late: it is taken back, and another one has been made."""
        await self._overtaken(here, ann, bob, "remove", "invite")
        return self._is(ann, bob, "invited") + self._is(bob, ann, "inviting")

    async def _late_beside_own(self, here: str, there: str, ann: str, bob: str) -> list[str]:
        """An invite comes late: it is taken back and forgotten, and the other side has an invite of its own now."""
        await self._do(here, ann, "invite", bob)
        await asyncio.sleep(1.0)
        word = stored(self.world)[0][ann].links[bob].mine
        await self._do(here, ann, "remove", bob)
        await asyncio.sleep(1.0)
        await self._do(there, bob, "invite", ann)
        await insist(self.world, actor_id("friends", bob), "hear", ann, word)
        await asyncio.sleep(1.0)
        return self._is(ann, bob, "inviting") + self._is(bob, ann, "invited")

    async def _overtaken(self, here: str, name: str, other: str, *acts: str) -> None:
        """Have the word of an invite come once more, when `acts` are done and heard."""
        await self._do(here, name, "invite", other)
        await asyncio.sleep(1.0)
        word = stored(self.world)[0][name].links[other].mine
        for act in acts:
            await self._do(here, name, act, other)
        await asyncio.sleep(1.0)
        await insist(self.world, actor_id("friends", other), "hear", name, word)
        await asyncio.sleep(1.0)

    async def _crossing(self, here: str, there: str, cyd: str, dan: str) -> list[str]:
        """A block and the consent to the invite before it are on their way at once."""
        await self._do(here, cyd, "invite", dan)
        await asyncio.sleep(1.5)
        self.weather.slow_down(here, there, 1.0)
        self.weather.slow_down(there, here, 1.0)
        await asyncio.gather(self._do(here, cyd, "block", dan), self._do(there, dan, "accept", cyd))
        await asyncio.sleep(8.0)
        wrong = self._is(cyd, dan, "blocked") + self._is(dan, cyd, "none")
        await self._do(there, dan, "invite", cyd)
        await asyncio.sleep(4.0)
        wrong += self._is(cyd, dan, "blocked") + self._is(dan, cyd, "invited")
        await self._do(here, cyd, "unblock", dan)
        await asyncio.sleep(4.0)
        return wrong + self._is(cyd, dan, "none") + self._is(dan, cyd, "none")

    async def _invited_anew(self, here: str, there: str, eve: str, fay: str) -> list[str]:
        """Somebody who has left its friend invites it anew, before that has heard of either."""
        await self._do(here, eve, "invite", fay)
        await asyncio.sleep(1.5)
        await self._do(there, fay, "accept", eve)
        await asyncio.sleep(1.5)
        wrong = self._is(eve, fay, "friend") + self._is(fay, eve, "friend")
        self.weather.cut(here, there)
        for act in ("remove", "invite"):
            await self._do(here, eve, act, fay)
        self.weather.mend(here, there)
        await asyncio.sleep(8.0)
        return wrong + self._is(eve, fay, "invited") + self._is(fay, eve, "inviting")

    async def _lost_command(self, here: str, there: str, gil: str, hal: str) -> list[str]:
        """A node takes commands along that it could not store: the versions of these are used again, and what is said
        under them is heard."""
        await self._do(here, gil, "invite", hal)
        await asyncio.sleep(1.5)
        await self._do(there, hal, "decline", gil)
        await asyncio.sleep(1.5)
        await self._do(here, gil, "invite", hal)
        await asyncio.sleep(1.5)
        self.world.store.down_for[here] = 1
        asked = [self._send(here, gil, act, hal) for act in ("remove", "invite")]
        await asyncio.sleep(0.2)
        wrong = [] if not any(answer.done() for answer in asked) else [f"{gil} was answered by a node without a store"]
        self.world.crash_process(here)
        self.world.store.down_for.clear()
        self.world.launch(here)
        await self.world.started(3, 15.0)
        await self._do(there, gil, "remove", hal)
        await asyncio.sleep(3.0)
        return wrong + self._is(gil, hal, "none") + self._is(hal, gil, "none")

    async def _newcomer(self, name: str, here: str, there: str) -> str:
        """A player that exists and lives on one node, and whose friends' actor lives on the other."""
        player, friends = (self.world.nodes[node].node.system for node in (here, there))
        names = (f"{name}-{number}" for number in range(10_000))
        found = next(
            name
            for name in names
            if player.owner(actor_id("player", name)) == player.me
            and friends.owner(actor_id("friends", name)) == friends.me
        )
        await insist(self.world, actor_id("player", found), "connected", Caller("player", found, "s"))
        return found

    def _send(self, through: str, name: str, act: str, other: str) -> "asyncio.Future[Any]":
        """Send a command; a future of its answer."""
        self.number += 1
        node, args = (
            self.world.nodes[through],
            (Caller("player", name, "s"), COMMANDS[act](1, "aimed", self.number, other)),
        )
        asked = node.domain.run(self.world.loop.create_task, node.node.system.ask(actor_id("friends", name), act, args))
        asked.add_done_callback(lambda done: done.cancelled() or done.exception())
        return asked

    async def _do(self, node: str, name: str, act: str, other: str) -> None:
        """Have a command carried out, through `node` where that answers."""
        while True:
            try:
                await self._send(node, name, act, other)
                return
            except Rejected:
                return  # what it was about has gone
            except GarrisonError:
                await asyncio.sleep(0.1)

    def _is(self, name: str, other: str, state: str) -> list[str]:
        link = stored(self.world)[0].get(name, FriendsState()).links.get(other)
        found = link.state if link is not None else "none"
        return [f"{name} has {other} as {found}, not {state}"] if found != state else []


# ---- what the store says -----------------------------------------------------------------------


def stored(world: World) -> tuple[dict[str, FriendsState], dict[str, PlayerState]]:
    """The lists, and the players."""
    lists: dict[str, FriendsState] = {}
    players: dict[str, PlayerState] = {}
    for id, entity in world.database.entities.items():
        kind, _, key = id.partition("/")
        if kind == "friends" and entity.state is not None:
            lists[key] = msgspec.msgpack.decode(entity.state, type=FriendsState)
        elif kind == "player" and entity.state is not None:
            players[key] = msgspec.msgpack.decode(entity.state, type=PlayerState)
    return lists, players


def different(world: World) -> list[str]:
    """How both sides differ, as they are stored."""
    return friends_differ(*stored(world))


def friends_differ(lists: dict[str, FriendsState], players: dict[str, PlayerState]) -> list[str]:
    """Each side mirrors the other's word and shows what follows from it; nobody has still to tell, and each player
    knows the number of its list."""
    out = []
    for name, state in lists.items():
        out += [f"friends/{name} has to tell {other}" for other in state.untold]
        if (known := players.get(name, PlayerState()).relations) != state.relations:
            out.append(f"player/{name} knows list {known}, not {state.relations}")
        for other, link in state.links.items():
            if link.state == "none" and not rules.is_hidden(link):
                out.append(f"friends/{name} keeps {other}, of whom there is nothing to say")
            mirror = lists.get(other, FriendsState()).links.get(name)
            if mirror is None:
                if link.state != "none" or not rules.is_silent(rules.said(link.mine)):
                    out.append(f"friends/{name} has {other} as {link.state}, who knows nothing")
                continue
            forgotten = link.mine == rules.NO_WORD and rules.is_silent(rules.said(mirror.theirs))
            if mirror.theirs != link.mine and not forgotten:
                out.append(f"friends/{name} has said {link.mine} of {other}, who mirrors {mirror.theirs}")
            blocks = rules.said(link.mine).blocks, rules.said(mirror.mine).blocks
            if any(blocks):
                wanted = [("blocked",) if mine else ("none", "invited") for mine in blocks]
                fits = link.state in wanted[0] and mirror.state in wanted[1]
            else:
                fits = mirror.state == SAME.get(link.state)
            if not fits:
                out.append(f"friends/{name} has {other} as {link.state}, and is {mirror.state} there")
    return out


def unwanted(tried: list[Tried], lists: dict[str, FriendsState]) -> list[str]:
    """Friends of whom one has not wanted it, or not since it ended it; and blocks that hold no more."""
    out = []
    for name, state in lists.items():
        for other, link in state.links.items():
            mine = [it for it in tried if (it.player, it.other) == (name, other)]
            closed = max((n for n, it in enumerate(mine) if it.act in CLOSING and it.answered), default=-1)
            if link.state == "friend" and not any(it.act in OPENING for it in mine[closed + 1 :]):
                out.append(f"{other} is a friend of {name}, who has not wanted that since its command {closed}")
        for it in {(it.player, it.other) for it in tried if it.player == name}:
            mine = [one for one in tried if (one.player, one.other) == it]
            last = max((n for n, one in enumerate(mine) if one.act == "block" and one.answered), default=None)
            if last is not None and not any(one.act == "unblock" for one in mine[last:]):
                found = state.links.get(it[1])
                if found is None or found.state != "blocked":
                    out.append(f"{it[1]} is not blocked by {name}, who did that")
    return out
