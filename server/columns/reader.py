"""Blocks as readers see them: mapped read-only, checked, never more than their published rows.

A reader may be in another process, live while the writer writes, or come long after it has died. It copies nothing:
`values` and `text_parts` are views of the file, which last as long as the block object even where the file has been
unlinked.
"""

import mmap
import os
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from server.columns.block import SLOT, chunk_check
from server.columns.layout import (
    CHUNK_ROWS,
    FORMATS,
    HEADER_BYTES,
    SLOT_BYTES,
    WIDTHS,
    Header,
    counts_of,
    decode_header,
    shape_of,
)
from server.errors import Corrupt

SUFFIX: Final = ".block"
MAX_FILE_BYTES: Final = 2**31


class StoredRowBlock:
    """A row block, mapped read-only.

    Raises `OSError` where the file cannot be read, `NotReady`, `NewerLayout` or `Corrupt` where it is not what it
    should be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_FILE_BYTES:
                raise Corrupt(f"has {size} bytes")
            self.header: Header = decode_header(file.read(HEADER_BYTES))
            self.shape = shape_of(self.header)
            if size != self.shape.size:
                raise Corrupt(f"has {size} bytes, and its header says {self.shape.size}")
            self._map = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        self.size = size
        self._word = np.frombuffer(self._map, np.uint64, 1, self.shape.word)
        self._places = {
            column.name: (column.type, at)
            for column, at in zip(self.header.schema.columns, self.shape.columns, strict=True)
        }
        self.rows = self.texts = 0
        self._text_columns = [column.name for column in self.header.schema.columns if column.type == "text"]
        self._text_bytes = 0
        self._span = (0, (0, 0))
        """Rows, and the times of the earliest and the latest of them, as far as they were looked at."""
        self.refresh()

    def refresh(self) -> None:
        """Look at the rows that have been published since. Raises `Corrupt` where the word says nonsense, or an engine
        could not read their texts: it would read past the end of them, or take the damage for the question's fault."""
        rows, texts = counts_of(int(self._word[0]), self.header)
        if rows < self.rows or texts < self.texts:
            raise Corrupt("has fewer rows than it had")
        if texts > self.texts:
            self._check_texts(texts)
        for name in self._text_columns if rows > self.rows else ():
            at = self._places[name][1] + 2 * self.rows
            if int(np.frombuffer(self._map, np.uint16, rows - self.rows, at).max()) >= texts:
                raise Corrupt(f"column {name} names texts that are not there")
        self.rows, self.texts = rows, texts

    def _check_texts(self, texts: int) -> None:
        """Look at the texts from the first new one to before `texts`."""
        offsets = np.frombuffer(self._map, np.int32, texts - self.texts + 1, self.shape.offsets + 4 * self.texts)
        end = int(offsets[-1])
        if offsets[0] != self._text_bytes or end > self.header.heap or (np.diff(offsets) < 0).any():
            raise Corrupt("the offsets of its texts are damaged")
        data = self._map[self.shape.heap + self._text_bytes : self.shape.heap + end]
        starts = offsets[offsets < end] - self._text_bytes
        try:
            data.decode()
        except UnicodeDecodeError:
            raise Corrupt("its texts are damaged") from None
        if (np.frombuffer(data, np.uint8)[starts] & 0xC0 == 0x80).any():
            raise Corrupt("the offsets of its texts are damaged")
        self._text_bytes = end

    def values(self, name: str) -> "NDArray[Any]":
        """The values of a column: numbers, numbers of texts, or milliseconds after the base. Raises `KeyError`."""
        kind, at = self._places[name]
        return np.frombuffer(self._map, np.dtype(FORMATS[kind]), self.rows, at)

    def text_parts(self) -> tuple[memoryview, memoryview]:
        """The texts as Arrow has them: 32-bit offsets, one more than texts, and their bytes."""
        view = memoryview(self._map)
        offsets = view[self.shape.offsets : self.shape.offsets + 4 * (self.texts + 1)]
        end = int(np.frombuffer(offsets, np.int32)[-1])
        return offsets, view[self.shape.heap : self.shape.heap + end]

    def all_texts(self) -> list[str]:
        """The texts by their numbers."""
        parts, heap = self.text_parts()
        ends = np.frombuffer(parts, np.int32).tolist()
        data = bytes(heap)
        return [data[a:b].decode("utf-8", "replace") for a, b in pairwise(ends)]

    def span_ms(self) -> tuple[int, int] | None:
        """The times of the earliest and the latest row, Unix ms; None: there are no rows."""
        if not self.rows:
            return None
        if self._span[0] == self.rows:
            return self._span[1]
        times = self.values("time")
        span = self.header.base_ms + int(times.min()), self.header.base_ms + int(times.max())
        self._span = (self.rows, span)
        return span

    def verify(self) -> None:
        """Compare everything that is published with its checksums. Raises `Corrupt` with what differs.

        A writer that is alive may publish more meanwhile: then what was published at the beginning is compared.
        """
        word = int(self._word[0])
        rows, texts = counts_of(word, self.header)
        if not word:
            return
        self.rows, self.texts = rows, texts
        widths = [WIDTHS[column.type] for column in self.header.schema.columns]
        checks = np.frombuffer(self._map, np.uint64, rows // CHUNK_ROWS, self.shape.checks)
        for chunk, check in enumerate(checks):
            if (
                chunk_check(self._map, self.shape.columns, widths, chunk * CHUNK_ROWS, (chunk + 1) * CHUNK_ROWS)
                != check
            ):
                raise Corrupt(f"rows {chunk * CHUNK_ROWS} to {(chunk + 1) * CHUNK_ROWS - 1} are damaged")
        slots = [SLOT.unpack_from(self._map, self.shape.slots + number * SLOT_BYTES) for number in range(2)]
        slot = next((slot for slot in slots if slot[0] == word), None)
        if slot is None:
            raise Corrupt(f"nothing says what the last of its {rows} rows should be")
        full = rows // CHUNK_ROWS * CHUNK_ROWS
        if chunk_check(self._map, self.shape.columns, widths, full, rows) != slot[1]:
            raise Corrupt(f"rows {full} to {rows - 1} are damaged")
        start = self.shape.offsets + 4
        if xxh3_64_intdigest(self._map[start : start + 4 * texts]) != slot[2]:
            raise Corrupt("the offsets of its texts are damaged")
        offsets = np.frombuffer(self._map, np.int32, texts + 1, self.shape.offsets)
        if xxh3_64_intdigest(self._map[self.shape.heap : self.shape.heap + int(offsets[-1])]) != slot[3]:
            raise Corrupt("its texts are damaged")
        for column in self.header.schema.columns:
            if column.type == "text" and rows and int(self.values(column.name).max()) >= texts:
                raise Corrupt(f"column {column.name} names texts that are not there")


def block_name(header: Header) -> str:
    """The name of a block's file: table, run and place in it."""
    writer = header.writer
    return f"{header.schema.table}.{writer.incarnation}.{writer.generation}.{header.number}{SUFFIX}"


def paths(directory: Path) -> Iterable[Path]:
    """The files of blocks in `directory`, in no order; none where it does not exist. What has the name of one and is no
    file, a link or a pipe for example, is none: to open it may take for ever, or count rows of another node."""
    try:
        with os.scandir(directory) as found:
            return [
                Path(entry.path)
                for entry in found
                if entry.name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return []
