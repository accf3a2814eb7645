"""The port of membership: what gossip tells of the other nodes. `membership.py` wraps kinship;
`simulated.py` is a twin that can lie, lag and split."""

from collections.abc import Callable
from typing import Protocol

from server.cluster.view import Member


class Membership(Protocol):
    async def start(self, me: Member, on_change: Callable[[], None]) -> None:
        """Join the cluster as `me`. `on_change` is called, on the loop, after any change of
        what `members` returns. Raises `Unavailable` if the gossip port cannot be had."""
        ...

    def members(self) -> tuple[Member, ...]:
        """Every member that is believed alive or suspect, this node included, sorted by node: of each name at most
        one whose terms agree with this node's, and one whose do not."""
        ...

    def bequeath(self) -> bytes:
        """Members and their endpoints, for the heir of this node's process."""
        ...

    def inherit(self, data: bytes) -> None:
        """Take over what the predecessor has bequeathed; before `start`. Its members count as heard until gossip hears
        them, or for a bounded time. Raises `BadInput`."""
        ...

    async def update(self, me: Member) -> None:
        """Tell the others what changed about this node (state, load, lag)."""
        ...

    async def leave(self) -> None:
        """Say goodbye and wait a moment for it to spread."""
        ...

    async def close(self) -> None: ...

    def stats(self) -> dict[str, int]: ...
