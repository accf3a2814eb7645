"""`facts(seed) -> violations`: two-sided facts whose actors' nodes crash, stop, are cut off and get a silent store.

Three sorts of them, and what must be true when all is whole again:

    gifts       a giver keeps a sum for each purse, and tells each gift: the purse has that sum, each gift once
    words       friends say whether they like each other, again and again: each one's mirror is the other's newest word
    results     a bout, whose log ends, tells each winner: each purse has it once, and its row says that all is told

It is read in the store, and nobody is asked: an actor whose node is gone must be found by its row.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from server.actors import facts as registers
from server.actors.actor import Actor, Fact, FactDone, LoggedActor, Record, Stamp, existing, fact, remote
from server.actors.app import App
from server.actors.facts import NEVER, Register
from server.errors import Rejected
from server.ids import ActorId, actor_id
from tests.sim.client import until as wait_until
from tests.sim.directed import ask, ask_any, heal, insist, play
from tests.sim.faults import StoreTroubles
from tests.sim.world import World

LENGTH_S: Final = 10.0
AGREED_S: Final = 60.0
"""After the last fault: both sides agree within this."""
GIVERS, PURSES, FRIENDS, BOUTS, WINNERS = 4, 3, 6, 3, 5


class Gift(msgspec.Struct, frozen=True, array_like=True):
    number: Stamp
    purse: str
    amount: int


class GiverState(msgspec.Struct, frozen=True):
    """`given`: what each purse was given in all."""

    given: dict[str, int] = {}
    open: tuple[Gift, ...] = ()


class Giver(Actor[GiverState]):
    kind = "giver"
    durability = "write_behind"
    State = GiverState
    __slots__ = ()

    @remote
    def give(self, purse: str, amount: int) -> None:
        given = {**self.state.given, purse: self.state.given.get(purse, 0) + amount}
        self.state = GiverState(given, (*self.state.open, Gift(self.stamp(), purse, amount)))

    @staticmethod
    def facts(key: str, state: Any) -> Iterable[Fact]:
        return [fact(gift.number, Purse, gift.purse, Purse.take, key, gift.number, gift.amount) for gift in state.open]

    def facts_done(self, done: list[FactDone]) -> None:
        over = {one.name.number for one in done}
        self.state = replace(self.state, open=tuple(gift for gift in self.state.open if gift.number not in over))


class PurseState(msgspec.Struct, frozen=True):
    """`taken`: the numbers and amounts of what each giver gave."""

    taken: dict[str, tuple[tuple[Stamp, int], ...]] = {}


class Purse(Actor[PurseState]):
    kind = "purse"
    durability = "write_behind"
    State = PurseState
    __slots__ = ()

    @remote
    def take(self, giver: str, number: Stamp, amount: int) -> None:
        known = self.state.taken.get(giver, ())
        if all(number != before for before, _ in known):
            self.state = PurseState({**self.state.taken, giver: (*known, (number, amount))})


class FriendState(msgspec.Struct, frozen=True):
    """`mine` are the words that this one has said of others, `theirs` those that it was told; a register without a
    value says that the word was taken back."""

    mine: dict[str, Register[bool]] = {}
    told: dict[str, Stamp] = {}
    theirs: dict[str, Register[bool]] = {}
    loners: tuple[str, ...] = ()


class Friend(Actor[FriendState]):
    """The name `nobody` is no actor's, and `loner` wants to hear of nobody."""

    kind = "friend"
    durability = "write_behind"
    State = FriendState
    __slots__ = ()

    @remote
    def say(self, other: str, likes: bool) -> None:
        word = Register[bool](self.stamp(), True if likes else None)
        self.state = replace(self.state, mine={**self.state.mine, other: word})

    @existing
    def hear(self, other: str, word: Register[bool]) -> None:
        if self.key == "loner":
            raise Rejected("alone")
        kept = registers.newest(self.state.theirs.get(other), word)
        if kept is not self.state.theirs.get(other):
            self.state = replace(self.state, theirs={**self.state.theirs, other: kept})

    @staticmethod
    def facts(key: str, state: Any) -> Iterable[Fact]:
        for other, word in state.mine.items():
            if word.stamp > state.told.get(other, NEVER):
                yield fact(word.stamp, Friend, other, Friend.hear, key, word)

    def facts_done(self, done: list[FactDone]) -> None:
        told, loners = dict(self.state.told), {*self.state.loners}
        for one in done:
            other = one.name.to.partition("/")[2]
            told[other] = max(told.get(other, NEVER), one.name.number)
            loners |= {f"{other}: {one.refused}"} if one.refused else set()
        self.state = replace(self.state, told=told, loners=tuple(sorted(loners)))


