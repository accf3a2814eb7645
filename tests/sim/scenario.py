"""The first scenario: three nodes, players and a host, a match, a crash, and convergence.

`play(seed)` runs all of it on virtual time and returns what came of it; nothing in it depends on
anything but the seed. Players connect and watch; a host creates a match, players join, the host
reports; a node crashes in the middle; clients come back, the match goes on and ends; the crashed
node returns; views and directory converge; everybody leaves; the nodes stop in order; then the
checkers read the history and the store.
"""

import asyncio
import random
import traceback
from functools import partial
from typing import NamedTuple

from game.messages import (
    Assist,
    Death,
    Kill,
    MatchCreate,
    MatchEnd,
    MatchGet,
    MatchJoin,
    MatchOptions,
    MatchReport,
    MatchStart,
    Medal,
    Report,
)
from game.player.messages import PresenceSet, ProfileGet, ProfileSet
from server.errors import GarrisonError
from server.ids import ActorId
from tests.sim import checkers
from tests.sim.client import SimClient, Subscription, until
from tests.sim.history import Answered, Saw
from tests.sim.loop import SimLoop, Trace, simulate
from tests.sim.store import RandomFaults
from tests.sim.world import World, silent
from tests.support.phases import refused_transitions

NODES = ("n1", "n2", "n3")
PLAYERS = 6
REPORTS = 60
LIMIT_S = 300.0
FAULTY_TIMEOUT_S = 0.6
SETTINGS = {"gateway": {"heartbeat_interval_s": 1.0}, "store": {"segment_entries": 64}}


class Outcome(NamedTuple):
    """The outcome of a run. `violations` is empty if all was well; `match_died`: the match lived
    on the node that crashed."""

    violations: list[str]
    crashed: str
    match_died: bool
    events_seen: int
    answers: int
    reconnections: int
    logs: list[str]


