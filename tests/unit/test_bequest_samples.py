"""Bequests as they were written first: an heir of a later version reads them from a predecessor of this one."""

from collections.abc import Callable
from typing import Any, Final

import pytest

from server.catalog import bequest as of_system
from server.directory import bequest as of_directory
from server.errors import BadInput
from server.ids import ActorId, Incarnation, NodeAddress, NodeId
from server.presence import bequest as of_presence

SYSTEM: Final = (
    "9992a66e6f64652d31052906919292a66e6f64652d320702090491a86d617463682f6d31919292a66e6f64652d3301cb3ff8"
    "00000000000092cb3fe0000000000000cb403e000000000000"
)
DIRECTORY: Final = (
    "9d92a66e6f64652d31056311919292a66e6f64652d3207089192a66e6f64652d3207919d92a66e6f64652d320781a8706c61"
    "7965722f61c281a8706c617965722f62c391a8706c617965722f6391a8706c617965722f648104c40403004600910291970b"
    "c40403004600c400919292a66e6f64652d330191a8706c617965722f656201cb3fd0000000000000c30201cb000000000000"
    "0000cb3fe00000000000000c91970cc40403004600c4040300460092a66e6f64652d3207cb3fe8000000000000cb3fd00000"
    "000000009192a66e6f64652d3301919492a66e6f64652d330196030362c40403004600c4009193a66e6f64652d320791a870"
    "6c617965722f6678cb3fe0000000000000919292a66e6f64652d330191029193a8706c617965722f6792a66e6f64652d3207"
    "cb40120000000000009300919292a66e6f64652d320792a8706c617965722f68a8706c617965722f6991a8706c617965722f"
    "6a930191929292a66e6f64652d320792a66e6f64652d330191a8706c617965722f6b91a8706c617965722f6c"
)
PRESENCE: Final = (
    "9f92a66e6f64652d310563c3c306919492a66e6f64652d3207029d031ec382a161920000a16292040591a16391a164c3c293"
    "01cb3fe0000000000000cb3fe80000000000009300cb41cdcd6500000000cb000000000000000001cb3fd0000000000000cb"
    "3fc0000000000000970215cb3fd0000000000000cb3fe000000000000063c3970092a66e6f64652d3207029195a161030405"
    "93c40165c40166c091a16291a16391a164919292a66e6f64652d330101929292a66e6f64652d3301cb402300000000000092"
    "92a66e6f64652d3401c09196a165030493c40165c40166c005cb3ff80000000000009381a16692030481a167920102cb4028"
    "000000000000938081a1689201cf001fffffffffffffcb4008000000000000970015cb3fd0000000000000cb3fe000000000"
    "000063c3970092a66e6f64652d3105009195a16103040593c40165c40166c091a16291a16391a16491a1699301919ca16a46"
    "a56b6e6f776e0593c40165c40166c0c292a66e6f64652d320702c0cb3fe0000000000000c3c391a16b4d"
)

ME, PEER, THIRD = (
    NodeAddress(NodeId(name), Incarnation(run)) for name, run in (("node-1", 5), ("node-2", 7), ("node-3", 1))
)
SAMPLES: Final[list[tuple[str, Callable[[bytes], Any], Callable[[Any], bytes]]]] = [
    (SYSTEM, of_system.decode, of_system.encode),
    (DIRECTORY, of_directory.decode, of_directory.encode),
    (PRESENCE, of_presence.decode, of_presence.encode),
]
IDS: Final = ("system", "directory", "presence")


@pytest.mark.parametrize(("sample", "decode", "encode"), SAMPLES, ids=IDS)
def test_a_sample_is_read_and_written_again_with_the_same_bytes_first(
    sample: str, decode: Callable[[bytes], Any], encode: Callable[[Any], bytes]
) -> None:
    data = bytes.fromhex(sample)
    found = decode(data)
    assert found.me == ME
    again = encode(found)
    assert again[1:].startswith(data[1:]) or again == data, "fields come at the end only"


@pytest.mark.parametrize(("sample", "decode", "encode"), SAMPLES, ids=IDS)
def test_a_turned_byte_is_refused_or_means_something_else(
    sample: str, decode: Callable[[bytes], Any], encode: Callable[[Any], bytes]
) -> None:
    data = bytes.fromhex(sample)
    refused = 0
    for place in range(len(data)):
        turned = bytearray(data)
        turned[place] ^= 0xFF
        try:
            assert encode(decode(bytes(turned))) != data
        except BadInput:
            refused += 1
    assert refused > len(data) // 10


@pytest.mark.parametrize(("sample", "decode", "encode"), SAMPLES, ids=IDS)
def test_a_part_of_a_sample_is_refused(
    sample: str, decode: Callable[[bytes], Any], encode: Callable[[Any], bytes]
) -> None:
    data = bytes.fromhex(sample)
    for size in range(len(data)):
        with pytest.raises(BadInput):
            decode(data[:size])


def test_samples_mean_what_they_meant() -> None:
    system = of_system.decode(bytes.fromhex(SYSTEM))
    assert (system.token, system.migration, system.guard, system.source) == (41, 6, 9, 4)
    assert system.migrations_here == [(PEER, 2)] and system.unsure == [ActorId("match/m1")]
    assert system.missing == [(THIRD, 1.5)] and system.looks == [0.5, 30.0]
    directory = of_directory.decode(bytes.fromhex(DIRECTORY))
    assert (directory.digest, directory.number, directory.last_question) == (99, 17, 12)
    assert directory.newest == [(PEER, 8)] and directory.met == [PEER]
    [stream] = directory.streams
    assert stream.peer == PEER and stream.truth == {"player/a": False} and stream.later == {"player/b": True}
    assert directory.entries.entries == [(PEER, ["player/h", "player/i"])] and directory.entries.gone == ["player/j"]
    assert directory.listers.listed == [([PEER, THIRD], ["player/k"])] and directory.placed == [("player/g", PEER, 4.5)]
    presence = of_presence.decode(bytes.fromhex(PRESENCE))
    assert (presence.digest, presence.has_begun, presence.sure, presence.stints) == (99, True, True, 6)
    [peer] = presence.peers
    assert peer.address == PEER and (peer.heard.stint, peer.heard.number, peer.heard.at_ago) == (2, 21, 0.25)
    assert peer.out.truth == {"a": (0, 0), "b": (4, 5)} and peer.out.number == 30
    [entry] = presence.watched.entries
    assert (entry.player, entry.state, entry.relations, entry.source) == ("j", "known", 5, PEER)
    assert presence.floors.new == {"f": (3, 4)} and presence.ended.old == {"h": (1, 2**53 - 1)}
