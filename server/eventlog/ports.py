"""The port of the log store, which keeps event logs: append-only, over opaque bytes.

A log's chunks follow each other without a gap. An *open* chunk is one group commit's tail; a
*sealed* chunk (a segment) is compressed, checksummed and begins with a keyframe, and replaces
the open chunks that it covers. `server/eventlog/segment.py` makes and reads the bytes.
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

from server.ids import ActorId, Epoch, NodeAddress

AppendResult = Literal["written", "fenced"]
InsertResult = Literal["written", "exists"]
DeleteResult = Literal["deleted", "kept"]
RedactResult = Literal["written", "busy"]


class Recorder(msgspec.Struct, frozen=True):
    """The run of a node that keeps what it appends to a log as columns, from its next append on; `began_ms`: its clock,
    Unix ms."""

    address: NodeAddress
    began_ms: int


class Append(msgspec.Struct, frozen=True):
    """Entries `first_seq` to `last_seq` of one log. `head` is the running hash after them,
    `prev_head` before. `projection` is the actor's state at `last_seq` (None: leave the
    projection as it is), `projected` the one that this epoch has stored before (None: not known): only
    what differs need be written. `recorder`: of the first append of an
    activation whose events its node keeps as columns; the store notes it with the append, so that of every event
    there is at most one node that has it to report."""

    id: ActorId
    epoch: Epoch
    first_seq: int
    last_seq: int
    prev_head: bytes
    head: bytes
    data: bytes
    projection: Any = None
    projected: Any = None
    recorder: Recorder | None = None


class Seal(msgspec.Struct, frozen=True):
    """A segment that replaces the open chunks `first_seq` to `last_seq` exactly."""

    id: ActorId
    epoch: Epoch
    first_seq: int
    last_seq: int
    data: bytes


class Chunk(msgspec.Struct, frozen=True):
    """Entries `first_seq` to `last_seq` as stored bytes: a segment, or an open chunk."""

    first_seq: int
    last_seq: int
    sealed: bool
    data: bytes


class Redaction(msgspec.Struct, array_like=True, frozen=True):
    """A log was redacted at Unix time `wall_ms`: `head` is the running hash that it ended with before, `events` is how
    many events were changed."""

    wall_ms: int
    head: bytes
    events: int


class StoredLog(msgspec.Struct, frozen=True):
    """A log, or a part of one, as the store has it. `next_seq` and `head` are its end by its row; `chunks` are in
    order. `redactions`, of a log that was read whole: each that it went through, the first one first."""

    next_seq: int
    head: bytes
    chunks: list[Chunk]
    redactions: tuple[Redaction, ...] = ()


class WholeLog(msgspec.Struct, frozen=True):
    """A finished log that was made elsewhere: every event of it in `segments`, which are sealed and follow each other
    from event 1 on. `head` is the running hash after the last one, `projection` the actor's state there."""

    head: bytes
    segments: list[Chunk]
    projection: Any
    redactions: tuple[Redaction, ...] = ()

    @property
    def last_seq(self) -> int:
        return self.segments[-1].last_seq


class LogReader(Protocol):
    """Reads logs of actors, whoever owns them. Errors as in `server.storage.ports.Store`."""

    async def read_log(self, kind: str, id: ActorId, from_seq: int = 1, to_seq: int | None = None) -> StoredLog | None:
        """Chunks that hold `from_seq` or anything later, and, if `to_seq` is given, anything
        before that; None if there is no such log."""
        ...


class OverLog(msgspec.Struct, frozen=True):
    """A log whose actor is over (a match that has ended), by its row: since when, by the clock of its node then, and
    the epoch of the row. `size` is the number of bytes in its chunks, 0 where that was not asked for. `is_open`: facts
    are open, or somebody owns the row."""

    id: ActorId
    ended_ms: int
    epoch: Epoch
    size: int = 0
    is_pinned: bool = False
    is_open: bool = False


class LogStore(LogReader, Protocol):
    """Errors as in `server.storage.ports.Store`."""

    async def append(self, kind: str, batch: Sequence[Append]) -> dict[ActorId, AppendResult]:
        """Store a batch in a single transaction: each log advances where `epoch`, `next_seq == first_seq` and
        `head == prev_head` (compare-and-set; the epoch is the fencing token), and gets its chunk. The same
        append again is `written`; a log that is not as expected is `fenced` and does not hinder the others."""
        ...

    async def seal(self, kind: str, seal: Seal) -> AppendResult:
        """Replace open chunks by a segment in one transaction. The same segment again is `written`. Raises
        `Corrupt` where the chunks do not make up the segment exactly."""
        ...

    async def insert_log(self, kind: str, id: ActorId, log: WholeLog) -> InsertResult:
        """Store a finished log under an id that has none: row, segments and projection in one transaction, which is
        on the disk then. Nobody owns the row, so that it can be claimed as any released one. A log with the same
        end is there already: `exists`, and nothing is changed. Raises `LogExists` where another one is there,
        `Unavailable` where somebody owns the row, `Corrupt` where the segments are not a whole log."""
        ...

    async def redact(self, kind: str, id: ActorId, was: StoredLog, log: WholeLog) -> RedactResult:
        """Put `log`, which has as many events, in the place of the finished one that was read as `was`: row, segments,
        projection and marks in one transaction, which is on the disk then, under a new epoch. `busy`, and nothing is
        changed: somebody owns the row, its log is another by now, or facts of it are open. The same again is
        `written`. Raises `Corrupt` where the segments are not a whole log."""
        ...

    async def list_logs(self, kind: str, limit: int, after: ActorId | None = None) -> list[ActorId]:
        """Actors of a kind whose log has an event, in the order of their keys, those after `after` only; none at the
        end of the list."""
        ...

    async def list_over(
        self, kind: str, limit: int, after: OverLog | None = None, *, newest_first: bool = False, sizes: bool = True
    ) -> list[OverLog]:
        """Logs whose actors are over, in the order of (`ended_ms`, id), or backwards, those that come after `after`
        only; none at the end of the list. Empty for a kind that is never over."""
        ...

    async def delete_logs(self, kind: str, logs: Sequence[OverLog]) -> dict[ActorId, DeleteResult]:
        """Delete logs with their rows, chunks, reminders and what else was projected from them, in one transaction:
        each where its actor is over, not pinned, has no open fact and no owner, and its epoch is as given (a claim
        since then, of whomever, keeps it). Epochs of ids that were deleted are never issued again: who claims one
        gets a greater one than any that there was. One that is not there is `kept`."""
        ...

    async def pin_log(self, kind: str, id: ActorId, pinned: bool) -> bool:
        """Have a log kept for good, or no more. False where there is none."""
        ...

    async def now_ms(self) -> int:
        """Unix time on the store's clock."""
        ...

    async def read_tail(self, kind: str, id: ActorId) -> StoredLog | None:
        """The last sealed chunk and the open ones after it: enough to activate."""
        ...
