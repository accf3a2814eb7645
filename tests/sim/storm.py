"""The second scenario: matches go on through a storm of faults, all drawn from the seed.

Three processes (a fourth may join) run nodes of the real code, with the crash journal that the seed
says; hosts and players of two matches work all the while, and faults of every kind (`faults.py`)
come one upon the other. Then they end, whatever is down comes back, and the cluster must agree and
serve everybody again within a bound. The matches end, results are settled, everybody leaves, and the
checkers read what clients saw, what the store took, in which order, and what it holds.
"""

import asyncio
import random
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal, NamedTuple

from game.messages import (
    Kill,
    MatchCreate,
    MatchEnd,
    MatchGet,
    MatchJoin,
    MatchLeave,
    MatchOptions,
    MatchReport,
    MatchStart,
    Medal,
    Report,
)
from game.player.messages import PresenceSet, ProfileGet, ProfileSet
from server.errors import GarrisonError
from server.ids import ActorId
from server.liveness.judge import LIMITS, JudgeLimits
from tests.sim import checkers, ownership
from tests.sim.client import SimClient, Subscription, until
from tests.sim.faults import Aim, Faults, Planned, draw
from tests.sim.followers import Follower, Versions, different
from tests.sim.history import Answered, Served
from tests.sim.loop import SimLoop, Trace, simulate
from tests.sim.world import JournalMode, World, silent
from tests.support.phases import refused_transitions

NODES: Final = ("n1", "n2", "n3")
MATCHES: Final = 2
PLAYERS: Final = 2
"""Players of each match."""
MAX_SETS: Final = 15
"""Profile changes of a player: no more than its state remembers, so that the end shows each."""
STATEMENT_TIMEOUT_S: Final = 0.6
CONVERGE_S: Final = 20.0
"""After the last fault: views and directory agree within this."""
SERVED_S: Final = 20.0
"""After the last fault: every client has been answered something that it asked after that."""
CALM_S: Final = 2.0
RIGHT_S: Final = 8.0
"""After that: whoever watches players sees them as they are."""
LIMIT_S: Final = 200.0
PRUNING: Final = JudgeLimits(prune_s=0.7, kept_s=0.0)
SETTINGS: Final = {
    "gateway": {"heartbeat_interval_s": 1.0},
    "store": {"segment_entries": 16, "projection_interval_s": 0.2},
}


class Options(NamedTuple):
    """The ingredients of a storm; None: the seed decides."""

    journal: JournalMode | None = None
    aims: tuple[Aim, ...] = ()
    faults: int | None = None
    length_s: float | None = None
    shared: bool = True
    """Whether a local journal can be read on every node."""
    fences: bool = True
    """Whether an activation may be fenced off at all."""
    prunes: bool = False
    """Whether rows of runs that are over go at once; else later than a storm is long."""
    watches: bool = False
    """Whether everybody watches the players' presence."""


class Outcome(NamedTuple):
    """The outcome of a run. `violations` is empty if all was well."""

    violations: list[str]
    journal: str
    faults: list[str]
    injected: int
    answers: int
    leases_lost: int
    converged_s: float
    served_s: float
    logs: list[str]


class _Match:
    """A match as its clients know it."""

    def __init__(self, name: str, host: SimClient, players: list[SimClient]) -> None:
        self.name, self.host, self.players = name, host, players
        self.topic = f"match/{name}"
        self.time_ms = 0
        self.streams: list[Subscription] = []

    @property
    def seen_to_the_end(self) -> bool:
        return all(stream.events and stream.events[-1][0] == "rated" for stream in self.streams)


