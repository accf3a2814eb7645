"""Recorded: a film of a match that was played elsewhere. Each event is its own player's only, a kill brings no death;
there are no limits, and no winner is made up. A player whom only the recording names gets a line too, since a film does
not say when a player joined; that line is never `present`."""

from typing import Final

from game.messages import PlayOptions
from game.modes.mode import ModeRules, nobody, told_points

VERSIONS: Final = (
    ModeRules(
        name="recorded",
        title="Recorded",
        options=PlayOptions(teams=2, max_players=8, score_limit=50, time_limit_ms=720_000),
        recording=True,
        points=told_points,
        winner=nobody,
    ),
)
