"""Actors of the succession scenarios beside the game's: each shows one thing that must go over.

pair     written behind       vault    written through      room     in memory only
bell     reminders            alarm    timers               lantern  a latest topic
guest    goes and comes
"""

import asyncio
import random
from typing import Any, Final, NamedTuple

import msgspec

from game.app import App
from server.actors.actor import Actor, read_only, remote
from server.errors import GarrisonError
from server.ids import ActorId, actor_id
from tests.sim.directed import Bell, BellState, Pair, PairState, Room, Vault
from tests.sim.loop import DOMAIN
from tests.sim.pictures import LampBoard
from tests.sim.world import SimNode, World

ANSWER_S: Final = 2.5
REMINDED_S: Final = 12.0
"""A reminder rings within this, whoever has its actor."""
STORED_S: Final = 5.0
"""What was written behind is stored within this, once all is whole."""
LATE_S: Final = 2.5
"""A timer may be so late: a whole succession, or one that was called off, and the slices after it."""


class Rang(NamedTuple):
    """A ring of a timer, in a process."""

    at: float
    process: str
    alarm: str
    number: int


RINGS: Final[list[Rang]] = []


def note_ring(alarm: str, number: int) -> None:
    domain = DOMAIN.get()
    assert domain is not None
    RINGS.append(Rang(asyncio.get_running_loop().time(), domain.name, alarm, number))


class AlarmState(msgspec.Struct, frozen=True):
    """How often each number rang, and the newest that was wound."""

    rung: dict[int, int] = {}
    newest: int = 0


class Alarm(Actor[AlarmState]):
    kind = "alarm"
    durability = "write_behind"
    State = AlarmState
    __slots__ = ()

    @remote
    def wind(self, number: int, in_s: float) -> int:
        if number > self.state.newest:  # not a call that was long under way
            self.state = AlarmState(self.state.rung, number)
            self.after(in_s, self.ring, number)
        return number

    def ring(self, number: int) -> None:
        rung = dict(self.state.rung)
        rung[number] = rung.get(number, 0) + 1
        self.state = AlarmState(rung, self.state.newest)
        note_ring(self.key, number)

    @read_only
    def rung(self) -> dict[int, int]:
        return self.state.rung


class Hall(Actor[PairState]):
    """In memory only, with a timer that rings on and on."""

    kind = "hall"
    durability = "volatile"
    State = PairState
    __slots__ = ()

    @remote
    def open(self) -> int:
        """The times that it has rung."""
        if not self.state.other:
            self.state = PairState(0, 1)
            self.after(0.1, self.ring)
        return self.state.one

    def ring(self) -> None:
        self.state = PairState(self.state.one + 1, 1)
        note_ring(self.key, self.state.one)
        self.after(0.1, self.ring)


class Guest(Actor[PairState]):
    """Goes after each visit, and comes back for the next."""

    kind = "guest"
    durability = "write_behind"
    State = PairState
    __slots__ = ()

    @remote
    def visit(self) -> int:
        self.state = PairState(self.state.one + 1, self.state.other + 1)
        self.release()
        return self.version + 1


class Lantern(LampBoard):
    """Its values never fall, whoever dies."""

    kind = "lantern"
    durability = "written_through"  # type: ignore[assignment]
    __slots__ = ()


TOYS: Final = (Pair, Vault, Room, Bell, Alarm, Hall, Guest, Lantern)
APP: Final = msgspec.structs.replace(App, actors=(*App.actors, *TOYS))
KEYS: Final = {"pair": 6, "vault": 3, "room": 6, "bell": 3, "alarm": 6, "hall": 6, "guest": 6, "note": 2, "lantern": 3}
BOARDS: Final = tuple(actor_id("lantern", f"lantern{number}") for number in range(KEYS["lantern"]))


class Wound(NamedTuple):
    """An alarm that was set: `due` at the latest where its node lives."""

    at: float
    due: float
    number: int


