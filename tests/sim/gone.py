"""Scenarios of runs that are over for good: who is gone is gone everywhere, and nothing else is.

    forgotten  a node dies whose journal nobody else can read: what it owned waits, without claims in a storm, until
               the node comes back or an operator forgets its run, whichever the store sees first

    vanished   a node dies with the players who are connected to it, some of whom never come back: rows, roster, last
               seen and the pictures of who watches say so in the end, and nothing of the kind of those who did

    results    the node of a match dies soon after its end: each result is in the totals once, however often it was told

Each is `play(seed) -> violations`, as those of `directed.py`.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import msgspec

from game import replay
from game.messages import MatchCreate, MatchEnd, MatchJoin, MatchOptions, MatchReport, MatchStart, Medal, Report
from game.player.state import PlayerState
from server.errors import GarrisonError
from server.eventlog.ports import StoredLog
from server.ids import ActorId, NodeAddress, actor_id
from server.liveness.ports import Estate
from tests.sim import directed, ownership, storm
from tests.sim.faults import StoreTroubles
from tests.sim.followers import Follower, Versions, rows_of_players
from tests.sim.loop import SimLoop, simulate
from tests.sim.ownership import LEASE_S
from tests.sim.world import World, silent

WAIT_S: Final = 12.0
"""Time for which the entities wait at most before somebody comes, or forgets."""
CLAIMS_EACH: Final = 12
"""Claims of one entity that waits, over all nodes and that time."""

PLAYERS: Final = 9
ROWS_RIGHT_S: Final = 50.0
"""After a death, time until rows and rosters are right: looked for, woken, and given time to come back."""
RESULTS_S: Final = 25.0
"""After a match's end, time until its results are in the totals."""
LIMIT_S: Final = 200.0


def forgotten(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World) -> list[str]:
        rng, acked = world.rng("forgotten"), dict[ActorId, int]()
        node = world.nodes["n2"]
        victim, pairs = node.address, directed.of_node(node, "pair", 8)
        troubles = StoreTroubles(rng)
        world.store.faults = troubles
        number = troubles.begin(1.0, frozenset({"write"}), "n2", ("slow",))
        until = world.loop.time() + rng.uniform(1.0, 3.0)
        while world.loop.time() < until:
            for id in pairs[: rng.randint(1, 8)]:
                acked[id] = await directed.ask(node, id, "both")
            await asyncio.sleep(rng.uniform(0.0, 0.05))
        place = world.database.nodes[victim].journal
        if await world.store.store.forget_estate(Estate(victim, place)):
            return [f"{victim} lives and was forgotten"]
        world.crash_process("n2")
        troubles.end(number)
        await asyncio.sleep(3.0)
        wrong = await _wait(world, sorted(acked), rng.uniform(2.0, WAIT_S))
        returns = rng.random() < 0.6
        if returns:
            world.launch("n2")
            await asyncio.sleep(rng.uniform(0.0, 3.0))
        given_up = not returns or rng.random() < 0.8
        if given_up:
            given_up = await world.store.store.forget_estate(Estate(victim, place))
        return wrong + await _served(world, acked, victim, given_up)

    return directed.play(seed, run, journal="local", shared=False)


async def _wait(world: World, ids: list[ActorId], length_s: float) -> list[str]:
    """Ask for all of them from everywhere, again and again: none is served, and the store is asked seldom."""
    wrong, until = list[str](), world.loop.time() + length_s
    before = sum(node.metrics.claims_total for node in world.nodes.values())
    while world.loop.time() < until:
        nodes = list(world.nodes.values())
        for answer in await asyncio.gather(*(directed.ask(node, id, "look") for node in nodes for id in ids)):
            if not isinstance(answer, GarrisonError):
                wrong.append(f"{answer} was answered without the journal")
        await asyncio.sleep(0.1)
    claims = sum(node.metrics.claims_total for node in world.nodes.values()) - before
    if claims > CLAIMS_EACH * len(ids):
        wrong.append(f"{claims} claims in {length_s:.1f} s of {len(ids)} entities that wait")
    return wrong


async def _served(world: World, acked: dict[ActorId, int], victim: NodeAddress, given_up: bool) -> list[str]:
    """All are served soon; what was acknowledged is there, unless it was given up."""
    wrong = []
    for id in sorted(acked):
        try:
            async with asyncio.timeout(25.0):
                version = await directed.insist(world, id, "both")
        except TimeoutError:
            return [*wrong, f"{id} is not served, though {victim} is {'forgotten' if given_up else 'back'}"]
        if version <= acked[id] and not given_up:
            wrong.append(f"{id} had {acked[id]} acknowledged and got {version}")
    return wrong


# ---- vanished ----------------------------------------------------------------------------------