class Fought(msgspec.Struct, frozen=True, array_like=True, tag="fought"):
    time_ms: int
    winners: list[str]


class BoutState(msgspec.Struct, frozen=True):
    winners: tuple[str, ...] = ()


class Bout(LoggedActor[BoutState]):
    """Over with its first event. It leaves memory then, and is nobody's affair but by its row."""

    kind = "bout"
    State = BoutState
    Event = Fought
    __slots__ = ()

    @staticmethod
    def evolve(state: Any, record: Record) -> BoutState:
        return BoutState(tuple(record.event.winners))

    @staticmethod
    def finished(state: Any) -> bool:
        return bool(state.winners)

    @staticmethod
    def facts(key: str, state: Any) -> Iterable[Fact]:
        for winner in state.winners:
            yield fact(NEVER, Purse, winner, Purse.take, f"bout {key}", Stamp(0, 1), 1)

    def activated(self) -> None:
        if self.state.winners:
            self.release()

    @remote
    def fight(self, winners: list[str]) -> None:
        if not self.state.winners:
            self.emit(Fought(0, winners))
            self.release()


APP: Final = App(name="facts", actors=(Giver, Purse, Friend, Bout))


def facts(seed: int) -> list[str]:
    """See the module's head."""
    return play(seed, lambda world: _Play(world).run(), journal="none" if seed % 3 else "local", app=APP)


