"""The rule by which logs go whose actors are over: oldest first, by age, number and size. Pure.

Logs have an order, by when they ended and then by name, and a *bound* in it: what is at the bound or before goes, but
for what is spared. So nothing that goes is newer than anything that stays for its age, number or size, and whoever
computes the bound again after a part of it has gone goes on where it was.

Spared are logs that are pinned, that somebody owns (they are being read or written), and that have open facts (results
that not everybody has been told). A pinned log counts for neither number nor size.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from server.eventlog.ports import OverLog
from server.ids import ActorId

Place = tuple[int, ActorId]
"""A log's place in the order: Unix ms of its end, and its id."""
_LAST: Final = ActorId("\U0010ffff")
"""Behind every id."""


class RetentionLimits(msgspec.Struct, frozen=True):
    """How much is kept of a kind; 0: however much there is."""

    max_age_ms: int = 0
    max_logs: int = 0
    max_bytes: int = 0

    def __bool__(self) -> bool:
        return bool(self.max_age_ms or self.max_logs or self.max_bytes)


def place_of(log: OverLog) -> Place:
    """The place of `log` in the order."""
    return log.ended_ms, log.id


class Bound:
    """Finds the bound: by age at once, by number and size from logs that are given newest first."""

    def __init__(self, limits: RetentionLimits, now_ms: int) -> None:
        self.limits = limits
        self.place: Place | None = (now_ms - limits.max_age_ms, _LAST) if limits.max_age_ms else None
        """The bound, as far as it is known; None: nothing goes."""
        self.logs = self.size = 0
        """Number and bytes of the logs that stay by number and size, of those that were given."""
        self.is_found = not (limits.max_logs or limits.max_bytes)

    def take(self, logs: Iterable[OverLog]) -> None:
        """Count the next older logs, until the bound is found."""
        for log in logs:
            if self.is_found:
                return
            if self.place is not None and place_of(log) <= self.place:
                self.is_found = True  # age alone decides from here on
            elif not log.is_pinned:
                self._count(log)

    def _count(self, log: OverLog) -> None:
        limits, logs, size = self.limits, self.logs + 1, self.size + log.size
        if (limits.max_logs and logs > limits.max_logs) or (limits.max_bytes and size > limits.max_bytes):
            self.place, self.is_found = place_of(log), True
        else:
            self.logs, self.size = logs, size


def goes(log: OverLog, bound: Place | None) -> bool:
    """Whether `log` is to be deleted."""
    return bound is not None and place_of(log) <= bound and not log.is_pinned and not log.is_open
