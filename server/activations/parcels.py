"""What two nodes say to each other when activations move, and an activation as bytes. No I/O.

    Offer      will you take these? The answer: those that it expects from now on
    Ship       their parcels, to be held until `Go`; the answer: those that it holds
    Go         these are yours: they live, frozen
    Queued     a call that waited in a mailbox, in order; answered as any call
    Open       all that waited was passed on: these thaw
    Over       nothing more comes of this migration; what was not given is forgotten

A migration is named by the sender's address, which the link knows, and a number. Every message
names the run of the receiver that it is meant for.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, get_type_hints

import msgspec
from msgspec import Meta

from server.activations import event_log
from server.activations.activation import Activation
from server.activations.event_log import LogParts
from server.actors.actor import Actor, LoggedActor
from server.errors import BadInput, GarrisonError, Internal
from server.ids import ActorId, Epoch, Incarnation, kind_of
from server.wire.codec import UNDECODABLE

if TYPE_CHECKING:
    from server.catalog.system import ActorSystem

MAX_BATCH: Final = 1_000
Number = Annotated[int, Meta(ge=1)]
Name = Annotated[str, Meta(max_length=128)]
Seconds = Annotated[float, Meta(ge=0.0, le=1e9)]
Ids = Annotated[list[ActorId], Meta(max_length=MAX_BATCH)]


class Offer(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """Answered by `Taken`."""

    number: Number
    to: Incarnation
    ids: Ids


class Taken(msgspec.Struct, array_like=True, frozen=True):
    """The ids that the receiver has room for and expects, and the newest token that it has claimed
    anything with: those of its claims that are under way still must not count after the move."""

    token: int
    ids: Ids


class Ship(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Parcels of migration `number`; `part` tells several such messages apart. Answered by the ids
    that are held. The same part again gets the same answer."""

    number: Number
    to: Incarnation
    part: Annotated[int, Meta(ge=0, le=MAX_BATCH)]
    parcels: Annotated[list[bytes], Meta(max_length=MAX_BATCH)]