class Scenario:
    """A run; see the module's head."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.rng("scenario")
        number = self.rng.randrange(10_000)  # other names in each run, so other slots
        self.match = f"m{number}"
        self.names = [f"p{number}-{n}" for n in range(PLAYERS)]
        self.topic = f"match/{self.match}"
        self.host: SimClient
        self.players: list[SimClient] = []
        self.streams: list[Subscription] = []
        self.time_ms = 0
        self.refused: list[str] = []
        self.crashed = ""
        self.match_died = False

    async def run(self) -> Outcome:
        world = self.world
        with world.catching_logs():
            for name in NODES:
                await world.start_node(name)
            await world.converged(5)
            self.host = world.client("host", "host")
            self.players = [world.client(name, "player", text=n % 3 == 2) for n, name in enumerate(self.names)]
            await self._open_match()
            await self._through_a_crash()
            await self._finish()
            wrong = await self._leave()
        return self._outcome(wrong)

    # ---- the parts ----

    async def _open_match(self) -> None:
        options = MatchOptions(mode="slayer", score_limit=0, time_limit_ms=0, countdown_ms=0)
        await self.host.command(partial(MatchCreate, match=self.match, options=options))
        await asyncio.gather(*(self._join(player) for player in self.players))
        await self.host.command(partial(MatchStart, match=self.match))
        self.streams.append(self.host.watch(self.topic))

    async def _join(self, player: SimClient) -> None:
        await player.online()
        self.streams.append(player.watch(self.topic))
        await asyncio.sleep(self.rng.uniform(0, 0.5))
        await player.command(partial(MatchJoin, match=self.match))

    async def _through_a_crash(self) -> None:
        """Reports and profile changes go on while a node dies at any moment and comes back."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._report())
            for player in self.players:
                group.create_task(self._live(player))
            group.create_task(self._crash_and_return())

    async def _report(self) -> None:
        for _ in range(REPORTS):
            events = self._happenings()
            await self.host.command(partial(MatchReport, match=self.match, events=events))
            await asyncio.sleep(self.rng.uniform(0.02, 0.4))

    def _happenings(self) -> list[Report]:
        """The events of the match since the last report."""
        events: list[Report] = []
        for _ in range(self.rng.randint(1, 6)):
            self.time_ms += self.rng.choice((0, 40, 300))
            killer, victim = self.rng.sample(range(0, PLAYERS, 1), 2)
            one, other = self.players[killer].name, self.players[victim].name
            events.append(
                self.rng.choice(
                    (
                        Kill(self.time_ms, one, other),
                        Death(self.time_ms, one),
                        Assist(self.time_ms, one),
                        Medal(self.time_ms, one, "double_kill"),
                    )
                )
            )
        return events

    async def _live(self, player: SimClient) -> None:
        """A player changes the profile and looks at the match now and then."""
        rng = random.Random(f"{self.world.seed}/life of {player.name}")
        for turn in range(8):
            await asyncio.sleep(rng.uniform(0.3, 2.0))
            try:
                await player.command(partial(ProfileSet, display_name=f"{player.name} {turn}"))
                await player.ask(partial(PresenceSet, status="online", activity=f"turn {turn}"))
                await player.ask(partial(MatchGet, match=self.match))
                await player.ask(partial(ProfileGet, player=rng.choice(self.players).name))
            except GarrisonError as error:
                if error.code != "not_found":  # a profile that was never set
                    self.refused.append(f"{player.name}: {error.code} {error.message}")

    async def _crash_and_return(self) -> None:
        await asyncio.sleep(self.rng.uniform(1, 8))
        self.crashed = self._victim()
        self.match_died = self._has_match(self.crashed)
        self.world.crash_node(self.crashed)
        await asyncio.sleep(self.rng.uniform(0.5, 6))
        await self.world.start_node(self.crashed)

    def _victim(self) -> str:
        """A node to crash: that of the match, the host's, or any."""
        of_match = [name for name in NODES if self._has_match(name)]
        return self.rng.choice([*of_match, self.host.node, self.rng.choice(NODES)])

    def _has_match(self, name: str) -> bool:
        return self.world.nodes[name].node.system.find(ActorId(self.topic)) is not None

    async def _finish(self) -> None:
        """The match ends; everybody has seen all of it; the cluster agrees."""
        await self.host.command(partial(MatchEnd, match=self.match, time_ms=self.time_ms))
        await until(self._all_saw_the_end, 15, "the end seen by all")
        await self.world.converged(15)

    def _all_saw_the_end(self) -> bool:
        return all(stream.events and stream.events[-1][0] == "rated" for stream in self.streams)

    async def _leave(self) -> list[str]:
        """Stop clients and nodes; what the cluster's state at the end shows."""
        world = self.world
        await asyncio.sleep(3)
        wrong = checkers.check_cluster(world.reports())
        await world.stop_clients()
        for name in list(world.nodes):
            await world.stop_node(name)
        await asyncio.sleep(world.store.timeout_s + 1)
        return wrong + checkers.none_left(world.left_tasks)

    def _outcome(self, wrong: list[str]) -> Outcome:
        world = self.world
        stored = world.stored()
        violations = [
            *wrong,
            *checkers.check_history(world.history, stored, [self.topic], world.excuses),
            *(f"refused: {line}" for line in self.refused),
            *(f"fault: {line}" for line in world.faults),
            *(f"illegal transition: {line}" for line in refused_transitions()),
            *(f"strange: {line}" for client in world.clients.values() for line in client.strange),
            *(f"{client.name} gave up: {client.finished}" for client in world.clients.values() if client.finished),
        ]
        return Outcome(
            violations,
            self.crashed,
            self.match_died,
            sum(isinstance(item, Saw) for item in world.history),
            sum(isinstance(item, Answered) for item in world.history),
            sum(client.connections - 1 for client in world.clients.values()),
            list(world.logs),
        )


class Played(NamedTuple):
    """A finished run: its outcome, the trace's digest, the virtual seconds that passed, and its
    world, to look into."""

    outcome: Outcome
    digest: str
    virtual_s: float
    world: World


STORE_FAULTS = frozenset({"claim", "write", "release", "read", "append", "seal", "read_log", "read_tail"})
"""The statements that `faults` may hit; those of the lease have scenarios of their own."""


def play(seed: int, *, shuffle: bool = False, faults: float = 0.0, trace: Trace | None = None) -> Played:
    """Run the scenario. Each statement to the store goes wrong with probability `faults`. What
    broke the run off, in the scenario or in the loop, is a violation too."""
    worlds: list[World] = []

    async def main(loop: SimLoop) -> Outcome:
        world = World(loop, seed, SETTINGS)
        worlds.append(world)
        if faults:
            world.store.timeout_s = FAULTY_TIMEOUT_S
            world.store.faults = RandomFaults(world.rng("store faults"), faults, STORE_FAULTS)
        return await Scenario(world).run()

    try:
        with silent():
            run = simulate(seed, main, LIMIT_S, shuffle=shuffle, trace=trace)
    except Exception:
        wrong = [*(f"fault: {fault}" for fault in worlds[0].faults), traceback.format_exc()]
        return Played(Outcome(wrong, "", False, 0, 0, 0, list(worlds[0].logs)), "", worlds[0].loop.time(), worlds[0])
    return Played(run.result, run.digest, run.virtual_s, worlds[0])
