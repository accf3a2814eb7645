"""A match as its theatre draws it, gathered in one walk over its log: events in columns, scores over time, who is
ahead, and where its keyframes and its gaps are. Pure.

    drawing.take(item) for each step and gap of `readable` ...   -> drawing.summary()
    StepRow: an event for the page, with the lines of the scoreboard as they are after it

All numbers are those of the states that the match's own rules made; nothing is added up here. What is kept is bounded:
of a long match every other event of a kind is left out, again and again, and counted.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import UNSET

from game.console.read_models import Happening, happening
from game.match import board
from game.match.state import Line, Lines, MatchState
from game.messages import Countdown, MatchEvent, PartyJoined, PlayerLine, Score, Started
from game.replay import Step
from server.eventlog.fold import LogGap

MARKS: Final = 1_500
"""Events of a kind that are kept for the timeline."""
POINTS: Final = 400
"""Points of a line of scores over time."""
SIDES: Final = 64
"""Sides of a race whose number over time is kept: the first to have one."""
CURVES: Final = 8
"""Sides of which it is told: the best."""
ROWS: Final = 200
"""Lines of a scoreboard that are told: its first."""
LANES: Final = 64
"""Players with a row of their own under the timeline: the first of the scoreboard."""
GAPS: Final = 64
COLUMNS: Final = ("player", "name", "team", "present", "score", "kills", "deaths", "assists", "medals", "objectives")
"""Names of the fields of a line of the scoreboard, as it is told."""
T = TypeVar("T")
_NOBODY: Final = Line()
BoardRow = list[Any]
"""A line of the scoreboard, with the fields `COLUMNS`."""


class Thinned(Generic[T]):
    """Items in order, at most `limit`: past it every other one goes, and of those to come as many."""

    def __init__(self, limit: int) -> None:
        self.items: list[T] = []
        self._limit, self._stride, self._seen = limit, 1, 0

    def add(self, item: T) -> None:
        if self._seen % self._stride == 0:
            self.items.append(item)
            if len(self.items) > self._limit:
                self.items = self.items[::2]
                self._stride *= 2
        self._seen += 1

    @property
    def left_out(self) -> int:
        return self._seen - len(self.items)


class Curve:
    """A number over time: a point where it changes."""

    def __init__(self) -> None:
        self._points: Thinned[tuple[int, int]] = Thinned(POINTS)
        self._last = (0, 0)

    def to(self, time_ms: int, value: int) -> None:
        self._last = (time_ms, value)
        self._points.add(self._last)

    @property
    def value(self) -> int:
        return self._last[1]

    def told(self) -> dict[str, list[int]]:
        points = self._points.items
        if points and points[-1] != self._last:
            points = [*points, self._last]
        return {"time_ms": [point[0] for point in points], "score": [point[1] for point in points]}


class Race:
    """A number of each side over time, and who leads by it: whoever was the last to have more than all others."""

    def __init__(self) -> None:
        self.curves: dict[str, Curve] = {}
        self.leads: Thinned[Happening] = Thinned(MARKS)
        self._ahead, self._most = "", 0

    def to(self, seq: int, time_ms: int, side: str, value: int) -> bool:
        """The number of `side` is another one now. False: the first one has fallen back, and `fall_back` is to be
        told of everybody's."""
        if side in self.curves or len(self.curves) < SIDES:
            self.curves.setdefault(side, Curve()).to(time_ms, value)
        if value > self._most:
            self._lead(seq, time_ms, side, value)
        return side != self._ahead or value >= self._most

    def fall_back(self, seq: int, time_ms: int, values: Mapping[str, int]) -> None:
        """Find who is ahead; nobody, where all begin anew."""
        self._most = max(values.values(), default=0)
        first = [side for side, value in values.items() if value == self._most]
        if self._most <= 0:
            self._ahead, self._most = "", 0
        elif len(first) == 1:
            self._lead(seq, time_ms, first[0], self._most)

    def _lead(self, seq: int, time_ms: int, side: str, value: int) -> None:
        self._most = value
        if side != self._ahead:
            self._ahead = side
            self.leads.add(Happening(seq, time_ms, "lead", side, points=value))

    def told(self) -> list[dict[str, Any]]:
        """The curves, the best first."""
        best = sorted(self.curves.items(), key=lambda item: (-item[1].value, item[0]))
        return [{"side": side, **curve.told()} for side, curve in best[:CURVES]]


