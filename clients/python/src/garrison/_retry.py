"""Capped exponential backoff with full jitter, with the server's hint as the least wait."""

import random

from garrison.errors import GarrisonError, OutcomeUnknown, Retryable


def backoff_s(attempt: int, rng: random.Random, base_s: float, cap_s: float) -> float:
    """Seconds before retry number `attempt` (0 for the first)."""
    return rng.uniform(0, min(cap_s, base_s * 2.0 ** min(attempt, 30)))


def retry_wait_s(error: GarrisonError, attempt: int, rng: random.Random, base_s: float, cap_s: float) -> float:
    """Seconds before the next try after `error`: the hint and some jitter on top of it."""
    return (error.retry_after_s or 0.0) + backoff_s(attempt, rng, base_s, cap_s)


def repeatable(error: GarrisonError) -> bool:
    """May a command be sent again, under its number, after `error`? An outcome that the server
    no longer remembers (the bare `outcome_unknown`) stays unknown however often one asks."""
    return isinstance(error, Retryable) or (isinstance(error, OutcomeUnknown) and type(error) is not OutcomeUnknown)
