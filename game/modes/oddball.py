"""Oddball: seconds with the ball are points, in up to three rounds. The host tells `ball_held` with the seconds since
it told the last; `ball_taken` and `ball_dropped` are worth none."""

from typing import Final

from game.match.state import MatchState
from game.messages import Kill, Objective, PlayOptions
from game.modes.mode import ModeRules


def ball_points(_state: MatchState, event: Kill | Objective) -> int:
    """The seconds of `ball_held`."""
    return max(0, event.points) if isinstance(event, Objective) and event.name == "ball_held" else 0


VERSIONS: Final = (
    ModeRules(
        name="oddball",
        title="Oddball",
        options=PlayOptions(teams=2, max_players=8, score_limit=100, time_limit_ms=300_000),
        fewest_teams=2,
        rounds=3,
        respawn_ms=5_000,
        overtime_ms=30_000,
        early_leave="forfeits",
        objectives=("ball_taken", "ball_dropped", "ball_held"),
        points=ball_points,
    ),
)
