"""The actors of a node in an order of their own, kept as they come, change and go: for read models that show a page
of them, without looking at all.

A kind is listed where its class defines `list_order`. Entries stand in one sorted list: finding a place is a binary
search, and making room moves 8 bytes for each that stands behind it (a megabyte, some 50 us, at 100,000).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from server.actors.actor import Actor
from server.ids import ActorId, key_of

Order = Callable[[Any], Any]


class Listing:
    """A kind's names in the order of `order(state)`, those of equal order by name; who has None is not listed."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._entries: list[tuple[Any, str]] = []
        self._of: dict[ActorId, tuple[Any, str]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, identity: ActorId, state: Any) -> None:
        """`identity` lives here with `state`, from now on or again."""
        order = self._order(state)
        entry = (order, key_of(identity)) if order is not None else None
        before = self._of.get(identity)
        if entry == before:
            return
        if before is not None:
            del self._entries[bisect_left(self._entries, before)]
            del self._of[identity]
        if entry is not None:
            self._entries.insert(bisect_left(self._entries, entry), entry)
            self._of[identity] = entry

    def remove(self, identity: ActorId) -> None:
        """`identity` lives here no more."""
        entry = self._of.pop(identity, None)
        if entry is not None:
            del self._entries[bisect_left(self._entries, entry)]

    def page(self, after: tuple[Any, str] | None, limit: int) -> list[str]:
        """At most `limit` keys of actors, those that stand after `after` if that is given."""
        start = bisect_right(self._entries, after) if after is not None else 0
        return [key for _, key in self._entries[start : start + limit]]


class Listings:
    """The listings of a node by kind."""

    def __init__(self, actors: Iterable[type[Actor[Any]]]) -> None:
        listed = [cls for cls in actors if cls.list_order is not Actor.list_order]
        self._by_kind = {cls.kind: Listing(cls.list_order) for cls in listed}

    @property
    def kinds(self) -> Sequence[str]:
        return list(self._by_kind)

    def put(self, kind: str, identity: ActorId, state: Any) -> None:
        listing = self._by_kind.get(kind)
        if listing is not None:
            listing.put(identity, state)

    def remove(self, kind: str, identity: ActorId) -> None:
        listing = self._by_kind.get(kind)
        if listing is not None:
            listing.remove(identity)

    def changed(self, identity: ActorId, kind: str, _version: int, _before: Any, after: Any) -> None:
        """An observer of each listed kind."""
        self._by_kind[kind].put(identity, after)

    def page(self, kind: str, after: tuple[Any, str] | None, limit: int) -> list[str]:
        """See `Listing.page`. Raises `KeyError` for a kind that is not listed."""
        return self._by_kind[kind].page(after, limit)


class ActorsHere:
    """`server.actors.app.LocalActors` of one node."""

    def __init__(
        self,
        find: Callable[[ActorId], Actor[Any] | None],
        every: Callable[[str], Iterable[Actor[Any]]],
        listings: Listings,
    ) -> None:
        self._find, self._every, self._listings = find, every, listings

    def __call__(self, kind: str) -> Iterable[Actor[Any]]:
        return self._every(kind)

    def find(self, kind: str, key: str) -> Actor[Any] | None:
        return self._find(ActorId(f"{kind}/{key}"))

    def listed(self, kind: str, after: tuple[Any, str] | None, limit: int) -> list[Actor[Any]]:
        found = (self.find(kind, key) for key in self._listings.page(kind, after, limit))
        return [actor for actor in found if actor is not None]
