"""The slot table, tier one of routing: slot -> node, a pure function of the view.

Weighted rendezvous hashing (Thaler and Ravishankar, 1998): every node draws a pseudo-random
64-bit score for each slot and the highest wins; a node of weight w draws w times and keeps its
best, which gives it exactly w shares. Integers only, so that every machine computes the same
table. When a node goes, only its own slots move.

A table remembers each slot's winning score, so that the next one costs only what has changed:
the draws of new nodes for all slots, and the draws of nodes that stayed for the slots of those that went. The
result is the same as from scratch, whatever the history; equal scores go to the lower name. So nodes that are in one
process and see the same members have the same table.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from server.ids import SLOT_COUNT, ActorId, NodeAddress, slot

Slots = NDArray[np.intp]
"""Slot numbers, ascending, each once."""
Owners = tuple[tuple[NodeAddress, int], ...]

_ALL: Final = np.arange(SLOT_COUNT, dtype=np.uint64)
_U64: Final = np.uint64
_BLOCK: Final = 16_384
"""Scores that are worked on together: they fit a processor's cache."""


class SlotTable:
    """`owners` are (address, weight), sorted by address, each node once; no owner at all is an
    empty table. `before` is any earlier table: it makes this one cheaper and never different."""

    __slots__ = ("__weakref__", "_best", "_by_slot", "_index", "_place", "owners")

    def __init__(self, owners: Owners, before: "SlotTable | None" = None) -> None:
        self.owners = owners
        self._place = {address: place for place, (address, _) in enumerate(owners)}
        self._index, self._best = _assign(owners, before)
        names = np.empty(len(owners), dtype=object)
        for place, (address, _) in enumerate(owners):
            names[place] = address
        self._by_slot: list[NodeAddress] = names[self._index].tolist() if owners else []

    def owner(self, identity: ActorId) -> NodeAddress | None:
        """The node that owns the slot of `identity`; None while no member is up."""
        return self._by_slot[slot(identity)] if self._by_slot else None

    def owner_of_slot(self, number: int) -> NodeAddress | None:
        return self._by_slot[number] if self._by_slot else None

    def owned_by(self, address: NodeAddress) -> NDArray[np.bool_]:
        """For each slot whether `address` is the owner."""
        place = self._place.get(address)
        if place is None:
            return np.zeros(SLOT_COUNT, dtype=np.bool_)
        owned: NDArray[np.bool_] = self._index == place
        return owned

    def by_owner(self, slots: Slots) -> dict[NodeAddress | None, Slots]:
        """`slots` by their owner."""
        if not self.owners or not len(slots):
            return {None: slots} if len(slots) else {}
        places = self._index[slots]
        order = np.argsort(places, kind="stable")
        slots, places = slots[order], places[order]
        starts = np.flatnonzero(np.diff(places, prepend=-1))
        parts = np.split(slots, starts[1:])
        return {self.owners[places[start]][0]: part for start, part in zip(starts, parts, strict=True)}

    def moves(
        self, before: "SlotTable", address: NodeAddress
    ) -> tuple[dict[NodeAddress | None, Slots], dict[NodeAddress | None, Slots]]:
        """The slots that `address` gained by the change from `before` to this table, by their owner before (None:
        nobody), and the slots that it lost, by their owner now."""
        had, has = before.owned_by(address), self.owned_by(address)
        return before.by_owner(np.flatnonzero(has & ~had)), self.by_owner(np.flatnonzero(had & ~has))

    def counts(self) -> dict[NodeAddress, int]:
        """How many slots each owner has."""
        if not self.owners:
            return {}
        counts: list[int] = np.bincount(self._index, minlength=len(self.owners)).tolist()
        return {address: counts[place] for place, (address, _) in enumerate(self.owners)}

    def runs(self) -> list[tuple[int, NodeAddress]]:
        """The owner of every slot in order, as (length, owner) runs: small enough to show."""
        if not self.owners:
            return []
        starts = np.flatnonzero(np.diff(self._index, prepend=-1))
        lengths: list[int] = np.diff(starts, append=SLOT_COUNT).tolist()
        places: list[int] = self._index[starts].tolist()
        return [(length, self.owners[place][0]) for length, place in zip(lengths, places, strict=True)]


