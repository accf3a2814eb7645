"""`leaderboard`: reads of a leaderboard of a million players while a thousand results a second come in, beside a Redis
sorted set; each over loopback through its own client, with as many questions on their way.

A read is the first hundred, a player's place, or ten rows around a player, in turn. Garrison's node reads changed rows
again from its database (SQLite) meanwhile, Redis gets its changes from the client. The server has one processor, the
client with everything that it does the other. Redis is asked in pipelines, which costs its client least; ten rows
around a player are a place and a range there, one after the other.
"""

import asyncio
import contextlib
import random
import signal
import socket
import sqlite3
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from tempfile import TemporaryDirectory
from typing import Any, Final

from redis.asyncio import Redis

import garrison
from server.cli.local_cluster import dying_with, stop_process
from server.errors import Unavailable
from server.lab.bench import databases
from server.lab.bench.boards_app import name_of
from server.lab.bench.gateway import node_and_key
from server.lab.bench.harness import Effort, Outcome, cpus, outcome, pin, pinned, progress
from server.lab.bench.raw_socket import connected
from server.lab.chaos.journals import redis_program
from server.sessions.tokens import issue

PLAYERS: Final = 1_000_000
SECONDS: Final = 3.0
DEPTH: Final = 16
UPDATES_S: Final = 1_000
UPDATES_AT_ONCE: Final = 100
FIRST: Final = 100
AROUND: Final = 10
START_S: Final = 10.0
LOAD_S: Final = 120.0
MOST_KILLS: Final = 100_000
KINDS: Final = ("top", "place", "around")
APP: Final = "server.lab.bench.boards_app:App"
NO_LIMITS: Final = ("gateway.rate_per_s=1000000", "gateway.rate_burst=1000000")
Reads = dict[str, float]
"""Reads a second, by kind."""


async def run(effort: Effort) -> Outcome:
    """Microseconds a read; the floor is Redis."""
    players, seconds = effort.size(PLAYERS), effort.seconds(SECONDS)
    kills = [random.Random(1).randrange(MOST_KILLS) for _ in range(players)]
    ours: list[Reads] = []
    theirs: list[Reads] = []
    with pinned(cpus()[1]):
        async with _redis_board(kills) as below, _own_board(kills) as above:
            for number in range(effort.rounds + 1):
                found = await below(seconds), await above(seconds)
                pair = [1e6 / statistics.harmonic_mean(reads.values()) for reads in found]
                progress(f"leaderboard: round {number}: floor {pair[0]:.1f}, real {pair[1]:.1f} us a read")
                if number or effort.short:
                    theirs.append(found[0])
                    ours.append(found[1])
    real, floor = ([1e6 / statistics.harmonic_mean(reads.values()) for reads in each] for each in (ours, theirs))
    result = outcome(
        "leaderboard", "us", real, floor, 1.0, players=players, depth=DEPTH, updates_per_s=UPDATES_S,
        reads_per_s=_medians(ours), redis_reads_per_s=_medians(theirs),
    )  # fmt: skip
    result.detail["reads_ratio"] = round(1 / result.ratio, 3)
    return result


def _medians(reads: list[Reads]) -> dict[str, int]:
    return {kind: round(statistics.median(each[kind] for each in reads)) for kind in KINDS}


async def _in_turn(
    seconds: float, update: Callable[[], Any], ask: Callable[[str, list[str]], Any], names: int
) -> Reads:
    """Reads a second of each kind, for a third of the time each, `DEPTH` at once, while updates come in. `ask(kind,
    players)` does one read for each of `players`."""
    chance, found = random.Random(2), {}
    updates = asyncio.create_task(_every(UPDATES_AT_ONCE / UPDATES_S, update))
    try:
        for kind in KINDS:
            reads, begin = 0, time.perf_counter()
            while (took := time.perf_counter() - begin) < seconds / len(KINDS):
                await ask(kind, [name_of(chance.randrange(names)) for _ in range(DEPTH)])
                reads += DEPTH
            found[kind] = reads / took
    finally:
        updates.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await updates
    return found


async def _every(interval_s: float, update: Callable[[], Any]) -> None:
    due = time.perf_counter()
    while True:
        await update()
        due += interval_s
        await asyncio.sleep(max(0.0, due - time.perf_counter()))


# ---- ours -----------------------------------------------------------------------------------