class Storm:
    """A run; see the module's head."""

    def __init__(self, world: World, options: Options, plan: list[Planned]) -> None:
        self.world, self.options = world, options
        self.rng = world.rng("storm")
        self.faults = Faults(world, plan)
        number = self.rng.randrange(10_000)  # other names in each run, so other slots
        self.names = [f"m{number}{letter}" for letter in "ab"[:MATCHES]]
        self.matches: list[_Match] = []
        self.refused: list[str] = []
        self.followers: list[Follower] = []
        self.versions = Versions()
        self.quiet = asyncio.Event()
        self.healed_at = self.calm_at = self.left_at = self.converged_s = self.served_s = 0.0

    async def run(self) -> list[str]:
        world = self.world
        with world.catching_logs():
            for name in NODES:
                process = world.launch(name)
                process.clock.drift(self.rng.uniform(0.97, 1.03))
            await world.started(len(NODES))
            for name in self.names:
                host = world.client(f"{name}-host", "host")
                players = [world.client(f"{name}-p{n}", "player", text=n % 2 == 1) for n in range(PLAYERS)]
                self.matches.append(_Match(name, host, players))
            await asyncio.gather(*(self._open(match) for match in self.matches))
            if self.options.watches:
                self._follow()
            async with asyncio.TaskGroup() as work:
                for match in self.matches:
                    work.create_task(self._report(match))
                    for player in match.players:
                        work.create_task(self._live(player, match))
                await self.faults.run()
                await self._heal()
                self.quiet.set()
            await asyncio.gather(*(self._end(match) for match in self.matches))
            return await self._leave()

    # ---- the work ----

    async def _open(self, match: _Match) -> None:
        options = MatchOptions(mode="recorded", score_limit=0, time_limit_ms=0, countdown_ms=0)
        await match.host.command(partial(MatchCreate, match=match.name, options=options))
        for player in match.players:
            await player.online()
            match.streams.append(player.watch(match.topic))
            await player.command(partial(MatchJoin, match=match.name))
        await match.host.command(partial(MatchStart, match=match.name))
        match.streams.append(match.host.watch(match.topic))

    def _follow(self) -> None:
        """Everybody watches all players but itself."""
        players = [player for match in self.matches for player in match.players]
        for client in (*players, *(match.host for match in self.matches)):
            others = [player.name for player in players if player is not client]
            self.followers.append(Follower(client, others, self.versions))

    async def _report(self, match: _Match) -> None:
        rng = random.Random(f"{self.world.seed}/reports of {match.name}")
        while not self.quiet.is_set():
            events: list[Report] = []
            for _ in range(rng.randint(1, 3)):
                match.time_ms += rng.choice((0, 40, 300))
                one, other = (player.name for player in match.players)
                events.append(rng.choice((Kill(match.time_ms, one, other), Medal(match.time_ms, other, "double_kill"))))
            report = partial(MatchReport, match=match.name, events=events)
            await self._try(match.host.name, match.host.command(report, deadline_s=LIMIT_S))
            await asyncio.sleep(rng.uniform(0.1, 0.8))

    async def _live(self, player: SimClient, match: _Match) -> None:
        """A player changes the profile and looks at the match now and then."""
        rng = random.Random(f"{self.world.seed}/life of {player.name}")
        sets = 0
        while not self.quiet.is_set():
            await asyncio.sleep(rng.uniform(0.1, 1.0))
            turn = rng.random()
            if turn < 0.6 and sets < MAX_SETS:
                sets += 1
                asked = player.command(partial(ProfileSet, display_name=f"{player.name} {sets}"), deadline_s=LIMIT_S)
            elif turn < 0.75:
                word: Literal["online", "busy"] = rng.choice(("online", "busy"))
                asked = player.ask(partial(PresenceSet, status=word, activity=f"{sets}"), deadline_s=LIMIT_S)
            elif turn < 0.82:
                await self._try(player.name, player.command(partial(MatchLeave, match=match.name), deadline_s=LIMIT_S))
                asked = player.command(partial(MatchJoin, match=match.name), deadline_s=LIMIT_S)
            elif turn < 0.92:
                asked = player.ask(partial(MatchGet, match=match.name), deadline_s=LIMIT_S)
            else:
                asked = player.ask(partial(ProfileGet, player=rng.choice(match.players).name), deadline_s=LIMIT_S)
            await self._try(player.name, asked)

    async def _try(self, who: str, asked: Any) -> None:
        try:
            await asked
        except GarrisonError as error:
            if error.code not in MAY_BE_REFUSED:
                self.refused.append(f"{who}: {error.code} {error.message}")

    # ---- after the storm ----

    async def _heal(self) -> None:
        """Everything is whole again; what is down comes back. All that is asked from here on counts."""
        world, loop = self.world, self.world.loop
        await until(self._all_run, 10, "nobody is stopped any more", 0.1)
        self.healed_at = loop.time()
        world.note("healed")
        for name in NODES:
            if name not in world.processes:
                world.launch(name)
        await until(self._all_up, CONVERGE_S, "every node is up", 0.1)
        left_s = CONVERGE_S - (loop.time() - self.healed_at)
        await world.converged(max(left_s, 0.1))
        self.converged_s = loop.time() - self.healed_at
        await until(self._all_served, max(SERVED_S - self.converged_s, 0.1), "every client is served", 0.1)
        self.calm_at = loop.time()
        self.served_s = self.calm_at - self.healed_at
        await asyncio.sleep(CALM_S)
        try:
            await until(lambda: not different(world, self.followers), RIGHT_S, "everybody is seen as it is", 0.1)
        except AssertionError as error:
            raise AssertionError("; ".join([str(error), *different(world, self.followers)])) from None

    def _all_run(self) -> bool:
        return all(process.domain.state == "running" for process in self.world.processes.values())

    def _all_up(self) -> bool:
        processes = self.world.processes
        return all(name in processes for name in NODES) and all(process.up for process in processes.values())

    def _all_served(self) -> bool:
        served = {
            item.client for item in self.world.history if isinstance(item, Served) and item.since >= self.healed_at
        }
        return len(served) == len(self.world.clients)

    async def _end(self, match: _Match) -> None:
        await match.host.command(partial(MatchEnd, match=match.name, time_ms=match.time_ms))
        await until(lambda: match.seen_to_the_end, 15, f"the end of {match.name} seen by all", 0.1)

    async def _leave(self) -> list[str]:
        """Results are stored, clients and nodes go; what the cluster's state at the end shows."""
        world = self.world
        await until(self._settled, 30, "results are settled", 0.1)
        wrong = checkers.check_cluster(world.reports())
        self.left_at = world.loop.time()
        for follower in self.followers:
            follower.stop()
        await world.stop_clients()
        for name in list(world.processes):
            await world.stop_process(name)
        await asyncio.sleep(world.store.timeout_s + 0.5)
        return wrong + checkers.none_left(world.left_tasks)

    def _settled(self) -> bool:
        """A match that is settled has left memory."""
        return not any(
            node.node.system.find(ActorId(match.topic)) for match in self.matches for node in self.world.nodes.values()
        )

    def violations(self) -> list[str]:
        world = self.world
        stored, topics = world.stored(), [match.topic for match in self.matches]
        rosters = {match.name: [player.name for player in match.players] for match in self.matches}
        return [
            *checkers.check_history(world.history, stored, topics, world.excuses),
            *checkers.served_promptly(world.history, self.calm_at),
            *ownership.check_store(world.audit, world.database, rosters, (self.healed_at, self.left_at)),
            *ownership.recorded_once(world.audit, world.database.entities, world.recorded),
            *(f"refused: {line}" for line in self.refused),
            *self.versions.wrong,
            *(f"fault: {line}" for line in world.faults if not _expected(line, self.options)),
            *(f"illegal transition: {line}" for line in refused_transitions()),
            *(f"strange: {line}" for client in world.clients.values() for line in client.strange),
            *(f"{client.name} gave up: {client.finished}" for client in world.clients.values() if client.finished),
        ]


