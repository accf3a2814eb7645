"""Copying a large memory ahead, while it changes: all keys once, in slices, and then what has changed since. Pure.

    ahead.begin(keys)      note each change from here on; all of `keys` are to be copied
    ahead.note(key)        it has changed: once more
    ahead.take(500)        the next keys to copy, as they are by then
    ahead.left()           all that is to be copied yet: the last slice

Kin: pre-copy live migration of virtual machines (Clark et al., "Live Migration of Virtual Machines", 2005): what is
written while it is copied is copied again, and only the last of it while nothing runs.
"""

from collections.abc import Hashable, Iterable
from itertools import islice
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Ahead(Generic[K]):
    """See the module's head. Its owner looks at `noting` before it calls `note`: where nothing is copied ahead, that
    is all it pays."""

    __slots__ = ("_changed", "_keys", "_place", "noting")

    def __init__(self) -> None:
        self.noting = False
        self._keys: list[K] = []
        self._place = 0
        self._changed: dict[K, None] = {}

    def __len__(self) -> int:
        """Number of keys that are to be copied."""
        return len(self._keys) - self._place + len(self._changed)

    def begin(self, keys: Iterable[K]) -> None:
        """Begin to copy; does nothing where that has begun."""
        if not self.noting:
            self.noting, self._keys, self._place = True, list(keys), 0

    def end(self) -> None:
        """Copy nothing ahead any more."""
        self.noting, self._keys, self._place = False, [], 0
        self._changed.clear()

    def note(self, key: K) -> None:
        self._changed[key] = None

    def take(self, most: int) -> list[K]:
        """The next keys, at most so many; they are copied then."""
        taken = self._keys[self._place : self._place + most]
        self._place += len(taken)
        if not taken:
            taken = list(islice(self._changed, most))
            for key in taken:
                del self._changed[key]
        return taken

    def left(self) -> list[K]:
        """All keys that are to be copied."""
        return [*self._keys[self._place :], *self._changed]
