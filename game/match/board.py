"""Scoreboards: the lines of a match in order, whole or by page. Pure.

A scoreboard is ordered by team, then points, then kills, then name. That of a match with many players is kept in
order (`Ranking`), and moved on by what has changed: sorting it anew for whoever asks would take the loop for as long
as that takes. A page's cursor is the place of its last line, so that a line that moves meanwhile may be missed or come
twice, and no page costs more than its length.
"""

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from msgspec import UNSET

from game.match.describing import as_told
from game.match.guests import entry_of
from game.match.hosting import host_name, term_of
from game.match.state import Line, Lines, MatchState
from game.messages import PlayerLine, Scoreboard
from game.modes.registry import mode_of
from server.errors import BadInput

SMALL: Final = 500
"""Lines up to which a scoreboard is sorted where it is asked for."""
SLICE: Final = 500
"""Lines that are moved at a time, a millisecond's work; the loop has its turn between."""
_RUN: Final = 512
_FIRST: Final = -(2**62)
"""More points than any line has."""


class Place(NamedTuple):
    """A line's place in the order."""

    no_team: bool
    team: int
    points: int
    """Negative, as kills are: the most come first."""
    kills: int
    player: str


def place_of(player: str, line: Line) -> Place:
    return Place(line.team is None, line.team or 0, -line.score, -line.kills, player)


def cursor_of(place: Place) -> str:
    """The place as text, for a client to give back."""
    return f"{int(place.no_team)}:{place.team}:{place.points}:{place.kills}/{place.player}"


def after(cursor: str) -> Place | None:
    """The place after which a page begins; None for the first page. Raises `BadInput`."""
    if not cursor:
        return None
    numbers, _, player = cursor.partition("/")
    try:
        no_team, team, points, kills = (int(number) for number in numbers.split(":"))
    except ValueError:
        raise BadInput("cursor is the next of another page") from None
    return Place(bool(no_team), team, points, kills, player)


class Page(NamedTuple):
    """At most `limit` lines after `cursor`."""

    limit: int = SMALL
    cursor: str = ""


_WHOLE: Final = Page()


class Ranking:
    """The lines of a match in order: sorted runs, one after the other."""

    def __init__(self) -> None:
        self.lines = Lines()
        """The lines that are in order here."""
        self._wanted = Lines()
        self._left: list[str] = []
        """Players whose line is another in `_wanted`, and not moved yet."""
        self._places: dict[str, Place] = {}
        self._runs: list[list[Place]] = []
        self._lasts: list[Place] = []
        """The last place of each run."""

    def follow(self, lines: Lines, at_most: int = SLICE) -> bool:
        """Move up to so many lines to where they are in `lines`. True if the order is that of `lines` then; else
        call it again."""
        if not self._left and lines is not self.lines:
            self._left, self._wanted = lines.changes_since(self.lines), lines
        for _ in range(min(at_most, len(self._left))):
            player = self._left.pop()
            self._move(player, place_of(player, self._wanted[player]))
        if not self._left:
            self.lines = self._wanted
        return self.lines is lines

    def best(self, count: int, teams: int) -> list[Place]:
        """The first of each team, and of those in none: among them are the `count` best of all."""
        starts = [
            Place(no_team, team, _FIRST, 0, "") for no_team, team in ((True, 0), *((False, n) for n in range(teams)))
        ]
        found = [list(islice(self.beyond(start), count)) for start in starts]
        return [
            place for places, start in zip(found, starts, strict=True) for place in places if place[:2] == start[:2]
        ]

    def beyond(self, place: Place | None) -> Iterator[Place]:
        """The places after `place`, or all, in order."""
        first = 0 if place is None else bisect_right(self._lasts, place)
        for number in range(first, len(self._runs)):
            run = self._runs[number]
            begin = 0 if place is None or number > first else bisect_right(run, place)
            for at in range(begin, len(run)):
                yield run[at]

    def _move(self, player: str, place: Place) -> None:
        before = self._places.get(player)
        if before == place:
            return
        if before is not None:
            self._take(before)
        self._places[player] = place
        self._put(place)

    def _take(self, place: Place) -> None:
        number = bisect_left(self._lasts, place)
        run = self._runs[number]
        del run[bisect_left(run, place)]
        if run:
            self._lasts[number] = run[-1]
        else:
            del self._runs[number], self._lasts[number]

    def _put(self, place: Place) -> None:
        if not self._runs:
            self._runs, self._lasts = [[place]], [place]
            return
        number = min(bisect_left(self._lasts, place), len(self._runs) - 1)
        run = self._runs[number]
        insort(run, place)
        if len(run) > 2 * _RUN:
            self._runs[number : number + 1] = run[:_RUN], run[_RUN:]
            self._lasts[number : number + 1] = run[_RUN - 1], run[-1]
        else:
            self._lasts[number] = run[-1]


def best(state: MatchState, count: int, ranking: Ranking | None = None) -> list[PlayerLine]:
    """The rows with the most points, of whatever team."""
    places = _sorted(state) if ranking is None else ranking.best(count, state.options.teams)
    first = heapq.nsmallest(count, places, key=lambda place: place[2:])
    return [_row(place, state.players) for place in first]


def lines(state: MatchState) -> list[PlayerLine]:
    """All rows of the scoreboard."""
    return [_row(place, state.players) for place in _sorted(state)]


def scoreboard(
    state: MatchState,
    match: str,
    request_id: int,
    next_seq: int,
    time_ms: int = 0,
    page: Page = _WHOLE,
    ranking: Ranking | None = None,
    hidden: frozenset[str] = frozenset(),
) -> Scoreboard:
    """The answer to `match.get`. `time_ms` is the newest clock that the host
    told. `ranking` has the order of the lines, or had it a moment ago; without it they are sorted. `hidden`: players
    of the match whom the asking one does not see. Raises `BadInput`."""
    place = after(page.cursor)
    if ranking is None:
        beyond = iter([found for found in _sorted(state) if place is None or found > place])
    else:
        beyond = ranking.beyond(place)
    if hidden:
        beyond = (found for found in beyond if found.player not in hidden)
    rows = list(islice(beyond, page.limit))
    more = next(beyond, None) is not None
    mode, rounds = mode_of(state), state.rounds
    return Scoreboard(
        request_id,
        match,
        state.phase,
        state.options.mode,
        state.options.map_name,
        "" if state.host in {host_name("player", player) for player in hidden} else state.host,
        max(state.time_ms, time_ms),
        list(state.team_scores),
        [_row(found, state.players) for found in rows],
        next_seq,
        state.winner,
        state.end_reason,
        cursor_of(rows[-1]) if more else None,
        len(state.players) - len(hidden),
        term_of(state),
        entry_of(state).private,
        mode.version,
        mode.respawn_ms,
        [] if rounds is UNSET else list(rounds.won),
        0 if rounds is UNSET else rounds.played,
        *as_told(state),
    )


def _sorted(state: MatchState) -> list[Place]:
    return sorted(place_of(player, line) for player, line in state.players.items())


def _row(place: Place, players: Lines) -> PlayerLine:
    line = players[place.player]
    return PlayerLine(
        place.player,
        line.team,
        line.present,
        line.kills,
        line.deaths,
        line.assists,
        line.medals,
        line.objectives,
        line.score,
    )
