"""The face of a party: the methods that players call on it. `game/party/actor.py` implements them.

See `game/match/face.py` for why faces stand apart from their actors.
"""

from game.messages import Saved
from game.party.messages import PartyInvite, PartyJoinCode
from game.party.state import PartyState
from server.actors.actor import Caller, existing
from server.actors.latest import LatestActor


class PartyFace(LatestActor[PartyState]):
    """To be named in `tell` and `ref`; never activated itself."""

    kind = "party"
    State = PartyState

    __slots__ = ()

    @existing
    def invite(self, caller: Caller, message: PartyInvite) -> Saved:
        """Invite a player on behalf of the caller, a member."""
        raise NotImplementedError

    @existing
    def join_code(self, caller: Caller, message: PartyJoinCode) -> Saved:
        """Take the caller in, who knows the code. Raises `Rejected("no_such_code")` if that is another one now."""
        raise NotImplementedError

    @existing
    def member_gone(self, player: str, birth: int, number: int, reason: str) -> None:
        """Take `player` out, who has left membership `number` of the party of that `birth`. Nothing where it has come
        back meanwhile."""
        raise NotImplementedError

    @existing
    def size_asked(self, player: str) -> None:
        """Tell member `player` how many the party has."""
        raise NotImplementedError

    @existing
    def member_seen(self, player: str, birth: int, number: int, word: int) -> None:
        """Note whether member `player` is here, which is so for an even `word`; a lower one is late, and nothing."""
        raise NotImplementedError

    @existing
    def forget(self, person: str, instead: str) -> None:
        """Keep nothing of `person`, who is erased."""
        raise NotImplementedError
