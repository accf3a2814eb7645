"""`query-restart`: the same question over ten million rows of events, answered in full again after `kill -9` of the
node and its query process: from shared memory, and from the store after that memory was wiped.

Seconds from the death of both to the answer, with all that lies between: a new process, its start, its query process.
The node has SQLite and no lease (a lease that is not given up is waited for, whatever becomes of memory). Matches are
one generated match under many names, sealed as a node seals them. `rows_per_s` is the rate of the reload alone,
`rows_per_cpu_s` by its CPU time: it gets only what nobody else wants. `start_s` is the part of `memory_s` until the
node says that it is up, which it takes with no rows at all. Goal: a hundred times as fast from memory, with the store
at no less than 200,000 rows a second.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import sqlite3
import statistics
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from server.errors import Unavailable
from server.lab.bench import log_samples
from server.lab.bench.harness import Effort, Outcome, Served, cpu_s, machine, progress
from server.lab.bench.questions import TOKEN, _ask, _directory

ROWS: Final = 10_000_000
SHORT_ROWS: Final = 200_000
MATCH_MS: Final = 2_400_000
"""Forty minutes of match: about 2,000 events."""
MAX_BYTES: Final = 2 * 1024 * 1024 * 1024
FILTERS: Final = "WHERE mode = 'slayer' AND clock_ms >= 0"
QUESTION: Final = f"SELECT event, count(*), sum(points) FROM events {FILTERS} GROUP BY event ORDER BY event"
NODE: Final = "node-1"
GOAL: Final = 100.0
LONGEST_S: Final = 600.0
LOOK_S: Final = 1.0
"""Pause between two looks while the store is loaded: the question itself takes time from that."""


async def run(effort: Effort) -> Outcome:
    """How many times faster the answer is there from memory than from the store."""
    from server.cli.admin_side import AdminSide  # noqa: F401 - what a client has loaded is not measured

    wanted = SHORT_ROWS if effort.short else ROWS
    async with _directory() as home:
        config, rows = await asyncio.to_thread(_stored, home, wanted)
        progress(f"query-restart: {rows:,} events are stored")
        columns = home / "garrison" / NODE
        node = await _start(config)
        stores: list[float] = []
        memories: list[float] = []
        starts: list[float] = []
        rates: list[tuple[float, float]] = []
        answers: list[Any] = []
        try:
            for number in range(max(1, min(effort.rounds, 3))):
                node, store_s, answer = await _again(node, config, rows, columns)
                rates.append(answer["rates"])
                stores.append(store_s)
                answers.append(answer["rows"])
                for _ in range(3):
                    node, memory_s, answer = await _again(node, config, rows, None)
                    memories.append(memory_s)
                    starts.append(answer["start_s"])
                    answers.append(answer["rows"])
                progress(
                    f"query-restart: round {number + 1}: memory {memory_s:.2f} s, store {store_s:.1f} s, "
                    f"{rates[-1][0]:,.0f} rows/s, {rates[-1][1]:,.0f} rows/CPU s"
                )
        finally:
            await _kill(node)
    assert all(found == answers[0] for found in answers), "the same question has the same answer"
    store_s, memory_s = statistics.median(stores), statistics.median(memories)
    times = store_s / memory_s
    return Outcome(
        "query-restart", "times", round(times, 1), 1.0, round(times, 1), 0.0, machine(), GOAL,
        {
            "memory_s": round(memory_s, 3), "store_s": round(store_s, 2), "times_faster": round(times, 1),
            "start_s": round(statistics.median(starts), 3), "rows": rows,
            "rows_per_s": round(statistics.median(rate for rate, _ in rates)),
            "rows_per_cpu_s": round(statistics.median(rate for _, rate in rates)),
        },
    )  # fmt: skip


async def _again(node: Served, config: Path, rows: int, wipe: Path | None) -> tuple[Served, float, dict[str, Any]]:
    """Kill, wipe what is to be wiped, start, and ask until the answer is whole: the node, the time, the answer."""
    await _kill(node)
    if wipe is not None:
        await asyncio.to_thread(shutil.rmtree, wipe, True)
    began = time.monotonic()
    node = await _start(config)
    ready_s = time.monotonic() - began
    base = node.ready["admin_url"]
    first_s = cpu_rate = 0.0
    async with asyncio.timeout(LONGEST_S):
        while True:
            with contextlib.suppress(Unavailable):
                found = msgspec.json.decode(await asyncio.to_thread(_ask, base, QUESTION))
                first_s = first_s or time.monotonic() - began
                coverage = found["coverage"]
                if coverage["rows_missing"]:
                    cpu_rate = _rate(node.pid, rows - coverage["rows_missing"]) or cpu_rate
                if not coverage["reloading"] and coverage["rows_scanned"] == coverage["rows_held"] == rows:
                    break
            await asyncio.sleep(0.005 if wipe is None else LOOK_S)
    whole_s = time.monotonic() - began
    found["start_s"] = ready_s
    found["rates"] = (rows / max(0.001, whole_s - first_s), cpu_rate)
    progress(f"query-restart: node up after {ready_s:.2f} s, first answer {first_s:.2f} s, whole {whole_s:.2f} s")
    return node, whole_s, found


async def _start(config: Path) -> Served:
    served = Served(["server.main", "node", "--config", str(config)])
    return await served.__aenter__()


async def _kill(node: Served) -> None:
    """End a node and its children at once, and wait until they are gone."""
    pids = [*_children(node.pid), node.pid]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(_wait_for, pids[:-1])
    await node.__aexit__()


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _rate(node: int, rows: int) -> float:
    """Rows that the reload process of a node has loaded, for each second of its CPU time; 0 where there is none."""
    for pid in _children(node):
        with contextlib.suppress(OSError):
            if b"server.cli.reload" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return rows / max(0.001, cpu_s(pid))
    return 0.0


def _wait_for(pids: list[int]) -> None:
    """Return when none of `pids` lives any more."""
    while any(_lives(pid) for pid in pids):
        time.sleep(0.001)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _stored(home: Path, wanted: int) -> tuple[Path, int]:
    """The settings of a node whose database has `wanted` events or a few more, all of them recorded by it."""
    url, config = f"sqlite:///{home}/garrison.db", home / "garrison.toml"
    config.write_text(
        f'node = "{NODE}"\n[store]\nurl = "{url}"\nlease = false\n[gateway]\nport = 0\n[admin]\nport = 0\n'
        f'token = "{TOKEN}"\n[columns]\nenabled = true\ndirectory = "{home}"\nmax_bytes = {MAX_BYTES}\n'
        f'[security]\nsigning_key = "{secrets.token_hex(32)}"\n[log]\nlevel = "error"\n'
    )
    from migrations import upgrade

    upgrade(url)
    now_ms = time.time_ns() // 1_000_000
    sample = log_samples.match(MATCH_MS, began_ms=now_ms - 2 * MATCH_MS)
    chunks = [(part.first_seq, part.last_seq, part.data) for part in sample.log.chunks]
    head, count = sample.log.head, -(-wanted // sample.events)
    with contextlib.closing(sqlite3.connect(home / "garrison.db")) as connection, connection:
        connection.executemany(
            "INSERT INTO matches (match_id, phase, next_seq, head, epoch, ended_wall_ms) "
            "VALUES (?, 'ended', ?, ?, 1, ?)",
            [(f"match-{number}", sample.events + 1, head, now_ms) for number in range(count)],
        )
        connection.executemany(
            "INSERT INTO log_chunks (kind, key, first_seq, last_seq, sealed, data) VALUES ('match', ?, ?, ?, 1, ?)",
            ((f"match-{number}", *chunk) for number in range(count) for chunk in chunks),
        )
        connection.executemany(
            "INSERT INTO log_recorders (kind, key, first_seq, node_id, incarnation, began_ms) "
            "VALUES ('match', ?, 1, ?, 0, ?)",
            [(f"match-{number}", NODE, now_ms - number) for number in range(count)],
        )
    return config, count * sample.events
