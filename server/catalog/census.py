"""A census: the names of a kind's actors that live on a node, to be looked at slice by slice while they come and go.

A dict cannot be left and entered again in the middle, and a copy of a million names takes the loop for as long as it
is made. So names stand in many small buckets by their hash: each name in one of them, so that none is seen twice in a
walk, and none is missed that is there from its beginning to its end. Names that have gone stay until a walk finds them.
"""

from collections.abc import Iterator
from typing import Final

from server.ids import ActorId

BUCKETS: Final = 16_384


class KindCensus:
    """See the module's head."""

    def __init__(self) -> None:
        self._buckets: dict[int, dict[ActorId, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, identity: ActorId) -> None:
        """`identity` lives here."""
        bucket = self._buckets.setdefault(hash(identity) % BUCKETS, {})
        if identity not in bucket:
            bucket[identity] = None
            self._count += 1

    def remove(self, identity: ActorId) -> None:
        """A walk has found that `identity` lives here no more."""
        number = hash(identity) % BUCKETS
        bucket = self._buckets.get(number, {})
        if identity in bucket:
            del bucket[identity]
            self._count -= 1
            if not bucket:
                del self._buckets[number]

    def walk(self, at_least: int) -> Iterator[list[ActorId]]:
        """The names, about `at_least` at a time. They may change between two slices."""
        part: list[ActorId] = []
        for number in list(self._buckets):
            part += self._buckets.get(number, ())
            if len(part) >= at_least:
                yield part
                part = []
        if part:
            yield part
