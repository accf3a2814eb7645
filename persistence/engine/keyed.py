"""Statements for a list of keys, each made once: text for the driver, and the places where the keys stand.

Numbers of keys are rounded up, so that there are few statements; the last key stands where there are no more.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import Dialect, Select

SIZES: Final = (1, 4, 16, 64, 256, 1_000)
"""Numbers of keys for which there is a statement. More keys than that have none."""


class KeyedStatement:
    """A statement for `size` keys."""

    __slots__ = ("_values", "text")

    def __init__(self, make: Callable[[list[str]], Select[Any]], size: int, dialect: Dialect) -> None:
        marks = [f"key {number}" for number in range(size)]
        compiled = make(marks).compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        self.text = compiled.string
        places = {mark: number for number, mark in enumerate(marks)}
        given = [compiled.params[name] for name in compiled.positiontup or ()]
        self._values = [(places.get(value, -1) if isinstance(value, str) else -1, value) for value in given]

    def values(self, keys: Sequence[str]) -> list[Any]:
        """Values for the question marks, in order."""
        last = len(keys) - 1
        return [value if place < 0 else keys[min(place, last)] for place, value in self._values]


def size_for(count: int) -> int:
    """The size of the statement for so many keys; 0 where there is none."""
    return next((size for size in SIZES if count <= size), 0) if count else 0
