"""The seam between a turn and its outputs: what must have happened before a reply, a push or a
call of a turn that changed durable state may leave.

`MemoryFirst` is the mode without a journal: a write-behind change may leave at once, as long as
the node's lease holds; a logged change waits for its group commit. A crash journal is another
implementation of the same port: it appends first and releases later.
"""

from typing import Protocol

from server.errors import Unavailable
from server.runtime.clock import Clock
from server.storage.group_commit import GroupCommit
from server.storage.lease import NodeLease
from server.storage.write_behind import Flushable, WriteBehind


class Durability(Protocol):
    def accept(self, entity: Flushable) -> bool:
        """The turn that ends changed `entity`; called just before that becomes its new boundary.
        True: its outputs may leave at once. False: they wait until the implementation calls
        `entity.released(version)`. Raises `Unavailable` or `Overloaded` where a durable change may
        not be accepted now; the change is then undone."""
        ...

    def accept_logged(self) -> None:
        """The same for a logged entity, whose outputs always wait for its group commit."""
        ...


class MemoryFirst:
    """No journal: memory is enough to acknowledge a write-behind change."""

    def __init__(self, lease: NodeLease, clock: Clock, write_behind: WriteBehind, group_commit: GroupCommit) -> None:
        self._lease, self._write_behind, self._group_commit = lease, write_behind, group_commit
        self._boot = clock.boot

    def accept(self, entity: Flushable) -> bool:
        # The hot path of a durable turn: two comparisons and, once a flush interval, a mark.
        if self._boot() >= self._lease.safe_until or self._write_behind.refusal is not None:
            self._refuse()
        if not entity.dirty:
            self._write_behind.mark(entity)
        return True

    def accept_logged(self) -> None:
        if not self._lease.holds():
            self._refuse()
        self._group_commit.admit()

    def _refuse(self) -> None:
        if not self._lease.holds():
            raise Unavailable("this node's lease has run out", retry_after_s=1.0)
        if self._write_behind.refusal is not None:
            raise Unavailable(self._write_behind.refusal, retry_after_s=1.0)
