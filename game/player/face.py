"""The face of a player: the methods that other actors call on it. `game/player/actor.py` implements them.

See `game/match/face.py` for why faces stand apart from their actors.
"""

from game.match.state import Line
from game.player.state import PlayerState
from server.actors.actor import Actor, remote


class PlayerFace(Actor[PlayerState]):
    """To be named in `tell` and `ref`; never activated itself."""

    kind = "player"
    State = PlayerState

    __slots__ = ()

    @remote
    def match_joined(self, match: str) -> None:
        """Note `match` as the player's current one."""
        raise NotImplementedError

    @remote
    def match_left(self, match: str) -> None:
        """Forget `match` as the player's current one, if it is."""
        raise NotImplementedError

    @remote
    async def settle(self, match: str, ended_wall_ms: int, line: Line, won: bool, birth: int = 0) -> None:
        """Add the result of `match` to the totals, once, however often it is told. `birth` tells matches of one name
        apart; a match of an earlier version does not tell it, and is answered by `MatchFace.settled` when it tells its
        result again once that is stored. Raises `Unavailable` while that cannot be said."""
        raise NotImplementedError
