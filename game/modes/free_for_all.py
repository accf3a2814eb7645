"""Free for All: everyone for themselves, a kill is a point. Who has left cannot win."""

from typing import Final

from game.messages import PlayOptions
from game.modes.mode import ModeRules, kill_points, most_points_of_those_present

VERSIONS: Final = (
    ModeRules(
        name="free_for_all",
        title="Free for All",
        options=PlayOptions(teams=0, max_players=8, score_limit=25, time_limit_ms=600_000),
        most_teams=0,
        respawn_ms=5_000,
        overtime_ms=60_000,
        early_leave="forfeits",
        points=kill_points,
        winner=most_points_of_those_present,
    ),
)
