"""Recorded matches: read one JSON object a line, and play it through real connections.

    {"time_ms": 57801, "player": "spartan-5642382e", "type": "kill"}
    {"time_ms": 69795, "player": "spartan-d289fd92", "type": "medal", "medal": "Shot Caller"}

`type` is `kill`, `death`, `assist`, `medal`, `mode` (an objective event) or `score`; lines are ordered by time.
"""

import asyncio
import json
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import garrison
from garrison import Client, Event, Host, Report
from garrison.messages import Accepted, Assist, Death, Ended, Kill, MatchOptions, Medal, Objective, Score
from garrison_bots import MakeToken

MAX_LINE: Final = 4_096
MAX_EVENTS: Final = 1_000_000
MAX_TIME_MS: Final = 86_400_000
_PLAYER = re.compile(r"[A-Za-z0-9._:@~+=-]{1,64}")
_COUNTED: Final = {Kill: "kills", Death: "deaths", Medal: "medals"}

Totals = dict[str, dict[str, int]]
"""Player to `kills`, `deaths` and `medals`."""


class RecordingError(Exception):
    """A file that is no recording; the message names file, line and fault."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorded match. `players` stand in the order in which they appear in it."""

    name: str
    players: tuple[str, ...]
    events: tuple[Report, ...]

    @property
    def length_ms(self) -> int:
        return self.events[-1].time_ms

    def totals(self) -> Totals:
        """Kills, deaths and medals of each player, counted from the file."""
        return count_totals(self.players, self.events)


def count_totals(players: Sequence[str], events: Sequence[Event]) -> Totals:
    """Kills, deaths and medals of each player in `events`."""
    totals = {player: {"kills": 0, "deaths": 0, "medals": 0} for player in players}
    for event in events:
        column = _COUNTED.get(type(event))
        if column is not None:
            totals[event.player][column] += 1  # type: ignore[attr-defined]
    return totals


def read_recording(path: Path) -> Recording:
    """The recording in `path`. Raises `RecordingError`."""
    events: list[Report] = []
    players: dict[str, None] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    event = _event(line, events[-1].time_ms if events else 0)
                except ValueError as error:
                    raise RecordingError(f"{path}:{number}: {error}") from None
                if len(events) >= MAX_EVENTS:
                    raise RecordingError(f"{path}:{number}: more than {MAX_EVENTS:,} events")
                events.append(event)
                players[_player_of(event)] = None
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RecordingError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None
    if not events:
        raise RecordingError(f"{path}: holds no event")
    return Recording(path.stem, tuple(players), tuple(events))


def _event(line: str, after_ms: int) -> Report:
    """The event of one line. Raises `ValueError` with what is wrong."""
    if len(line) > MAX_LINE:
        raise ValueError(f"longer than {MAX_LINE} characters")
    try:
        value = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("not an object")
    time_ms, player, kind = value.get("time_ms"), value.get("player"), value.get("type")
    if type(time_ms) is not int or not 0 <= time_ms <= MAX_TIME_MS:
        raise ValueError(f"time_ms must be a whole number from 0 to {MAX_TIME_MS}, not {time_ms!r:.60}")
    if time_ms < after_ms:
        raise ValueError(f"time_ms {time_ms} is before the {after_ms} of the line above")
    if not isinstance(player, str) or _PLAYER.fullmatch(player) is None:
        raise ValueError(f"player must be 1 to 64 letters, digits or ._:@~+=-, not {player!r:.80}")
    if kind == "kill":
        return Kill(time_ms, player)
    if kind == "death":
        return Death(time_ms, player)
    if kind == "mode":
        return Objective(time_ms, player, _text(value, "name") or "mode", _points(value))
    if kind == "assist":
        return Assist(time_ms, player)
    if kind == "score":
        return Score(time_ms, _points(value), player=player)
    if kind != "medal":
        raise ValueError(f"type must be kill, death, assist, medal, mode or score, not {kind!r:.60}")
    medal = value.get("medal")
    if not isinstance(medal, str) or not 1 <= len(medal) <= 128:
        raise ValueError(f"a medal needs its name, 1 to 128 characters, not {medal!r:.60}")
    return Medal(time_ms, player, medal)


def _text(value: dict[str, Any], name: str) -> str:
    text = value.get(name, "")
    if not isinstance(text, str) or len(text) > 128:
        raise ValueError(f"{name} must be a text of at most 128 characters, not {text!r:.60}")
    return text


