"""Which sessions a player may have at a time, and what its actor keeps of them."""

import itertools
from typing import Any

import pytest
from msgspec.structs import replace

from game.player.devices import ASKED_S, EARLIER, MAX_OVER, CarriedDevices, Devices
from server.actors.devices import (
    CODES,
    MAX_DEVICES,
    REPLACED,
    UNKNOWN_SESSION,
    Device,
    Login,
    admit,
    keep,
)
from server.errors import Rejected

POLICIES = ("newest_wins", "first_wins", "allow:2", "one_per_kind")


def device(session: str, since: float, kind: str = "", policy: str = "newest_wins", **more: Any) -> Device:
    return Device(Login(session, kind, policy=policy, **more), since)


def names(devices: Any) -> list[str]:
    return [each.login.session for each in devices]


def login(session: str, number: int = 0, policy: str = "newest_wins", age_ms: int = 0, **more: Any) -> Login:
    return Login(session, node="n1", incarnation=1, number=number, policy=policy, age_ms=age_ms, **more)


def refused(devices: Devices, said: Login, now: float = 0.0) -> str:
    with pytest.raises(Rejected) as caught:
        devices.take(said, now)
    return caught.value.code


# ---- the judgement ----


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ("newest_wins", "d"),
        ("first_wins", "a"),
        ("allow:1", "d"),
        ("allow:3", "dcb"),
        ("allow:9", "dcba"),
        ("one_per_kind", "dc"),
        ("of a later version", "d"),
        ("allow:many", "d"),
    ],
)
def test_a_policy_names_the_sessions_that_stay(policy: str, kept: str) -> None:
    some = [device("b", 2, "phone"), device("a", 1, "console"), device("d", 3, "console"), device("c", 2, "phone")]
    assert names(keep(policy, some)) == list(kept)


def test_there_are_never_more_than_a_bound() -> None:
    many = [device(f"s{number:02}", number, str(number)) for number in range(40)]
    assert len(keep("one_per_kind", many)) == len(keep("allow:99", many)) == MAX_DEVICES


@pytest.mark.parametrize("policy", POLICIES)
def test_in_whatever_order_logins_are_heard_of_the_same_stay(policy: str) -> None:
    """As after a crash of the actor's node, when all sessions tell their logins again."""
    logins = [login(f"s{number}", 1, policy, age_ms=10_000 - number, kind=f"k{number % 3}") for number in range(5)]
    left = set()
    for order in itertools.permutations(logins):
        devices = Devices()
        for said in order:
            try:
                devices.take(said, 100.0)
            except Rejected as error:
                assert error.code in CODES
        left.add(frozenset(devices.here))
    assert len(left) == 1
    assert len(left.pop()) == {"allow:2": 2, "one_per_kind": 3}.get(policy, 1)


def test_a_session_of_the_same_client_gives_way_whatever_the_policy() -> None:
    first = device("a", 1, policy="first_wins", mark="m1")
    again = device("b", 2, policy="first_wins", instead_of="m1")
    assert [names(part) for part in admit([first], again)] == [[], ["a"]]
    with pytest.raises(Rejected, match="come again when that is over"):
        admit([first], device("b", 2, policy="first_wins", instead_of="m2"))
    with pytest.raises(Rejected, match="took its place"):
        admit([first], device("b", 0))


# ---- the devices of a player ----


def test_others_go_for_a_login_only_when_its_session_has_begun() -> None:
    devices = Devices()
    assert devices.take(login("a"), 1.0) == ((), False)
    assert devices.take(login("b"), 2.0) == ((), True)
    assert list(devices.here) == ["a"]
    taken = devices.take(login("b", 1), 2.1)
    assert (names(taken.ended), taken.waits, list(devices.here)) == (["a"], False, ["b"])
    assert refused(devices, login("a", 7), 3.0) == REPLACED


def test_the_first_heartbeat_says_that_a_session_has_begun() -> None:
    devices = Devices()
    devices.take(login("a"), 1.0)
    devices.take(login("b"), 2.0)
    begun, ended = devices.beaten("b")
    assert (begun.login.session, names(ended), list(devices.here)) == ("b", ["a"], ["b"])
    for stranger in ("a", "c"):
        with pytest.raises(Rejected) as caught:
            devices.beaten(stranger)
        assert caught.value.code == UNKNOWN_SESSION


def test_a_login_whose_session_never_begins_ends_nobody() -> None:
    devices = Devices()
    devices.take(login("a"), 1.0)
    devices.take(login("b"), 2.0)
    assert devices.end("b") is None and list(devices.here) == ["a"]
    assert refused(devices, login("b"), 3.0) == REPLACED, "a call of it that was held up"


