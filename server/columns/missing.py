"""The note of a table that says what of it is missing and can be had from the store again.

    DIRECTORY/CLUSTER/NODE/TABLE.missing        whole, a number of rows, or nothing where that is not known yet

It lies beside the row blocks and is lost with them: a table of which there is no note has lost everything. It says
`whole` once nothing is missing that could be had, and not any more before a block is dropped. The query process reads
it with each scan, so that an answer says how much it lacks.
"""

import os
from pathlib import Path
from typing import Final

SUFFIX: Final = ".missing"
WHOLE: Final = "whole"


def is_whole(directory: Path, table: str) -> bool:
    """Whether nothing is missing that could be had."""
    return _read(directory, table) == WHOLE


def missing_rows(directory: Path, table: str) -> int | None:
    """Rows that are missing, 0 where that is not known yet; None: nothing is, or nobody keeps a note of this table."""
    text = _read(directory, table)
    if text is None or text == WHOLE:
        return None
    return int(text) if text.isdecimal() else 0


def note_missing(directory: Path, table: str, rows: int | None) -> None:
    """Note that `rows` are missing, None: nobody knows yet how many. Raises `OSError`."""
    _write(directory, table, "" if rows is None else str(rows))


def note_whole(directory: Path, table: str) -> None:
    """Note that nothing is missing any more. Raises `OSError`."""
    _write(directory, table, WHOLE)


def note_lost(directory: Path, table: str) -> None:
    """Note before a block of `table` is dropped that it is not whole, if there is a note of it at all. Raises
    `OSError`."""
    if is_whole(directory, table):
        note_missing(directory, table, None)


def _read(directory: Path, table: str) -> str | None:
    try:
        return (directory / f"{table}{SUFFIX}").read_text()
    except OSError:
        return None


def _write(directory: Path, table: str, text: str) -> None:
    path = directory / f"{table}{SUFFIX}"
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    os.replace(new, path)