class _Play:
    """One run of the scenario."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng("facts")
        self.weather = world.network.weather
        self.until = world.loop.time() + LENGTH_S
        self.friends = [f"f{number}" for number in range(FRIENDS)]

    async def run(self) -> list[str]:
        world = self.world
        for name in (*self.friends, "loner"):
            await ask(next(iter(world.nodes.values())), actor_id("friend", name), "say", "loner", False)
        await asyncio.sleep(1.5)
        await self._end_of_all()
        self.until = world.loop.time() + LENGTH_S
        async with asyncio.TaskGroup() as group:
            for number in range(GIVERS):
                group.create_task(self._give(actor_id("giver", f"g{number}")))
            for name in self.friends:
                group.create_task(self._say(name))
            group.create_task(self._fight())
            group.create_task(self._trouble())
        heal(world)
        try:
            await world.started(3, 15.0)
            await self._late_words()
            await self._ends_ahead()
            await wait_until(lambda: not different(world), AGREED_S, "both sides agree", 0.25)
        except AssertionError as error:
            return [str(error), *different(world), *world.faults]
        expected = ("not everything could be stored", "lease refused", "activation fenced off", "journal damaged")
        expected += ("an earlier journal of this node is gone",)
        return [line for line in world.faults if not any(words in line for words in expected)]

    async def _somewhere(self, id: ActorId, method: str, *args: Any) -> bool:
        return await ask_any(self.world, self.rng, id, method, *args)

    async def _give(self, giver: ActorId) -> None:
        while self.world.loop.time() < self.until:
            await self._somewhere(giver, "give", f"p{self.rng.randrange(PURSES)}", self.rng.randint(1, 9))
            await asyncio.sleep(self.rng.uniform(0.02, 0.4))

    async def _say(self, name: str) -> None:
        others = [*(other for other in self.friends if other != name), "loner", "nobody"]
        while self.world.loop.time() < self.until:
            other = self.rng.choice(others)
            for _ in range(self.rng.randint(1, 3)):
                await self._somewhere(actor_id("friend", name), "say", other, self.rng.random() < 0.5)
                await asyncio.sleep(self.rng.choice((0.0, 0.3)))
            await asyncio.sleep(self.rng.uniform(0.05, 1.0))

    async def _fight(self) -> None:
        for number in range(BOUTS):
            winners = [f"w{self.rng.randrange(20)}" for _ in range(WINNERS)]
            await self._somewhere(actor_id("bout", f"b{number}"), "fight", sorted({*winners}))
            await asyncio.sleep(self.rng.uniform(1.0, LENGTH_S / BOUTS))

    async def _trouble(self) -> None:
        rng, world = self.rng, self.world
        world.store.faults = troubles = StoreTroubles(rng)
        while world.loop.time() < self.until:
            await asyncio.sleep(rng.uniform(0.1, 1.5))
            names = sorted(world.processes)
            source, target = rng.sample(names, 2)
            what = rng.choice(("slow", "cut", "stop", "crash", "crash", "outage", "store", "store"))
            if what == "slow":
                self.weather.slow_down(source, target, rng.uniform(0.3, 1.5))
            elif what == "cut":
                self.weather.cut(source, target)
                await asyncio.sleep(rng.uniform(0.3, 1.5))
                self.weather.mend(source, target)
            elif what == "outage":
                world.store.down = True
                await asyncio.sleep(rng.uniform(0.3, 1.5))
                world.store.down = False
            elif what == "store":
                statements = frozenset({rng.choice(("write", "write", "append", "claim", "release", "migrate"))})
                number = troubles.begin(0.7, statements, None, (rng.choice(("slow", "slow", "late", "forget")),))
                await asyncio.sleep(rng.uniform(0.3, 1.5))
                troubles.end(number)
            elif len(world.nodes) == len(names):
                await self._end(source, target, orderly=what == "stop")

    async def _end(self, name: str, other: str, *, orderly: bool) -> None:
        """End a node whose last words reach one of the others later than its successors'."""
        if self.rng.random() < 0.5:
            self.weather.slow_down(name, other, self.rng.uniform(0.5, 1.5))
            await asyncio.sleep(self.rng.uniform(0.1, 0.6))
        if orderly:
            await self.world.stop_process(name)
        else:
            self.world.crash_process(name)
        await asyncio.sleep(self.rng.uniform(0.0, 2.0))
        self.world.launch(name)

    async def _late_words(self) -> None:
        """Friends say something to one on a node that is slow to hear of theirs, move to a node that has just come, and
        say something else: what they said before comes later."""
        world = self.world
        source, target = self.rng.sample(sorted(world.processes), 2)
        names = [f"l{number}" for number in range(40)]
        late = [name for name in names if self._home(name) == source]
        ears = [name for name in names if self._home(name) == target][:3]
        for name in ears:
            await insist(self.world, actor_id("friend", name), "say", "loner", False)
        self.weather.slow_down(source, target, 4.5)
        await asyncio.gather(*(self._say_to(name, ears) for name in late))
        await asyncio.sleep(1.2)
        world.launch("n4")
        moved = await self._arrived("n4", late)
        await asyncio.gather(*(self._say_to(name, ears) for name in moved))
        await asyncio.sleep(4.5)
        self.weather.slow_down(source, target, 0)
        await world.stop_process("n4")
        await world.started(3, 15.0)

    async def _say_to(self, name: str, ears: list[str]) -> None:
        for other in ears:
            await insist(self.world, actor_id("friend", name), "say", other, self.rng.random() < 0.5)

    async def _arrived(self, node: str, friends: list[str]) -> list[str]:
        """Those of `friends` that live on `node` within two seconds."""
        for _ in range(40):
            await asyncio.sleep(0.05)
            system = self.world.nodes[node].node.system if node in self.world.nodes else None
            here = [name for name in friends if system and system.find(actor_id("friend", name)) is not None]
            if here:
                await asyncio.sleep(0.2)
                return here
        return []

    async def _end_of_all(self) -> None:
        """A bout is over while its winners cannot be reached, and every node stops in order."""
        world, bout = self.world, actor_id("bout", "last")
        last, *others = self.rng.sample(sorted(world.processes), 3)
        for name in others:
            await world.stop_process(name)
        await insist(self.world, bout, "wake")
        troubles = StoreTroubles(self.rng)
        world.store.faults = troubles
        number = troubles.begin(1.0, frozenset({"claim"}), None, ("refuse",))
        await insist(self.world, bout, "fight", ["far", "away"])
        await world.stop_process(last)
        troubles.end(number)
        for name in (last, *others):
            world.launch(name)
        await world.started(3, 15.0)

    async def _ends_ahead(self) -> None:
        """A giver gives while what it gave before is being stored, and its node dies before it has stored that too."""
        world = self.world
        node = self.rng.choice(sorted(world.processes))
        system = world.nodes[node].node.system
        giver = next(id for id in (actor_id("giver", f"a{n}") for n in range(1_000)) if system.owner(id) == system.me)
        purse = next(f"a{n}" for n in range(1_000) if system.owner(actor_id("purse", f"a{n}")) != system.me)
        world.store.faults, world.store.slow_s = (troubles := StoreTroubles(self.rng)), (0.5, 0.6)
        await insist(self.world, giver, "give", purse, 1)
        number = troubles.begin(1.0, frozenset({"write"}), node, ("slow",))
        await insist(self.world, giver, "give", purse, 10)
        await self._stored(giver, 1, during=("give", purse, 100))
        await asyncio.sleep(0.2)
        world.crash_process(node)
        troubles.end(number)
        await asyncio.sleep(1.0)
        world.launch(node)
        await world.started(3, 15.0)

    async def _stored(self, id: ActorId, version: int, during: tuple[Any, ...]) -> None:
        """Wait until `version` is stored, and call `during` every moment meanwhile."""
        for _ in range(100):
            entity = self.world.database.entities.get(id)
            if entity is not None and entity.state_version >= version:
                return
            await insist(self.world, id, *during)
            await asyncio.sleep(0.05)

    def _home(self, friend: str) -> str:
        owner = next(iter(self.world.nodes.values())).node.system.owner(actor_id("friend", friend))
        return owner.node if owner is not None else ""


