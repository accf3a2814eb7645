"""Token bucket: how many messages a session may send. Pure."""


class TokenBucket:
    """Starts full with `burst` tokens and regains `rate_per_s`.

    It is refilled only when it runs empty, so that the usual message costs a subtraction and
    no look at the clock: `tokens -= 1`, and `refill` if that went below zero. For that, a
    client that was quiet may send two bursts in a row; in any time it never gets more than
    `2 * burst + rate_per_s * time`.
    """

    __slots__ = ("_at", "burst", "rate_per_s", "tokens")

    def __init__(self, rate_per_s: float, burst: float, now: float) -> None:
        self.rate_per_s = rate_per_s
        self.burst = burst
        self.tokens = burst
        self._at = now

    def take(self, now: float) -> bool:
        """Take one token; False if there is none."""
        self.tokens -= 1.0
        return self.tokens >= 0.0 or self.refill(now)

    def refill(self, now: float) -> bool:
        """Add what was earned since the last time, after a token too many was taken. False if
        that does not cover it: it is given back."""
        earned = (now - self._at) * self.rate_per_s
        self._at = now
        self.tokens = min(self.burst, self.tokens + earned)
        if self.tokens >= 0.0:
            return True
        self.tokens += 1.0
        return False
