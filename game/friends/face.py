"""The face of a player's friends: the methods that other actors call on it. `game/friends/actor.py` implements them."""

from game.friends.state import FriendsState, Word
from server.actors.actor import Actor, read_only, remote
from server.actors.facts import Register


class FriendsFace(Actor[FriendsState]):
    """To be named in `fact` and `ref`; never activated itself."""

    kind = "friends"
    State = FriendsState

    __slots__ = ()

    @remote
    async def hear(self, player: str, word: Register[Word]) -> None:
        """Mirror the word of `player` about this one: a fact. Raises `Rejected("full")` for an invite or a block that
        there is no room for."""
        raise NotImplementedError

    @read_only
    def hides(self, player: str) -> bool:
        """Tell whether one of the two blocks the other, as far as this one has heard. Makes no actor."""
        raise NotImplementedError

    @read_only
    def word(self, player: str) -> Register[Word]:
        """The own word about `player`, as it is now; one that was never said where there is none."""
        raise NotImplementedError
