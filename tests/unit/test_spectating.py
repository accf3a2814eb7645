"""The rule of the spectators' delay."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from game.careers.events import Outcome
from game.match import rules, spectating
from game.match.state import Line, Lines, MatchState
from game.messages import Created, MatchEvent, MatchOptions
from server.eventlog.entry import Record
from server.states import encode_canonical

TIMES = st.integers(0, 2**45)
DELAYS = st.integers(1, 600_000)


def made(**options: object) -> MatchState:
    created = rules.create(MatchState(), "m", "host", MatchOptions(**options), 1_000)[0]  # type: ignore[arg-type]
    return rules.evolve(MatchState(), Record(1, created))


def test_a_match_keeps_the_delay_that_it_was_made_with() -> None:
    assert spectating.delay_ms(made(spectator_delay_ms=30_000)) == 30_000
    assert made().spectator_delay_ms is UNSET and spectating.delay_ms(made()) == 0


def test_a_match_without_a_delay_is_encoded_as_it_always_was() -> None:
    """Its state hashes as in logs of earlier versions, whose `created` has no such place."""
    assert b"spectator_delay_ms" not in encode_canonical(made())
    wire = msgspec.msgpack.decode(msgspec.msgpack.encode(Created(0, "host", MatchOptions(), 1_000)))
    wire[3] = wire[3][:14]
    before = msgspec.msgpack.decode(msgspec.msgpack.encode(wire), type=MatchEvent)
    assert spectating.delay_ms(rules.evolve(MatchState(), Record(1, before))) == 0


@pytest.mark.parametrize("wrong", [-1, 600_001, "1", 0.5])
def test_a_delay_out_of_bounds_is_no_option(wrong: object) -> None:
    before = list(msgspec.structs.astuple(MatchOptions()))[:14]
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert([*before, wrong], MatchOptions)
    assert msgspec.convert([*before, 600_000], MatchOptions).spectator_delay_ms == 600_000
    assert msgspec.convert(before, MatchOptions).spectator_delay_ms == 0


def test_a_match_is_public_where_it_has_no_delay_or_its_results_are_made() -> None:
    assert spectating.is_public(made())
    delayed = made(spectator_delay_ms=1)
    assert not spectating.is_public(delayed)
    over = msgspec.structs.replace(delayed, phase="ended", outcome=Outcome())
    assert not spectating.is_public(over)
    assert spectating.is_public(msgspec.structs.replace(over, outcome=Outcome(whole=True)))


def test_an_onlooker_neither_plays_nor_hosts() -> None:
    state = msgspec.structs.replace(made(), players=Lines({"ann": Line(), "bob": Line(present=False)}))
    seen = {name: spectating.is_onlooker(state, name, f"player/{name}") for name in ("ann", "bob", "eve")}
    assert seen == {"ann": False, "bob": True, "eve": True}
    assert not spectating.is_onlooker(state, None, "host") and spectating.is_onlooker(state, None, "referee")


@given(TIMES, TIMES)
def test_a_match_without_a_delay_has_no_bound(started: int, now: int) -> None:
    assert spectating.public_until_ms(0, started, now) == spectating.UNBOUNDED


@given(DELAYS, st.integers(1, 2**45), TIMES, st.integers(0, 2**45), st.integers(0, 10_000))
def test_the_public_moment_lags_by_the_delay_and_never_goes_back(
    delay: int, started: int, passed: int, live_from: int, later: int
) -> None:
    until = spectating.public_until_ms(delay, started, started + passed, live_from)
    assert until == max(-1, live_from + passed - delay)
    assert until < live_from + passed
    assert until <= spectating.public_until_ms(delay, started, started + passed + later, live_from)


@given(DELAYS, TIMES)
def test_nothing_is_public_by_the_clock_of_a_match_that_has_not_begun(delay: int, now: int) -> None:
    assert spectating.public_until_ms(delay, 0, now) == -1


def test_a_match_as_announced_has_nothing_that_happened() -> None:
    delayed = made(spectator_delay_ms=5_000, map_name="Recharge")
    later = msgspec.structs.replace(
        delayed, players=Lines({"ann": Line(kills=3)}), team_scores=(3, 0), phase="ended", winner="team:0", time_ms=9
    )
    assert spectating.as_announced(later) == delayed
    assert spectating.as_announced(msgspec.structs.replace(later, host="other", term=7)).host == ""
