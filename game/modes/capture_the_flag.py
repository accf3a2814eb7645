"""Capture the Flag: a captured flag is a point for the player and its team. Taking, returning and dropping one are told
as objectives, and worth none; a tie goes on until somebody captures."""

from typing import Final

from game.match.state import MatchState
from game.messages import Kill, Objective, PlayOptions
from game.modes.mode import ModeRules


def flag_points(_state: MatchState, event: Kill | Objective) -> int:
    """A point for `flag_captured`."""
    return 1 if isinstance(event, Objective) and event.name == "flag_captured" else 0


VERSIONS: Final = (
    ModeRules(
        name="capture_the_flag",
        title="Capture the Flag",
        options=PlayOptions(teams=2, max_players=8, score_limit=3, time_limit_ms=720_000),
        fewest_teams=2,
        respawn_ms=8_000,
        overtime_ms=300_000,
        early_leave="forfeits",
        objectives=("flag_taken", "flag_dropped", "flag_returned", "flag_captured"),
        points=flag_points,
    ),
)
