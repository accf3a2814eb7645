"""Frames to messages and back, both formats; bad frames carry what could be read of them."""

import json
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from game.app import App
from server.errors import BadFrame, BadInput, UnknownType
from server.wire.codec import Codec, Format, PushTemplate
from server.wire.messages import ENGINE_REQUESTS, Events, Going, Heartbeat, Hello, Push, Request, Watch

FORMATS: list[Format] = ["msgpack", "json"]
CODECS: dict[Format, Codec] = {format: Codec(format, ENGINE_REQUESTS) for format in FORMATS}
formats = pytest.mark.parametrize("format", FORMATS)


def raw(format: Format, value: Any) -> bytes:
    return msgspec.json.encode(value) if format == "json" else msgspec.msgpack.encode(value)


@formats
def test_requests_come_back_as_they_were(format: Format) -> None:
    codec = CODECS[format]
    requests: list[Request] = [
        Hello(1, "token", resume="r", ack=5, client="test", redirects=False),
        Heartbeat(0, ack=2**40, state="away"),
        Watch(2**53, "match/m1", 7),
    ]
    for request in requests:
        assert codec.decode(codec.encode(request)) == request
        assert codec.decode(memoryview(codec.encode(request))) == request


@formats
def test_missing_fields_take_their_defaults_and_new_ones_are_ignored(format: Format) -> None:
    assert CODECS[format].decode(raw(format, ["heartbeat", 3])) == Heartbeat(3)
    assert CODECS[format].decode(raw(format, ["heartbeat", 3, 0, None, "of a later version"])) == Heartbeat(3)


@formats
def test_an_unknown_type_carries_the_id(format: Format) -> None:
    with pytest.raises(UnknownType) as caught:
        CODECS[format].decode(raw(format, ["nonsense", 42, "x"]))
    assert caught.value.request_id == 42


@formats
@pytest.mark.parametrize(
    ("value", "request_id"),
    [
        (["hello", 7], 7),  # a field is missing
        (["watch", 9, 5], 9),  # a wrong type
        (["watch", 9, "match/x", 0], 9),  # out of bounds
        (["watch", 9, "x" * 129, 1], 9),
        (["heartbeat", -1], 0),
        (["heartbeat", 2**53 + 1], 0),
        (["heartbeat", True], 0),
        (["heartbeat", "1"], 0),
        (["heartbeat"], 0),
        ([], 0),
        ([5, 1], 0),
        ({"type": "heartbeat"}, 0),
        (None, 0),
        ("heartbeat", 0),
    ],
)
def test_a_bad_message_carries_the_id_that_could_be_read(format: Format, value: Any, request_id: int) -> None:
    with pytest.raises(BadFrame) as caught:
        CODECS[format].decode(raw(format, value))
    assert caught.value.request_id == request_id


PROTOCOL = json.loads((Path(__file__).parents[2] / "docs" / "protocol.json").read_text("utf-8"))
REQUESTS = {message["type"] for message in PROTOCOL["messages"] if message["kind"] == "request"}
GOLDEN = [frame["wire"] for frame in PROTOCOL["golden"] if frame["type"] in REQUESTS]
GAME: dict[Format, Codec] = {format: Codec(format, (*ENGINE_REQUESTS, *App.requests)) for format in FORMATS}


def with_floats(value: Any) -> Any:
    """The value as a codec without whole numbers sends it."""
    if isinstance(value, list):
        return [with_floats(item) for item in value]
    if isinstance(value, dict):
        return {key: with_floats(item) for key, item in value.items()}
    return float(value) if type(value) is int else value


@formats
@pytest.mark.parametrize("wire", GOLDEN, ids=lambda wire: wire[0])
def test_whole_numbers_are_taken_from_codecs_that_have_floats_only(format: Format, wire: list[Any]) -> None:
    """F17: every integer field of every message of the game, nested ones too."""
    floats = with_floats(wire)
    assert repr(floats) != repr(wire)
    assert GAME[format].decode(raw(format, floats)) == GAME[format].decode(raw(format, wire))


@formats
@pytest.mark.parametrize("number", [0.5, 2.0**53, -1.0, 1e300, float("nan"), float("inf"), "7", "7.0", True, [7.0]])
def test_other_numbers_are_not_taken(format: Format, number: Any) -> None:
    """F17: integral, and below 2^53."""
    with pytest.raises(BadFrame):
        CODECS[format].decode(raw(format, ["heartbeat", number]))


def test_floats_of_both_sizes_are_taken() -> None:
    """F17: MessagePack has 32 and 64 bits."""
    single = b"\x92\xa9heartbeat\xca" + struct.pack("!f", 7.0)
    double = b"\x92\xa9heartbeat\xcb" + struct.pack("!d", 2.0**53 - 1)
    assert CODECS["msgpack"].decode(single) == Heartbeat(7)
    assert CODECS["msgpack"].decode(double) == Heartbeat(2**53 - 1)
    assert CODECS["json"].decode(b'["heartbeat",7e2]') == Heartbeat(700)


