"""Generated matches have the rates of recorded ones."""

import itertools
import random
from collections import Counter

import pytest

from garrison.messages import Assist, Kill, Medal, Objective
from garrison_bots import record
from garrison_bots.generate import generate
from garrison_bots.recorded import read_recording
from tests.support.program import ROOT

TEAMS: dict[str, int | None] = {f"p{place}": place % 2 for place in range(8)}
LENGTH_MS = 40 * 60_000


@pytest.mark.parametrize("seed", range(8))
def test_rates_are_those_of_recorded_matches(seed: int) -> None:
    events = list(generate(TEAMS, LENGTH_MS, random.Random(seed)))
    kills = [event.time_ms for event in events if isinstance(event, Kill)]
    medals = [event for event in events if isinstance(event, Medal)]
    minutes = (kills[-1] - kills[0]) / 60_000
    assert 9.0 <= len(kills) / minutes <= 14.0
    assert 5.4 <= minutes * 60 / len(medals) <= 16.5


def test_kills_come_in_bursts_and_lulls() -> None:
    kills = [e.time_ms for e in generate(TEAMS, LENGTH_MS, random.Random(1)) if isinstance(e, Kill)]
    gaps = [after - before for before, after in itertools.pairwise(kills)]
    assert sum(gap <= 4_500 for gap in gaps) / len(gaps) > 0.35
    assert 12_000 < max(gaps) < 60_000
    a_window = Counter(time_ms // 10_000 for time_ms in kills)
    assert 4 <= max(a_window.values()) <= 9


def test_events_are_in_order_and_fit_the_rules() -> None:
    events = list(generate(TEAMS, 600_000, random.Random(3), "objective"))
    times = [event.time_ms for event in events]
    assert times == sorted(times) and times[-1] < 600_000
    assert {type(event) for event in events} == {Kill, Medal, Assist, Objective}
    assert all(TEAMS[e.player] != TEAMS[e.victim] for e in events if isinstance(e, Kill) and e.victim)


def test_the_same_seed_gives_the_same_match() -> None:
    first, second = (list(generate(TEAMS, 300_000, random.Random(9))) for _ in range(2))
    assert first == second
    assert first != list(generate(TEAMS, 300_000, random.Random(10)))


def test_everyone_for_themselves() -> None:
    teams: dict[str, int | None] = {"a": None, "b": None, "c": None}
    events = list(generate(teams, 600_000, random.Random(2)))
    assert all(e.player != e.victim for e in events if isinstance(e, Kill))
    assert not any(isinstance(event, Assist) for event in events)


def test_the_recording_that_is_shipped_is_what_its_command_prints() -> None:
    shipped = ROOT / "clients/bots/recordings/slayer.jsonl"
    assert shipped.read_text() == "".join(f"{line}\n" for line in record.lines(1))
    recording = read_recording(shipped)
    assert len(recording.players) == record.PLAYERS
    assert recording.length_ms <= record.LENGTH_MS
    totals = recording.totals().values()
    assert sum(player["kills"] for player in totals) == sum(player["deaths"] for player in totals) > 50
