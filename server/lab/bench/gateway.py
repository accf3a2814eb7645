"""`heartbeat` and `memory`: the production node over real sockets, with its default limits and its
metrics on, against a bare echo server with the same payload, sockets and read buffer."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from garrison_bots.load import LoadOptions, LoadProcess
from server.lab.bench.harness import (
    Effort,
    Outcome,
    Served,
    alternate,
    cpu_us_per_unit,
    cpus,
    outcome,
    progress,
    rss_kib,
)
from server.sessions.tokens import issue

FLOOR = ["server.lab.bench.floors.echo"]
CONNECTIONS = 400
SAMPLE_S = 2.0
IDLE_SESSIONS = 3_000


@asynccontextmanager
async def one_node(database_url: str | None = None) -> AsyncIterator[tuple[Served, list[str]]]:
    """A production node in a process of its own, and tokens for its players."""
    async with node_and_key(database_url) as (node, key):
        now_ms = time.time_ns() // 1_000_000
        yield node, [issue(key, f"bench-{n}", "player", 3600, now_ms) for n in range(IDLE_SESSIONS)]


@asynccontextmanager
async def node_and_key(
    database_url: str | None = None, assignments: Sequence[str] = (), app: str | None = None
) -> AsyncIterator[tuple[Served, bytes]]:
    """A production node in a process of its own, and the key of its clients' tokens. `assignments`: more settings;
    `app`: another one than the game."""
    with TemporaryDirectory() as home:
        key = secrets.token_hex(32)
        config = Path(home) / "garrison.toml"
        url = database_url or f"sqlite:///{home}/garrison.db"
        config.write_text(f'[store]\nurl = "{url}"\nmigrate = true\n[security]\nsigning_key = "{key}"\n')
        arguments = ["server.main", "node", "--config", str(config), "--set", "log.level=warning"]
        for assignment in assignments:
            arguments += ["--set", assignment]
        arguments += ["--app", app] if app is not None else []
        async with Served([*arguments, "--gateway-port", "0", "--admin-port", "0"]) as node:
            yield node, key.encode()


async def heartbeat(effort: Effort) -> Outcome:
    """CPU us an acknowledged heartbeat; every tenth changes a durable field."""
    async with AsyncExitStack() as stack:
        bare = await stack.enter_async_context(Served(FLOOR))
        node, tokens = await stack.enter_async_context(one_node())
        connections, seconds = CONNECTIONS, effort.seconds(SAMPLE_S)  # fewer would meet the rate limit
        common = LoadOptions(url=bare.ready["client_url"], connections=connections, cpus=cpus()[1])
        raw = msgspec.structs.replace(common, mode="raw")
        beats = msgspec.structs.replace(common, url=node.ready["client_url"], tokens=tokens[:connections])
        below_load = await stack.enter_async_context(LoadProcess(raw))
        above_load = await stack.enter_async_context(LoadProcess(beats))

        async def below() -> float:
            return await _loaded(bare, below_load, seconds)

        async def above() -> float:
            return await _loaded(node, above_load, seconds)

        result = await alternate("heartbeat", "us", below, above, effort, goal=1.25, connections=connections)
        errors = (await above_load.count()).errors
        result.detail["errors"] = errors
        return result


async def _loaded(server: Served, load: LoadProcess, seconds: float) -> float:
    async def units() -> int:
        return (await load.count()).units

    await load.start()
    try:
        return await cpu_us_per_unit(server.pid, seconds, units)
    finally:
        await load.stop()


async def memory(effort: Effort) -> Outcome:
    """KiB of the serving process for one idle session with its player's activation."""
    below, above, sessions = [], [], effort.size(IDLE_SESSIONS)
    for number in range(max(1, effort.rounds // 3)):
        idle = LoadOptions(url="", connections=sessions, cpus=cpus()[1])
        async with Served(FLOOR) as bare:
            raw = msgspec.structs.replace(idle, url=bare.ready["client_url"], mode="raw")
            below.append(await _growth(bare, raw, effort))
        async with one_node() as (node, tokens):
            real = msgspec.structs.replace(idle, url=node.ready["client_url"], tokens=tokens[:sessions])
            above.append(await _growth(node, real, effort))
        progress(f"memory: round {number + 1}: floor {below[-1]:.1f}, real {above[-1]:.1f} KiB")
    return outcome("memory", "KiB", above, below, None, goal_kib=24, sessions=sessions)


async def _growth(server: Served, options: LoadOptions, effort: Effort) -> float:
    """Growth of the process with `options.connections` more connections; a tenth goes first,
    so that what only the first ones cost is not counted."""
    first = options.connections // 10
    head = msgspec.structs.replace(options, connections=first, tokens=options.tokens[:first])
    rest = msgspec.structs.replace(options, connections=options.connections - first, tokens=options.tokens[first:])
    async with LoadProcess(head):
        await asyncio.sleep(effort.seconds(2.0))
        before = rss_kib(server.pid)
        async with LoadProcess(rest):
            await asyncio.sleep(effort.seconds(4.0))
            return (rss_kib(server.pid) - before) / rest.connections
