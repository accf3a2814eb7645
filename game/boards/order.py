"""The order of a leaderboard: players by points, the most first, and by name where those are equal. Pure.

Places count from 1, and no two players share one: a place is where a player stands in the list that `page` walks.
A change, a place and a page of a board with a million players cost what they do with a thousand, but for a few steps
of a binary search; the search is that of `sortedcontainers`.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from sortedcontainers import SortedList  # type: ignore[import-untyped]


class Entry(NamedTuple):
    """A player's entry, as it sorts. `behind` is its points below zero, so that the most come first."""

    behind: int
    player: str

    @property
    def points(self) -> int:
        return -self.behind


class Order:
    """The entries of a board in order."""

    __slots__ = ("_entries", "_points")

    def __init__(self, points: Iterable[tuple[str, int]] = ()) -> None:
        self._points = dict(points)
        self._entries = SortedList(Entry(-value, player) for player, value in self._points.items())

    def __len__(self) -> int:
        return len(self._points)

    def points(self, player: str) -> int | None:
        """The points of `player`; None where it has no entry."""
        return self._points.get(player)

    def set(self, player: str, points: int) -> None:
        """Give `player` these points, whatever it had."""
        before = self._points.get(player)
        if before == points:
            return
        if before is not None:
            self._entries.remove(Entry(-before, player))
        self._points[player] = points
        self._entries.add(Entry(-points, player))

    def drop(self, player: str) -> None:
        """Take the entry of `player` out, if there is one."""
        points = self._points.pop(player, None)
        if points is not None:
            self._entries.remove(Entry(-points, player))

    def place(self, player: str) -> int | None:
        """The place of `player`, from 1; None where it has no entry."""
        points = self._points.get(player)
        return None if points is None else int(self._entries.bisect_left(Entry(-points, player))) + 1

    def page(self, first: int, count: int) -> list[Entry]:
        """At most `count` entries from place `first` on."""
        begin = max(first, 1) - 1
        return list(self._entries.islice(begin, begin + count))

    def after(self, entry: Entry | None, count: int) -> tuple[int, list[Entry]]:
        """At most `count` entries that sort after `entry`, which need not be there any more, and the place of the
        first of them. None: from the first place on."""
        begin = 0 if entry is None else int(self._entries.bisect_right(entry))
        return begin + 1, list(self._entries.islice(begin, begin + count))

    def around(self, player: str, count: int) -> tuple[int, list[Entry]]:
        """`count` entries with that of `player` in their middle, fewer before it where it is near the top, and the
        place of the first of them. Empty where `player` has no entry."""
        place = self.place(player)
        if place is None:
            return 1, []
        last = min(len(self), max(place + (count - 1) // 2, count))
        first = max(1, last - count + 1)
        return first, self.page(first, last - first + 1)

    def among(self, players: Iterable[str]) -> list[tuple[int, Entry]]:
        """The entries of those of `players` that have any, each with its place, in order."""
        found: Iterator[Entry] = (
            Entry(-points, player)
            for player, points in ((player, self._points.get(player)) for player in set(players))
            if points is not None
        )
        return [(int(self._entries.bisect_left(entry)) + 1, entry) for entry in sorted(found)]

    def players(self) -> Iterator[str]:
        """Every player that has an entry, in no order."""
        return islice(self._points, None)
