"""A bounded cache of where actors were last seen. Pure; a wrong entry heals on the first miss."""

from server.ids import ActorId, NodeAddress


class LocationCache:
    """At most `limit` entries; the oldest goes first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._places: dict[ActorId, NodeAddress] = {}

    def find(self, identity: ActorId) -> NodeAddress | None:
        return self._places.get(identity)

    def put(self, identity: ActorId, address: NodeAddress) -> None:
        if identity not in self._places and len(self._places) >= self._limit:
            del self._places[next(iter(self._places))]
        self._places[identity] = address

    def drop(self, identity: ActorId) -> None:
        self._places.pop(identity, None)

    def keep(self, live: set[NodeAddress]) -> None:
        """Forget places on nodes that are gone."""
        self._places = {identity: place for identity, place in self._places.items() if place in live}

    def __len__(self) -> int:
        return len(self._places)
