"""`garrison demo`: a live cluster on this machine, with bot players in matches.

Three nodes share one SQLite file; the bots are a process of their own and speak the public
wire. The parent starts and stops them, tells what there is to see, and at the end lets one more
process compare what the bots were promised with what the store has. A node that dies stays
dead until somebody starts it again, by its script: watching the others go on is what the demo is for. The script
asks the parent to do it, so that the new process belongs to the demo as the one before did.
"""

import asyncio
import contextlib
import json as jsonlib
import shlex
import time
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from cyclopts import App, Parameter, validators
from rich.console import Console
from rich.markup import escape

from server.cli.common import Json, Set, err, out, program
from server.cli.config import DEMO_CONFIG, check_assignments
from server.cli.local_cluster import Home, LocalCluster, alone
from server.cli.node_process import NodeProcess
from server.errors import Unavailable
from server.lab.live import BOTS_STOP_S, Live, count_of, empty_home, shown
from server.lab.upgrading import Noticed, upgrade

FIRST_PORT: Final = 7350
STATUS_EVERY_S: Final = 10.0
"""How often a line tells which matches ended, and, where standard error is not a terminal, the state."""
AGAIN_EVERY_S: Final = 0.2
"""How often is looked whether a script asks for its node to be started again."""
UPGRADE_AFTER_S: Final = 20.0
"""When all nodes are upgraded, where nothing else is said and the demo runs for twice as long, or without an end."""
ALONE_S: Final = 5.0
"""How long the bots may take to end where no node is left."""

EXAMPLES = """
Examples:

- `garrison demo` until Ctrl-C
- `garrison demo --fresh --players 400` with an empty database
- `garrison demo --seconds 20 --json` for a program: one line of figures at the end
"""


class DemoOptions(msgspec.Struct, frozen=True):
    home: Path
    seconds: float | None
    players: int
    nodes: int
    speed: float
    port: int
    assignments: list[str]
    seed: int | None
    status_every_s: float
    upgrade_after_s: float | None = None

    @property
    def upgrade_at_s(self) -> float:
        """Seconds after which all nodes are upgraded; infinite for never."""
        if self.upgrade_after_s is not None:
            return self.upgrade_after_s or float("inf")
        enough = self.seconds is None or self.seconds >= 2 * UPGRADE_AFTER_S
        return UPGRADE_AFTER_S if enough else float("inf")


