"""`results`: time until the results of a match of 20,000 players are all in the store, a player, beside one of 2,000.

A host plays a recorded match on one node over SQLite, in which everybody has one line, ends it, and then looks into the
database until each player has a career row of it. `detail` has the seconds of the large match.
"""

import asyncio
import sqlite3
import time
from contextlib import AsyncExitStack
from typing import Final

from server.errors import Unavailable
from server.lab.bench import databases
from server.lab.bench.gateway import node_and_key
from server.lab.bench.harness import Effort, Outcome, outcome, progress
from server.lab.bench.matches import OPTIONS, accepted, reporter
from server.lab.bench.raw_socket import RawSocket
from server.sessions.tokens import issue

FEW: Final = 2_000
MANY: Final = 20_000
BATCH: Final = 256
LOOK_S: Final = 0.05
LONGEST_S: Final = 300.0


async def run(effort: Effort) -> Outcome:
    """Milliseconds a player, from the end of the match until all results are stored."""
    few, many = effort.size(FEW), effort.size(MANY)
    floors, figures = [], []
    async with databases.sqlite() as database, node_and_key(database) as (node, key):
        path, token = databases.path(database), issue(key, "host", "host", 3600, time.time_ns() // 1_000_000)
        url = node.ready["client_url"]
        for number in range(max(1, effort.rounds // 3)):
            floors.append(await _seconds(url, token, path, f"few-{number}", few))
            figures.append(await _seconds(url, token, path, f"many-{number}", many))
            progress(f"results: round {number + 1}: {few} in {floors[-1]:.2f} s, {many} in {figures[-1]:.2f} s")
    return outcome(
        "results", "ms", [1000 * took / many for took in figures], [1000 * took / few for took in floors], 2.0,
        players=[few, many], seconds=round(figures[-1], 2),
    )  # fmt: skip


async def _seconds(url: str, token: str, path: str, name: str, players: int) -> float:
    async with AsyncExitStack() as stack:
        await _play(await reporter(stack, url, token), name, players)
    begin = time.monotonic()
    while (stored := await asyncio.to_thread(_careers, path, name)) < players:
        if time.monotonic() > begin + LONGEST_S:
            raise Unavailable(f"{stored} of {players} results are stored after {LONGEST_S:.0f} s")
        await asyncio.sleep(LOOK_S)
    return time.monotonic() - begin


async def _play(socket: RawSocket, name: str, players: int) -> None:
    number = 0

    async def say(kind: str, *fields: object) -> None:
        nonlocal number
        number += 1
        await accepted(socket, kind, number, name, number, name, *fields)

    await say("match.create", OPTIONS)
    await say("match.start")
    for first in range(0, players, BATCH):
        names = range(first, min(players, first + BATCH))
        await say("match.report", [["kill", first, f"player-{player}"] for player in names])
    await say("match.end", players)


def _careers(path: str, match: str) -> int:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM careers WHERE match_id = ?", (match,)).fetchone()[0])
    finally:
        connection.close()
