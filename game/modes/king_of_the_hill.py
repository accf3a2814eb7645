"""King of the Hill: seconds on the hill are points. The host tells `hill_held` with the seconds since it told the last;
`hill_taken`, `hill_contested` and `hill_moved` are worth none. Killing one's own team costs a second."""

from typing import Final

from game.match.state import MatchState
from game.messages import Kill, Objective, PlayOptions
from game.modes.mode import ModeRules


def hill_points(_state: MatchState, event: Kill | Objective) -> int:
    """The seconds of `hill_held`."""
    return max(0, event.points) if isinstance(event, Objective) and event.name == "hill_held" else 0


VERSIONS: Final = (
    ModeRules(
        name="king_of_the_hill",
        title="King of the Hill",
        options=PlayOptions(teams=2, max_players=8, score_limit=250, time_limit_ms=720_000),
        respawn_ms=5_000,
        betrayal_points=-1,
        overtime_ms=60_000,
        early_leave="forfeits",
        objectives=("hill_taken", "hill_contested", "hill_moved", "hill_held"),
        points=hill_points,
    ),
)
