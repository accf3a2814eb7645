"""The slot table, tier one of routing: slot -> node, a pure function of the view.

Weighted rendezvous hashing (Thaler and Ravishankar, 1998): every node draws a pseudo-random
64-bit score for each slot and the highest wins; a node of weight w draws w times and keeps its
best, which gives it exactly w shares. Integers only, so that every machine computes the same
table. When a node goes, only its own slots move.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from server.ids import SLOT_COUNT, ActorId, NodeAddress, slot

_SLOTS = np.arange(SLOT_COUNT, dtype=np.uint64)


class SlotTable:
    """`owners` are (address, weight), sorted by address; no owner at all is an empty table."""

    __slots__ = ("_index", "_owner", "owners")

    def __init__(self, owners: tuple[tuple[NodeAddress, int], ...]) -> None:
        self.owners = owners
        self._owner = [address for address, _ in owners]
        self._index = _assign(owners)

    def owner(self, identity: ActorId) -> NodeAddress | None:
        """The node that owns the slot of `identity`; None while no member is up."""
        return self._owner[self._index[slot(identity)]] if self._owner else None

    def owner_of_slot(self, number: int) -> NodeAddress | None:
        return self._owner[self._index[number]] if self._owner else None

    def owned_by(self, address: NodeAddress) -> bytes:
        """One byte a slot: 1 where `address` is the owner."""
        if address not in self._owner:
            return bytes(SLOT_COUNT)
        return bytes(map(self._owner.index(address).__eq__, self._index))

    def counts(self) -> dict[NodeAddress, int]:
        """How many slots each owner has."""
        return {address: self._index.count(place) for place, address in enumerate(self._owner)}

    def runs(self) -> list[tuple[int, NodeAddress]]:
        """The owner of every slot in order, as (length, owner) runs: small enough to show."""
        out: list[tuple[int, NodeAddress]] = []
        for place in self._index if self._owner else []:
            address = self._owner[place]
            if out and out[-1][1] == address:
                out[-1] = (out[-1][0] + 1, address)
            else:
                out.append((1, address))
        return out


def _assign(owners: Sequence[tuple[NodeAddress, int]]) -> list[int]:
    """For each slot the position of its owner in `owners`."""
    best = np.zeros(SLOT_COUNT, dtype=np.uint64)
    index = np.zeros(SLOT_COUNT, dtype=np.int32)
    for place, (address, weight) in enumerate(owners):
        mine = _scores(str(address.node), weight)
        wins = mine > best
        best[wins] = mine[wins]
        index[wins] = place
    result: list[int] = index.tolist()
    return result


@lru_cache(maxsize=64)
def _scores(node: str, weight: int) -> NDArray[np.uint64]:
    """The best of `weight` draws of `node` for every slot. Keyed by name, not by incarnation:
    a node that returns gets its old slots back."""
    best = np.zeros(SLOT_COUNT, dtype=np.uint64)
    for draw in range(weight):
        seed = np.uint64(xxh3_64_intdigest(f"{node}/{draw}".encode()))
        np.maximum(best, _mix(_SLOTS * np.uint64(0x9E3779B97F4A7C15) + seed), out=best)
    return best


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele, Lea and Flood, 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
