"""Frames and messages: packing what the program gives, reading and checking what a server sends."""

from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import msgpack

from garrison._base import Event, Message
from garrison.errors import BadFrame, BadInput
from garrison.messages import ANSWERS

UNPACKABLE = (AttributeError, TypeError, ValueError, OverflowError)
"""Errors of packing values that no frame can hold: odd objects, lone surrogates, big numbers."""


def pack(message: Message | Event) -> bytes:
    """The frame of a message, or an event's part of one. Raises `BadInput`."""
    try:
        packed: bytes = msgpack.packb(message.to_wire())
    except UNPACKABLE as error:
        raise _cannot_be_sent(message, error) from error
    return packed


def pack_around_id(message: Message) -> tuple[bytes, bytes]:
    """The frame of a request in two parts, before and after its id. Raises `BadInput`."""
    packer = msgpack.Packer(autoreset=False)
    try:
        wire = message.to_wire()
        packer.pack_array_header(len(wire))
        packer.pack(wire[0])
        before: bytes = packer.bytes()
        packer.reset()
        for value in wire[2:]:
            packer.pack(value)
    except UNPACKABLE as error:
        raise _cannot_be_sent(message, error) from error
    return before, packer.bytes()


def with_id(parts: tuple[bytes, bytes], number: int) -> bytes:
    """The whole frame of a request that `pack_around_id` packed."""
    packed: bytes = msgpack.packb(number)
    return parts[0] + packed + parts[1]


def _cannot_be_sent(message: Message | Event, error: Exception) -> BadInput:
    return BadInput(f"{type(message).__name__} cannot be sent: {error}")


def unpack(frame: bytes | str) -> list[Any]:
    """The wire array of a frame. Raises `BadFrame`."""
    try:
        wire = msgpack.unpackb(frame)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise BadFrame(f"not a message: {error}") from None
    if not isinstance(wire, list) or len(wire) < 2 or not isinstance(wire[0], str):
        raise BadFrame("a message is an array that begins with its type")
    return wire


def read(wire: Sequence[Any]) -> Message | None:
    """The message in a wire array; None for a type that this SDK does not know. Raises `BadFrame`
    also where a value is not of its field's type, so that nothing is done with such a message."""
    make = ANSWERS.get(wire[0])
    if make is None:
        return None
    try:
        message = make(wire)
    except (TypeError, ValueError, LookupError) as error:
        raise BadFrame(f"{wire[0]}: {error}") from None
    kind: Any = type(message)
    for name, types in _types(kind):
        value = getattr(message, name)
        if type(value) not in types:
            raise BadFrame(f"{wire[0]}: {name} cannot be a {type(value).__name__}")
    return message


@cache
def _types(kind: type[Any]) -> tuple[tuple[str, tuple[type, ...]], ...]:
    """The fields of a message and the types that their values may have, but for those that may have any."""
    return tuple((field.name, _allowed(field.type)) for field in fields(kind) if field.type is not Any)


def _allowed(annotation: Any) -> tuple[type, ...]:
    origin = get_origin(annotation)
    if origin is Literal:
        return (str,)
    if origin in (Union, UnionType):
        return tuple(each for part in get_args(annotation) for each in _allowed(part))
    return (origin or annotation,)
