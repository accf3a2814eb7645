"""Codes by which a party is joined, names of new parties, and how often a player may guess. Pure.

A code has 9 of 32 letters, 2^45 or 3.5e13 of them. A player has 10 wrong guesses, and regains 10 a minute; an address
60, and regains 30 a minute (`server/sessions/guesses.py`). With 100,000 parties open, a guess that an address makes
finds one of them with a chance of 3e-9: with 43,200 guesses a day that takes it twenty years, and a certain one of them
100,000 times as long. A code is good until its party is over, its leader asks for another, or somebody is kicked.
"""

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

LETTERS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: without I, L, O and U, which are read as others."""
LENGTH: Final = 9
NAME_LENGTH: Final = 20
_READ_AS: Final = str.maketrans({"I": "1", "L": "1", "O": "0", "-": None})
GUESSES: Final = 10
GUESSES_PER_S: Final = 10 / 60


def new_code(chance: Callable[[int], int]) -> str:
    """A code; `chance(bits)` gives so many bits by chance."""
    return _letters(chance(5 * LENGTH), LENGTH)


def read_code(text: str) -> str:
    """The code that somebody has typed."""
    return text.upper().translate(_READ_AS)


def shown_code(code: str) -> str:
    """The code as people read it: `ABC-DEF-GHJ`."""
    return "-".join(code[start : start + 3] for start in range(0, len(code), 3))


def name_of_new(player: str, lineage: str, command: int) -> str:
    """The name of the party that a player makes by this command: repeated, it names the same one."""
    digest = blake2b(f"{player}/{command}/{lineage}".encode(), digest_size=16).digest()
    return _letters(int.from_bytes(digest), NAME_LENGTH).lower()


def _letters(number: int, length: int) -> str:
    return "".join(LETTERS[number >> 5 * place & 31] for place in range(length))


class Guesses:
    """The wrong guesses of one player: a bucket that each fills, and that time empties."""

    __slots__ = ("_at", "_level")

    def __init__(self) -> None:
        self._level = self._at = 0.0

    def wait_s(self, now: float) -> float:
        """The seconds after which the next guess is allowed; 0.0: now."""
        return max(0.0, (self._left(now) - GUESSES + 1) / GUESSES_PER_S)

    def wrong(self, now: float) -> None:
        """Count a wrong one."""
        self._level, self._at = self._left(now) + 1, now

    def _left(self, now: float) -> float:
        return max(0.0, self._level - (now - self._at) * GUESSES_PER_S)
