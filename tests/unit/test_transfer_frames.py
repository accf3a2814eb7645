"""The wire form of a session, and what a node remembers of those that left it."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import BadInput, Corrupt
from server.ids import Incarnation, NodeAddress, NodeId
from server.sessions.outbox import Outbox
from server.sessions.transfer import DepartedSessions, Target, Transfer, takes_over
from server.sessions.transfer_frames import (
    INSTALLED,
    MAX_BATCH,
    REFUSED,
    Forget,
    Packed,
    Shipment,
    Want,
    Wanted,
    batches,
    decode,
    decode_places,
    decode_verdicts,
    encode,
    unpack_outbox,
)
from server.wire.messages import Going

A, B = (NodeAddress(NodeId(name), Incarnation(1)) for name in ("a", "b"))
tokens = st.text("0123456789abcdef", min_size=1, max_size=64)
keys = st.text("abcXYZ019._:@~+=-", min_size=1, max_size=64)
counts = st.integers(0, 2**40)
sessions = st.builds(
    Packed,
    tokens, st.text(min_size=1, max_size=100), keys, st.sampled_from(["player", "host", "service"]),
    st.sampled_from(["msgpack", "json"]), st.booleans(), counts, counts, counts, counts, st.lists(st.binary()),
    st.lists(st.tuples(keys.map(lambda key: f"match/{key}"), st.integers(1, 2**40)), max_size=5),
)  # fmt: skip
wanted = st.builds(Wanted, tokens, keys, st.sampled_from(["player", "host", "service"]))
messages = st.one_of(
    st.builds(Shipment, st.lists(sessions, max_size=4)),
    st.builds(Want, st.lists(wanted, max_size=4)),
    st.builds(Forget, tokens, counts, st.sampled_from(["closed", "expired"])),
)


def packed(**fields: object) -> Packed:
    whole = Packed("f" * 32, "a-1-1", "p", "player", "msgpack", False, 1, 1_000, 3, 4, [b"5", b"66"], [("match/m", 9)])
    return msgspec.structs.replace(whole, **fields)


@given(messages)
def test_a_packed_transfer_arrives_as_it_was(message: Shipment | Want | Forget) -> None:
    assert decode(encode(message)) == message


@given(st.binary() | st.tuples(messages, st.integers(0, 400)).map(lambda cut: encode(cut[0])[: cut[1]]))
def test_any_bytes_are_a_message_or_bad_input(payload: bytes) -> None:
    with contextlib.suppress(BadInput):
        decode(payload)


@pytest.mark.parametrize(
    "fields",
    [
        {"resume": ""},
        {"resume": "f" * 65},
        {"subject": "no subject"},
        {"role": "node"},
        {"format": "xml"},
        {"acked": -1},
        {"moves": -1},
        {"frames": ["text"]},
        {"topics": [("no topic", 1)]},
        {"topics": [("match/m", 0)]},
        {"topics": [("match/m", 2**53 + 1)]},
        {"beats": 2**63},
    ],
)
def test_a_session_that_cannot_be_takes_no_other_with_it(fields: dict[str, object]) -> None:
    """F8: one bad session of a shipment."""
    shipment = decode(encode(Shipment([packed(), packed(**fields), packed()])))
    assert shipment == Shipment([packed(), None, packed()])


def test_a_shipment_has_a_bound() -> None:
    assert len(decode(encode(Shipment([packed()] * MAX_BATCH))).sessions) == MAX_BATCH  # type: ignore[union-attr]
    with pytest.raises(BadInput):
        decode(encode(Shipment([packed()] * (MAX_BATCH + 1))))
    assert [len(batch) for batch in batches(range(2 * MAX_BATCH + 1))] == [MAX_BATCH, MAX_BATCH, 1]
    assert list(batches([])) == []


def test_answers_must_fit_the_question() -> None:
    assert decode_verdicts(encode([INSTALLED, REFUSED]), 2) == [INSTALLED, REFUSED]
    assert decode_places(encode(["", "a#1"]), 2) == ["", "a#1"]
    for bad in (b"", b"\xc1", encode([INSTALLED]), encode([7, 7]), encode(["", ""])):
        with pytest.raises(Corrupt):
            decode_verdicts(bad, 2)
    for bad in (b"", encode([""]), encode([1, 2]), encode(["x" * 200, ""])):
        with pytest.raises(Corrupt):
            decode_places(bad, 2)


@given(
    acked=st.integers(0, 50), frames=st.lists(st.binary(min_size=1, max_size=20), max_size=20), ack=st.integers(0, 80)
)
def test_the_outbox_goes_on_where_the_client_is(acked: int, frames: list[bytes], ack: int) -> None:
    outbox = unpack_outbox(packed(acked=acked, frames=frames), 100, 10_000)
    assert outbox is not None
    last = acked + len(frames)
    assert (outbox.acked, outbox.last, outbox.bytes) == (acked, last, sum(map(len, frames)))
    assert outbox.frames == frames
    assert list(outbox.unsent()) == []
    assert outbox.rewind(ack) == (acked <= ack <= last)
    if acked <= ack <= last:
        assert list(outbox.unsent()) == frames[ack - acked :]
        assert outbox.add(b"next")
        assert list(outbox.unsent()) == [b"next"]


def test_an_outbox_over_the_bounds_here_is_not_taken() -> None:
    assert unpack_outbox(packed(frames=[b"x"] * 5), 4, 10_000) is not None  # the last one says where to go
    assert unpack_outbox(packed(frames=[b"x"] * 6), 4, 10_000) is None
    assert unpack_outbox(packed(frames=[b"x" * 2_000]), 4, 100) is None
    whole = Outbox.restored(4, 100, 2, [])
    assert (len(whole), whole.last, whole.frames) == (0, 2, [])


@pytest.mark.parametrize(("sent", "attached"), [(None, True), (4, False)])
def test_the_later_session_of_a_player_wins(sent: int | None, attached: bool) -> None:
    assert takes_over(packed(since_ms=11, sent=sent), 10, attached)
    assert not takes_over(packed(since_ms=10, sent=sent), 10, attached)


@pytest.mark.parametrize("since_ms", [1, 10, 99])
def test_an_attached_session_wins_whatever_two_clocks_say(since_ms: int) -> None:
    assert takes_over(packed(since_ms=since_ms), 10, False)
    assert not takes_over(packed(since_ms=since_ms, sent=4), 10, True)


def test_a_session_whose_client_waits_for_it_counts_as_attached() -> None:
    assert takes_over(packed(since_ms=11, sent=4), 10, True, sought=True)
    assert not takes_over(packed(since_ms=9, sent=4), 10, True, sought=True)
    assert takes_over(packed(since_ms=9, sent=4), 10, False, sought=True)


def test_late_pushes_are_kept_in_order_and_bounded() -> None:
    move = Transfer("p", Target(A, "ws://a"))
    move.join_line()
    move.freeze([], b"")
    pushes = [Going(0, str(number), 1) for number in range(4)]
    assert [move.keep(push, 3) for push in pushes] == [True, True, True, False]
    assert move.late == pushes[:3]


def test_the_place_of_a_session_that_went_is_known_for_a_while() -> None:
    gone = DepartedSessions(bound=3)
    gone.note("t1", "p1", A, 1, until=10)
    gone.note("t2", "", B, 2, until=20)
    assert (gone.place("t1", 5), gone.moves("t1"), gone.of_player("p1", 5)) == (A, 1, A)
    assert (gone.place("t2", 5), gone.of_player("", 5)) == (B, None)
    assert (gone.place("t1", 10), gone.of_player("p1", 10), gone.place("t9", 0), gone.moves("t9")) == (
        None,
        None,
        None,
        0,
    )
    gone.note("t1", "p1", B, 3, until=30)
    assert (gone.place("t1", 5), gone.moves("t1"), len(gone)) == (B, 3, 2)
    gone.note("t3", "p1", A, 1, until=30)  # another session of the player, later
    gone.forget("t1")
    assert (gone.of_player("p1", 5), len(gone)) == (A, 2)
    gone.expire(25)
    assert (len(gone), gone.of_player("p1", 25)) == (1, A)
    for number in range(5):
        gone.note(f"u{number}", f"q{number}", A, 1, until=99)
    assert (len(gone), gone.place("u4", 0), gone.place("t3", 0), gone.of_player("p1", 0)) == (3, A, None, None)


def test_the_client_can_have_had_nothing_that_was_never_sent() -> None:
    frames = [b"a", b"b", b"c"]
    outbox = unpack_outbox(packed(acked=4, frames=frames, sent=5), 100, 10_000)
    assert outbox is not None and outbox.last == 7
    assert not outbox.rewind(6)
    assert outbox.rewind(5) and list(outbox.unsent()) == [b"b", b"c"]
    for sent, counts in ((0, 4), (99, 7), (None, 7)):
        held = unpack_outbox(packed(acked=4, frames=frames, sent=sent), 100, 10_000)
        assert held is not None and held.sent == counts