def test_a_hello_that_was_held_up_does_not_end_a_newer_session() -> None:
    devices = Devices()
    devices.take(login("new"), 10.0)
    assert refused(devices, login("late", age_ms=5_000), 11.0) == REPLACED
    assert devices.take(login("later"), 12.0).waits, "its call was held up on its way, and its age is told again"
    assert refused(devices, login("later", 1, age_ms=9_000), 13.0) == REPLACED
    assert list(devices.here) == ["new"]


def test_a_session_that_was_let_in_is_here_when_nobody_has_to_go() -> None:
    devices = Devices()
    devices.take(login("a"), 1.0)
    devices.take(login("b"), 2.0)
    assert names([devices.end("a")]) == ["a"] and list(devices.here) == ["b"]


def test_a_session_that_is_over_stays_so_unless_it_says_something_newer() -> None:
    devices = Devices()
    devices.take(login("a", 3), 1.0)
    devices.end("a")
    assert refused(devices, login("a", 3)) == REPLACED
    assert devices.take(login("a", 4), 2.0) == ((), False)
    for number in range(MAX_OVER + 5):
        devices.end(f"s{number}")
    assert len(devices.over) == MAX_OVER


def test_a_newer_login_moves_a_device_and_an_older_one_does_not() -> None:
    devices = Devices()
    devices.take(login("a", 1), 1.0)
    devices.take(replace(login("a", 3), node="n2"), 2.0)
    devices.take(login("a", 2), 3.0)
    assert devices.logins() == [replace(login("a", 3), node="n2")]
    assert devices.runs() == {("n2", 1)}
    assert devices.gone("n1", 1) == [] and names(devices.gone("n2", 1)) == ["a"]
    assert refused(devices, login("a", 3), 4.0) == REPLACED
    devices.take(login("a", 4), 5.0)


def test_logins_that_never_begin_are_bounded() -> None:
    devices = Devices()
    devices.take(login("a"), 0.0)
    for number in range(40):
        assert devices.take(login(f"s{number}"), 1.0).waits
    assert len(devices.asked) <= MAX_DEVICES
    devices.take(login("last"), 2.0 + ASKED_S)
    assert list(devices.asked) == ["last"]


def test_each_device_is_quiet_for_itself() -> None:
    devices = Devices()
    for name in ("a", "b"):
        devices.take(login(name, policy="allow:2"), 1.0)
    for _ in range(3):
        devices.here["b"].beats += 1
        assert devices.look()[1]
    assert list(devices.here) == ["b"]
    assert devices.look() == ([], False) and names(devices.look()[0]) == ["b"]


def test_devices_move_to_another_node_with_their_ages() -> None:
    devices, moved = Devices(), Devices()
    devices.take(login("a", policy="allow:2"), 1.0)
    devices.take(login("b", policy="allow:2", age_ms=500), 2.0)
    devices.take(login("c", policy="allow:2"), 3.0)
    devices.end("z")
    moved.arrived(devices.carry(11.0), ("a", "b"), 100.0)
    assert {name: each.since for name, each in moved.here.items()} == {"a": 90.0, "b": 90.5}
    assert list(moved.asked) == ["c"] and moved.over == devices.over
    earlier = Devices()
    earlier.arrived(CarriedDevices(), ("a",), 5.0)
    assert list(earlier.here) == ["a"]


def test_a_session_of_an_earlier_version_may_come_back_as_it_was() -> None:
    devices = Devices()
    devices.take(login("a", EARLIER, "allow:16"), 1.0)
    devices.end("a")
    assert devices.take(login("a", EARLIER, "allow:16"), 2.0) == ((), False)


def test_hellos_of_one_node_keep_their_order_whatever_their_calls_took() -> None:
    """The first one's call was held up, so that it seems to be newer; the node ended it for the second."""
    devices = Devices()
    devices.take(login("n1-1-9"), 10.0)
    assert devices.take(login("n1-1-10", age_ms=800), 10.1).waits
    assert names(devices.take(login("n1-1-10", 1, age_ms=900), 10.2).ended) == ["n1-1-9"]
    assert refused(devices, login("n1-1-8"), 10.3) == REPLACED, "an earlier hello that is answered late"
    assert devices.take(login("n2-1-1"), 10.4).waits


def test_empty_parts_are_shared_and_stay_empty() -> None:
    devices, other = Devices(), Devices()
    assert devices.asked is other.asked and devices.over is other.over
    devices.take(login("a"), 1.0)
    devices.take(login("b"), 2.0)
    devices.end("b")
    devices.end("a")
    assert list(devices.over) == ["b", "a"] and not devices.asked
    assert not (other.asked or other.over or Devices().asked or Devices().over)
