"""The durable state of a player's friends and blocks: one row of table `friends`, and rows of `friendships`.

About each pair of players there are two words, one that each has said: a register of two writers' halves
(`server/actors/facts.py`). A `Link` has the player's own word and a mirror of the other's.
"""

import msgspec

from game.friends.messages import FriendChange
from game.saved_commands import SavedCommands
from server.actors.facts import NEVER, Register, Stamp


class Word(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A player's word about another one. `invite` is the number of its present invite, NEVER where there is none;
    `answered` that of the newest invite of the other's that it has answered, and `yes` whether by a consent that
    stands. `blocks`: it has blocked the other."""

    invite: Stamp = NEVER
    answered: Stamp = NEVER
    yes: bool = False
    blocks: bool = False


class Link(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A pair, as this player knows it. `state` follows from both words (`game.friends.rules.state_of`) and holds since
    Unix time `since_ms`; `version` is the version of the player's row that has this state."""

    mine: Register[Word]
    theirs: Register[Word]
    state: FriendChange = "none"
    since_ms: int = 0
    version: int = 0


class Dropped(msgspec.Struct, array_like=True, frozen=True):
    """A pair of which nothing is left; `version` is the version without it."""

    player: str
    version: int


class FriendsState(msgspec.Struct, frozen=True):
    """The whole row. `untold` are the players who are to hear the own word. `relations` numbers the list of friends and
    of those who are hidden, rising with each change for ever; `told` is the number of which the player's own actor
    knows. `dropped` are pairs whose rows may still be in the store."""

    links: dict[str, Link] = {}
    untold: tuple[str, ...] = ()
    relations: int = 0
    told: int = 0
    answered: dict[str, SavedCommands] = {}
    dropped: tuple[Dropped, ...] = ()
