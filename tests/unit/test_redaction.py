"""Redaction of logs: the person is gone from every byte, all else is as it was, and the log verifies and says so."""

import io
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from game import replay
from game.commands.export import header_of
from game.match import endings
from game.match.results import result_facts
from game.messages import Kill
from game.people.names import plain, renaming
from server.errors import Corrupt, Unavailable
from server.eventlog import portable, segment
from server.eventlog.ports import Chunk, Redaction, StoredLog, WholeLog
from server.eventlog.redaction import is_made_up, made_up, redacted
from server.ids import actor_id
from tests.support.matches import Played
from tests.support.persons import ANN, played

CUP = actor_id("match", "cup")
SECRET = b"of this erasure"
NOBODY = made_up(SECRET, CUP)


def taken_out(log: StoredLog, name: str = ANN, wall_ms: int = 7) -> WholeLog:
    after = redacted(replay.MATCH, log, renaming(name, NOBODY), wall_ms)
    assert after is not None
    return after


def as_stored(log: WholeLog) -> StoredLog:
    return StoredLog(log.last_seq + 1, log.head, log.segments, log.redactions)


def everything(log: StoredLog) -> list[Any]:
    """All that is in a log: events, keyframes, and what they were caused by, without hashes."""
    found: list[Any] = []
    for chunk in log.chunks:
        part = segment.decode(chunk.data, chunk.first_seq)
        if part.keyframe is not None:
            found.append(msgspec.msgpack.decode(part.keyframe))
        found += [msgspec.msgpack.decode(entry.data) for entry in part.entries]
    return found


def without(value: Any) -> Any:
    """The same with the made-up key in the place of ann, by hand."""
    match value:
        case dict():
            return {without(key): without(inner) for key, inner in value.items()}
        case list():
            return [without(inner) for inner in value]
        case str():
            other = value.replace("joann", "J").replace("ann2", "A").replace("Annabel", "ann")
            return other.replace("ann", NOBODY).replace("J", "joann").replace("A", "ann2")
    return value


@pytest.mark.parametrize(("segments", "opens"), [(8, 5), (64, 3), (3, 2)])
def test_redacted_log_is_the_same_with_another_key(segments: int, opens: int) -> None:
    match = played()
    log = match.stored(segments, opens)
    after = as_stored(taken_out(log))
    assert everything(after) == without(everything(log))
    assert [chunk.first_seq for chunk in after.chunks] == [chunk.first_seq for chunk in log.chunks]
    verified = replay.verify(after)
    assert verified.state.players[NOBODY] == replace(match.state.players[ANN], name=NOBODY)
    assert verified.end_hash
    assert verified.head != log.head.hex()
    assert after.redactions == (Redaction(7, log.head, 11),)


def test_events_that_name_nobody_keep_their_bytes() -> None:
    log = played().stored(8)
    before = [entry for chunk in log.chunks for entry in segment.decode(chunk.data).entries]
    after = [entry for chunk in taken_out(log).segments for entry in segment.decode(chunk.data).entries]
    changed = [old for old, new in zip(before, after, strict=True) if old != new]
    assert {old.seq for old in changed} == {
        old.seq for old in before if b"ann" in old.data.replace(b"joann", b"").replace(b"ann2", b"")
    }


def test_log_is_redacted_of_several_people_one_after_the_other() -> None:
    log = played().stored(8)
    first = as_stored(taken_out(log))
    other = made_up(b"another secret", CUP)
    second = redacted(replay.MATCH, first, renaming("bob", other), 9)
    assert second is not None
    assert [mark.head for mark in second.redactions] == [log.head, first.head]
    assert {NOBODY, other} < set(replay.verify(as_stored(second)).state.players)
    assert redacted(replay.MATCH, as_stored(second), renaming(ANN, NOBODY), 9) is None


def test_damage_is_not_made_good() -> None:
    log = played().stored(8)
    broken = bytearray(log.chunks[1].data)
    broken[-5] ^= 1
    chunks = [*log.chunks[:1], replace(log.chunks[1], data=bytes(broken)), *log.chunks[2:]]
    with pytest.raises(Corrupt):
        taken_out(replace(log, chunks=chunks))


def test_match_that_is_not_over_is_left_alone() -> None:
    match = Played().live(2).report(Kill(5, "p0", "p1"))
    with pytest.raises(Unavailable):
        taken_out(match.stored(4), "p0")


def test_erased_player_has_no_career() -> None:
    state = taken_out(played().stored(8)).projection
    assert is_made_up(NOBODY)
    assert not any(is_made_up(key) for key in (ANN, "erased-", "erased-1", NOBODY + "0"))
    assert NOBODY not in endings.with_career(state)
    assert {"bob", "ann2", "joann"} == set(endings.with_career(state))
    assert not any(NOBODY in fact.name.to for fact in result_facts("cup", state))


def test_made_up_key_is_stable_in_a_log_and_another_one_in_the_next() -> None:
    assert made_up(SECRET, CUP) == NOBODY
    assert len({NOBODY, made_up(SECRET, actor_id("match", "other")), made_up(b"x", CUP)}) == 3
    assert actor_id("player", NOBODY)


def test_file_of_a_redacted_log_says_so_and_an_older_one_is_what_it_was(tmp_path: Path) -> None:
    match = played()
    log = match.stored(8)
    before, after = io.BytesIO(), io.BytesIO()
    portable.write(before, header_of("cup", match.state), replay.MATCH, log)
    redacted_log = taken_out(log)
    portable.write(after, header_of("cup", redacted_log.projection), replay.MATCH, as_stored(redacted_log))
    before.seek(0)
    after.seek(0)
    old, new = portable.read(before), portable.read(after)
    assert (old.log.redactions, old.log.head) == ((), log.head)
    assert new.log.redactions == redacted_log.redactions
    assert new.log.redactions[0].head == old.log.head
    assert portable.to_store(replay.MATCH, new) == redacted_log
    assert ANN.encode() not in after.getvalue()


def test_plain_event_has_its_fields_and_its_kind() -> None:
    assert plain(Kill(5, "p0", None)) == {"kind": "kill", "time_ms": 5, "player": "p0", "victim": None}


def test_chunks_stay_whole() -> None:
    assert all(isinstance(chunk, Chunk) and chunk.sealed for chunk in taken_out(played().stored(8)).segments)
