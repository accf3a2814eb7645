"""The rules of moderation. Pure: a state and an order in, a new state out; nothing asks a clock here.

An end is a wall time in Unix ms: 0 is "not at all", `FOR_GOOD` is later than any clock says. So an end comes by
itself, with nobody's act, by the clock of the node that asks.
"""

from typing import Final

from server.texts import escaped

FOR_GOOD: Final = 2**53 - 1
"""The end of a ban or a mute that has none: the greatest number that is one of its own in every client's language."""


def lasts(until_ms: int, wall_ms: int) -> bool:
    """Tell whether a ban or a mute with that end is in force."""
    return wall_ms < until_ms


def left_s(until_ms: int, wall_ms: int) -> float | None:
    """Seconds until the end; None where it has none."""
    return None if until_ms >= FOR_GOOD else max(0, until_ms - wall_ms) / 1000


def because(word: str, reason: str) -> str:
    """A sentence for the subject: `banned: team killing`, or only the word where nobody gave a reason."""
    return f"{word}: {escaped(reason)}" if reason else word
