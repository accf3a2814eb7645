"""`shut_out(seed) -> violations`: streams for some only, watched from every node, while their actors' nodes stop and
crash, ways between nodes are slow, the store forgets what it did, and clients' connections break.

Each client is taken out of each stream by one of its events, or never. No client is shown the event that took it out,
or any after it. When all is whole again those who were taken out know it, and all others have every event.
"""

import asyncio
import itertools
from typing import Any, Final

import msgspec

from server.actors.actor import Caller, LoggedActor, Record, read_only, remote
from server.actors.app import App
from server.ids import ActorId, actor_id
from tests.sim.client import SimClient, Subscription
from tests.sim.client import until as wait_until
from tests.sim.directed import heal, of_node, play
from tests.sim.history import Saw
from tests.sim.pictures import insist
from tests.sim.troubles import trouble
from tests.sim.world import World

LENGTH_S: Final = 12.0
CLUBS, MEMBERS = 5, 4
CALM_S: Final = 15.0
"""Time from the end of all faults until everybody has what is theirs."""


class Said(msgspec.Struct, frozen=True, array_like=True, tag="said"):
    """`out`: the member whom this takes out."""

    time_ms: int
    out: str = ""


class Members(msgspec.Struct, frozen=True):
    """Those who were taken out, each with the event that did so."""

    out: dict[str, int] = {}


class Club(LoggedActor[Members]):
    """A stream for all but those who were taken out."""

    kind = "club"
    State = Members
    Event = Said
    __slots__ = ()

    @staticmethod
    def evolve(state: Any, record: Record) -> Members:
        out: str = record.event.out
        return Members({**state.out, out: record.seq}) if out and out not in state.out else Members(state.out)

    def may_watch(self, caller: Caller) -> bool:
        return caller.subject not in self.state.out

    @remote
    def say(self, out: str) -> int:
        """Say something, or take somebody out. Returns the number of the event."""
        self.emit(Said(0, out))
        if out:
            self.narrow_watching()
        return self.next_seq - 1

    @read_only
    def show(self) -> list[Any]:
        """The number of the next event, and who is out."""
        return [self.next_seq, self.state.out]


APP: Final = App(name="clubs", actors=(Club,))


def shut_out(seed: int) -> list[str]:
    """See the module's head."""
    return play(seed, lambda world: _Play(world).run(), app=APP)


class _Play:
    """One run of the scenario."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng("shut out")
        self.clubs = [actor_id(Club.kind, f"c{number}") for number in range(CLUBS)]
        self.members = [world.client(f"w{number}", "service", text=number == 0) for number in range(MEMBERS)]
        self.watched: dict[tuple[str, ActorId], Subscription] = {}
        self.until = world.loop.time() + LENGTH_S

    async def run(self) -> list[str]:
        for member, club in itertools.product(self.members, self.clubs):
            self.watched[member.name, club] = member.watch(club)
        async with asyncio.TaskGroup() as group:
            for club in self.clubs:
                group.create_task(self._speak(club))
                at_s = self.rng.uniform(1, LENGTH_S - 3)
                for member in self.members:
                    if self.rng.random() < 0.7:  # many at about one time, so that there are questions under way
                        group.create_task(self._take_out(club, member, at_s + self.rng.choice((0.0, 0.1, 0.5, 2.0))))
            group.create_task(trouble(self.world, self.rng, self.until - 3, pause_s=(0.2, 1.2)))
            group.create_task(self._break_connections())
        heal(self.world)
        wrong: list[str] = []
        try:
            await self.world.started(3, 15.0)
            for club in self.clubs:
                await insist(self.world, club, "say", "")
            truth = {club: await insist(self.world, club, "show") for club in self.clubs}
            await wait_until(lambda: not self._lack(truth), CALM_S, "everybody has what is theirs", 0.1)
            wrong += self._saw_too_much(truth)
        except AssertionError as error:
            wrong += [str(error), *self._lack(truth)]
        wrong += [f"{each.name} gave up: {each.finished}" for each in self.members if each.finished]
        await self.world.stop_clients()
        return [*wrong, *self.world.faults]

    def _lack(self, truth: dict[ActorId, Any]) -> list[str]:
        """Those who lack an event, or word of their end."""
        lack = []
        for (name, club), watched in self.watched.items():
            next_seq, out = truth[club]
            if name in out:
                if not watched.over:
                    lack.append(f"{name} does not know that it is out of {club}, at {watched.next_seq} of {next_seq}")
            elif watched.over or watched.next_seq != next_seq:
                lack.append(f"{name} has {club} up to {watched.next_seq} of {next_seq}, over: {watched.over}")
        return lack

    def _saw_too_much(self, truth: dict[ActorId, Any]) -> list[str]:
        """Events that somebody saw though they are no older than the one that took it out."""
        wrong = []
        for seen in self.world.history:
            if isinstance(seen, Saw):
                out = truth[ActorId(seen.topic)][1].get(seen.client)
                if out is not None and seen.seq >= out:
                    wrong.append(f"{seen.client} was taken out of {seen.topic} by {out}, and saw {seen.seq}")
        return wrong

    async def _speak(self, club: ActorId) -> None:
        while self.world.loop.time() < self.until:
            await insist(self.world, club, "say", "")
            await asyncio.sleep(self.rng.uniform(0.02, 0.2))

    async def _take_out(self, club: ActorId, member: SimClient, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await insist(self.world, club, "say", member.name)

    async def _break_connections(self) -> None:
        while self.world.loop.time() < self.until - 3:
            await asyncio.sleep(self.rng.uniform(0.5, 2.5))
            link = self.rng.choice(self.members).link
            if link is not None:
                link.abort()


# ---- what a read finds ---------------------------------------------------------------------------


def late_reads(seed: int) -> list[str]:
    """Events between two nodes are lost, so that a watching node reads them; the one that takes its client out is made
    just before that. No client is shown it, though nothing but the read's answer tells that."""
    return play(seed, _late_reads, app=APP)


async def _late_reads(world: World) -> list[str]:
    client = world.client("w", "service")
    await client.online()
    node = world.nodes[client.node]
    club = next(id for other in world.nodes.values() if other is not node for id in of_node(other, Club.kind, 1))
    watched = client.watch(club)
    await insist(world, club, "say", "")
    await wait_until(lambda: watched.next_seq == 2, CALM_S, "the first event")
    system, streams = node.node.system, node.node.gateway.streams
    ask, read = system.ask, list[int]()

    async def late(identity: ActorId, name: str, args: tuple[Any, ...]) -> Any:
        if name == "read_events" and not read:
            read.append(await insist(world, club, "say", client.name))
        return await ask(identity, name, args)

    system.ask = late  # type: ignore[method-assign, assignment]
    streams.arrived = lambda *_: None  # type: ignore[method-assign]
    await insist(world, club, "say", "")
    wrong: list[str] = []
    try:
        await wait_until(lambda: watched.over, CALM_S, "word of the end")
    except AssertionError as error:
        wrong.append(str(error))
    if not read or watched.next_seq > read[0]:
        wrong.append(f"{client.name} was taken out by {read}, and has everything below {watched.next_seq}")
    await world.stop_clients()
    return wrong
