"""`garrison soak`: a production node with many sessions that watch each other, for minutes: does its memory grow, and
are the pictures right in the end?

Clients are in processes of their own (each may have only so many open files). While they run, players change what
they show at a steady rate, and some break their connection and resume, or leave and return. KiB a session are the
node's own memory beyond what it had without any, measured once all watch, after each minute, and at the end. The slope
is that of a straight line through the minutes after the first; idle actors are collected soon here, so that what logins
leave for a while is gone by then. At the end nobody changes any more, and each picture of each client is compared with
what the watched player has chosen.
"""

import asyncio
import resource
from collections.abc import Sequence
from contextlib import AsyncExitStack
from statistics import linear_regression
from typing import Annotated, Any, Final

import msgspec
import uvloop
from cyclopts import App, Parameter

from server.cli.common import Json, out
from server.errors import BadInput
from server.lab.bench.gateway import node_and_key
from server.lab.bench.harness import ALLOWED, cpu_s, machine, pin, progress, rss_kib
from server.lab.bench.lines import Lines
from server.lab.bench.soak_clients import SoakCount, SoakOrder, SoakShare
from server.lab.chaos.nodes import metrics

EXAMPLES = """
Examples:

- `garrison soak`
- `garrison soak --sessions 1000 --friends 50 --minutes 1 --json`
"""
A_PROCESS: Final = 5_000
"""Sessions of a process of clients."""
SPARE_FILES: Final = 500
REST_S: Final = 5.0
CALM_S: Final = 5.0
MINUTE_S: Final = 60.0
SETTINGS: Final = ("actors.idle_timeout_s=10", "presence.visibility=everybody")
"""Settings of the node beside the defaults. Everybody sees of everybody what friends see: a line, too."""
GAUGES: Final = ("sessions", "activations", "presence_watched", "presence_entries", "dirty")


class Soak(msgspec.Struct, frozen=True):
    """A run. Rates are a second, over all sessions."""

    sessions: int
    friends: int
    minutes: float
    changes_per_s: float
    returns_per_s: float


