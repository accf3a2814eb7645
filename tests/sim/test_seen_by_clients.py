"""Hellos that their client has given up take no session from it; a countdown holds when its node is gone."""

import pytest

from tests.sim.abandoned import abandoned
from tests.sim.clubs import clubs
from tests.sim.countdowns import countdowns
from tests.sim.dismissed import dismissed
from tests.sim.lagging import lagging
from tests.sim.pictures import pictures
from tests.sim.shut_out import late_reads, shut_out


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_hello_that_was_given_up_takes_no_session_from_its_client(seed: int) -> None:
    assert abandoned(seed) == []


def test_no_client_is_told_to_stop_by_its_own_earlier_question() -> None:
    """A question for the session of a live connection came late, in 49."""
    assert pictures(49) == []


@pytest.mark.parametrize("seed", [1, 5, 18])
def test_a_client_that_may_watch_no_more_is_shown_nothing_newer(seed: int) -> None:
    """Watchers that are not asked about again are found by 1, an answer older than the change by 1, a question
    that failed and is not asked again by 18."""
    assert clubs(seed) == []


@pytest.mark.parametrize("seed", [1, 4, 10])
def test_a_client_that_may_watch_a_stream_no_more_is_shown_nothing_newer(seed: int) -> None:
    """Seed 10 finds an answer that counts for a newer guard."""
    assert shut_out(seed) == []


def test_a_read_that_finds_the_end_of_a_watch_shows_nothing_newer() -> None:
    assert late_reads(1) == []


@pytest.mark.parametrize("seed", [1, 2, 5])
def test_a_client_that_lags_holds_no_event_that_is_younger_than_the_delay(seed: int) -> None:
    """Seed 2 finds events that are never public where their stream was loaded."""
    assert lagging(seed) == []


@pytest.mark.parametrize("seed", [1, 7, 18])
def test_a_session_that_an_actor_ends_is_over_wherever_it_was(seed: int) -> None:
    """Seeds 7 and 18 found sessions that were on their way and lived on."""
    assert dismissed(seed) == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_countdown_ends_in_time_where_its_node_is_gone(seed: int) -> None:
    """F63."""
    assert countdowns(seed) == []
