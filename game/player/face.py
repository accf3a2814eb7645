"""The face of a player: the methods that other actors call on it. `game/player/actor.py` implements them.

See `game/match/face.py` for why faces stand apart from their actors.
"""

from game.careers.events import Gain
from game.match.state import Line
from game.player.state import PlayerState
from server.actors.actor import Actor, Stamp, existing, read_only, remote


class PlayerFace(Actor[PlayerState]):
    """To be named in `tell` and `ref`; never activated itself."""

    kind = "player"
    personal = True
    State = PlayerState

    __slots__ = ()

    @existing
    def match_joined(self, match: str, birth: int = 0, number: int = 0, moves: bool = True) -> None:
        """Note `match` as the player's current one, in which it is member `number`; leave the one before. Nothing for a
        membership that the player has left. A match of an earlier version tells neither number nor birth. Without
        `moves` a player who is in another match stays there, and leaves this one."""
        raise NotImplementedError

    @read_only
    def match_now(self) -> str:
        """The match that the player is in, empty where it is in none."""
        raise NotImplementedError

    @existing
    async def may_host(self, match: str, at_most: int) -> None:
        """Promise to host `match`. Raises `Rejected` for a player who hosts `at_most` others, `Unavailable` where the
        store does not say."""
        raise NotImplementedError

    @existing
    def match_left(self, match: str, birth: int = 0, number: int = 0) -> None:
        """Note that membership `number` of `match` is over: it is not the player's current one any more, if it was."""
        raise NotImplementedError

    @remote
    async def settle(
        self, match: str, ended_wall_ms: int, line: Line, won: bool, birth: int = 0, gain: Gain | None = None
    ) -> None:
        """Add the result of `match` to the totals, once, however often it is told. `birth` tells matches of one name
        apart, `gain` is what the player's career gets; a match of an earlier version tells neither, and is answered by
        `MatchFace.settled` when it tells its result again once that is stored. Raises `Unavailable` while that cannot
        be said."""
        raise NotImplementedError

    @remote
    def standing(
        self,
        number: Stamp,
        banned_until_ms: int,
        ban_reason: str,
        muted_until_ms: int,
        tokens_from_ms: int,
    ) -> None:
        """Mirror the player's standing as word `number` of it says: until when the player is banned and muted (Unix ms;
        0: not), and from when on a token must have been issued. Its sessions end where it may have none."""
        raise NotImplementedError

    @existing
    def known(self) -> None:
        """Nothing: an answer says that there is such a player. Raises `NotFound` where there is not."""
        raise NotImplementedError

    @read_only
    def is_muted(self) -> bool:
        """Tell whether the player's own lines and invitations are refused now."""
        raise NotImplementedError

    @existing
    async def relations_changed(self, number: int) -> None:
        """Note that the player's lists of friends and of who is hidden have that number now: a fact of its friends'
        actor, told once they are stored. Invitations of who is hidden go."""
        raise NotImplementedError

    @existing
    async def match_invited(self, match: str, by: str) -> None:
        """Tell the player's sessions of an invitation to `match` from the player that is `by` as a host, unless one of
        the two has blocked the other."""
        raise NotImplementedError

    # ---- erasure ----

    @existing
    def erase(self) -> bool:
        """Begin, or go on, to be erased: sessions end, the match and the party are left, logins are refused. Tells
        whether nobody has the player on a roster any more."""
        raise NotImplementedError

    @existing
    def forget(self, person: str, instead: str) -> None:
        """Keep no invitation from `person`, who is erased."""
        raise NotImplementedError

    # ---- parties ----

    @existing
    def party_joined(self, party: str, birth: int, number: int) -> None:
        """Note that the player is in `party`, as membership `number` of the one of that `birth`; leave the one before.
        Nothing for a membership that the player has left."""
        raise NotImplementedError

    @existing
    def party_left(self, party: str, birth: int, number: int) -> None:
        """Note that memberships up to `number` of that party are over."""
        raise NotImplementedError

    @existing
    def party_size_is(self, party: str, size: int, room: int) -> None:
        """Note how many the player's party has, and has room for: for its rich presence, and no fact."""
        raise NotImplementedError

    @existing
    async def party_invited(self, party: str, number: int, by: str, until_wall_ms: int) -> None:
        """Keep invitation `number` to `party` from its member `by`, unless one of the two has blocked the other."""
        raise NotImplementedError
