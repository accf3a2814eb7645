"""`fanout`: a player changes, and all who watch it are sent the difference.

CPU us of a production node for each delivered difference, the change itself and the tick included, beside a bare picows
server that sends the same bytes to as many connections, once for each difference. One changer with 10, 1,000 and
10,000 watchers (`ratio` is that at 1,000), and ten changers at a time, whose differences come in one frame
(`burst_ratio`). Ticks are 20 ms, and what each process needs for its own life meanwhile is taken off; the next change
comes when all watchers have the one before.

Clients and servers are in processes of their own, and the limit of open files is raised as far as it goes: 11,000 are
enough for 10,000 watchers. Below 21,000 the connections to the bare server are made when those to the node have gone.
"""

import asyncio
import resource
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

import msgspec

from server.errors import Unavailable
from server.lab.bench.gateway import node_and_key
from server.lab.bench.harness import Effort, Outcome, Served, cpu_s, cpus, outcome, pinned, progress
from server.lab.bench.people import WatchingClient, all_watch, beat_all, check, close_all, opened, welcomed
from server.sessions.tokens import issue

FLOOR: Final = ["server.lab.bench.floors.fan"]
WATCHERS: Final = (10, 1_000, 10_000)
CHANGERS: Final = 10
DELIVERIES: Final = 40_000
"""Differences in a sample, with few watchers fewer."""
MOST_CHANGES: Final = 100
GOAL: Final = 1.2
BURST_GOAL: Final = 0.4
LATE_S: Final = 20.0
LOOK_S: Final = 0.005
SETTINGS: Final = ["gateway.latest_tick_ms=20", "gateway.heartbeat_interval_s=60"]
"""Ticks of 20 ms; and watchers need no heartbeat for as long as a slow machine takes."""
SPARE_FILES: Final = 1_000
CLOSING_S: Final = 2.0


