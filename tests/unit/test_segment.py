"""Chunks of an event log: round trips, and every damaged byte named by where it is."""

import tracemalloc
from binascii import crc32

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import Corrupt
from server.eventlog import segment
from server.eventlog.entry import NO_HEAD, Entry, next_head, state_hash


class Small(msgspec.Struct, frozen=True):
    total: int = 0
    names: dict[str, int] = {}


STATE = Small(7, {"b": 1, "a": 2})


def entries_from(first_seq: int, count: int) -> list[Entry]:
    return [Entry(first_seq + n, 1000 + 40 * n, b"event-%d" % (n % 7) * (1 + n % 3)) for n in range(count)]


entry_lists = st.builds(
    lambda first, rows: [Entry(first + n, time_ms, data) for n, (time_ms, data) in enumerate(rows)],
    st.integers(1, 2**40),
    st.lists(st.tuples(st.integers(0, 2**50), st.binary(max_size=200)), min_size=1, max_size=30),
)


@given(entry_lists)
def test_open_chunk_round_trip(entries: list[Entry]) -> None:
    decoded = segment.decode(segment.encode_open(entries), entries[0].seq)
    assert decoded.entries == entries
    assert not decoded.sealed and decoded.keyframe is None
    assert (decoded.first_seq, decoded.last_seq) == (entries[0].seq, entries[-1].seq)


@given(entry_lists, st.sampled_from([NO_HEAD, b"h" * 16]), st.sampled_from([None, b"e" * 16]))
def test_segment_round_trip(entries: list[Entry], head: bytes, end_hash: bytes | None) -> None:
    decoded = segment.decode(segment.seal(entries, head, STATE, end_hash))
    assert decoded.sealed and decoded.entries == entries
    assert decoded.head_before == head and decoded.end_hash == end_hash
    for entry in entries:
        head = next_head(head, entry)
    assert decoded.head_after == head
    assert decoded.keyframe is not None and decoded.keyframe_hash == state_hash(STATE)
    assert msgspec.msgpack.decode(decoded.keyframe, type=Small) == STATE


def test_a_segment_is_smaller_than_its_entries() -> None:
    entries = [Entry(n + 1, n, b'["kill",%d,"spartan-117",null]' % n) for n in range(256)]
    assert len(segment.seal(entries, NO_HEAD, STATE)) < 0.8 * sum(len(entry.data) + 8 for entry in entries)


def flipped(data: bytes, place: int, bit: int = 0) -> bytes:
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def spans(data: bytes) -> tuple[int, int]:
    """Where the header (with its checksum) ends, and the length of all."""
    return 9 + int.from_bytes(data[5:9], "big") + 4, len(data)


@pytest.mark.parametrize("bit", [0, 3, 7])
def test_every_flipped_byte_of_a_segment_is_named(bit: int) -> None:
    data = segment.seal(entries_from(257, 12), b"h" * 16, STATE, b"e" * 16)
    front, whole = spans(data)
    named = []
    for place in range(whole):
        with pytest.raises(Corrupt) as caught:
            segment.decode(flipped(data, place, bit), 257)
        assert caught.value.message.startswith("segment at event 257: "), caught.value.message
        part = caught.value.message.split(": ")[1]
        assert (part == "header") == (place < front)
        named.append(part)
    in_order = list(dict.fromkeys(named))
    assert in_order == ["header", "keyframe", *(f"event {seq}" for seq in range(257, 269)), "end"]


def test_every_flipped_byte_of_an_open_chunk_is_named() -> None:
    data = segment.encode_open(entries_from(300, 5))
    front, whole = spans(data)
    named = []
    for place in range(whole):
        with pytest.raises(Corrupt) as caught:
            segment.decode(flipped(data, place), 300)
        message = caught.value.message
        assert message.startswith(("open chunk at event 300: ", "segment at event 300: header: not a chunk")), message
        named.append(message.split(": ")[1])
        assert (named[-1] == "header") == (place < front)
    assert list(dict.fromkeys(named)) == ["header", *(f"event {seq}" for seq in range(300, 305))]


def test_a_flipped_event_reads_as_the_manual_says() -> None:
    entries = entries_from(257, 20)
    data = segment.seal(entries, NO_HEAD, STATE)
    clean = segment.decode(data)
    assert clean.last_seq == 276
    front, _ = spans(data)
    messages = set()
    for place in range(front, len(data)):
        with pytest.raises(Corrupt) as caught:
            segment.decode(flipped(data, place))
        messages.add(caught.value.message)
    assert "segment at event 257: event 263: checksum does not match" in messages


