"""Entries of a segment as columns, and back to the very same bytes. Pure.

Neighbouring events of a log differ little: the same few kinds, players and medals, a clock that rises. So the fields
of events of one shape (tag and number of fields) stand in a column each, texts are numbers of a table, numbers are
differences, and what compression then finds are small numbers: the lowest bytes of a column together, then the next
ones. The work for each entry is done by `array`, `zip` and msgpack.

An entry that would not come back byte for byte (it is no array `[event, lineage, command]` of an array that begins
with a text, or it was encoded in another way than ours) is kept as it is. Nothing is assumed of the events beyond
that: a number that is its entry's clock is known by being equal to it.
"""

import struct
from collections.abc import Generator, Iterator, Sequence
from itertools import accumulate, pairwise, repeat
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from server.errors import Corrupt
from server.eventlog.entry import Entry
from server.wire.codec import UNDECODABLE

MAX_COLUMNS: Final = 64
"""Fields of an event above which it is kept as it is."""
AS_IT_IS: Final = 255
"""The number, in `order`, of entries that are kept so; shapes have lower ones."""

_CLOCK: Final = 0
_TEXT: Final = 1
_NUMBER: Final = 2
_OTHER: Final = 3
"""Kinds of columns: nothing is stored, numbers of texts (0: nil), differences, values."""
_MOST: Final = 2**62
_MAX_ITEMS: Final = 131_072

_encode = msgspec.msgpack.encode
_WIDTHS: Final = {1: "b", 2: "h", 4: "i", 8: "q"}
"""Bytes of a number, and the type code of an array of such."""
_Many = Meta(max_length=_MAX_ITEMS)


class _Shape(msgspec.Struct, array_like=True, frozen=True):
    tag: str
    kinds: Annotated[list[int], Meta(max_length=MAX_COLUMNS)]
    columns: Annotated[list[bytes], Meta(max_length=MAX_COLUMNS)]


class _Columns(msgspec.Struct, array_like=True, frozen=True):
    """`times`, `lineages` and `commands` have an item for each entry, as `order` has, which names its shape."""

    order: bytes
    times: bytes
    texts: Annotated[list[str], _Many]
    lineages: bytes
    commands: bytes
    shapes: Annotated[list[_Shape], Meta(max_length=AS_IT_IS)]
    raws: Annotated[list[bytes], _Many]


_columns = msgspec.msgpack.Decoder(_Columns).decode
_values = msgspec.msgpack.Decoder(Annotated[list[msgspec.Raw], _Many]).decode
_anything = msgspec.msgpack.Decoder().decode


# ---- packing --------------------------------------------------------------------------------


class _Packer:
    """The columns while entries are added to them."""

    def __init__(self) -> None:
        self.texts: dict[str | None, int] = {None: 0}
        self.shapes: dict[tuple[str, int], int] = {}
        self.rows: list[list[list[Any]]] = []
        self.clocks: list[list[int]] = []
        self.order = bytearray()
        self.lineages: list[int] = []
        self.commands: list[int] = []
        self.raws: list[bytes] = []

    def add(self, entry: Entry) -> None:
        value = _taken_apart(entry)
        number = AS_IT_IS
        if value is not None:
            event, lineage, command = value
            number = self.shapes.get((event[0], len(event)), len(self.shapes))
        if value is None or number == AS_IT_IS:
            self.order.append(AS_IT_IS)
            self.raws.append(entry.data)
            self.lineages.append(0)
            self.commands.append(self.commands[-1] if self.commands else 0)
            return
        if number == len(self.shapes):
            self.shapes[event[0], len(event)] = number
            self.rows.append([])
            self.clocks.append([])
        self.order.append(number)
        self.rows[number].append(event[1:])
        self.clocks[number].append(entry.time_ms)
        self.lineages.append(self.text(lineage))
        self.commands.append(command)

    def text(self, text: str | None) -> int:
        return self.texts.setdefault(text, len(self.texts))

    def shape(self, tag: str, number: int) -> _Shape:
        kinds, columns = [], []
        for column in zip(*self.rows[number], strict=True):
            kind, stored = self._column(column, self.clocks[number])
            kinds.append(kind)
            columns.append(stored)
        return _Shape(tag, kinds, columns)

    def _column(self, column: Sequence[Any], clocks: list[int]) -> tuple[int, bytes]:
        if all(type(value) is int for value in column):
            if list(column) == clocks:
                return _CLOCK, b""
            if all(-_MOST < value < _MOST for value in column):
                return _NUMBER, _planes(_differences(column))
        elif all(value is None or type(value) is str for value in column):
            return _TEXT, _planes([self.text(value) for value in column])
        return _OTHER, _encode(column)