MAY_BE_REFUSED: Final = ("not_found", "not_in_match")
"""A profile that was never set; a player who was away for so long that the match let it go."""
FENCED: Final = "activation fenced off"
EXPECTED: Final = (
    "lease refused: this incarnation is over",
    "not everything could be stored",
    "an earlier journal of this node is gone",
    "journal damaged",
)
"""Error lines that belong to a storm."""


def _expected(line: str, options: Options) -> bool:
    if FENCED in line:
        return options.fences
    return any(words in line for words in EXPECTED)


class Played(NamedTuple):
    """A finished run: its outcome, the trace's digest, the virtual seconds that passed, and its world."""

    outcome: Outcome
    digest: str
    virtual_s: float
    world: World


def play(
    seed: int,
    options: Options = Options(),  # noqa: B008 - immutable
    *,
    shuffle: bool = False,
    trace: Trace | None = None,
    prepare: Callable[[World], None] | None = None,
) -> Played:
    """Run a storm. What broke the run off is a violation too."""
    rng = random.Random(f"{seed}/plan")
    mode: JournalMode = rng.choice(("none", "local", "redis"))
    length_s, count = rng.uniform(5, 14), rng.randint(2, 9)
    mode = options.journal or mode
    plan = draw(rng, options.length_s or length_s, options.faults or count, options.aims)
    storms: list[Storm] = []
    worlds: list[World] = []

    async def main(loop: SimLoop) -> list[str]:
        limits = PRUNING if options.prunes else LIMITS
        world = World(
            loop,
            seed,
            SETTINGS,
            mode,
            shared=options.shared,
            asks_store=options.prunes,
            limits=limits,
            strays=options.prunes,
        )
        worlds.append(world)
        world.store.timeout_s = STATEMENT_TIMEOUT_S
        if prepare is not None:
            prepare(world)
        storms.append(Storm(world, options, plan))
        return await storms[0].run()

    digest, virtual_s = "", 0.0
    try:
        with silent():
            run = simulate(seed, main, LIMIT_S, shuffle=shuffle, trace=trace)
        wrong, digest, virtual_s = run.result + storms[0].violations(), run.digest, run.virtual_s
    except Exception:
        virtual_s = worlds[0].loop.time()
        wrong = [
            *(f"fault: {line}" for line in worlds[0].faults if not _expected(line, options)),
            traceback.format_exc(),
        ]
    world, storm = worlds[0], storms[0]
    outcome = Outcome(
        wrong,
        mode,
        storm.faults.done if storm.faults.done else [str(fault) for fault in plan],
        storm.faults.store.injected,
        sum(isinstance(item, Answered) for item in world.history),
        sum("lease lost" in line for line in world.logs),
        storm.converged_s,
        storm.served_s,
        list(world.logs),
    )
    return Played(outcome, digest, virtual_s, world)
