"""Filters of live matches: what a client or an operator asks for, and whether a match is it. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from game.match.describing import properties_of, tags_of
from game.match.events import PropertyValue
from game.match.state import MatchState
from game.messages import MatchList
from game.modes.registry import MODES
from server.errors import BadInput

LOOKED_AT: Final = 2_000
"""Matches that a node looks at for one page; the page after goes on behind them."""
MOST: Final = 16


class Wanted(NamedTuple):
    """Filters; empty is whichever. Properties have that very value, and all tags are there."""

    mode: str = ""
    map_name: str = ""
    tags: tuple[str, ...] = ()
    properties: tuple[tuple[str, PropertyValue], ...] = ()

    def fits(self, state: MatchState) -> bool:
        options = state.options
        if (self.mode and options.mode != self.mode) or (self.map_name and options.map_name != self.map_name):
            return False
        tags, properties = tags_of(state), properties_of(state)
        if any(tag not in tags for tag in self.tags):
            return False
        return all(_same(properties.get(name), value) for name, value in self.properties)


ALL: Final = Wanted()


def _same(known: PropertyValue | None, wanted_value: PropertyValue) -> bool:
    """Whether they are equal, True and 1 being two values."""
    return type(known) is type(wanted_value) and known == wanted_value


def asked(message: MatchList) -> Wanted:
    """The filters of a client. Raises `BadInput` for a mode that the server does not have."""
    properties = tuple((wanted.name, wanted.value) for wanted in message.properties)
    return _checked(Wanted(message.mode, message.map_name, tuple(message.tags), properties))


def wanted(params: Mapping[str, Any]) -> Wanted:
    """The filters among the parameters of a read model: `mode`, `map_name`, lists `tags` and `properties`, or as text
    `tag` and `property`, several with commas between. Raises `BadInput`."""
    tags = [*_listed(params, "tags"), *split(params.get("tag", ""))]
    properties = [*_listed(params, "properties"), *map(property_of, split(params.get("property", "")))]
    if not (tags or properties or "mode" in params or "map_name" in params):
        return ALL
    if max(len(tags), len(properties)) > MOST:
        raise BadInput(f"at most {MOST} properties and {MOST} tags")
    pairs = tuple((str(name), value) for name, value in properties)
    return _checked(Wanted(str(params.get("mode", "")), str(params.get("map_name", "")), tuple(tags), pairs))


def _listed(params: Mapping[str, Any], name: str) -> Sequence[Any]:
    found: Sequence[Any] = params.get(name, ())
    if isinstance(found, str):
        raise BadInput(f"{name} is a list; in a query string say tag or property")
    return found


def _checked(found: Wanted) -> Wanted:
    if found.mode and found.mode not in MODES.names():
        raise BadInput(f"there is no mode {found.mode!r}")
    return found


def split(text: str) -> list[str]:
    """The parts of a text with commas between."""
    return [part for part in text.split(",") if part]


def property_of(text: str) -> tuple[str, PropertyValue]:
    """A property of a query string, `name=value`: digits are a number, `true` and `false` truth values. Raises
    `BadInput`."""
    name, sign, value = text.partition("=")
    if not sign:
        raise BadInput(f"property is name=value, not {text!r}")
    if value in ("true", "false"):
        return name, value == "true"
    digits = value.removeprefix("-")
    return name, int(value) if digits.isascii() and digits.isdigit() and len(digits) <= 15 else value
