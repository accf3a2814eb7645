"""`hot-restart`: a node with a million activations and thousands of connected clients goes on in another process, while
heartbeats, matches and counts go on. The pause is what the clients see: for each the longest wait for the answer to a
heartbeat, from the moment at which the upgrade is asked for until some seconds after it. The floor is the same over as
long a time without an upgrade.

Lost is what was acknowledged before, during or after it and is not there in the end: counts of things, and kills of
matches.
"""

import asyncio
import os
import random
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec

from server.errors import Unavailable
from server.lab.bench.harness import Effort, Outcome, outcome, progress
from server.lab.bench.hot_restart_clients import RestartOrder, RestartSeen
from server.lab.bench.lines import Lines
from server.lab.bench.matches import OPTIONS, accepted, reporter
from server.lab.bench.moving import percentiles
from server.lab.bench.raw_socket import RawSocket, connected
from server.sessions.tokens import issue

APP: Final = "server.lab.bench.hot_restart_app:App"
ACTIVATIONS: Final = 1_000_000
CLIENTS: Final = 5_000
REPORTERS: Final = 20
MATCHES_EACH: Final = 5
BEATS_PER_S: Final = 1.0
AT_ONCE: Final = 2_000
AFTER_S: Final = 5.0
LONGEST_S: Final = 900.0
GOAL_MS: Final = 150.0
KILLER: Final = "player-1"
_PLAYERS: Final = 9
"""Place of the rows in a scoreboard, as an array."""
_KILLS: Final = 3


class RestartedNode:
    """A node in a process group of its own: its heirs are in it too. `arguments`: of every command about it."""

    def __init__(self, process: asyncio.subprocess.Process, arguments: list[str], ready: dict[str, Any]) -> None:
        self._process, self._arguments = process, arguments
        self.ready = ready

    async def upgrade(self) -> dict[str, Any]:
        """Have an heir take over; the command's summary. Raises `Unavailable` where it was called off."""
        wait = ("--wait", f"{LONGEST_S:.0f}s", "--json", "--url", self.ready["admin_url"])
        command = (sys.executable, "-m", "server.main", "upgrade", self.ready["node"], *self._arguments, *wait)
        asking = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        said, _ = await asking.communicate()
        summary: dict[str, Any] = msgspec.json.decode(said) if said else {"upgraded": False, "why": "no answer"}
        if not summary["upgraded"]:
            raise Unavailable(f"the node was not upgraded: {summary['why']}")
        return summary

    async def line(self) -> dict[str, Any]:
        """The next line that a process of this node writes once it serves."""
        assert self._process.stdout is not None
        async with asyncio.timeout(LONGEST_S):
            found: dict[str, Any] = msgspec.json.decode(await self._process.stdout.readline())
            return found


@asynccontextmanager
async def restarted_node(settings: list[str], activations: int) -> AsyncIterator[tuple[RestartedNode, bytes]]:
    """A node with the things of `hot_restart_app.py`, and the key of its clients' tokens."""
    with TemporaryDirectory() as home:
        key, log = secrets.token_hex(32), Path(home) / "node.log"
        config = Path(home) / "garrison.toml"
        config.write_text(
            f'app = "{APP}"\n[store]\nurl = "sqlite:///{home}/garrison.db"\nmigrate = true\n'
            f'[security]\nsigning_key = "{key}"\n[admin]\ntoken = "{secrets.token_hex(16)}"\n'
            f"[actors]\nmax_activations = {activations + 100_000}\nidle_timeout_s = 86400.0\n"
        )
        arguments = ["--config", str(config), *settings]
        ports = ("--gateway-port", "0", "--admin-port", "0")
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "server.main", "node", *arguments, *ports,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=errors, start_new_session=True,
            )  # fmt: skip
        node = RestartedNode(process, arguments, {})
        try:
            node.ready = await node.line()
            yield node, key.encode()
        except BaseException:
            progress(log.read_text(errors="replace")[-2_000:])
            raise
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


