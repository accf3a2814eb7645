"""Each checker of ownership against a sound audit, which it must pass, and planted faults."""

from itertools import pairwise
from typing import Any

import pytest
from msgspec import msgpack

from game.messages import Created, Kill, MatchOptions, Started
from game.player.state import PlayerState
from server.eventlog import segment
from server.eventlog.entry import NO_HEAD, Entry, next_head
from server.eventlog.ports import Chunk, Recorder
from server.ids import Incarnation, NodeAddress, NodeId
from server.storage.memory import EntityRow
from tests.sim import ownership
from tests.sim.history import Audit, Deleted, Judged, Released, Row, Wrote

N1, N2 = (NodeAddress(NodeId(name), Incarnation(number)) for name, number in (("n1", 1), ("n2", 2)))
ID = "player/a"
NEW = Row(1, N1, 0, 0, 1, b"", None)
FLUSHED = Row(1, N1, 1, 3, 1, b"", b"three")
TAKEN = Row(2, N2, 1, 3, 1, b"", b"three")
LATER = Row(2, N2, 2, 7, 1, b"", b"seven")


def _wrote(statement: str, before: Row | None, after: Row, **fields: Any) -> Wrote:
    known: dict[str, Any] = {"at": 1.0, "node": "n1", "id": ID, "epoch": None, "to_state": "up"} | fields
    return Wrote(statement=statement, before=before, after=after, **known)


def _deleted(before: Row, **fields: Any) -> Deleted:
    return Deleted(at=1.0, node="n1", id=ID, before=before, **fields)


def _released(epoch: int, version: int) -> Released:
    return Released(at=1.0, node="n1.1", id=ID, epoch=epoch, version=version)


def _sound() -> Audit:
    return [
        _wrote("claim", None, NEW),
        _released(1, 3),
        _wrote("write", NEW, FLUSHED, epoch=1, owner_state="up"),
        _released(1, 4),
        _wrote("claim", FLUSHED, TAKEN, owner_state="dead"),
        _released(1, 3),
        _released(2, 7),
        _wrote("write", TAKEN, LATER, epoch=2, owner_state="up"),
        _wrote("release", LATER, LATER._replace(owner=None), epoch=2, to_state=""),
    ]


def _all(audit: Audit) -> list[str]:
    return [
        *ownership.one_writer(audit),
        *ownership.taken_from_the_dead_only(audit),
        *ownership.released_by_the_owner(audit),
        *ownership.claims_bounded(audit, 0, 9),
    ]


def test_a_sound_audit_passes() -> None:
    assert _all(_sound()) == []


@pytest.mark.parametrize(
    "fault",
    [
        _wrote("write", LATER, LATER._replace(state_version=9, state=b"nine"), epoch=1),
        _wrote("write", LATER, LATER._replace(state_epoch=1), epoch=2),
        _wrote("write", LATER, LATER._replace(state_version=6, state=b"six"), epoch=2),
        _wrote("release", LATER, LATER._replace(epoch=0, owner=None), epoch=2),
        _wrote("claim", LATER, LATER._replace(owner=N1)),
        _wrote("append", LATER, LATER._replace(next_seq=9), epoch=1),
        _wrote("migrate", LATER, LATER._replace(epoch=3, owner=N1), epoch=1),
    ],
    ids=["old epoch", "epoch goes back", "version goes back", "reset", "two owners", "old log", "old migration"],
)
def test_catches_a_second_writer(fault: Wrote) -> None:
    assert ownership.one_writer([*_sound(), fault])


@pytest.mark.parametrize(
    "fault",
    [
        _wrote("claim", FLUSHED, TAKEN, owner_state="up"),
        _wrote("claim", FLUSHED, TAKEN, owner_state="evicting"),
        _wrote("claim", FLUSHED, TAKEN, owner_state="dead", to_state="dead"),
        _wrote("claim", None, NEW, to_state="evicting"),
        _wrote("migrate", FLUSHED, TAKEN, epoch=1, owner_state="up", to_state="evicting"),
    ],
)
def test_catches_a_claim_that_steals(fault: Wrote) -> None:
    assert ownership.taken_from_the_dead_only([fault])


GONE = LATER._replace(owner=None)


@pytest.mark.parametrize("fault", [_deleted(LATER, owner_state="up"), _deleted(GONE, is_spared=True)])
def test_catches_a_deletion_of_what_somebody_needs(fault: Deleted) -> None:
    assert ownership.deleted_when_over([fault])
    assert not ownership.deleted_when_over([_deleted(GONE)])


@pytest.mark.parametrize("epoch", [1, 2])
def test_catches_an_epoch_of_a_deleted_row_that_is_given_out_again(epoch: int) -> None:
    new = _wrote("claim", None, NEW._replace(epoch=epoch))
    assert ownership.one_writer([*_sound(), _deleted(GONE), new])
    assert not ownership.one_writer([*_sound(), _deleted(GONE), _wrote("claim", None, NEW._replace(epoch=3))])