class Toys:
    """Asks all of them, from any node, until `stop`; `wrong` says what they should not have answered. `harm` is the
    time of the last moment at which a process died or its lease was lost, from which anything in memory may be gone."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng("toys")
        self.wrong: list[str] = []
        self.stopped = self.calm = False
        """`calm`: no view changes, so that what is in memory only stays."""
        self.harmed: list[float] = []
        self.refused: list[tuple[float, str]] = []
        """Calls that failed in calm turns."""
        self._told: dict[ActorId, int] = {}
        self._told_at: dict[ActorId, float] = {}
        self._wound: dict[ActorId, list[Wound]] = {}
        self._notes: dict[ActorId, tuple[float, int]] = {}
        self._numbers = 0
        RINGS.clear()

    def ids(self, kind: str) -> list[ActorId]:
        return [actor_id(kind, f"{kind}{number}") for number in range(KEYS[kind])]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for kind in KEYS:
                for identity in self.ids(kind):
                    group.create_task(self._live(kind, identity))

    async def _live(self, kind: str, identity: ActorId) -> None:
        rng = random.Random(f"{self.world.seed}/{identity}")
        while not self.stopped:
            await getattr(self, f"_{kind}")(identity, rng)
            await asyncio.sleep(rng.uniform(0.01, 0.4))

    async def ask(self, identity: ActorId, method: str, *args: Any) -> Any:
        """The answer, asked from any node; None where there was none."""
        nodes: list[SimNode] = list(self.world.nodes.values())
        if not nodes:
            return None
        node = self.rng.choice(nodes)
        asked = node.domain.run(self.world.loop.create_task, node.node.system.ask(identity, method, args))
        asked.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait([asked], timeout=ANSWER_S)
        if self.calm and not asked.done() and node.domain.state == "running":
            self.refused.append((self.world.loop.time(), f"{identity}.{method}: no answer"))
        if not asked.done() or asked.cancelled() or node.node.lease.surrendered:
            return None  # of what a process says to itself that has handed its run on nobody hears
        error = asked.exception()
        if error is not None and not isinstance(error, GarrisonError):
            raise error
        if error is not None and self.calm:
            self.refused.append((self.world.loop.time(), f"{identity}.{method}: {error!r}"))
        return asked.result() if error is None else None

    def _rises(self, identity: ActorId, value: int, since: float) -> None:
        """An acknowledged number is not forgotten, unless memory was lost since it was told."""
        before, told_at = self._told.get(identity, 0), self._told_at.get(identity, 0.0)
        if value <= before and not any(at >= told_at - 1.0 for at in self.harmed) and since >= told_at:
            self.wrong.append(f"{identity} said {before} at {told_at:.3f} and {value} after that")
        self._told[identity], self._told_at[identity] = value, self.world.loop.time()

    async def _pair(self, identity: ActorId, rng: random.Random) -> None:
        since = self.world.loop.time()
        answer = await self.ask(identity, "both" if rng.random() < 0.8 else "slowly")
        if answer is not None:
            self._rises(identity, answer, since)

    async def _hall(self, identity: ActorId, rng: random.Random) -> None:
        await self.ask(identity, "open")

    async def _note(self, identity: ActorId, rng: random.Random) -> None:
        self._numbers += 1
        note = actor_id("pair", f"{identity.partition('/')[2]}-{self._numbers}")
        version = await self.ask(note, "both")
        if version is not None:
            self._notes[note] = self.world.loop.time(), version

    async def _guest(self, identity: ActorId, rng: random.Random) -> None:
        since = self.world.loop.time()
        answer = await self.ask(identity, "visit")
        if answer is not None:
            self._rises(identity, answer, since)
        await asyncio.sleep(rng.uniform(0.0, 0.5))

    async def _vault(self, identity: ActorId, rng: random.Random) -> None:
        since = self.world.loop.time()
        answer = await self.ask(identity, "deposit")
        if answer is not None:
            version, total = answer
            if self.world.database.entities[identity].state_version < version:
                self.wrong.append(f"{identity}: version {version} was told of and is not stored")
            before = self._told.get(identity, 0)
            if total <= before and since >= self._told_at.get(identity, 0.0):
                self.wrong.append(f"{identity} had {before} and has {total}")
            self._told[identity], self._told_at[identity] = total, self.world.loop.time()

    async def _room(self, identity: ActorId, rng: random.Random) -> None:
        since = self.world.loop.time()
        answer = await self.ask(identity, "enter")
        if not self.calm:
            self._told.pop(identity, None)
        elif answer is not None:
            self._rises(identity, answer, since)

    async def _bell(self, identity: ActorId, rng: random.Random) -> None:
        loop, before = self.world.loop, self._rung(identity)
        if await self.ask(identity, "wind", rng.randint(100, 3000)) is None:
            return
        wound_at = loop.time()
        while self._rung(identity) == before and not self.stopped:
            if loop.time() > wound_at + REMINDED_S:
                if not any(wound_at - 1.0 <= at for at in self.harmed):
                    self.wrong.append(f"{identity} was wound at {wound_at:.3f} and has not rung")
                return
            await asyncio.sleep(0.2)

    def _rung(self, identity: ActorId) -> int:
        """How often a bell has rung, as it is stored."""
        entity = self.world.database.entities.get(identity)
        state = entity.state if entity is not None else None
        return msgspec.msgpack.decode(state, type=BellState).rung if state is not None else 0

    async def _alarm(self, identity: ActorId, rng: random.Random) -> None:
        self._numbers += 1
        number, in_s = self._numbers, rng.uniform(0.05, 1.5)
        if await self.ask(identity, "wind", number, in_s) is None:
            return
        now = self.world.loop.time()
        self._wound.setdefault(identity, []).append(Wound(now, now + in_s, number))
        await asyncio.sleep(in_s)
        while not self.stopped:  # there is one timer: the next would move it
            rung = await self.ask(identity, "rung")
            if (rung is not None and number in rung) or self.world.loop.time() > now + in_s + LATE_S:
                return
            await asyncio.sleep(0.1)

    async def _lantern(self, identity: ActorId, rng: random.Random) -> None:
        await self.ask(identity, "switch", rng.choice("abc"), rng.random() < 0.9)

    # ---- the end ----

    async def check(self) -> list[str]:
        """Everything that they show at the end, when all is whole."""
        for identity, wound in self._wound.items():
            rung = None
            for _ in range(20):
                rung = await self.ask(identity, "rung")
                if rung is not None:
                    break
                await asyncio.sleep(0.2)
            if rung is None:
                self.wrong.append(f"{identity} does not answer")
                continue
            for wound_at, due, number in wound:
                times, over = rung.get(number, 0), due + LATE_S
                if times > 1:
                    self.wrong.append(f"{identity} rang {times} times for {number}")
                calm = not any(wound_at - 1.0 <= at <= over + 1.0 for at in self.harmed)
                if times == 0 and calm and self.world.loop.time() > over:
                    self.wrong.append(f"{identity} never rang for {number}, due at {due:.3f}")
        until = self.world.loop.time() + STORED_S
        while self._not_stored() and self.world.loop.time() < until:  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.1)
        self.wrong += [f"{note} was told of and is not stored" for note in self._not_stored()]
        return self.wrong

    def _not_stored(self) -> list[ActorId]:
        """Notes that are only in a memory that was never lost."""
        entities = self.world.database.entities
        return [
            note
            for note, (told_at, version) in self._notes.items()
            if (row := entities.get(note)) is None or row.state_version < version
            if not any(at >= told_at - 1.0 for at in self.harmed)
        ]
