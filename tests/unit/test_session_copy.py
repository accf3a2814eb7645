"""Copies of sessions, and the bequest of a gateway, as bytes: their formats stay readable, and bad ones are refused."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from server.errors import BadInput
from server.sessions.gateway_bequest import (
    AudienceCopy,
    AwayCopy,
    DepartedCopy,
    EarlierCopy,
    GatewayAhead,
    GatewayBequest,
    GuessCopy,
    LatestTopicCopy,
    StreamTopicCopy,
    decode_ahead,
    decode_bequest,
    encode_bequest,
)
from server.sessions.picture import ItemCopy, PictureCopy
from server.sessions.session_copy import (
    BucketCopy,
    LatestCopy,
    OutboxCopy,
    PeopleCopy,
    ReplayCopy,
    SessionCopy,
    StreamCopy,
    decode_copy,
    encode_copy,
)

FULL = SessionCopy(
    resume="0123456789abcdef", session="node-1-7-42", subject="anna", role="player", format="msgpack", stays=True,
    phase="attached", order=42, moves=1, login_number=2, since_ms=1_700_000_000_000, began=1234.5, detached_at=1230.25,
    issued_ms=1_699_999_999_000, token_until_ms=1_700_003_600_000.0, remote="192.0.2.7:5555",
    country="NL", traffic=(4_000, 9_000), client="sdk/1",
    device="phone", instead_of="earlier", beats=17, beat_due=True, starved=True,
    outbox=OutboxCopy(3, 4, 5, False, [b"four", b"five"]),
    bucket=BucketCopy(2.0, 16, True, 7.5, 1234.0, 1235.0, 1236.0),
    streams=[StreamCopy("match/m1", 9, (3, 4), True)], latest=[LatestCopy("board/b1", 6, True)],
    people=PeopleCopy(["anna", "ben"], bytes([0, 0x93]), True, 5, True, True, True, True, 1, 77, ["carl"]),
    replays=[ReplayCopy(1, "match/m2", 30, 1500.0, 1234.25, 200, True, False, True, "ben", "slow")],
    waiting=[b"a message"], leaves=True, pulled_to="node-2#3",
)  # fmt: skip
BEQUEST = GatewayBequest(
    hellos=42, pictures=3, presence="node-1-0", revision=77, streams=[StreamTopicCopy("match/m1", 12, True, (3, 4), 8)],
    latest=[
        LatestTopicCopy(
            "board/b1", "node-1-7-3",
            PictureCopy("node-1#7", (1, 2), True, 6, (1, 1), 2, [ItemCopy("lamp", (1, 2), b"\xa3red", 6)]),
        )
    ],
    audiences=[AudienceCopy("ben", (b"h", b"e", b"f", b"o"), (0, 1, 2, 3, 4), 5)],
    departures=[DepartedCopy("0123", ("node-2", 3), 1, 1300.0, "carl")],
    ended=[DepartedCopy("4567", ("node-1", 7), 2, 1301.0)], reclaims=[DepartedCopy("89ab", ("node-3", 1), 3, 1302.0)],
    away=[AwayCopy("dora", [(("node-2", 3), 1303.0)])], earlier=[EarlierCopy([(("node-1", 7), 4)], 1200.0)],
    guesses=[GuessCopy("192.0.2.0", 3.5, 1210.0)], several=[["0123456789abcdef", "fedcba"]],
)  # fmt: skip


def test_a_copy_of_the_first_version_is_read_and_a_new_one_is_the_same_bytes() -> None:
    assert encode_copy(FULL) == GOLDEN_COPY
    assert decode_copy(GOLDEN_COPY) == FULL


def test_a_bequest_of_the_first_version_is_read_and_a_new_one_is_the_same_bytes() -> None:
    assert encode_bequest(BEQUEST) == GOLDEN_BEQUEST
    assert decode_bequest(GOLDEN_BEQUEST) == BEQUEST


def test_a_later_version_may_have_more_fields_at_the_end() -> None:
    fields = msgspec.msgpack.decode(GOLDEN_COPY)
    assert decode_copy(msgspec.msgpack.encode([*fields, "new"])) == FULL


def test_a_token_without_an_end_is_one_there_too() -> None:
    assert decode_copy(encode_copy(replace(FULL, token_until_ms=None))).token_until_ms is None


@pytest.mark.parametrize(
    "change",
    [
        {"resume": ""},
        {"subject": "no such key!"},
        {"role": "node"},
        {"phase": "ended"},
        {"beats": -1},
        {"began": float("nan")},
        {"outbox": OutboxCopy(3, 4, 5, False, [b"four"])},
        {"outbox": OutboxCopy(3, 2, 5, False, [b"four", b"five"])},
        {"outbox": OutboxCopy(3, 6, 5, False, [b"four", b"five"])},
        {"streams": [StreamCopy("not an actor", 1)]},
        {"streams": [StreamCopy("match/m1", 0)]},
        {"latest": [LatestCopy("board", 1)]},
        {"replays": [ReplayCopy(1, "match", 1, 0.0, 0.0, 100, True, False, False)]},
        {"people": PeopleCopy(["anna"], b"", True, 0, False, False, False, False, 0, 0)},
        {"people": PeopleCopy(["anna", "anna"], b"\x00\x00", True, 0, False, False, False, False, 0, 0)},
        {"people": PeopleCopy(["an na"], b"\x00", True, 0, False, False, False, False, 0, 0)},
        {"waiting": [b""] * 5_000},
    ],
    ids=str,
)
def test_a_copy_that_no_session_can_be_made_of_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        decode_copy(encode_copy(replace(FULL, **change)))


@pytest.mark.parametrize("cut", [0, 1, 7, 60, -1])
def test_a_part_of_a_copy_is_refused(cut: int) -> None:
    with pytest.raises(BadInput):
        decode_copy(GOLDEN_COPY[:cut])
    with pytest.raises(BadInput):
        decode_bequest(GOLDEN_BEQUEST[:cut])


def test_a_slice_that_was_copied_ahead_is_read_whole_or_refused() -> None:
    ahead = GatewayAhead(BEQUEST.audiences, BEQUEST.latest)
    assert decode_ahead(encode_bequest(ahead)) == ahead
    with pytest.raises(BadInput):
        decode_ahead(encode_bequest(ahead)[:-1])


GOLDEN_COPY = bytes.fromhex(
    "dc0021b030313233343536373839616263646566ab6e6f64652d312d372d3432a4616e6e61a6706c61796572a76d73677061"
    "636bc3a861747461636865642a0102cf0000018bcfe56800cb40934a0000000000cb4093390000000000cf0000018bcfe564"
    "18cb4278bd01c5680000ae3139322e302e322e373a35353535a24e4c92cd0fa0cd2328a573646b2f31a570686f6e65a76561"
    "726c69657211c3c395030405c292c404666f7572c4046669766597cb400000000000000010c3cb401e000000000000cb4093"
    "480000000000cb40934c0000000000cb40935000000000009194a86d617463682f6d3109920304c39193a8626f6172642f62"
    "3106c39b92a4616e6e61a362656ec4020093c305c3c3c3c3014d91a46361726c919b01a86d617463682f6d321ecb40977000"
    "00000000cb4093490000000000ccc8c3c2c3a362656ea4736c6f7791c40961206d657373616765c3a86e6f64652d322333"
)
GOLDEN_BEQUEST = bytes.fromhex(
    "9e2a03a86e6f64652d312d304d9195a86d617463682f6d310cc3920304089193a8626f6172642f6231aa6e6f64652d312d37"
    "2d3397a86e6f64652d312337920102c306920101029194a46c616d70920102c404a3726564069194a362656e94c40168c401"
    "65c40166c4016f950001020304059195a43031323392a66e6f64652d320301cb4094500000000000a46361726c9195a43435"
    "363792a66e6f64652d310702cb4094540000000000a09195a43839616292a66e6f64652d330103cb4094580000000000a091"
    "92a4646f7261919292a66e6f64652d3203cb40945c00000000009192919292a66e6f64652d310704cb4092c0000000000091"
    "93a93139322e302e322e30cb400c000000000000cb4092e800000000009192b030313233343536373839616263646566a666"
    "6564636261"
)
