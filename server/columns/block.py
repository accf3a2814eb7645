"""A block of rows in shared memory, as its only writer sees it.

Rows are written behind the published ones; a word says how many there are, and readers in other processes (the query
process, a successor, whoever looks after kill -9) look at no more. No reader waits for the writer or tells it
anything. On a machine that reorders stores (ARM) a reader could see a new word before the rows that it counts, and
Python has no barrier to forbid that: so the word that is stored is the one of the *previous* tick, whose rows and
texts have been in memory for many system calls. It is stored by numpy as one aligned value of 8 bytes.

Each chunk of rows has a checksum, stored when it is full. What is in the last one, and the texts, are under checksums
that stand with their word in one of two slots: the slot of the published word is never the one that is being written.

The file is made by `posix_fallocate`, so that a full tmpfs is an error here and not a SIGBUS at the first row there;
and it is only ever unlinked, never cut or used again, so that a reader keeps what it has mapped.
"""

import mmap
import os
import struct
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import numpy as np
from xxhash import xxh3_64

from server.columns.layout import (
    CHUNK_ROWS,
    FORMATS,
    HEADER_BYTES,
    MAGIC,
    MAX_TEXT_BYTES,
    SLOT_BYTES,
    WIDTHS,
    Header,
    encode_header,
    shape_of,
    word_of,
)

Row = tuple[Any, ...]
"""A value for each column: a time in Unix ms, a text, a number."""

SLOT: Final = struct.Struct("=QQQQ")
"""A word; the checksums of the rows in the last chunk that is not full, of the offsets and of the bytes of texts."""
_TOP: Final = 2**32 - 1
_CODE: Final = struct.Struct(f"={FORMATS['text']}").pack
_RANGES: Final = {
    "time": (0, _TOP),
    "u8": (0, 2**8 - 1),
    "u16": (0, 2**16 - 1),
    "u32": (0, _TOP),
    "i32": (-(2**31), 2**31 - 1),
    "i64": (-(2**63), 2**63 - 1),
}


class RowBlockFull(Exception):
    """The rows do not fit into this block: it has no place, too few texts, or times before or far after its base."""


class RefusedRow(Exception):
    """A row is none: it has other values than its table's columns."""


