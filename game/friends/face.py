"""The face of a player's friends: the methods that other actors call on it. `game/friends/actor.py` implements them."""

from typing import Any

from game.friends.state import FriendsState, Word
from server.actors.actor import Actor, Caller, existing, read_only, remote
from server.actors.facts import Register
from server.actors.pictures import Relations


class FriendsFace(Actor[FriendsState]):
    """To be named in `fact` and `ref`; never activated itself."""

    kind = "friends"
    personal = True
    State = FriendsState

    __slots__ = ()

    @remote
    async def hear(self, player: str, word: Register[Word]) -> None:
        """Mirror the word of `player` about this one: a fact. Raises `Rejected("full")` for an invite or a block that
        there is no room for."""
        raise NotImplementedError

    @existing
    def erase(self) -> None:
        """Keep and tell nothing any more: the player is erased."""
        raise NotImplementedError

    @existing
    def forget(self, person: str, instead: str) -> None:
        """Keep nothing of the pair with `person`, who is erased."""
        raise NotImplementedError

    @read_only
    def relations(self, caller: Caller) -> Relations:
        """The friends of this player, and who is hidden from it."""
        raise NotImplementedError

    @read_only
    def hides(self, player: str) -> bool:
        """Tell whether one of the two blocks the other, as far as this one has heard. Makes no actor."""
        raise NotImplementedError

    @read_only
    def hidden_among(self, players: list[str]) -> list[str]:
        """The players of these of whom one or the other blocks the other, as far as this one has heard."""
        raise NotImplementedError

    @read_only
    def word(self, player: str) -> Register[Word]:
        """The own word about `player`, as it is now; one that was never said where there is none."""
        raise NotImplementedError


async def are_apart(asker: Actor[Any], player: str, other: str) -> bool:
    """Tell on behalf of `asker` whether one of two players has blocked the other. Each is asked: a block is in the
    store where it was made before the other one hears of it. Raises `Unavailable` where one of them does not say."""
    first, second = asker.ref(FriendsFace, player), asker.ref(FriendsFace, other)
    return await first.ask(FriendsFace.hides, other) or await second.ask(FriendsFace.hides, player)
