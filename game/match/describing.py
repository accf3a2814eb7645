"""The rules of what a match is searched by: properties and tags. Pure, like `game/match/rules.py`."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import UNSET

from game.match.codes import reject
from game.match.events import MAX_PROPERTIES, Described, Property, PropertyValue
from game.match.hosting import must_host
from game.match.state import MatchState


def described(properties: Sequence[Property], tags: Sequence[str]) -> list[Described]:
    """The event of a new match that has some, if it does."""
    if not (properties or tags):
        return []
    event = Described(0, list(properties), _once(tags))
    _bounded(_with(MatchState(), event))
    return [event]


def describe(
    state: MatchState, caller: str, term: int, properties: Sequence[Property], tags: Sequence[str] | None
) -> list[Described]:
    """Set properties, or take them away, and replace the tags; nothing where all is so already."""
    must_host(state, caller, term)
    event = Described(state.time_ms, list(properties), None if tags is None else _once(tags))
    after = _with(state, event)
    _bounded(after)
    is_new = event.tags not in (None, tags_of(state)) or _differs(after, properties_of(state))
    return [event] if is_new else []


def properties_of(state: MatchState) -> Mapping[str, PropertyValue]:
    return {} if state.properties is UNSET else state.properties


def tags_of(state: MatchState) -> list[str]:
    return [] if state.tags is UNSET else state.tags


def text_of(value: PropertyValue) -> str:
    """A property's value as SQL sees it: `true` and `false`, digits, or the text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def number_of(value: PropertyValue) -> int | None:
    """The value of a whole number, as SQL sees it."""
    return value if type(value) is int else None


def as_told(state: MatchState) -> tuple[list[Property], list[str]]:
    """Properties, by name, and tags, as clients get them."""
    return [Property(name, value) for name, value in sorted(properties_of(state).items())], tags_of(state)


def evolve(state: MatchState, event: Described) -> dict[str, Any]:
    """How a description changes the state."""
    tags = tags_of(state) if event.tags is None else event.tags
    return {"properties": _with(state, event) or UNSET, "tags": tags or UNSET}


def _with(state: MatchState, event: Described) -> dict[str, PropertyValue]:
    after = {**properties_of(state)}
    for given in event.properties:
        if given.value is None:
            after.pop(given.name, None)
        else:
            after[given.name] = given.value
    return after


def _differs(after: Mapping[str, PropertyValue], before: Mapping[str, PropertyValue]) -> bool:
    """Whether they differ: True and 1 do, which are equal otherwise."""
    return [*map(repr, sorted(after.items()))] != [*map(repr, sorted(before.items()))]


def _once(tags: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(tags))


def _bounded(properties: Mapping[str, PropertyValue]) -> None:
    if len(properties) > MAX_PROPERTIES:
        raise reject("too_many_properties", f"{len(properties)} of {MAX_PROPERTIES}")
