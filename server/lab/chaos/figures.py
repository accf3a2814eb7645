"""Figures of each fault, from the probes: how long clients waited because of it.

A probe tells of late answers only (`Gap`). Each gap belongs to one fault: the last one that struck before it
began. A probe whose entity lived on the node that was hit counts in any case, with the longest of its waits; one
that was never late counts with the bound of a gap. A probe whose entity lived elsewhere (its client may be connected
to the node, or its entity may have moved) counts if it was late by `UNAVAILABLE_S`.
"""

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

LATE_ANSWER_S: Final = 0.5
"""An answer that was under way when the fault struck may still arrive within this time after it."""

UNAVAILABLE_S: Final = 0.5
"""Gaps shorter than this are not counted as unavailability."""


class Gap(msgspec.Struct, frozen=True):
    """`entity` was acknowledged a change at `since` and the next one at `until`."""

    entity: str
    since: float
    until: float

    @property
    def is_long(self) -> bool:
        """Whether it is counted as unavailability."""
        return self.until - self.since >= UNAVAILABLE_S


class Struck(msgspec.Struct):
    """A fault of `kind` at `at` (monotonic time) hit a node on which `entities` lived. Whatever is late until
    `until`, the time of the next fault, is its doing."""

    kind: str
    node: str
    at: float
    entities: tuple[str, ...]
    until: float = float("inf")

    def waiting(self, gaps: "Gaps") -> int:
        """How many entities, wherever they live, are not known to be served again. Asked while the probes run."""
        early = gaps.heard_at <= self.at + LATE_ANSWER_S + gaps.bound_s
        unknown = [entity for entity in self.entities if early and not self._waits(gaps, entity)]
        return len({*unknown, *gaps.quiet})

    def waits(self, gaps: "Gaps") -> dict[str, float]:
        """The longest wait in seconds of each entity that lived on the node: from the fault, or from the last
        answer after it, to the next answer."""
        return {entity: max(self._waits(gaps, entity), default=gaps.bound_s) for entity in self.entities}

    def elsewhere(self, gaps: "Gaps") -> dict[str, float]:
        """The same of those that lived elsewhere and were late all the same."""
        found = {}
        for entity in sorted(gaps.gaps.keys() - set(self.entities)):
            # Gaps that began well before the fault are an earlier one's doing.
            waits = self._waits(gaps, entity, lambda gap: gap.since >= self.at - gaps.bound_s and gap.is_long)
            if waits:
                found[entity] = max(waits)
        return found

    def _waits(self, gaps: "Gaps", entity: str, counts: Callable[[Gap], bool] = lambda gap: True) -> list[float]:
        return [
            gap.until - max(gap.since, self.at)
            for gap in gaps.gaps.get(entity, ())
            if gap.until > self.at and gap.since < self.until - gaps.bound_s and counts(gap)
        ]


class Gaps:
    """The gaps of all probes so far, and who waits now."""

    def __init__(self, bound_s: float) -> None:
        self.bound_s = bound_s
        self.gaps: dict[str, list[Gap]] = {}
        self.probes: list[str] = []
        self.quiet: dict[str, float] = {}
        """Probes that wait, with the time of their last answer."""
        self.heard_at = 0.0
        """The time of what is known."""

    def add(self, gap: Gap) -> None:
        """The end of a gap, as a probe tells it; it replaces what is known of that gap."""
        known = self.gaps.setdefault(gap.entity, [])
        if known and known[-1].since == gap.since:
            known.pop()
        known.append(gap)

    def heard(self, now: float, probes: Sequence[str], quiet: dict[str, float]) -> None:
        """All probes as of `now`."""
        self.heard_at, self.probes, self.quiet = now, list(probes), dict(quiet)

    def end(self) -> int:
        """No more is to be measured: whoever waits has waited until now. How many those are."""
        for entity, since in self.quiet.items():
            self.add(Gap(entity, since, self.heard_at))
        return len(self.quiet)

    def lengths(self) -> list[float]:
        """How long the gaps of `UNAVAILABLE_S` and more were, whatever they came of; sorted."""
        return sorted(gap.until - gap.since for gaps in self.gaps.values() for gap in gaps if gap.is_long)


def spread(values: Sequence[float]) -> dict[str, Any] | None:
    """Median and maximum in seconds, and how many there are; None without any."""
    if not values:
        return None
    return {"median": round(statistics.median(values), 3), "max": round(max(values), 3), "count": len(values)}


def recovery(struck: Iterable[Struck], gaps: Gaps) -> dict[str, Any] | None:
    """The spread of all waits for these faults, that of each kind of entity by its plural, and as `elsewhere`
    that of those among them that did not live on the node."""
    there: list[tuple[str, float]] = []
    elsewhere: list[tuple[str, float]] = []
    for hit in struck:
        there += hit.waits(gaps).items()
        elsewhere += hit.elsewhere(gaps).items()
    found = spread([seconds for _, seconds in (*there, *elsewhere)])
    if found is None:
        return None
    kinds: dict[str, list[float]] = {}
    for entity, seconds in (*there, *elsewhere):
        kinds.setdefault(entity.partition("/")[0], []).append(seconds)
    found |= {PLURALS.get(kind, f"{kind}s"): spread(values) for kind, values in sorted(kinds.items())}
    return found | {"elsewhere": spread([seconds for _, seconds in elsewhere])}


PLURALS: Final = {"match": "matches"}


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of sorted `values` are; 0.0 without any."""
    return round(values[min(len(values) - 1, int(len(values) * share))], 3) if values else 0.0
