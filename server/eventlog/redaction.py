"""Redaction of a finished log: a person's key is replaced by a made-up one, and the log is chained anew. Pure.

The chain covers the bytes of every event, and keyframes and the end's hash cover states that have the key too, so that
nothing of it can be taken out and the hashes stay. A log is therefore verified as it is, evolved again from event 1
with the other key, and sealed again in the same segments: whatever the key did, the made-up one has done. The log is
marked with the running hash that it had at its end (`Redaction`), so that `verify` says that it was redacted, and a
file that was exported before is known as the same log by its head.

A made-up key is another one in each log, so that nobody can be followed from one to the next by it.
"""

import re
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from server.errors import Corrupt, Unavailable
from server.eventlog import segment
from server.eventlog.entry import Entry, Record, decode_record, encode_entry, state_hash
from server.eventlog.fold import Fold, LoggedKind, S, verify
from server.eventlog.ports import Chunk, Redaction, StoredLog, WholeLog
from server.ids import ActorId

PREFIX: Final = "erased-"
_MADE_UP: Final = re.compile(rf"{PREFIX}[0-9a-f]{{16}}")
Rename = Callable[[Record], Record]
"""The record without the person; the same object where it does not name it."""


def made_up(secret: bytes, log: ActorId) -> str:
    """The key that stands for an erased person in one log; `secret` is of the erasure, and kept by nobody."""
    return PREFIX + blake2b(log.encode(), key=secret, digest_size=8).hexdigest()


def is_made_up(key: str) -> bool:
    """Tell whether that is the key of somebody who was erased: a key of nobody, without career or rating."""
    return _MADE_UP.fullmatch(key) is not None


def redacted(kind: LoggedKind[S], log: StoredLog, rename: Rename, wall_ms: int) -> WholeLog | None:
    """The log with every record renamed; None where no record is another then. Raises `Corrupt` where it does not
    verify, `UnknownRules`, and `Unavailable` where it is not finished: then it has an owner that writes it."""
    if not kind.finished(verify(kind, log).state):
        raise Unavailable("the log is not finished")
    fold = Fold(kind, kind.state_type())
    segments: list[Chunk] = []
    changed = 0
    for chunk in log.chunks:
        state, head = fold.state, fold.head
        entries: list[Entry] = []
        for entry in segment.decode(chunk.data, chunk.first_seq).entries:
            record = decode_record(entry, kind.event_type)
            after = rename(record)
            changed += after is not record
            entries.append(entry if after is record else encode_entry(after))
            fold.take(entries[-1])
        end_hash = state_hash(fold.state) if chunk is log.chunks[-1] else None
        data = segment.seal(entries, head, state, end_hash)
        segments.append(Chunk(entries[0].seq, entries[-1].seq, True, data))
    if not kind.finished(fold.state):
        raise Corrupt("the log is not finished any more with another key in it")
    mark = Redaction(wall_ms, log.head, changed)
    return WholeLog(fold.head, segments, fold.state, (*log.redactions, mark)) if changed else None
