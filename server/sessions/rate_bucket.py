"""Token bucket: how many messages a session may send. Pure."""

from typing import Final

GRANT: Final = 16
_HURRIED_GRANT: Final = 4
_NEARLY: Final = 1e-6
"""A token that is regained but for rounding counts: who comes exactly when told finds it."""


class TokenBucket:
    """Starts full with `burst` tokens and regains `rate_per_s`.

    Tokens are handed out `GRANT` at a time (fewer to who is new or in a hurry), so that the usual
    message costs a subtraction and no look at the clock: `tokens -= 1`, and `refill` if that went
    below zero. In any time there are
    never more than `burst + GRANT + rate_per_s * time`.
    """

    __slots__ = ("_at", "_costly_due", "_due", "_granted", "_rest", "burst", "hurried", "rate_per_s", "tokens")

    def __init__(self, rate_per_s: float, burst: int, now: float) -> None:
        self.rate_per_s = rate_per_s
        self.burst = burst
        self._granted = min(_HURRIED_GRANT, burst)
        self.tokens = float(self._granted)
        self.hurried = False
        """The tokens of the last grant were used up faster than they are regained."""
        self._rest = burst - self.tokens  # not handed out yet
        self._at = now
        self._due = self._costly_due = now

    @property
    def state(self) -> tuple[float, int, bool, float, float, float, float]:
        """All of it but its rate and burst: tokens, granted, hurried, rest, and three moments."""
        return self.tokens, self._granted, self.hurried, self._rest, self._at, self._due, self._costly_due

    @state.setter
    def state(self, state: tuple[float, int, bool, float, float, float, float]) -> None:
        self.tokens, self._granted, self.hurried, self._rest, self._at, self._due, self._costly_due = state

    def take(self, now: float) -> bool:
        """Take one token; False if there is none."""
        self.tokens -= 1.0
        return self.tokens >= 0.0 or self.refill(now)

    def refill(self, now: float) -> bool:
        """Hand out the next tokens, after one too many was taken. False if there is none: that
        one is given back."""
        self.hurried = (now - self._at) * self.rate_per_s < self._granted
        self._rest = self._left(now)
        self._at = now
        granted = min(_HURRIED_GRANT if self.hurried else GRANT, int(self._rest + _NEARLY))
        self._rest -= granted
        self._granted = max(1, granted)
        self.tokens += self._granted  # the one that was taken is covered, or given back
        return granted > 0

    def put_off(self, now: float) -> float:
        """Seconds after which a message that was refused at `now` finds a token, if all that were refused before it
        come when they were told to."""
        self._due = max(self._due, now) + 1.0 / self.rate_per_s
        return self._due - now

    def charge(self, cost: int, now: float) -> float:
        """Take `cost` more tokens for a message that weighs more than one. Returns 0.0; or, with nothing taken, the
        seconds after which it finds them, if all such messages that were put off before it come when they were told
        to. One that costs more than the burst costs the burst."""
        cost = min(cost, self.burst)
        left = self._left(now)
        short = cost - self.tokens - left
        if short > _NEARLY:
            at = now + short / self.rate_per_s
            self._costly_due = max(self._costly_due + cost / self.rate_per_s, at)
            return self._costly_due - now
        self._at, self._rest = now, left - cost
        if self._rest < 0.0:
            self.tokens += self._rest
            self._rest = 0.0
        return 0.0

    def overrun(self, now: float) -> bool:
        """More messages were put off, and are not due yet, than the burst has."""
        return (self._due - now) * self.rate_per_s > self.burst

    def _left(self, now: float) -> float:
        return min(self.burst, self._rest + (now - self._at) * self.rate_per_s)
