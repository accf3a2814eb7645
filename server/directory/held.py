"""Handoffs that came before their time, and which have been taken. Pure.

A handoff of slots that are not this node's in its view is held until they are, for `wait_s` at most,
and within bounds of number and bytes. Its giver keeps it as well and offers it again.
"""

from collections.abc import Callable
from typing import Final

import msgspec
from numpy import bool_
from numpy.typing import NDArray

from server.directory.messages import Handoff, unpack
from server.ids import NodeAddress

MOST: Final = 64
MOST_BYTES: Final = 8 * 1024 * 1024


class _One(msgspec.Struct):
    handoff: Handoff
    size: int
    until: float


class Held:
    """See the module's head."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._held: dict[tuple[NodeAddress, int], _One] = {}
        self._taken: dict[NodeAddress, dict[int, None]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def was_taken(self, giver: NodeAddress, handoff: Handoff) -> bool:
        """Whether it is known already. What the giver no longer offers is forgotten."""
        taken = self._taken.get(giver, {})
        for number in [number for number in taken if number < handoff.oldest]:
            del taken[number]
        for key in [key for key in self._held if key[0] == giver and key[1] < handoff.oldest]:
            del self._held[key]
        return handoff.number in taken

    def take(self, giver: NodeAddress, handoff: Handoff) -> None:
        """It has been taken."""
        self._held.pop((giver, handoff.number), None)
        self._taken.setdefault(giver, {})[handoff.number] = None

    def hold(self, giver: NodeAddress, handoff: Handoff, size: int, now: float) -> bool:
        """Keep it for later; False if there is no room."""
        self._held.pop((giver, handoff.number), None)
        if len(self._held) >= MOST or sum(one.size for one in self._held.values()) + size > MOST_BYTES:
            return False
        self._held[giver, handoff.number] = _One(handoff, size, now + self._wait_s)
        return True

    def ripe(self, mine: Callable[[], NDArray[bool_]]) -> list[tuple[NodeAddress, Handoff]]:
        """Those all of whose slots are `mine` by now."""
        owned = mine() if self._held else None
        return [
            (giver, one.handoff)
            for (giver, _), one in self._held.items()
            if owned is not None and owned[unpack(one.handoff.slots)].all()
        ]

    def keep(self, live: Callable[[NodeAddress], bool]) -> None:
        """Forget what givers that are gone have offered."""
        self._held = {key: one for key, one in self._held.items() if live(key[0])}
        self._taken = {giver: taken for giver, taken in self._taken.items() if live(giver)}

    def expire(self, now: float) -> None:
        self._held = {key: one for key, one in self._held.items() if one.until > now}

    def due(self) -> float | None:
        """When `expire` has something to do."""
        return min((one.until for one in self._held.values()), default=None)
