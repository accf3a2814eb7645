"""`writes`: how much PostgreSQL writes for a match, in KiB of its write-ahead log.

Matches of eight players run side by side with the rates of recorded ones, forty times faster, and so are the
store's intervals and the checkpoints (a page that is changed first after a checkpoint is logged whole). The floor is
what has to be stored at least: the entries of the matches' logs, once and uncompressed. The detail has the rows by
table: inserted, updated, of these in place of the row before (HOT), deleted, and the KiB of its indexes afterwards.
"""

import asyncio
import contextlib
import random
import time
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]

from server.actors.actor import Caller
from server.catalog.system import ActorSystem
from server.eventlog import segment
from server.ids import ActorId
from server.lab.bench import databases
from server.lab.bench.harness import Effort, Outcome, outcome, progress
from server.lab.bench.systems import game_system

SPEED: Final = 40
MATCHES: Final = 12
LENGTH_S: Final = 480
CHECKPOINT_S: Final = 300
REST_S: Final = 4.0
BEGINS: Final = 0.5
"""Matches begin within this share of a match's length."""
_ROWS = (
    "SELECT relname, n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del, pg_indexes_size(relid) / 1024 "
    "FROM pg_stat_user_tables WHERE n_tup_ins + n_tup_upd + n_tup_del > 0 ORDER BY relname"
)
_WAL = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"


async def run(effort: Effort) -> Outcome:
    """KiB of WAL a match. Raises `BadSetting` where there is no server."""
    real: list[float] = []
    floor: list[float] = []
    tables: dict[str, Any] = {}
    length_s = effort.seconds(LENGTH_S)
    async with databases.postgres() as fresh:
        for number in range(effort.rounds):
            url = await fresh()
            counted = await _play(url, length_s, random.Random(number))
            real.append(counted["wal"] / 1024 / MATCHES)
            floor.append(counted["log"] / 1024 / MATCHES)
            tables = counted["tables"]
            below, above = floor[-1], real[-1]
            progress(f"writes: round {number + 1}/{effort.rounds}: floor {below:.1f}, real {above:.1f} KiB")
    return outcome("writes", "KiB", real, floor, goal=None, tables=tables)


async def _play(url: str, length_s: float, rng: random.Random) -> dict[str, Any]:
    """Play the matches on an empty database. Bytes of the write-ahead log and of the entries, and rows a match by
    table."""
    watch = await asyncpg.connect(url)
    try:
        scaled = {"flush_interval_s": 1.0, "group_commit_s": 0.03, "projection_interval_s": 30.0}
        async with game_system(url, {name: seconds / SPEED for name, seconds in scaled.items()}) as system:
            flushes = asyncio.create_task(system.write_behind.run())
            await _checkpoint(watch)
            begin = await watch.fetchval(_WAL)
            checkpoints = asyncio.create_task(_checkpoints(watch))
            async with asyncio.TaskGroup() as group:
                for number in range(MATCHES):
                    group.create_task(_match(system, number, length_s, random.Random(rng.random())))
            checkpoints.cancel()
            await asyncio.wait([checkpoints])
            await asyncio.sleep(REST_S)  # results are on their way to the players, and logs are sealed
            flushes.cancel()
            await system.write_behind.flush()
            log_bytes = await _log_bytes(watch, system)
            end = await watch.fetchval(_WAL)
        # Connections of the system have told their counts now that they are closed.
        tables = {
            row[0]: {
                "inserted": round(row[1] / MATCHES, 1),
                "updated": round(row[2] / MATCHES, 1),
                "hot": round(row[3] / MATCHES, 1),
                "deleted": round(row[4] / MATCHES, 1),
                "index_kib": row[5],
            }
            for row in await watch.fetch(_ROWS)
        }
        return {"wal": float(end - begin), "log": log_bytes, "tables": tables}
    finally:
        await watch.close()


async def _checkpoints(watch: asyncpg.Connection) -> None:
    while True:
        await asyncio.sleep(CHECKPOINT_S / SPEED)
        await _checkpoint(watch)


async def _checkpoint(watch: asyncpg.Connection) -> None:
    with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
        await watch.execute("CHECKPOINT")


async def _log_bytes(watch: asyncpg.Connection, system: ActorSystem) -> int:
    """Bytes of all entries, and an assertion that every log is sealed to its end."""
    size = 0
    for data, sealed in await watch.fetch("SELECT data, sealed FROM log_chunks WHERE kind = 'match'"):
        assert sealed, "a match has not ended"
        size += sum(len(entry.data) for entry in segment.decode(data).entries)
    return size


async def _match(system: ActorSystem, number: int, length_s: float, rng: random.Random) -> None:
    from game.messages import MatchCreate, MatchEnd, MatchJoin, MatchOptions, MatchReport, MatchStart
    from game.player.messages import ProfileSet
    from garrison_bots.generate import generate

    await asyncio.sleep(rng.random() * BEGINS * length_s / SPEED)
    name = f"match-{rng.getrandbits(64):016x}"
    identity = ActorId(f"match/{name}")
    reporter = Caller("host", f"host-{number}", "bench")
    players = [f"player-{number}-{place}" for place in range(8)]
    options = MatchOptions(score_limit=0, time_limit_ms=0, countdown_ms=0)
    await system.ask(identity, "create", (reporter, MatchCreate(1, "b", 1, name, options)))
    for place, player in enumerate(players):
        caller = Caller("player", player, "bench")
        await system.ask(ActorId(f"player/{player}"), "connected", (caller,))
        shown = ProfileSet(1, "b", 1, f"{player} of Recharge", f"emblem-{rng.randrange(64)}")
        await system.ask(ActorId(f"player/{player}"), "profile_set", (caller, shown))
        await system.ask(identity, "join", (caller, MatchJoin(1, "b", 1, name, place % 2)))
    await system.ask(identity, "start", (reporter, MatchStart(1, "b", 2, name)))
    begin = time.monotonic()
    teams = {player: place % 2 for place, player in enumerate(players)}
    command = 2
    for event in generate(teams, int(length_s * 1000), rng):
        late_s = begin + event.time_ms / 1000 / SPEED - time.monotonic()
        if late_s > 0:
            await asyncio.sleep(late_s)
        command += 1
        report = MatchReport(1, "b", command, name, [_as_reported(event)])
        await system.ask(identity, "report", (reporter, report))
    await system.ask(identity, "end", (reporter, MatchEnd(1, "b", command + 1, name)))


def _as_reported(event: Any) -> Any:
    """The server's message of the same name and fields as the SDK's."""
    from game import messages

    kind = getattr(messages, type(event).__name__)
    return kind(**{name: getattr(event, name) for name in kind.__struct_fields__})