@formats
def test_a_bad_message_with_a_float_as_its_id_carries_that(format: Format) -> None:
    with pytest.raises(BadFrame) as caught:
        CODECS[format].decode(raw(format, ["watch", 9.0, 5]))
    assert caught.value.request_id == 9


@pytest.mark.parametrize("frame", [b"", b"\xc1", b"\x92", b"\xff" * 10, b"[1", b"\x93\xa5hello"])
@formats
def test_broken_bytes(format: Format, frame: bytes) -> None:
    with pytest.raises(BadFrame) as caught:
        CODECS[format].decode(frame)
    assert caught.value.request_id == 0


@pytest.mark.parametrize(
    "frame", [b'["heartbeat",1,0,"\xff\xfe"]', b'["\xff",1]', b"[" * 100_000, b'["heartbeat",1e999]']
)
def test_json_that_is_none(frame: bytes) -> None:
    with pytest.raises(BadInput):
        CODECS["json"].decode(frame)


@pytest.mark.parametrize(
    "frame", [b"\x91" * 100_000, b"\x94\xa9heartbeat\x01\x00\xa2\xff\xfe", b"\x92\xa2\xff\xfe\x01"]
)
def test_msgpack_that_is_none(frame: bytes) -> None:
    with pytest.raises(BadInput):
        CODECS["msgpack"].decode(frame)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(FORMATS))
def test_random_bytes_only_raise_bad_input(frame: bytes, format: Format) -> None:
    check(format, frame)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20) | st.sampled_from([str(cls.__struct_config__.tag) for cls in ENGINE_REQUESTS]),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(values, st.sampled_from(FORMATS))
def test_random_values_only_raise_bad_input(value: Any, format: Format) -> None:
    check(format, raw(format, value))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_messages_only_raise_bad_input(data: st.DataObject) -> None:
    format = data.draw(st.sampled_from(FORMATS))
    frame = bytearray(CODECS[format].encode(Watch(12, "match/m1", 7)))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    check(format, bytes(frame[: data.draw(st.integers(0, len(frame)))]))


def check(format: Format, frame: bytes) -> None:
    try:
        request = CODECS[format].decode(frame)
    except BadInput as error:
        assert 0 <= error.request_id <= 2**53
    else:
        assert isinstance(request, ENGINE_REQUESTS)


BOUNDARIES = [0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**53]
EVENT = {"msgpack": msgspec.msgpack.encode(["kill", 1, 2]), "json": b'["kill",1,2]'}


class Wide(Push, tag="a_type_with_a_long_name_that_needs_a_longer_header", frozen=True):
    """Eighteen fields: its array header has another length."""

    f1: int = 1
    f2: int = 2
    f3: int = 3
    f4: int = 4
    f5: int = 5
    f6: int = 6
    f7: int = 7
    f8: int = 8
    f9: int = 9
    f10: int = 10
    f11: int = 11
    f12: int = 12
    f13: int = 13
    f14: int = 14
    f15: int = 15
    f16: str = "end"


@formats
@pytest.mark.parametrize("kind", ["going", "events", "wide"])
def test_a_template_renders_what_plain_encoding_gives(format: Format, kind: str) -> None:
    def push(seq: int) -> Push:
        if kind == "going":
            return Going(seq, "ws://node-2:7350", 1_000)
        if kind == "events":
            return Events(seq, "match/m1", 12, [msgspec.Raw(EVENT[format])] * 3)
        return Wide(seq)

    template = PushTemplate(push(77), format)
    for seq in BOUNDARIES:
        frame = template.render(seq)
        assert frame == CODECS[format].encode(push(seq))
        decoded = json.loads(frame) if format == "json" else msgspec.msgpack.decode(frame)
        assert decoded[1] == seq


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**63 - 1), st.text(max_size=100), st.integers(0, 2**31))
def test_templates_with_any_content(seq: int, url: str, within_ms: int) -> None:
    for format in FORMATS:
        template = PushTemplate(Going(0, url, within_ms), format)
        assert template.render(seq) == CODECS[format].encode(Going(seq, url, within_ms))


@pytest.mark.parametrize("name", [r"a\ud800", r"\ud83d\u0041", r"\ude00", r"ok \ud83d\ude00, \udbff"])
def test_half_a_surrogate_pair_is_answered_under_the_messages_id(name: str) -> None:
    """D11: such a text makes the whole message unreadable, and its sender waits for an answer all the same."""
    codec = Codec("json", ENGINE_REQUESTS)
    with pytest.raises(BadFrame, match="half of a surrogate pair") as refused:
        codec.decode(f'["watch", 5, "match/{name}"]'.encode())
    assert refused.value.request_id == 5


def test_text_that_is_cut_off_is_answered_under_the_messages_id() -> None:
    codec = Codec("json", ENGINE_REQUESTS)
    with pytest.raises(BadFrame, match="truncated") as refused:
        codec.decode(rb'["watch", 5, "match/\ud83d\ude00')
    assert refused.value.request_id == 5
