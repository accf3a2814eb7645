"""One node's part of the directory, tier two of routing: actor id -> address. Pure.

It stores exceptions only: an actor that lives on its slot's owner needs no entry. A slot that
has just come to this node is *settling* until the other members have said which of their
activations belong to it; the caller decides how long a look-up may wait for that.
"""

from collections.abc import Iterable

from server.ids import ActorId, NodeAddress, slot


class Partition:
    """Entries of the slots that this node owns, and which slots still settle."""

    def __init__(self) -> None:
        self._entries: dict[ActorId, NodeAddress] = {}
        self._settling: dict[int, int] = {}  # slot -> the change that brought it

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, identity: ActorId) -> NodeAddress | None:
        return self._entries.get(identity)

    def register(self, identity: ActorId, address: NodeAddress) -> NodeAddress:
        """`identity` lives at `address`, unless another entry is there already: the first
        stays. Returns the address that holds now."""
        return self._entries.setdefault(identity, address)

    def unregister(self, identity: ActorId, address: NodeAddress) -> None:
        """Drop the entry, if it is still this one."""
        if self._entries.get(identity) == address:
            del self._entries[identity]

    def gain(self, slots: Iterable[int], change: int) -> None:
        """These slots came to this node with view change number `change`; they settle now."""
        for number in slots:
            self._settling[number] = change

    def settled(self, change: int) -> None:
        """Every answer for `change` is in, or was waited for long enough. Slots that other changes
        brought wait for theirs."""
        self._settling = {number: at for number, at in self._settling.items() if at != change}

    def is_settling(self, identity: ActorId) -> bool:
        return bool(self._settling) and slot(identity) in self._settling

    @property
    def settling(self) -> int:
        return len(self._settling)

    def keep(self, live: Iterable[NodeAddress], owned: bytes) -> None:
        """Forget entries of nodes that are gone, and of slots that are not mine (`owned` has
        one byte a slot, 1 where this node is the owner)."""
        alive = set(live)
        self._entries = {
            identity: address
            for identity, address in self._entries.items()
            if address in alive and owned[slot(identity)]
        }

    def entries(self) -> dict[ActorId, NodeAddress]:
        return dict(self._entries)