async def soak_for(run: Soak) -> dict[str, Any]:
    """The figures. Raises `BadInput`, `Unavailable`."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES
    if run.sessions > most:
        raise BadInput(f"{run.sessions} sessions need more open files than the {most} that the node may have")
    if not 1 <= run.friends < run.sessions:
        raise BadInput("--friends: from 1 to one less than the sessions")
    async with AsyncExitStack() as stack:
        node, key = await stack.enter_async_context(node_and_key(assignments=SETTINGS))
        pin(node.pid, ALLOWED)
        await asyncio.sleep(min(REST_S, MINUTE_S * run.minutes))
        alone_kib = rss_kib(node.pid)

        def kib() -> float:
            return round((rss_kib(node.pid) - alone_kib) / run.sessions, 2)

        progress(f"soak: {run.sessions} sessions log in")
        shares = _shares(run, node.ready["client_url"], key.decode())
        groups = [await stack.enter_async_context(Lines("soak_clients", share)) for share in shares]
        logged_in = kib()
        progress(f"soak: each watches {run.friends} others")
        await asyncio.gather(*(group.tell(b"{}") for group in groups))
        await asyncio.sleep(min(REST_S, MINUTE_S * run.minutes))
        start, samples = kib(), []
        await _tell(groups, SoakOrder("start"))
        loop, cpu_before = asyncio.get_running_loop(), cpu_s(node.pid)
        began, step_s = loop.time(), min(MINUTE_S, MINUTE_S * run.minutes / 4)
        while (passed := loop.time() - began) < MINUTE_S * run.minutes:
            await asyncio.sleep(min(step_s, MINUTE_S * run.minutes - passed))
            samples.append((round((loop.time() - began) / MINUTE_S, 2), kib()))
            told = await _tell(groups, SoakOrder("count"))
            progress(f"soak: minute {samples[-1][0]}: {samples[-1][1]} KiB a session, {_words(told)}")
        busy = (cpu_s(node.pid) - cpu_before) / (loop.time() - began)
        newest = [choice for each in await _tell(groups, SoakOrder("stop")) for choice in each.newest]
        await asyncio.sleep(CALM_S)
        told = await _tell(groups, SoakOrder("compare", newest))
        end, gauges = kib(), await metrics(node)
    steady = samples[1:] if len(samples) > 2 else samples
    slope = linear_regression([at for at, _ in steady], [figure for _, figure in steady]).slope
    return {
        "name": "soak", "unit": "KiB", "figure": end,
        "logged_in": logged_in, "start": start, "minutes": samples, "end": end,
        "slope_bytes_a_minute": round(slope * 1024, 1),
        "grown": round(steady[-1][1] / steady[0][1] - 1, 4),
        "alone_kib": alone_kib, "cpu_share": round(busy, 3),
        **{name: sum(getattr(each, name) for each in told) for name in TOTALS},
        "refused": _refused(told),
        "wrong_pictures": sum(each.wrong for each in told),
        "gauges": {name: int(gauges.get(name, -1)) for name in GAUGES},
        "sessions": run.sessions, "friends": run.friends, "minutes_run": run.minutes,
        "changes_per_s": run.changes_per_s, "returns_per_s": run.returns_per_s,
        "machine": machine(),
    }  # fmt: skip


TOTALS: Final = (
    "differences", "changes", "resumed", "watched_again", "returned", "went_back", "lost", "compared",
)  # fmt: skip


def _shares(run: Soak, url: str, key: str) -> list[SoakShare]:
    """The sessions of each process of clients."""
    shares = []
    for first in range(0, run.sessions, A_PROCESS):
        count = min(A_PROCESS, run.sessions - first)
        part = count / run.sessions
        rates = (run.changes_per_s * part, run.returns_per_s * part)
        shares.append(SoakShare(url, key, run.sessions, first, count, run.friends, *rates, ALLOWED))
    return shares


async def _tell(groups: Sequence[Lines], order: SoakOrder) -> list[SoakCount]:
    line = msgspec.json.encode(order)
    return [msgspec.json.decode(each, type=SoakCount) for each in await asyncio.gather(*(g.tell(line) for g in groups))]


def _refused(told: Sequence[SoakCount]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in told:
        for code, times in each.refused.items():
            found[code] = found.get(code, 0) + times
    return found


def _words(told: Sequence[SoakCount]) -> str:
    differences, changes = sum(each.differences for each in told), sum(each.changes for each in told)
    returns = sum(each.resumed + each.returned for each in told)
    return f"{changes} changes, {differences} differences, {returns} came back"


def soak(
    *,
    sessions: Annotated[int, Parameter(help="Sessions of players, all on one node.")] = 10_000,
    friends: Annotated[int, Parameter(help="Players whom each of them watches, drawn evenly among them.")] = 100,
    minutes: Annotated[float, Parameter(help="Time to run.")] = 10.0,
    changes: Annotated[float, Parameter(help="Players a second who show something else.")] = 20.0,
    returns: Annotated[float, Parameter(help="Clients a second that leave and come back.")] = 2.0,
    json: Json = False,
) -> int:
    """Watch a node's memory while its sessions watch each other for minutes.

    The exit code is 1 where a picture is wrong at the end, or came after a newer one.
    """
    if sessions < 2 or minutes <= 0 or changes < 0 or returns < 0:
        raise BadInput("at least two sessions, some time, and rates of 0 or more")
    figures = uvloop.run(soak_for(Soak(sessions, friends, minutes, changes, returns)))
    if json:
        print(msgspec.json.encode(figures).decode(), flush=True)
    else:
        out().print(
            f"{figures['start']} KiB a session at the start, {figures['end']} at the end, "
            f"{figures['slope_bytes_a_minute']} bytes more a minute; {figures['differences']:,} differences, "
            f"{figures['wrong_pictures']} of {figures['compared']:,} pictures wrong"
        )
    return 1 if figures["wrong_pictures"] or figures["went_back"] else 0


def register(app: App) -> None:
    app.command(soak, name="soak", help_epilogue=EXAMPLES)