_in_use: "WeakValueDictionary[Owners, SlotTable]" = WeakValueDictionary()


def slot_table(owners: Owners, before: SlotTable | None = None) -> SlotTable:
    """The table of `owners`: one that is in use, or a new one."""
    found = _in_use.get(owners)
    if found is None:
        found = _in_use[owners] = SlotTable(owners, before)
    return found


def _assign(owners: Owners, before: SlotTable | None) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
    """For each slot the position of its owner in `owners`, and that owner's score."""
    index = np.full(SLOT_COUNT, -1, dtype=np.int32)
    best = np.zeros(SLOT_COUNT, dtype=np.uint64)
    places = {(address.node, weight): place for place, (address, weight) in enumerate(owners)}
    stayed: list[int] = []
    if before is not None and before.owners:
        now = [places.get((address.node, weight), -1) for address, weight in before.owners]
        index = np.array(now, dtype=np.int32)[before._index]
        best = np.where(index >= 0, before._best, best)
        stayed = [place for place in now if place >= 0]
    lost = np.flatnonzero(index < 0)
    if stayed and len(lost):
        index[lost], best[lost] = _few(lost, owners, stayed) if len(lost) < _BLOCK // 4 else _many(lost, owners, stayed)
    if came := sorted(set(range(len(owners))).difference(stayed)):
        theirs, scores = _many(np.arange(SLOT_COUNT), owners, came)
        wins = (index < 0) | (scores > best) | ((scores == best) & (theirs < index))
        index, best = np.where(wins, theirs, index), np.where(wins, scores, best)
    return index, best


def _many(slots: Slots, owners: Owners, places: Sequence[int]) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
    """The winner of each of `slots` among `places` (ascending) and its score, draw by draw."""
    index = np.full(len(slots), places[0], dtype=np.int32)
    best = np.zeros(len(slots), dtype=np.uint64)
    seeds = [(place, seed) for place in places for seed in _seeds(*_drawer(owners[place]))]
    for start in range(0, len(slots), _BLOCK):
        part = slice(start, start + _BLOCK)
        base = _ALL[slots[part]] * _U64(0x9E3779B97F4A7C15)
        for place, seed in seeds:
            scores = _mix(base + seed)
            wins = np.flatnonzero(scores > best[part])
            best[part][wins] = scores[wins]
            index[part][wins] = place
    return index, best


def _few(slots: Slots, owners: Owners, places: Sequence[int]) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
    """`_many` for few slots and perhaps many places: many draws at a time."""
    drawn = [_seeds(*_drawer(owners[place])) for place in places]
    seeds = np.concatenate(drawn)
    whose = np.repeat(np.array(places, dtype=np.int32), [len(some) for some in drawn])
    index = np.full(len(slots), places[0], dtype=np.int32)
    best = np.zeros(len(slots), dtype=np.uint64)
    base = _ALL[slots] * _U64(0x9E3779B97F4A7C15)
    rows = max(1, 4 * _BLOCK // len(slots))
    for start in range(0, len(seeds), rows):
        scores = _mix(base[None, :] + seeds[start : start + rows, None])
        first = scores.argmax(axis=0)
        highest = scores[first, np.arange(len(slots))]
        wins = highest > best
        best[wins] = highest[wins]
        index[wins] = whose[start : start + rows][first[wins]]
    return index, best


def _drawer(owner: tuple[NodeAddress, int]) -> tuple[str, int]:
    """Name and weight that a node draws by. Without the incarnation, so that a node that returns gets its old
    slots back."""
    address, weight = owner
    return str(address.node), weight


@lru_cache(maxsize=4_096)
def _seeds(node: str, weight: int) -> NDArray[np.uint64]:
    """Seeds of `node`, one for each draw."""
    return np.array([xxh3_64_intdigest(f"{node}/{draw}".encode()) for draw in range(weight)], dtype=np.uint64)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele, Lea and Flood, 2014), in place."""
    part = x >> _U64(30)
    x ^= part
    x *= _U64(0xBF58476D1CE4E5B9)
    np.right_shift(x, _U64(27), out=part)
    x ^= part
    x *= _U64(0x94D049BB133111EB)
    np.right_shift(x, _U64(31), out=part)
    x ^= part
    return x
