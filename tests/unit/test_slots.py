"""The slot table: balance by weight, minimal movement, the same on every machine."""

import hashlib
import os
import random
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.cluster import slots
from server.cluster.slots import SlotTable
from server.ids import SLOT_COUNT, Incarnation, NodeAddress, NodeId, actor_id, slot

ROOT = Path(__file__).parents[2]


def node(name: str, incarnation: int = 1) -> NodeAddress:
    return NodeAddress(NodeId(name), Incarnation(incarnation))


def table(**weights: int) -> SlotTable:
    return SlotTable(tuple(sorted((node(name), weight) for name, weight in weights.items())))


def owners(of: SlotTable) -> list[NodeAddress | None]:
    return list(map(of.owner_of_slot, range(SLOT_COUNT)))


def test_no_owner_in_an_empty_table() -> None:
    empty = SlotTable(())
    assert empty.owner(actor_id("player", "x")) is None
    assert empty.owner_of_slot(0) is None
    assert empty.counts() == {}
    assert empty.runs() == []


def test_one_owner_has_all() -> None:
    alone = table(a=1)
    assert alone.counts() == {node("a"): SLOT_COUNT}
    assert alone.runs() == [(SLOT_COUNT, node("a"))]


def test_an_actor_belongs_to_the_owner_of_its_slot() -> None:
    three = table(a=4, b=4, c=4)
    for i in range(200):
        identity = actor_id("player", f"p{i}")
        assert three.owner(identity) == three.owner_of_slot(slot(identity))


@pytest.mark.parametrize(
    "weights", [{"a": 4, "b": 4, "c": 4}, {"a": 1, "b": 2, "c": 4, "d": 8}, {f"n{i}": 4 for i in range(20)}]
)
def test_shares_follow_weights(weights: dict[str, int]) -> None:
    counts = table(**weights).counts()
    total = sum(weights.values())
    for name, weight in weights.items():
        expected = SLOT_COUNT * weight / total
        assert abs(counts[node(name)] - expected) < 5 * expected**0.5  # five standard deviations
    assert sum(counts.values()) == SLOT_COUNT


weight_maps = st.dictionaries(
    st.text("abcdefghij0123456789-", min_size=1, max_size=8), st.integers(1, 16), min_size=2, max_size=8
)


@settings(max_examples=15, deadline=None)
@given(weight_maps, st.randoms(use_true_random=False))
def test_only_the_slots_of_who_goes_move(weights: dict[str, int], rng: random.Random) -> None:
    gone = rng.choice(sorted(weights))
    before = owners(table(**weights))
    after = owners(table(**{name: weight for name, weight in weights.items() if name != gone}))
    for old, new in zip(before, after, strict=True):
        assert old == new or old == node(gone)


@settings(max_examples=15, deadline=None)
@given(weight_maps, st.integers(1, 16))
def test_a_newcomer_takes_its_slots_and_no_others_move(weights: dict[str, int], weight: int) -> None:
    before = owners(table(**weights))
    after = owners(table(**weights, newcomer=weight))
    for old, new in zip(before, after, strict=True):
        assert old == new or new == node("newcomer")


def test_more_weight_only_takes() -> None:
    before, after = owners(table(a=2, b=4, c=4)), owners(table(a=3, b=4, c=4))
    assert all(old == new or new == node("a") for old, new in zip(before, after, strict=True))


def test_a_node_that_returns_has_its_old_slots() -> None:
    first = SlotTable(((node("a", 1), 4), (node("b", 1), 4)))
    again = SlotTable(((node("a", 9), 4), (node("b", 1), 4)))
    for number in range(0, SLOT_COUNT, 7):
        one, other = first.owner_of_slot(number), again.owner_of_slot(number)
        assert one is not None and other is not None
        assert one.node == other.node


def test_the_slots_of_who_goes_are_spread_over_all() -> None:
    weights = {f"n{i}": 4 for i in range(6)}
    before = owners(table(**weights))
    after = owners(table(**{name: weight for name, weight in weights.items() if name != "n0"}))
    heirs = {new for old, new in zip(before, after, strict=True) if old == node("n0")}
    assert len(heirs) == 5


def test_names_alike_share_nothing() -> None:
    """Sequential names must not give related scores."""
    counts = [table(**{f"node-{i}": 4, f"node-{j}": 4}).counts() for i, j in combinations(range(1, 6), 2)]
    for pair in counts:
        assert all(abs(count - SLOT_COUNT / 2) < 1_300 for count in pair.values())


