"""Waits between tries: capped exponential backoff with full jitter, and the server's hint as the least wait. Pure."""

from collections.abc import Callable

from garrison.errors import GarrisonError, OutcomeUnknown, Retryable

Chance = Callable[[], float]
"""Draws a number from 0 up to 1."""


def backoff_s(attempt: int, chance: Chance, base_s: float, cap_s: float) -> float:
    """Seconds before retry number `attempt` (0 for the first)."""
    return chance() * min(cap_s, base_s * 2.0 ** min(attempt, 30))


def retry_wait_s(error: GarrisonError, attempt: int, chance: Chance, base_s: float, cap_s: float) -> float:
    """Seconds before the next try after `error`: its hint, and jitter on top of it."""
    return (error.retry_after_s or 0.0) + backoff_s(attempt, chance, base_s, cap_s)


def repeatable(error: GarrisonError) -> bool:
    """Tell whether a command may be sent again, under its number, after `error`. An outcome that the server
    no longer remembers (the bare `outcome_unknown`) stays unknown however often it is asked for."""
    return isinstance(error, Retryable) or (isinstance(error, OutcomeUnknown) and type(error) is not OutcomeUnknown)
