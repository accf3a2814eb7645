"""The state of a match, made of its log by `evolve`. Immutable; every event gives a new struct.

A row of table `matches` is its projection, its `players` are rows of `participants`.
Nothing here may depend on the order of a dict's keys: a keyframe stores them sorted.
"""

import msgspec
from msgspec import UNSET, UnsetType

from game.messages import EndReason, MatchOptions, Phase


class Line(msgspec.Struct, frozen=True):
    """A player's line of the scoreboard. `team` is None where there are no teams; `present` is
    False after the player left and for a player that only a recording names."""

    team: int | None = None
    present: bool = True
    kills: int = 0
    deaths: int = 0
    assists: int = 0
    medals: int = 0
    objectives: int = 0
    score: int = 0


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """A command that took effect: its events are `first_seq` to `next_seq - 1`."""

    command: int
    first_seq: int
    next_seq: int


class Answers(msgspec.Struct, array_like=True, frozen=True):
    """The newest commands of one client lineage, rising by number. A number at or below `floor`
    that is not in `recent` is too old to tell whether it took effect."""

    floor: int = 0
    recent: tuple[Answer, ...] = ()


class MatchState(msgspec.Struct, frozen=True):
    """The whole of a match. `host` is empty until the match is created. `time_ms` is the match clock of the newest
    event; `countdown_from_ms` and `live_from_ms` are on the same clock, None before that phase.
    Wall times are ms since 1970, 0 for not yet. `team_scores` has one number a team.
    `answered` is keyed by the caller and its lineage, `subject/lineage`. `countdown_wall_ms`: the wall time at which
    the countdown under way began, absent in any other phase and in logs of earlier versions; absent, it is not
    encoded, so that states which have none hash as they always did."""

    host: str = ""
    options: MatchOptions = MatchOptions()
    phase: Phase = "lobby"
    time_ms: int = 0
    created_wall_ms: int = 0
    started_wall_ms: int = 0
    ended_wall_ms: int = 0
    countdown_from_ms: int | None = None
    live_from_ms: int | None = None
    end_reason: EndReason | None = None
    winner: str | None = None
    team_scores: tuple[int, ...] = ()
    players: dict[str, Line] = {}
    answered: dict[str, Answers] = {}
    countdown_wall_ms: int | UnsetType = UNSET
