"""Lines of a log file: numbered, bounded, decoded whatever their bytes are. Pure, but for the stream it reads.

A log is text that many programs have had a hand in: names in the encoding of whoever chose them, lines that were cut
when a server died, garbage of a packet dump. Nothing here refuses a line; one that is too long has no text.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from server.texts import LINE_PATTERN

MAX_LINE: Final = 16_384
"""Bytes of a line that is read; a longer one is passed over. Engines write 1,024 and, of settings, 8,192."""
MAX_TEXT: Final = 128
_good = re.compile(LINE_PATTERN)


class Line(NamedTuple):
    """A line without its end. `number` counts from 1; `end` is the number of bytes of the file up to here; `text` is
    None where the line is too long."""

    number: int
    end: int
    data: bytes
    text: str | None


def read_lines(stream: BinaryIO) -> Iterator[Line]:
    """The lines of `stream`, of which never more than one is in memory."""
    number = end = 0
    while data := stream.readline(MAX_LINE + 2):
        number += 1
        end += len(data)
        if len(data) <= MAX_LINE or data.endswith(b"\n"):
            data = data.rstrip(b"\r\n")
            yield Line(number, end, data, decoded(data))
            continue
        while (more := stream.readline(MAX_LINE)) and not more.endswith(b"\n"):
            end += len(more)
        end += len(more)
        yield Line(number, end, b"", None)


def decoded(data: bytes) -> str:
    """UTF-8, or, where it is none, Latin-1, which has a letter for each byte."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def clean(text: str, length: int = MAX_TEXT) -> str:
    """The text as a log of ours may hold it: without control and format characters and halves of letters, cut to
    `length`."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(_good.findall(text.encode("utf-8", "ignore").decode()))
    return text[:length]
