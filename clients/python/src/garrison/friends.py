"""Friends and blocks of the player that a client is; docs/protocol.md says what each does."""

from collections.abc import AsyncIterator, Sequence
from typing import Literal, Protocol, TypeVar

from garrison._base import Push, Request
from garrison._pushes import Pushes
from garrison.messages import (
    FriendsAccept,
    FriendsBlock,
    FriendsChanged,
    FriendsDecline,
    Friendship,
    FriendsInvite,
    FriendsList,
    FriendsRecent,
    FriendsRemove,
    FriendsUnblock,
    RecentPlayer,
    Saved,
)

R = TypeVar("R")
P = TypeVar("P", bound=Push)
State = Literal["friend", "invited", "inviting", "blocked"]
PAGE = 200


class Client(Protocol):
    """The part of a client that this needs."""

    async def request(self, message: Request[R], *, timeout_s: float | None = None, retry: bool | None = None) -> R:
        """Send `message` and give its typed answer."""
        ...

    def pushes_of(self, cls: type[P]) -> Pushes[P]:
        """The pushes of one type from now on."""
        ...


class Friends:
    """The player's list, as `client.friends`. Changes are commands: each is repeated under its number until it is
    answered, and done once. Each raises the typed errors of `Client.request`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def invite(self, player: str) -> Saved:
        """Ask a player to be a friend, or accept where that player has asked already. Raises `NotFound` for a player
        that was never here, `Rejected` (`muted`, `blocking`, `too_many_friends`, `too_many_invites`, `self`)."""
        return await self._client.request(FriendsInvite(player))

    async def accept(self, player: str) -> Saved:
        """Accept the invite of a player. Raises `Rejected` (`no_invite`, `too_many_friends`)."""
        return await self._client.request(FriendsAccept(player))

    async def decline(self, player: str) -> Saved:
        """Decline the invite of a player. Raises `Rejected` (`no_invite`)."""
        return await self._client.request(FriendsDecline(player))

    async def remove(self, player: str) -> Saved:
        """End a friendship, or take the own invite back."""
        return await self._client.request(FriendsRemove(player))

    async def block(self, player: str) -> Saved:
        """Block a player, who is not told. Raises `NotFound` for one that was never here, `Rejected`
        (`too_many_blocks`)."""
        return await self._client.request(FriendsBlock(player))

    async def unblock(self, player: str) -> Saved:
        """End the own block of a player."""
        return await self._client.request(FriendsUnblock(player))

    async def list(self, state: State | None = None) -> AsyncIterator[Friendship]:
        """The list by name, page by page: all of it, or the entries in `state`."""
        cursor: str | None = ""
        while cursor is not None:
            page = await self._client.request(FriendsList(PAGE, cursor, state), retry=True)
            for entry in page.friends:
                yield entry
            cursor = page.next

    async def recent(self, limit: int = 50) -> Sequence[RecentPlayer]:
        """Players met in the newest matches, the latest first."""
        return (await self._client.request(FriendsRecent(limit), retry=True)).players

    def changes(self) -> Pushes[FriendsChanged]:
        """Changes of the list from now on, whoever made them. A session that is resumed misses none; in a new one
        read the list again."""
        return self._client.pushes_of(FriendsChanged)