@asynccontextmanager
async def _own_board(kills: list[int]) -> AsyncIterator[Callable[[float], Any]]:
    """A node with its database, in which every player has a career."""
    async with databases.sqlite() as url:
        path = databases.path(url)
        await asyncio.to_thread(_careers, path, kills)
        async with node_and_key(url, NO_LIMITS, app=APP) as (node, key):
            at, now_ms = node.ready["client_url"], time.time_ns() // 1_000_000
            tokens = [issue(key, name, "service", 3600, now_ms) for name in ("reader", "player")]
            async with garrison.connect(at, tokens[0]) as client, connected(at) as player:
                await player.ask("hello", 1, tokens[1], None, 0, "leaderboard", False)
                numbers = count(2)

                async def update() -> None:
                    done = await player.ask("bench.played", next(numbers), path, len(kills), UPDATES_AT_ONCE)
                    if done[0] != "bench.done":
                        raise Unavailable(f"bench.played: {done}")

                async def measured(seconds: float) -> Reads:
                    return await _in_turn(seconds, update, _asker(client), len(kills))

                await _loaded(client, len(kills))
                yield measured


async def _loaded(client: garrison.Client, players: int) -> None:
    """Wait until the board is read from the store."""
    deadline = time.monotonic() + LOAD_S
    while time.monotonic() < deadline:
        with contextlib.suppress(garrison.GarrisonError):
            if (await client.boards.top("kills", mode="slayer", limit=1)).total == players:
                return
    raise Unavailable("the leaderboard is not read in time")


def _asker(client: garrison.Client) -> Callable[[str, list[str]], Any]:
    boards = client.boards

    async def ask(kind: str, players: list[str]) -> None:
        if kind == "top":
            await asyncio.gather(*(boards.top("kills", mode="slayer", limit=FIRST) for _ in players))
        else:
            rows = 1 if kind == "place" else AROUND
            await asyncio.gather(*(boards.around("kills", player, mode="slayer", count=rows) for player in players))

    return ask


def _careers(path: str, kills: list[int]) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.executemany(
            "INSERT INTO career_totals (player_id, mode, season, matches, kills) VALUES (?, 'slayer', '', 1, ?)",
            ((name_of(number), count) for number, count in enumerate(kills)),
        )
    connection.close()


# ---- Redis ----------------------------------------------------------------------------------


@asynccontextmanager
async def _redis_board(kills: list[int]) -> AsyncIterator[Callable[[float], Any]]:
    """A Redis of its own with a sorted set of every player. Nothing of it is on the disk."""
    with TemporaryDirectory(prefix="garrison-bench-") as folder:
        port = _free_port()
        process = await asyncio.create_subprocess_exec(
            redis_program(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            preexec_fn=dying_with(signal.SIGTERM),
        )  # fmt: skip
        pin(process.pid, cpus()[0])
        redis = Redis.from_url(f"redis://127.0.0.1:{port}")
        try:
            await _filled(redis, kills)
            chance = random.Random(3)

            async def update() -> None:
                async with redis.pipeline(transaction=False) as pipe:
                    for _ in range(UPDATES_AT_ONCE):
                        pipe.zincrby("kills", 1, name_of(chance.randrange(len(kills))))
                    await pipe.execute()

            async def measured(seconds: float) -> Reads:
                return await _in_turn(
                    seconds, update, lambda kind, players: _ask_redis(redis, kind, players), len(kills)
                )

            yield measured
        finally:
            await redis.aclose()
            await stop_process(process, START_S)


async def _filled(redis: Redis, kills: list[int]) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            await redis.ping()
            break
        except OSError:
            pass
        except Exception:
            if time.monotonic() > deadline:
                raise Unavailable("redis-server does not start") from None
        await asyncio.sleep(0.02)
    for first in range(0, len(kills), 10_000):
        await redis.zadd("kills", {name_of(first + n): count for n, count in enumerate(kills[first : first + 10_000])})


async def _ask_redis(redis: Redis, kind: str, players: list[str]) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        for player in players:
            if kind == "top":
                pipe.zrevrange("kills", 0, FIRST - 1, withscores=True)
            else:
                pipe.zrevrank("kills", player)
        places = await pipe.execute()
    if kind != "around":
        return
    async with redis.pipeline(transaction=False) as pipe:
        for place in places:
            first = max(0, place - AROUND // 2)
            pipe.zrevrange("kills", first, first + AROUND - 1, withscores=True)
        await pipe.execute()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