def _points(value: dict[str, Any]) -> int:
    points = value.get("points", 0)
    if type(points) is not int or not -10_000 <= points <= 10_000:
        raise ValueError(f"points must be a whole number from -10000 to 10000, not {points!r:.60}")
    return points


def _player_of(event: Any) -> str:
    return str(event.player)


# ---- playing -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Played:
    """The outcome of playing a recording. `received` and `totals_of` are by receiving player."""

    match: str
    players: tuple[str, ...]
    events_sent: int = 0
    """Events that the host reported and that were acknowledged."""
    next_seq: int = 0
    """The number that the next event of the match would have, as last acknowledged."""
    stream_events: int = 0
    """Events of the log that each player received, those that the server makes among them."""
    received: dict[str, int] = field(default_factory=dict)
    """Reported events that each player's socket received."""
    totals_of: dict[str, Totals] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    """Events that came twice, out of order or changed."""

    @property
    def complete(self) -> bool:
        """Each player received each reported event exactly once, in order."""
        return not self.faults and all(count == self.events_sent for count in self.received.values())

    def to_json(self) -> dict[str, Any]:
        """Plain values; `players` holds the totals that the first player received."""
        return {
            "match_id": self.match,
            "events_sent": self.events_sent,
            "events_received": sum(self.received.values()),
            "events_received_by": dict(self.received),
            "next_seq": self.next_seq,
            "complete": self.complete,
            "faults": self.faults[:20],
            "players": self.totals_of[self.players[0]],
        }


async def play(
    recording: Recording,
    urls: Sequence[str],
    token: MakeToken,
    *,
    speed: float = 60.0,
    match: str | None = None,
    host_name: str = "recorder",
    progress: Callable[[int, int], None] | None = None,
    patience_s: float = 60.0,
) -> Played:
    """Play `recording` through one connection a player and one for the host, `speed` times
    faster than it was (0: as fast as it goes). `progress(events, of)` is called while it runs.
    Raises `GarrisonError`, and `TimeoutError` if players do not see the end in `patience_s`."""
    name = match or f"{recording.name[:8]}-{secrets.token_hex(3)}"
    played = Played(name, recording.players)
    host_client = garrison.connect(urls, lambda: token(host_name, "host"), name="garrison-play")
    clients = {
        player: garrison.connect(urls, lambda player=player: token(player, "player"), name="garrison-play")  # type: ignore[misc]
        for player in recording.players
    }
    tasks: list[asyncio.Task[None]] = []
    try:
        await asyncio.gather(*(client.open() for client in (host_client, *clients.values())))
        options = MatchOptions("recorded", recording.name[:128], 0, 0, 0, 0, True, 0)
        async with Host(host_client, name, options=options) as host:
            played.next_seq = (await host.create()).next_seq
            tasks = [
                asyncio.create_task(_receive(client, player, recording, played), name=f"play-{player}")
                for player, client in clients.items()
            ]
            await asyncio.gather(*(client.join(name) for client in clients.values()))
            await host.start()
            await _report(host, recording, speed, progress)
            ended: Accepted = await host.end(recording.length_ms)
            played.events_sent, played.next_seq = host.events_acknowledged, ended.next_seq
        async with asyncio.timeout(patience_s):
            await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(client.aclose() for client in (host_client, *clients.values())))
    return played


async def _report(host: Host, recording: Recording, speed: float, progress: Callable[[int, int], None] | None) -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    for number, event in enumerate(recording.events, 1):
        if speed > 0:
            wait_s = start + event.time_ms / 1000 / speed - loop.time()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
        await host.report(event)
        if progress is not None:
            progress(number, len(recording.events))
    await host.drain()


async def _receive(client: Client, player: str, recording: Recording, played: Played) -> None:
    """Read the stream as one player and compare every event with the file."""
    expected, got = 1, 0
    reported: list[Event] = []
    async with client.watch(f"match/{played.match}") as events:
        async for number, event in events:
            if number != expected:
                played.faults.append(f"{player}: event {number} where {expected} was due")
            expected = number + 1
            if isinstance(event, Kill | Death | Medal | Objective):
                if got >= len(recording.events) or recording.events[got] != event:
                    played.faults.append(f"{player}: event {number} is not line {got + 1} of the recording")
                got += 1
                reported.append(event)
            if isinstance(event, Ended):
                break
    played.received[player] = got
    played.totals_of[player] = count_totals(recording.players, reported)
    played.stream_events = max(played.stream_events, expected - 1)
