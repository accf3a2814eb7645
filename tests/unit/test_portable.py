"""A log as one `.garrison` file: what is read is what was written, and nothing else is read."""

import io
import tracemalloc
from binascii import crc32
from hashlib import blake2b
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from game import replay
from game.commands.export import header_of
from game.messages import Kill, Medal
from server.errors import BadInput, Corrupt, GarrisonError
from server.eventlog import fold, portable, segment
from server.eventlog.entry import Entry
from server.eventlog.portable import PortableEnd, PortableHeader
from server.eventlog.ports import StoredLog
from tests.support import segments_v1
from tests.support.matches import Played

HEADER = PortableHeader("match", "ranked-42", 1, {"mode": "slayer"})


def made(over: bool = True) -> StoredLog:
    match = Played().live(4)
    for number in range(30):
        match.report(Kill(1000 * number, "p0", "p1"), Medal(1000 * number, "p0", "Snipe"))
    return (match.end(60_000) if over else match).stored(16)


LOG = made()


def written(log: StoredLog, header: PortableHeader = HEADER) -> bytes:
    stream = io.BytesIO()
    assert portable.write(stream, header, replay.MATCH, log) == len(stream.getvalue())
    return stream.getvalue()


FILE = written(LOG)


def read(data: bytes) -> portable.PortableLog:
    return portable.read(io.BytesIO(data))


def test_a_file_reads_back_as_it_was_written() -> None:
    found = read(FILE)
    assert (found.header, found.log, found.ended) == (HEADER, LOG, True)
    whole = portable.to_store(replay.MATCH, found)
    assert (whole.head, whole.segments, whole.last_seq) == (LOG.head, LOG.chunks, LOG.next_seq - 1)
    assert whole.projection == replay.final_state(LOG)
    assert portable.is_portable(FILE[:16]) and not portable.is_portable(b'{"time_ms": 1}')


def test_open_chunks_are_sealed_for_the_file() -> None:
    log = made(over=False)
    assert not log.chunks[-1].sealed
    found = read(written(log))
    assert not found.ended and all(chunk.sealed for chunk in found.log.chunks)
    assert (found.log.next_seq, found.log.head) == (log.next_seq, log.head)
    assert fold.verify(replay.MATCH, found.log).state == replay.final_state(log)
    with pytest.raises(BadInput, match="not finished"):
        portable.to_store(replay.MATCH, found)


def test_segments_of_an_earlier_version_stay_as_they_are() -> None:
    chunks = []
    for chunk in LOG.chunks:
        part = segment.decode(chunk.data)
        data = segments_v1.seal(part.entries, part.head_before or b"", part.keyframe or b"", part.end_hash)
        chunks.append(msgspec.structs.replace(chunk, data=data))
    old = msgspec.structs.replace(LOG, chunks=chunks)
    assert read(written(old)).log == old


def test_a_log_that_does_not_verify_is_not_written() -> None:
    stream = io.BytesIO()
    with pytest.raises(Corrupt):
        portable.write(stream, HEADER, replay.MATCH, msgspec.structs.replace(LOG, chunks=LOG.chunks[:-1]))
    assert stream.getvalue() == b""


def test_every_flipped_byte_is_seen() -> None:
    for place in range(len(FILE)):
        with pytest.raises(BadInput if place < 9 else Corrupt):
            read(FILE[:place] + bytes([FILE[place] ^ 0x20]) + FILE[place + 1 :])


def test_every_cut_and_every_byte_more_is_seen() -> None:
    for length in range(len(FILE)):
        with pytest.raises(GarrisonError):
            read(FILE[:length])
    with pytest.raises(Corrupt, match="more bytes"):
        read(FILE + b"\0")


# ---- forgeries: whoever changes the file makes every checksum anew ----------------------------


