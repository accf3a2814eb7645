"""Bytes to messages and back, for both subprotocols, from one registry of message types.

Pure: no socket and no clock. A `Codec` is built once a process; `MSGPACK` frames are binary,
`JSON` frames are text. Decoding raises `UnknownType` or `BadFrame`; both carry the request's
id in `request_id` when one could be read, so that the answer can name it.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeVar, Union, cast

import msgspec

from server.errors import BadFrame, BadInput, UnknownType
from server.ids import whole
from server.texts import LINE_PATTERN
from server.wire.messages import Push, Request

Format = Literal["msgpack", "json"]
SUBPROTOCOLS: Final[dict[str, Format]] = {"garrison.v1.msgpack": "msgpack", "garrison.v1.json": "json"}

UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Errors of decoding bytes that are not as they should be: a client's, another node's, or stored ones."""

T = TypeVar("T")


def decoded(decode: Callable[[bytes], T], data: bytes, what: str) -> T:
    """`decode(data)`. Raises `BadInput`, which calls the bytes `what`."""
    try:
        return decode(data)
    except UNDECODABLE as error:
        raise BadInput(f"{what}: {error}") from None


_LINE_FAULT: Final = f"matching regex {whole(LINE_PATTERN)!r}"

_EXACT: Final = 2.0**53
"""Below it each whole number is a float of its own."""

_TEXT_HEAD: Final = re.compile(rb'\s*\[\s*"([\w.]{1,64})"\s*,\s*([0-9]{1,16})\s*,')
_SURROGATE: Final = re.compile(
    rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]", re.DOTALL
)
"""An escaped half of a surrogate pair without the other one."""

_any_msgpack = msgspec.msgpack.Decoder()
_any_json = msgspec.json.Decoder()
_msgpack = msgspec.msgpack.Encoder()
_json = msgspec.json.Encoder()


class Codec:
    """The decoder and encoder of a subprotocol. `decode` is the client-to-server direction."""

    def __init__(self, format: Format, requests: Sequence[type[Request]]) -> None:
        self.format = format
        self.text = format == "json"
        union = cast(Any, Union[tuple(requests)])  # noqa: UP007 - a union made at run time
        self._known = {str(cls.__struct_config__.tag) for cls in requests}
        self._decode: Callable[[bytes | memoryview], Any]
        self._decode_any: Callable[[bytes | memoryview], Any]
        if self.text:
            self._decode = msgspec.json.Decoder(union).decode
            self._decode_any = _any_json.decode
            self.encode = _json.encode
        else:
            self._decode = msgspec.msgpack.Decoder(union).decode
            self._decode_any = _any_msgpack.decode
            self.encode = _msgpack.encode

    def decode(self, frame: bytes | memoryview) -> Request:
        """The request in `frame`. Raises `UnknownType`, `BadFrame`."""
        try:
            return cast(Request, self._decode(frame))
        except msgspec.DecodeError as error:
            return self._second_look(frame, str(error))
        except (UnicodeDecodeError, RecursionError) as error:
            raise _with_id(BadFrame(f"not {self.format}: {error}"), 0) from None

    def _second_look(self, frame: bytes | memoryview, why: str) -> Request:
        """Off the hot path. Many codecs have no whole numbers and send 7 as 7.0: a frame that is good with
        such numbers read as whole ones is taken. Raises the fault of any other, with what can be read of it."""
        try:
            value = _whole_numbers(self._decode_any(frame))
        except (*UNDECODABLE, ValueError) as error:
            raise self._unreadable(frame, str(error)) from None
        try:
            return cast(Request, self._decode(self.encode(value)))
        except msgspec.ValidationError as error:
            why = str(error)
        except (TypeError, ValueError, OverflowError, RecursionError):  # encoding: decoded, but not to be written again
            pass
        raise self._fault(value, why)

    def _unreadable(self, frame: bytes | memoryview, why: str) -> BadInput:
        """The error for bytes that are no value of the format. Text shows its type and id all the same, where it begins
        with them: half of a surrogate pair in a name must not leave its sender without an answer."""
        head = _TEXT_HEAD.match(frame) if self.text else None
        if head is None:
            return _with_id(BadFrame(f"not {self.format}: {why}"), 0)
        if _SURROGATE.search(frame):
            why = "half of a surrogate pair, which is no character"
        return self._fault([head[1].decode(), int(head[2])], f"not {self.format}: {why}")

    def _fault(self, value: Any, why: str) -> BadInput:
        """The error that names a bad frame's request, as far as `value`, its content, tells which."""
        why = why.replace(_LINE_FAULT, "of one line, without control and format characters")
        if not isinstance(value, list) or not value or not isinstance(value[0], str):
            return _with_id(BadFrame("a message is an array that begins with its type"), 0)
        number = value[1] if len(value) > 1 and type(value[1]) is int and 0 <= value[1] <= 2**53 else 0
        if value[0] not in self._known:
            return _with_id(UnknownType(f"no message type {value[0][:64]!r}"), number)
        return _with_id(BadFrame(f"{value[0]}: {why}"), number)


def _whole_numbers(value: Any) -> Any:
    """The value with integral floats below 2^53 as whole numbers, at any depth."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _EXACT else value
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: _whole_numbers(item) for key, item in value.items()}
    return value


class PushTemplate:
    """A push encoded once for many receivers: only the sequence number differs."""

    __slots__ = ("_head", "_tail", "_text")

    def __init__(self, push: Push, format: Format) -> None:
        zero = msgspec.structs.replace(push, seq=0)
        tag = str(type(push).__struct_config__.tag)
        self._text = format == "json"
        if self._text:
            whole, head = _json.encode(zero), _json.encode([tag])[:-1] + b","
        else:
            whole = _msgpack.encode(zero)
            head = whole[: _head_length(whole, tag)]
        self._head = head
        self._tail = whole[len(head) + 1 :]  # the zero is one byte in either format

    def render(self, seq: int) -> bytes:
        """The frame with sequence number `seq`."""
        number = _json.encode(seq) if self._text else _msgpack.encode(seq)
        return self._head + number + self._tail


def _head_length(whole: bytes, tag: str) -> int:
    """Bytes of the array header and the tag of a msgpack frame."""
    header = 1 if whole[0] & 0xF0 == 0x90 else (3 if whole[0] == 0xDC else 5)
    return header + len(_msgpack.encode(tag))


def _with_id(error: BadInput, request_id: int) -> BadInput:
    error.request_id = request_id
    return error