# ---- what the store says -----------------------------------------------------------------------


def different(world: World) -> list[str]:
    """How the two sides of the facts differ, as they are stored."""
    states: dict[str, dict[str, Any]] = {"giver": {}, "purse": {}, "friend": {}, "bout": {}}
    types = {"giver": GiverState, "purse": PurseState, "friend": FriendState, "bout": BoutState}
    told: dict[str, bool] = {}
    for id, entity in world.database.entities.items():
        kind, _, key = id.partition("/")
        if entity.state is not None:
            states[kind][key] = msgspec.msgpack.decode(entity.state, type=types[kind])
        told[id] = not entity.open_facts or entity.owner is not None
    return [*gifts_differ(states["giver"], states["purse"]), *words_differ(states["friend"]),
            *results_differ(states["bout"], states["purse"], told)]  # fmt: skip


def gifts_differ(givers: dict[str, GiverState], purses: dict[str, PurseState]) -> list[str]:
    """Each purse has what each giver has given it, and nothing is under way."""
    out = [f"giver/{key} has {len(state.open)} open gifts" for key, state in givers.items() if state.open]
    for key, state in givers.items():
        for name in {*purses, *state.given}:
            taken = purses.get(name, PurseState()).taken.get(key, ())
            got, due = sum(amount for _, amount in taken), state.given.get(name, 0)
            if got != due:
                out.append(f"purse/{name} has {got} of giver/{key}, who gave {due}")
    for name, purse in purses.items():
        known = {*givers} | {key for key in purse.taken if key.startswith("bout ")}
        out += [f"purse/{name} has gifts of {key}, who gave nothing" for key in {*purse.taken} - known]
        for key, taken in purse.taken.items():
            if len({number for number, _ in taken}) < len(taken):
                out.append(f"purse/{name} has a gift of {key} twice")
    return out


def words_differ(friends: dict[str, FriendState]) -> list[str]:
    """Each one's mirror is the newest word of the other; what nobody hears is over, and made nobody."""
    out = ["friend/nobody was made by what it was told"] if "nobody" in friends else []
    for key, state in friends.items():
        for other, word in state.mine.items():
            if state.told.get(other, NEVER) < word.stamp:
                out.append(f"friend/{key} has an open word for {other}")
            mirror = friends.get(other, FriendState()).theirs.get(key)
            if other not in ("nobody", "loner") and mirror != word:
                out.append(f"friend/{key} said {word} of {other}, who has {mirror}")
    return out


def results_differ(bouts: dict[str, BoutState], purses: dict[str, PurseState], told: dict[str, bool]) -> list[str]:
    """Each winner has the result once, and the rows of bouts that nobody owns say so. (Where the answer of a release
    was lost the row says later that all is told: when its owner ends.)"""
    out = [f"bout/{key} has results to tell" for key in bouts if not told[f"bout/{key}"]]
    for key, bout in bouts.items():
        lack = [name for name in bout.winners if _taken(purses, name, key) != ((Stamp(0, 1), 1),)]
        out += [f"purse/{name} lacks the result of bout/{key}" for name in lack]
    return out


def _taken(purses: dict[str, PurseState], name: str, bout: str) -> tuple[tuple[Stamp, int], ...]:
    return purses.get(name, PurseState()).taken.get(f"bout {bout}", ())
