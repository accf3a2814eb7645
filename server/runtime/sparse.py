"""Lines of the log that a stranger can cause: one a second at most, with the number of those that were left out."""

import time
from collections.abc import Callable


class Sparse:
    """Counts lines and says which are written."""

    def __init__(self, pause_s: float = 1.0, now: Callable[[], float] = time.monotonic) -> None:
        self._pause_s, self._now = pause_s, now
        self._next = float("-inf")
        self._left_out = 0

    def passes(self) -> dict[str, int] | None:
        """None: leave the line out. Else its further fields: `left_out`, if lines were left out before it."""
        now = self._now()
        if now < self._next:
            self._left_out += 1
            return None
        self._next = now + self._pause_s
        left_out, self._left_out = self._left_out, 0
        return {"left_out": left_out} if left_out else {}