def test_catches_a_release_after_ownership_is_lost() -> None:
    assert ownership.released_by_the_owner([*_sound(), _released(1, 4)])
    assert not ownership.released_by_the_owner([*_sound(), _released(1, 3)])  # stored before it was taken


def _judged(**fields: Any) -> Judged:
    known: dict[str, Any] = {
        "at": 1.0, "node": "n1", "statement": "bury_expired", "about": N2, "before": "up", "after": "dead",
        "left_s": -0.1, "side": [], "live": [N1], "steady_s": 9.0, "alive": True,
    }  # fmt: skip
    return Judged(**known | fields)


@pytest.mark.parametrize(
    ("fields", "sound"),
    [
        ({}, True),
        ({"left_s": 0.1}, False),
        ({"left_s": 0.1, "statement": "bury", "alive": False}, True),
        ({"left_s": 0.1, "statement": "bury"}, False),
        ({"left_s": 0.1, "statement": "register_node"}, False),
        ({"steady_s": 1.0}, False),
        ({"before": "dead", "after": "up"}, False),
        ({"before": "left", "after": "up"}, False),
        ({"statement": "evict", "after": "evicting", "live": [N1, N2], "side": [N1]}, True),
        ({"statement": "evict", "after": "evicting", "live": [N1, N2], "side": [N2]}, False),
        ({"statement": "evict", "after": "evicting", "live": [N1, N2], "side": []}, False),
    ],
)
def test_catches_a_judgement_that_is_not_due(fields: dict[str, Any], sound: bool) -> None:
    assert (ownership.judged_rightly([_judged(**fields)], 2.0) == []) == sound


def test_catches_a_run_that_begins_twice() -> None:
    begins = _judged(before="", after="up", statement="register_node")
    assert not ownership.judged_rightly([begins], 2.0)
    assert ownership.judged_rightly([begins, begins], 2.0)


def test_catches_ownership_that_goes_round() -> None:
    rows = [FLUSHED._replace(epoch=epoch) for epoch in range(1, 13)]
    audit: Audit = [_wrote("claim", before, after) for before, after in pairwise(rows)]
    assert ownership.claims_bounded(audit, 0, 9)
    assert not ownership.claims_bounded(audit, 2, 9)


# ---- logs and results --------------------------------------------------------------------------

EVENTS = [Created(0, "h", MatchOptions(mode="recorded"), 1), Started(0, 1), Kill(5, "a", "b")]


def _match(*events: Any) -> EntityRow:
    entries = [
        Entry(seq, event.time_ms, b"\x93" + b"".join(msgpack.encode(part) for part in (event, None, 0)))
        for seq, event in enumerate(events, 1)
    ]
    head = NO_HEAD
    for entry in entries:
        head = next_head(head, entry)
    return EntityRow(
        epoch=1,
        next_seq=len(events) + 1,
        head=head,
        chunks=[Chunk(1, len(events), False, segment.encode_open(entries))],
    )


def test_catches_a_log_that_does_not_replay() -> None:
    sound, other = _match(*EVENTS), _match(*EVENTS[:2], Kill(6, "a", "b"))
    assert ownership.replays({"match/m": sound}) == []
    for field, value in (("head", other.head), ("chunks", other.chunks), ("next_seq", 5)):
        broken = _match(*EVENTS)
        setattr(broken, field, value)
        assert ownership.replays({"match/m": broken})
    row = _match(*EVENTS)
    row.state_version, row.state = 3, msgpack.encode({"phase": "lobby"})
    assert ownership.replays({"match/m": row})


@pytest.mark.parametrize(("matches", "kills", "sound"), [(1, 1, True), (0, 0, False), (2, 2, False), (1, 0, False)])
def test_catches_a_result_that_is_not_counted_once(matches: int, kills: int, sound: bool) -> None:
    player = EntityRow(state=msgpack.encode(PlayerState(matches=matches, kills=kills)))
    wrong = ownership.results_once({"match/m": _match(*EVENTS), "player/a": player}, {"m": ["a"]})
    assert (wrong == []) == sound


@pytest.mark.parametrize(
    ("recorded", "sound"),
    [
        ({("match/m", 1): ["n1"], ("match/m", 2): ["n1"], ("match/m", 3): ["n2"]}, True),
        ({("match/m", 2): ["n2"]}, False),
        ({("match/m", 3): ["n2", "n2"]}, False),
        ({("match/m", 3): ["n1", "n2"]}, False),
    ],
)
def test_catches_an_event_that_two_nodes_would_report(recorded: dict[tuple[str, int], list[str]], sound: bool) -> None:
    row = _match(*EVENTS)
    row.recorders = {1: Recorder(N1, 5), 3: Recorder(N2, 6)}
    assert (ownership.recorded_once([], {"match/m": row}, recorded) == []) == sound
    assert ownership.recorded_once([_deleted(FLUSHED)], {"match/m": _match(*EVENTS)}, recorded)
