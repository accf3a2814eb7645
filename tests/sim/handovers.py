"""`handovers(seed) -> violations`: the hosts of a match name successors, pass their role on and fall silent, while
nodes crash, stop and are slow. Whoever was host once goes on reporting under its term for ever, as a program does
that has heard of nothing.

The match's log shows who reported, and when: each event names host and term. Every event is of the host of that moment
under its term, everything that was acknowledged is there, and a match whose host was silent has gone to the successor,
if one was named.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

from msgspec import UNSET
from msgspec.structs import replace

from game.app import App
from game.match.actor import Match
from game.match.events import (
    HostChanged,
)
from game.match.messages import MatchPassHost, MatchSuccessor
from game.match.state import MatchState
from game.messages import (
    Accepted,
    Ended,
    MatchCreate,
    MatchGet,
    MatchOptions,
    MatchReport,
    MatchStart,
    Medal,
    Scoreboard,
)
from game.replay import steps
from server.actors.actor import Caller
from server.ids import actor_id
from tests.sim.admissions import log_of
from tests.sim.directed import heal, insist, play
from tests.sim.rosters import EXPECTED
from tests.sim.troubles import trouble
from tests.sim.world import World

LENGTH_S: Final = 40.0
HOSTS: Final = ("red", "blue")
"""Few, so that the role comes back to who had it."""
OPTIONS: Final = MatchOptions(mode="recorded", score_limit=0, time_limit_ms=0, countdown_ms=0)
MATCH: Final = "m"


class Hasty(Match):
    HOST_SILENCE_S: ClassVar[float] = 6.0


HASTY: Final = replace(App, actors=tuple(Hasty if cls is Match else cls for cls in App.actors))


def handovers(seed: int) -> list[str]:
    """See the module's head."""
    return play(seed, lambda world: _Play(world).run(), journal="none" if seed % 2 else "local", app=HASTY)


class _Play:
    """One run of the scenario."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng("handovers")
        self.until = world.loop.time() + LENGTH_S
        self.number = 0
        self.told: set[str] = set()
        """Events that were acknowledged."""

    async def run(self) -> list[str]:
        world = self.world
        match, red = actor_id("match", MATCH), Caller("host", "red", "s")
        await insist(world, match, "create", red, MatchCreate(1, "l", 1, MATCH, OPTIONS))
        await insist(world, match, "start", red, MatchStart(1, "l", 2, MATCH))
        async with asyncio.TaskGroup() as group:
            for host in HOSTS:
                group.create_task(self._program(host, group, 1 if host == "red" else None))
            group.create_task(
                trouble(
                    world,
                    self.rng,
                    self.until,
                    kinds=("slow", "slow", "stop", "crash", "store"),
                    statements=("append", "claim", "migrate"),
                    pause_s=(0.5, 4.0),
                    slow_s=lambda rng: rng.uniform(0.3, 1.8),
                )
            )
        heal(world)
        await world.started(3, 15.0)
        await asyncio.sleep(8.0)
        faults = (line for line in world.faults if not any(words in line for words in EXPECTED))
        log = [(step.record.seq, step.record.event, step.before) for step in steps(log_of(world, MATCH))]
        return [*reports_are_wrong(log, self.told), *faults]

    async def _ask(self, method: str, host: str, message: Any) -> Any:
        """The answer to a host from any node; None where there is none within two seconds."""
        nodes = list(self.world.nodes.values())
        if not nodes:
            return None
        node = self.rng.choice(nodes)
        asking = node.node.system.ask(actor_id("match", MATCH), method, (Caller("host", host, "s"), message))
        asked = node.domain.run(self.world.loop.create_task, asking)
        asked.add_done_callback(lambda done: done.cancelled() or done.exception())
        done, _ = await asyncio.wait({asked}, timeout=2.0)
        return asked.result() if done and not asked.cancelled() and asked.exception() is None else None

    async def _program(self, host: str, group: asyncio.TaskGroup, term: int | None) -> None:
        """A host's program: it looks whether it is the host by now, and goes on under each term that it has had."""
        terms: set[int] = set()
        while self.world.loop.time() < self.until:
            if term is None:
                board = await self._ask("get", host, MatchGet(1, MATCH))
                term = board.term if isinstance(board, Scoreboard) and board.host == host else None
            if term is not None and term not in terms:
                terms.add(term)
                group.create_task(self._reports(host, term))
                await self._plans(host, term)
            term = None
            await asyncio.sleep(0.7)

    async def _plans(self, host: str, term: int) -> None:
        others = [other for other in HOSTS if other != host]
        if self.rng.random() < 0.9:
            named = MatchSuccessor(1, host, self._next(), MATCH, self.rng.choice(others), term)
            await self._ask("successor", host, named)
        if self.rng.random() < 0.5:
            await asyncio.sleep(self.rng.uniform(0.0, 4.0))
            passed = MatchPassHost(1, host, self._next(), MATCH, self.rng.choice([None, *others]), term)
            await self._ask("pass_host", host, passed)

    async def _reports(self, host: str, term: int) -> None:
        """Report for ever under `term`; now and then be silent for longer than a host may."""
        quiet = self.rng.random() < 0.5
        while self.world.loop.time() < self.until:
            self.number += 1
            name = f"{host}.{term}.{self.number}"
            message = MatchReport(1, f"{host}{term}", self.number, MATCH, [Medal(0, name, "m")], term)
            if isinstance(await self._ask("report", host, message), Accepted):
                self.told.add(name)
            if quiet and self.rng.random() < 0.2:
                await asyncio.sleep(self.rng.uniform(6.5, 9.0))
            await asyncio.sleep(self.rng.uniform(0.1, 0.8))

    def _next(self) -> int:
        self.number += 1
        return self.number


def reports_are_wrong(log: Iterable[tuple[int, Any, MatchState]], told: Iterable[str]) -> list[str]:
    """See the module's head; each event comes with its number and the state before it."""
    out: list[str] = []
    host, term, known = "red", 1, set[str]()
    for seq, event, before in log:
        if isinstance(event, HostChanged):
            if (event.term, event.host) == (term, host) or event.term != seq:
                out.append(f"{seq}: {event.host} hosts under term {event.term}")
            host, term = event.host, event.term
        elif isinstance(event, Medal):
            known.add(event.player)
            if event.player.split(".")[:2] != [host, str(term)]:
                out.append(f"{seq}: {event.player} reported where {host} hosts under term {term}")
        elif isinstance(event, Ended) and event.reason == "host_vanished" and before.successor is not UNSET:
            out.append(f"{seq}: ended though {before.successor} was to take over")
    lost: Sequence[str] = sorted(set(told) - known)
    return [*out, *([f"acknowledged and not in the log: {lost[:3]}"] if lost else [])]
