"""Answers to commands by lineage, and the one to forget where there are too many. Pure.

To be forgotten is the oldest lineage of the caller that has the most, so that a caller with many lineages never makes
the match forget another's; of callers with equally many, the oldest of all. A match has thousands of callers and an
event for each of their commands, so that is not looked for among all: `_Order` keeps it at hand. Like the state that
it belongs to, it is shared between versions and changed in none: heaps are leftist (Crane, 1972), a new one sharing
what it can with those that it was made from. What a lineage did last only ever rises, so a heap may hold an older
number for it: whoever comes first with such a number goes back with the right one.
"""

from typing import Any, ClassVar, Final, NamedTuple, Self

import msgspec

from server.states import Map

_REBUILD: Final = 4
"""Times the number of lineages: notes that an order has taken after which it is made anew, without those left over."""


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """A command that took effect: its events are `first_seq` to `next_seq - 1`."""

    command: int
    first_seq: int
    next_seq: int


class Answers(msgspec.Struct, array_like=True, frozen=True):
    """The newest commands of one client lineage, rising by number. A number at or below `floor`
    that is not in `recent` is too old to tell whether it took effect."""

    floor: int = 0
    recent: tuple[Answer, ...] = ()


Key = tuple[int, str]
Heap = tuple[int, Key, Any, Any] | None
"""Rank, least key, and the two heaps of the others."""


class Answered(Map[str, Answers]):
    """Answers by lineage: the caller, `/`, and the rest."""

    __slots__ = ("_order",)
    plain: ClassVar[Any] = dict[str, Answers]

    def __init__(self, items: Any = ()) -> None:
        super().__init__(items)
        self._order: _Order | None = None

    def set(self, key: str, value: Answers) -> Self:
        after = super().set(key, value)
        after._order = self._order
        if self._order is not None and len(after) > len(self):
            after._order = self._order.with_lineage(key, _newest(value))
        return after

    def without(self, key: str) -> Self:
        after = super().without(key)
        after._order = None
        return after

    def without_the_least_missed(self) -> Self:
        """The same with one lineage forgotten."""
        order = self._order
        if order is None or order.notes > _REBUILD * len(self):
            order = _Order()
            for lineage, answers in self.items():
                order = order.with_lineage(lineage, _newest(answers))
        lineage, order = order.without_first(self)
        after = self.without(lineage)
        after._order = order
        return after


def _newest(answers: Answers) -> int:
    return max((answer.next_seq for answer in answers.recent), default=0)


class _Caller(NamedTuple):
    lineages: int = 0
    heap: Heap = None


class _Callers(Map[str, _Caller]):
    __slots__ = ()


class _Order(NamedTuple):
    """Callers with a heap of their lineages each, by what these did last, and for each number of lineages a heap of
    callers that have, or had, so many. `notes` counts what was ever put into the latter."""

    callers: _Callers = _Callers()
    by_count: dict[int, Heap] = {}
    notes: int = 0

    def with_lineage(self, lineage: str, newest: int) -> "_Order":
        name = _caller(lineage)
        caller = self.callers.get(name, _Caller())
        return self._noted(name, _Caller(caller.lineages + 1, _push(caller.heap, (newest, lineage))), self.by_count)

    def _noted(self, name: str, caller: _Caller, by_count: dict[int, Heap]) -> "_Order":
        if caller.heap is None:
            return _Order(self.callers.without(name), by_count, self.notes)
        note = (caller.heap[1][0], name)
        noted = {**by_count, caller.lineages: _push(by_count.get(caller.lineages), note)}
        return _Order(self.callers.set(name, caller), noted, self.notes + 1)

    def without_first(self, answered: Answered) -> tuple[str, "_Order"]:
        """The lineage to forget, and the order without it."""
        by_count = dict(self.by_count)
        while True:
            most = max(by_count)
            heap = by_count[most]
            if heap is None:
                del by_count[most]
                continue
            noted, name = heap[1]
            by_count[most] = _merge(heap[2], heap[3])
            caller = self.callers.get(name)
            if caller is None or caller.lineages != most:  # another note is the caller's by now
                continue
            own = _fresh(caller.heap, answered)
            assert own is not None, "a caller has lineages"
            if own[1][0] > noted:
                by_count[most] = _push(by_count[most], (own[1][0], name))
                continue
            rest = _fresh(_merge(own[2], own[3]), answered)
            return own[1][1], self._noted(name, _Caller(most - 1, rest), by_count)


def _caller(lineage: str) -> str:
    return lineage.partition("/")[0]


def _fresh(heap: Heap, answered: Answered) -> Heap:
    """`heap` with the right number at its top."""
    while heap is not None:
        noted, lineage = heap[1]
        newest = _newest(answered[lineage])
        if newest <= noted:
            return heap
        heap = _push(_merge(heap[2], heap[3]), (newest, lineage))
    return None


def _push(heap: Heap, key: Key) -> Heap:
    return _merge(heap, (1, key, None, None))


def _merge(some: Heap, others: Heap) -> Heap:
    if some is None:
        return others
    if others is None:
        return some
    if others[1] < some[1]:
        some, others = others, some
    _, key, longer, rest = some  # the least key of both
    shorter: Any = _merge(rest, others)
    if longer is None or longer[0] < shorter[0]:
        longer, shorter = shorter, longer
    rank: int = 1 if shorter is None else shorter[0] + 1
    return rank, key, longer, shorter
