"""Actors that this node expects from others: their parcels are on the way, and nobody here claims them meanwhile.

Set and ended by `arrivals.py`, waited for by whoever is about to activate one of them (`catalog.py`).
"""

import asyncio
from collections.abc import Iterable

from server.ids import ActorId


class Expected:
    """See the module's head."""

    __slots__ = ("_ends",)

    def __init__(self) -> None:
        self._ends: dict[ActorId, asyncio.Future[None] | None] = {}
        """For each expected actor, the future that is done when it is expected no more; None while nobody waits."""

    def __len__(self) -> int:
        return len(self._ends)

    def __contains__(self, identity: ActorId) -> bool:
        return identity in self._ends

    def begin(self, identities: Iterable[ActorId]) -> None:
        """Expect these, none of which is expected yet."""
        for identity in identities:
            assert identity not in self._ends, f"{identity} is expected from two nodes"
            self._ends[identity] = None

    def end(self, identity: ActorId) -> None:
        """Expect `identity` no more: it is here, or will not come. Idempotent."""
        ended = self._ends.pop(identity, None)
        if ended is not None:
            ended.set_result(None)

    async def wait(self, identity: ActorId) -> None:
        """Return once `identity` is not expected (any more)."""
        while identity in self._ends:
            ended = self._ends[identity]
            if ended is None:
                ended = self._ends[identity] = asyncio.get_running_loop().create_future()
            await asyncio.shield(ended)
