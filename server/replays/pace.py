"""The clock of a replay: the log's clock, made of a moment, a speed, and whether it runs. Pure; moments are seconds of
any steady clock, positions are ms of the log.
"""

from typing import Final

import msgspec

SLOWEST: Final = 25
FASTEST: Final = 6_400
"""Speeds are whole hundredths of the log's own: a quarter, up to 64 times as fast."""
USUAL: Final = 100


class ReplayClock(msgspec.Struct, frozen=True):
    """A clock that stood at `at_ms` in the moment `since`. It runs while it `plays` and is not `held`. Every change
    gives another clock, which shows the same time at the moment of the change, but for `seek`."""

    at_ms: float
    since: float
    speed: int = USUAL
    plays: bool = True
    held: bool = False

    @property
    def runs(self) -> bool:
        return self.plays and not self.held

    def at(self, now: float) -> float:
        """The log's time at the moment `now`, which is not before the last change."""
        return self.at_ms + max(0.0, now - self.since) * 10.0 * self.speed if self.runs else self.at_ms

    def due(self, ms: float) -> float | None:
        """The moment at which the log's time `ms` is reached; None while the clock stands before it."""
        if ms <= self.at_ms:
            return self.since
        return self.since + (ms - self.at_ms) / (10.0 * self.speed) if self.runs else None

    def play(self, now: float, plays: bool) -> "ReplayClock":
        """Go on, or pause."""
        return ReplayClock(self.at(now), now, self.speed, plays, self.held)

    def at_speed(self, now: float, speed: int) -> "ReplayClock":
        """Go on at another speed."""
        assert SLOWEST <= speed <= FASTEST
        return ReplayClock(self.at(now), now, speed, self.plays, self.held)

    def seek(self, now: float, ms: float) -> "ReplayClock":
        """Show another time, held by nothing."""
        return ReplayClock(ms, now, self.speed, self.plays)

    def hold(self, now: float, most_ms: float) -> "ReplayClock":
        """Stand still, at `most_ms` at the latest, until `release`. A clock that is held already stays where it is."""
        at_ms = self.at_ms if self.held else min(self.at(now), most_ms)
        return ReplayClock(at_ms, now, self.speed, self.plays, True)

    def release(self, now: float) -> "ReplayClock":
        """Go on from where it was held."""
        return ReplayClock(self.at_ms, now, self.speed, self.plays) if self.held else self
