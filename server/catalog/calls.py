"""A call on its way to its actor, and its frame between nodes. Pure."""

from typing import Any

import msgspec

from server.activations.ports import Chain
from server.errors import BadInput
from server.ids import ActorId, kind_of
from server.wire.codec import UNDECODABLE


class Call(msgspec.Struct, frozen=True):
    """A call of `id`'s method `name`, wherever the actor lives. `chain`: the actors that wait for its answer, the first
    one first. `deadline`: by the clock of this node. `stored`: the answer is to wait until what the call made is in the
    store."""

    id: ActorId
    name: str
    args: tuple[Any, ...]
    chain: Chain
    deadline: float
    stored: bool = False

    def __str__(self) -> str:
        return f"{kind_of(self.id)}.{self.name}"


class CallFrame(msgspec.Struct, array_like=True, frozen=True):
    """A call on its way; `args` is the msgpack array of the method's arguments. `here`: the receiver is to activate
    the actor itself if need be. `stored`: the answer is to wait until what the call made is in the store."""

    id: ActorId
    method: str
    args: msgspec.Raw
    timeout_ms: int
    chain: list[ActorId] = []
    here: bool = False
    stored: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(CallFrame).decode


def encode_call(
    identity: ActorId,
    name: str,
    args: tuple[Any, ...],
    left_s: float,
    chain: tuple[ActorId, ...],
    here: bool,
    stored: bool = False,
) -> bytes:
    if stored:
        return _encode((identity, name, args, int(left_s * 1000), chain, here, True))
    return _encode((identity, name, args, int(left_s * 1000), chain, here))


def decode_call(payload: bytes) -> CallFrame:
    """Raises `BadInput`."""
    try:
        return _decode(payload)
    except UNDECODABLE as error:
        raise BadInput(f"call frame: {error}") from None
