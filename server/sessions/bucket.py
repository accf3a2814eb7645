"""Token bucket: how many messages a session may send. Pure."""


class TokenBucket:
    """Starts full with `burst` tokens and regains `rate_per_s`."""

    __slots__ = ("_at", "burst", "rate_per_s", "tokens")

    def __init__(self, rate_per_s: float, burst: float, now: float) -> None:
        self.rate_per_s = rate_per_s
        self.burst = burst
        self.tokens = burst
        self._at = now

    def take(self, now: float) -> bool:
        """Take one token; False if there is none."""
        tokens = self.tokens + (now - self._at) * self.rate_per_s
        self._at = now
        tokens = tokens if tokens < self.burst else self.burst
        if tokens < 1.0:
            self.tokens = tokens
            return False
        self.tokens = tokens - 1.0
        return True
