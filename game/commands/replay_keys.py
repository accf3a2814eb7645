"""Keys from a terminal while something is drawn in it, one by one and without an echo; the terminal is given back as it
was, also where the program is told to end."""

import os
import select
import signal
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_LETTERS: Final = {"A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end"}
_NUMBERS: Final = {"1": "home", "7": "home", "4": "end", "8": "end"}
_SEQUENCES: Final = {
    **{f"\x1b{lead}{letter}": key for lead in "[O" for letter, key in _LETTERS.items()},
    **{f"\x1b[{number}~": key for number, key in _NUMBERS.items()},
}
"""Sequences that terminals send for keys without a character."""
_LONGEST: Final = max(map(len, _SEQUENCES))
_ENDS: Final = (signal.SIGTERM, signal.SIGHUP)


def keys_in(text: str) -> tuple[list[str], str]:
    """The keys in what a terminal sent, by name (`left`) or as they are (`q`), and the rest: a sequence that is not
    whole yet. Sequences of other keys are left out."""
    keys: list[str] = []
    while text:
        if text[0] != "\x1b":
            keys.append(text[0])
            text = text[1:]
            continue
        known = next((each for each in _SEQUENCES if text.startswith(each)), None)
        if known is not None:
            keys.append(_SEQUENCES[known])
            text = text[len(known) :]
        elif len(text) < _LONGEST and any(each.startswith(text) for each in _SEQUENCES):
            return keys, text
        else:
            text = _after_sequence(text)
    return keys, ""


def _after_sequence(text: str) -> str:
    """The text after a sequence that is no key of ours: up to its final letter, or `~`."""
    if text[1:2] not in ("[", "O"):
        return text[1:]
    end = next((place for place in range(2, len(text)) if "@" <= text[place] <= "~"), len(text) - 1)
    return text[end + 1 :]


class Keys:
    """Keys of the terminal at descriptor `fd`; see `keys_of`."""

    def __init__(self, fd: int) -> None:
        self._fd, self._rest = fd, ""

    def within(self, seconds: float) -> list[str]:
        """The keys that are there, after a wait of so many seconds at most for the first; `q` where the terminal is
        gone."""
        ready, _, _ = select.select([self._fd], [], [], max(0.0, seconds))
        if not ready:
            self._rest = ""  # the beginning of a sequence that never came: somebody pressed escape
            return []
        data = os.read(self._fd, 1_024)
        if not data:
            return ["q"]
        keys, self._rest = keys_in(self._rest + data.decode("utf-8", "replace"))
        return keys


@contextmanager
def keys_of(fd: int) -> Iterator[Keys]:
    """The keys of the terminal at `fd`, which is as it was afterwards."""
    before = termios.tcgetattr(fd)
    handlers = {number: signal.signal(number, _leave) for number in _ENDS}
    try:
        tty.setcbreak(fd)
        yield Keys(fd)
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