class RestartTraffic:
    """Clients that report kills, and a client that counts things: what was acknowledged of it."""

    def __init__(self, counter: RawSocket, things: int) -> None:
        self._reporters: list[RawSocket] = []
        self._counter, self._things = counter, things
        self.kills: dict[str, int] = {}
        self.counts: dict[int, int] = {}
        self.unknown = 0
        """Kills and counts of which it is not known whether they were done."""
        self._number = 10
        self._ended = False

    async def begin(self, reporters: list[RawSocket]) -> None:
        """Make and start the matches of these."""
        self._reporters = reporters
        for number, socket in enumerate(self._reporters):
            for match in (f"m{number}-{n}" for n in range(MATCHES_EACH)):
                self.kills[match] = 0
                for kind, fields in (("match.create", [OPTIONS]), ("match.start", [0])):
                    self._number += 1
                    await accepted(socket, kind, self._number, "restart", self._number, match, *fields)

    async def run(self) -> None:
        """Go on until `end`."""
        async with asyncio.TaskGroup() as group:
            for number, socket in enumerate(self._reporters):
                group.create_task(self._report(socket, [f"m{number}-{n}" for n in range(MATCHES_EACH)]))
            group.create_task(self._count())

    def end(self) -> None:
        self._ended = True

    async def _report(self, socket: RawSocket, matches: list[str]) -> None:
        while not self._ended:
            for match in matches:
                self._number += 1
                number = self._number
                try:
                    await accepted(socket, "match.report", number, "restart", number, match, [["kill", number, KILLER]])
                    self.kills[match] += 1
                except Unavailable:
                    self.unknown += 1
            await asyncio.sleep(0.2)

    async def _count(self) -> None:
        while not self._ended:
            some = random.sample(range(self._things), min(100, self._things))
            counted = await self._ask("bench.count", some, 1)
            if counted is None:
                self.unknown += len(some)
            else:
                for number, count in zip(some, counted, strict=True):
                    self.counts[number] = max(count, self.counts.get(number, 0))
            await asyncio.sleep(0.05)

    async def _ask(self, kind: str, *fields: object) -> list[int] | None:
        """The counts of things; None where that failed."""
        self._number += 1
        number = self._number
        answer = await self._counter.ask(kind, number, *fields)
        while len(answer) < 2 or answer[1] != number:
            answer = msgspec.msgpack.decode(await self._counter.receive())
        return list(answer[2]) if answer[0] == "bench.things" else None

    async def make(self, first: int, count: int) -> None:
        """Bring things into memory. Raises `Unavailable`."""
        for _ in range(10):
            if await self._ask("bench.make", first, count) == [count]:
                return
            await asyncio.sleep(0.5)  # more changes wait for the store than may
        raise Unavailable(f"{count} things were not made")

    async def lost(self) -> int:
        """Acknowledged kills and counts that are not there. Raises `Unavailable`."""
        missing, things = 0, list(self.counts)
        for first in range(0, len(things), 1_000):
            some = things[first : first + 1_000]
            counted = await self._ask("bench.count", some, 0)
            if counted is None:
                raise Unavailable("things cannot be counted in the end")
            missing += sum(max(0, self.counts[n] - count) for n, count in zip(some, counted, strict=True))
        reporter_ = self._reporters[0]
        for match, kills in self.kills.items():
            self._number += 1
            answer = await reporter_.ask("match.get", self._number, match)
            while answer[0] != "scoreboard":
                answer = msgspec.msgpack.decode(await reporter_.receive())
            missing += max(0, kills - sum(row[_KILLS] for row in answer[_PLAYERS]))
        return missing


async def run(effort: Effort) -> Outcome:
    """ms, the longest wait of any client over an upgrade."""
    activations, clients = (5_000, 100) if effort.short else (ACTIVATIONS, CLIENTS)
    async with AsyncExitStack() as stack:
        node, key = await stack.enter_async_context(restarted_node(["--set", "log.level=info"], activations))
        url, now_ms = node.ready["client_url"], time.time_ns() // 1_000_000

        def token(name: str, role: str = "player") -> str:
            return issue(key, name, role, 7200, now_ms)

        counter = await stack.enter_async_context(connected(url))
        await counter.ask("hello", 1, token("counter", "service"), None, 0, "restart", False)
        traffic = RestartTraffic(counter, activations)
        for first in range(0, activations, AT_ONCE):
            await traffic.make(first, min(AT_ONCE, activations - first))
            if first % 100_000 == 0:
                progress(f"hot-restart: {first:,} of {activations:,} activations")
        reporters = [token(f"reporter-{n}", "host") for n in range(effort.size(REPORTERS))]
        await traffic.begin([await reporter(stack, url, each) for each in reporters])
        order = RestartOrder(url, [token(f"player-{n}") for n in range(clients)], BEATS_PER_S)
        players = await stack.enter_async_context(Lines("hot_restart_clients", order))
        progress(f"hot-restart: {clients:,} clients")
        running = asyncio.create_task(traffic.run())
        floors: list[float] = []
        worst: list[float] = []
        told: dict[str, Any] = {}
        seen: list[RestartSeen] = []
        for number in range(max(1, effort.rounds // 3)):
            await asyncio.sleep(effort.seconds(AFTER_S))
            await players.tell(b"look")
            await asyncio.sleep(effort.seconds(2 * AFTER_S))
            floors.append(_seen(await players.tell(b"told"))["max"])
            await players.tell(b"look")
            began = time.perf_counter()
            told = await node.upgrade()
            total_s = time.perf_counter() - began
            await node.line()
            await asyncio.sleep(effort.seconds(AFTER_S))
            answer = await players.tell(b"told")
            seen.append(msgspec.json.decode(answer, type=RestartSeen))
            worst.append(_seen(answer)["max"])
            progress(f"hot-restart: round {number + 1}: floor {floors[-1]:.0f}, real {worst[-1]:.0f} ms, {told}")
        traffic.end()
        await running
        waits = percentiles([each for some in seen for each in some.longest_ms])
        return outcome(
            "hot-restart", "ms", worst, floors, None, goal_ms=GOAL_MS, activations=activations, clients=clients,
            p50_ms=waits["p50"], p99_ms=waits["p99"], max_ms=max(worst), connections_lost=seen[-1].lost,
            told_going=sum(each.going for each in seen), changes_lost=await traffic.lost(), total_s=round(total_s, 1),
            node_pause_ms=told["pause_ms"], outcomes_unknown=traffic.unknown, beats=sum(each.beats for each in seen),
        )  # fmt: skip


def _seen(answer: bytes) -> dict[str, float]:
    longest = msgspec.json.decode(answer, type=RestartSeen).longest_ms
    return {"max": max(longest), **percentiles(longest)}
