"""`flush-sqlite`, `flush-postgres`: 1,000 changed players from the dirty set to the store.

The floor writes as many rows with the same columns to another database of the same kind. Counted
is the CPU time of this process, with the threads of its drivers.
"""

import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing

import asyncpg  # type: ignore[import-untyped]

from server.actors.actor import Caller
from server.catalog.system import ActorSystem
from server.ids import ActorId
from server.lab.bench import databases
from server.lab.bench.floors import flush as floor
from server.lab.bench.harness import Effort, Outcome, alternate
from server.lab.bench.systems import game_system

ROWS = 1_000
FLUSHES = 10
STATUSES = ("away", "online")
Write = Callable[[int], Awaitable[None]]


async def sqlite(effort: Effort) -> Outcome:
    """CPU us a row."""
    async with databases.sqlite() as bare, databases.sqlite() as real, game_system(real) as system:
        with closing(sqlite3.connect(databases.path(bare), isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = NORMAL")
            keys = _keys(effort)
            connection.executemany("INSERT INTO players (player_id, epoch) VALUES (?, 1)", [(key,) for key in keys])

            async def write(version: int) -> None:
                floor.sqlite(connection, keys, version)

            return await _flush("flush-sqlite", system, keys, write, effort)


async def postgres(effort: Effort) -> Outcome:
    """CPU us a row, without the database server's. Raises `BadSetting` where there is no server."""
    async with (
        databases.postgres() as fresh,
        game_system(await fresh()) as system,
        _connection(await fresh()) as connection,
    ):
        keys = _keys(effort)
        await connection.execute("INSERT INTO players (player_id, epoch) SELECT unnest($1::text[]), 1", keys)

        async def write(version: int) -> None:
            await floor.postgres(connection, keys, version)

        return await _flush("flush-postgres", system, keys, write, effort)


@asynccontextmanager
async def _connection(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def _keys(effort: Effort) -> list[str]:
    return [f"bench-{number:05}" for number in range(effort.size(ROWS))]


async def _flush(name: str, system: ActorSystem, keys: list[str], write: Write, effort: Effort) -> Outcome:
    assert system.app.session_actor is not None
    kind = system.app.session_actor.kind
    callers = {ActorId(f"{kind}/{key}"): Caller("player", key, "bench") for key in keys}
    for identity, caller in callers.items():
        await system.ask(identity, "connected", (caller,))
    await system.write_behind.flush()
    version = turn = 0

    async def below() -> float:
        nonlocal version
        spent = 0.0
        for _ in range(FLUSHES):
            version += 1
            begin = time.process_time()
            await write(version)
            spent += time.process_time() - begin
        return spent * 1e6 / (FLUSHES * len(keys))

    async def above() -> float:
        nonlocal turn
        spent = 0.0
        for _ in range(FLUSHES):
            for identity, caller in callers.items():
                system.ask_now(identity, "beat", (caller, STATUSES[turn % 2]))
            turn += 1
            assert len(system.write_behind) == len(keys)
            begin = time.process_time()
            await system.write_behind.flush()
            spent += time.process_time() - begin
        return spent * 1e6 / (FLUSHES * len(keys))

    return await alternate(name, "us", below, above, effort, goal=1.5, rows=len(keys))
