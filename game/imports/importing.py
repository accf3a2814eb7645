"""The import of a file: its matches, one by one, and what was not understood. Reads the file; stores nothing.

    open_log(path) -> the stream, unpacked where it is gzip
    FileImport(stream, …) -> iterate: ImportedMatch …, and meanwhile `told`, the figures so far

Of a file of any size there are one line and the match at hand in memory.
"""

import gzip
import zlib
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from game.imports import halo
from game.imports.assembler import Assembler, Draft
from game.imports.catalogue import FILM_TITLE, FORMATS, LOOKED_AT, Format, Misfit, recognise
from game.imports.encode import ImportedMatch, Origins, match_of
from game.imports.lines import Line, read_lines
from game.imports.records import Reading
from server.errors import BadInput
from server.texts import escaped

MAX_KINDS: Final = 100
"""Kinds of lines that are counted by name; what is beyond is `other`."""


class Unknown(msgspec.Struct):
    """Lines of one kind that were not understood: how many, and the number of the first."""

    count: int = 0
    first_line: int = 0


class Figures(msgspec.Struct):
    """Figures of an import. `understood` and `unknown` count lines by kind; `outside` are events outside of any match,
    `warm_ups` matches that were warm-up only, `refused` says of matches why they were not imported."""

    format: str = ""
    lines: int = 0
    understood: dict[str, int] = {}
    unknown: dict[str, Unknown] = {}
    outside: int = 0
    warm_ups: int = 0
    empty: int = 0
    refused: list[str] = []


def open_log(path: Path) -> BinaryIO:
    """The file, unpacked while it is read where it is gzip. Raises `OSError`."""
    stream = path.open("rb")
    packed = stream.peek(2)[:2] == b"\x1f\x8b"
    return gzip.open(stream) if packed else stream  # type: ignore[return-value]


class FileImport:
    """A file, to be iterated once. Raises `BadInput` for one of no known format, or whose extra is not installed, at
    once."""

    def __init__(self, stream: BinaryIO, origins: Origins, film_version: int | None = None) -> None:
        self.told = Figures()
        self.read_to = 0
        """Bytes that are read."""
        self._ordinal = 0
        film = _film(stream)
        if film is not None:
            self.told.format = FILM_TITLE
            self._assembler = Assembler(roster=False)
            self._origins = origins._replace(game="halo", whole=True)
            self._readings = _film_readings(film, halo.read_film(film, film_version))
            return
        lines = self._lines(stream)
        first = list(islice(lines, LOOKED_AT))
        found = recognise(first)
        if isinstance(found, Misfit):
            raise BadInput(_misfit(found))
        self.told.format = found.title
        self._assembler = Assembler(found.roster)
        self._origins = origins._replace(game=found.name, whole=found.whole)
        self._readings = self._read(found, chain(first, lines))

    def __iter__(self) -> Iterator[ImportedMatch]:
        for line, reading in self._readings:
            self._count(line, reading)
            for draft in self._assembler.take(line, reading):
                yield from self._match(draft)
        for draft in self._assembler.close():
            yield from self._match(draft)
        self._count_matches()

    def _lines(self, stream: BinaryIO) -> Iterator[Line]:
        try:
            yield from read_lines(stream)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            self._unknown("packed file that was cut", self.told.lines + 1)

    def _read(self, fmt: Format, lines: Iterator[Line]) -> Iterator[tuple[Line, Reading]]:
        reader = fmt.reader()
        for line in lines:
            self.read_to = line.end
            if line.text is None:
                yield line, Reading("too long", known=False)
                continue
            reading = reader.read(line.text)
            yield line, reading
            if reading.again:
                yield line._replace(data=b""), reader.read(reading.again)

    def _match(self, draft: Draft) -> Iterator[ImportedMatch]:
        self._ordinal += 1
        try:
            yield match_of(draft, self._origins, self._ordinal)
        except BadInput as error:
            self.told.refused.append(error.message)

    # ---- figures ----

    def _count(self, line: Line, reading: Reading) -> None:
        told = self.told
        told.lines = line.number
        if reading.known:
            told.understood[reading.kind] = told.understood.get(reading.kind, 0) + 1
        else:
            self._unknown(reading.kind, line.number)
        self._count_matches()

    def _count_matches(self) -> None:
        told, assembler = self.told, self._assembler
        told.outside, told.warm_ups, told.empty = assembler.outside, assembler.warm_ups, assembler.empty

    def _unknown(self, kind: str, number: int) -> None:
        kinds = self.told.unknown
        kind = kind if kind in kinds or len(kinds) < MAX_KINDS else "other"
        found = kinds.setdefault(kind, Unknown(0, number))
        found.count += 1


def _film(stream: BinaryIO) -> bytes | None:
    """The whole of a film's highlights; None, and the stream at its beginning, for anything else."""
    start = stream.read(2)
    film = start + stream.read(halo.MAX_FILM) if halo.is_packed(start) else b""
    if film and halo.unpacked(film) is not None:
        return film
    stream.seek(0)
    return None


def _film_readings(film: bytes, readings: list[Reading]) -> Iterator[tuple[Line, Reading]]:
    """The readings as those of lines; the first stands for the bytes of all."""
    data = halo.unpacked(film) or b""
    for number, reading in enumerate(readings, 1):
        yield Line(number, len(film), data if number == 1 else b"", ""), reading


def _misfit(found: Misfit) -> str:
    tried = ", ".join([*(fmt.title for fmt in FORMATS), FILM_TITLE, ".garrison"])
    if not found.number:
        return f"no known format (tried {tried}): the file has no line"
    text = found.text if len(found.text) <= 60 else f"{found.text[:57]}..."
    return f"no known format (tried {tried}): line {found.number} does not fit: {escaped(text)}"
