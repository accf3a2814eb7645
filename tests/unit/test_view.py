"""The view: what the digest covers, and who owns slots."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.cluster.view import Member, View
from server.ids import Incarnation, NodeAddress, NodeId, actor_id

ROOT = Path(__file__).parents[2]


def member(name: str, incarnation: int = 1, **fields: object) -> Member:
    base = Member(NodeId(name), Incarnation(incarnation), 4, "up", f"{name}:1", f"ws://{name}", f"http://{name}")
    return msgspec.structs.replace(base, **fields)


THREE = (member("a"), member("b"), member("c"))


@settings(max_examples=20, deadline=None)
@given(st.permutations(THREE))
def test_equal_members_give_equal_views(members: list[Member]) -> None:
    view, expected = View(tuple(members)), View(THREE)
    assert view.digest == expected.digest
    assert list(view.members) == ["a", "b", "c"]
    assert view.table.counts() == expected.table.counts()


@pytest.mark.parametrize("change", [{"load": 99}, {"lag_ms": 99}, {"suspect": True}, {"admin_url": "http://elsewhere"}])
def test_the_digest_leaves_out_values_that_change_from_second_to_second(change: dict[str, object]) -> None:
    view = View(THREE)
    other = view.follow((member("a", **change), *THREE[1:]))  # type: ignore[arg-type]
    assert other.digest == view.digest
    assert other.table is view.table


@pytest.mark.parametrize(
    "members",
    [
        THREE[:2],
        (*THREE, member("d")),
        (member("a", 2), *THREE[1:]),
        (member("a", weight=5), *THREE[1:]),
        (member("a", state="leaving"), *THREE[1:]),
        (member("x"), *THREE[1:]),
    ],
)
def test_the_digest_covers_all_that_routing_depends_on(members: tuple[Member, ...]) -> None:
    view = View(THREE)
    other = view.follow(members)
    assert other.digest != view.digest
    assert other.table is not view.table


def test_only_who_is_up_owns_slots() -> None:
    view = View((member("a"), member("b", state="joining"), member("c", state="leaving")))
    assert view.table.owners == ((NodeAddress(NodeId("a"), Incarnation(1)), 4),)
    assert View((member("b", state="joining"),)).table.owner(actor_id("player", "x")) is None


def test_has_knows_incarnations() -> None:
    view = View(THREE)
    assert view.has(NodeAddress(NodeId("a"), Incarnation(1)))
    assert not view.has(NodeAddress(NodeId("a"), Incarnation(2)))


def test_a_member_that_joins_moves_no_slot() -> None:
    view = View(THREE)
    other = view.follow((*THREE, member("d", state="joining")))
    assert other.digest != view.digest
    assert other.table is view.table


SCRIPT = """
from server.cluster.view import Member, View

print(View(tuple(Member(n, 1, 4, "up", "", "", "") for n in "abc")).digest)
"""


def test_every_process_computes_the_same_digest() -> None:
    digests = {str(View(THREE).digest)}
    for seed in ("0", "77"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, check=True, text=True)
        digests.add(done.stdout.strip())
    assert len(digests) == 1
