"""`garrison bench`: what a unit of work costs, beside its floor in the same run."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
import uvloop
from cyclopts import App, Parameter

from server.cli.common import Json, out
from server.errors import BadInput
from server.lab.bench.harness import Effort, Outcome

EXAMPLES = """
Examples:

- `garrison bench heartbeat`
- `garrison bench call --rounds 15 --json`
- `garrison bench all`
"""
Bench = Callable[[Effort], Awaitable[Outcome]]


def benches() -> dict[str, Bench]:
    """Every benchmark by name."""
    from server.lab.bench import (
        activate,
        call,
        columns,
        deflate,
        failover,
        fanout,
        flush,
        friends,
        gateway,
        hot_restart,
        idle,
        journal,
        lapse,
        leaderboard,
        logs,
        migrate,
        neighbour,
        query_restart,
        questions,
        ratings,
        rebalance,
        remote_call,
        report,
        results,
        resume,
        view_change,
        writes,
    )

    return {
        "heartbeat": gateway.heartbeat,
        "call": call.run,
        "remote-call": remote_call.run,
        "link-encryption": remote_call.encryption,
        "flush-sqlite": flush.sqlite,
        "flush-postgres": flush.postgres,
        "activate": activate.run,
        "journal": journal.run,
        "failover": failover.run,
        "migrate": migrate.run,
        "rebalance": rebalance.run,
        "view-change": view_change.run,
        "memory": gateway.memory,
        "neighbour": neighbour.run,
        "report": report.run,
        "results": results.run,
        "ratings": ratings.run,
        "writes": writes.run,
        "lists": neighbour.lists,
        "lapse": lapse.run,
        "deflate": deflate.run,
        "leaderboard": leaderboard.run,
        "resume": resume.run,
        "fanout": fanout.run,
        "friends": friends.run,
        "idle": idle.run,
        "log-append": logs.append,
        "replay": logs.replay,
        "seek": logs.seek,
        "verify": logs.verify,
        "size": logs.size,
        "columns": columns.run,
        "query": questions.query,
        "query-tree": questions.query_tree,
        "hot-restart": hot_restart.run,
        "query-restart": query_restart.run,
    }


def bench(
    name: str,
    *,
    rounds: Annotated[int, Parameter(help="Pairs of samples, floor and real path in turn.")] = 7,
    json: Json = False,
    short: Annotated[bool, Parameter(show=False, negative="")] = False,
) -> int:
    """Measure heartbeat, call, remote-call, link-encryption, flush-sqlite, flush-postgres, activate, journal, failover,
    migrate, rebalance, view-change, memory, neighbour, report, results, writes, lists, lapse, deflate, resume, fanout,
    friends, idle, log-append, replay, seek, verify, size, ratings,
    leaderboard, columns, query, query-tree, hot-restart, query-restart, or all.

    CPU time of the serving process per unit (KiB for memory, idle and writes, bytes for size, ms for query, seek,
    neighbour, lists, results, migrate, rebalance, resume and view-change, s for failover and lapse), as a ratio to a
    floor in the same run.
    """
    known = benches()
    if name != "all" and name not in known:
        raise BadInput(f"no benchmark {name!r}; there are {', '.join(known)}, all")
    if rounds < 1:
        raise BadInput("--rounds: must be 1 or more")
    for bench in known if name == "all" else [name]:
        result = uvloop.run(_run(known[bench], Effort(rounds, short)))
        if json:
            print(msgspec.json.encode(result).decode(), flush=True)
        else:
            out().print(
                f"{result.name:15} {result.figure:10.3f} {result.unit:4} floor {result.floor:10.3f}  "
                f"x {result.ratio:.2f}  (spread {result.spread:.0%}, goal {result.goal or '-'})"
            )
    return 0


async def _run(bench: Bench, effort: Effort) -> Outcome:
    return await bench(effort)


def register(app: App) -> None:
    app.command(bench, name="bench", help_epilogue=EXAMPLES)
