"""`garrison demo`: a live cluster on this machine, with bot players in matches.

Three nodes share one SQLite file; the bots are a process of their own and speak the public
wire. The parent starts and stops them, tells what there is to see, and at the end lets one more
process compare what the bots were promised with what the store has. A node that dies stays
dead: watching the others go on is what the demo is for.
"""

import asyncio
import contextlib
import json as jsonlib
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from cyclopts import App, Parameter, validators
from rich.console import Console
from rich.status import Status

from server.cli.common import DEMO_CONFIG, Json, Set, check_assignments, err, out, program
from server.cli.local_cluster import (
    Home,
    LocalCluster,
    NodeProcess,
    alone,
    kill_process,
    last_words,
    spawn_self,
    stop_process,
)
from server.errors import BadSetting, Unavailable

FIRST_PORT: Final = 7350
BOTS_STOP_S: Final = 30.0
STATUS_EVERY_S: Final = 10.0
"""How often the state is printed where standard error is not a terminal."""

EXAMPLES = """
Examples:

- `garrison demo` until Ctrl-C
- `garrison demo --fresh --players 400` with an empty database
- `garrison demo --seconds 20 --json` for a program: one line of figures at the end
"""


class Options(msgspec.Struct, frozen=True):
    home: Path
    seconds: float | None
    players: int
    nodes: int
    speed: float
    port: int
    assignments: list[str]
    seed: int | None


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
    json: Json = False,
    set_: Set = None,
    flush_at_stop: Annotated[bool, Parameter(show=False)] = True,
    seed: Annotated[int | None, Parameter(show=False)] = None,
) -> int:
    """Run a cluster of three nodes on this machine, with bot players in matches.

    Everything is kept in .garrison/demo: the database, the signing key and the settings that the other commands find
    by themselves. Ctrl-C stops the bots, then the nodes; a second Ctrl-C stops at once.
    """
    assignments = [*(set_ or ()), *(() if flush_at_stop else ("store.flush_at_stop=false",))]
    check_assignments(assignments)
    options = Options(home, seconds, players, nodes, speed, port, assignments, seed)
    with alone(home):
        if fresh:
            _empty(home)
        figures = asyncio.run(Demo(options, err()).run())
    if figures is None:
        return 130
    if json:
        print(jsonlib.dumps(figures), flush=True)
    else:
        for name, value in figures.items():
            out().print(f"{name.replace('_', ' '):>28}  {value:,}")
    return 0


def register(app: App) -> None:
    app.command(demo, name="demo", help_epilogue=EXAMPLES)


