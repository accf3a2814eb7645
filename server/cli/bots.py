"""`garrison bots` (hidden): the demo's players, in a process of their own.

Standard output is for the demo: one JSON object a line, `kind` being `stats` (twice a second),
`ended` (a match is over) or `done` (the last line). SIGTERM asks the bots to finish and leave.
"""

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import uvloop
from cyclopts import App, Parameter

from server.cli.common import Config, Set, read_settings, token_maker
from server.errors import Unavailable

STATS_EVERY_S: Final = 0.5


def bots(
    *,
    url: Annotated[list[str], Parameter(negative="")],
    ledger: Path,
    players: int = 240,
    speed: float = 30.0,
    seed: int | None = None,
    config: Config = None,
    set_: Set = None,
) -> int:
    """Play matches with bot players until SIGTERM."""
    from garrison_bots.swarm import SwarmOptions

    token = token_maker(read_settings(config, set_))
    options = SwarmOptions(players=players, speed=speed, seed=seed, ledger=ledger)
    uvloop.run(_run(url, token, options))
    return 0


async def _run(urls: list[str], token: Any, options: Any) -> None:
    from garrison import GarrisonError
    from garrison_bots.swarm import Swarm

    swarm = Swarm(urls, token, options, on_ended=lambda match: _tell("ended", match=match))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, swarm.stop)
    teller = asyncio.create_task(_tell_stats(swarm), name="bots-stats")
    began = time.monotonic()
    try:
        await swarm.run()
    except GarrisonError as error:
        raise Unavailable(f"the bots cannot play: {error}") from None
    finally:
        teller.cancel()
    counts = swarm.counts().to_json()
    counts["heartbeats_per_s"] = round(counts["heartbeats"] / max(1.0, time.monotonic() - began), 1)
    _tell("done", **counts)


async def _tell_stats(swarm: Any) -> None:
    while True:
        await asyncio.sleep(STATS_EVERY_S)
        _tell("stats", **swarm.counts().to_json())


def _tell(kind: str, **values: object) -> None:
    sys.stdout.write(json.dumps({"kind": kind, **values}) + "\n")
    sys.stdout.flush()


def register(app: App) -> None:
    app.command(bots, name="bots", show=False)
