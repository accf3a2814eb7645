"""Activations as they are copied ahead of a succession: in slices while the predecessor serves, again where they were
touched since, and last, while it rests, the few that are left.

Both sides keep a digest of what the heir is to hold: the exclusive-or of the hashes of all parcels. A parcel that is
replaced, or that is gone, leaves it again. They must be the same before `LastWord`, or the succession is called off.

An activation in the middle of a turn, or with an answer that waits for the store, is copied in a later round.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import structlog
from xxhash import xxh3_64_intdigest

from server.activations import parcels
from server.activations.activation import Activation
from server.activations.event_log import EventLog
from server.catalog.system import ActorSystem
from server.errors import GarrisonError, Unavailable
from server.ids import ActorId
from server.runtime.barrier import Barrier

log = structlog.get_logger(__name__)
MAX_PARCEL_BYTES: Final = 32 * 1024 * 1024
SWEPT_AT_ONCE: Final = 5_000
ACTIVATION_CHANGES: Final = (
    "adopt_reminders", "begin_close", "call", "call_at", "cancel_close", "cancel_timer", "committed", "deliver", "drop",
    "fenced", "fire", "freeze", "halt", "hook", "note_stored", "release", "released", "remind", "replace_timers",
    "set_timer", "show_again", "showing", "stay", "thaw", "unremind", "_drain", "_finish", "_fired", "_not_fired",
)  # fmt: skip
"""Methods of an activation that change what its parcel holds."""
LOG_CHANGES: Final = (
    "append", "attach", "committed", "delay", "end_turn", "narrow", "renew", "rollback_to", "seal_due", "seal_failed",
    "sealed", "take", "watch_on", "_make_public",
)  # fmt: skip
"""Methods of its event log that do."""


class CopiedActivations:
    """The predecessor's side: what the heir has, and what of it is to be copied, again or for the first time."""

    def __init__(self, system: ActorSystem) -> None:
        self._system, self._live = system, system.catalog.live
        self._touched = Barrier(ACTIVATION_CHANGES)
        self._logs_touched = Barrier(LOG_CHANGES, key=_owner)
        self._sweep = self._unknown()
        self.swept = False
        """True once the sweep has found all."""
        self._ahead: list[Activation] = []
        """Activations that the sweep has found."""
        self._waiting: dict[Activation, None] = {}
        """Activations that were born or touched since."""
        self._later: dict[Activation, None] = {}
        """Activations that could not be copied in this round."""
        self._refused: dict[ActorId, str] = {}
        """The reasons why some can never be copied."""
        self._gone: dict[ActorId, None] = {}
        self._hashes: dict[ActorId, int] = {}
        self.digest = 0

    def __len__(self) -> int:
        """How many activations the heir has."""
        return len(self._hashes)

    @property
    def waiting(self) -> int:
        """How many activations the next slices are of, as far as they were found."""
        return len(self._waiting) + len(self._later) + len(self._ahead) + (not self.swept)

    @property
    def missing(self) -> int:
        """How many activations of this node the heir has not."""
        return len(self._live) - len(self._hashes)

    def begin(self) -> None:
        """Copy all that there are."""
        self._system.catalog.watcher = self

    def end(self) -> None:
        """Copy no more."""
        self._system.catalog.watcher = None
        self._touched.end()
        self._logs_touched.end()

    def _unknown(self) -> Iterator[list[Activation]]:
        """All activations that the heir has not and that do not wait, some at a time. A list of all would hold up a
        node with a million of them, and so would a look at all: each step is a look at some, and may find none. Others
        end meanwhile, so that the places of the rest change and some are passed over: it goes round until it finds
        none."""
        found = True
        while found:
            found, at = False, 0
            while some := list(islice(self._live.values(), at, at + SWEPT_AT_ONCE)):
                at += len(some)
                aside = self._waiting, self._later
                unknown = [it for it in some if it.id not in self._hashes and not any(it in those for those in aside)]
                found = found or bool(unknown)
                yield unknown

    # ---- the catalog's word ----

    def born(self, activation: Activation) -> None:
        """See `server.catalog.ports.CatalogWatcher`."""
        self._waiting[activation] = None

    def gone(self, activation: Activation) -> None:
        """See `server.catalog.ports.CatalogWatcher`."""
        self._waiting.pop(activation, None)
        self._later.pop(activation, None)
        self._forget(activation.id)

    def _forget(self, identity: ActorId) -> None:
        known = self._hashes.pop(identity, None)
        if known is not None:
            self.digest ^= known
            self._gone[identity] = None

    # ---- slices ----

    def touched_again(self) -> None:
        """Begin a round: let the next slices be of those that were touched since they were copied, or could not be."""
        self._waiting.update(self._later)
        self._later.clear()
        for activation in (*self._touched.take(), *self._logs_touched.take()):
            if not activation.dropped:
                self._waiting[activation] = None

    def slice(self, most: int) -> tuple[list[bytes], list[ActorId]]:
        """The parcels of `most` activations that wait, and the ids of those that are gone. One in a turn, or that
        cannot be copied, is tried again in the next round."""
        found: list[bytes] = []
        tried = 0
        while tried < most:
            activation = self._next()
            if activation is None:
                break
            if activation.dropped:
                continue
            tried += 1
            data = self._pack(activation)
            if data is None:
                self._later[activation] = None
            else:
                found.append(data)
        return found, self.take_gone()

    def _next(self) -> Activation | None:
        if not self._ahead and not self.swept:
            some = next(self._sweep, None)
            self._ahead, self.swept = some or [], some is None
            if some == []:
                return None  # looked at enough for now
        if self._ahead:
            return self._ahead.pop()
        return self._waiting.popitem()[0] if self._waiting else None

    def take_gone(self) -> list[ActorId]:
        """The ids of activations that the heir has and that are no more; told once."""
        gone, self._gone = list(self._gone), {}
        return gone

    def _pack(self, activation: Activation) -> bytes | None:
        try:
            data = parcels.pack_here(activation, MAX_PARCEL_BYTES)
        except GarrisonError as error:
            if self._refused.get(activation.id) != error.message:
                log.warning("cannot be copied", actor=activation.id, why=error.message)
                self._refused[activation.id] = error.message
            return None
        if data is None:
            return None
        self._touched.watch(activation)
        if activation.has_log:
            self._logs_touched.watch(activation.log())
        known, new = self._hashes.get(activation.id, 0), xxh3_64_intdigest(data)
        self._hashes[activation.id] = new
        self.digest ^= known ^ new
        self._gone.pop(activation.id, None)
        return data

    def not_at_rest(self) -> Activation | None:
        """An activation with a turn, an answer or a call under way; None where there is none. Only those are looked at
        that have changed since they were copied: they were at rest then."""
        for some in (self._ahead, self._waiting, self._later, self._touched.touched, self._logs_touched.touched):
            for it in some:
                if not (it.dropped or it.copyable):
                    return it
        return None

    def leave_the_rest_to_store(self) -> None:
        """Let the heir have nothing of durable activations that cannot be copied, now that nothing is under way any
        more: the store has all of them. Raises `Unavailable` for another one, with the reason."""
        for activation in [*self._waiting, *self._later]:
            if not activation.durable:
                why = self._refused.get(activation.id) or "it is not at rest"
                raise Unavailable(f"{activation.id} cannot go over: {why}")
            self._system.leave_to_store(activation)  # `gone` is told of it


class ArrivedActivations:
    """The heir's side. They live, in a system that is in standby."""

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._hashes: dict[ActorId, int] = {}
        self.digest = 0

    def __len__(self) -> int:
        return len(self._hashes)

    def take(self, data: Iterable[bytes], gone: Iterable[ActorId], age_s: float) -> None:
        """Let the activations of these parcels live, which were packed `age_s` ago. Raises `BadInput`, and what their
        hooks raise."""
        for identity in gone:
            self._forget(identity)
            self._system.withdraw_copy(identity)
        for parcel in data:
            self._take(parcel, age_s)

    def _take(self, data: bytes, age_s: float) -> None:
        system = self._system
        arrival = parcels.unpack(system.app, system, data)
        arrival.timers = [(name, max(0.0, left_s - age_s), args) for name, left_s, args in arrival.timers]
        identity = arrival.activation.id
        self._forget(identity)
        system.receive_copy(arrival)
        self._hashes[identity] = new = xxh3_64_intdigest(data)
        self.digest ^= new

    def _forget(self, identity: ActorId) -> None:
        self.digest ^= self._hashes.pop(identity, 0)


def _owner(event_log: EventLog) -> object:
    return event_log.owner
