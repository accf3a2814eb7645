"""A fingerprint of the kinds of actors that an application has, and of the form of what they store. Pure.

Two programs with one fingerprint read what the other writes: they know the same kinds, with states and events of the
same fields. Names of classes, docstrings and bounds of values are not in it. During a rolling upgrade it may differ
between nodes for a while; what differs then is decoded as far as msgspec can (fields at the end, with defaults).
"""

import hashlib
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import inspect

from server.actors.actor import Actor

FINGERPRINT_CHARS: Final = 12
_PARTS: Final = ("item_type", "item_types", "key_type", "value_type", "types", "values")
"""Attributes of types that have types, or values, inside."""


def fingerprint(actors: Iterable[type[Actor[Any]]]) -> str:
    """The fingerprint of `actors`, whatever their order."""
    told = sorted((cls.kind, cls.durability, _stored(cls)) for cls in actors)
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:FINGERPRINT_CHARS]


def _stored(cls: type[Actor[Any]]) -> str:
    """The form of what an actor of that class stores: nothing, its state, or its state and its events."""
    if cls.durability == "volatile":
        return ""
    stored = [cls.State, *([cls.Event] if hasattr(cls, "Event") else [])]
    return repr([_form(found, ()) for found in inspect.multi_type_info(stored)])


def _form(found: Any, around: tuple[type, ...]) -> Any:
    """A type as nested lists of plain values; `around` are the classes that it is a part of."""
    if isinstance(found, tuple):
        return [_form(part, around) for part in found]
    if isinstance(found, inspect.EnumType):
        return ["enum", *sorted(repr(member.value) for member in found.cls)]
    fields = getattr(found, "fields", None)
    if fields is not None:
        if found.cls in around:
            return ["again", around.index(found.cls)]
        inside = (*around, found.cls)
        told = [[field.encode_name, _form(field.type, inside)] for field in fields]
        if isinstance(found, inspect.StructType):
            return ["struct", repr(found.tag_field), repr(found.tag), found.array_like, *told]
        return [type(found).__name__, *told]
    if not isinstance(found, inspect.Type):
        return repr(found)
    return [type(found).__name__, *(_form(getattr(found, part), around) for part in _PARTS if hasattr(found, part))]
