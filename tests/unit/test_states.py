"""Persistent maps: a dict to whoever looks, and cheap to change (F28)."""

import random
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from server import states
from server.states import Map


class Numbers(Map[str, int]):
    __slots__ = ()
    plain: ClassVar[Any] = dict[str, int]


class Holding(msgspec.Struct, frozen=True):
    name: str = ""
    numbers: Numbers = Numbers()


class Bare(msgspec.Struct, frozen=True):
    name: str = ""
    numbers: dict[str, int] = {}


STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 400), st.integers()), max_size=300)


@given(STEPS)
def test_a_map_is_what_a_dict_is(steps: list[tuple[bool, int, int]]) -> None:
    found, expected = Numbers(), dict[str, int]()
    for put, key, value in steps:
        name = str(key)
        if put:
            found, expected = found.set(name, value), {**expected, name: value}
        elif name in expected:
            found, expected = found.without(name), {k: v for k, v in expected.items() if k != name}
        else:
            with pytest.raises(KeyError):
                found.without(name)
    assert (len(found), dict(found), found == expected) == (len(expected), expected, True)
    for name in (*expected, "none"):
        assert (name in found, found.get(name), found.get(name, 7)) == (
            name in expected,
            expected.get(name),
            expected.get(name, 7),
        )


@given(STEPS, st.integers(0, 300))
def test_changes_are_those_since_any_map_before(steps: list[tuple[bool, int, int]], place: int) -> None:
    maps = [Numbers({str(n): n for n in range(150)})]
    for put, key, value in steps:
        name = str(key)
        if put or name in maps[-1]:
            maps.append(maps[-1].set(name, value) if put else maps[-1].without(name))
    before, after = maps[min(place, len(maps) - 1)], maps[-1]
    missing = object()
    expected = {k for k in {*before, *after} if before.get(k, missing) is not after.get(k, missing)}
    assert set(after.changes_since(before)) == expected
    assert set(before.changes_since(after)) == expected
    assert after.changes_since(after) == []


def test_earlier_maps_stay_as_they_were() -> None:
    maps = [Numbers()]
    for n in range(1_000):
        maps.append(maps[-1].set(str(n), n))
    assert all(len(found) == n and str(n) not in found for n, found in enumerate(maps))


def test_a_change_of_a_large_map_touches_a_small_part() -> None:
    large = Numbers({str(n): n for n in range(100_000)})
    after = large.set("5", -1)
    parts: list[Any] = []

    def differing(left: Any, right: Any) -> None:
        if left is not right:
            parts.append(right)
            if type(right) is tuple:
                for earlier, later in zip(left, right, strict=True):
                    differing(earlier, later)

    differing(large._root, after._root)
    assert sum(map(len, parts)) < 200
    assert after.changes_since(large) == ["5"]


def test_keys_of_one_hash_share_a_leaf() -> None:
    class Same(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return 7

    found = Numbers()
    for n in range(200):
        found = found.set(Same(n), n)
    assert sorted(found.values()) == list(range(200)) and found.without(Same(3)).get(Same(3)) is None


def test_the_bytes_are_those_of_a_dict() -> None:
    names = [f"player-{n}" for n in range(3_000)]
    random.Random(1).shuffle(names)
    plain = {name: n for n, name in enumerate(names)}
    packed = states.encode_canonical(Holding("x", Numbers(plain)))
    assert packed == msgspec.msgpack.encode(Bare("x", plain), order="deterministic")
    decoded = states.decoder(Holding)(packed)
    assert type(decoded.numbers) is Numbers and decoded == Holding("x", Numbers(plain))
    assert states.encode_canonical(decoded) == packed
    with pytest.raises(msgspec.ValidationError):
        states.decoder(Holding)(msgspec.msgpack.encode({"numbers": {"a": "no number"}}))
    with pytest.raises(msgspec.ValidationError):
        states.decoder(Holding)(msgspec.msgpack.encode({"numbers": 3}))


def test_other_objects_have_no_place_in_a_state() -> None:
    with pytest.raises(NotImplementedError, match="objects of type object"):
        states.encode(object())


def test_a_state_hashes_the_same_when_its_type_gains_a_field_that_is_absent() -> None:
    """Also the 16th, from which on msgspec makes the header longer."""
    fields = [(f"field_{n}", int, n) for n in range(20)]
    absent = [(f"more_{n}", int | UnsetType, UNSET) for n in range(20)]
    for known in range(20):
        plain = msgspec.defstruct("Some", fields[:known])()
        more = msgspec.defstruct("Some", fields[:known] + absent)()
        assert states.encode_canonical(more) == states.encode_canonical(plain)
        assert msgspec.msgpack.decode(states.encode_canonical(more), type=type(more)) == more
