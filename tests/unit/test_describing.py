"""Properties and tags by which matches are searched."""

from typing import Any

import msgspec
import pytest

from game.match import describing, rules
from game.match.events import Described, Property
from game.match.messages import MatchDescribe
from game.match.state import MatchState
from game.messages import MatchCreate
from server import states
from server.errors import Rejected
from server.eventlog.entry import Record
from tests.support.matches import Played


def described(played: Played, properties: dict[str, Any] | None = None, tags: list[str] | None = None) -> Played:
    given = [Property(name, value) for name, value in (properties or {}).items()]
    played.emit([*describing.describe(played.state, "host", 1, given, tags)])
    return played


def test_a_match_is_described_when_it_is_made_and_later() -> None:
    played = Played().create()
    played.emit([*describing.described([Property("region", "eu"), Property("rank", 7)], ["a", "b", "a"])])
    described(played, {"rank": None, "ranked": True})
    assert describing.as_told(played.state) == ([Property("ranked", True), Property("region", "eu")], ["a", "b"])
    described(played, tags=[])
    assert describing.as_told(played.state) == ([Property("ranked", True), Property("region", "eu")], [])


def test_a_match_that_is_not_described_has_no_event_and_an_old_state() -> None:
    assert describing.described([], []) == []
    encoded = states.encode(Played().create().state)
    assert b"properties" not in encoded and b"tags" not in encoded and b"rules" not in encoded
    emptied = described(described(Played().create(), {"a": 1}, ["x"]), {"a": None}, [])
    assert states.encode(msgspec.structs.replace(emptied.state, time_ms=0)) == encoded


@pytest.mark.parametrize(
    ("properties", "tags"), [({}, None), ({"a": 1}, None), ({}, ["x"]), ({"a": 1}, ["x", "x"]), ({"b": None}, None)]
)
def test_a_description_that_changes_nothing_makes_no_event(properties: dict[str, Any], tags: list[str] | None) -> None:
    played = described(Played().create(), {"a": 1}, ["x"])
    before = played.next_seq
    described(played, properties, tags)
    assert played.next_seq == before


def test_true_and_one_are_two_values() -> None:
    played = described(described(Played().create(), {"a": 1}), {"a": True})
    assert played.state.properties == {"a": True} and played.state.properties["a"] is True
    again = states.decoder(MatchState)(states.encode(played.state))
    assert again.properties["a"] is True


def test_a_match_has_a_bounded_number_of_properties() -> None:
    played = described(Played().create(), {f"p{number}": number for number in range(16)})
    described(played, {"p0": None, "more": 1})
    with pytest.raises(Rejected) as refused:
        described(played, {"one": 1})
    assert refused.value.code == "too_many_properties"


def test_only_the_host_describes_a_match_that_goes_on() -> None:
    played = Played().create()
    for caller, term in (("eve", 1), ("host", 7)):
        with pytest.raises(Rejected) as refused:
            describing.describe(played.state, caller, term, [Property("a", 1)], None)
        assert refused.value.code == "not_host"
    played.end()
    with pytest.raises(Rejected):
        described(played, {"a": 1})


@pytest.mark.parametrize(
    "wire",
    [
        [["A", 1]],
        [["a b", 1]],
        [["a" * 33, 1]],
        [["a", 2**53 + 1]],
        [["a", 1.5]],
        [["a", "x" * 129]],
        [["a", "two\nlines"]],
        [["a", [1]]],
        [["a"]],
        [[f"p{number}", 1] for number in range(33)],
    ],
)
def test_bad_properties_do_not_come_as_far_as_a_match(wire: list[Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(["match.describe", 1, "l", 1, "m", wire], MatchDescribe)


@pytest.mark.parametrize("tags", [["A"], [""], ["a b"], ["x" * 33], ["x"] * 17, [1]])
def test_bad_tags_do_not_come_as_far_as_a_match(tags: list[Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(["match.describe", 1, "l", 1, "m", [], tags], MatchDescribe)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(["match.create", 1, "l", 1, "m", [], "", [], tags], MatchCreate)


def test_any_description_evolves_any_state() -> None:
    event = Described(5, [Property("a", None)], None)
    assert rules.evolve(MatchState(), Record(1, event, None, 0)).time_ms == 5
