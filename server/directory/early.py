"""Handoffs that came before their time, and a memory of those that were taken. Pure.

A handoff of slots that are not this node's in its view is held until they are, for `wait_s` at most,
and within bounds of number and bytes. Its giver keeps it as well and offers it again.
"""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec
from numpy import bool_
from numpy.typing import NDArray

from server.directory.bequest import EarlyBequest, Taken
from server.directory.messages import Handoff, unpack
from server.ids import NodeAddress

MOST: Final = 64
MOST_BYTES: Final = 8 * 1024 * 1024


class _Early(msgspec.Struct):
    handoff: Handoff
    size: int
    until: float


class EarlyHandoffs:
    """See the module's head. A handoff is known by its giver and number."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._waiting: dict[tuple[NodeAddress, int], _Early] = {}
        self._taken: dict[NodeAddress, dict[int, None]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def was_taken(self, giver: NodeAddress, handoff: Handoff) -> bool:
        """Whether this handoff was taken before. Forgets all that the giver no longer offers."""
        taken = self._taken.get(giver, {})
        for number in [number for number in taken if number < handoff.oldest]:
            del taken[number]
        for key in [key for key in self._waiting if key[0] == giver and key[1] < handoff.oldest]:
            del self._waiting[key]
        return handoff.number in taken

    def take(self, giver: NodeAddress, handoff: Handoff) -> None:
        """Remember that this handoff was taken."""
        self._waiting.pop((giver, handoff.number), None)
        self._taken.setdefault(giver, {})[handoff.number] = None

    def hold(self, giver: NodeAddress, handoff: Handoff, size: int, now: float) -> bool:
        """Keep a handoff for later. False if there is no room."""
        self._waiting.pop((giver, handoff.number), None)
        if len(self._waiting) >= MOST or sum(early.size for early in self._waiting.values()) + size > MOST_BYTES:
            return False
        assert handoff.number not in self._taken.get(giver, {}), "what was taken is not held again"
        self._waiting[giver, handoff.number] = _Early(handoff, size, now + self._wait_s)
        return True

    def ripe(self, mine: Callable[[], NDArray[bool_]]) -> list[tuple[NodeAddress, Handoff]]:
        """Handoffs of which all slots are `mine` by now."""
        owned = mine() if self._waiting else None
        return [
            (giver, early.handoff)
            for (giver, _), early in self._waiting.items()
            if owned is not None and owned[unpack(early.handoff.slots)].all()
        ]

    def keep(self, live: Callable[[NodeAddress], bool]) -> None:
        """Forget the handoffs of givers that have left the view."""
        self._waiting = {key: early for key, early in self._waiting.items() if live(key[0])}
        self._taken = {giver: taken for giver, taken in self._taken.items() if live(giver)}

    def expire(self, now: float) -> None:
        self._waiting = {key: early for key, early in self._waiting.items() if early.until > now}

    def bequeath(self, now: float) -> tuple[list[EarlyBequest], Taken]:
        """Handoffs that wait, and the numbers of those that were taken, by giver."""
        waiting = [
            EarlyBequest(giver, early.handoff, early.size, early.until - now)
            for (giver, _), early in self._waiting.items()
        ]
        return waiting, [(giver, list(numbers)) for giver, numbers in self._taken.items()]

    def inherit(self, waiting: Iterable[EarlyBequest], taken: Taken, now: float) -> None:
        """Go on from what another process had."""
        for it in waiting:
            self._waiting[it.giver, it.handoff.number] = _Early(it.handoff, it.size, now + it.left_s)
        self._taken = {giver: dict.fromkeys(numbers) for giver, numbers in taken}

    def due(self) -> float | None:
        """The time at which `expire` has something to do."""
        return min((early.until for early in self._waiting.values()), default=None)
