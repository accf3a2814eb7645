"""The screen of `garrison replay` in a terminal with keys: a match, a clock that is moved, and a timeline. It knows
neither the terminal nor the time: it is given keys and moments, and gives what is to be drawn."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from typing import Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from game import replay as replays
from game.match.state import MatchState
from game.messages import Kill
from server.eventlog.fold import LogGap
from server.eventlog.ports import StoredLog
from server.replays.pace import ReplayClock
from server.texts import escaped

FEED_LINES: Final = 12
FEED_MS: Final = 60_000
"""Time before a moment that is looked up, of which the feed shows the newest lines."""
JUMP_MS: Final = 10_000
SPEEDS: Final = (25, 50, 100, 200, 400, 800, 1_600, 3_200, 6_400)
HELP: Final = "space  ←→ 10 s  ↑↓ speed  home end  f follow  q leave"
_HEIGHTS: Final = " ▁▂▃▄▅▆▇█"


class ReplayScreen:
    """A match as it is shown. `gaps` are events that could not be read, by the first of them; `left`: the one who
    watches has had enough."""

    def __init__(self, name: str, log: StoredLog, from_ms: int, speed: float, now: float) -> None:
        self._name, self._log = name, log
        self.gaps: dict[int, LogGap] = {}
        self.left = False
        self.follow = ""
        self._feed: deque[str] = deque(maxlen=FEED_LINES)
        self._kills: list[int] = []
        self.end_ms = 0
        self._end_state = MatchState()
        for step in replays.readable(log):
            if isinstance(step, LogGap):
                self.gaps[step.first_seq] = step
                continue
            self.end_ms, self._end_state = max(self.end_ms, step.record.event.time_ms), step.after
            if isinstance(step.record.event, Kill):
                self._kills.append(step.record.event.time_ms)
        self.clock = ReplayClock(0.0, now, max(1, round(speed * 100)))
        self.seek(from_ms, now)

    def seek(self, ms: int, now: float) -> None:
        """Show the match as it was at that time."""
        ms = min(max(ms, 0), self.end_ms)
        self.clock = self.clock.seek(now, ms)
        self._feed.clear()
        self._steps: Iterator[replays.Step | LogGap] = replays.readable(self._log, max(0, ms - FEED_MS))
        self._next = self._take()
        self.state = self._end_state if self._next is None else self._next.before
        self._go_to(ms - 1 if ms < self.end_ms else ms)

    def advance(self, now: float) -> float | None:
        """Show what has happened by now. The seconds until the next event; None: nothing comes by itself."""
        self._go_to(self.clock.at(now))
        if self._next is None:
            if self.clock.at(now) >= self.end_ms:
                self.clock = self.clock.seek(now, self.end_ms).play(now, False)
            due = self.clock.due(self.end_ms)
        else:
            due = self.clock.due(self._next.record.event.time_ms)
        return None if due is None or not self.clock.runs else max(0.0, due - now)

    def press(self, key: str, now: float) -> None:
        """Do what a key asks for."""
        at_ms = int(self.clock.at(now))
        match key:
            case " ":
                if self._next is None and not self.clock.plays:
                    self.seek(0, now)
                self.clock = self.clock.play(now, not self.clock.plays)
            case "left":
                self._jump(at_ms - JUMP_MS, now)
            case "right":
                self._jump(at_ms + JUMP_MS, now)
            case "home":
                self._jump(0, now)
            case "end":
                self._jump(self.end_ms, now)
            case "up" | "+" | "=":
                faster = bisect_right(SPEEDS, self.clock.speed)
                self.clock = self.clock.at_speed(now, SPEEDS[min(faster, len(SPEEDS) - 1)])
            case "down" | "-":
                slower = [speed for speed in SPEEDS if speed < self.clock.speed]
                self.clock = self.clock.at_speed(now, slower[-1] if slower else SPEEDS[0])
            case "f":
                players = ["", *sorted(self.state.players)]
                place = players.index(self.follow) if self.follow in players else 0
                self.follow = players[(place + 1) % len(players)]
                self.seek(at_ms, now)
            case "q":
                self.left = True

    def _jump(self, ms: int, now: float) -> None:
        """Seek; who has come to the end and goes back wants to see it."""
        at_end = self._next is None and not self.clock.plays
        self.seek(ms, now)
        if at_end and ms < self.end_ms:
            self.clock = self.clock.play(now, True)

    def _go_to(self, ms: float) -> None:
        """Take in every event up to that time."""
        while self._next is not None and self._next.record.event.time_ms <= ms:
            step = self._next
            named = set(replays.players_in(step.record.event)) if self.follow else None
            if not named or self.follow in named:
                self._feed.append(replays.feed_line(step))
            self.state = step.after
            self._next = self._take()

    def _take(self) -> replays.Step | None:
        """The next event; gaps before it are lines of the feed."""
        for step in self._steps:
            if not isinstance(step, LogGap):
                return step
            self.gaps.setdefault(step.first_seq, step)
            self._feed.append(replays.gap_line(step))
        return None

    # ---- drawing --------------------------------------------------------------------------------

    def drawn(self, now: float, width: int) -> Group:
        """The screen at that moment."""
        at_ms = min(int(self.clock.at(now)), self.end_ms)
        state, clock = self.state, self.clock
        where = f" on {escaped(state.options.map_name)}" if state.options.map_name else ""
        score = "  " + " : ".join(map(str, state.team_scores)) if state.team_scores else ""
        head = Text.assemble(
            (self._name, "bold"),
            f"  {state.options.mode}{where}  {state.phase}",
            (f"  {replays.clock(at_ms)[:-4]} / {replays.clock(self.end_ms)[:-4]}", "bold cyan"),
            (score, "bold"),
        )
        foot = Text.assemble(
            f"{clock.speed / 100:g}x" + ("" if clock.plays else "  paused"),
            (f"  follows {escaped(self.follow)}" if self.follow else "", "yellow"),
            (f"   {HELP}", "dim"),
        )
        heading, *rows = replays.scoreboard_lines(state)
        board = Table.grid()
        board.add_row(Text(heading, "dim"))
        for row in rows:
            board.add_row(Text(row, "yellow" if self.follow and row.split()[:1] == [self.follow] else ""))
        heights, bar = timeline(self._kills, at_ms, self.end_ms, max(10, width - 1))
        return Group(head, heights, bar, board, Text(), *(Text(line) for line in self._feed), Text(), foot)


def timeline(kills: list[int], at_ms: int, end_ms: int, width: int) -> tuple[Text, Text]:
    """Two lines of so many characters: how many kills there were in each part of the match, and how far it is."""
    counts = [0] * width
    for ms in kills:
        counts[min(width - 1, ms * width // max(1, end_ms))] += 1
    most = max(counts, default=0)
    heights = "".join(_HEIGHTS[0 if not count else max(1, count * 8 // most)] for count in counts)
    place = min(width - 1, at_ms * width // max(1, end_ms))
    bar = Text.assemble(("━" * place, "cyan"), ("●", "bold cyan"), ("─" * (width - 1 - place), "dim"))
    return Text(heights, "red"), bar