def test_runs_cover_all_slots_in_order() -> None:
    three = table(a=1, b=2, c=3)
    spread = [address for length, address in three.runs() for _ in range(length)]
    assert spread == owners(three)


node_sets = st.lists(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 4), max_size=6), min_size=2, max_size=5)


@settings(max_examples=25, deadline=None)
@given(node_sets, st.sampled_from([None, 4]))
def test_a_table_made_from_another_is_the_same_as_from_scratch(steps: list[dict[str, int]], bits: int | None) -> None:
    """Whatever came before; also where scores are so few that most are equal."""
    with pytest.MonkeyPatch.context() as patch:
        if bits is not None:
            mix = slots._mix
            patch.setattr(slots, "_mix", lambda x: mix(x) >> np.uint64(64 - bits))
        table, fresh = SlotTable(()), SlotTable(())
        for weights in steps:
            of = tuple(sorted((node(name), weight) for name, weight in weights.items()))
            table, fresh = SlotTable(of, table), SlotTable(of)
            for address, _ in of:
                assert np.array_equal(table.owned_by(address), fresh.owned_by(address))
            assert table.counts() == fresh.counts() and sum(table.counts().values()) == (SLOT_COUNT if of else 0)
        assert owners(table) == owners(fresh) and table.runs() == fresh.runs()  # both follow from the owned slots


def test_many_nodes_that_come_and_go_leave_no_trace() -> None:
    names = [f"n{i}" for i in range(60)]
    first = table(**dict.fromkeys(names, 4))
    less = SlotTable(tuple(pair for pair in first.owners if pair[0].node not in {"n3", "n17", "n44"}), first)
    again = SlotTable(first.owners, less)
    assert owners(less) == owners(SlotTable(less.owners))
    assert owners(again) == owners(first)


def test_moves_are_what_came_and_went_by_the_other_side() -> None:
    before, after = table(a=4, b=4, c=4), table(a=4, c=4, d=4)
    gained, lost = after.moves(before, node("d"))
    assert lost == {}
    assert sorted(str(who) for who in gained) == ["a#1", "b#1", "c#1"]
    for who, numbers in gained.items():
        assert all(before.owner_of_slot(n) == who and after.owner_of_slot(n) == node("d") for n in numbers.tolist())
    assert sum(map(len, gained.values())) == after.counts()[node("d")] == int(after.owned_by(node("d")).sum())
    gained, lost = after.moves(before, node("b"))
    assert gained == {} and sum(map(len, lost.values())) == before.counts()[node("b")]
    gained, _ = before.moves(SlotTable(()), node("a"))
    assert list(gained) == [None]
    _, lost = SlotTable(()).moves(before, node("a"))
    assert list(lost) == [None]
    same = table(a=4, b=4, c=4)
    assert same.moves(before, node("a")) == ({}, {})


def test_slots_by_owner() -> None:
    three = table(a=1, b=2, c=3)
    some = np.arange(0, SLOT_COUNT, 13)
    shares = three.by_owner(some)
    assert sorted(n for part in shares.values() for n in part.tolist()) == some.tolist()
    assert all(three.owner_of_slot(n) == who for who, part in shares.items() for n in part.tolist())
    assert three.by_owner(some[:0]) == {}


FINGERPRINT = """
import hashlib
from server.cluster.slots import SlotTable
from server.ids import NodeAddress

nodes = {("node-%d" % i): 1 + i % 4 for i in range(7)}
table = SlotTable(tuple(sorted((NodeAddress(name, 1), weight) for name, weight in nodes.items())))
print(hashlib.sha256(" ".join(table.owner_of_slot(n).node for n in range(65536)).encode()).hexdigest())
"""


def test_every_process_computes_the_same_table() -> None:
    nodes = {f"node-{i}": 1 + i % 4 for i in range(7)}
    here = owners(table(**nodes))
    text = " ".join(str(owner.node) for owner in here if owner is not None)
    prints = {hashlib.sha256(text.encode()).hexdigest()}
    for seed in ("0", "12345"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", FINGERPRINT], env=env, capture_output=True, check=True, text=True)
        prints.add(done.stdout.strip())
    assert len(prints) == 1
    assert prints == {
        "ec47ab49f6cb455632ae41bd98d153d22751893bcbe6e9b6799f71f67bd8102e"
    }  # other machines and versions: must not change
