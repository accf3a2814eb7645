"""Ratings of players by OpenSkill (Weng and Lin, 2011; the Plackett-Luce model). Pure.

A rating is two whole numbers in millionths: mu, and the logarithm of sigma. A match that is over reads those of its
participants once, and logs by how much each changes (`game.careers.events.Rated`). A rating is where everybody begins
plus all of its differences, in whatever order they come: two matches at a time, or a rebuild from logs, give the same
numbers to the last digit.

    is it rated?   it was live, its end was decided (score, time, the host's word), no recording, at most `MAX_SIDES`
                   sides and `MAX_RATED` players that took part, on at least two sides
    sides          teams; in a match without teams each player
    order          the winner, then by points; as many points are a tie
    early leaver   shares in what its side loses, and not in what it gains
"""

from collections.abc import Mapping
from math import exp, log
from typing import Final, NamedTuple

from msgspec import UNSET
from openskill.models import PlackettLuce

from game.careers.events import MedalCount, Result
from game.careers.tally import Tally
from game.match.endings import DECIDED, side_of
from game.match.state import MatchState
from game.modes.registry import mode_of

MILLION: Final = 1_000_000
FIRST_MU: Final = 25 * MILLION
FIRST_LOG_SIGMA: Final = round(log(25 / 3) * MILLION)
LEAST_LOG_SIGMA, MOST_LOG_SIGMA = round(log(0.1) * MILLION), FIRST_LOG_SIGMA
MOST_MU: Final = 1_000 * MILLION
"""Bounds of what a match reckons with, whatever the sum of differences is."""
MAX_SIDES: Final = 64
MAX_RATED: Final = 128


class Rating(NamedTuple):
    """As it is stored."""

    mu: int = FIRST_MU
    log_sigma: int = FIRST_LOG_SIGMA

    def floats(self) -> tuple[float, float]:
        """Mu and sigma as a match reckons with them."""
        log_sigma = min(MOST_LOG_SIGMA, max(LEAST_LOG_SIGMA, self.log_sigma))
        return min(MOST_MU, max(-MOST_MU, self.mu)) / MILLION, exp(log_sigma / MILLION)


FIRST: Final = Rating()
_MODEL: Final = PlackettLuce()


def group_of(state: MatchState) -> str:
    """The name of the ratings that this match changes: its mode, and those of matches without teams apart. Empty where
    it changes none."""
    if (
        mode_of(state).recording
        or state.origin is not UNSET
        or state.end_reason not in DECIDED
        or state.live_from_ms is None
    ):
        return ""
    return state.options.mode if state.options.teams else f"{state.options.mode}.solo"


def sides_of(state: MatchState, tally: Tally) -> list[list[str]]:
    """The sides of the match and their players, by name; those who were not in it while it was live are on none.
    Nothing where it cannot be rated."""
    sides: dict[str, list[str]] = {}
    for player, line in sorted(state.players.items()):
        counted = tally.players.get(player)
        if counted is not None and counted.played_ms > 0:
            sides.setdefault(side_of(player, line), []).append(player)
    if not 2 <= len(sides) <= MAX_SIDES or sum(map(len, sides.values())) > MAX_RATED:
        return []
    return [sides[name] for name in sorted(sides)]


def differences(state: MatchState, sides: list[list[str]], known: Mapping[str, Rating]) -> dict[str, tuple[int, int]]:
    """By how much mu and log sigma of each player change. `known`: ratings that are not the first."""
    floats = [[known.get(player, FIRST).floats() for player in side] for side in sides]
    teams = [[_MODEL.rating(mu=mu, sigma=sigma) for mu, sigma in side] for side in floats]
    after = _MODEL.rate(teams, ranks=_ranks(state, sides))
    found: dict[str, tuple[int, int]] = {}
    for side, was, made in zip(sides, teams, after, strict=True):
        for player, old, new in zip(side, was, made, strict=True):
            mu = round((new.mu - old.mu) * MILLION)
            if not state.players[player].present:
                mu = min(0, mu)
            found[player] = (mu, round((log(new.sigma) - log(old.sigma)) * MILLION))
    return found


def _ranks(state: MatchState, sides: list[list[str]]) -> list[float]:
    """The place of each side, smallest first; as many points are one place."""
    points = []
    for side in sides:
        line = state.players[side[0]]
        name = side_of(side[0], line)
        score = line.score if line.team is None else _score(state, line.team)
        points.append((name != state.winner, -score))
    places = sorted(set(points))
    return [float(places.index(point)) for point in points]


def _score(state: MatchState, team: int) -> int:
    """The rounds that a team has won, its points in a match that has none."""
    return state.team_scores[team] if state.rounds is UNSET else state.rounds.won[team]


def results(state: MatchState, tally: Tally, changes: Mapping[str, tuple[int, int]]) -> list[Result]:
    """Additions to each participant's career, in the order of names."""
    found = []
    for player in sorted(state.players):
        counted = tally.of(player)
        mu, log_sigma = changes.get(player, (0, 0))
        medals = [MedalCount(*named) for named in sorted(counted.medals.items())]
        found.append(Result(player, counted.best_streak, counted.played_ms, medals, mu, log_sigma))
    return found
