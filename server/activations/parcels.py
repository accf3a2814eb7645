"""Messages between two nodes when activations move, and an activation as bytes. No I/O.

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
from typing import Annotated, Any, Final, get_type_hints

import msgspec
from msgspec import Meta

from server import states
from server.activations import event_log
from server.activations.activation import Activation
from server.activations.event_log import LogParts
from server.activations.observed import new_activation
from server.activations.ports import ActivationNode
from server.actors.actor import Actor, LoggedActor
from server.actors.app import App
from server.actors.latest import LatestActor, LatestParts
from server.actors.pictures import Showing
from server.errors import BadInput, GarrisonError, Internal
from server.ids import ActorId, Epoch, Incarnation, kind_of
from server.wire.codec import UNDECODABLE, decoded

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


class Stays(msgspec.Struct, array_like=True, frozen=True):
    """The part that an activation keeps which goes on in another process of the same run, under the same epoch: the
    source of its latest topic, and the number of its guard (`server/actors/guard.py`). Where it goes to another node it
    gets others, by which those who watch know that."""

    latest: LatestParts | None
    narrowed: Annotated[int, Meta(ge=0)]


class Parcel(msgspec.Struct, array_like=True, frozen=True):
    """An activation on its way. `state` and `carried` are msgpack, arguments are msgpack arrays; `timers` have
    the seconds that are left, `due` are those whose turn was waiting. `reminders`: see
    `Activation.pending_reminders`. `all_told`: a logged actor that has no open fact, whatever its state says. `shown`:
    see `Activation.shown_at_last`. `stays`: of one that stays on its node; None where it goes to another one."""

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
    all_told: bool = False
    shown: Showing | None = None
    reminder_number: Annotated[int, Meta(ge=0)] = 0
    stays: Stays | None = None


class Arrival(msgspec.Struct):
    """A parcel unpacked: an activation that does not live yet, and what to give it when it does."""

    activation: Activation
    retiring: bool
    timers: list[tuple[str, float, tuple[Any, ...]]]
    due: list[tuple[str, tuple[Any, ...]]]
    carried: Any
    reminders: dict[str, int | None]
    shown: Showing | None = None
    reminder_number: int = 0

    @property
    def is_lively(self) -> bool:
        """True for an actor that lives by itself, without calls."""
        return bool(self.timers or self.due) or type(self.activation.actor).lives_on


Message = Offer | Ship | Go | Queued | Open | Over
encode = msgspec.msgpack.Encoder().encode
_message: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_parcel = msgspec.msgpack.Decoder(Parcel)
_taken = msgspec.msgpack.Decoder(Taken)
_ids = msgspec.msgpack.Decoder(list[ActorId])
Decode = Callable[[bytes], Any]
_decoders: dict[type[Actor[Any]], tuple[Decode, Decode]] = {}


def decode(payload: bytes) -> Message:
    """Raises `BadInput` for anything but a message, whole and plausible."""
    return decoded(_message.decode, payload, "migration message")


def decode_taken(payload: bytes) -> Taken:
    """The answer to an `Offer`. Raises `BadInput`."""
    return decoded(_taken.decode, payload, "migration answer")


def decode_ids(payload: bytes) -> list[ActorId]:
    """The answer to a `Ship`. Raises `BadInput`."""
    return decoded(_ids.decode, payload, "migration answer")


def pack(activation: Activation, epoch: Epoch, max_bytes: int) -> bytes | None:
    """The parcel of an activation at rest, for its owner under `epoch`; None if it is larger than `max_bytes`.
    Raises `Internal` where its `carry` fails or something of it cannot travel."""
    return _pack(activation, epoch, max_bytes, None)


def pack_here(activation: Activation, max_bytes: int) -> bytes | None:
    """The parcel of an activation as it is now, for the heir of its node; None if it is in the middle of something, or
    too large. Raises as `pack`."""
    if not activation.copyable:
        return None
    latest = activation.actor.source_parts() if isinstance(activation.actor, LatestActor) else None
    stays = Stays(latest, activation.log().narrowed if activation.has_log else 0)
    return _pack(activation, activation.epoch, max_bytes, stays)


def _pack(activation: Activation, epoch: Epoch, max_bytes: int, stays: Stays | None) -> bytes | None:
    log_parts = activation.log().parts() if activation.has_log else None
    if activation.has_log and log_parts is None:
        return None
    try:
        parcel = Parcel(
            activation.id,
            epoch,
            activation.version,
            states.encode(activation.boundary),
            activation.retiring,
            [(name, left_s, encode(args)) for name, left_s, args in activation.timers_left()],
            [(call.method.name, encode(call.args)) for call in activation.queued() if call.is_timer],
            encode(activation.carry()),
            activation.pending_reminders(),
            log_parts,
            activation.has_told_all,
            activation.shown_at_last(),
            activation.reminder_number,
            stays,
        )
        data = encode(parcel)
    except GarrisonError:
        raise
    except Exception as error:
        raise Internal(f"{activation.id} cannot travel: {error}") from None
    return data if len(data) <= max_bytes else None


def unpack(app: App, node: ActivationNode, data: bytes) -> Arrival:
    """The parcel in `data` as an activation of `node` that does not live yet. Raises `BadInput`."""
    try:
        parcel = _parcel.decode(data)
        cls = app.actor(kind_of(parcel.id))
        if cls is None:
            raise BadInput(f"no actor kind {kind_of(parcel.id)!r}")
        decode_state, decode_carried = _decoders_of(cls)
        state, carried = decode_state(parcel.state), decode_carried(parcel.carried)
    except UNDECODABLE as error:
        raise BadInput(f"parcel: {error}") from None
    activation = new_activation(node, cls, parcel.id, state, parcel.version)
    activation.epoch, activation.all_told = Epoch(parcel.epoch), parcel.all_told
    if issubclass(cls, LoggedActor):
        if parcel.log is None:
            raise BadInput(f"parcel of {parcel.id}: it has no log")
        activation.adopt_log(event_log.arrive(activation, node, cls, parcel.log))
    stays = parcel.stays
    if stays is not None and stays.latest is not None and isinstance(activation.actor, LatestActor):
        activation.actor.adopt_source(stays.latest)
    if stays is not None and activation.has_log:
        activation.log().narrowed = stays.narrowed
        event_log.narrowings.raise_to(stays.narrowed)  # a hook may narrow before the numbers of the process are known
    method = activation.timer_method
    try:
        timers = [(name, left_s, method(name).decode_args(args)) for name, left_s, args in parcel.timers]
        due = [(name, method(name).decode_args(args)) for name, args in parcel.due]
    except GarrisonError as error:
        raise BadInput(f"parcel of {parcel.id}: {error.message}") from None
    return Arrival(
        activation, parcel.retiring, timers, due, carried, parcel.reminders, parcel.shown, parcel.reminder_number
    )


def _decoders_of(cls: type[Actor[Any]]) -> tuple[Decode, Decode]:
    """Decoders of its state, and of what it carries, by the annotation of the parameter of `arrived`."""
    decoders = _decoders.get(cls)
    if decoders is None:
        carried = get_type_hints(cls.arrived).get("carried", Any)
        decoders = _decoders[cls] = states.decoder(cls.State), msgspec.msgpack.Decoder(carried).decode
    return decoders
