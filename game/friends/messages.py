"""The client messages of friends and blocks.

Commands carry `lineage` and `command` as `game/fields.py` describes: repeated, they give the first answer again
and change nothing, also where somebody else has changed the friendship in between.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from game.fields import CommandId, Key, Lineage
from server.ids import KEY_PATTERN, whole
from server.wire.messages import Push, Reply, Request

FriendState = Literal["friend", "invited", "inviting", "blocked"]
"""`invited`: by the player whose list it is, and not answered; `inviting`: the other one has asked, and waits."""
FriendChange = Literal["friend", "invited", "inviting", "blocked", "none"]


class FriendsInvite(Request, tag="friends.invite", frozen=True):
    """Ask `player` to be a friend; where that player has asked already, this accepts."""

    lineage: Lineage
    command: CommandId
    player: Key


class FriendsAccept(Request, tag="friends.accept", frozen=True):
    """Accept the invite of `player` that waits for an answer."""

    lineage: Lineage
    command: CommandId
    player: Key


class FriendsDecline(Request, tag="friends.decline", frozen=True):
    """Decline the invite of `player` that waits for an answer."""

    lineage: Lineage
    command: CommandId
    player: Key


class FriendsRemove(Request, tag="friends.remove", frozen=True):
    """End the friendship with `player`, or take the own invite back; nothing where there is neither."""

    lineage: Lineage
    command: CommandId
    player: Key


class FriendsBlock(Request, tag="friends.block", frozen=True):
    """Block `player`: no friendship and no invite in either direction, and each is offline to the other. The other one
    is not told."""

    lineage: Lineage
    command: CommandId
    player: Key


class FriendsUnblock(Request, tag="friends.unblock", frozen=True):
    """End the own block of `player`; what was before it does not come back."""

    lineage: Lineage
    command: CommandId
    player: Key


class FriendsList(Request, tag="friends.list", frozen=True):
    """A page of the own list, by name. `state`: only entries in it."""

    limit: Annotated[int, Meta(ge=1, le=500)] = 100
    cursor: Annotated[str, Meta(max_length=128, pattern=whole(rf"(?:{KEY_PATTERN})?"))] = ""
    """The `next` of the page before; empty for the first page."""
    state: FriendState | None = None


class Friendship(msgspec.Struct, array_like=True, frozen=True):
    """An entry of the list: in `state` since Unix time `since_ms`."""

    player: str
    state: FriendState
    since_ms: int


class FriendsPage(Reply, tag="friends", frozen=True):
    """Entries by name. `next` is the cursor for the next page, None where this is the last; an entry that is there all
    the while is on one page, whatever changes meanwhile."""

    friends: list[Friendship]
    next: str | None = None


class FriendsRecent(Request, tag="friends.recent", frozen=True):
    """Players met in the newest matches that are over, the latest first, without those that are blocked either way."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 50


class RecentPlayer(msgspec.Struct, array_like=True, frozen=True):
    """A player met last in `match`, which ended at Unix time `ended_ms`."""

    player: str
    match: str
    ended_ms: int


class RecentPlayers(Reply, tag="friends.met", frozen=True):
    players: list[RecentPlayer]


class FriendsChanged(Push, tag="friends.changed", frozen=True):
    """An entry of the own list has changed: in `state` now, since Unix time `since_ms`; `none`: it is gone."""

    player: str
    state: FriendChange
    since_ms: int


FriendsCommand = FriendsInvite | FriendsAccept | FriendsDecline | FriendsRemove | FriendsBlock | FriendsUnblock

REQUESTS: tuple[type[Request], ...] = (
    FriendsInvite,
    FriendsAccept,
    FriendsDecline,
    FriendsRemove,
    FriendsBlock,
    FriendsUnblock,
    FriendsList,
    FriendsRecent,
)
ANSWERS: tuple[type[msgspec.Struct], ...] = (FriendsPage, RecentPlayers, FriendsChanged)
