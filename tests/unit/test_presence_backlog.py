"""How old the oldest thing is that a peer has not been told, and ends that a home remembers."""

from server.presence.heard import Floors
from server.presence.outgoing import Backlog


def test_a_backlog_is_as_old_as_what_waits_first() -> None:
    backlog = Backlog()
    backlog.look(0, 1.0)
    assert backlog.told_to == 1.0
    backlog.look(3, 2.0)
    backlog.delivered(2)
    backlog.look(7, 3.0)
    assert backlog.told_to == 1.0
    backlog.delivered(1)
    assert backlog.told_to == 2.0


def test_a_backlog_that_never_empties_follows_what_is_delivered() -> None:
    backlog = Backlog()
    backlog.look(0, 0.0)
    for second in range(1, 20):
        backlog.look(5, float(second))
        backlog.delivered(5)
        assert backlog.told_to == second


def test_ends_are_listed_once_with_their_highest_order_and_forgotten_in_time() -> None:
    ends = Floors()
    ends.raise_to("ann", (1, 2))
    ends.age(0.0, 10.0)
    ends.raise_to("ann", (3, 1))
    ends.raise_to("ben", (2, 1))
    ends.raise_to("no epochs", (0, 5))
    assert sorted(ends.items()) == [("ann", (3, 1)), ("ben", (2, 1))]
    ends.age(10.0, 10.0)
    ends.age(20.0, 10.0)
    assert list(ends.items()) == []
