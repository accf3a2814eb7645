"""The rules of a mode: data, and three small pure functions. Each mode is one file of this folder, or one of a studio's
own; `game/match/rules.py` asks them.

    points(state, event)   points that a kill or an objective is worth, to its player and the player's team
    reached(state)         whether the score is there that ends the match, or its round
    winner(state)          who is ahead: a player, `team:N`, or None for nobody

Rules are kept for ever: a match names the mode and the version that it began with, and its log is read by those. A
change that counts another way is a further `ModeRules` of the same name with the next version, beside those before it.
"""

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from game.match.state import MatchState
from game.messages import Kill, MatchOptions, Objective, PlayOptions

MAX_ROUNDS: Final = 15
MAX_POINTS: Final = 10_000
"""Points that an event may be worth, either way; whatever a mode's function says is cut to it."""

PointsRule = Callable[[MatchState, Kill | Objective], int]
ReachedRule = Callable[[MatchState], bool]
WinnerRule = Callable[[MatchState], str | None]


def no_points(_state: MatchState, _event: Kill | Objective) -> int:
    """Points come from `Score` alone."""
    return 0


def kill_points(_state: MatchState, event: Kill | Objective) -> int:
    """A point for each kill."""
    return 1 if isinstance(event, Kill) else 0


def told_points(_state: MatchState, event: Kill | Objective) -> int:
    """The points that an objective says itself; kills are worth none."""
    return event.points if isinstance(event, Objective) else 0


def score_reached(state: MatchState) -> bool:
    """Whether a team, or a player where there are none, has as many points as the options ask for (0: never)."""
    limit = state.options.score_limit
    if not limit:
        return False
    if state.options.teams:
        return max(state.team_scores) >= limit
    return state.players.reach(limit)


def most_points(state: MatchState) -> str | None:
    """The team or player with most points, None for a draw."""
    return _first(_scores(state, leavers=True))


def most_points_of_those_present(state: MatchState) -> str | None:
    """The team with most points, or the player among those who have not left; None for a draw."""
    return _first(_scores(state, leavers=False))


def nobody(_state: MatchState) -> None:
    """No winner is made up."""


def _scores(state: MatchState, leavers: bool) -> dict[str, int]:
    if state.options.teams:
        return {f"team:{team}": score for team, score in enumerate(state.team_scores)}
    return {player: line.score for player, line in state.players.items() if leavers or line.present}


def _first(scores: dict[str, int]) -> str | None:
    best = max(scores.values(), default=0)
    first = [name for name, score in scores.items() if score == best]
    return first[0] if len(first) == 1 else None


class ModeRules(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a mode. Times are ms of the match clock."""

    name: str
    title: str
    version: int = 1
    options: PlayOptions = PlayOptions()
    """Options that a match has where its host gives none; the mode's name there counts for nothing."""
    fewest_teams: int = 0
    most_teams: int = 8
    rounds: int = 1
    """Rounds at most: who wins more than half of them wins. Score and time limits are then those of a round, at whose
    end the teams' scores begin anew. Rounds are for teams."""
    respawn_ms: int = 0
    """Time from a death until the player is there again: told to clients, who keep it."""
    betrayal_points: int = 0
    """Points for killing one's own team, which is a death and no kill."""
    overtime_ms: int = 0
    """Time by which the match, or its round, goes on at most where it is a tie when time is up; it ends as soon as
    somebody is ahead. 0: a tie is a draw."""
    early_leave: Literal["keeps", "forfeits"] = "keeps"
    """Whether somebody who is gone when the match ends wins with the team all the same."""
    teams_locked: bool = True
    """False: until the match starts, a player may join again with another team."""
    objectives: tuple[str, ...] = ()
    """Names that objectives may have; any, where there are none."""
    recording: bool = False
    """A film of a match elsewhere: each event is its own player's only, nothing is refused, and nothing ends it."""
    points: PointsRule = no_points
    reached: ReachedRule = score_reached
    winner: WinnerRule = most_points

    def __post_init__(self) -> None:
        """Raises `ValueError` for rules that cannot be played."""
        msgspec.convert(msgspec.to_builtins(self.options), PlayOptions)
        msgspec.convert([self.name], PlayOptions)
        if self.version < 1:
            raise ValueError("version must be 1 or more")
        if not 1 <= self.rounds <= MAX_ROUNDS:
            raise ValueError(f"rounds must be 1 to {MAX_ROUNDS}")
        if not 0 <= self.fewest_teams <= self.most_teams:
            raise ValueError("fewest_teams must be at most most_teams")
        if not self.fewest_teams <= self.options.teams <= self.most_teams:
            raise ValueError("the teams of options must be within fewest_teams and most_teams")
        if self.rounds > 1 and not self.fewest_teams:
            raise ValueError("rounds are for teams: fewest_teams must be 1 or more")

    def filled(self, asked: MatchOptions) -> MatchOptions:
        """`asked`, with the mode's own options where it has none."""
        own = msgspec.structs.asdict(self.options)
        absent = {name: own[name] for name in own if getattr(asked, name) is None}
        return msgspec.structs.replace(asked, **absent) if absent else asked
