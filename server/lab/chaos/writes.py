"""The audit of accepted writes: did any entity ever have two writers at once?

`chaos` installs triggers in its own database that append a row to `chaos_writes` for every accepted
change of an owned entity (`Write`, in the order of the commits of that entity). `double_writes`
reads them afterwards. It relies on nothing that a node says of itself:

    an epoch goes down                       a claim that was not the newest went through
    two owners under one epoch               two claims got the same fence
    the state is written under an epoch      the writer had been fenced off: somebody has claimed the
      that is not the row's                    entity since
    a version goes down, or stays while      two writers numbered their changes independently
      the state changes
    a log's end goes down                    the same, of an event log
    under one epoch, two processes write     (PostgreSQL only, where a connection has a name)

A move of ownership from one live node to another writes the next epoch, the new owner and the last
state in one transaction: its writer holds the epoch before.
"""

from collections.abc import Iterable
from typing import Any

import msgspec


class Write(msgspec.Struct, frozen=True, array_like=True):
    """An accepted change of a row, its values before and after. `owner` is `node#incarnation`, empty
    where nobody owns it. `rewritten`: the state changed and the version did not. `writer` is the name
    of the database connection, `node/process`, and `transaction` a name of its own for each, where there
    are such."""

    entity: str
    old_epoch: int
    epoch: int
    old_state_epoch: int
    state_epoch: int
    old_version: int
    version: int
    owner: str
    old_next_seq: int
    next_seq: int
    rewritten: bool
    writer: str = ""
    transaction: str = ""


class Finding(msgspec.Struct, frozen=True):
    """A double write. `place` counts the entity's writes from 0."""

    entity: str
    place: int
    why: str


def double_writes(writes: Iterable[Write]) -> list[Finding]:
    """Every double write, one for a write at most. `writes` of one entity are in their order."""
    histories: dict[str, _History] = {}
    found = []
    for write in writes:
        history = histories.get(write.entity)
        if history is None:
            history = histories[write.entity] = _History()
        why = history.add(write)
        if why:
            found.append(Finding(write.entity, history.length - 1, why))
    return found


def from_row(row: Iterable[Any]) -> Write:
    """A row of `chaos_writes`; SQLite has 0 and 1 for false and true."""
    return msgspec.convert(tuple(row), Write, strict=False)


class _History:
    """The writes of an entity so far."""

    __slots__ = ("length", "moved_in", "owners", "top", "writers")

    def __init__(self) -> None:
        self.length = 0
        self.top = 0
        self.owners: dict[int, str] = {}
        self.writers: dict[int, str] = {}
        self.moved_in = ""
        """The transaction of the newest move."""

    def add(self, write: Write) -> str:
        """Why `write` is a double write; empty if it is none."""
        self.length += 1
        if write.epoch < self.top:
            return f"epoch {write.epoch} after {self.top}"
        self.top = write.epoch
        return self._owner(write) or _state(write) or self._writer(write)

    def _owner(self, write: Write) -> str:
        if not write.owner:
            return ""
        owner = self.owners.setdefault(write.epoch, write.owner)
        return f"epoch {write.epoch} of {owner} and of {write.owner}" if owner != write.owner else ""

    def _writer(self, write: Write) -> str:
        """A claim is written by its new owner, a move and what else is in its transaction by the old one."""
        if not write.writer:
            return ""
        epoch = write.epoch
        if epoch != write.old_epoch and node_of(write.owner) != node_of(write.writer):
            self.moved_in = write.transaction
        if self.moved_in and self.moved_in == write.transaction:
            epoch = write.epoch - 1
        writer = self.writers.setdefault(epoch, write.writer)
        return f"epoch {epoch} written by {writer} and by {write.writer}" if writer != write.writer else ""


def node_of(name: str) -> str:
    """The node's name in `node#incarnation`, or in `node/process`."""
    return name.partition("#")[0].partition("/")[0]


def _state(write: Write) -> str:
    if write.version < write.old_version:
        return f"version {write.version} after {write.old_version}"
    if write.next_seq < write.old_next_seq:
        return f"log ends at {write.next_seq} after {write.old_next_seq}"
    if write.rewritten:
        return f"version {write.version} has two contents"
    changed = write.version != write.old_version or write.state_epoch != write.old_state_epoch
    if changed and write.state_epoch not in (write.old_epoch, write.epoch):
        return f"version {write.version} written under epoch {write.state_epoch}, the row's being {write.old_epoch}"
    return ""
