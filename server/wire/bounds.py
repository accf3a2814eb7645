"""Bounds of the numbers that clients send: every whole number of every request fits the signed 64 bits that other
nodes, logs and databases hold, so that nothing behind the decoder has to look again."""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from msgspec import inspect as shapes

LEAST: Final = -(2**63)
MOST: Final = 2**63 - 1

Int64 = Annotated[int, Meta(ge=LEAST, le=MOST)]
"""Any number that can be stored."""


def unbounded(cls: type[msgspec.Struct]) -> list[str]:
    """The fields of message `cls`, at any depth, whose numbers may be greater or less than signed 64 bits hold, as
    `Struct.field`."""
    return list(_unbounded(shapes.type_info(cls), cls.__name__, set()))


def _unbounded(info: Any, where: str, seen: set[type[Any]]) -> Iterator[str]:
    match info:
        case shapes.IntType():
            least = info.ge if info.ge is not None else info.gt
            most = info.le if info.le is not None else info.lt
            if least is None or most is None or least < LEAST or most > MOST:
                yield where
        case shapes.StructType():
            if info.cls not in seen:
                seen.add(info.cls)
                for field in info.fields:
                    yield from _unbounded(field.type, f"{info.cls.__name__}.{field.name}", seen)
        case shapes.Metadata():
            yield from _unbounded(info.type, where, seen)
        case shapes.UnionType():
            for part in info.types:
                yield from _unbounded(part, where, seen)
        case shapes.DictType():
            yield from _unbounded(info.key_type, where, seen)
            yield from _unbounded(info.value_type, where, seen)
        case shapes.TupleType():
            for part in info.item_types:
                yield from _unbounded(part, where, seen)
        case shapes.CollectionType():
            yield from _unbounded(info.item_type, where, seen)
