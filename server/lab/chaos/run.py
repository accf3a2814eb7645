"""A chaos run: a cluster, bots and probes, faults until the time is over, and the figures."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from rich.console import Console

from server.cli.local_cluster import Home, LocalCluster, free_places, name_of
from server.errors import BadSetting
from server.lab.chaos import stores
from server.lab.chaos.faults import Faults
from server.lab.chaos.figures import Gap, Gaps, Struck, percentile, recovery
from server.lab.chaos.journals import Mode, journal
from server.lab.chaos.network import Network, why_not
from server.lab.chaos.nodes import fenced_writes
from server.lab.chaos.plan import KINDS, NETWORK_KINDS, plan
from server.lab.chaos.writes import double_writes
from server.lab.live import Live, count_of
from server.runtime.process import signal_child

GAP_S: Final = 0.25
"""The swarm's own bound of a late answer."""
CHECK_S: Final = 40.0
"""Wait for the bots' word about their pictures, which takes up to half as long where one of them is wrong."""
NAMED: Final = 20


class ChaosOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`seconds` and `count` bound how long faults strike. `faults`: the kinds to draw from; empty: all that are
    possible here. `network`: whether to try namespaces."""

    home: Path
    seconds: float
    count: int | None = None
    players: int
    nodes: int
    speed: float
    store: Literal["sqlite", "postgres"]
    store_url: str | None
    journal: Mode
    seed: int
    faults: tuple[str, ...] = ()
    network: bool = True
    probe_players: int = 24
    probe_matches: int = 9
    assignments: tuple[str, ...] = ()


class Chaos(Live):
    """`work` gives the figures."""

    def __init__(self, options: ChaosOptions, console: Console) -> None:
        super().__init__(Home(options.home), console)
        self.options = options
        self.gaps = Gaps(GAP_S)
        self.began = self.ended = time.monotonic()
        """Begin and end of the time of faults."""
        self.orphaned = signal.SIGKILL
        self.no_network = ""
        self._launches = 0
        self.network: Network | None = None
        self.struck: list[Struck] = []
        """Faults that struck, once the run is over."""
        self.pictures_compared = self.wrong_pictures = 0
        self.longest_unknown_s = 0.0
        self._checked = asyncio.Event()

    def check(self) -> None:
        """Raises `BadSetting` for faults that there are not, and for a file that would not be its own."""
        if self.options.store == "sqlite" and self.options.store_url is not None:
            raise BadSetting("store.url", "the SQLite file is made in --home; --store postgres takes a server")
        for kind in self.options.faults:
            if kind not in (*KINDS, *NETWORK_KINDS):
                raise BadSetting("faults", f"no fault {kind!r}; there are {', '.join((*KINDS, *NETWORK_KINDS))}")

    async def work(self) -> dict[str, Any]:
        options = self.options
        async with AsyncExitStack() as stack:
            with self.progress("starting"):
                self.home.path.mkdir(parents=True, exist_ok=True)
                store = await stack.enter_async_context(self._store())
                journaled, local = await stack.enter_async_context(
                    journal(options.journal, self.home.path, options.assignments)
                )
                self._make_network(local and store.local)
                cluster = await self._start(store, journaled)
                faults = Faults(
                    cluster, store, self.network, self.gaps, self.stop_asked, self._say_at, lambda: self.stats
                )
                self.struck = faults.struck
                try:
                    await self._play(cluster, faults)
                finally:
                    cluster.kill()
                self.check_bots()
                found = await self.compare("--set", f"store.url={store.url}")
                self.note("reading every accepted write")
                return await self._figures(store, faults, found)

    @asynccontextmanager
    async def _store(self) -> AsyncIterator[stores.ChaosStore]:
        if self.options.store == "sqlite":
            async with stores.sqlite(self.home.database) as store:
                yield store
        else:
            async with stores.postgres(self.options.store_url) as store:
                yield store

    def _make_network(self, local: bool) -> None:
        """Namespaces, where that is possible. Raises `BadSetting` if the faults ask for it and it is not."""
        options = self.options
        wanted = [kind for kind in options.faults if kind in NETWORK_KINDS]
        if options.faults and not wanted:
            self.no_network = "no fault asks for it"
        elif not options.network:
            self.no_network = "--no-namespaces was given"
        elif not local:
            self.no_network = "the store or the journal is reached over the network"
        elif os.geteuid() and options.store == "postgres":
            self.no_network = "without root there are none beside a PostgreSQL"  # root may not run it
        else:
            self.no_network = why_not(options.nodes + 1)
        if not self.no_network:
            self.network = Network(options.nodes + 1)
            self.say("each node has a network namespace of its own")
            return
        if wanted:
            raise BadSetting("faults", f"{', '.join(wanted)} cannot be done: {self.no_network}")
        self.say(f"no partitions and no loss of packets: {self.no_network}")

    async def _start(self, store: stores.ChaosStore, journaled: list[str]) -> LocalCluster:
        options = self.options
        assignments = [*journaled, *options.assignments]
        places = free_places(options.nodes + 1)
        if self.network is not None:
            places = self.network.places
        self.cluster = cluster = LocalCluster(self.home, options.nodes, 0, assignments, places)
        cluster.orphaned = self.orphaned
        cluster.settings_of = lambda name: (f"store.url={store.url_for(self._writer(name))}",)
        await cluster.prepare("chaos", store.url)
        await store.install()
        await cluster.start(self.note)
        return cluster

    def _writer(self, name: str) -> str:
        self._launches += 1
        return f"{name}/{self._launches}"

    async def _play(self, cluster: LocalCluster, faults: Faults) -> None:
        options = self.options
        self.note("starting the bots")
        probes = ("--probe-players", str(options.probe_players), "--probe-matches", str(options.probe_matches))
        seed = ("--seed", str(options.seed))
        bots = await self.start_bots(cluster.gateways, options.players, options.speed, *probes, *seed)
        reader = asyncio.ensure_future(self.read_bots(bots))
        ticker = asyncio.ensure_future(self._show_status(faults))
        try:
            await faults.calm_down()
            await self._strike(faults)
            self.ended = time.monotonic()
            await faults.calm_down()
            faults.end()  # while the probes still tell
            await self.stop_bots()
            await reader
            self.note("stopping the nodes")
            await cluster.stop()
        finally:
            for task in (reader, ticker):
                task.cancel()

    async def _strike(self, faults: Faults) -> None:
        """Fault after fault until the time is over or somebody asks to stop."""
        options = self.options
        possible = (*KINDS, *(NETWORK_KINDS if self.network is not None else ()))
        self.began = time.monotonic()
        for fault in islice(plan(options.seed, options.faults or possible), options.count):
            if self.stop_asked.is_set() or time.monotonic() >= self.began + options.seconds:
                return
            await faults.strike(fault)
            await self._check_pictures(faults)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(fault.rest_s):
                    await self.stop_asked.wait()

    async def _check_pictures(self, faults: Faults) -> None:
        """Have the bots compare the pictures of their friends with the truth, now that it is calm."""
        assert self.bots is not None
        self._checked.clear()
        signal_child(self.bots, signal.SIGUSR1)
        waits = [asyncio.ensure_future(self._checked.wait()), asyncio.ensure_future(self.bots.wait())]
        try:
            await asyncio.wait(waits, timeout=CHECK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not self._checked.is_set() and self.bots.returncode is None:
            faults.unsettled += 1
            self._say_at(f"[yellow]no word of the bots about their pictures after {CHECK_S:.0f} s")

    # ---- what the bots tell ----

    def heard(self, kind: str, told: dict[str, Any]) -> None:
        if kind == "gap":
            self.gaps.add(Gap(told["entity"], told["since"], told["until"]))
        elif kind == "stats":
            self.gaps.heard(told["now"], told["probes"], told["quiet"])
        elif kind == "checked":
            self.pictures_compared += told["compared"]
            self.wrong_pictures += told["wrong"]
            self.longest_unknown_s = max(self.longest_unknown_s, told["unknown_s"])
            for line in told["wrong_in"]:
                self.console.print(f"wrong picture: {line}", markup=False)
            self._checked.set()

    def _say_at(self, text: str) -> None:
        self.say(f"{time.monotonic() - self.began:6.1f} s  {text}")

    async def _show_status(self, faults: Faults) -> None:
        while True:
            await asyncio.sleep(0.5)
            if self.console.is_terminal:
                stats, running = self.stats, time.monotonic() - self.began
                parts = [
                    f"{running:.0f} s",
                    count_of(len(faults.running), "node"),
                    count_of(sum(faults.counts.values()), "fault"),
                ]
                parts += [f"{stats[name]:,} {name.replace('_', ' ')}" for name in SHOWN if name in stats]
                self.note(" · ".join(parts))

    # ---- the figures ----

    async def _figures(self, store: stores.ChaosStore, faults: Faults, found: dict[str, Any]) -> dict[str, Any]:
        options, done = self.options, self.done
        writes = await store.writes()
        doubles = double_writes(writes)
        for hit in doubles[:NAMED]:
            self.console.print(f"double write: {hit.entity}, write {hit.place}: {hit.why}", markup=False)
        kinds = sorted({struck.kind for struck in faults.struck})
        recovered = {kind: recovery([hit for hit in faults.struck if hit.kind == kind], self.gaps) for kind in kinds}
        lengths = self.gaps.lengths()
        return {
            "seconds": round(self.ended - self.began, 1),
            "seed": options.seed,
            "nodes": options.nodes,
            "players": options.players,
            "store": options.store,
            "journal": options.journal,
            "network": "namespaces" if self.network is not None else f"none: {self.no_network}",
            "faults": dict(sorted(faults.counts.items())),
            "failover_s": recovered.pop("kill", None),
            "partition_s": recovered.pop("partition", None),
            "recovery_s": recovered,
            "never_served": faults.never_served,
            "unavailability_s": {
                "count": len(lengths),
                "median": percentile(lengths, 0.5),
                "p99": percentile(lengths, 0.99),
                "max": percentile(lengths, 1.0),
            },
            "acknowledged_changes": found["acknowledged_changes"],
            "acknowledged_changes_lost": found["acknowledged_changes_lost"],
            "differences": found["differences"],
            "pictures_compared": self.pictures_compared,
            "wrong_pictures": self.wrong_pictures,
            "longest_unknown_s": self.longest_unknown_s,
            "ghosts": found["ghosts"],
            "unequal_friendships": found["unequal_friendships"],
            "accepted_writes": len(writes),
            "double_writers": len(doubles),
            "fenced_writes": fenced_writes([self.home.log(name_of(index)) for index in range(options.nodes + 1)]),
            "upgrades": faults.upgrades.figures(),
            "connections_lost": faults.upgrades.connections_lost,
            "sessions_dropped": done["sessions_dropped"],
            "sessions_resumed": done["sessions_resumed"],
            "stream_faults": done["stream_faults"],
            "matches_ended": done["matches_ended"],
            "replays_verified": found["replays_verified"],
            "takeovers": faults.counters["takeovers_total"],
            "migrations": faults.counters["migrations_total"],
            "client_errors": done["errors"],
            "crashes": faults.crashes,
            "unsettled": faults.unsettled,
        }


SHOWN: Final = ("sessions", "matches_live", "matches_ended", "sessions_dropped", "sessions_resumed")


BROKEN: Final = (
    "differences", "wrong_pictures", "ghosts", "unequal_friendships", "double_writers", "crashes", "never_served",
    "stream_faults", "unsettled", "connections_lost",
)  # fmt: skip
"""Figures that are 0 in a good run."""


def is_good(figures: dict[str, Any]) -> bool:
    """Whether the promises held: one writer, everybody served again, streams whole, rows and logs that agree, right
    pictures, pairs whose halves agree, and nothing lost where a journal is kept."""
    lost = figures["acknowledged_changes_lost"] if figures["journal"] != "none" else 0
    return not lost and not any(figures[name] for name in BROKEN)
