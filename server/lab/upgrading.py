"""`garrison upgrade`, run by the demo and by chaos as a person would run it, and what clients noticed of it."""

import asyncio
import contextlib
import json as jsonlib
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from server.cli.local_cluster import Home, spawn_self
from server.cli.node_process import last_words
from server.errors import Unavailable
from server.runtime.process import signal_child

HEARD_S: Final = 3.0
"""How long the bots may take to tell their counts after it."""
LOOK_EVERY_S: Final = 0.05


class Noticed(msgspec.Struct):
    """The outcome of an upgrade of `nodes` nodes, and what the bots noticed: connections that were closed, those among
    them whose session had to begin anew, and the reason why it ended early, empty where it did not."""

    nodes: int = 0
    longest_pause_ms: float = 0.0
    sessions_moved: int = 0
    sessions_going: int = 0
    connections_closed: int = 0
    sessions_dropped: int = 0
    why: str = ""

    @property
    def connections_lost(self) -> int:
        """Connections that closed and were not told to come again."""
        return max(0, self.connections_closed - self.sessions_going)


async def run_command(home: Home, *arguments: str) -> dict[str, Any]:
    """Its answer. Raises `Unavailable` with its last words where it has none."""
    log = home.log("upgrade")
    words = ["upgrade", *arguments, "--json", "--config", str(home.config)]
    process = await spawn_self(words, log, append=log.exists())
    assert process.stdout is not None
    try:
        answer = await process.stdout.read()
        await process.wait()
    finally:
        signal_child(process, signal.SIGKILL)
    if not answer:
        raise Unavailable(f"garrison upgrade: {last_words(log)}")
    told: dict[str, Any] = jsonlib.loads(answer)
    return told


async def upgrade(home: Home, stats: Callable[[], Mapping[str, Any]], *arguments: str) -> Noticed:
    """Run it, and count by `stats`, the newest figures of the bots, what they noticed meanwhile."""
    before = stats()
    try:
        told = await run_command(home, *arguments)
    except Unavailable as error:
        return Noticed(why=error.message)
    over = time.monotonic()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HEARD_S):
            while stats().get("now", 0.0) <= over:  # noqa: ASYNC110 - the bots tell when they like
                await asyncio.sleep(LOOK_EVERY_S)
    after = stats()
    grown = {name: after.get(name, 0) - before.get(name, 0) for name in ("reconnects", "sessions_dropped")}
    each = told.get("each", [told])
    return Noticed(
        nodes=sum(node["upgraded"] for node in each),
        longest_pause_ms=max((node["pause_ms"] for node in each if node["upgraded"]), default=0.0),
        sessions_moved=sum(node["sessions_moved"] for node in each),
        sessions_going=sum(node["sessions_going"] for node in each),
        connections_closed=grown["reconnects"],
        sessions_dropped=grown["sessions_dropped"],
        why="; ".join(f"{node['node']}: {node['why']}" for node in each if node["why"]),
    )
