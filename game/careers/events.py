"""The event of a match's log that says what each participant's career gets of it.

`Rated` follows `Ended`, once: it is made of the log and of ratings as they were then, and from there on everything is
in the log. So a career is the sum of what logs say, in whatever order they are told (`game/careers`).
"""

import msgspec


class MedalCount(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Medals of one name that a player earned in a match."""

    medal: str
    earned: int


class Result(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Addition of a match to the career of `player`, beside its line of the scoreboard. `best_streak`: most kills in a
    row without dying; `played_ms`: time in the match while it was live; `medals`: by name. `mu` and `log_sigma` are
    added to the rating, in millionths."""

    player: str
    best_streak: int = 0
    played_ms: int = 0
    medals: list[MedalCount] = []
    mu: int = 0
    log_sigma: int = 0


class Rated(msgspec.Struct, tag="rated", array_like=True, frozen=True):
    """Results of a match that is over, in the order of names. `season` is the one that the match began in;
    `rating_group` names the ratings that change, empty where none does. `more`: another such event follows."""

    time_ms: int
    season: str
    rating_group: str
    results: list[Result]
    more: bool = False


class Outcome(msgspec.Struct, array_like=True, frozen=True):
    """The same in the state of a match; `whole` once the last of the events is there."""

    season: str = ""
    rating_group: str = ""
    results: tuple[Result, ...] = ()
    whole: bool = False


class Gain(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Addition of a result to a career: the line of the scoreboard, and `Result`."""

    mode: str = ""
    season: str = ""
    won: bool = False
    kills: int = 0
    deaths: int = 0
    assists: int = 0
    medals: int = 0
    best_streak: int = 0
    played_ms: int = 0
    names: dict[str, int] = {}
    """How many medals of each name."""
    rating_group: str = ""
    mu: int = 0
    log_sigma: int = 0
