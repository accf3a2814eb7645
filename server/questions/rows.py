"""Rows of blocks as an engine reads them: Arrow tables over the blocks' own bytes, and what is computed beside them.

A column is wrapped as an Arrow array, texts as a dictionary, without a copy. But an engine that groups or filters by
texts looks at each row's, and there are many rows to a text. So the texts of a table's blocks are numbered together,
and a question that groups by a text groups by its number; one that asks something of a text alone (`role = 'player'`)
asks it once of each text, and a row has the answer in column `#kept`. The number of a quantile's bucket is computed
here too, where it is one of a plain column: numpy has a faster logarithm than the engine.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from server.columns.reader import StoredRowBlock
from server.questions.plan import GROWTH, SHIFT, SMALLEST

KEPT: Final = "#kept"
"""A column: 1 for rows whose texts pass the filters."""
SCRATCH_BYTES: Final = 64 * 1024 * 1024
"""Memory for columns that are computed."""
FEW_TEXTS: Final = 2
"""Texts that each row's is compared with at most; where more pass, or do not, each row's is looked up."""
MOST_TEXTS: Final = 100_000
"""Different texts of a table that are numbered, about: all of them are looked at again with each new one."""
ROWS_A_TEXT: Final = 4
"""Rows to a text of a block at least, else rows are read as they are: a text that has no other row is not worth it."""
_ARROW: Final = {
    "u8": pa.uint8(), "u16": pa.uint16(), "u32": pa.uint32(), "i32": pa.int32(), "i64": pa.int64(), "f64": pa.float64(),
}  # fmt: skip
_TIME: Final = pa.timestamp("ms")


def number_name(column: str) -> str:
    """The column with the numbers of the texts of `column`."""
    return f"#{column}"


def bucket_name(column: str) -> str:
    """The column with the numbers of the buckets of the values of `column`."""
    return f"#bucket of {column}"


class TextNumbers:
    """The texts of a table's blocks, numbered together. A block is immutable but for what is added at its end, so its
    texts are looked at once; numbers stay what they are until a block is let go of, with which its texts are forgotten:
    no block is held here."""

    def __init__(self, most: int = MOST_TEXTS) -> None:
        self._most = most
        self._forget()

    def _forget(self) -> None:
        self.texts: Any = pa.array([""], pa.utf8())
        """An Arrow array: each text at its number."""
        self._numbers: WeakKeyDictionary[StoredRowBlock, NDArray[Any]] = WeakKeyDictionary()
        self._blocks = 0

    def refresh(self, blocks: Sequence[StoredRowBlock]) -> bool:
        """Number what is new in `blocks`. False where that is too much."""
        if len(self._numbers) < self._blocks:
            self._forget()
        new = [block for block in blocks if len(self.of(block)) != block.texts]
        while new and len(self.texts) <= self._most:
            part = [new.pop()]
            while new and sum(block.texts for block in part) < self._most:
                part.append(new.pop())
            self._add(part)
        return not new

    def _add(self, blocks: Sequence[StoredRowBlock]) -> None:
        parts = [_numbered(self.texts), *(_numbered(_texts(block)) for block in blocks)]
        known, *numbers = pa.chunked_array(parts).unify_dictionaries().chunks
        self.texts = known.dictionary
        self._numbers.update((block, chunk.indices.to_numpy()) for block, chunk in zip(blocks, numbers, strict=True))
        kind = self.kind
        for block, found in self._numbers.items():
            self._numbers[block] = found.astype(kind, copy=False)
        self._blocks = len(self._numbers)

    @property
    def kind(self) -> Any:
        """The type of the numbers: short ones are read faster."""
        return np.uint16 if len(self.texts) <= 2**16 else np.uint32

    def of(self, block: StoredRowBlock) -> "NDArray[Any]":
        """The number of each text of `block`."""
        return self._numbers.get(block, _NOTHING)


Filters = Sequence[tuple[str, "NDArray[Any]"]]
"""Columns of texts, each with the answers of all texts by their numbers: 1 for one that passes, else 0."""


class Reading(NamedTuple):
    """The columns of a table: some as they are in blocks, the texts' numbers of others, the buckets' numbers of others,
    and `KEPT`, where all `filters` of a row's texts are true."""

    columns: Sequence[str]
    numbered: Sequence[str] = ()
    buckets: Sequence[str] = ()
    filters: Filters = ()

    @property
    def most_rows(self) -> int:
        """Rows of a table at most, so that what is computed stays within `SCRATCH_BYTES`."""
        width = 4 * len(self.numbered) + 4 * len(self.buckets) + bool(self.filters) + 8 * ("time" in self.columns)
        return SCRATCH_BYTES // max(1, width)