class PlacedGap(msgspec.Struct):
    """Events that cannot be read, and the match clock before and after them, as far as that is known."""

    first_seq: int
    last_seq: int
    why: str
    from_ms: int
    to_ms: int | None = None


class StepRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event for the page. `happened` are its lines of the feed: one, several (a party comes), or none. `lines` are
    the lines of the scoreboard that are others after it; `team_scores` and `phase` are there if they are."""

    seq: int
    time_ms: int
    happened: list[Happening] = []
    lines: list[BoardRow] = []
    team_scores: list[int] | None = None
    phase: str | None = None


class Drawing:
    """A match, as far as its log was walked over. `state` and `next_seq` are the end of that, `last_ms` its clock."""

    def __init__(self) -> None:
        self.state = MatchState()
        self.next_seq, self.last_ms = 1, 0
        self.gaps: list[PlacedGap] = []
        self.gaps_left_out = 0
        self._marks: dict[str, Thinned[Happening]] = {}
        self._teams, self._scores, self._kills = Race(), Race(), Race()

    def take(self, item: Step | LogGap) -> None:
        """Go on by the next step or gap; one that is known already changes nothing."""
        if isinstance(item, LogGap):
            self._take_gap(item)
        elif item.record.seq >= self.next_seq:
            self._take_step(item)

    def _take_gap(self, gap: LogGap) -> None:
        if gap.last_seq < self.next_seq:
            return
        first = max(gap.first_seq, self.next_seq)
        self.next_seq = gap.last_seq + 1
        if len(self.gaps) < GAPS:
            self.gaps.append(PlacedGap(first, gap.last_seq, gap.why, self.last_ms))
        else:
            self.gaps_left_out += 1

    def _take_step(self, step: Step) -> None:
        event, seq = step.record.event, step.record.seq
        before, after = self.state, step.after  # not `step.before`: a gap may be between
        self.state, self.next_seq = after, seq + 1
        self.last_ms = max(self.last_ms, event.time_ms)
        for gap in self.gaps[-1:]:
            if gap.to_ms is None:
                gap.to_ms = self.last_ms
        for mark in happenings(seq, event):
            self._mark(mark)
        if after.team_scores != before.team_scores:
            self._race_of_teams(seq, event.time_ms, before.team_scores, after.team_scores)
        if after.players is not before.players:
            self._races_of_players(seq, event.time_ms, before.players, after.players)

    def _mark(self, mark: Happening) -> None:
        self._marks.setdefault(mark.what, Thinned(MARKS)).add(mark)

    def _race_of_teams(self, seq: int, time_ms: int, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        for team, score in enumerate(after):
            if score == (before[team] if team < len(before) else 0):
                continue
            if not self._teams.to(seq, time_ms, f"team:{team}", score):
                self._teams.fall_back(seq, time_ms, {f"team:{team}": score for team, score in enumerate(after)})

    def _races_of_players(self, seq: int, time_ms: int, before: Lines, after: Lines) -> None:
        for player in after.changes_since(before):
            line, earlier = after[player], before.get(player, _NOBODY)
            if line.score != earlier.score and not self._scores.to(seq, time_ms, player, line.score):
                self._scores.fall_back(seq, time_ms, {player: line.score for player, line in after.items()})
            if line.kills != earlier.kills and not self._kills.to(seq, time_ms, player, line.kills):
                self._kills.fall_back(seq, time_ms, {player: line.kills for player, line in after.items()})

    @property
    def _race(self) -> tuple[str, Race]:
        """The race that decides the match, as far as its log says: points of teams, else of players, else kills."""
        if self._teams.curves:
            return "score", self._teams
        return ("score", self._scores) if self._scores.curves else ("kills", self._kills)

    def summary(self) -> dict[str, Any]:
        """All that a page draws before it asks for a moment: plain data."""
        measure, race = self._race
        kinds = {**self._marks, "lead": race.leads}
        marks = sorted((mark for kept in kinds.values() for mark in kept.items), key=lambda mark: mark.seq)
        rows = shown_lines(self.state, LANES)
        people = dict.fromkeys(line.player for line in rows)
        people.update(dict.fromkeys(who for mark in marks for who in (mark.player, mark.victim) if who))
        details = dict.fromkeys(mark.detail for mark in marks)
        number = {key: place for place, key in enumerate(people)}
        detail = {text: place for place, text in enumerate(details)}
        return {
            "people": [_person(self.state, key) for key in people],
            "lanes": len(rows),
            "player_count": len(self.state.players),
            "marks": {
                "seq": [mark.seq for mark in marks],
                "time_ms": [mark.time_ms for mark in marks],
                "what": [mark.what for mark in marks],
                "player": [number.get(mark.player, -1) for mark in marks],
                "victim": [number.get(mark.victim, -1) for mark in marks],
                "detail": [detail[mark.detail] for mark in marks],
                "points": [mark.points for mark in marks],
            },
            "details": list(details),
            "left_out": {what: kept.left_out for what, kept in kinds.items() if kept.left_out},
            "measure": measure,
            "scores": race.told(),
            "gaps": [msgspec.to_builtins(gap) for gap in self.gaps],
            "gaps_left_out": self.gaps_left_out,
        }


def happenings(seq: int, event: MatchEvent) -> Iterator[Happening]:
    """The lines of the feed that an event makes."""
    match event:
        case PartyJoined(members=members):
            for place in members:
                yield Happening(seq, event.time_ms, "joined", place.player, detail="together")
        case Countdown(length_ms=length_ms):
            yield Happening(seq, event.time_ms, "countdown", points=length_ms)
        case Score(team=team, points=points) if team is not None:
            yield Happening(seq, event.time_ms, "score", f"team:{team}", points=points)
        case Started():
            yield Happening(seq, event.time_ms, "started")
        case _:
            told = happening(seq, event)
            if told is not None:
                yield told


def step_row(step: Step) -> StepRow | None:
    """A step as it is told; None where it shows nothing."""
    event, before, after = step.record.event, step.before, step.after
    changed = [] if after.players is before.players else after.players.changes_since(before.players)
    row = StepRow(
        step.record.seq,
        event.time_ms,
        list(happenings(step.record.seq, event)),
        [line_row(player, after.players[player]) for player in sorted(changed)],
        list(after.team_scores) if after.team_scores != before.team_scores else None,
        after.phase if after.phase != before.phase else None,
    )
    return row if row.happened or row.lines or row.team_scores is not None or row.phase else None


def line_row(player: str, line: Line) -> BoardRow:
    numbers = [line.score, line.kills, line.deaths, line.assists, line.medals, line.objectives]
    return [player, _called(player, line), line.team, line.present, *numbers]


def board_rows(state: MatchState) -> list[BoardRow]:
    """The scoreboard: its first `ROWS` lines."""
    return [line_row(line.player, state.players[line.player]) for line in shown_lines(state, ROWS)]


def shown_lines(state: MatchState, count: int) -> list[PlayerLine]:
    """The first lines of the scoreboard; of very many players those with the most points."""
    if len(state.players) > board.SMALL:
        return board.best(state, count)
    return board.lines(state)[:count]


def _person(state: MatchState, key: str) -> list[Any]:
    line = state.players.get(key)
    return [key, key, None] if line is None else [key, _called(key, line), line.team]


def _called(player: str, line: Line) -> str:
    return player if line.name is UNSET or not line.name else line.name
