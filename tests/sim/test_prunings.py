"""Retention in the simulated cluster: matches go while nodes die, and careers stay what all logs said."""

from tests.sim.prunings import prunings


def test_old_matches_go_and_every_result_is_counted_once() -> None:
    assert prunings(7) == []