class Demo:
    """One run. `run` gives the figures, or None where a second Ctrl-C ended it at once."""

    def __init__(self, options: Options, console: Console) -> None:
        self.options = options
        self.console = console
        self.home = Home(options.home)
        self.ledger = self.home.path / "ledger.json"
        self.stats: dict[str, Any] = {}
        self.done: dict[str, Any] = {}
        self.stop_asked = asyncio.Event()
        self.force_asked = asyncio.Event()
        self.nodes_at_end = 0
        self.sessions_at_end = 0
        self.cluster: LocalCluster
        self.shown_by: NodeProcess | None = None
        self.bots: asyncio.subprocess.Process | None = None
        self._status: Status | None = None

    async def run(self) -> dict[str, Any] | None:
        """Start, watch, stop, compare. Raises `BadSetting`, `Unavailable`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._asked_to_stop)
        work = asyncio.ensure_future(self._run())
        force = asyncio.ensure_future(self.force_asked.wait())
        try:
            await asyncio.wait((work, force), return_when=asyncio.FIRST_COMPLETED)
            return work.result() if work.done() else None
        finally:
            work.cancel()
            force.cancel()
            await asyncio.gather(work, force, return_exceptions=True)
            self._kill_all()

    async def _run(self) -> dict[str, Any]:
        options = self.options
        await self._start_home()
        with self._progress("starting"):
            await self.cluster.start(self._note)
            self._introduce()
            self._note("starting the bots")
            self.bots = await self._start_bots()
            watchers = [asyncio.ensure_future(self._watch_node(node)) for node in self.cluster.nodes]
            reader = asyncio.ensure_future(self._read_bots(self.bots))
            ticker = asyncio.ensure_future(self._show_status())
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(options.seconds):
                        await self.stop_asked.wait()
                self.nodes_at_end = sum(node.running for node in self.cluster.nodes)
                self.sessions_at_end = self.stats.get("sessions", 0)
                ticker.cancel()
                self._note("stopping the bots")
                if not await stop_process(self.bots, BOTS_STOP_S):
                    self._say("[yellow]the bots did not stop in time and were killed")
                await reader
                self._note("stopping the nodes")
                await self.cluster.stop()
            finally:
                for task in (*watchers, reader, ticker):
                    task.cancel()
            if not self.done:
                raise Unavailable(f"the bots stopped: {last_words(self.home.log('bots'))}")
            self._note("comparing what was acknowledged with what is stored")
            return self._figures(await self._audit())

    async def _start_home(self) -> None:
        options = self.options
        self.cluster = LocalCluster(self.home, options.nodes, options.port, options.assignments)
        self._say(f"preparing the database {_shown(self.home.database)}")
        await self.cluster.prepare("demo")

    def _introduce(self) -> None:
        self.shown_by = self.cluster.nodes[0]
        self._say_dashboard(self.shown_by)
        for node in self.cluster.nodes:
            self._say(f"[bold]{node.name}[/]     {node.ready['client_url']}  pid {node.pid}   kill -9 {node.pid}")
        speed = self.options.speed
        self._say(f"{self.options.players} bot players, at the rates of recorded matches, {speed:g} times faster")

    def _say_dashboard(self, node: NodeProcess) -> None:
        self._say(f"[bold]dashboard[/]  {node.ready['admin_url']}/#token={self.home.admin_token}")

    async def _start_bots(self) -> asyncio.subprocess.Process:
        options = self.options
        arguments = ["bots", "--config", str(self.home.config), "--players", str(options.players)]
        arguments += ["--speed", str(options.speed), "--ledger", str(self.ledger)]
        if options.seed is not None:
            arguments += ["--seed", str(options.seed)]
        for url in self.cluster.gateways:
            arguments += ["--url", url]
        return await spawn_self(arguments, self.home.log("bots"))

    async def _read_bots(self, bots: asyncio.subprocess.Process) -> None:
        """What the bots tell, line by line, until they end."""
        assert bots.stdout is not None
        async for line in bots.stdout:
            told = jsonlib.loads(line)
            match told.pop("kind"):
                case "stats":
                    self.stats = told
                case "ended":
                    self._say(f"match over: {program()} replay {told['match']}{self._config_flag()}")
                case "done":
                    self.done = told
        if not self.done and not self.stop_asked.is_set():
            self.stop_asked.set()

    async def _watch_node(self, node: NodeProcess) -> None:
        code = await node.process.wait()
        if node.stopping:
            return
        why = f"signal {-code}" if code < 0 else f"exit code {code}"
        rest = sum(other.running for other in self.cluster.nodes)
        self._say(f"[yellow]{node.name} (pid {node.pid}) is gone, {why}; {rest} still serve")
        was = self.shown_by
        self.shown_by = self.cluster.point_home()
        if self.shown_by is None:
            self.stop_asked.set()
        elif self.shown_by is not was:
            self._say_dashboard(self.shown_by)

    async def _show_status(self) -> None:
        began = time.monotonic()
        printed = began
        while True:
            await asyncio.sleep(0.5)
            now = time.monotonic()
            text = self._state(now - began)
            if self.console.is_terminal:
                self._note(text)
            elif now - printed >= STATUS_EVERY_S:
                printed = now
                self._say(text)

    def _state(self, running_s: float) -> str:
        stats = self.stats
        nodes = sum(node.running for node in self.cluster.nodes)
        parts = [f"{running_s:.0f} s", f"{nodes} nodes"]
        parts += [f"{stats[name]:,} {name.replace('_', ' ')}" for name in SHOWN if name in stats]
        return " · ".join(parts)

    async def _audit(self) -> dict[str, Any]:
        """What a separate process finds in the store."""
        arguments = ["audit", "--config", str(self.home.config), "--ledger", str(self.ledger), "--json"]
        process = await spawn_self(arguments, self.home.log("audit"))
        assert process.stdout is not None
        answer = await process.stdout.read()
        if await process.wait() != 0:
            raise Unavailable(f"the comparison with the store failed: {last_words(self.home.log('audit'))}")
        found: dict[str, Any] = jsonlib.loads(answer)
        return found

    def _figures(self, found: dict[str, Any]) -> dict[str, Any]:
        done = self.done
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
        }

    # ---- talking ----

    def _say(self, text: str) -> None:
        self.console.print(text)

    def _note(self, text: str) -> None:
        if self._status is not None and self.console.is_terminal:
            self._status.update(text)
        elif not self.console.is_terminal:
            self._say(text)

    @contextlib.contextmanager
    def _progress(self, text: str) -> Iterator[None]:
        with self.console.status(text) as status:
            self._status = status
            try:
                yield
            finally:
                self._status = None

    def _config_flag(self) -> str:
        here = self.home.config == DEMO_CONFIG.resolve()
        return "" if here else f" --config {_shown(self.home.config)}"

    # ---- stopping ----

    def _asked_to_stop(self) -> None:
        if self.stop_asked.is_set():
            self._say("[yellow]stopping at once")
            self.force_asked.set()
        else:
            self._say("stopping; once more to stop at once")
            self.stop_asked.set()

    def _kill_all(self) -> None:
        if self.bots is not None:
            kill_process(self.bots)
        if hasattr(self, "cluster"):
            self.cluster.kill()


SHOWN: Final = ("sessions", "matches_live", "matches_ended", "heartbeats_per_s", "match_events_sent")


def _shown(path: Path) -> str:
    """`path` as a person would type it from here."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _empty(home: Path) -> None:
    """Remove what an earlier demo left, and nothing that is not a demo's."""
    if not home.exists():
        return
    if not (home / "garrison.toml").is_file() and any(home.iterdir()):
        raise BadSetting("home", f"{home} is not a demo's directory; --fresh will not empty it")
    shutil.rmtree(home)