def packing(entries: Sequence[Entry], step_entries: int) -> Generator[None, None, bytes]:
    """The columns of entries that follow each other, made in steps of so many."""
    packer = _Packer()
    for place, entry in enumerate(entries, 1):
        packer.add(entry)
        if place % step_entries == 0:
            yield
    shapes = []
    for (tag, _), number in packer.shapes.items():
        shapes.append(packer.shape(tag, number))
        yield
    return _encode(
        _Columns(
            bytes(packer.order),
            _planes(_differences([entry.time_ms for entry in entries])),
            [text for text in packer.texts if text is not None],
            _planes(packer.lineages),
            _planes(_differences(packer.commands)),
            shapes,
            packer.raws,
        )
    )


def _taken_apart(entry: Entry) -> tuple[list[Any], str | None, int] | None:
    """The event, lineage and command in `entry`; None where they would not come back as the same bytes."""
    try:
        value = _anything(entry.data)
        if type(value) is not list or len(value) != 3 or _encode(value) != entry.data:
            return None
    except (*UNDECODABLE, ValueError, OverflowError):
        return None
    event, lineage, command = value
    if type(event) is not list or not 1 <= len(event) <= MAX_COLUMNS or type(event[0]) is not str:
        return None
    if not (lineage is None or type(lineage) is str) or type(command) is not int or not 0 <= command < _MOST:
        return None
    return event, lineage, command


def _differences(numbers: Sequence[int]) -> list[int]:
    return [after - before for before, after in pairwise((0, *numbers))]


def _planes(numbers: Sequence[int]) -> bytes:
    """Numbers as bytes: their width, then the lowest byte of each, then the next of each, as far as any has one."""
    low, high = min(numbers, default=0), max(numbers, default=0)
    width = next(width for width in _WIDTHS if -(1 << 8 * width - 1) <= low and high < 1 << 8 * width - 1)
    packed = struct.pack(f"<{len(numbers)}{_WIDTHS[width]}", *numbers)
    return bytes([width]) + b"".join(packed[place::width] for place in range(width))


# ---- unpacking ------------------------------------------------------------------------------


def unpack(data: bytes, first_seq: int, count: int) -> list[Entry]:
    """The `count` entries of a segment that begins with `first_seq`. Raises `Corrupt` for all that is not as `packing`
    makes it, and takes memory within what its bounds say."""
    try:
        found = _columns(data)
        if len(found.order) != count or found.order.count(AS_IT_IS) != len(found.raws):
            raise Corrupt(f"shapes of {len(found.order)} entries, not {count}, or not one for each")
        times = list(accumulate(_numbers(found.times, count)))
        if min(times) < 0 or max(times) >= 2**63:
            raise Corrupt("a clock that is none")
        return list(map(Entry, range(first_seq, first_seq + count), times, _datas(found, times)))
    except (*UNDECODABLE, ValueError, IndexError, OverflowError) as error:
        raise Corrupt(f"{type(error).__name__}: {error}") from None


def _datas(found: _Columns, times: list[int]) -> Iterator[bytes]:
    """The entries' own bytes, in order."""
    texts: list[str | None] = [None, *found.texts]
    rows = [_rows(shape, number, found.order, times, texts) for number, shape in enumerate(found.shapes)]
    lineages = _texts(found.lineages, len(times), texts)
    heads = zip(found.order, lineages, accumulate(_numbers(found.commands, len(times))), strict=True)
    if not found.raws:
        return (_encode((next(rows[number]), lineage, command)) for number, lineage, command in heads)
    raws = iter(found.raws)
    return (
        next(raws) if number == AS_IT_IS else _encode((next(rows[number]), lineage, command))
        for number, lineage, command in heads
    )


def _rows(
    shape: _Shape, number: int, order: bytes, times: list[int], texts: list[str | None]
) -> Iterator[tuple[Any, ...]]:
    """The events of one shape, in order."""
    count = order.count(number)
    columns: list[Any] = [repeat(shape.tag, count)]
    for kind, stored in zip(shape.kinds, shape.columns, strict=True):
        values: Any
        if kind == _CLOCK:
            values = [time_ms for time_ms, of in zip(times, order, strict=True) if of == number]
        elif kind == _TEXT:
            values = _texts(stored, count, texts)
        elif kind == _NUMBER:
            values = accumulate(_numbers(stored, count))
        elif kind == _OTHER:
            values = _values(stored)
        else:
            raise Corrupt(f"a column of kind {kind}")
        columns.append(values)
    return iter(list(zip(*columns, strict=True)))


def _numbers(stored: bytes, count: int) -> Sequence[int]:
    """The `count` numbers that `_planes` stored."""
    width = stored[0]
    if width not in _WIDTHS or len(stored) != 1 + width * count:
        raise Corrupt(f"a column of {len(stored)} bytes for {count} numbers")
    packed = bytearray(width * count)
    for place in range(width):
        packed[place::width] = stored[1 + place * count : 1 + (place + 1) * count]
    return struct.unpack(f"<{count}{_WIDTHS[width]}", packed)


def _texts(stored: bytes, count: int, texts: list[str | None]) -> list[str | None]:
    numbers = _numbers(stored, count)
    if min(numbers, default=0) < 0:
        raise Corrupt("a text with a number below 0")
    return list(map(texts.__getitem__, numbers))
