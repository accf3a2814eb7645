"""`lagging(seed) -> violations`: streams that everybody sees late who is not in them, watched from every node, while
their actors' nodes stop and crash, ways between nodes are slow, the store forgets what it did, and clients lose their
connections. Members come in and go out again.

No client holds an event that is younger than the delay, by virtual time, unless it has been in the stream since. When
all is whole again everybody has every event in the end, and those who are in get the next one at once.
"""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, ClassVar, Final

import msgspec

from server.actors.actor import Caller, LoggedActor, Record, read_only, remote
from server.actors.app import App
from server.ids import ActorId, actor_id
from tests.sim.client import SimClient, Subscription
from tests.sim.client import until as wait_until
from tests.sim.directed import heal, play
from tests.sim.history import Saw
from tests.sim.pictures import insist
from tests.sim.troubles import trouble
from tests.sim.world import World

LENGTH_S: Final = 16.0
STAGES, MEMBERS = 4, 4
DELAY_S: Final = 4.0
CALM_S: Final = 15.0
"""Time from the end of all faults until everybody has what is theirs, beside the delay."""
AT_ONCE_S: Final = 2.0


class Played(msgspec.Struct, frozen=True, array_like=True, tag="played"):
    """`time_ms` is virtual time. `who` comes in (`comes`) or goes out, where it is somebody."""

    time_ms: int
    who: str = ""
    comes: bool = False


class Inside(msgspec.Struct, frozen=True):
    """Members who are in."""

    members: dict[str, bool] = {}


class Stage(LoggedActor[Inside]):
    """A stream with a delay for all who are not in it."""

    kind = "stage"
    State = Inside
    Event = Played
    time: ClassVar[Callable[[], float]]
    """The virtual time, which no node's clock is."""
    __slots__ = ()

    def activated(self) -> None:
        self.delay_watching(DELAY_S)

    @staticmethod
    def evolve(state: Any, record: Record) -> Inside:
        who, comes = record.event.who, record.event.comes
        others = {name: True for name in state.members if name != who}
        return Inside({**others, who: True} if who and comes else others)

    def guards_watch(self) -> bool:
        return True

    def lags(self, caller: Caller) -> bool:
        return caller.subject not in self.state.members

    @remote
    def perform(self, who: str, comes: bool) -> int:
        """Have something happen. Returns the number of the event."""
        self.emit(Played(int(Stage.time() * 1000), who, comes))
        if who:
            self.narrow_watching()
        return self.next_seq - 1

    @read_only
    def show(self) -> list[Any]:
        """The number of the next event, and who is in."""
        return [self.next_seq, self.state.members]


APP: Final = App(name="stages", actors=(Stage,))


def lagging(seed: int) -> list[str]:
    """See the module's head."""
    return play(seed, lambda world: _Play(world).run(), app=APP)


class _Play:
    """One run of the scenario."""

    def __init__(self, world: World) -> None:
        Stage.time = world.loop.time
        self.world, self.rng = world, world.rng("lagging")
        self.stages = [actor_id(Stage.kind, f"s{number}") for number in range(STAGES)]
        self.members = [world.client(f"w{number}", "service", text=number == 0) for number in range(MEMBERS)]
        self.watched: dict[tuple[str, ActorId], Subscription] = {}
        self.until = world.loop.time() + LENGTH_S
        self.ends = {stage: self.until - self.rng.uniform(0, LENGTH_S / 2) for stage in self.stages}
        """Nothing happens on a stage any more after that time, whatever becomes of its node."""

    async def run(self) -> list[str]:
        for member, stage in itertools.product(self.members, self.stages):
            self.watched[member.name, stage] = member.watch(stage)
        async with asyncio.TaskGroup() as group:
            for stage in self.stages:
                group.create_task(self._perform(stage))
                for member in self.members[: MEMBERS // 2]:  # the others never come in
                    group.create_task(self._come_and_go(stage, member))
            group.create_task(trouble(self.world, self.rng, self.until - 3, pause_s=(0.2, 1.2)))
            group.create_task(self._break_connections())
        heal(self.world)
        wrong: list[str] = []
        try:
            await self.world.started(3, 15.0)
            await self._everybody_has_all("in the end")
            for stage in self.stages:
                await insist(self.world, stage, "perform", "", False)
            truth = await self._truth()
            await wait_until(lambda: not self._lack(truth, inside=True), AT_ONCE_S, "those inside have it at once", 0.1)
            await self._everybody_has_all("of calm")
        except AssertionError as error:
            wrong += [str(error), *self._lack(await self._truth())]
        wrong += self._saw_too_early()
        wrong += [f"{each.name} gave up: {each.finished}" for each in self.members if each.finished]
        await self.world.stop_clients()
        return [*wrong, *self.world.faults]

    async def _truth(self) -> dict[ActorId, Any]:
        return {stage: await insist(self.world, stage, "show") for stage in self.stages}

    async def _everybody_has_all(self, when: str) -> None:
        truth = await self._truth()
        await wait_until(lambda: not self._lack(truth), DELAY_S + CALM_S, f"everybody has what is theirs {when}", 0.1)

    def _lack(self, truth: dict[ActorId, Any], inside: bool = False) -> list[str]:
        """Those who lack an event; `inside`: of those who are in."""
        return [
            f"{name} has {stage} up to {watched.next_seq} of {truth[stage][0]}"
            for (name, stage), watched in self.watched.items()
            if watched.over or watched.next_seq < truth[stage][0]
            if not inside or name in truth[stage][1]
        ]

    def _saw_too_early(self) -> list[str]:
        """Events that somebody saw who was not in, and that were younger than the delay. Who comes in may see all that
        was and is until the event by which it goes."""
        seen = [each for each in self.world.history if isinstance(each, Saw)]
        played: dict[tuple[str, int], Played] = {
            (each.topic, each.seq): msgspec.msgpack.decode(each.event, type=Played) for each in seen
        }
        stays: dict[tuple[str, str], list[tuple[int, float]]] = {}
        for (topic, seq), event in sorted(played.items()):
            if event.who:
                last = stays.setdefault((topic, event.who), [])
                if event.comes:
                    last.append((2**62, event.time_ms / 1000))
                elif last:
                    last[-1] = (seq, last[-1][1])
        wrong = []
        for each in seen:
            happened = played[each.topic, each.seq].time_ms / 1000
            was_in = any(each.seq < end and each.at >= since for end, since in stays.get((each.topic, each.client), ()))
            if each.at < happened + DELAY_S - 0.001 and not was_in:
                wrong.append(f"{each.client} saw {each.topic} {each.seq} after {each.at - happened:.3f} s")
        return wrong

    async def _perform(self, stage: ActorId) -> None:
        while self.world.loop.time() < self.ends[stage]:
            await insist(self.world, stage, "perform", "", False)
            await asyncio.sleep(self.rng.uniform(0.05, 0.4))

    async def _come_and_go(self, stage: ActorId, member: SimClient) -> None:
        comes = True
        while self.world.loop.time() < self.ends[stage] - 2:
            await asyncio.sleep(self.rng.uniform(0.5, 4.0))
            await insist(self.world, stage, "perform", member.name, comes)
            comes = not comes

    async def _break_connections(self) -> None:
        while self.world.loop.time() < self.until - 3:
            await asyncio.sleep(self.rng.uniform(0.5, 2.5))
            link = self.rng.choice(self.members).link
            if link is not None:
                link.abort()
