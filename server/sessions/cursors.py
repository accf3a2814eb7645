"""Cursors of this node's watchers in a stream. Pure.

Each subscription is a cursor: the number of the event that it gets next. Events come in runs,
from the owner as they become durable or read from the log; every run is trimmed by each cursor,
so that an event goes out once and in order however often and in whatever order runs arrive.
"""

from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

W = TypeVar("W", bound=Hashable)


class Cursors(Generic[W]):
    """`end` is one more than the newest event that is known to be durable."""

    __slots__ = ("_next", "end")

    def __init__(self) -> None:
        self._next: dict[W, int] = {}
        self.end = 1

    def __len__(self) -> int:
        return len(self._next)

    def __iter__(self) -> Iterator[W]:
        return iter(self._next)

    def __contains__(self, watcher: W) -> bool:
        return watcher in self._next

    def watch(self, watcher: W, from_seq: int) -> None:
        """Begin, or begin again, at event `from_seq`."""
        self._next[watcher] = from_seq

    def cursor(self, watcher: W) -> int | None:
        """The event that `watcher` gets next; None if it does not watch."""
        return self._next.get(watcher)

    def unwatch(self, watcher: W) -> None:
        self._next.pop(watcher, None)

    def learn(self, end: int) -> None:
        """The log's durable end as somebody told it; it never goes back."""
        self.end = max(self.end, end)

    def take(self, first_seq: int, count: int, has_room: Callable[[W], bool]) -> list[tuple[W, int]]:
        """A run of events has come: who gets it, each with the offset to begin at. Their
        cursors move past it. Who has a gap before it, or no room, gets nothing and stays."""
        self.learn(first_seq + count)
        out: list[tuple[W, int]] = []
        for watcher, cursor in self._next.items():
            if first_seq <= cursor < first_seq + count and has_room(watcher):
                out.append((watcher, cursor - first_seq))
                self._next[watcher] = first_seq + count
        return out

    def wanted(self, has_room: Callable[[W], bool]) -> int | None:
        """The lowest number that is durable, that somebody lacks and could take; None if all
        are served."""
        behind = [cursor for watcher, cursor in self._next.items() if cursor < self.end and has_room(watcher)]
        return min(behind, default=None)
