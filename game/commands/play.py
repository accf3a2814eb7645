"""`garrison play`: a recorded match as live play: a connection a player, and one for the host."""

import asyncio
import contextlib
import json as jsonlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from cyclopts import App, Parameter, validators
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from game import replay as replays
from game.commands.stored import read_match
from server.cli.common import Config, Json, Set, client_url, err, out, print_json, program, token_maker
from server.cli.config import DEMO_CONFIG, check_assignments, find_config, read_settings
from server.cli.local_cluster import Home, LocalCluster, alone
from server.errors import BadInput, Corrupt, Unavailable
from server.eventlog.ports import StoredLog
from server.settings import Settings, is_url

READ_BACK_S: Final = 10.0
CONNECT_S: Final = 3.0

EXAMPLES = """
Examples:

- `garrison play match.jsonl` through the running demo, or a cluster that it starts for this
- `garrison play match.jsonl --speed 1` as slowly as it was
- `garrison play match.jsonl --url ws://127.0.0.1:7351 --json`

A file has one JSON object a line, ordered by time:
`{"time_ms": 57801, "player": "spartan-7", "type": "kill"}`; `type` is kill, death, assist, medal, mode or score;
`garrison export MATCH --jsonl` writes such a file.
"""


def play(
    file: Annotated[Path, Parameter(help="The recording, JSON lines.")],
    *,
    speed: Annotated[
        float,
        Parameter(help="How many times faster; 0 for as fast as it goes.", validator=validators.Number(gte=0)),
    ] = 60.0,
    url: Annotated[
        str | None, Parameter(help="A node's client address; else the running cluster of the settings.")
    ] = None,
    nodes: Annotated[
        int, Parameter(help="Nodes of the cluster, where one is started.", validator=validators.Number(gte=1, lte=9))
    ] = 3,
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> int:
    """Play a recorded match through real connections, then read its log back and compare."""
    from garrison_bots.recorded import RecordingError, read_recording

    check_assignments(set_ or ())
    if url is not None and not is_url(url, "ws", "wss"):
        raise BadInput("--url takes ws://host:port, a client address")
    try:
        recording = read_recording(file)
    except RecordingError as error:
        raise BadInput(str(error)) from None
    figures = asyncio.run(_play(recording, speed, url, nodes, config, set_))
    if json:
        print_json(jsonlib.dumps(figures).encode())
    else:
        _show(figures)
    return 0 if figures["replay_equal"] else 1


async def _play(
    recording: Any, speed: float, url: str | None, nodes: int, config: Path | None, assignments: list[str] | None
) -> dict[str, Any]:
    from garrison import GarrisonError
    from garrison_bots import recorded

    async with _cluster(url, nodes, config, assignments) as (urls, settings):
        with _progress(len(recording.events)) as progress:
            try:
                played = await recorded.play(recording, urls, token_maker(settings), speed=speed, progress=progress)
            except GarrisonError as error:
                raise Unavailable(f"the match could not be played: {error}") from None
            except TimeoutError:
                raise Unavailable("the players did not see the end of the match in time") from None
        log = await _read_back(settings, played.match)
    return _compare(recording, played, log)


def _compare(recording: Any, played: Any, log: StoredLog) -> dict[str, Any]:
    """The figures: what was sent, received and logged, and whether the replay equals the file."""
    totals = {
        player: {"kills": line.kills, "deaths": line.deaths, "medals": line.medals}
        for player, line in replays.totals(replays.final_state(log)).items()
    }
    faults = list(played.faults)
    try:
        replays.verify(log)
    except Corrupt as error:
        faults.append(f"the replay does not verify: {error.message}")
    counted = recording.totals()
    for player, received in played.totals_of.items():
        if received != counted:
            faults.append(f"{player} received other totals than the file has")
    if totals != counted:
        faults.append("the replay has other totals than the file")
    if not played.complete:
        faults.append("not every player received each event exactly once")
    for fault in faults[:20]:
        err().print(fault, markup=False)
    return {
        "match_id": played.match,
        "events_sent": played.events_sent,
        "events_received": sum(played.received.values()),
        "events_logged": log.next_seq - 1,
        "players": totals,
        "replay_equal": not faults,
    }


async def _read_back(settings: Settings, match: str) -> StoredLog:
    """The match's log once its end is stored. Raises `Unavailable` where that takes too long."""
    deadline = time.monotonic() + READ_BACK_S
    while True:
        _, log = await read_match(settings, match)
        if replays.final_state(log).phase == "ended":
            return log
        if time.monotonic() > deadline:
            raise Unavailable(f"the end of match {match} is not in the store after {READ_BACK_S:.0f} s")
        await asyncio.sleep(0.1)


@asynccontextmanager
async def _cluster(
    url: str | None, nodes: int, config: Path | None, assignments: list[str] | None
) -> AsyncIterator[tuple[list[str], Settings]]:
    """Addresses to connect to and the cluster's settings: one that runs, or one started for this
    in the demo's directory, so that `garrison replay` finds the match afterwards."""
    found = find_config(config)
    if url is not None or found is not None:
        settings = read_settings(config, assignments)
        address = url or client_url(settings)
        if await asyncio.to_thread(_answers, address):
            yield [address], settings
            return
        if url is not None or found != DEMO_CONFIG:
            raise Unavailable(f"no node answers at {address}; is the cluster running?")
    with alone(DEMO_CONFIG.parent):
        home = Home(DEMO_CONFIG.parent)
        cluster = LocalCluster(home, nodes, 0, list(assignments or ()))
        await cluster.prepare("demo")
        err().print(f"no cluster is running here: starting {nodes} nodes for this match")
        try:
            await cluster.start(lambda text: err().print(text))
            yield cluster.gateways, read_settings(home.config, assignments)
        finally:
            await cluster.stop()


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    try:
        with contextlib.closing(socket.create_connection((parts.hostname or "", port), timeout=CONNECT_S)):
            return True
    except (OSError, UnicodeError):  # the latter of a name that no resolver takes
        return False


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn("playing"), BarColumn(), MofNCompleteColumn(), TextColumn("events"))
    with Progress(*columns, console=err(), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda done, _: bar.update(task, completed=done)


def _show(figures: dict[str, Any]) -> None:
    console = out()
    name = figures["match_id"]
    console.print(
        f"match {name}: {figures['events_sent']:,} events sent, {figures['events_received']:,} received by "
        f"{len(figures['players'])} players, {figures['events_logged']:,} in the log",
        markup=False,
    )
    width = max(map(len, figures["players"]))
    console.print(f"{'player'.ljust(width)}   kills  deaths  medals", markup=False)
    for player, totals in figures["players"].items():
        line = f"{totals['kills']:6}  {totals['deaths']:6}  {totals['medals']:6}"
        console.print(f"{player.ljust(width)}  {line}", markup=False)
    equal = "the replay equals the recording" if figures["replay_equal"] else "the replay DIFFERS from the recording"
    console.print(f"{equal}; see it: {program()} replay {name} --speed 30", markup=False)


def register(app: App) -> None:
    app.command(play, name="play", help_epilogue=EXAMPLES)