class Vanished:
    """A run of `vanished`: a match, its players on three nodes, one of which dies."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng("vanished")
        number = self.rng.randrange(10_000)
        self.match = f"v{number}"
        self.host = world.client(f"{self.match}-host", "host")
        self.players = {f"v{number}-{n}": world.client(f"v{number}-{n}", "player") for n in range(PLAYERS)}
        self.over = asyncio.Event()
        self.follower = Follower(self.host, list(self.players), Versions())

    async def run(self) -> list[str]:
        options = MatchOptions(mode="recorded", score_limit=0, time_limit_ms=0, countdown_ms=0)
        await self.host.command(partial(MatchCreate, match=self.match, options=options))
        for player in self.players.values():
            await player.online()
            await player.command(partial(MatchJoin, match=self.match))
        await self.host.command(partial(MatchStart, match=self.match))
        ticking = self.world.loop.create_task(self._tick())
        await asyncio.sleep(self.rng.uniform(2.5, 4.0))
        gone, died_ms = self._die()
        if self.rng.random() < 0.6:
            await asyncio.sleep(self.rng.uniform(0.5, 20.0))
            self.world.launch("n2")
        await asyncio.sleep(ROWS_RIGHT_S)
        self.over.set()
        await ticking
        return self._wrong(gone, died_ms)

    async def _tick(self) -> None:
        """The match's host goes on, whatever happens to its players."""
        time_ms = 0
        while not self.over.is_set():
            time_ms += 1000
            events: list[Report] = [Medal(time_ms, next(iter(self.players)), "double_kill")]
            with contextlib.suppress(GarrisonError):
                await self.host.command(partial(MatchReport, match=self.match, events=events), deadline_s=100.0)
            await asyncio.sleep(2.0)

    def _die(self) -> tuple[set[str], int]:
        """Node `n2` dies, and some of its players for good; returns these, and the wall time."""
        there = [name for name, client in self.players.items() if client.node == "n2"]
        gone = {name for name in there if self.rng.random() < 0.8}
        self.world.crash_process("n2")
        for name in sorted(gone):
            self.players[name].stop()
        return gone, self.world.clock.wall_ms()

    def _wrong(self, gone: set[str], died_ms: int) -> list[str]:
        entities, wrong = self.world.database.entities, []
        log = entities[actor_id("match", self.match)]
        roster = replay.final_state(StoredLog(log.next_seq, log.head, log.chunks)).players
        for name in self.players:
            row = msgspec.msgpack.decode(entities[actor_id("player", name)].state or b"\x80", type=PlayerState)
            is_here = name not in gone
            said = (row.status != "offline", row.match == self.match, roster[name].present)
            if said != (is_here, is_here, is_here):
                wrong.append(f"{name} is {'here' if is_here else 'gone'}; online, in the match, in its roster: {said}")
            _, picture = self.follower.known.get(name, (0, ["watched no more"]))
            if (picture[0] == "offline") == is_here or picture[0] == "unknown":
                wrong.append(f"{name} is {'here' if is_here else 'gone'}, and is shown as {picture[0]}")
            if not is_here and row.last_seen_ms > died_ms:
                wrong.append(f"{name} was seen {row.last_seen_ms - died_ms} ms after its node died")
        return wrong


async def _end_and_die(world: World) -> list[str]:
    """Play a short match, end it, and let its node die before, while or after its results are told."""
    rng = world.rng("results")
    match = f"r{rng.randrange(10_000)}"
    host, topic = world.client(f"{match}-host", "host"), actor_id("match", match)
    players = {f"{match}-{n}": world.client(f"{match}-{n}", "player") for n in range(4)}
    options = MatchOptions(mode="recorded", score_limit=0, time_limit_ms=0, countdown_ms=0)
    await host.command(partial(MatchCreate, match=match, options=options))
    for player in players.values():
        await player.online()
        await player.command(partial(MatchJoin, match=match))
    await host.command(partial(MatchStart, match=match))
    events: list[Report] = [Medal(10, name, "double_kill") for name in players]
    await host.command(partial(MatchReport, match=match, events=events))
    await host.command(partial(MatchEnd, match=match, time_ms=20))
    await asyncio.sleep(rng.uniform(0.0, 2.0))
    owner = world.database.entities[topic].owner
    if owner is not None and owner.node in world.processes:
        world.crash_process(owner.node)
        await asyncio.sleep(rng.uniform(0.0, 3.0))
        world.launch(owner.node)
    await asyncio.sleep(RESULTS_S)
    await world.stop_clients()
    for name in list(world.processes):
        await world.stop_process(name)
    return ownership.results_once({str(id): row for id, row in world.database.entities.items()}, {match: [*players]})


def results(seed: int) -> list[str]:
    """See the module's head."""
    return _play(seed, _end_and_die)


def vanished(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World) -> list[str]:
        wrong = await Vanished(world).run()
        await world.stop_clients()
        for name in list(world.processes):
            await world.stop_process(name)
        return wrong

    return _play(seed, run)


def _play(seed: int, run: Callable[[World], Awaitable[list[str]]]) -> list[str]:
    """Start three nodes of the game, and do `run`, which stops them."""
    worlds: list[World] = []

    async def main(loop: SimLoop) -> list[str]:
        world = World(
            loop, seed, storm.SETTINGS, asks_store=True, limits=storm.PRUNING, strays=True, queries=rows_of_players
        )
        worlds.append(world)
        with world.catching_logs():
            for name in storm.NODES:
                world.launch(name)
            await world.started(len(storm.NODES))
            return await run(world)

    try:
        with silent():
            wrong = simulate(seed, main, LIMIT_S).result
    except Exception as error:
        wrong = [f"{type(error).__name__}: {error}"]
    return [*wrong, *ownership.one_writer(worlds[0].audit), *ownership.judged_rightly(worlds[0].audit, LEASE_S)]
