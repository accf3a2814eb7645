"""Event logs of commit 7cd968a as bytes, sealed and open, read and replayed by the program of today.

Seen to fail, while they were made, and kept as tests below: a byte turned in a header, a keyframe, an entry and
the end, a chunk taken away, another end of the log.
"""

from typing import Any

import msgspec
import pytest

from tests.golden import faces, shelf
from tests.golden.app import Tally

MATCHES = ("match/m-ended", "match/m-recorded", "match/m-live")
TALLIES = {"tally/t-open": 200, "tally/t-done": 1_000}


def stored(name: str) -> faces.StoredLog:
    log = shelf.expected("sqlite")["logs"][name]["log"]
    chunks = [
        faces.Chunk(row["first_seq"], row["last_seq"], row["sealed"], bytes.fromhex(row["data"]))
        for row in log["chunks"]
    ]
    return faces.StoredLog(log["next_seq"], bytes.fromhex(log["head"]), chunks)


def planted(log: faces.StoredLog, number: int, place: int, bit: int = 0x01) -> faces.StoredLog:
    """With one bit of one chunk turned."""
    chunk = log.chunks[number]
    data = bytearray(chunk.data)
    data[place] ^= bit
    chunks = [*log.chunks]
    chunks[number] = msgspec.structs.replace(chunk, data=bytes(data))
    return msgspec.structs.replace(log, chunks=chunks)


@pytest.mark.parametrize("name", MATCHES)
def test_a_match_verifies_to_the_state_of_then(name: str) -> None:
    then = shelf.expected("sqlite")["logs"][name]
    report = faces.replay.verify(stored(name))
    told = {field: value for field, value in then["report"].items() if field != "state"}
    assert {field: getattr(report, field) for field in told} == told
    assert report.end_hash == (name != "match/m-live")
    assert shelf.has(shelf.plain(report.state), then["state"])
    assert faces.state_hash(report.state).hex() == then["state_hash"]
    assert [faces.replay.feed_line(step) for step in faces.replay.steps(stored(name))][-20:] == then["feed"]


@pytest.mark.parametrize("name", TALLIES)
def test_another_kinds_log_folds_to_its_total(name: str) -> None:
    log, state, head, ended = stored(name), Tally.State(), b"", None
    decode = msgspec.msgpack.Decoder(tuple[Tally.Event, str | None, int]).decode  # type: ignore[name-defined]
    for chunk in log.chunks:
        part = faces.segment.decode(chunk.data, chunk.first_seq)
        assert (part.last_seq, part.sealed) == (chunk.last_seq, chunk.sealed)
        if part.sealed:
            assert msgspec.msgpack.decode(part.keyframe, type=Tally.State) == state
            assert (part.keyframe_hash, part.head_before) == (faces.state_hash(state), head)
        for entry in part.entries:
            event, lineage, command = decode(entry.data)
            state = Tally.evolve(state, faces.Record(entry.seq, event, lineage, command))
            head = faces.next_head(head, entry)
        ended = part.end_hash
    assert (state.total, head, log.next_seq) == (TALLIES[name], log.head, 101)
    assert ended == (faces.state_hash(state) if name == "tally/t-done" else None)


@pytest.mark.parametrize("name", MATCHES)
def test_open_chunks_are_written_as_then(name: str) -> None:
    """Entries that a node of today adds to a log of then have the form of those that are there."""
    for chunk in stored(name).chunks:
        part = faces.segment.decode(chunk.data, chunk.first_seq)
        if not chunk.sealed:
            assert faces.segment.encode_open(part.entries) == chunk.data


def test_there_are_sealed_and_open_chunks() -> None:
    kinds = {name: [chunk.sealed for chunk in stored(name).chunks] for name in (*MATCHES, *TALLIES)}
    assert kinds["match/m-recorded"] == [True] * 3
    assert kinds["match/m-live"][0] and not any(kinds["match/m-live"][1:])
    assert len(kinds["match/m-live"]) > 5


# ---- they can fail ----


@pytest.mark.parametrize(
    ("name", "number", "place"),
    [
        ("match/m-recorded", 0, 6),
        ("match/m-recorded", 0, -1),
        ("match/m-recorded", 1, 400),
        ("match/m-recorded", 1, 1_500),
        ("match/m-live", 3, 7),
        ("match/m-live", 3, -3),
    ],
)
def test_a_turned_bit_is_found(name: str, number: int, place: int) -> None:
    with pytest.raises(faces.Corrupt):
        faces.replay.verify(planted(stored(name), number, place))


@pytest.mark.parametrize("change", ["chunk", "end", "head"])
def test_a_log_that_lacks_something_is_found(change: str) -> None:
    log: Any = stored("match/m-live")
    changed = {
        "chunk": {"chunks": [*log.chunks[:2], *log.chunks[3:]]},
        "end": {"next_seq": 86},
        "head": {"head": b"0" * 16},
    }
    with pytest.raises(faces.Corrupt):
        faces.replay.verify(msgspec.structs.replace(log, **changed[change]))
