"""Who went out of the view without a goodbye, and for how long."""

from server.cluster.view import Member, MemberState, View
from server.ids import Incarnation, NodeAddress, NodeId
from server.liveness.vanished import Vanished


def _view(*members: tuple[str, int, MemberState]) -> View:
    return View(tuple(Member(NodeId(n), Incarnation(run), 4, state, "", "", "") for n, run, state in members))


ALL = _view(("a", 1, "up"), ("b", 2, "up"), ("c", 3, "leaving"))
B = NodeAddress(NodeId("b"), Incarnation(2))


def test_a_node_that_left_in_order_is_not_missed() -> None:
    gone = Vanished(10.0)
    gone.follow(ALL, _view(("a", 1, "up")), 5.0)
    assert gone.for_longer_than(1.0, 5.5) == []
    assert gone.for_longer_than(1.0, 6.0) == [B]


def test_a_node_that_is_seen_again_or_comes_back_as_another_run_is_not_missed() -> None:
    for again in (("b", 2, "up"), ("b", 9, "joining")):
        gone = Vanished(10.0)
        gone.follow(ALL, _view(("a", 1, "up")), 5.0)
        gone.follow(_view(("a", 1, "up")), _view(("a", 1, "up"), again), 6.0)  # type: ignore[arg-type]
        assert gone.for_longer_than(0.0, 7.0) == []


def test_nobody_is_missed_for_ever() -> None:
    gone = Vanished(10.0)
    gone.follow(ALL, _view(("a", 1, "up")), 5.0)
    assert gone.for_longer_than(1.0, 14.9) == [B]
    assert gone.for_longer_than(1.0, 15.0) == []