class Scratch:
    """Memory for columns that are computed, of at most `rows` rows at a time, used again by the next table: to touch
    fresh memory takes longer than to compute what is put there."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._arrays: dict[str, NDArray[Any]] = {}

    def of(self, name: str, kind: Any, rows: int) -> "NDArray[Any]":
        """Room for `rows` values of column `name`."""
        found = self._arrays.get(name)
        if found is None:
            found = self._arrays[name] = np.empty(self._rows, kind)
        return found[:rows]


def rows_of(blocks: Sequence[StoredRowBlock], reading: Reading, numbers: TextNumbers, scratch: Scratch) -> "pa.Table":
    """The rows of blocks of one table, until the next call with this `scratch`. A question that reads no column still
    counts rows. A text's number that the block does not have counts as some other: nothing is read past the end."""
    kinds = {column.name: column.type for column in blocks[0].header.schema.columns}
    ends = list(accumulate(block.rows for block in blocks))
    places = [slice(end - block.rows, end) for block, end in zip(blocks, ends, strict=True)]
    columns: dict[str, Any] = {}

    def computed(name: str, kind: Any, arrow: Any, compute: Callable[[StoredRowBlock, NDArray[Any]], object]) -> None:
        room = scratch.of(name, kind, ends[-1])
        for block, place in zip(blocks, places, strict=True):
            compute(block, room[place])
        columns[name] = _array(arrow, room)

    def put_numbers(name: str, block: StoredRowBlock, out: "NDArray[Any]") -> None:
        numbers.of(block).take(block.values(name), out=out, mode="clip")

    def put_buckets(name: str, block: StoredRowBlock, out: "NDArray[Any]") -> None:
        out[:] = bucket_numbers(block.values(name))

    def put_times(block: StoredRowBlock, out: "NDArray[Any]") -> None:
        np.add(block.values("time"), block.header.base_ms, out=out, dtype=np.int64)

    for name in reading.numbered:
        computed(number_name(name), numbers.kind, pa.from_numpy_dtype(numbers.kind), partial(put_numbers, name))
    for name in reading.buckets:
        computed(bucket_name(name), np.int32, pa.int32(), partial(put_buckets, name))
    if reading.filters:
        computed(KEPT, np.uint8, pa.uint8(), lambda block, out: put_kept(block, reading.filters, numbers, out))
    for name in reading.columns or (() if columns else ("time",)):
        if kinds[name] == "time":
            computed(name, np.int64, _TIME, put_times)
        elif kinds[name] == "text":
            columns[name] = pa.chunked_array([_texts_of_rows(block, name) for block in blocks])
        else:
            arrow = _ARROW[kinds[name]]
            columns[name] = pa.chunked_array([_array(arrow, block.values(name)) for block in blocks])
    return pa.table(columns)


def put_kept(block: StoredRowBlock, filters: Filters, numbers: TextNumbers, out: "NDArray[np.uint8]") -> None:
    """Put 1 into `out` for each row of `block` whose texts pass all `filters`, else 0."""
    for at, (name, passes) in enumerate(filters):
        of_texts, codes = passes.take(numbers.of(block)), block.values(name)
        if at:
            out &= _kept(of_texts, codes, np.empty_like(out))
        else:
            _kept(of_texts, codes, out)


def _kept(of_texts: "NDArray[np.uint8]", codes: "NDArray[Any]", out: "NDArray[np.uint8]") -> "NDArray[np.uint8]":
    """`out`, with what `of_texts` has at each of `codes`: by comparing, where that is quicker than to look it up."""
    most = 2 * np.count_nonzero(of_texts) > len(of_texts)
    few = np.flatnonzero(of_texts != most)
    if len(few) > FEW_TEXTS:
        return of_texts.take(codes, out=out, mode="clip")
    out[:] = most
    for code in few.tolist():
        out ^= (codes == code).view(np.uint8)
    return out


def bucket_numbers(values: "NDArray[Any]") -> "NDArray[Any]":
    """The number of each value's bucket, as `plan.bucket_sql` has it. Of whole numbers the logarithm is computed in 32
    bits: a value that is nearly at the end of its bucket may come into the next one."""
    ranks: NDArray[np.floating[Any]] = values.astype(np.float64 if values.dtype.kind == "f" else np.float32)
    with np.errstate(all="ignore"):
        np.log(np.abs(ranks), out=ranks)
        np.multiply(ranks, 1.0 / math.log(GROWTH), out=ranks)
        np.ceil(ranks, out=ranks)
        np.add(ranks, SHIFT, out=ranks)
        np.clip(ranks, 0, 2 * SHIFT, out=ranks)
    if values.dtype.kind != "u":
        np.negative(ranks, out=ranks, where=values < 0)
        ranks[~(np.abs(values) > SMALLEST)] = 0
    return ranks.astype(np.int32)


_NOTHING: Final = np.empty(0, np.uint16)


def _array(kind: Any, values: "NDArray[Any]") -> Any:
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _texts(block: StoredRowBlock) -> Any:
    offsets, heap = block.text_parts()
    return pa.Array.from_buffers(pa.utf8(), block.texts, [None, pa.py_buffer(offsets), pa.py_buffer(heap)])


def _texts_of_rows(block: StoredRowBlock, name: str) -> Any:
    numbers = _array(pa.uint16(), block.values(name))
    return pa.DictionaryArray.from_arrays(numbers, _texts(block), safe=False)


def _numbered(texts: Any) -> Any:
    """`texts` each once: as a dictionary's, whose numbers become those of all texts when it is made one with others."""
    return pa.DictionaryArray.from_arrays(pa.array(np.arange(len(texts), dtype=np.int32)), texts, safe=False)
