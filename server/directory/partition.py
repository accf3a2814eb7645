"""The part of the directory that a node holds, tier two of routing: actor id -> address. Pure.

Only exceptions are stored: an actor that lives on its slot's owner needs no entry.
"""

from collections.abc import Container, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from server.cluster.slots import Slots
from server.directory.bequest import EntriesGone
from server.ids import SLOT_COUNT, ActorId, NodeAddress, slot
from server.runtime.ahead import Ahead


class Partition:
    """Entries of the slots that this node owns."""

    def __init__(self) -> None:
        self._entries: dict[ActorId, NodeAddress] = {}
        self.ahead: Ahead[ActorId] = Ahead()
        """Entries that go over to the heir of this node."""

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, identity: ActorId) -> NodeAddress | None:
        return self._entries.get(identity)

    def register(self, identity: ActorId, address: NodeAddress) -> NodeAddress:
        """Note `identity` at `address`, unless another entry is there already: the first stays. Returns the
        address that holds now."""
        if self.ahead.noting:
            self.ahead.note(identity)
        return self._entries.setdefault(identity, address)

    def replace(self, identity: ActorId, address: NodeAddress) -> NodeAddress | None:
        """Note `identity` at `address`, whatever was there. Returns the address before."""
        if self.ahead.noting:
            self.ahead.note(identity)
        known = self._entries.get(identity)
        self._entries[identity] = address
        return known

    def unregister(self, identity: ActorId, address: NodeAddress) -> bool:
        """Drop the entry, if `address` is still what it says. Returns whether it was."""
        if self._entries.get(identity) != address:
            return False
        if self.ahead.noting:
            self.ahead.note(identity)
        del self._entries[identity]
        return True

    def keep(self, live: Container[NodeAddress]) -> None:
        """Forget entries of nodes that are not in `live`."""
        self._become({identity: address for identity, address in self._entries.items() if address in live})

    def forget(self, home: NodeAddress) -> None:
        """Forget entries of activations on `home`."""
        self._become({identity: address for identity, address in self._entries.items() if address != home})

    def _become(self, left: dict[ActorId, NodeAddress]) -> None:
        for identity in self._entries if self.ahead.noting else ():
            if identity not in left:
                self.ahead.note(identity)
        self._entries = left

    def within(self, slots: Slots) -> dict[ActorId, NodeAddress]:
        """The entries in these slots."""
        if not self._entries or not len(slots):
            return {}
        wanted = mask(slots).tobytes()
        return {identity: address for identity, address in self._entries.items() if wanted[slot(identity)]}

    def take(self, slots: Slots) -> dict[ActorId, NodeAddress]:
        """Take the entries in these slots out, and return them."""
        taken = self.within(slots)
        for identity in taken:
            if self.ahead.noting:
                self.ahead.note(identity)
            del self._entries[identity]
        return taken

    def entries(self) -> dict[ActorId, NodeAddress]:
        return dict(self._entries)

    # ---- going over ----

    def __iter__(self) -> Iterator[ActorId]:
        return iter(self._entries)

    def copy(self, identities: Iterable[ActorId]) -> EntriesGone:
        """The entries of `identities` as they are now."""
        by_home: dict[NodeAddress | None, list[ActorId]] = {}
        for identity in identities:
            home = self._entries.get(identity)
            some = by_home.get(home)
            if some is None:
                by_home[home] = [identity]
            else:
                some.append(identity)
        gone = by_home.pop(None, [])
        return EntriesGone([(home, some) for home, some in by_home.items() if home is not None], gone)

    def take_copy(self, copy: EntriesGone) -> None:
        """Take entries of the predecessor."""
        for home, identities in copy.entries:
            self._entries.update(dict.fromkeys(identities, home))
        for identity in copy.gone:
            self._entries.pop(identity, None)


class Census:
    """Activations that were on this node at one moment, by slot; births since then may be added. Deaths are not
    taken out: whoever reads it checks whether an activation still lives."""

    def __init__(self, identities: Iterable[ActorId]) -> None:
        found = list(identities)
        self._ids = np.empty(len(found), dtype=object)
        self._ids[:] = found
        self._slots = np.fromiter(map(slot, found), dtype=np.uint16, count=len(found))
        self._since: dict[ActorId, None] = {}

    def add(self, identity: ActorId) -> None:
        self._since[identity] = None

    def within(self, slots: Slots) -> list[ActorId]:
        """Activations in these slots, also those that have died since."""
        wanted = mask(slots)
        found: list[ActorId] = self._ids[wanted[self._slots]].tolist()
        return found + [identity for identity in self._since if wanted[slot(identity)]]

    @property
    def added(self) -> int:
        return len(self._since)


def mask(slots: Slots) -> NDArray[np.bool_]:
    """For each slot whether it is among `slots`."""
    wanted = np.zeros(SLOT_COUNT, dtype=np.bool_)
    wanted[slots] = True
    return wanted
