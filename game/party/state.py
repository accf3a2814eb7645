"""The durable state of a party: a row of table `parties`. Immutable; every change is a new struct."""

import msgspec

from game.saved_commands import SavedCommands


class Member(msgspec.Struct, array_like=True, frozen=True):
    """`number`: of the membership, never given twice in a party. `since`: the party's version that began it. `word`:
    the number of the newest word that the player has said of itself: an even one says that it is here, an odd one that
    its last session is gone, at `away_wall_ms`."""

    number: int
    joined_wall_ms: int
    since: int = 0
    ready: bool = False
    word: int = 0
    away_wall_ms: int = 0

    @property
    def here(self) -> bool:
        return self.word % 2 == 0


class Invite(msgspec.Struct, array_like=True, frozen=True):
    """`untold`: the player is not known to have stored it."""

    number: int
    by: str
    until_wall_ms: int
    untold: bool = True


class Word(msgspec.Struct, array_like=True, frozen=True):
    """The newest word about a player's membership `number`: it has begun, or is over. It stays until the player is
    known to have stored it."""

    number: int
    joined: bool


class PartyState(msgspec.Struct, frozen=True):
    """The whole row. `created_wall_ms`, the party's birth, is 0 until it is made, `ended_wall_ms` until it is over.
    Wall times are ms since 1970. `code` is empty where nobody can join by one. `match_id` is the match that it joined
    last. `newest` is the highest number that a membership, an invitation or the joining of a match was given.
    `members`, `invited` and `untold` are by player; `answered` by caller, kind of command and lineage."""

    leader: str = ""
    room: int = 0
    code: str = ""
    match_id: str = ""
    created_wall_ms: int = 0
    ended_wall_ms: int = 0
    newest: int = 0
    members: dict[str, Member] = {}
    invited: dict[str, Invite] = {}
    untold: dict[str, Word] = {}
    answered: dict[str, SavedCommands] = {}
