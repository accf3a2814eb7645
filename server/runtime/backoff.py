"""Capped exponential backoff with full jitter (Brooker, AWS Architecture Blog, 2015)."""

import random


def backoff_s(attempt: int, rng: random.Random, base_s: float = 0.05, cap_s: float = 2.0) -> float:
    """Seconds to wait before retry number `attempt` (0 for the first)."""
    return rng.uniform(0, min(cap_s, base_s * 2.0 ** min(attempt, 30)))
