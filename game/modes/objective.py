"""Objective: points come from what the match is about, as the host says; kills and deaths count, and are worth none."""

from typing import Final

from game.messages import PlayOptions
from game.modes.mode import ModeRules, told_points

VERSIONS: Final = (
    ModeRules(
        name="objective",
        title="Objective",
        options=PlayOptions(teams=2, max_players=8, score_limit=50, time_limit_ms=720_000),
        points=told_points,
    ),
)
