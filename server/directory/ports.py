"""The port of the directory to what is above it: the catalog implements it."""

from collections.abc import Iterable
from typing import Protocol

from server.ids import ActorId, NodeAddress


class ActivationSource(Protocol):
    """The catalog, as the directory sees it."""

    def activation_ids(self) -> Iterable[ActorId]: ...

    def find(self, identity: ActorId) -> object | None:
        """The local activation, if there is one."""
        ...

    def drop_duplicate(self, identity: ActorId, winner: NodeAddress) -> bool:
        """Drop the local copy, since another one is registered, if it is volatile. Returns whether it stays, to
        be registered instead: a durable one that is not on its way elsewhere."""
        ...
