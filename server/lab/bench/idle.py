"""`idle`: KiB of a production node for one idle session with its player's activation, without and with 200 watched
friends.

The watched players are drawn evenly among these sessions, so that each is watched by 200 of them: a node has one entry
a player and two million pairs. Watching is by name. The actors that have the lists of friends are asked for each
session, and collected soon after (idle activations are, here after a second): what they take meanwhile is not counted.
A tenth of the sessions comes first, so that what only the first ones cost is not counted. The floor is a bare echo
server with as many connections.
"""

import asyncio
import random
import resource
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from server.errors import BadInput
from server.lab.bench.gateway import FLOOR, node_and_key
from server.lab.bench.harness import Effort, Outcome, Served, cpus, outcome, pinned, progress, rss_kib
from server.lab.bench.people import WatchingClient, all_watch, beat_all, close_all, opened, welcomed
from server.sessions.tokens import issue

SESSIONS: Final = 10_000
FRIENDS: Final = 200
GOAL_KIB: Final = 13.0
FRIENDS_GOAL_KIB: Final = 24.0
REST_S: Final = 6.0
BEAT_S: Final = 4.0
COLLECT_SOON: Final = ("actors.idle_timeout_s=1", "actors.collect_interval_s=0.5")
SPARE_FILES: Final = 500


async def run(effort: Effort, size: int | None = None) -> Outcome:
    """KiB a session. `size`: how many sessions instead of 10,000."""
    sessions = size or effort.size(SESSIONS)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES
    if sessions > most:
        raise BadInput(f"{sessions} sessions need more open files than the {most} that this process may have")
    friends = min(FRIENDS, sessions // 2)
    floors: list[float] = []
    figures: list[float] = []
    watching: list[float] = []
    for number in range(max(1, effort.rounds // 7)):
        with pinned(cpus()[1]):
            floors.append(await _bare(sessions, effort))
            figure, with_friends = await _node(sessions, friends, effort)
        figures.append(figure)
        watching.append(with_friends)
        progress(
            f"idle: round {number + 1}: {sessions} sessions: floor {floors[-1]:.1f}, alone {figure:.1f}, "
            f"with {friends} friends {with_friends:.1f} KiB"
        )
    with_friends = round(sum(watching) / len(watching), 2)
    detail = {
        "sessions": sessions,
        "friends": friends,
        "with_friends": with_friends,
        "goal_kib": GOAL_KIB,
        "with_friends_goal_kib": FRIENDS_GOAL_KIB,
        "bytes_a_pair": round((with_friends - sum(figures) / len(figures)) * 1024 / friends, 1),
    }
    return msgspec.structs.replace(outcome("idle", "KiB", figures, floors, None), detail=detail)


async def _bare(sessions: int, effort: Effort) -> float:
    async with Served(FLOOR) as bare:
        first = await opened([bare.ready["client_url"]] * (sessions // 10))
        before = rss_kib(bare.pid)
        rest = await opened([bare.ready["client_url"]] * (sessions - len(first)))
        await asyncio.sleep(effort.seconds(REST_S))
        grown = (rss_kib(bare.pid) - before) / len(rest)
        close_all([*first, *rest])
        return grown


async def _node(sessions: int, friends: int, effort: Effort) -> tuple[float, float]:
    """KiB a session, alone and with so many friends watched."""
    async with node_and_key(assignments=COLLECT_SOON) as (node, key):
        now_ms, url = time.time_ns() // 1_000_000, node.ready["client_url"]
        names = [f"idler-{n}" for n in range(sessions)]
        tokens = [issue(key, name, "player", 3600, now_ms) for name in names]
        first = sessions // 10
        clients = await welcomed(url, tokens[:first])
        async with _alive(clients):
            await asyncio.sleep(effort.seconds(REST_S))
            before = rss_kib(node.pid)
            for start in range(first, sessions, first):
                clients += await welcomed(url, tokens[start : start + first])
            await asyncio.sleep(effort.seconds(REST_S))
            alone = rss_kib(node.pid)
            rng = random.Random(sessions)
            for client in clients:
                client.counts = False
            await all_watch(clients, [_others(rng, names, number, friends) for number in range(sessions)])
            await asyncio.sleep(effort.seconds(REST_S))
            watching = rss_kib(node.pid)
        close_all(clients)
        figure = (alone - before) / (sessions - first)
        return figure, figure + (watching - alone) / sessions


def _others(rng: random.Random, names: Sequence[str], own: int, count: int) -> list[str]:
    """So many others, drawn evenly."""
    drawn = rng.sample(range(len(names) - 1), count)
    return [names[number + (number >= own)] for number in drawn]


@asynccontextmanager
async def _alive(clients: list[WatchingClient]) -> AsyncIterator[None]:
    """Signs of life of these clients, also of those that are added, while the block lasts."""

    async def beats() -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            beat_all(clients)

    task = asyncio.create_task(beats())
    try:
        yield
    finally:
        task.cancel()
