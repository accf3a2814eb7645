"""Who holds a live lease and is out of gossip's reach: told after a while, never for a normal change."""

from server.ids import Incarnation, NodeAddress, NodeId
from server.liveness.ports import NodeRow
from server.liveness.unreached import Unreached

LOOK_S = 2.0
"""Pause between two looks."""
ME, OTHER = NodeId("node-1"), NodeId("node-2")


def row(node: NodeId, run: int = 1, left_s: float = 1.5, state: str = "up") -> NodeRow:
    return NodeRow(node, Incarnation(run), state, left_s)  # type: ignore[arg-type]


def looks(unreached: Unreached, rows: list[NodeRow], known: dict[NodeId, int], begin: float, times: int) -> list[bool]:
    members = {node: Incarnation(run) for node, run in known.items()}
    return [unreached.follow(rows, members, begin + LOOK_S * number) for number in range(times)]


def test_a_live_lease_that_gossip_does_not_know_is_told_once_and_taken_back_once() -> None:
    unreached = Unreached(5.0, 2 * LOOK_S)
    assert looks(unreached, [row(ME), row(OTHER, 4)], {ME: 1}, 0.0, 3) == [False] * 3
    assert looks(unreached, [row(ME), row(OTHER, 4)], {ME: 1}, 6.0, 3) == [True, False, False]
    assert unreached.nodes == (NodeAddress(OTHER, Incarnation(4)),)
    assert looks(unreached, [row(ME), row(OTHER, 4)], {ME: 1, OTHER: 4}, 12.0, 2) == [True, False]
    assert unreached.nodes == ()


def test_a_run_known_to_be_over_or_expired_is_no_stranger() -> None:
    for rows, known in (
        ([row(OTHER, 3)], {ME: 1, OTHER: 3}),
        ([row(OTHER, 3)], {ME: 1, OTHER: 4}),  # the store has not heard of its newer run's end of the old
        ([row(OTHER, left_s=-0.1)], {ME: 1}),
        ([row(OTHER, state="evicting"), row(OTHER, 2, state="dead"), row(OTHER, 3, state="left")], {ME: 1}),
    ):
        unreached = Unreached(5.0, 2 * LOOK_S)
        assert looks(unreached, [row(ME), *rows], known, 0.0, 20) == [False] * 20


def test_a_start_and_a_death_within_a_lease_are_not_told() -> None:
    unreached = Unreached(60.0, 2 * LOOK_S)
    assert not any(looks(unreached, [row(ME), row(OTHER, left_s=20.0)], {ME: 1}, 0.0, 30))
    assert not any(looks(unreached, [row(ME), row(OTHER, left_s=-1.0)], {ME: 1}, 60.0, 3))
    assert not any(looks(unreached, [row(ME), row(OTHER, 2)], {ME: 1}, 66.0, 30))  # a new run counts anew


def test_a_node_that_slept_does_not_take_its_sleep_for_the_others_silence() -> None:
    unreached = Unreached(5.0, 2 * LOOK_S)
    rows = [row(ME), row(OTHER)]
    assert not unreached.follow(rows, {ME: Incarnation(1)}, 0.0)
    assert not unreached.follow(rows, {ME: Incarnation(1)}, 600.0)
    assert not unreached.follow(rows, {ME: Incarnation(1), OTHER: Incarnation(1)}, 601.0)


def test_forgotten_it_begins_again() -> None:
    unreached = Unreached(5.0, 2 * LOOK_S)
    looks(unreached, [row(OTHER)], {ME: 1}, 0.0, 5)
    assert unreached.nodes
    unreached.reset()
    assert unreached.nodes == ()
    assert not any(looks(unreached, [row(OTHER)], {ME: 1}, 10.0, 3))
