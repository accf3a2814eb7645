"""What the probes saw of each fault: how long until what lived on the node was served again.

A probe tells of late answers only (`Gap`). For a fault at time `at`, an affected entity was served
again at the end of the gap that lies over `at`; one that is not late by then never was, and the bound
of a gap stands for its time.
"""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

LATE_ANSWER_S: Final = 0.5
"""An answer that was under way when the fault struck may still arrive within this time after it."""


class Gap(msgspec.Struct, frozen=True):
    """`entity` was acknowledged a change at `since` and the next one at `until`."""

    entity: str
    since: float
    until: float


class Struck(msgspec.Struct):
    """A fault of `kind` at `at` (monotonic time) hit a node on which `entities` lived. `back`: seconds
    until each was served again, as far as it is known."""

    kind: str
    node: str
    at: float
    entities: tuple[str, ...]
    back: dict[str, float] = {}

    def waiting(self, gaps: "Gaps") -> int:
        """How many entities are not known to be served again."""
        for entity in self.entities:
            if entity not in self.back and (seconds := gaps.back_after(entity, self.at)) is not None:
                self.back[entity] = seconds
        return len(self.entities) - len(self.back)

    def times(self, end: float) -> dict[str, list[float]]:
        """Kind of entity to the seconds of each; what is not known to be back counts until `end`."""
        found: dict[str, list[float]] = {}
        for entity in self.entities:
            found.setdefault(entity.partition("/")[0], []).append(self.back.get(entity, end - self.at))
        return found


class Gaps:
    """The gaps of all probes so far, and who waits now."""

    def __init__(self, bound_s: float) -> None:
        self.bound_s = bound_s
        self.gaps: dict[str, list[Gap]] = {}
        self.probes: list[str] = []
        self.quiet: dict[str, None] = {}
        self.heard_at = 0.0
        """The time of what is known."""

    def add(self, gap: Gap) -> None:
        """The end of a gap, as a probe tells it."""
        self.gaps.setdefault(gap.entity, []).append(gap)

    def heard(self, now: float, probes: Sequence[str], quiet: Sequence[str]) -> None:
        """All probes as of `now`."""
        self.heard_at, self.probes, self.quiet = now, list(probes), dict.fromkeys(quiet)

    def back_after(self, entity: str, at: float) -> float | None:
        """Seconds from `at` until `entity` was served again; None: not yet, as far as is known. Asked
        while the probes run."""
        for gap in self.gaps.get(entity, ()):
            if gap.since <= at + LATE_ANSWER_S and gap.until > at:
                return gap.until - at
        known = self.heard_at > at + LATE_ANSWER_S + self.bound_s
        return self.bound_s if known and entity not in self.quiet else None

    def lengths(self, least_s: float) -> list[float]:
        """How long the gaps of at least `least_s` were, whatever they came of."""
        every = (gap.until - gap.since for gaps in self.gaps.values() for gap in gaps)
        return sorted(length for length in every if length >= least_s)


def spread(values: Sequence[float]) -> dict[str, Any] | None:
    """Median and maximum in seconds, and how many there are; None without any."""
    if not values:
        return None
    return {"median": round(statistics.median(values), 3), "max": round(max(values), 3), "count": len(values)}


def recovery(struck: Iterable[Struck], end: float) -> dict[str, Any] | None:
    """The spread of all times of these faults, and that of each kind of entity by its plural."""
    times: dict[str, list[float]] = {}
    for one in struck:
        for kind, values in one.times(end).items():
            times.setdefault(kind, []).extend(values)
    every = [value for values in times.values() for value in values]
    found = spread(every)
    if found is not None:
        plurals = {"match": "matches"}
        found |= {plurals.get(kind, f"{kind}s"): spread(values) for kind, values in sorted(times.items())}
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """Of sorted values; 0.0 without any."""
    return round(values[min(len(values) - 1, int(len(values) * share))], 3) if values else 0.0
