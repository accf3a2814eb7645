"""Counts of a column's values by text and bucket, without the engine: what a quantile of each group needs.

An engine looks for each row's group in a hash table. Where rows are grouped by one column of texts, or not at all, and
the values are whole numbers of no sign, a row's text and bucket are one number, its *cell*, and numpy counts the cells
of a block some times as fast. The cells of a text begin where those of the text found before it end; cell 0 is for rows
that do not pass.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from server.columns.layout import WIDTHS, ColumnType
from server.columns.reader import StoredRowBlock
from server.questions.plan import GROWTH, SHIFT, WEIGHT
from server.questions.rows import Filters, TextNumbers, bucket_numbers, put_kept

MOST_CELLS: Final = 2**18
"""Cells that are counted at most: so many are read and written again with every block."""
_UNSIGNED: Final = ("u8", "u16", "u32")


class TooManyCells(Exception):
    """The rows have too many different texts: the engine groups them faster."""


def countable(kind: ColumnType) -> bool:
    """Whether the values of a column of this type can be counted here."""
    return kind in _UNSIGNED


def counts(
    blocks: Sequence[StoredRowBlock],
    column: str,
    key: str | None,
    passes: "NDArray[np.bool_] | None",
    filters: Filters,
    numbers: TextNumbers,
    weighted: bool,
) -> dict[tuple[int, ...], dict[int, int]]:
    """The number of rows of `blocks` in each bucket of `column`, by the numbers of the texts of `key` (None: all rows
    under `()`). Rows count that `passes`, a value for each row of all blocks, lets pass (None: all), and each of
    `filters`; `weighted` says that a row counts as often as its weight. Raises `TooManyCells`."""
    width = _width(blocks[0], column)
    first_cells = np.zeros(len(numbers.texts) if key is not None else 1, np.int32)
    """The first cell of each text; 0: no row had it until now."""
    found: list[int] = []
    total: NDArray[Any] = np.zeros(1, np.float64 if weighted else np.intp)
    most = max(block.rows for block in blocks)
    all_cells, all_kept = np.empty(most, np.int32), np.empty(most, np.uint8)
    at = 0
    for block in blocks:
        cells, kept = all_cells[: block.rows], all_kept[: block.rows]
        new = _put_first_cells(block, key, numbers, first_cells, cells)
        if len(new):
            first_cells[new] = 1 + width * np.arange(len(found), len(found) + len(new))
            found += new.tolist()
            if width * len(found) > MOST_CELLS:
                raise TooManyCells
            total = np.concatenate([total, np.zeros(width * len(new), total.dtype)])
            _put_first_cells(block, key, numbers, first_cells, cells)
        places = bucket_numbers(block.values(column))
        places -= SHIFT - 1
        cells += np.maximum(places, 0, out=places)
        if filters:
            put_kept(block, filters, numbers, kept)
        else:
            kept[:] = 1
        if passes is not None:
            kept &= passes[at : at + block.rows].view(np.uint8)
        cells *= kept
        total += np.bincount(cells, block.values(WEIGHT) if weighted else None, len(total))
        at += block.rows
    return _by_text(total, found, width, key is not None)


def _width(block: StoredRowBlock, column: str) -> int:
    """The buckets of a column's type: one for zero, and those up to its largest value."""
    kind = next(each.type for each in block.header.schema.columns if each.name == column)
    return 2 + math.ceil(8 * WIDTHS[kind] * math.log(2) / math.log(GROWTH))


def _put_first_cells(
    block: StoredRowBlock, key: str | None, numbers: TextNumbers, first_cells: "NDArray[Any]", cells: "NDArray[Any]"
) -> "NDArray[Any]":
    """Put the first cell of each row's text into `cells`; the numbers of the texts that have none yet."""
    if key is None:
        cells[:] = first_cells[0]
        return np.flatnonzero(first_cells == 0)
    codes, of_block = block.values(key), numbers.of(block)
    first_cells.take(of_block).take(codes, out=cells, mode="clip")
    if cells.min():
        return np.empty(0, np.int64)
    return np.unique(of_block.take(codes[cells == 0], mode="clip"))


def _by_text(total: "NDArray[Any]", found: list[int], width: int, keyed: bool) -> dict[tuple[int, ...], dict[int, int]]:
    groups: dict[tuple[int, ...], dict[int, int]] = {}
    for place, number in enumerate(found):
        of_text = total[1 + width * place : 1 + width * (place + 1)]
        filled = np.flatnonzero(of_text)
        buckets = np.where(filled, filled + (SHIFT - 1), 0)
        if len(filled):
            counted = of_text[filled].astype(np.int64)
            groups[(number,) if keyed else ()] = dict(zip(buckets.tolist(), counted.tolist(), strict=True))
    return groups
