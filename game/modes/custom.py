"""Custom: the host says all points itself, of objectives and by `Score`, and when the match ends; there are no limits
unless it sets some, so that a world may stand for weeks. Players may change their team until it starts."""

from typing import Final

from game.messages import PlayOptions
from game.modes.mode import ModeRules, told_points

VERSIONS: Final = (
    ModeRules(
        name="custom",
        title="Custom",
        options=PlayOptions(teams=0, max_players=100, score_limit=0, time_limit_ms=0, countdown_ms=0),
        teams_locked=False,
        points=told_points,
    ),
)