@settings(max_examples=200)
@given(entry_lists, st.booleans(), st.data())
def test_any_change_of_any_byte_is_seen(entries: list[Entry], sealed: bool, data: st.DataObject) -> None:
    chunk = segment.seal(entries, NO_HEAD, STATE) if sealed else segment.encode_open(entries)
    place = data.draw(st.integers(0, len(chunk) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda byte: byte != chunk[place]))
    with pytest.raises(Corrupt, match=rf"at event {entries[0].seq}: (header|keyframe|event \d+|end): "):
        segment.decode(chunk[:place] + bytes([value]) + chunk[place + 1 :], entries[0].seq)


@pytest.mark.parametrize("sealed", [True, False])
def test_cut_or_lengthened_chunks_are_seen(sealed: bool) -> None:
    entries = entries_from(1, 6)
    data = segment.seal(entries, NO_HEAD, STATE) if sealed else segment.encode_open(entries)
    for length in range(len(data)):
        with pytest.raises(Corrupt):
            segment.decode(data[:length])
    with pytest.raises(Corrupt, match="end: 1 bytes too many"):
        segment.decode(data + b"\0")


def test_a_chunk_in_another_place_is_seen() -> None:
    with pytest.raises(Corrupt, match="segment at event 4: header: says it holds 6 events from 1"):
        segment.decode(segment.seal(entries_from(1, 6), NO_HEAD, STATE), 4)


def test_entries_must_follow_each_other() -> None:
    one, _, three = entries_from(1, 3)
    with pytest.raises(ValueError, match="gap"):
        segment.encode_open([one, three])
    with pytest.raises(ValueError, match="1 to"):
        segment.encode_open([])


def forged(magic: bytes, header: bytes, rest: bytes = b"") -> bytes:
    """A chunk whose header checksum is right whatever it says."""
    front = magic + b"\x01" + len(header).to_bytes(4, "big") + header
    return front + crc32(front).to_bytes(4, "big") + rest


def varint(number: int) -> bytes:
    out = bytearray()
    segment._put(out, number)
    return bytes(out)


def bomb(raw_bytes: int) -> bytes:
    """A segment of one event whose few stored bytes say, and hold, `raw_bytes` of them."""
    keyframe = msgspec.msgpack.encode(STATE, order="deterministic")
    parts = segment._compress([keyframe, bytes(min(raw_bytes, segment.MAX_RAW_BYTES - 1024)), b""])
    hashes = b"\x00" + b"\x10" + b"h" * 16 + b"\x10" + segment._hash(keyframe) + b"\x00"
    sizes = zip(parts, [len(keyframe), raw_bytes, 0], strict=True)
    index = b"".join(varint(len(part)) + varint(size) + crc32(part).to_bytes(4, "big") for part, size in sizes)
    return forged(b"GSeg", b"\x01\x01\x00\x00\x00" + hashes + index, b"".join(parts))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GSeg",
        forged(b"GSeg", b""),
        forged(b"GSeg", varint(1) + varint(2**62)),
        forged(b"GLog", varint(1) + varint(131_072)),
        forged(b"GLog", varint(1) + varint(1) + varint(2**62) + b"0000"),
        forged(b"GLog", b"\xff" * 40),
        forged(b"GLog", varint(0) + varint(1)),
        forged(b"GSeg", varint(1) + varint(1) + b"\x00\x00\x00\xff"),
        bomb(2**40),
        bomb(2**60),
        b"GLog\x01\xff\xff\xff\xff",
    ],
)
def test_hostile_lengths_raise_corrupt_and_take_no_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Corrupt):
            segment.decode(data)
        assert tracemalloc.get_traced_memory()[1] < 4 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_decompression_stops_at_the_stated_size() -> None:
    """Stored bytes that expand to more than the header says are refused after that much."""
    small = bytearray(bomb(1024 * 1024))
    front = spans(bytes(small))[0]
    header = bytes(small[9 : front - 4])
    lying = header.replace(varint(1024 * 1024), varint(16))
    assert lying != header
    with pytest.raises(Corrupt, match=r"end: "):
        segment.decode(forged(b"GSeg", lying, bytes(small[front:])))


@settings(max_examples=300)
@given(st.sampled_from([b"GSeg", b"GLog", b""]), st.binary(max_size=80), st.binary(max_size=80))
def test_arbitrary_bytes_raise_corrupt(magic: bytes, header: bytes, rest: bytes) -> None:
    for data in (magic + header + rest, forged(magic, header, rest)):
        with pytest.raises(Corrupt):
            segment.decode(data)
