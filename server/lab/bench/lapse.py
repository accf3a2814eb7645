"""`lapse`: how a node comes back after its lease has run out, with thousands of matches whose hosts are gone.

Another process holds SQLite's write lock for longer than a host may be silent; no client is there. When the lock is
free again every match is due to be ended. The figure is the time from then until the node is ready for good; `detail`
has the lines that it has logged, the renewals that failed, and the time until the last match was ended. The floor is
a node without matches whose lock is held for some seconds.
"""

import asyncio
import sqlite3
import time
from typing import Any, Final

import msgspec

from server.errors import Unavailable
from server.lab.bench import databases
from server.lab.bench.gateway import node_and_key
from server.lab.bench.harness import Effort, Outcome, Served, cpu_s, outcome, progress
from server.lab.bench.matches import left_matches
from server.lab.bench.raw_socket import address
from server.sessions.tokens import issue

MATCHES: Final = 20_000
MAKERS: Final = 20
HELD_S: Final = 35.0
FLOOR_HELD_S: Final = 4.0
"""Above the period of a lease."""
LOOK_S: Final = 0.05
ANSWER_S: Final = 2.0
"""Without an answer for so long it is not ready."""
STEADY_S: Final = 10.0
"""Ready for so long is ready for good."""
LONGEST_S: Final = 240.0
GOAL: Final = 3.0


class Lapse(msgspec.Struct, frozen=True):
    """A recovery. `ready_s` and `ended_s` count from the end of the lock; `unready` is the reason that the node gave
    last, with the time; `cpu_s` is the node's until then."""

    ready_s: float
    unready: str
    ended_s: float
    log_lines: int
    renewals_failed: int
    cpu_s: float


async def run(effort: Effort) -> Outcome:
    """Seconds until ready for good, with many matches and with none."""
    floors, lapses = [], []
    for number in range(max(1, effort.rounds // 7)):
        steady_s = effort.seconds(STEADY_S)
        floors.append(await _lapse(0, FLOOR_HELD_S, steady_s))
        # A short run shows that it works: its hosts are not silent for long enough to be due.
        lapses.append(await _lapse(effort.size(MATCHES), FLOOR_HELD_S if effort.short else HELD_S, steady_s))
        progress(f"lapse: round {number + 1}: floor {floors[-1]}, {lapses[-1]}")
    detail: dict[str, Any] = msgspec.to_builtins(lapses[-1])
    return outcome(
        "lapse", "s", [it.ready_s for it in lapses], [it.ready_s for it in floors], GOAL,
        **detail, floor_log_lines=floors[-1].log_lines,
    )  # fmt: skip


async def _lapse(matches: int, held_s: float, steady_s: float) -> Lapse:
    async with databases.sqlite() as url, node_and_key(url) as (node, key):
        now_ms = time.time_ns() // 1_000_000
        tokens = [issue(key, f"host-{n}", "host", 3600, now_ms) for n in range(MAKERS)]
        if matches:
            await left_matches(node.ready["client_url"], tokens, matches)
        lines, spent = node.said_lines(), cpu_s(node.pid)
        await asyncio.to_thread(_hold, databases.path(url), held_s)
        free_at = time.monotonic()
        due = matches > 0 and held_s == HELD_S
        ready_at, ended_at, unready = await _recovery(node, databases.path(url), free_at, due, steady_s)
        return Lapse(
            round(ready_at - free_at, 3),
            unready,
            round(ended_at - free_at, 1),
            node.said_lines() - lines,
            await _failures(node),
            round(cpu_s(node.pid) - spent, 1),
        )


async def _recovery(node: Served, path: str, free_at: float, due: bool, steady_s: float) -> tuple[float, float, str]:
    """When it began to be ready for good, when the last match was ended, and why it was not ready last."""
    ready_at = ended_at = None
    unready = ""
    while time.monotonic() < free_at + LONGEST_S:
        asked_at, answer = time.monotonic(), await _get(node, "/readyz")
        ready, now = answer.startswith(b"HTTP/1.1 200"), time.monotonic()
        if not ready:
            why = answer.rpartition(b"\r\n")[2].decode(errors="replace") or f"no answer within {ANSWER_S:g} s"
            unready = f"{asked_at - free_at:.2f} s: {why}"
        ready_at = (ready_at or now) if ready else None
        if ended_at is None and (not due or await asyncio.to_thread(_live, path) == 0):
            ended_at = now
        if ready_at is not None and ended_at is not None and now >= max(ready_at + steady_s, ended_at):
            return ready_at, ended_at, unready
        await asyncio.sleep(LOOK_S)
    raise Unavailable(f"not as before within {LONGEST_S:.0f} s of the lock's end")


async def _get(node: Served, path: str) -> bytes:
    """The answer of the admin port; nothing where it does not come in time."""
    name, port = address(node.ready["admin_url"].replace("http://", "ws://"))
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(name, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
                return await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return b""


async def _failures(node: Served) -> int:
    for line in (await _get(node, "/metrics")).decode(errors="replace").splitlines():
        if line.startswith("garrison_lease_failures_total"):
            return int(float(line.rpartition(" ")[2]))
    return -1


def _hold(path: str, seconds: float) -> None:
    connection = sqlite3.connect(path, isolation_level=None, timeout=30.0)
    try:
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def _live(path: str) -> int:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM matches WHERE phase <> 'ended'").fetchone()[0])
    finally:
        connection.close()