class RowBlock:
    """See the module's head. Raises `OSError` at birth where the file cannot be made."""

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = path, header
        self.shape = shape_of(header)
        self.size: int = self.shape.size
        self._map = _new_file(path, self.size)
        self._map[:HEADER_BYTES] = encode_header(header)
        self._word = np.frombuffer(self._map, np.uint64, 1, self.shape.word)
        self._checks = np.frombuffer(self._map, np.uint64, -(-header.rows // CHUNK_ROWS), self.shape.checks)
        self._codes: dict[Any, bytes] = {"": _CODE(0), None: _CODE(0)}
        """The number of each text, as a column has it: to join these takes less time than to pack numbers."""
        self._texts = 1
        self._offsets_check, self._heap_check = xxh3_64(), xxh3_64()
        self._heap_bytes = 0
        self._columns = [
            (index, WIDTHS[column.type], FORMATS[column.type], column.type, at)
            for index, (column, at) in enumerate(zip(header.schema.columns, self.shape.columns, strict=True))
        ]
        self._put_texts([b""])
        self.rows = 0
        self.texts_full = False
        """True once rows were refused because there was no place for their texts."""
        self.clamped = 0
        """Numbers that did not fit into their columns, and stand there as the nearest that does."""
        self._written = self._published = 0
        self._slot = 0
        self._map[:8] = MAGIC

    @property
    def whole(self) -> bool:
        """True if every written row is published."""
        return self._published == self._written == word_of(self.rows, self._texts)

    @property
    def texts_used(self) -> tuple[int, int]:
        """Texts that have a number, and their bytes."""
        return self._texts, self._heap_bytes

    def has(self, text: str) -> bool:
        """Whether a row has had `text`, or one that begins with it and was cut."""
        return text in self._codes

    # ---- rows ----

    def write(self, rows: Sequence[Row]) -> None:
        """Put `rows` behind those that are there; the tick after the next one publishes them.

        Raises `RowBlockFull`, and has changed nothing that a reader sees, where they do not fit; `ValueError`,
        `TypeError` or `OverflowError` where one of them is no row.
        """
        count = len(rows)
        if self.rows + count > self.header.rows:
            raise RowBlockFull
        columns = list(zip(*rows, strict=True))
        if len(columns) != len(self._columns):
            raise ValueError(f"a row of {self.header.schema.table} has {len(self._columns)} values, not {len(columns)}")
        base = self.header.base_ms
        times = np.fromiter(columns[0], np.int64, count) - base
        if int(times.min()) < 0 or int(times.max()) > _TOP:
            raise RowBlockFull
        packed = [times.astype(np.uint32).tobytes()]
        for index, _, code, kind, _ in self._columns[1:]:
            values, times_each = columns[index], 1
            if values[0] is values[-1] and values.count(values[0]) == count:
                values, times_each = values[:1], count  # as a role or a weight often is: looked at once
            packed.append(self._packed(values, code, kind, times_each) * times_each)
        for (_, width, _, _, at), data in zip(self._columns, packed, strict=True):
            start = at + width * self.rows
            self._map[start : start + len(data)] = data
        self.rows += count

    def put(self, rows: list[Row]) -> list[list[Row]]:
        """Put `rows` behind those that are there, or cut them in two where that may help: a row that is none must not
        take the others along. Returns the parts that are left, the first of them last; none where all are written.

        Raises `RowBlockFull` where none of them fits, `RefusedRow` for a single one that is no row.
        """
        room = self.header.rows - self.rows
        try:
            if not room:
                raise RowBlockFull
            self.write(rows)
        except RowBlockFull:
            if not room or len(rows) == 1:
                raise
            at = room if room < len(rows) else len(rows) // 2
        except (ValueError, TypeError, OverflowError) as error:
            if len(rows) == 1:
                raise RefusedRow(str(error)) from None
            at = len(rows) // 2
        else:
            return []
        return [rows[at:], rows[:at]]

    def _packed(self, values: tuple[Any, ...], code: str, kind: str, times_each: int) -> bytes:
        """The bytes of a column with these values, each of which so many rows have. Raises `RowBlockFull`,
        `TypeError`."""
        if kind == "text":
            return self._numbers(values)
        try:
            return struct.pack(f"={len(values)}{code}", *values)
        except (struct.error, TypeError):
            return struct.pack(f"={len(values)}{code}", *self._clamped(values, kind, times_each))

    def _numbers(self, texts: tuple[Any, ...]) -> bytes:
        """The number of each text; new ones get theirs. Raises `RowBlockFull` where there is no place for them."""
        codes = self._codes
        try:
            return b"".join(map(codes.__getitem__, texts) if len(texts) == 1 else itemgetter(*texts)(codes))
        except KeyError:
            pass
        new = [text for text in dict.fromkeys(texts) if text not in codes]
        encoded = [str(text).encode("utf-8", "replace")[:MAX_TEXT_BYTES] for text in new]
        if self._texts + len(new) > self.header.texts or self._heap_bytes + sum(map(len, encoded)) > self.header.heap:
            self.texts_full = True
            raise RowBlockFull
        # A text that was cut within a character loses it whole.
        encoded = [data.decode("utf-8", "ignore").encode() if len(data) == MAX_TEXT_BYTES else data for data in encoded]
        first = self._texts
        self._put_texts(encoded, first)
        codes.update(zip(new, map(_CODE, range(first, first + len(new))), strict=True))
        self._texts += len(new)
        return b"".join(map(codes.__getitem__, texts))

    def _put_texts(self, encoded: list[bytes], first: int = 0) -> None:
        at, ends = self._heap_bytes, []
        for data in encoded:
            at += len(data)
            ends.append(at)
        offsets = struct.pack(f"={len(ends)}i", *ends)
        heap = b"".join(encoded)
        start = self.shape.offsets + 4 * (first + 1)
        self._map[start : start + len(offsets)] = offsets
        start = self.shape.heap + self._heap_bytes
        self._map[start : start + len(heap)] = heap
        self._offsets_check.update(offsets)
        self._heap_check.update(heap)
        self._heap_bytes = at

    def _clamped(self, values: Sequence[Any], kind: str, times_each: int) -> list[Any]:
        """`values` as numbers that the column holds; the nearest one, or 0 for what is no number."""
        result: list[Any] = []
        for value in values:
            try:
                number = float(value) if kind == "f64" else min(max(int(value), _RANGES[kind][0]), _RANGES[kind][1])
            except (TypeError, ValueError, OverflowError):
                number = 0
            self.clamped += times_each * (number != value)
            result.append(number)
        return result

    # ---- publishing ----

    def tick(self) -> None:
        """Publish what was written before the last tick, and prepare what has been written since."""
        if self._published != self._written:
            self._word[0] = self._published = self._written
        word = word_of(self.rows, self._texts)
        if word == self._written:
            return
        self._seal_chunks(self._written & _TOP)
        full = self.rows // CHUNK_ROWS * CHUNK_ROWS
        self._slot ^= 1
        at = self.shape.slots + self._slot * SLOT_BYTES
        tail = self._check(full, self.rows)
        slot = SLOT.pack(word, tail, self._offsets_check.intdigest(), self._heap_check.intdigest())
        self._map[at : at + SLOT.size] = slot
        self._written = word

    def _seal_chunks(self, rows: int) -> None:
        """Store the checksums of chunks that have become full since there were `rows` rows."""
        for chunk in range(rows // CHUNK_ROWS, self.rows // CHUNK_ROWS):
            self._checks[chunk] = self._check(chunk * CHUNK_ROWS, (chunk + 1) * CHUNK_ROWS)

    def _check(self, first: int, last: int) -> int:
        return chunk_check(self._map, self.shape.columns, [width for _, width, _, _, _ in self._columns], first, last)


def chunk_check(data: Any, columns: Sequence[int], widths: Sequence[int], first: int, last: int) -> int:
    """The checksum of rows `first` to before `last` of a block's bytes: xxh3 over its columns, one after the other."""
    if first == last:
        return 0
    check = xxh3_64()
    view = memoryview(data)
    for at, width in zip(columns, widths, strict=True):
        check.update(view[at + width * first : at + width * last])
    return check.intdigest()


def _new_file(path: Path, size: int) -> mmap.mmap:
    """A file of `size` bytes that are really there, mapped. Raises `OSError`, and leaves nothing behind."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    try:
        os.posix_fallocate(descriptor, 0, size)
        return mmap.mmap(descriptor, size)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)
