"""Keys that failed lately and are to be left alone for a while: capped exponential backoff a key. Pure."""

import random
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
FIRST_S: Final = 1.0
MAX_S: Final = 60.0
KEPT: Final = 10_000
"""Keys whose failures are remembered."""


class Retries(Generic[K]):
    """Past `KEPT` keys the one that failed longest ago is forgotten: it may try at once. Waits
    double from `first_s` to `most_s`."""

    def __init__(self, rng: random.Random, first_s: float = FIRST_S, most_s: float = MAX_S) -> None:
        self._rng, self._first_s, self._most_s = rng, first_s, most_s
        self._failing: dict[K, tuple[int, float]] = {}

    def ready(self, key: K, now: float) -> bool:
        """Tell whether `key` may try now."""
        return key not in self._failing or self._failing[key][1] <= now

    def failed(self, key: K, now: float) -> int:
        """Note that `key` has failed at `now`. Returns how often in a row."""
        times = self._failing.pop(key, (0, 0.0))[0] + 1
        wait_s = min(self._most_s, self._first_s * 2.0 ** min(times - 1, 30))
        self._failing[key] = (times, now + wait_s * self._rng.uniform(0.8, 1.2))
        if len(self._failing) > KEPT:
            del self._failing[next(iter(self._failing))]
        return times

    def done(self, key: K) -> None:
        """Forget the failures of `key`: it has succeeded, or is no more."""
        self._failing.pop(key, None)
