"""Slayer: a kill is a point, for the killer and its team. Killing one's own team is a death, and no point."""

from typing import Final

from game.messages import PlayOptions
from game.modes.mode import ModeRules, kill_points

VERSIONS: Final = (
    ModeRules(
        name="slayer",
        title="Slayer",
        options=PlayOptions(teams=2, max_players=8, score_limit=50, time_limit_ms=720_000),
        points=kill_points,
    ),
)
