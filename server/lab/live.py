"""The common part of `demo` and `chaos`: a cluster and bots on this machine, watched by one parent.

Ctrl-C asks for an orderly end, a second one ends it at once; whatever was started is gone when
`run` returns. Progress goes to standard error: a status line on a terminal, plain lines elsewhere.
"""

import asyncio
import contextlib
import json as jsonlib
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.status import Status

from server.cli.local_cluster import Home, LocalCluster, spawn_self, stop_process
from server.cli.node_process import last_words
from server.errors import BadSetting, Unavailable
from server.runtime.process import signal_child

BOTS_STOP_S: Final = 30.0


class Live:
    """A run. A subclass gives `work`; `cluster` and `bots` are set while it runs."""

    def __init__(self, home: Home, console: Console) -> None:
        self.home = home
        self.console = console
        self.ledger = home.path / "ledger.json"
        self.stats: dict[str, Any] = {}
        """The newest figures of the bots."""
        self.done: dict[str, Any] = {}
        """The figures of the bots at their end."""
        self.stop_asked = asyncio.Event()
        self.force_asked = asyncio.Event()
        self.cluster: LocalCluster | None = None
        self.bots: asyncio.subprocess.Process | None = None
        self.orphaned = signal.SIGTERM
        """Signal that the bots get when this process dies."""
        self._status: Status | None = None

    async def work(self) -> dict[str, Any]:
        """Start, watch, stop, compare; the figures. Raises `BadSetting`, `Unavailable`."""
        raise NotImplementedError

    async def run(self) -> dict[str, Any] | None:
        """The figures, or None where a second Ctrl-C ended it at once. Raises as `work`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._asked_to_stop)
        work = asyncio.ensure_future(self.work())
        force = asyncio.ensure_future(self.force_asked.wait())
        try:
            await asyncio.wait((work, force), return_when=asyncio.FIRST_COMPLETED)
            return work.result() if work.done() else None
        finally:
            work.cancel()
            force.cancel()
            await asyncio.gather(work, force, return_exceptions=True)
            self.kill_all()

    def kill_all(self) -> None:
        """End every process at once."""
        if self.bots is not None:
            signal_child(self.bots, signal.SIGKILL)
        if self.cluster is not None:
            self.cluster.kill()

    def _asked_to_stop(self) -> None:
        if self.stop_asked.is_set():
            self.say("[yellow]stopping at once")
            self.force_asked.set()
        else:
            self.say("stopping; once more to stop at once")
            self.stop_asked.set()

    # ---- the bots ----

    async def start_bots(self, urls: list[str], players: int, speed: float, *more: str) -> asyncio.subprocess.Process:
        """Bots that play through `urls` until they are stopped; `more` arguments of `garrison bots`."""
        arguments = ["bots", "--config", str(self.home.config), "--players", str(players)]
        arguments += ["--speed", str(speed), "--ledger", str(self.ledger), *more]
        for url in urls:
            arguments += ["--url", url]
        self.bots = await spawn_self(arguments, self.home.log("bots"), orphaned=self.orphaned)
        return self.bots

    async def read_bots(self, bots: asyncio.subprocess.Process) -> None:
        """Read the bots' lines until they end. If they end by themselves, so does the run."""
        assert bots.stdout is not None
        async for line in bots.stdout:
            told = jsonlib.loads(line)
            kind = told.pop("kind")
            if kind == "stats":
                self.stats = told
            elif kind == "done":
                self.done = told
            self.heard(kind, told)
        if not self.done and not self.stop_asked.is_set():
            self.stop_asked.set()

    def heard(self, kind: str, told: dict[str, Any]) -> None:
        """A line of the bots."""

    async def stop_bots(self, within_s: float = BOTS_STOP_S) -> None:
        """Let the bots finish and leave."""
        assert self.bots is not None
        self.note("stopping the bots")
        if not await stop_process(self.bots, within_s):
            self.say("[yellow]the bots did not stop in time and were killed")

    def check_bots(self) -> None:
        """Raises `Unavailable` if they did not come to their end."""
        if not self.done:
            raise Unavailable(f"the bots stopped: {last_words(self.home.log('bots'))}")

    async def compare(self, *more: str) -> dict[str, Any]:
        """Compare the bots' ledger with the store, in a separate process; its findings (see `audit.Findings`)."""
        self.note("comparing what was acknowledged with what is stored")
        arguments = ["audit", "--config", str(self.home.config), "--ledger", str(self.ledger), "--json", *more]
        process = await spawn_self(arguments, self.home.log("audit"))
        assert process.stdout is not None
        answer = await process.stdout.read()
        if await process.wait() not in (0, 1) or not answer:  # 1: something is lost or different
            raise Unavailable(f"the comparison with the store failed: {last_words(self.home.log('audit'))}")
        found: dict[str, Any] = jsonlib.loads(answer)
        for line in found["lost_from"]:
            self.console.print(f"lost from {line}", markup=False)
        for line in found["differences_in"]:
            self.console.print(f"different: {line}", markup=False)
        return found

    # ---- talking ----

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text)

    def note(self, text: str) -> None:
        """Say what happens now."""
        if self._status is not None and self.console.is_terminal:
            self._status.update(text)
        elif not self.console.is_terminal:
            self.say(text)

    @contextlib.contextmanager
    def progress(self, text: str) -> Iterator[None]:
        """A status line for as long as the block lasts."""
        with self.console.status(text) as status:
            self._status = status
            try:
                yield
            finally:
                self._status = None


def count_of(count: int, singular: str, more: str = "") -> str:
    """The number with its word, one node or several nodes; `more` is the plural where it is no mere s."""
    return f"{count:,} {singular if count == 1 else more or f'{singular}s'}"


def shown(path: Path) -> str:
    """`path` as a person would type it from here."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def empty_home(home: Path) -> None:
    """Remove what an earlier run left, and nothing that is not a run's."""
    if not home.exists():
        return
    if not (home / "garrison.toml").is_file() and any(home.iterdir()):
        raise BadSetting("home", f"{home} is not a demo's directory and will not be emptied")
    shutil.rmtree(home)
