"""The newest picture of a latest topic on a watching node, and what a watcher of it has. Pure.

Each key has its own newest value, by the source's order `(epoch, n)`: the highest wins, whatever comes when. A
removed key stays as a tombstone with its order, so that a late value does not bring it back. `revision` counts the
visible changes here: a watcher is a number, and lacks the keys that changed above it. A watcher that was written
nothing for long gets fewer and newer values, never a wrong one.
"""

from collections.abc import Mapping
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from server.actors.latest import MAX_KEYS, Order
from server.wire.bounds import MOST

NOTHING: Final[Order] = (-1, 0)
"""The order of a picture that nobody has given yet."""


class Item(NamedTuple):
    """The newest value of a key as msgpack, None if it is gone; `revision`: when that was noted here."""

    order: Order
    value: bytes | None
    revision: int


class ItemCopy(msgspec.Struct, array_like=True, frozen=True):
    """An `Item` with its key, as it goes over to the next process of a node."""

    key: str
    order: Order
    value: bytes | None
    revision: Annotated[int, Meta(ge=0, le=MOST)]


class PictureCopy(msgspec.Struct, array_like=True, frozen=True):
    """A `Picture`, as it goes over to the next process of a node."""

    source: str
    known: Order
    gap: bool
    revision: Annotated[int, Meta(ge=0, le=MOST)]
    base: Order
    floor: Annotated[int, Meta(ge=0, le=MOST)]
    items: list[ItemCopy]


class Picture:
    """See the module's head. `known`: up to this order of `source` nothing is missing. `gap`: something may be."""

    __slots__ = ("_base", "_floor", "_items", "gap", "known", "revision", "source")

    def __init__(self) -> None:
        self.source = ""
        self.known = NOTHING
        self.gap = False
        self.revision = 0
        self._items: dict[str, Item] = {}
        self._base = NOTHING
        """Keys that are not here were not at this order."""
        self._floor = 0
        """Tombstones up to this revision are forgotten."""

    def copy(self) -> PictureCopy:
        """All of it, for the next process of this node."""
        items = [ItemCopy(key, *item) for key, item in self._items.items()]
        return PictureCopy(self.source, self.known, self.gap, self.revision, self._base, self._floor, items)

    @classmethod
    def restored(cls, copy: PictureCopy) -> "Picture":
        """The picture of which this is a copy."""
        picture = cls()
        picture.source, picture.known, picture.gap, picture.revision = copy.source, copy.known, copy.gap, copy.revision
        picture._base, picture._floor = copy.base, copy.floor
        picture._items = {each.key: Item(each.order, each.value, each.revision) for each in copy.items}
        return picture

    @property
    def is_known(self) -> bool:
        """True once the source has given its whole picture."""
        return self.known != NOTHING

    @property
    def newest(self) -> Order:
        """The order up to which it says something, though differences below may be missing."""
        return max(self.known, max((item.order for item in self._items.values()), default=NOTHING))

    def __len__(self) -> int:
        return sum(item.value is not None for item in self._items.values())

    # ---- from the source ----

    def learn(self, order: Order, key: str, value: bytes | None) -> bool:
        """Take in a difference. True if it is visible; False if it is late, or says what is here already."""
        epoch, n = order
        if order > self.known:
            if self.is_known and (epoch, n - 1) == self.known:
                self.known = order
            else:
                self.gap = True
        return self._set(order, key, value)

    def learn_all(self, source: str, order: Order, items: Mapping[str, bytes]) -> bool:
        """Take in the whole picture of `source` as of `order`. Differences that overtook it stay. True if anything
        visible changed."""
        if order < self.known:
            return False  # late, and of a source that is over
        changed = not self.is_known
        for key in [key for key in self._items if key not in items]:
            changed |= self._set(order, key, None)
        for key, value in items.items():
            changed |= self._set(order, key, value)
        self.source, self.known, self._base = source, order, order
        self.gap = any(item.order > order for item in self._items.values())
        return changed

    def _set(self, order: Order, key: str, value: bytes | None) -> bool:
        item = self._items.get(key)
        if order <= (item.order if item is not None else self._base):
            return False
        if value == (item.value if item is not None else None):
            self._items[key] = Item(order, value, item.revision if item is not None else self.revision)
            return False
        self.revision += 1
        self._items[key] = Item(order, value, self.revision)
        if len(self._items) > 2 * MAX_KEYS:
            self._forget_tombstones()
            if len(self._items) > 2 * MAX_KEYS:  # a source that keeps its contract never gets here
                del self._items[key]
                self.gap = True
                return False
        return True

    def _forget_tombstones(self) -> None:
        gone = [key for key, item in self._items.items() if item.value is None]
        self._base = max([self._base, *(self._items[key].order for key in gone)])
        self._floor = self.revision
        for key in gone:
            del self._items[key]

    # ---- to watchers ----

    def since(self, revision: int) -> list[tuple[str, bytes | None]] | None:
        """The keys that changed after `revision`, each with its newest value; None where that is not known any more,
        so that the watcher needs the whole picture."""
        if revision < self._floor or revision > self.revision:
            return None
        return [(key, item.value) for key, item in self._items.items() if item.revision > revision]

    def whole(self) -> list[tuple[str, bytes]]:
        """Every key with its newest value."""
        return [(key, item.value) for key, item in self._items.items() if item.value is not None]


class Slot:
    """A session's part of a latest topic: it has the picture of `revision`; -1: none, not even an empty one. `over`:
    it may not watch any more, and has still to be told."""

    __slots__ = ("over", "revision")

    def __init__(self, revision: int = -1, over: bool = False) -> None:
        self.revision, self.over = revision, over
