"""Whether segments may be stored: in the place of open chunks, or as a log of their own. Pure; shared by every log
store."""

from collections.abc import Iterable

from server.errors import Corrupt, LogExists, Unavailable
from server.eventlog.ports import Seal, WholeLog
from server.ids import ActorId


def replaces(seal: Seal, stored: Iterable[tuple[int, int, bool]]) -> bool:
    """True if `stored`, the (first, last, sealed) of every chunk that touches the segment's
    range, are open chunks that cover it exactly; False if it is sealed already. Raises
    `Corrupt` for anything else: replacing it would lose entries or keep them twice."""
    chunks = list(stored)
    if chunks == [(seal.first_seq, seal.last_seq, True)]:
        return False
    expected = seal.first_seq
    for first, last, sealed in chunks:
        if sealed or first != expected:
            break
        expected = last + 1
    else:
        if expected == seal.last_seq + 1 and chunks:
            return True
    raise Corrupt(
        f"the log of {seal.id} has no open chunks that make up events {seal.first_seq} to {seal.last_seq} exactly"
    )


def check_whole(id: ActorId, log: WholeLog) -> None:
    """Raises `Corrupt` unless the segments of `log` follow each other from event 1 on."""
    expected = 1
    for chunk in log.segments:
        if not chunk.sealed or chunk.first_seq != expected or chunk.last_seq < chunk.first_seq:
            raise Corrupt(f"the log for {id} has no sealed segment that begins with event {expected}")
        expected = chunk.last_seq + 1
    if not log.segments or not log.head:
        raise Corrupt(f"the log for {id} has no event")


def check_same(id: ActorId, log: WholeLog, next_seq: int, head: bytes) -> None:
    """Decide about a row that was there before `log` and did not take it. Raises `LogExists` unless it has this very
    log, `Unavailable` where it has none: somebody owns it."""
    if next_seq == 1:
        raise Unavailable(f"{id} is owned by a node, without an event so far")
    if (next_seq, head) != (log.last_seq + 1, log.head):
        raise LogExists(f"{id} has another log, of {next_seq - 1} events")
