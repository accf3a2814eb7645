"""Open questions about slots that have come to this node and whose entries it does not all know yet. Pure.

A *question* is about some slots. Either it waits for a node's handoff of them, or it has been
put to several members, who answer with their own activations there. While it *blocks*, look-ups of its
slots wait: from when it is opened until its answers are in, `wait_s` at most. After that time it
stays open without blocking, since a late answer is still worth having. A handoff that has not come
after half of `wait_s` is asked for from everybody instead.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from server.cluster.slots import Slots
from server.directory.bequest import QuestionBequest
from server.directory.messages import pack, unpack
from server.directory.partition import mask
from server.ids import SLOT_COUNT, ActorId, NodeAddress, slot


class _Question:
    """`until`: end of its time to block; `ask_at`: time to ask everybody instead of waiting for `giver`."""

    __slots__ = ("ask_at", "blocking", "giver", "left", "slots", "until")

    def __init__(self, slots: Slots, until: float, blocks: bool) -> None:
        self.slots, self.until = slots, until
        self.blocking: Slots = slots if blocks else slots[:0]
        self.giver: NodeAddress | None = None
        self.ask_at: float | None = None  # set while only the handoff is awaited
        self.left: dict[NodeAddress, None] = {}  # members that have not answered


class Questions:
    """See the module's head."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._open: dict[int, _Question] = {}
        self._last = 0
        self._blocked: NDArray[np.int16] | None = None  # how many questions block each slot
        self.releases = 0
        """Number of times that slots stopped to block: a change tells that look-ups may go on."""

    def blocks(self, identity: ActorId) -> bool:
        """Whether a look-up of `identity` has to wait."""
        return self._blocked is not None and bool(self._blocked[slot(identity)])

    @property
    def blocked(self) -> int:
        """Number of slots that block."""
        return 0 if self._blocked is None else int(np.count_nonzero(self._blocked))

    @property
    def open(self) -> int:
        """Number of questions that lack answers."""
        return len(self._open)

    # ---- questions ----

    def expect(self, slots: Slots, giver: NodeAddress, now: float) -> None:
        """Open a question that waits for the handoff of `slots` by `giver`, and blocks."""
        if not len(slots):
            return
        question = self._new(slots, now, blocks=True)
        question.giver, question.ask_at = giver, now + self._wait_s / 2

    def ask(self, slots: Slots, of: Iterable[NodeAddress], now: float, *, blocks: bool) -> int:
        """Open a question to `of`. Returns its number, 0 if there is nobody or nothing to ask."""
        left = dict.fromkeys(of)
        if not left or not len(slots):
            return 0
        self._new(slots, now, blocks=blocks).left = left
        return self._last

    def _new(self, slots: Slots, now: float, *, blocks: bool) -> _Question:
        self._last += 1
        question = self._open[self._last] = _Question(slots, now + self._wait_s, blocks)
        if blocks:
            self._block(slots)
        return question

    def _block(self, slots: Slots) -> None:
        if self._blocked is None:
            self._blocked = np.zeros(SLOT_COUNT, dtype=np.int16)
        self._blocked[slots] += 1

    def overdue(self, now: float) -> list[int]:
        """Let questions stop to block whose time is over. Returns those whose handoff is late, to `spread`."""
        for question in self._open.values():
            if question.until <= now:
                self._release(question, question.blocking)
        return [
            number for number, question in self._open.items() if question.ask_at is not None and question.ask_at <= now
        ]

    def spread(self, number: int, of: Iterable[NodeAddress]) -> Slots:
        """Turn a question that waited for a handoff into one to all of `of`. Returns its slots."""
        question = self._open[number]
        question.ask_at, question.left = None, dict.fromkeys(of)
        self._close_if_done(number)
        return question.slots

    def owed_by(self, member: NodeAddress) -> dict[int, Slots]:
        """The questions that `member` has not answered, and their slots."""
        return {number: question.slots for number, question in self._open.items() if member in question.left}

    # ---- answers ----

    def answered(self, by: NodeAddress, number: int) -> None:
        """Note that `by` has told all that it has."""
        question = self._open.get(number)
        if question is not None and question.ask_at is None:
            question.left.pop(by, None)
            self._close_if_done(number)

    def handed_over(self, giver: NodeAddress, slots: Slots) -> Slots:
        """Note that `giver` has handed `slots` over. Returns those of them that were awaited from it."""
        awaited: list[Slots] = [slots[:0]]
        inside = mask(slots)
        for number, question in list(self._open.items()):
            if question.giver == giver:
                mine = inside[question.slots]
                awaited.append(question.slots[mine])
                self._drop(number, inside)
        return np.unique(np.concatenate(awaited))

    def slots_lost(self, slots: Slots) -> None:
        """Drop `slots` from all questions: another node owns them now."""
        if self._open and len(slots):
            inside = mask(slots)
            for number in list(self._open):
                self._drop(number, inside)

    def member_left(self, member: NodeAddress) -> list[int]:
        """Expect nothing more of `member`, which has left the view. Returns questions to `spread`, whose handoff
        does not come."""
        late = []
        for number, question in list(self._open.items()):
            question.left.pop(member, None)
            if question.giver == member:
                question.giver = None
                if question.ask_at is not None:
                    late.append(number)
            self._close_if_done(number)
        return late

    def _drop(self, number: int, inside: NDArray[np.bool_]) -> None:
        """Take the slots in `inside` out of a question."""
        question = self._open[number]
        self._release(question, question.blocking[inside[question.blocking]])
        question.slots = question.slots[~inside[question.slots]]
        self._close_if_done(number)

    def _release(self, question: _Question, slots: Slots) -> None:
        if len(slots):
            assert self._blocked is not None
            assert self._blocked[slots].min() > 0, "a slot is released once for each question that blocks it"
            self._blocked[slots] -= 1
            question.blocking = np.setdiff1d(question.blocking, slots, assume_unique=True)
            self.releases += 1

    def _close_if_done(self, number: int) -> None:
        question = self._open[number]
        if not len(question.slots) or (question.ask_at is None and not question.left):
            self._release(question, question.blocking)
            del self._open[number]

    # ---- going over ----

    def bequeath(self, now: float) -> tuple[int, list[QuestionBequest]]:
        """The newest number, and all that is open."""
        return self._last, [
            QuestionBequest(
                number,
                pack(it.slots),
                pack(it.blocking),
                it.giver if it.giver is not None else None,
                it.until - now,
                it.ask_at - now if it.ask_at is not None else None,
                list(it.left),
            )
            for number, it in self._open.items()
        ]

    def inherit(self, last: int, questions: Iterable[QuestionBequest], now: float) -> None:
        """Go on with what another process has asked."""
        self._last = last
        for it in questions:
            question = self._open[it.number] = _Question(unpack(it.slots), now + it.block_s, blocks=False)
            question.blocking = unpack(it.blocking)
            question.giver = it.giver if it.giver is not None else None
            question.ask_at = now + it.ask_s if it.ask_s is not None else None
            question.left = dict.fromkeys(it.left)
            if len(question.blocking):
                self._block(question.blocking)

    # ---- for the others ----

    def unsure(self, slots: Slots) -> Slots:
        """The part of `slots` that a question is open for."""
        wanted = np.zeros(SLOT_COUNT, dtype=np.bool_)
        for question in self._open.values():
            wanted[question.slots] = True
        return slots[wanted[slots]]

    def due(self) -> float | None:
        """The time at which `overdue` has something to do."""
        times = [question.until for question in self._open.values() if len(question.blocking)]
        times += [question.ask_at for question in self._open.values() if question.ask_at is not None]
        return min(times, default=None)
