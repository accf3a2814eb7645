"""Chunks of an event log: round trips, and every damaged byte named by where it is."""

import lzma
import tracemalloc
from binascii import crc32
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import Corrupt
from server.eventlog import columns, framing, segment
from server.eventlog.entry import NO_HEAD, Entry, next_head, state_hash
from tests.support import segments_v1
from tests.support.segments_v1 import framed


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


SEALS = pytest.mark.parametrize("seal", [segment.seal, segments_v1.seal], ids=["v2", "v1"])


@SEALS
@given(entry_lists, st.sampled_from([NO_HEAD, b"h" * 16]), st.sampled_from([None, b"e" * 16]))
def test_segment_round_trip(seal: Any, entries: list[Entry], head: bytes, end_hash: bytes | None) -> None:
    decoded = segment.decode(seal(entries, head, STATE, end_hash))
    assert decoded.sealed and decoded.entries == entries
    assert decoded.head_before == head and decoded.end_hash == end_hash
    for entry in entries:
        head = next_head(head, entry)
    assert decoded.head_after == head
    assert decoded.keyframe is not None and decoded.keyframe_hash == state_hash(STATE)
    assert msgspec.msgpack.decode(decoded.keyframe, type=Small) == STATE


def logged(count: int) -> list[Entry]:
    """Entries as actors log them."""
    events = [("kill", 40 * n, f"spartan-{n % 8}", f"spartan-{n % 7 + 8}") for n in range(count)]
    medals = [("medal", 40 * n, f"spartan-{n % 8}", "No Scope") for n in range(count)]
    rows = [medals[n] if n % 3 == 0 else events[n] for n in range(count)]
    return [
        Entry(n + 1, row[1], msgspec.msgpack.encode((row, "host/report/ab" if n % 2 else None, n // 2)))
        for n, row in enumerate(rows)
    ]


def test_a_segment_is_a_tenth_of_its_entries() -> None:
    entries = logged(512)
    assert len(segment.seal(entries, NO_HEAD, STATE)) < 0.1 * sum(len(entry.data) + 8 for entry in entries)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
shapes = st.tuples(st.sampled_from(["kill", "medal", ""]), st.integers(0, 2**40)) | st.tuples(
    st.just("odd"), values, values
)
datas = st.tuples(shapes, st.none() | st.text(max_size=5), st.integers(0, 2**63)).map(msgspec.msgpack.encode)


@given(st.lists(st.tuples(st.integers(0, 2**60), datas | st.binary(max_size=20)), min_size=1, max_size=30))
def test_entries_come_back_from_columns_byte_for_byte(made: list[tuple[int, bytes]]) -> None:
    entries = [Entry(7 + n, time_ms, data) for n, (time_ms, data) in enumerate(made)]
    assert segment.decode(segment.seal(entries, NO_HEAD, STATE)).entries == entries


@pytest.mark.parametrize(
    "data",
    [
        b"\x93\x91\xa1a\xc0\xcd\x00\x01",  # a 1 in two bytes
        b"\x93\x91\xa1a\xd9\x01x\x01",  # a short text with a length byte
        b"\x93\x92\xa1a\xca\x3f\x80\x00\x00\xc0\x01",  # a float of four bytes
        b"\x93\x91\xa1a\xc0\x01\x00",  # a byte too many
        b"\x92\x91\xa1a\xc0",
        b"\x93\xa1a\xc0\x01",
        b"\x93\x90\xc0\x01",
        msgspec.msgpack.encode((["many", *range(100)], None, 0)),
        b"",
    ],
)
def test_entries_in_another_form_are_kept_as_they_are(data: bytes) -> None:
    entries = [*logged(3), Entry(4, 120, data), *(Entry(5 + n, 200, entry.data) for n, entry in enumerate(logged(2)))]
    assert segment.decode(segment.seal(entries, NO_HEAD, STATE)).entries == entries


def test_more_shapes_than_a_byte_can_name() -> None:
    entries = [Entry(n + 1, 5, msgspec.msgpack.encode(((f"e{n % 400}", 5), None, n))) for n in range(800)]
    assert segment.decode(segment.seal(entries, NO_HEAD, STATE)).entries == entries


def flipped(data: bytes, place: int, bit: int = 0) -> bytes:
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def spans(data: bytes) -> tuple[int, int]:
    """Where the header (with its checksum) ends, and the length of all."""
    return 9 + int.from_bytes(data[5:9], "big") + 4, len(data)


@SEALS
@pytest.mark.parametrize("bit", [0, 3, 7])
def test_every_flipped_byte_of_a_segment_is_named(seal: Any, bit: int) -> None:
    data = seal(entries_from(257, 12), b"h" * 16, STATE, b"e" * 16)
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
    events = [f"event {seq}" for seq in range(257, 269)]
    assert in_order == ["header", "keyframe", *(["events 257 to 268"] if seal is segment.seal else [*events, "end"])]


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
    data = segments_v1.seal(entries, NO_HEAD, STATE)
    clean = segment.decode(data)
    assert clean.last_seq == 276
    front, _ = spans(data)
    messages = set()
    for place in range(front, len(data)):
        with pytest.raises(Corrupt) as caught:
            segment.decode(flipped(data, place))
        messages.add(caught.value.message)
    assert "segment at event 257: event 263: checksum does not match" in messages
    data = segment.seal(entries, NO_HEAD, STATE)
    with pytest.raises(Corrupt, match="segment at event 257: events 257 to 276: checksum does not match"):
        segment.decode(flipped(data, len(data) - 1))


@pytest.mark.parametrize(("seq", "named"), [(1, "1 to 16"), (16, "1 to 16"), (17, "17 to 32"), (50, "49 to 50")])
def test_a_broken_chain_is_named_by_its_events(seq: int, named: str) -> None:
    """Somebody has changed an event and made every checksum anew; the hashes before and after stayed."""
    entries = logged(50)
    forged = [*entries]
    forged[seq - 1] = Entry(seq, entries[seq - 1].time_ms, entries[seq - 2].data + b"!")
    true, false = segment.seal(entries, NO_HEAD, STATE), segment.seal(forged, NO_HEAD, STATE)
    hashes = slice(9 + 1 + 1 + 1 + 2 + 1, 9 + 1 + 1 + 1 + 2 + 1 + 1 + 17 + 17 + 1 + 6)  # of head before to the marks
    header = bytearray(false[9 : spans(false)[0] - 4])
    header[hashes.start - 9 : hashes.stop - 9] = true[hashes]
    with pytest.raises(Corrupt, match=f"segment at event 1: the hash chain breaks at events {named}$"):
        segment.decode(framed(b"GSeg", bytes(header), false[spans(false)[0] :], version=2))


@settings(max_examples=200)
@given(entry_lists, st.sampled_from([segment.seal, segments_v1.seal, None]), st.data())
def test_any_change_of_any_byte_is_seen(entries: list[Entry], seal: Any, data: st.DataObject) -> None:
    chunk = seal(entries, NO_HEAD, STATE) if seal else segment.encode_open(entries)
    place = data.draw(st.integers(0, len(chunk) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda byte: byte != chunk[place]))
    with pytest.raises(
        Corrupt, match=rf"at event {entries[0].seq}: (header|keyframe|events \d+ to \d+|event \d+|end): "
    ):
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


def varint(number: int) -> bytes:
    out = bytearray()
    framing.put(out, number)
    return bytes(out)


KEYFRAME = msgspec.msgpack.encode(STATE, order="deterministic")
HASHES = b"\x00" + b"\x10" + b"h" * 16 + b"\x10" + framing.digest_of(KEYFRAME) + b"\x00"


def bomb_v1(raw_bytes: int) -> bytes:
    """A segment of one event whose few stored bytes say, and hold, `raw_bytes` of them."""
    parts = segments_v1.compress([KEYFRAME, bytes(min(raw_bytes, segment.MAX_RAW_BYTES - 1024)), b""])
    sizes = zip(parts, [len(KEYFRAME), raw_bytes, 0], strict=True)
    index = b"".join(varint(len(part)) + varint(size) + crc32(part).to_bytes(4, "big") for part, size in sizes)
    return framed(b"GSeg", b"\x01\x01\x00\x00\x00" + HASHES + index, b"".join(parts))


def v2(events: bytes, raw_bytes: int, count: int = 1) -> bytes:
    """A segment whose events are these stored bytes."""
    parts = [b"\x01" + lzma.compress(KEYFRAME, format=lzma.FORMAT_RAW, filters=segment._FILTERS), events]
    sizes = zip(parts, [len(KEYFRAME), raw_bytes], strict=True)
    index = b"".join(varint(size) + varint(len(part)) + crc32(part).to_bytes(4, "big") for part, size in sizes)
    marks = bytes(2 * (count // 16))
    return framed(b"GSeg", b"\x01" + varint(count) + b"\x00\x00\x00" + HASHES + marks + index, b"".join(parts), 2)


def bomb(raw_bytes: int, zstd: bool = True) -> bytes:
    raw = bytes(min(raw_bytes, segment.MAX_RAW_BYTES))
    if zstd:
        return v2(b"\x00" + zstandard.ZstdCompressor().compress(raw), raw_bytes)
    return v2(b"\x01" + lzma.compress(raw, format=lzma.FORMAT_RAW, filters=segment._FILTERS), raw_bytes)


def columns_of(packed: Any, count: int = 1) -> bytes:
    raw = msgspec.msgpack.encode(packed)
    return v2(b"\x00" + zstandard.ZstdCompressor().compress(raw), len(raw), count)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GSeg",
        framed(b"GSeg", b""),
        framed(b"GSeg", b"", version=2),
        framed(b"GSeg", varint(1) + varint(2**62)),
        framed(b"GLog", varint(1) + varint(131_072)),
        framed(b"GLog", varint(1) + varint(1) + varint(2**62) + b"0000"),
        framed(b"GLog", b"\xff" * 40),
        framed(b"GLog", varint(0) + varint(1)),
        framed(b"GSeg", varint(1) + varint(1) + b"\x00\x00\x00\xff"),
        bomb_v1(2**40),
        bomb_v1(2**60),
        bomb(2**40),
        bomb(2**20, zstd=False),
        v2(b"", 0),
        v2(b"\x02abc", 3),
        v2(b"\x00abc", 3),
        v2(b"\x01abc", 3),
        v2(b"\x00" + zstandard.ZstdCompressor().compress(b"\xdd\xff\xff\xff\xff"), 5),
        columns_of([b"", b"\x01", [], b"\x01", b"\x01", [], []]),
        columns_of([b"\x00", b"\x01\x00", [], b"\x01\x00", b"\x01\x00", [], []]),
        columns_of([b"\xff", b"\x01\x00", [], b"\x01\x00", b"\x01\x00", [], []]),
        columns_of([b"\x00", b"\x08" + b"\xff" * 8, [], b"\x01\x00", b"\x01\x00", [["a", [], []]], []]),
        columns_of([b"\x00", b"\x01\x00", [], b"\x01\x01", b"\x01\x00", [["a", [], []]], []]),
        columns_of([b"\x00", b"\x01\x00", [], b"\x01\xff", b"\x01\x00", [["a", [], []]], []]),
        columns_of([b"\x00", b"\x03\x00", [], b"\x01\x00", b"\x01\x00", [["a", [], []]], []]),
        columns_of([b"\x00", b"\x01\x00", [], b"\x01\x00", b"\x01\x00", [["a", [9], [b""]]], []]),
        columns_of([b"\x00", b"\x01\x00", [], b"\x01\x00", b"\x01\x00", [["a", [1], [b""]]], []]),
        columns_of([b"\x00", b"\x01\x00", [], b"\x01\x00", b"\x01\x00", [["a", [3], [b"\xdd\x7f\xff\xff\xff"]]], []]),
        columns_of([b"\x00", b"\x01\x00", [], b"\x01\x00", b"\x01\x00", [["a", [2], []]], []]),
        columns_of([b"\x00" * 131_072, b"\x01\x00", [], b"", b"", [], []], 131_072),
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
    small = bytearray(bomb_v1(1024 * 1024))
    front = spans(bytes(small))[0]
    header = bytes(small[9 : front - 4])
    lying = header.replace(varint(1024 * 1024), varint(16))
    assert lying != header
    with pytest.raises(Corrupt, match=r"end: "):
        segment.decode(framed(b"GSeg", lying, bytes(small[front:])))
    for zstd in (True, False):
        data = bomb(1024, zstd)
        front = spans(data)[0]
        lying = data[9 : front - 4].replace(varint(1024), varint(16))
        with pytest.raises(Corrupt, match="events 1 to 1: holds more bytes instead of 16"):
            segment.decode(framed(b"GSeg", lying, data[front:], 2))


@settings(max_examples=300)
@given(st.sampled_from([b"GSeg", b"GLog", b""]), st.binary(max_size=80), st.binary(max_size=80))
def test_arbitrary_bytes_raise_corrupt(magic: bytes, header: bytes, rest: bytes) -> None:
    for data in (magic + header + rest, framed(magic, header, rest), framed(magic, header, rest, 2)):
        with pytest.raises(Corrupt):
            segment.decode(data)


@settings(max_examples=300)
@given(st.binary(max_size=200), st.integers(1, 20))
def test_arbitrary_columns_raise_corrupt(packed: bytes, count: int) -> None:
    with pytest.raises(Corrupt):
        columns.unpack(packed, 1, count)


@settings(max_examples=200)
@given(st.data())
def test_columns_with_a_byte_changed_are_other_entries_or_corrupt(data: st.DataObject) -> None:
    """Below the checksums, for who forges them: never another error than `Corrupt`."""
    entries = logged(20)
    steps = columns.packing(entries, 100)
    try:
        while True:
            next(steps)
    except StopIteration as done:
        packed = bytearray(done.value)
    packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        columns.unpack(bytes(packed), 1, 20)
    except Corrupt:
        return


def test_a_segments_place_is_read_without_its_events() -> None:
    entries = entries_from(257, 12)
    data = segment.seal(entries, NO_HEAD, STATE)
    assert segment.span(data[: spans(data)[0]]) == segment.Span(257, 268, 1000, 1440)
    for bad in (b"", data[:20], segment.encode_open(entries), flipped(data, 10)):
        with pytest.raises(Corrupt):
            segment.span(bad)
