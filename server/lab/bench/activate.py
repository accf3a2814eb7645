"""`activate`: stored players become activations, cold: load and claim, on SQLite.

The floor claims and reads the same rows of another file in batches of the same size.
"""

import asyncio
import sqlite3
import time
from contextlib import closing

from server.actors.actor import Caller
from server.ids import ActorId
from server.lab.bench import databases
from server.lab.bench.floors import activate as floor
from server.lab.bench.floors import flush
from server.lab.bench.harness import Effort, Outcome, alternate
from server.lab.bench.systems import game_system

PLAYERS = 1_000
REPEATS = 3
RELEASE = "UPDATE players SET owner_node = NULL"
"""Gives the rows up again, outside of what is measured."""


async def run(effort: Effort) -> Outcome:
    """CPU us an activation, the store's thread included."""
    keys = [f"bench-{number:05}" for number in range(effort.size(PLAYERS))]
    async with databases.sqlite() as bare, databases.sqlite() as real, game_system(real) as system:
        with closing(sqlite3.connect(databases.path(bare), isolation_level=None)) as connection:
            assert system.app.session_actor is not None
            kind, batch = system.app.session_actor.kind, system.settings.actors.claim_batch
            ids = {ActorId(f"{kind}/{key}"): Caller("player", key, "bench") for key in keys}
            for identity, caller in ids.items():
                await system.ask(identity, "connected", (caller,))
                await system.ask(identity, "disconnected", (caller, "closed"))
            await system.catalog.deactivate(list(system.catalog.live.values()))
            connection.executemany("INSERT INTO players (player_id, epoch) VALUES (?, 1)", [(key,) for key in keys])
            flush.sqlite(connection, keys, 1)

            async def below() -> float:
                spent = 0.0
                for _ in range(REPEATS):
                    connection.execute(RELEASE)
                    begin = time.process_time()
                    found = floor.run(connection, keys, batch)
                    spent += time.process_time() - begin
                    assert found == len(keys)
                return spent * 1e6 / (REPEATS * len(keys))

            async def above() -> float:
                spent = 0.0
                for _ in range(REPEATS):
                    begin = time.process_time()
                    await asyncio.gather(*(system.activate(identity) for identity in ids))
                    spent += time.process_time() - begin
                    await system.catalog.deactivate(list(system.catalog.live.values()))
                    assert not system.catalog.live
                return spent * 1e6 / (REPEATS * len(keys))

            return await alternate("activate", "us", below, above, effort, goal=None, players=len(keys))
