"""`garrison replay`: a stored match, shown as it ran. Reads the store; no cluster needs to run."""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec
from cyclopts import App, Parameter, validators
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from game import replay as replays
from game.commands.replay_keys import keys_of
from game.commands.replay_screen import ReplayScreen
from game.commands.stored import read_match
from game.match.state import MatchState
from server.cli.common import Config, Json, Set, out, print_json
from server.cli.config import read_settings
from server.cli.log import verify_log
from server.errors import Corrupt, UnknownRules
from server.eventlog.fold import LogGap
from server.eventlog.ports import StoredLog
from server.ids import key_of
from server.texts import escaped

FRAME_S: Final = 0.1
REST_S: Final = 1.0
"""Pause between two drawings of a match that stands still."""
FEED_LINES: Final = 12

EXAMPLES = """
Examples:

- `garrison replay latest --speed 20` shows the newest match, twenty times faster than it was played
- `garrison replay ranked-42 --from 05:30` begins at 5 minutes 30
- `garrison replay latest --verify` recomputes the match from its stored bytes and compares
"""


def replay(
    match: Annotated[str, Parameter(help="The match, or `latest`; `garrison matches` lists them.")],
    *,
    speed: Annotated[
        float | None,
        Parameter(
            help="How many times faster; default 1, or without any pause where the output is not a terminal.",
            validator=validators.Number(gt=0),
        ),
    ] = None,
    from_: Annotated[str, Parameter(name="--from", help="Begin at this time of the match, MM:SS.")] = "0",
    verify: Annotated[
        bool, Parameter(help="Check and recompute everything instead of showing it.", negative="", show_default=False)
    ] = False,
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> int:
    """Show a stored match in the terminal as it ran, or verify it."""
    from_ms = replays.parse_clock(from_)
    identity, log = asyncio.run(read_match(read_settings(config, set_), match))
    name = key_of(identity)
    if verify:
        verify_log(replays.MATCH, "match", name, log, json)
        return 0
    _show_or_tell(name, log, from_ms, speed, json)
    return 0


def _show_or_tell(name: str, log: StoredLog, from_ms: int, speed: float | None, json: bool) -> None:
    """Show the match; of one whose rules this program does not have, all that is stored as a whole. Raises
    `UnknownRules` for such a one."""
    try:
        _show(name, log, from_ms, speed, json)
    except UnknownRules as error:
        raise UnknownRules(f"match {name}: {error.message}{_as_far_as_known(log, json)}") from None


def _show(name: str, log: StoredLog, from_ms: int, speed: float | None, json: bool) -> None:
    if json:
        print_json(msgspec.json.encode(summary(name, log)))
    elif sys.stdout.isatty() and sys.stdin.isatty():
        _watch_with_keys(out(), name, log, from_ms, speed or 1.0)
    elif sys.stdout.isatty():
        _watch(out(), name, log, from_ms, speed or 1.0)
    else:
        _list(name, log, from_ms, speed)


def _as_far_as_known(log: StoredLog, json: bool) -> str:
    """Print the newest stored scoreboard of a match that cannot be replayed; words that say of when it is."""
    newest = replays.newest_keyframe(log)
    if newest is None or json:
        return ""
    next_seq, state = newest
    for line in replays.scoreboard_lines(state):
        print(line)
    return f"; this is its scoreboard before event {next_seq:,} of {log.next_seq - 1:,}"


def summary(name: str, log: StoredLog) -> dict[str, Any]:
    """The match in figures, recomputed from its events. Raises `Corrupt`."""
    state = replays.final_state(log)
    return {
        "match": name,
        "phase": state.phase,
        "events": log.next_seq - 1,
        "time_ms": state.time_ms,
        "team_scores": state.team_scores,
        "winner": state.winner,
        "players": replays.totals(state),
        "names": replays.names(state),
    }


# ---- showing ----------------------------------------------------------------------------------


def _paced(log: StoredLog, from_ms: int, speed: float | None) -> Iterator[tuple[replays.Step | LogGap, float]]:
    """Each step, or gap, with the seconds from the beginning at which it is due."""
    first_ms: int | None = None
    for step in replays.readable(log, from_ms):
        if isinstance(step, LogGap):
            yield step, 0.0
            continue
        time_ms = step.record.event.time_ms
        if first_ms is None:
            first_ms = max(time_ms if from_ms == 0 else from_ms, 0)
        yield step, (time_ms - first_ms) / 1000 / speed if speed else 0.0


def _list(name: str, log: StoredLog, from_ms: int, speed: float | None) -> None:
    """Plain lines, for a pipe or a file. Raises `Corrupt` at the end where there were gaps."""
    began = time.monotonic()
    state: MatchState | None = None
    gaps: list[LogGap] = []
    for step, due_s in _paced(log, from_ms, speed):
        _sleep_until(began + due_s)
        if isinstance(step, LogGap):
            gaps.append(step)
            print(replays.gap_line(step), flush=speed is not None)
            continue
        print(replays.feed_line(step), flush=speed is not None)
        state = step.after
    print()
    for line in replays.scoreboard_lines(state or _last_state(log, gaps)):
        print(line)
    _check_whole(name, gaps)


def _watch(console: Console, name: str, log: StoredLog, from_ms: int, speed: float) -> None:
    """Scoreboard, clock and feed, redrawn as the match goes on. Raises `Corrupt` at the end where there were gaps."""
    gaps: list[LogGap] = []
    feed: deque[str] = deque(maxlen=FEED_LINES)
    state: MatchState | None = None  # none: nothing happens from `from_ms` on
    began = time.monotonic()
    with Live(console=console, auto_refresh=False, transient=False) as live:
        clock_ms = from_ms
        for step, due_s in _paced(log, from_ms, speed):
            if isinstance(step, LogGap):
                gaps.append(step)
                feed.append(replays.gap_line(step))
                continue
            state = state or step.before
            while (left_s := began + due_s - time.monotonic()) > 0:
                clock_ms = max(clock_ms, int(step.record.event.time_ms - left_s * 1000 * speed))
                live.update(_screen(name, state, clock_ms, feed, speed), refresh=True)
                time.sleep(min(FRAME_S, left_s))
            feed.append(replays.feed_line(step))
            state, clock_ms = step.after, step.record.event.time_ms
        if state is None:
            state = _last_state(log, gaps)
            clock_ms = state.time_ms
        live.update(_screen(name, state, clock_ms, feed, speed), refresh=True)
    _check_whole(name, gaps)


def _watch_with_keys(console: Console, name: str, log: StoredLog, from_ms: int, speed: float) -> None:
    """The same with keys, until who watches leaves. Raises `Corrupt` at the end where there were gaps."""
    screen = ReplayScreen(name, log, from_ms, speed, time.monotonic())
    with keys_of(sys.stdin.fileno()) as keys, Live(console=console, auto_refresh=False) as live:
        while not screen.left:
            now = time.monotonic()
            due_s = screen.advance(now)
            live.update(screen.drawn(now, console.width), refresh=True)
            for key in keys.within(REST_S if due_s is None else FRAME_S):
                screen.press(key, time.monotonic())
    _check_whole(name, list(screen.gaps.values()))


def _last_state(log: StoredLog, gaps: list[LogGap]) -> MatchState:
    """The end of the match, where no event was shown; of a damaged one nothing is known of it."""
    return MatchState() if gaps else replays.final_state(log)


def _check_whole(name: str, gaps: list[LogGap]) -> None:
    if gaps:
        missing = ", ".join(f"{gap.first_seq} to {gap.last_seq}" for gap in gaps)
        raise Corrupt(f"match {name} is damaged: events {missing} cannot be read")


def _screen(name: str, state: MatchState, clock_ms: int, feed: deque[str], speed: float) -> Group:
    where = f" on {escaped(state.options.map_name)}" if state.options.map_name else ""
    score = "  " + " : ".join(map(str, state.team_scores)) if state.team_scores else ""
    head = Text.assemble(
        (name, "bold"),
        f"  {state.options.mode}{where}  {state.phase}",
        (f"  {replays.clock(clock_ms)[:-4]}", "bold cyan"),
        (score, "bold"),
        (f"  {speed:g}x", "dim"),
    )
    heading, *rows = replays.scoreboard_lines(state)
    board = Table.grid()
    board.add_row(Text(heading, "dim"))
    for row in rows:
        board.add_row(Text(row))
    return Group(head, Text(), board, Text(), *(Text(line) for line in feed))


def _sleep_until(due: float) -> None:
    if (left_s := due - time.monotonic()) > 0:
        time.sleep(left_s)


def register(app: App) -> None:
    app.command(replay, name="replay", help_epilogue=EXAMPLES)
