"""The seam between a turn and its outputs: what must have happened before a reply, a push or a
call of a turn that changed durable state may leave.

`MemoryFirst` is the mode without a journal: a write-behind change may leave at once, as long as
the node's lease holds; a logged change waits for its group commit. A crash journal is another
implementation of the same port: it appends first and releases later.
"""

from typing import Protocol

from server.errors import Unavailable
from server.storage.group_commit import GroupCommit
from server.storage.lease import NodeLease
from server.storage.write_behind import Flushable, WriteBehind


class Durability(Protocol):
    def admit(self) -> None:
        """Raises `Unavailable` or `Overloaded` where a durable change may not be accepted now;
        called at the end of the turn, before the change becomes the new boundary."""
        ...

    def changed(self, entity: Flushable) -> bool:
        """`entity` has a new boundary. True: its outputs may leave now. False: they wait until
        the implementation calls `entity.released(version)`."""
        ...


class MemoryFirst:
    """No journal: memory is enough to acknowledge a write-behind change."""

    def __init__(self, lease: NodeLease, write_behind: WriteBehind, group_commit: GroupCommit) -> None:
        self._lease, self._write_behind, self._group_commit = lease, write_behind, group_commit

    def admit(self) -> None:
        if not self._lease.holds():
            raise Unavailable("this node's lease has run out", retry_after_s=1.0)
        self._write_behind.admit()
        self._group_commit.admit()

    def changed(self, entity: Flushable) -> bool:
        self._write_behind.mark(entity)
        return True
