"""Client messages about careers: the totals of a player by mode and season, and its ratings."""

from typing import Final

import msgspec

from game.careers.events import MedalCount
from game.fields import Key, ShortText
from server.wire.messages import Reply, Request

MAX_LINES: Final = 200
MAX_MEDALS: Final = 1_000


class CareerGet(Request, tag="career.get", frozen=True):
    """Ask for a player's career; only that of a mode or a season, where one is given."""

    player: Key
    mode: ShortText | None = None
    season: ShortText | None = None


class CareerLine(msgspec.Struct, array_like=True, frozen=True):
    """The career in one mode and one season. `win_streak`: matches won in a row up to the newest; `best_streak`: most
    kills in a row without dying; `played_ms`: time in matches while they were live; `best_match`: the one with most
    kills, `best_kills`. What was counted before matches told their mode is under an empty one."""

    mode: str
    season: str
    matches: int
    wins: int
    kills: int
    deaths: int
    assists: int
    medals: int
    best_streak: int
    played_ms: int
    best_kills: int
    best_match: str
    win_streak: int
    best_win_streak: int
    named_medals: list[MedalCount]


class RatingLine(msgspec.Struct, array_like=True, frozen=True):
    """A rating by OpenSkill: `mu` and `sigma` in millionths, after `matches` that were rated."""

    rating_group: str
    mu: int
    sigma: int
    matches: int


class Career(Reply, tag="career", frozen=True):
    """Totals by season and mode, at most 200 of them, and ratings. A result counts as soon as the player has it; win
    streaks are as they are stored."""

    player: str
    lines: list[CareerLine]
    ratings: list[RatingLine]


REQUESTS: Final[tuple[type[Request], ...]] = (CareerGet,)
ANSWERS: Final[tuple[type[msgspec.Struct], ...]] = (Career,)
