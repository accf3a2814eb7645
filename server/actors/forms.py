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


def described(cls: type) -> str:
    """The form of what is stored of that type, as JSON: nested lists, as in the fingerprint, and in them of each field
    whether it must be there. `unreadable` compares two of them."""
    return msgspec.json.encode(_form(inspect.type_info(cls), (), with_required=True)).decode()


def _form(found: Any, around: tuple[type, ...], with_required: bool = False) -> Any:
    """A type as nested lists of plain values; `around` are the classes that it is a part of."""
    if isinstance(found, tuple):
        return [_form(part, around, with_required) for part in found]
    if isinstance(found, inspect.EnumType):
        return ["enum", *sorted(repr(member.value) for member in found.cls)]
    fields = getattr(found, "fields", None)
    if fields is not None:
        if found.cls in around:
            return ["again", around.index(found.cls)]
        inside = (*around, found.cls)
        told = [
            [field.encode_name, _form(field.type, inside, with_required), *([field.required] if with_required else [])]
            for field in fields
        ]
        if isinstance(found, inspect.StructType):
            return ["struct", repr(found.tag_field), repr(found.tag), found.array_like, *told]
        return [type(found).__name__, *told]
    if not isinstance(found, inspect.Type):
        return repr(found)
    parts = (_form(getattr(found, part), around, with_required) for part in _PARTS if hasattr(found, part))
    return [type(found).__name__, *parts]


def unreadable(old: str, new: str) -> str:
    """The reason why a program with the type `new` would not read all that one with `old` has written, as a clause
    (`is ...`) with the place before it; empty if it reads it. Both are texts of `described`. Fine are fields at the end
    (of structs with named fields: anywhere) that have a default, types and values more in a union or a choice, and a
    float for an integer."""
    return _unreadable(msgspec.json.decode(old), msgspec.json.decode(new), "")


def _unreadable(old: Any, new: Any, place: str) -> str:
    if new in (old, ["AnyType"]) or (old, new) == (["IntType"], ["FloatType"]):
        return ""
    if "UnionType" in (old[0], new[0]):
        before, after = (form[1] if form[0] == "UnionType" else [form] for form in (old, new))
        for part in before:
            reasons = [_unreadable(part, other, place) for other in after]
            if all(reasons):  # the one of the same name says most
                same = [why for other, why in zip(after, reasons, strict=True) if other[:3] == part[:3]]
                return same[0] if same else f"{place or 'it'} is no {_called(part)} any more"
        return ""
    if old[0] != new[0]:
        return f"{place or 'it'} is {_called(new)} and was {_called(old)}"
    if old[0] in {"enum", "LiteralType"}:
        gone = set(map(str, _flat(old[1:]))) - set(map(str, _flat(new[1:])))
        return f"{place or 'it'} has no {', '.join(sorted(gone))} any more" if gone else ""
    if old[0] in _OF_FIELDS:
        return _unreadable_fields(old, new, place)
    if len(old) != len(new) or old[0] not in _OF_PARTS:
        return f"{place or 'it'} is another {_called(new)}"
    for before, after in zip(_flat_parts(old), _flat_parts(new), strict=False):
        if why := _unreadable(before, after, f"{place}[]"):
            return why
    return "" if len(_flat_parts(old)) == len(_flat_parts(new)) else f"{place or 'it'} has another length"


def _unreadable_fields(old: list[Any], new: list[Any], place: str) -> str:
    skip = 4 if old[0] == "struct" else 1
    if old[1:skip] != new[1:skip]:
        return f"{place or 'it'} has another tag, or is laid out in another way"
    before, after = old[skip:], new[skip:]
    by_place = old[0] == "struct" and old[3]
    known = {field[0]: field for field in after}
    for index, field in enumerate(before):
        name = f"{place}.{field[0]}" if place else field[0]
        there = after[index] if by_place and index < len(after) else known.get(field[0])
        if there is None:
            return f"{name} is gone"
        if there[0] != field[0]:
            return f"{name} is not at its place any more: {there[0]} is"
        if why := _unreadable(field[1], there[1], name):
            return why
    names = {field[0] for field in before}
    for field in after:
        if field[0] not in names and field[2]:
            return f"{place}{'.' if place else ''}{field[0]} is new and has no default"
    return ""


_OF_FIELDS: Final = frozenset({"struct", "TypedDictType", "NamedTupleType", "DataclassType"})
_OF_PARTS: Final = frozenset(
    {"DictType", "ListType", "SetType", "FrozenSetType", "VarTupleType", "TupleType", "CollectionType", "MappingType"}
)


def _flat(values: list[Any]) -> list[Any]:
    return [inner for value in values for inner in (value if isinstance(value, list) else [value])]


def _flat_parts(form: list[Any]) -> list[Any]:
    """The types inside of a container: of its items, or of its keys and values."""
    return form[1] if form[0] == "TupleType" else form[1:]


def _called(form: list[Any]) -> str:
    """A type's name for people."""
    tag = f" {form[2]}" if form[0] == "struct" and form[1] != "None" else ""
    return str(form[0]).removesuffix("Type").lower() + tag
