"""Whether a segment may replace the chunks that are stored. Pure; shared by every log store."""

from collections.abc import Iterable

from server.errors import Corrupt
from server.eventlog.ports import Seal


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
