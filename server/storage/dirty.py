"""The dirty set: entities with changes that are not in the store, and since when. Pure: takes `now`.

An entity is dirty from its first unflushed change; later changes coalesce. Order is the order
of that first change, so the oldest is always first.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Generic, Protocol, TypeVar

from server.ids import ActorId


class Identified(Protocol):
    @property
    def id(self) -> ActorId: ...


T = TypeVar("T", bound=Identified)


class DirtySet(Generic[T]):
    """Entities by id, oldest change first."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since: dict[ActorId, tuple[T, float]] = {}

    def __len__(self) -> int:
        return len(self._since)

    def __contains__(self, identity: ActorId) -> bool:
        return identity in self._since

    def mark(self, entity: T, now: float) -> None:
        """`entity` has changed; keeps the time of its first unflushed change."""
        if entity.id not in self._since:
            self._since[entity.id] = (entity, now)

    def clean(self, *entities: T) -> None:
        """Everything of these is in the store, or they are gone."""
        since = self._since
        for entity in entities:
            held = since.get(entity.id)
            if held is not None and held[0] is entity:
                del since[entity.id]

    def renew(self, entity: T, now: float) -> None:
        """A flush stored an older version: dirty still, with changes no older than `now`."""
        held = self._since.get(entity.id)
        if held is not None and held[0] is entity:
            del self._since[entity.id]
            self._since[entity.id] = (entity, now)

    def since(self, entity: T, default: float) -> float:
        """The time of the first unflushed change of `entity`."""
        held = self._since.get(entity.id)
        return held[1] if held is not None else default

    def oldest(self, count: int) -> list[T]:
        """The `count` entities whose changes have waited longest."""
        return [entity for entity, _ in islice(self._since.values(), count)]

    def age_s(self, now: float) -> float:
        """Seconds since the oldest unflushed change; 0 if there is none."""
        first = next(iter(self._since.values()), None)
        return now - first[1] if first is not None else 0.0

    def __iter__(self) -> Iterator[T]:
        return (entity for entity, _ in self._since.values())
