"""Retention of the journal of this run: the one place that decides what it may forget, and when.

Facts come in, and only the journal hears what follows from them:

    write-behind   `flushed`: so much is in the store; `doubt`: a change was fenced or given up
    durability     `lease_granted`: the store says that this run is not over
    node           `end`: this run is over

A journal is cut at its low-water mark, the oldest record whose change is not in the store, as ARIES cuts a
log at the oldest change that no page on disk has. A state that the store cannot take would hold that mark for
ever: its record is copied to the journal's end as the journal goes on, so that it holds up nobody else's.
"""

from collections.abc import Collection
from operator import attrgetter
from typing import Any, Protocol

import structlog

from server.errors import Unavailable
from server.ids import ActorId, Epoch
from server.runtime.clock import Clock
from server.settings import StoreSettings
from server.storage.journal.ports import Journal

log = structlog.get_logger(__name__)


class Retained(Protocol):
    """An activation whose newest state the store cannot take: its record must stay in the journal."""

    id: ActorId
    epoch: Epoch
    version: int
    boundary: Any


class _RecordCopy:
    """The record of one such state, on its way to the journal's end. It is what the journal's driver
    takes for the entity: `id`, `epoch`, `version`, and `released` when an append has become durable."""

    def __init__(self, entity: Retained) -> None:
        self.entity = entity
        self.id, self.epoch = entity.id, entity.epoch
        self.version = entity.version - 1
        """The version before the state's, as `Journal.append` expects it."""
        self.durable_at = 0
        """Position of the newest durable copy; 0: there is none."""
        self._under_way = 0
        """Position of a copy that is appended and not durable yet; 0: there is none."""

    def is_of(self, entity: Retained) -> bool:
        """Tell whether this copies the newest state of this very activation."""
        return self.entity is entity and (self.epoch, self.version + 1) == (entity.epoch, entity.version)

    def append(self, journal: Journal) -> None:
        """Append one more copy, unless the last one is still under way. Raises `Unavailable`."""
        if self._under_way:
            return
        position = journal.position
        if journal.append(self, self.entity.boundary):
            self.durable_at = position
        else:
            self._under_way = position

    def released(self, version: int) -> None:
        """Note that the copy that was under way is durable."""
        self.durable_at, self._under_way = self._under_way, 0


_by_durable_at = attrgetter("durable_at")


class JournalRetention:
    """See the module's head. On a node without a journal it has nothing to keep."""

    def __init__(self, journal: Journal | None, settings: StoreSettings, clock: Clock) -> None:
        self._journal, self._leases, self._clock = journal, settings.lease, clock
        self._ended = False
        self._doubt_at: float | None = None
        self._copies: dict[ActorId, _RecordCopy] = {}
        self._copied_to = 0
        """The journal's position after the last copies."""
        self._no_room_told = False

    @property
    def active(self) -> bool:
        """True while a journal of this run is kept: there is one, and the run is not over."""
        return self._journal is not None and not self._ended

    @property
    def in_doubt(self) -> bool:
        """True while the journal holds records that only a successor could need; see `doubt`."""
        return self._doubt_at is not None

    @property
    def position(self) -> int:
        """The journal's end: what is dirty now has its records before it."""
        return self._journal.position if self._journal is not None else 0

    def end(self) -> None:
        """Leave the journal as it is from now on: this run is over, and a successor reads it."""
        self._ended = True

    def doubt(self) -> None:
        """Keep every record until the lease is granted again: a change was fenced or given up, so this run
        may be over without knowing it, and its successor needs them. Without leases nothing would ever say
        that this run is not over, and no successor waits for it: there the journal goes on."""
        if self._journal is not None and self._leases:
            self._doubt_at = self._clock.boot()

    def lease_granted(self, sent_at: float) -> None:
        """End the doubt if the lease was asked for (`sent_at`, boot time) after it arose: whoever took
        over had to see this run dead, and it was alive then."""
        if self._doubt_at is not None and sent_at > self._doubt_at:
            self._doubt_at = None

    def flushed(self, position: int, stuck: Collection[Retained], *, owner_unknown: bool) -> None:
        """Let the journal forget what was in it at `position`, when a flush began that stored everything
        but `stuck`. `owner_unknown`: of some entity it is not known whether a migration has moved it."""
        if self._may_forget(owner_unknown):
            assert self._journal is not None
            self._forget(self._journal, position, stuck)

    def _may_forget(self, owner_unknown: bool) -> bool:
        """False after a fence (this run may already be dead without knowing it, and its successor will read
        these records) and while any entity's ownership is being resolved."""
        return self.active and not self.in_doubt and not owner_unknown

    def _forget(self, journal: Journal, position: int, stuck: Collection[Retained]) -> None:
        """Cut the journal at `position`, or at the oldest durable copy of a stuck state."""
        assert 0 <= position <= journal.position, "a position of another run"
        self._copies = {entity.id: self._copy_of(entity) for entity in stuck}
        copies = self._copies.values()
        if copies and (position > self._copied_to or not all(copy.durable_at for copy in copies)):
            self._copy_all(journal, position)
        journal.truncate(min([position, *(copy.durable_at for copy in copies)]))

    def _copy_of(self, entity: Retained) -> _RecordCopy:
        copy = self._copies.get(entity.id)
        return copy if copy is not None and copy.is_of(entity) else _RecordCopy(entity)

    def _copy_all(self, journal: Journal, position: int) -> None:
        """Append a copy of each, at most once a flush and only if something else was appended since. A full
        journal that makes an append durable at once is cut first, since nothing can be lost in between;
        with another the next flush tries again, when what is older than all of the copies is forgotten."""
        try:
            self._append_copies(journal)
        except Unavailable as error:
            if not journal.durable_at_once or journal.broken:
                self._no_room(error)
                return
            journal.truncate(position)
            try:
                self._append_copies(journal)
            except Unavailable as again:
                self._no_room(again)

    def _append_copies(self, journal: Journal) -> None:
        for copy in sorted(self._copies.values(), key=_by_durable_at):
            copy.append(journal)
        self._copied_to, self._no_room_told = journal.position, False

    def _no_room(self, error: Unavailable) -> None:
        if not self._no_room_told:
            log.error("no room for what the store cannot take", count=len(self._copies), why=error.message)
        self._no_room_told = True
