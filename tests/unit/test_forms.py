"""The fingerprint of an application's kinds (F62): the same where two programs read what the other stores."""

import enum
from typing import Any, Literal

import msgspec
import pytest

from game.app import App as Game
from server.actors.actor import Actor
from server.actors.forms import fingerprint


class Colour(enum.Enum):
    RED = "red"


class Part(msgspec.Struct, frozen=True, array_like=True):
    n: int = 0


class Tree(msgspec.Struct, frozen=True):
    part: Part = Part()
    below: "tuple[Tree, ...]" = ()
    colour: Colour = Colour.RED
    mode: Literal["a", "b"] = "a"
    by_name: dict[str, int | None] = {}


def kind(
    name: str, state: type[msgspec.Struct], durability: str = "write_behind", event: Any = None
) -> type[Actor[Any]]:
    body: dict[str, Any] = {"kind": name, "State": state, "durability": durability, "__slots__": ()}
    return type("Any", (Actor,), body if event is None else {**body, "Event": event})


def test_the_same_kinds_have_the_same_fingerprint_in_any_order_and_process() -> None:
    assert fingerprint(Game.actors) == fingerprint(tuple(reversed(Game.actors)))
    assert fingerprint([kind("tree", Tree)]) == "d50ada0c87f8"


def _with(**fields: Any) -> type[msgspec.Struct]:
    return msgspec.defstruct("Renamed", [(name, told, msgspec.field(default=None)) for name, told in fields.items()])


BASE = {"a": int, "b": str}


def test_names_of_classes_and_docstrings_do_not_matter() -> None:
    class Other(msgspec.Struct):
        """Something else."""

        a: int = 5
        b: str = "x"

    assert fingerprint([kind("k", Other)]) == fingerprint([kind("k", _with(**BASE))])


@pytest.mark.parametrize(
    "other",
    [
        kind("other", _with(**BASE)),
        kind("k", _with(**BASE), "written_through"),
        kind("k", _with(a=int, c=str)),
        kind("k", _with(a=int, b=str, c=int)),
        kind("k", _with(a=int, b=bytes)),
        kind("k", _with(a=list[int], b=str)),
        kind("k", _with(**BASE), event=Part),
    ],
)
def test_another_kind_field_or_type_has_another_fingerprint(other: type[Actor[Any]]) -> None:
    assert fingerprint([other]) != fingerprint([kind("k", _with(**BASE))])


def test_another_value_of_an_enumeration_or_a_part_within_has_another_fingerprint() -> None:
    class Blue(enum.Enum):
        BLUE = "blue"

    class Wider(msgspec.Struct, frozen=True, array_like=True):
        n: int = 0
        m: int = 0

    plain = fingerprint([kind("k", _with(a=Colour, b=Part))])
    assert plain != fingerprint([kind("k", _with(a=Blue, b=Part))])
    assert plain != fingerprint([kind("k", _with(a=Colour, b=Wider))])


def test_a_volatile_kind_is_known_by_its_name_alone() -> None:
    assert fingerprint([kind("v", Tree, "volatile")]) == fingerprint([kind("v", Part, "volatile")])
    assert fingerprint([kind("v", Tree, "volatile")]) != fingerprint([])
