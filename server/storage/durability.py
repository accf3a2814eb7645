"""The seam between a turn and its outputs: what must have happened before a reply, a push or a
call of a turn that changed durable state may leave.

`MemoryFirst` is the mode without a journal: a write-behind change may leave at once, as long as
the node's lease holds. `JournalFirst` appends it to a crash journal first, and checks the lease
after that: a process that was stopped in between says nothing any more. In both a logged change
waits for its group commit: it is in the store before anybody hears of it.
"""

from collections import deque
from typing import Any, Protocol

import msgspec

from server.errors import Internal, OutcomeUnknown, Unavailable
from server.liveness.lease import NodeLease
from server.runtime.clock import Clock
from server.storage.group_commit import GroupCommit
from server.storage.journal.ports import Journal
from server.storage.journal.retention import JournalRetention
from server.storage.write_behind import Flushable, WriteBehind, WrittenThrough


class Durability(Protocol):
    @property
    def at_once(self) -> bool:
        """Whether the outputs of each write-behind change that is accepted leave at once."""
        ...

    def accept(self, entity: Flushable, state: msgspec.Struct) -> bool:
        """The turn that ends changed `entity` to `state`; called just before that becomes its new
        boundary, with version `entity.version + 1`. True: its outputs may leave at once. False:
        they wait until the implementation calls `entity.released(version)`. Raises `Unavailable`
        or `Overloaded` where a durable change may not be accepted now, `OutcomeUnknown` where the
        lease ran out with the change in the journal; the change is then undone."""
        ...

    def accept_through(self, entity: WrittenThrough) -> None:
        """Accept a change as `accept` does, for a written-through entity: it is written to the store at once,
        and its outputs wait until `entity.released(version)` says that it is committed there."""
        ...

    def accept_logged(self) -> None:
        """The same for a logged entity, whose outputs always wait for its group commit."""
        ...


class MemoryFirst:
    """No journal: memory is enough to acknowledge a write-behind change."""

    at_once = True

    def __init__(self, lease: NodeLease, clock: Clock, write_behind: WriteBehind, group_commit: GroupCommit) -> None:
        self._lease, self._write_behind, self._group_commit = lease, write_behind, group_commit
        self._boot = clock.boot

    def accept(self, entity: Flushable, state: msgspec.Struct) -> bool:
        # The hot path of a durable turn: two comparisons and, once a flush interval, a mark.
        if self._boot() >= self._lease.safe_until or self._write_behind.refusal is not None:
            self._refuse()
        if not entity.dirty:
            self._write_behind.check(entity)
            self._write_behind.mark(entity)
        return True

    def accept_through(self, entity: WrittenThrough) -> None:
        # No journal: nobody is told before the store has it, so that nothing told can be lost with this node.
        if self._boot() >= self._lease.safe_until or self._write_behind.refusal is not None:
            self._refuse()
        if not entity.dirty:
            self._write_behind.check(entity)
            self._write_behind.mark(entity)
        self._write_behind.write_soon(entity)

    def accept_logged(self) -> None:
        if not self._lease.holds():
            self._refuse()
        self._group_commit.admit()

    def _refuse(self) -> None:
        if not self._lease.holds():
            raise Unavailable("this node's lease has run out", retry_after_s=1.0)
        if self._write_behind.refusal is not None:
            raise Unavailable(self._write_behind.refusal, retry_after_s=1.0)


class JournalFirst(MemoryFirst):
    """Journal, then lease check, then outputs."""

    at_once = False

    def __init__(
        self,
        lease: NodeLease,
        clock: Clock,
        write_behind: WriteBehind,
        group_commit: GroupCommit,
        journal: Journal,
        retention: JournalRetention,
    ) -> None:
        super().__init__(lease, clock, write_behind, group_commit)
        self._journal, self._retention = journal, retention
        self._unleased: deque[tuple[Any, int]] = deque()
        journal.on_durable = self._durable
        lease.when_granted(self._granted)

    def accept(self, entity: Flushable, state: msgspec.Struct) -> bool:
        if self._boot() >= self._lease.safe_until or self._write_behind.refusal is not None:
            self._refuse()
        if not entity.dirty:
            self._write_behind.check(entity)
        try:
            durable = self._journal.append(entity, state)
        except Unavailable:
            self._write_behind.hurry()  # a flush makes room
            raise
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Internal(f"the state of {entity.id} cannot be encoded: {error}") from None
        if not entity.dirty:
            self._write_behind.mark(entity)
        if durable and self._boot() >= self._lease.safe_until:
            raise OutcomeUnknown("the lease ran out before the change could be acknowledged")
        return durable

    def _durable(self, entity: Any, version: int) -> None:
        if self._unleased or not self._lease.holds():
            self._unleased.append((entity, version))
        else:
            entity.released(version)

    def _granted(self, sent_at: float) -> None:
        """The lease holds again: what became durable meanwhile may be told. A run whose renewal
        was granted after something was fenced is not over: its journal may forget again."""
        self._retention.lease_granted(sent_at)
        if not self._lease.holds():
            return  # the answer was so late that the grant is over again
        waiting, self._unleased = self._unleased, deque()
        for entity, version in waiting:
            entity.released(version)