def records(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 9
    while at < len(data):
        length = int.from_bytes(data[at + 1 : at + 5], "big")
        found.append((data[at : at + 1], data[at + 5 : at + 5 + length]))
        at += 9 + length
    return found


def assembled(parts: list[tuple[bytes, bytes]], end: dict[str, Any] | None = None) -> bytes:
    data = FILE[:9]
    for kind, body in parts:
        told = body
        if kind == b"E" and end is not None:
            fields = {**msgspec.structs.asdict(msgspec.msgpack.decode(body, type=PortableEnd)), **end}
            fields["file_hash"] = blake2b(data, digest_size=16).digest()
            told = msgspec.msgpack.encode(PortableEnd(**fields))
        front = kind + len(told).to_bytes(4, "big") + told
        data += front + crc32(front).to_bytes(4, "big")
    return data


def test_a_file_can_be_put_together_again() -> None:
    assert assembled(records(FILE), {}) == FILE


def test_a_changed_event_breaks_the_chain_at_its_number() -> None:
    """One kill has another killer; everything after it was left as it is."""
    parts = records(FILE)
    part = segment.decode(parts[2][1])
    entries = [*part.entries]
    entries[5] = Entry(entries[5].seq, entries[5].time_ms, entries[5].data.replace(b"p0", b"p2"))
    forged = segment.seal(entries, part.head_before or b"", part.keyframe or b"", part.end_hash)
    with pytest.raises(Corrupt, match="segment at event 33: event 33: running hash before it"):
        read(assembled([*parts[:2], (b"S", forged), *parts[3:]], {}))


def test_segments_in_another_order_or_missing_are_named() -> None:
    head, first, second, *rest = records(FILE)
    with pytest.raises(Corrupt, match="segment at event 1: events 1 to 16 are missing, or come twice"):
        read(assembled([head, second, first, *rest], {}))
    with pytest.raises(Corrupt, match="segment at event 17: events 17 to 32 are missing"):
        read(assembled([head, first, *rest], {}))
    with pytest.raises(Corrupt, match="segment at event 17: events 17 to 0 are missing, or come twice"):
        read(assembled([head, first, first, second, *rest], {}))
    with pytest.raises(Corrupt, match="the log ends at event"):
        read(assembled([head, first, second, rest[-1]], {}))
    with pytest.raises(Corrupt, match="the log ends at event"):
        read(assembled([head, first, second, *rest], {"head": b"x" * 16}))
    with pytest.raises(Corrupt, match="no event of the log is there"):
        read(assembled([head, rest[-1]], {}))


def test_another_header_is_seen() -> None:
    """The hash of the file covers it: a match cannot be passed off under another name."""
    other = msgspec.msgpack.encode(msgspec.structs.replace(HEADER, key="ranked-43"))
    with pytest.raises(Corrupt, match="the hash of the file"):
        read(assembled([(b"H", other), *records(FILE)[1:]]))


def test_files_of_other_forms_are_refused() -> None:
    parts = records(FILE)
    for data, error, why in (
        (b'{"time_ms": 57801}', BadInput, "not a .garrison file"),
        (FILE[:8] + b"\x02" + FILE[9:], BadInput, "of version 2; this program reads versions up to 1"),
        (assembled(parts[1:]), Corrupt, "header: it is missing"),
        (assembled([(b"H", b"\xc1"), *parts[1:]]), Corrupt, "header: "),
        (assembled([(b"H", msgspec.msgpack.encode(["match", "../x"])), *parts[1:]]), Corrupt, "header: "),
        (assembled([*parts[:-1], (b"X", b"")]), Corrupt, "a record of an unknown kind"),
        (assembled([*parts[:-1], (b"E", b"\x90")]), Corrupt, "end: "),
        (assembled([parts[0], (b"S", b"GSeg"), *parts[1:]]), Corrupt, "header"),
    ):
        with pytest.raises(error, match=why):
            read(data)
    with pytest.raises(BadInput, match="the log of a party, not of a match"):
        portable.to_store(replay.MATCH, read(written(LOG, PortableHeader("party", "p"))))


@pytest.mark.parametrize(
    "data",
    [
        FILE[:9] + b"H\xff\xff\xff\xff",
        FILE[:9] + b"H\x00\x00\xff\xff",
        assembled([records(FILE)[0], (b"S", b"GSeg\x02\xff\xff\xff\xff")]),
        assembled([records(FILE)[0]])[:-4] + b"S\x7f\xff\xff\xff",
    ],
)
def test_hostile_lengths_take_no_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(GarrisonError):
            read(data)
        assert tracemalloc.get_traced_memory()[1] < 2 * 1024 * 1024
    finally:
        tracemalloc.stop()


@settings(max_examples=300)
@given(st.data())
def test_changed_files_raise_typed_errors_only(data: st.DataObject) -> None:
    """Records cut, repeated, swapped or filled with other bytes, every checksum right."""
    parts = records(FILE)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(parts) - 1))
        kind, body = parts[place]
        match data.draw(st.sampled_from(["drop", "twice", "byte", "bytes", "cut"])):
            case "drop":
                parts = parts[:place] + parts[place + 1 :] or parts
            case "twice":
                parts = [*parts[: place + 1], *parts[place:]]
            case "byte" if body:
                at = data.draw(st.integers(0, len(body) - 1))
                parts[place] = (kind, body[:at] + bytes([body[at] ^ data.draw(st.integers(1, 255))]) + body[at + 1 :])
            case "bytes":
                parts[place] = (kind, data.draw(st.binary(max_size=100)))
            case _:
                parts[place] = (kind, body[: data.draw(st.integers(0, len(body)))])
    try:
        found = read(assembled(parts))
    except (BadInput, Corrupt):
        return
    assert found.log == LOG and found.header == HEADER


def test_a_header_says_what_lists_need() -> None:
    header = header_of("ranked-42", replay.final_state(LOG))
    assert (header.kind, header.key, header.rules) == ("match", "ranked-42", 1)
    assert header.metadata["mode"] == "slayer" and header.metadata["players"] == "4"
