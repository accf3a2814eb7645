"""Retention of a journal: where it is cut, what keeps all of it, and copies of what the store cannot take."""

from typing import Any

import msgspec
import pytest

from server.errors import Unavailable
from server.ids import ActorId, Epoch
from server.settings import StoreSettings
from server.storage.journal.retention import JournalRetention


class Clock:
    """Boot time that a test moves."""

    def __init__(self) -> None:
        self.at = 10.0

    def boot(self) -> float:
        return self.at

    def now(self) -> float:
        return self.at


class CountingJournal:
    """A journal of positions only: `room` more records fit, and each cut is noted."""

    def __init__(self, durable_at_once: bool = True, room: int = 100) -> None:
        self.durable_at_once, self.room = durable_at_once, room
        self.position, self.broken = 1, False
        self.cuts: list[int] = []
        self.under_way: list[tuple[Any, int]] = []

    def append(self, entity: Any, state: msgspec.Struct) -> bool:
        if not self.room:
            raise Unavailable("full")
        self.room -= 1
        self.position += 1
        if not self.durable_at_once:
            self.under_way.append((entity, entity.version + 1))
        return self.durable_at_once

    def truncate(self, position: int) -> None:
        self.room += position - (self.cuts[-1] if self.cuts else 1)
        self.cuts.append(position)


class Stuck:
    """An activation whose state the store cannot take."""

    def __init__(self) -> None:
        self.id, self.epoch, self.version = ActorId("purse/bad"), Epoch(1), 1
        self.boundary: Any = None


def _retention(journal: Any, lease: bool = True) -> tuple[JournalRetention, Clock]:
    clock: Any = Clock()
    return JournalRetention(journal, StoreSettings(lease=lease), clock), clock


def test_a_flush_cuts_the_journal_where_the_flush_began() -> None:
    journal = CountingJournal()
    retention, _ = _retention(journal)
    journal.position = 7
    retention.flushed(5, (), owner_unknown=False)
    assert journal.cuts == [5]


def test_an_unknown_owner_keeps_the_whole_journal() -> None:
    journal = CountingJournal()
    retention, _ = _retention(journal)
    retention.flushed(1, (), owner_unknown=True)
    assert journal.cuts == []


def test_a_doubt_keeps_the_whole_journal_until_a_lease_that_was_asked_for_after_it() -> None:
    journal = CountingJournal()
    retention, clock = _retention(journal)
    retention.doubt()
    retention.flushed(1, (), owner_unknown=False)
    retention.lease_granted(clock.at)  # sent in the same moment: it says nothing about what came after
    assert retention.in_doubt and journal.cuts == []
    retention.lease_granted(clock.at + 0.1)
    retention.flushed(1, (), owner_unknown=False)
    assert not retention.in_doubt and journal.cuts == [1]


def test_a_deployment_without_leases_has_no_doubts() -> None:
    retention, _ = _retention(CountingJournal(), lease=False)
    retention.doubt()
    assert not retention.in_doubt


def test_the_journal_of_an_ended_run_stays_as_it_is() -> None:
    journal = CountingJournal()
    retention, _ = _retention(journal)
    retention.end()
    retention.flushed(1, (), owner_unknown=False)
    assert journal.cuts == [] and not retention.active


def test_a_node_without_a_journal_keeps_nothing() -> None:
    retention, _ = _retention(None)
    retention.doubt()
    retention.flushed(retention.position, (), owner_unknown=False)
    assert not retention.active and not retention.in_doubt


def test_a_stuck_state_is_copied_to_the_end_and_the_journal_is_cut_before_the_copy() -> None:
    journal, stuck = CountingJournal(), Stuck()
    retention, _ = _retention(journal)
    journal.position = 9
    retention.flushed(9, [stuck], owner_unknown=False)
    assert (journal.position, journal.cuts) == (10, [9])
    retention.flushed(10, [stuck], owner_unknown=False)  # nothing else was appended: no second copy
    assert (journal.position, journal.cuts) == (10, [9, 9])


def test_a_copy_that_is_under_way_keeps_the_record_before_it() -> None:
    journal, stuck = CountingJournal(durable_at_once=False), Stuck()
    retention, _ = _retention(journal)
    journal.position = 9
    retention.flushed(9, [stuck], owner_unknown=False)
    assert journal.cuts == [0] and len(journal.under_way) == 1
    copy, version = journal.under_way.pop()
    copy.released(version)
    retention.flushed(9, [stuck], owner_unknown=False)
    assert journal.cuts == [0, 9] and version == stuck.version


@pytest.mark.parametrize(("durable_at_once", "cuts"), [(True, [9, 9]), (False, [0])])
def test_a_full_journal_makes_room_for_a_copy_only_if_nothing_can_be_lost_in_between(
    durable_at_once: bool, cuts: list[int]
) -> None:
    journal = CountingJournal(durable_at_once, room=0)
    retention, _ = _retention(journal)
    journal.position = 9
    retention.flushed(9, [Stuck()], owner_unknown=False)
    assert journal.cuts == cuts


def test_a_position_of_another_run_is_refused() -> None:
    retention, _ = _retention(CountingJournal())
    with pytest.raises(AssertionError, match="another run"):
        retention.flushed(2, (), owner_unknown=False)
