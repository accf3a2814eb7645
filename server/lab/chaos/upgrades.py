"""The fault `upgrade`: a node is succeeded under load, and in most cases one of its two processes is hit meanwhile.

    nothing happens              clients must not lose a connection
    a process is killed          at a random moment, or as soon as the node rests, or once the heir is the node
    a process stands still       at such a moment, for some seconds

The moment is found from outside, by time and by what the node's admin API tells: nothing in the node knows of it.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from server.cli.local_cluster import Home
from server.cli.node_process import NodeProcess
from server.lab.chaos.nodes import progress_of
from server.lab.chaos.plan import Fault
from server.lab.upgrading import Noticed, upgrade
from server.succession.program import FLAG

Moment = Literal["any time", "the rest", "the other process"]
MOMENTS: Final[tuple[Moment, ...]] = ("any time", "the rest", "the other process")
USUAL_S: Final = 3.0
"""Seconds that an upgrade takes, until one has been measured."""
LOOK_EVERY_S: Final = 0.01
MOMENT_S: Final = 30.0


class Blow(msgspec.Struct, frozen=True):
    """A hit at a process of a node that is being upgraded: `heir` or its predecessor; killed, or stopped for `seconds`.
    `share`: the part of a usual upgrade that is over, for `any time`."""

    heir: bool
    killed: bool
    moment: Moment
    share: float
    seconds: float

    def __str__(self) -> str:
        how = "killed" if self.killed else f"stopped for {self.seconds:.1f} s"
        when = f"after {self.share:.0%} of the time" if self.moment == "any time" else f"at {self.moment}"
        return f"the {'new' if self.heir else 'old'} process is {how} {when}"


def blow_of(fault: Fault) -> Blow | None:
    """The blow of a fault; None where nothing happens to the upgrade."""
    if fault.strength < CLEAN:
        return None
    place = fault.place
    return Blow(bool(place % 2), fault.whole, MOMENTS[place // 2 % len(MOMENTS)], place % 100 / 100, fault.seconds)


CLEAN: Final = 0.4
"""Share of the upgrades that nothing happens to."""


class ChaosUpgrades:
    """Upgrades of nodes and their blows; `stats` gives the newest figures of the bots."""

    def __init__(self, home: Home, stats: Callable[[], Mapping[str, Any]]) -> None:
        self._home, self._stats = home, stats
        self._usual_s = USUAL_S
        self.done = self.called_off = self.connections_lost = self.sessions_dropped = 0
        self.longest_pause_ms = 0.0

    async def clean(self, node: NodeProcess) -> Noticed:
        """Upgrade `node`, with nothing else going on, and count what clients lost of it."""
        began = time.monotonic()
        noticed = await upgrade(self._home, self._stats, node.name)
        self._count(noticed)
        if noticed.nodes:
            self._usual_s = time.monotonic() - began
        self.connections_lost += noticed.connections_lost
        self.sessions_dropped += noticed.sessions_dropped
        return noticed

    async def hit(self, node: NodeProcess, blow: Blow) -> Noticed:
        """Upgrade `node`, and hit one of its processes meanwhile. What clients lose is not the upgrade's."""
        striking = asyncio.ensure_future(self._strike(node, blow))
        upgrading = asyncio.ensure_future(upgrade(self._home, self._stats, node.name))
        ended = asyncio.ensure_future(node.wait())
        try:
            await asyncio.wait((upgrading, ended), return_when=asyncio.FIRST_COMPLETED)
            noticed = upgrading.result() if upgrading.done() else Noticed(why=f"{node.name} ended")
        finally:
            for task in (striking, upgrading, ended):
                task.cancel()
            await asyncio.gather(striking, upgrading, ended, return_exceptions=True)
        self._count(noticed)
        return noticed

    def figures(self) -> dict[str, Any]:
        """Figures of all of them."""
        return {
            "done": self.done,
            "called_off": self.called_off,
            "longest_pause_ms": round(self.longest_pause_ms, 1),
            "sessions_dropped": self.sessions_dropped,
        }

    def _count(self, noticed: Noticed) -> None:
        self.done += noticed.nodes
        self.called_off += not noticed.nodes
        self.longest_pause_ms = max(self.longest_pause_ms, noticed.longest_pause_ms)

    async def _strike(self, node: NodeProcess, blow: Blow) -> None:
        old = node.pid
        heir = await self._heir(old)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MOMENT_S):
                await self._moment(node, blow, old)
        process = heir if blow.heir else old
        with contextlib.suppress(ProcessLookupError):
            if blow.killed:
                os.kill(process, signal.SIGKILL)
                return
            os.kill(process, signal.SIGSTOP)
        try:
            await asyncio.sleep(blow.seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)

    async def _heir(self, process: int) -> int:
        """The process that `process` has started to succeed it, once there is one."""
        while True:
            for child in children_of(process):
                if FLAG in arguments_of(child):
                    return child
            await asyncio.sleep(LOOK_EVERY_S)

    async def _moment(self, node: NodeProcess, blow: Blow, old: int) -> None:
        if blow.moment == "any time":
            await asyncio.sleep(blow.share * self._usual_s)
            return
        while True:
            told = await progress_of(node, self._home.admin_token)
            gone_over = bool(told) and told.get("process") != old
            if gone_over or (blow.moment == "the rest" and told.get("phase") not in BEFORE_THE_REST):
                return
            await asyncio.sleep(LOOK_EVERY_S)


BEFORE_THE_REST: Final = frozenset({"", "idle", "starting", "checking", "copying"})


def children_of(process: int) -> list[int]:
    """The processes that it has started and that run; empty where it is gone."""
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def arguments_of(process: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return []