async def run(effort: Effort) -> Outcome:
    """CPU us a delivered difference at 1,000 watchers."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # servers that are started from here have it too
    most = hard - SPARE_FILES
    sizes = [effort.size(size) for size in WATCHERS if effort.size(size) <= most]
    found: dict[int, Outcome] = {}
    bursts: dict[int, Outcome] = {}
    for size in sizes:
        found[size], bursts[size] = await _measure(size, effort.rounds if size < max(WATCHERS) else 1, 2 * size <= most)
    middle = sizes[min(1, len(sizes) - 1)]
    detail: dict[str, Any] = {
        "burst_ratio": bursts[middle].ratio,
        "burst_goal": BURST_GOAL,
        "watchers": middle,
        "by_watchers": {size: each.ratio for size, each in found.items()},
        "bursts_by_watchers": {size: each.ratio for size, each in bursts.items()},
        "us_by_watchers": {size: each.figure for size, each in found.items()},
    }
    return msgspec.structs.replace(found[middle], detail=detail)


async def _measure(size: int, rounds: int, together: bool) -> tuple[Outcome, Outcome]:
    """The outcomes of single differences and of bursts with so many watchers. Without `together` this process has not
    files enough for both servers' connections: those of the bare one come after the others have gone."""
    changes = max(5, min(MOST_CHANGES, DELIVERIES // size))
    singles: list[float] = []
    bursts: list[float] = []
    floors: list[float] = []
    async with AsyncExitStack() as stack:
        stack.enter_context(pinned(cpus()[1]))
        node, key = await stack.enter_async_context(node_and_key(assignments=SETTINGS))
        now_ms, url = time.time_ns() // 1_000_000, node.ready["client_url"]
        names = [f"changer-{number}" for number in range(CHANGERS)]
        watchers = await welcomed(url, [issue(key, f"watcher-{n}", "service", 3600, now_ms) for n in range(size)])
        await all_watch(watchers, [names] * size)
        # Last: the actor of a player gives up a session that is quiet for as long as 10,000 may take to come.
        changers = await welcomed(url, [issue(key, name, "player", 3600, now_ms) for name in names])
        bench = _Fanout(node, watchers)
        await bench.change(changers[:1])
        frame = watchers[0].last
        fan = await stack.enter_async_context(Served(FLOOR))
        bare = await _bare(fan, size) if together else None
        for number in range(rounds + 1):
            if bare is not None:
                floors.append(await bare.cost_us(partial(bare.fan, frame), changes))
            singles.append(await bench.cost_us(lambda: bench.change(changers[:1]), changes))
            bursts.append(await bench.cost_us(lambda: bench.change(changers), max(3, changes // CHANGERS)))
            if bare is not None:
                _tell(size, number, rounds, floors[-1], singles[-1], bursts[-1])
        close_all([*watchers, *changers])
        if bare is None:
            await asyncio.sleep(CLOSING_S)
            bare = await _bare(fan, size)
            for number in range(rounds + 1):
                floors.append(await bare.cost_us(partial(bare.fan, frame), changes))
                _tell(size, number, rounds, floors[-1], singles[number], bursts[number])
        close_all(bare.watchers)
    real, floor = singles[1:], floors[1:]  # the first ones do not count
    return outcome("fanout", "us", real, floor, GOAL), outcome("fanout", "us", bursts[1:], floor, BURST_GOAL)


async def _bare(fan: Served, size: int) -> "_Fanout":
    """The bare server with so many connections."""
    bare = _Fanout(fan, await opened([fan.ready["client_url"]] * size))
    for client in bare.watchers:
        client.send(0, b"")
    return bare


def _tell(size: int, number: int, rounds: int, floor: float, single: float, burst: float) -> None:
    progress(
        f"fanout: round {number}/{rounds}: {size} watchers: floor {floor:.2f}, single {single:.2f}, "
        f"burst {burst:.2f} us, x {single / floor:.2f}, x {burst / floor:.2f}"
    )


class _Fanout:
    """A serving process with the clients that are sent to."""

    def __init__(self, served: Served, watchers: Sequence[WatchingClient]) -> None:
        self._served, self.watchers = served, watchers
        self._turn = 0
        self._status: dict[WatchingClient, str] = {}
        """The last status of each player who changes: each says another one than before, or nothing changes."""

    async def cost_us(self, deliver: Callable[[], Awaitable[int]], changes: int) -> float:
        """CPU us a difference, over so many changes."""
        idle = await self._idle_share()
        began, before = time.monotonic(), cpu_s(self._served.pid)
        items = 0
        for _ in range(changes):
            items += await deliver()
        spent = cpu_s(self._served.pid) - before - idle * (time.monotonic() - began)
        return spent * 1e6 / items

    async def _idle_share(self) -> float:
        """Share of a processor that the process needs for its own life with these connections."""
        await asyncio.sleep(0.1)
        before, began = cpu_s(self._served.pid), time.monotonic()
        await asyncio.sleep(0.4)
        return (cpu_s(self._served.pid) - before) / (time.monotonic() - began)

    async def change(self, changers: Sequence[WatchingClient]) -> int:
        """Let players change, and wait until all watchers know. The differences that were delivered."""
        self._turn += 1
        if self._turn % 50 == 0:
            beat_all(self.watchers)
        before = [client.items for client in self.watchers]
        for each in changers:
            self._status[each] = "busy" if self._status.get(each) == "away" else "away"
        asked = (each.ask("saved", "presence.set", 3, self._status[each], "") for each in changers)
        check(await asyncio.gather(*asked), "saved")
        return await self._delivered(before, len(changers))

    async def fan(self, frame: bytes) -> int:
        """Let the bare server send a frame to all."""
        before = [client.items for client in self.watchers]
        self.watchers[0].send(1, frame)
        return await self._delivered(before, 1)

    async def _delivered(self, before: Sequence[int], each: int) -> int:
        until = time.monotonic() + LATE_S
        while any(client.items < at + each for client, at in zip(self.watchers, before, strict=True)):
            if time.monotonic() > until:
                raise Unavailable("a difference was not delivered")
            await asyncio.sleep(LOOK_S)
        return each * len(self.watchers)