class Go(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """The receiver owns `ids`. Those of `lively` live by themselves: if their parcels are not there,
    they are to be woken."""

    number: Number
    to: Incarnation
    ids: Ids
    lively: Ids


class Queued(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """`call` is the frame of a call to what arrived with migration `number`."""

    number: Number
    to: Incarnation
    call: bytes


class Open(msgspec.Struct, array_like=True, frozen=True, tag=4):
    number: Number
    to: Incarnation
    ids: Ids


class Over(msgspec.Struct, array_like=True, frozen=True, tag=5):
    number: Number
    to: Incarnation


class Parcel(msgspec.Struct, array_like=True, frozen=True):
    """One activation. `state` and `carried` are msgpack, arguments are msgpack arrays; `timers` have
    the seconds that are left, `due` are those whose turn was waiting. `reminders`: see
    `server.catalog.reminders.Reminding.pending`."""

    id: ActorId
    epoch: Annotated[int, Meta(ge=0)]
    version: Annotated[int, Meta(ge=0)]
    state: bytes
    retiring: bool
    timers: list[tuple[Name, Seconds, bytes]]
    due: list[tuple[Name, bytes]]
    carried: bytes
    reminders: dict[Name, int | None]
    log: LogParts | None = None


class Arrival(msgspec.Struct):
    """A parcel unpacked: an activation that does not live yet, and what to give it when it does."""

    activation: Activation
    retiring: bool
    timers: list[tuple[str, float, tuple[Any, ...]]]
    due: list[tuple[str, tuple[Any, ...]]]
    carried: Any
    reminders: dict[str, int | None]

    @property
    def is_lively(self) -> bool:
        """Whether it lives by itself, without calls."""
        return bool(self.timers or self.due) or type(self.activation.actor).lives_on


Message = Offer | Ship | Go | Queued | Open | Over
encode = msgspec.msgpack.Encoder().encode
_message = msgspec.msgpack.Decoder(Message)
_parcel = msgspec.msgpack.Decoder(Parcel)
_taken = msgspec.msgpack.Decoder(Taken)
_ids = msgspec.msgpack.Decoder(list[ActorId])
Decode = Callable[[bytes], Any]
_decoders: dict[type[Actor[Any]], tuple[Decode, Decode]] = {}


def decode(payload: bytes) -> Message:
    """Raises `BadInput` for anything but a message, whole and plausible."""
    try:
        message: Message = _message.decode(payload)
        return message
    except UNDECODABLE as error:
        raise BadInput(f"migration message: {error}") from None


def decode_taken(payload: bytes) -> Taken:
    """The answer to an `Offer`. Raises `BadInput`."""
    try:
        return _taken.decode(payload)
    except UNDECODABLE as error:
        raise BadInput(f"migration answer: {error}") from None


def decode_ids(payload: bytes) -> list[ActorId]:
    """The answer to a `Ship`. Raises `BadInput`."""
    try:
        return _ids.decode(payload)
    except UNDECODABLE as error:
        raise BadInput(f"migration answer: {error}") from None


def pack(one: Activation, epoch: Epoch, max_bytes: int) -> bytes | None:
    """A frozen activation as its owner under `epoch` gets it; None if it is larger than `max_bytes`.
    Raises `Internal` where its `carry` fails or something of it cannot travel."""
    known, log_parts = one.reminding, one.log().parts() if one.has_log else None
    if one.has_log and log_parts is None:
        return None
    try:
        parcel = Parcel(
            one.id,
            epoch,
            one.version,
            encode(one.boundary),
            one.retiring,
            [(name, left_s, encode(args)) for name, left_s, args in one.timers_left()],
            [(call.method.name, encode(call.args)) for call in one.queued() if call.is_timer],
            encode(one.carry()),
            dict(known.pending) if known is not None else {},
            log_parts,
        )
        data = encode(parcel)
    except GarrisonError:
        raise
    except Exception as error:
        raise Internal(f"{one.id} cannot travel: {error}") from None
    return data if len(data) <= max_bytes else None


def unpack(host: "ActorSystem", data: bytes) -> Arrival:
    """Raises `BadInput`; nothing of it lives yet."""
    try:
        parcel = _parcel.decode(data)
        cls = host.app.actor(kind_of(parcel.id))
        if cls is None:
            raise BadInput(f"no actor kind {kind_of(parcel.id)!r}")
        decode_state, decode_carried = _decoders_of(cls)
        state, carried = decode_state(parcel.state), decode_carried(parcel.carried)
    except UNDECODABLE as error:
        raise BadInput(f"parcel: {error}") from None
    one = Activation(host, cls, parcel.id, state, parcel.version)
    one.epoch = Epoch(parcel.epoch)
    if issubclass(cls, LoggedActor):
        if parcel.log is None:
            raise BadInput(f"parcel of {parcel.id}: it has no log")
        event_log.arrive(one, cls, parcel.log)
    try:
        timers = [(name, left_s, one.method(name).decode_args(args)) for name, left_s, args in parcel.timers]
        due = [(name, one.method(name).decode_args(args)) for name, args in parcel.due]
    except GarrisonError as error:
        raise BadInput(f"parcel of {parcel.id}: {error.message}") from None
    return Arrival(one, parcel.retiring, timers, due, carried, parcel.reminders)


def _decoders_of(cls: type[Actor[Any]]) -> tuple[Decode, Decode]:
    """Of its state, and of what it carries, by the annotation of the parameter of `arrived`."""
    decoders = _decoders.get(cls)
    if decoders is None:
        carried = get_type_hints(cls.arrived).get("carried", Any)
        made = msgspec.msgpack.Decoder(cls.State), msgspec.msgpack.Decoder(carried)
        decoders = _decoders[cls] = made[0].decode, made[1].decode
    return decoders
