"""`garrison bots` (hidden): the players of the demo and of chaos, in a process of their own.

Standard output is for the demo and for chaos: one JSON object a line, `kind` being `stats` (twice a
second), `ended` (a match is over), `gap` (a probe was served late: `entity`, and the times `since` and
`until` of the answers before and after), `checked` (the answer to SIGUSR1, which asks the bots to compare
their pictures of their friends with the truth, see `garrison_bots.pictures`), or `done` (the last line).
`stats` has the time `now`, the probes' entities in `probes` once they run, and in `quiet` those that have
waited long for their answer, with the time of the last one.
Times are those of the system's monotonic clock. SIGTERM asks the bots to finish and leave.
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

from server.cli.common import Config, Set, token_maker
from server.cli.config import read_settings
from server.errors import Unavailable

STATS_EVERY_S: Final = 0.5


def bots(
    *,
    url: Annotated[list[str], Parameter(negative="")],
    ledger: Path,
    players: int = 240,
    speed: float = 30.0,
    seed: int | None = None,
    probe_players: int = 0,
    probe_matches: int = 0,
    friends: int = 2,
    parties: bool = True,
    config: Config = None,
    set_: Set = None,
) -> int:
    """Play matches with bot players until SIGTERM. Each befriends `friends` neighbours on either side; with `parties`
    some go to their matches together."""
    from garrison_bots.swarm import SwarmOptions

    token = token_maker(read_settings(config, set_))
    options = SwarmOptions(
        players=players,
        speed=speed,
        seed=seed,
        ledger=ledger,
        probe_players=probe_players,
        probe_matches=probe_matches,
        friends=friends,
        parties=parties,
    )
    uvloop.run(_run(url, token, options))
    return 0


async def _run(urls: list[str], token: Any, options: Any) -> None:
    from garrison import GarrisonError
    from garrison_bots.swarm import Swarm

    swarm = Swarm(
        urls,
        token,
        options,
        on_ended=lambda match: _tell("ended", match=match),
        on_gap=lambda entity, since, until: _tell("gap", entity=entity, since=since, until=until),
    )
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, swarm.stop)
    checks: set[asyncio.Task[None]] = set()
    loop.add_signal_handler(signal.SIGUSR1, _check, swarm, checks)
    teller = asyncio.create_task(_tell_stats(swarm), name="bots-stats")
    began = time.monotonic()
    try:
        await swarm.run()
    except GarrisonError as error:
        raise Unavailable(f"the bots cannot play: {error}") from None
    finally:
        for task in (teller, *checks):
            task.cancel()
    counts = swarm.counts().to_json()
    counts["heartbeats_per_s"] = round(counts["heartbeats"] / max(1.0, time.monotonic() - began), 1)
    _tell("done", **counts)


async def _tell_stats(swarm: Any) -> None:
    while True:
        await asyncio.sleep(STATS_EVERY_S)
        pulses = [probe.pulse for probe in swarm.probes]
        quiet = {pulse.entity: pulse.last_s for pulse in pulses if pulse.quiet}
        probes = [pulse.entity for pulse in pulses]
        _tell("stats", now=time.monotonic(), probes=probes, quiet=quiet, **swarm.counts().to_json())


def _check(swarm: Any, checks: set[asyncio.Task[None]]) -> None:
    """Begin a comparison, unless one is under way, whose answer is soon enough."""
    if not checks:
        task = asyncio.ensure_future(_tell_checked(swarm))
        checks.add(task)
        task.add_done_callback(checks.discard)


async def _tell_checked(swarm: Any) -> None:
    from garrison_bots.pictures import check

    _tell("checked", **(await check(swarm.ring.circles)).to_json())


def _tell(kind: str, **values: object) -> None:
    sys.stdout.write(json.dumps({"kind": kind, **values}) + "\n")
    sys.stdout.flush()


def register(app: App) -> None:
    app.command(bots, name="bots", show=False)
