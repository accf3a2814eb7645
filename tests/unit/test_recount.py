"""Rows of careers against logs, and sums against rows: what only earlier versions and living clusters have."""

from typing import Any

import pytest
from msgspec.structs import replace

from game.careers.events import Gain, Rated, Result
from game.careers.ratings import FIRST
from game.careers.recount import CareerRow, Mending, Recounted, mended, recounted, row_differences, sums
from game.messages import Ended, Kill
from tests.support.matches import Played

GAIN = Gain("slayer", "s0", True, 2, 0, 0, 0, 2, 30, {}, "slayer.solo", 500, -1)
RESULTS = [Result("ann", 2, 30, [], 500, -1), Result("bob", 0, 30, [], -500, -1)]


def match(*after: Any, is_rated: bool = True) -> Recounted:
    played = Played().create(teams=0, countdown_ms=0, score_limit=0).join("ann", "bob").start()
    played.report(Kill(10, "ann", "bob"), Kill(20, "ann", "bob"))
    played.emit([Ended(30, "host_ended", "ann", 50, rated=is_rated), *after])
    found = recounted("m", played.stored())
    assert found is not None
    return found


SOUND = match(Rated(30, "s0", "slayer.solo", RESULTS))
OLD = match(is_rated=False)


def row(**fields: Any) -> CareerRow:
    return CareerRow("ann", "m", SOUND.birth, 50, replace(GAIN, **fields))


def findings(*stored: CareerRow, of: Recounted = SOUND, told: bool = True) -> list[tuple[str, str, str]]:
    found = row_differences(of, [*stored, of.rows["bob"]] if of.rows else stored, told)
    assert found.waiting == (not told)
    return [(each.what, each.player, each.field) for each in found.differences]


def test_a_sound_row_passes_and_a_missing_one_is_waited_for_until_all_is_told() -> None:
    assert SOUND.rows["ann"] == row() and not SOUND.disputed
    assert findings(row()) == []
    assert findings() == [("missing", "ann", "row")]
    assert findings(told=False) == []


def test_a_match_whose_name_is_used_again_has_rows_of_its_own() -> None:
    earlier = replace(row(), birth=SOUND.birth - 9, ended_wall_ms=20)
    assert findings(row(), earlier) == []
    assert findings(earlier) == [("missing", "ann", "row")]


def test_a_row_that_knows_no_birth_is_that_of_the_match_that_ended_then() -> None:
    unnamed = replace(row(), birth=0)
    assert findings(unnamed) == []
    assert findings(row(), unnamed) == [("doubled", "ann", "row")]
    found = row_differences(SOUND, [replace(row(kills=9), birth=0), SOUND.rows["bob"]], told=True)
    assert found.mendings == [Mending(replace(row(kills=9), birth=0), replace(row(), birth=0))]


def test_a_match_of_an_earlier_version_gives_its_lines() -> None:
    plain = OLD.rows["ann"]
    assert (plain.gain, OLD.is_old) == (Gain("slayer", "", True, 2), True)
    assert findings(plain, of=OLD) == []
    assert findings(replace(plain, gain=Gain("", "", True, 2)), of=OLD) == [], "told when results told no mode"
    assert findings(replace(plain, gain=Gain("", "", True, 3)), of=OLD) == [("differs", "ann", "kills")]


def test_results_that_are_not_made_yet_say_nothing() -> None:
    found = row_differences(match(), [row()], told=False)
    assert match().is_open and (found.waiting, found.differences, found.mendings) == (2, [], [])


def test_a_match_that_is_not_over_is_none() -> None:
    assert recounted("m", Played().live(2).stored()) is None


def test_results_that_the_events_do_not_bear_out_are_disputed() -> None:
    told = Rated(30, "s0", "slayer.solo", [replace(RESULTS[0], best_streak=7), RESULTS[1]])
    found = match(told)
    assert found.disputed == ["ann"] and found.rows["ann"].gain.best_streak == 7


@pytest.mark.parametrize("taken", [None, row(kills=9)])
def test_sums_are_those_of_rows_as_they_will_be(taken: CareerRow | None) -> None:
    stored = [taken] if taken is not None else []
    other = CareerRow("ann", "n", 1, 2, replace(GAIN, kills=5, names={"Ace": 2}))
    after = mended(sums([other, *stored]), [Mending(taken, row(names={"Ace": 1}))])
    line = after.totals["ann", "slayer", "s0"]
    assert line[:3] == (2, 2, 7)
    assert line[-3:] == ((2, 5, "n") if taken is None else (None, None, None)), "not known where a row goes"
    assert after.medals == {("ann", "slayer", "s0", "Ace"): (3,)}
    assert after.ratings == {("ann", "slayer.solo"): (FIRST.mu + 1_000, FIRST.log_sigma - 2, 2)}
    gone = mended(sums([row()]), [Mending(row(), None)])
    assert (gone.totals, gone.medals, gone.ratings) == ({}, {}, {})
