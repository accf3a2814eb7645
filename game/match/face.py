"""The face of a match: the methods that other actors call on it. `game/match/actor.py` implements them.

Matches and players call each other. Each imports only the other's face, so that neither file needs
the other one. Messages of clients are not here: `game/app.py` routes those to the implementation.
"""

from game.match.state import MatchState
from server.actors.actor import LoggedActor, remote


class MatchFace(LoggedActor[MatchState]):
    """To be named in `tell` and `ref`; never activated itself."""

    kind = "match"
    State = MatchState

    __slots__ = ()

    @remote
    def player_gone(self, player: str, birth: int = 0, number: int = 0, reason: str = "disconnected") -> None:
        """Take `player` out, whose membership `number` of the match of that `birth` is over: its sessions are gone and
        it did not come back in time, or it is in another match (`left`). Nothing where it has come back meanwhile. A
        player of an earlier version tells neither number nor birth."""
        raise NotImplementedError

    @remote
    def settled(self, player: str) -> None:
        """The answer of players to a match of an earlier version; nothing today."""
        raise NotImplementedError
