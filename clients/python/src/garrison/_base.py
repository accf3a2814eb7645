"""Base classes of all messages, on which the generated `messages.py` builds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from garrison.errors import BadFrame

R_co = TypeVar("R_co", covariant=True)


class Message:
    """Anything that travels on its own, as the array that `to_wire` gives."""

    __slots__ = ()
    TYPE: ClassVar[str] = ""

    def to_wire(self) -> list[Any]:
        """The array that travels."""
        raise NotImplementedError


class Request(Message, Generic[R_co]):
    """Client to server; `R_co` is what answers it."""

    __slots__ = ()
    id: int


class Command(Request[R_co]):
    """A request that changes something and may be repeated: the server knows it by
    `(lineage, command)` and answers a repetition as it answered the first."""

    __slots__ = ()
    lineage: str
    command: int


class Reply(Message):
    """Server to client; the answer to request `id`."""

    __slots__ = ()
    id: int


class Push(Message):
    """Server to client, unasked; `seq` counts the session's pushes from 1."""

    __slots__ = ()
    seq: int


class Notice(Message):
    """Server to client, neither numbered nor answering one request."""

    __slots__ = ()


class Event:
    """A thing that happened, in a stream."""

    __slots__ = ()
    TYPE: ClassVar[str] = ""

    def to_wire(self) -> list[Any]:
        """The array that travels."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class UnknownEvent(Event):
    """An event of a type that this version of the SDK does not know."""

    wire: tuple[Any, ...]

    def to_wire(self) -> list[Any]:
        return list(self.wire)


def check_length(wire: Sequence[Any], required: int, name: str) -> int:
    """The length of an array. Raises `BadFrame` if it is none or has fewer than `required` places."""
    if not isinstance(wire, list | tuple):
        raise BadFrame(f"{name}: no array but a {type(wire).__name__}")
    length = len(wire)
    if length < required:
        raise BadFrame(f"{name}: {length} places, {required} needed")
    return length
