"""The face of a match: the methods that other actors call on it. `game/match/actor.py` implements them.

Matches and players call each other. Each imports only the other's face, so that neither file needs
the other one. Messages of clients are not here: `game/match/routes.py` routes those to the implementation.
"""

from game.match.hidden import HiddenWord
from game.match.messages import AdmitParty
from game.match.state import MatchState
from game.messages import Accepted
from server.actors.actor import Caller, LoggedActor, existing, remote


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

    @existing
    async def admit_party(self, caller: Caller, message: AdmitParty) -> Accepted:
        """Take all of a party in, by one event, or nobody. The same party under the same number gets the same answer.
        Raises `Rejected` with the code of the rule that refuses one of them, `NotFound`, `OutcomeUnknown`."""
        raise NotImplementedError

    @existing
    def player_hidden(self, word: HiddenWord) -> None:
        """Hide a player from those who neither host the match nor take part in it, or show it to them again."""
        raise NotImplementedError

    @existing
    async def rate(self) -> None:
        """Log what the careers of the participants get of this match, which is over: a fact that it tells itself."""
        raise NotImplementedError

    @remote
    def settled(self, player: str) -> None:
        """The answer of players to a match of an earlier version; nothing today."""
        raise NotImplementedError
