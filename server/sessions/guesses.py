"""Wrong guesses of clients' secrets, counted by address: who guesses often has to wait.

A leaky bucket for each address: a wrong guess fills it, time empties it, and while it is full nobody from there may
guess. Of an IPv6 address the first 64 bits count, which one customer has. The table is bounded: where it is full, the
address that has waited for longest since its last wrong guess is forgotten. Pure: takes `now`.
"""

from collections.abc import Iterable
from typing import Final

from server.sessions.addresses import prefix

ALLOWED: Final = 60
PER_S: Final = 0.5
ADDRESSES: Final = 10_000


class GuessLimits:
    """See the module's head. An address has `allowed` wrong guesses at once and regains `per_s`; so many `addresses` at
    most are known."""

    def __init__(self, allowed: int = ALLOWED, per_s: float = PER_S, addresses: int = ADDRESSES) -> None:
        self._allowed, self._per_s, self._most = allowed, per_s, addresses
        self._levels: dict[str, tuple[float, float]] = {}
        """Level and time of each address, in the order of its last wrong guess."""

    def wait_s(self, remote: str, now: float) -> float:
        """The seconds after which somebody at `remote` may guess again; 0.0: now."""
        return max(0.0, (self._level(prefix(remote), now) - self._allowed + 1) / self._per_s)

    def wrong(self, remote: str, now: float) -> None:
        """Count a wrong guess."""
        address = prefix(remote)
        level = self._level(address, now)
        self._levels.pop(address, None)
        if len(self._levels) >= self._most:
            del self._levels[next(iter(self._levels))]
        self._levels[address] = (level + 1, now)

    def levels(self) -> list[tuple[str, float, float]]:
        """Level and time of each known address, the one that guessed last at the end."""
        return [(address, level, at) for address, (level, at) in self._levels.items()]

    def learn(self, levels: Iterable[tuple[str, float, float]]) -> None:
        """Take in the levels that the process before knew."""
        self._levels = {address: (level, at) for address, level, at in [*levels][-self._most :]}

    def _level(self, address: str, now: float) -> float:
        level, at = self._levels.get(address, (0.0, now))
        return max(0.0, level - (now - at) * self._per_s)