def demo(
    *,
    seconds: Annotated[
        float | None,
        Parameter(help="Stop after so long; without it, run until Ctrl-C.", validator=validators.Number(gt=0)),
    ] = None,
    players: Annotated[
        int, Parameter(help="Bot players, eight to a match.", validator=validators.Number(gte=2, lte=20_000))
    ] = 240,
    nodes: Annotated[int, Parameter(help="Nodes.", validator=validators.Number(gte=1, lte=9))] = 3,
    speed: Annotated[
        float, Parameter(help="How many times faster than recorded matches.", validator=validators.Number(gt=0))
    ] = 30.0,
    port: Annotated[
        int,
        Parameter(
            help="First of the ports on 127.0.0.1: clients from here on, dashboards from 10 above. 0: any free ones.",
            validator=validators.Number(gte=0, lte=65_000),
        ),
    ] = FIRST_PORT,
    fresh: Annotated[
        bool, Parameter(help="Begin with an empty database and a new key.", negative="", show_default=False)
    ] = False,
    home: Annotated[Path, Parameter(help="Where everything is kept.")] = DEMO_CONFIG.parent,
    upgrade_after: Annotated[
        float | None,
        Parameter(
            help="Seconds after which `garrison upgrade --all` is run, once. 0: never. Default: 20, given time.",
            validator=validators.Number(gte=0),
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    set_: Set = None,
    flush_at_stop: Annotated[bool, Parameter(show=False)] = True,
    seed: Annotated[int | None, Parameter(show=False)] = None,
    status_every: Annotated[float, Parameter(show=False)] = STATUS_EVERY_S,
) -> int:
    """Run a cluster of three nodes on this machine, with bot players in matches.

    Everything is kept in .garrison/demo: the database, the signing key and the settings that the other commands find
    by themselves. In the middle every node's program is replaced by a new process of it, which takes over players,
    matches and connections. Ctrl-C stops the bots, then the nodes; a second Ctrl-C stops at once. Exits with 1 if
    something that the bots were promised is not in the database at the end, or if an upgrade cost a session.
    """
    assignments = [*(set_ or ()), *(() if flush_at_stop else ("store.flush_at_stop=false",))]
    check_assignments(assignments)
    options = DemoOptions(home, seconds, players, nodes, speed, port, assignments, seed, status_every, upgrade_after)
    with alone(home):
        if fresh:
            empty_home(home)
        figures = asyncio.run(Demo(options, err()).run())
    if figures is None:
        return 130
    if json:
        print(jsonlib.dumps(figures), flush=True)
    else:
        for name, value in figures.items():
            out().print(f"{name.replace('_', ' '):>28}  {value:,}")
    return 1 if any(figures[name] for name in BAD) else 0


def register(app: App) -> None:
    app.command(demo, name="demo", help_epilogue=EXAMPLES)


class Demo(Live):
    """A run of the demo."""

    def __init__(self, options: DemoOptions, console: Console) -> None:
        super().__init__(Home(options.home), console)
        self.options = options
        self.nodes_at_end = 0
        self.sessions_at_end = 0
        self.shown_by: NodeProcess | None = None
        self.all_gone = ""
        """How the last node ended, once none is left."""
        self._ended: list[str] = []
        self._ended_told = float("-inf")
        self.noticed = Noticed()
        """The outcome of the upgrade."""
        self._deaths = 0
        self._upgrading = False
        self._watchers: list[asyncio.Future[None]] = []

    async def work(self) -> dict[str, Any]:
        options = self.options
        cluster = await self._start_home()
        with self.progress("starting"):
            await cluster.start(self.note)
            self._introduce(cluster)
            self.note("starting the bots")
            more = () if options.seed is None else ("--seed", str(options.seed))
            bots = await self.start_bots(cluster.gateways, options.players, options.speed, *more)
            for node in cluster.nodes:
                self._watch(cluster, node)
            restarter = asyncio.ensure_future(self._start_again(cluster))
            reader = asyncio.ensure_future(self.read_bots(bots))
            ticker = asyncio.ensure_future(self._show_status(cluster))
            upgrading = asyncio.ensure_future(self._upgrade())
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(options.seconds):
                        await self.stop_asked.wait()
                await self._end_upgrade(upgrading)
                self.nodes_at_end = sum(node.running for node in cluster.nodes)
                self.sessions_at_end = self.stats.get("sessions", 0)
                ticker.cancel()
                restarter.cancel()
                await self.stop_bots(ALONE_S if self.all_gone else BOTS_STOP_S)
                await reader
                self.note("stopping the nodes")
                await cluster.stop()
            finally:
                for task in (*self._watchers, restarter, reader, ticker, upgrading):
                    task.cancel()
            if not self.all_gone:
                self.check_bots()
            return self._figures(await self.compare())

    async def _start_home(self) -> LocalCluster:
        options = self.options
        journal = [f"journal.directory={self.home.path.absolute() / 'journal'}", "journal.mode=local"]
        columns = [f"columns.directory={self.home.path.absolute() / 'columns'}", "columns.enabled=true"]
        assignments = [*journal, *columns, *options.assignments]
        self.cluster = LocalCluster(self.home, options.nodes, options.port, assignments)
        self.say(f"preparing the database {shown(self.home.database)}")
        await self.cluster.prepare("demo")
        return self.cluster

    def _introduce(self, cluster: LocalCluster) -> None:
        self.shown_by = cluster.nodes[0]
        self._say_dashboard(self.shown_by)
        for index, node in enumerate(cluster.nodes):
            again = f"start it again: sh {shlex.quote(shown(cluster.write_restart(index)))}"
            self.say(f"[bold]{node.name}[/]     {node.ready['client_url']}   kill -9 {node.pid}   {again}")
        speed = self.options.speed
        self.say(f"{self.options.players} bot players, at the rates of recorded matches, {speed:g} times faster")

    def _say_dashboard(self, node: NodeProcess) -> None:
        self.say(f"[bold]dashboard[/]  {self._address(node)}")

    def _address(self, node: NodeProcess) -> str:
        return f"{node.ready['admin_url']}/#token={self.home.admin_token}"

    def heard(self, kind: str, told: dict[str, Any]) -> None:
        if kind == "ended":
            self._ended.append(told["match"])
            self._say_ended()

    def _say_ended(self) -> None:
        """Say in one line which matches ended in the last while."""
        now = time.monotonic()
        if not self._ended or now - self._ended_told < self.options.status_every_s or self.shown_by is None:
            return
        over = count_of(len(self._ended), "match", "matches")
        replay = f"{program()} replay {self._ended[-1]}{self._config_flag()}"
        theatre = f"{self._address(self.shown_by)}&page=/matches/{self._ended[-1]}/theatre"
        self.say(f"{over} over: {replay}   [bold]theatre[/]  {theatre}")
        self._ended_told = now
        self._ended.clear()

    async def _start_again(self, cluster: LocalCluster) -> None:
        """Start nodes again that their scripts ask for."""
        while True:
            await asyncio.sleep(AGAIN_EVERY_S)
            for index in cluster.asked_again():
                if cluster.nodes[index].running:
                    self.say(f"[yellow]{cluster.nodes[index].name} runs, and is not started again")
                    continue
                try:
                    node = await cluster.launch(index)
                except Unavailable as error:
                    self.say(f"[yellow]{error.message}")
                    continue
                self.say(f"[bold]{node.name}[/] (pid {node.pid}) is back")
                self._watch(cluster, node)

    async def _upgrade(self) -> None:
        """Replace the program of every node, one after the other, and tell what the bots noticed."""
        after_s = self.options.upgrade_at_s
        if after_s == float("inf"):
            return
        await asyncio.sleep(after_s)
        self._upgrading = True
        self.say("upgrading all nodes: garrison upgrade --all" + self._config_flag())
        deaths = self._deaths
        noticed = await upgrade(self.home, lambda: self.stats, "--all")
        if self._deaths != deaths:  # a killed node cost connections, whatever the upgrade did
            noticed.connections_closed = noticed.sessions_dropped = 0
        self.noticed = noticed
        closed = f", {count_of(noticed.connections_closed, 'connection')} closed" if noticed.connections_closed else ""
        self.say(
            f"[bold]upgraded {count_of(noticed.nodes, 'node')}[/], "
            f"{count_of(noticed.sessions_dropped, 'session')} dropped, "
            f"longest pause {noticed.longest_pause_ms:.0f} ms{closed}"
        )
        if noticed.why:
            self.say(f"[yellow]{escape(noticed.why)}")

    async def _end_upgrade(self, upgrading: "asyncio.Task[None]") -> None:
        """Let an upgrade that is under way end; one that has not begun never will."""
        if self._upgrading and not self.stop_asked.is_set():
            stop = asyncio.ensure_future(self.stop_asked.wait())
            await asyncio.wait((upgrading, stop), return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
        upgrading.cancel()
        await asyncio.gather(upgrading, return_exceptions=True)

    def _watch(self, cluster: LocalCluster, node: NodeProcess) -> None:
        self._watchers.append(asyncio.ensure_future(self._watch_node(cluster, node)))

    async def _watch_node(self, cluster: LocalCluster, node: NodeProcess) -> None:
        node.succeeded = lambda node: self.say(f"{node.name} goes on as pid {node.pid}")
        code = await node.wait()
        if node.stopping:
            return
        self._deaths += 1
        why = f"signal {-code}" if code < 0 else f"exit code {code}"
        rest = sum(other.running for other in cluster.nodes)
        serve = f"; {count_of(rest, 'node')} still serve{'s' if rest == 1 else ''}" if rest else ""
        self.say(f"[yellow]{node.name} (pid {node.pid}) is gone, {why}{serve}")
        was = self.shown_by
        self.shown_by = cluster.point_home()
        if self.shown_by is None:
            self.all_gone = f"{node.name}: {why}"
            self.say(f"[yellow]no node is left ({self.all_gone})")
            self.say("comparing all the same: what only their crash journals have counts as lost")
            self.stop_asked.set()
        elif self.shown_by is not was:
            self._say_dashboard(self.shown_by)

    async def _show_status(self, cluster: LocalCluster) -> None:
        began = time.monotonic()
        printed = began
        while True:
            await asyncio.sleep(0.5)
            now = time.monotonic()
            self._say_ended()
            text = self._state(cluster, now - began)
            if self.console.is_terminal:
                self.note(text)
            elif now - printed >= self.options.status_every_s:
                printed = now
                self.say(text)

    def _state(self, cluster: LocalCluster, running_s: float) -> str:
        stats = self.stats
        nodes = sum(node.running for node in cluster.nodes)
        parts = [f"{running_s:.0f} s", count_of(nodes, "node")]
        parts += [f"{stats[name]:,} {name.replace('_', ' ')}" for name in SHOWN if name in stats]
        return " · ".join(parts)

    def _figures(self, found: dict[str, Any]) -> dict[str, Any]:
        done = self.done or self.stats  # bots that lost every node have no last word
        return {
            "nodes": self.nodes_at_end,
            "players": self.options.players,
            "sessions": self.sessions_at_end,
            "heartbeats": done.get("heartbeats", 0),
            "heartbeats_per_s": done.get("heartbeats_per_s", 0.0),
            "match_events_sent": done.get("match_events_sent", 0),
            "match_events_stored": found["match_events_stored"],
            "matches_ended": done.get("matches_ended", 0),
            "replays_verified": found["replays_verified"],
            "acknowledged_changes": found["acknowledged_changes"],
            "acknowledged_changes_lost": found["acknowledged_changes_lost"],
            "differences": found["differences"],
            "ghosts": found["ghosts"],
            "unequal_friendships": found["unequal_friendships"],
            **{name: done.get(name, 0) for name in PEOPLE},
            "nodes_upgraded": self.noticed.nodes,
            "upgrade_connections_closed": self.noticed.connections_closed,
            "upgrade_sessions_dropped": self.noticed.sessions_dropped,
            "upgrade_longest_pause_ms": self.noticed.longest_pause_ms,
        }

    def _config_flag(self) -> str:
        here = self.home.config == DEMO_CONFIG.resolve()
        return "" if here else f" --config {shown(self.home.config)}"


PEOPLE: Final = ("friendships", "watched", "presence_changes", "parties", "party_joins")
BAD: Final = ("acknowledged_changes_lost", "differences", "upgrade_sessions_dropped")
"""Figures that are 0 in a good run."""
SHOWN: Final = ("sessions", "matches_live", "matches_ended", "heartbeats_per_s", "match_events_sent", *PEOPLE)
