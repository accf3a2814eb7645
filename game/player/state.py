"""The durable state of a player: one row of table `players`. Immutable; every change is a new struct.

Volatile fields (open sessions, the line of rich presence) are the actor's only.
"""

import msgspec

from game.careers.events import Gain
from game.party.place import NO_PARTY, InParty
from game.places import Membership
from game.player.messages import ChosenStatus, Status
from game.saved_commands import SavedCommands
from server.actors.facts import NEVER, Stamp


class SettledMatch(msgspec.Struct, array_like=True, frozen=True):
    """A match whose result is in this player's totals. `birth` is that match's own, since names are used again (0 in
    states of earlier versions, which knew it by name and end); `version` is the player's that has the result. `gain` is
    what its career gets, until that is stored: in rows of its own (`persistence/game/player.py`), so that no state
    carries a career."""

    match: str
    ended_wall_ms: int
    birth: int = 0
    version: int = 0
    gain: Gain | None = None


class PlayerState(msgspec.Struct, frozen=True):
    """The whole row. `status` is the real one; `rules.view` says how much of it others see. `chosen` is
    the status to come back with. Wall times are ms since 1970, 0 for never. `match` is the
    current match, empty if none. `settled` holds the last 64 results that were settled, in that order; of one that
    ended at or before `settled_floor_ms` and is not among them only the store knows (table `careers`).
    `birth` and `member` tell the place in `match`; `leaving` are places whose matches do not know yet that they are
    free, `gone` those that were left lately, so that what is said late about them is known as such.
    `standing_number` and the four fields after it mirror the player's standing (`game/player/standing.py`).
    `relations` numbers the newest lists of friends and of who is hidden that the player has heard of. `in_party` is the
    player's half of its party (`game/party/place.py`). `erased`: all of this is about to go, and nobody logs in."""

    display_name: str = ""
    emblem: str = ""
    status: Status = "offline"
    chosen: ChosenStatus = "online"
    last_seen_ms: int = 0
    match: str = ""
    matches: int = 0
    wins: int = 0
    kills: int = 0
    deaths: int = 0
    assists: int = 0
    medals: int = 0
    answered: dict[str, SavedCommands] = {}
    settled: tuple[SettledMatch, ...] = ()
    settled_floor_ms: int = 0
    birth: int = 0
    member: int = 0
    leaving: tuple[Membership, ...] = ()
    gone: tuple[Membership, ...] = ()
    standing_number: Stamp = NEVER
    banned_until_ms: int = 0
    ban_reason: str = ""
    muted_until_ms: int = 0
    tokens_from_ms: int = 0
    relations: int = 0
    in_party: InParty = NO_PARTY
    erased: bool = False
