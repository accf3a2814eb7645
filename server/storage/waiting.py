"""Entities that wait for the journal of a run that is over and that cannot be read here (`takeover = wait`).

    dead run, its journal on another host    its entities stay its own until a node there reads the journal,
                                             or an operator gives it up (`garrison forget`)

Asking the store for such an entity again and again finds the same, whoever calls it: a player's client alone does
so several times a second. So each is asked for with a backoff, with jitter, and calls between are refused with the
time to wait. All are free at once when the journal is closed. Pure: takes `now`.
"""

import random
from collections.abc import Iterable
from typing import Final

from server.errors import Unavailable
from server.ids import ActorId, NodeAddress
from server.liveness.ports import Estate
from server.runtime.backoff import backoff_s

KEPT: Final = 100_000
"""Entities that are remembered; past that the first ones are forgotten, and ask the store when they are called."""
FIRST_S: Final = 1.0
MOST_S: Final = 15.0
"""Bounds of the pause between two claims of an entity that waits."""
MOST_TOLD_S: Final = 5.0
"""Longest time to wait that a caller is told: the journal may be closed any moment."""
TOLD_AFTER_S: Final = 10.0
"""Time for which a journal was away before that is told: a node on its host closes it in less."""
NAMED: Final = 8
"""Runs that are named, in a sentence and as label values; the others are counted together."""


class _Away:
    """A run that is over and whose journal cannot be read here."""

    __slots__ = ("entities", "estate", "since")

    def __init__(self, estate: Estate, since: float) -> None:
        self.estate, self.since = estate, since
        self.entities: dict[ActorId, tuple[int, float]] = {}
        """How often each was claimed, and when it may be again."""


class Waiting:
    """See the module's head. Who is away is what the last `follow` said."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._away: dict[NodeAddress, _Away] = {}
        self._owner: dict[ActorId, NodeAddress] = {}

    def follow(self, unreadable: Iterable[Estate], now: float) -> None:
        """Take over which journals are away; what waited for others is free."""
        before = self._away
        self._away = {estate.owner: before.get(estate.owner) or _Away(estate, now) for estate in sorted(unreadable)}
        for owner in before.keys() - self._away.keys():
            for identity in before[owner].entities:
                del self._owner[identity]

    def check(self, identity: ActorId, now: float) -> None:
        """Raise `Unavailable` while `identity` is known to wait and is not to be claimed again yet."""
        owner = self._owner.get(identity)
        if owner is not None:
            away = self._away[owner]
            until = away.entities[identity][1]
            if now < until:
                raise self._refusal(identity, away, until - now)

    def refuse(self, identity: ActorId, owner: NodeAddress, now: float) -> None:
        """Raise `Unavailable` if `owner`, which the store says owns `identity`, is a run whose journal is away."""
        away = self._away.get(owner)
        if away is None:
            return
        self.forget(identity, but=owner)
        times = away.entities.pop(identity, (0, 0.0))[0]
        pause_s = FIRST_S + backoff_s(times, self._rng, base_s=FIRST_S, cap_s=MOST_S - FIRST_S)
        away.entities[identity] = (times + 1, now + pause_s)
        self._owner.pop(identity, None)
        self._owner[identity] = owner
        if len(self._owner) > KEPT:
            self.forget(next(iter(self._owner)))
        raise self._refusal(identity, away, pause_s)

    def forget(self, identity: ActorId, but: NodeAddress | None = None) -> None:
        """Note that `identity` does not wait any more, unless for `but`."""
        owner = self._owner.get(identity)
        if owner is not None and owner != but:
            del self._owner[identity]
            del self._away[owner].entities[identity]

    def __len__(self) -> int:
        return len(self._owner)

    def counts(self, now: float) -> dict[str, int]:
        """Entities that were called here and wait, by the run that they wait for; `other` is all past `NAMED`. Runs
        that are away for `TOLD_AFTER_S`, or that something waits for."""
        told = self._told(now)
        counts = {str(away.estate.owner): len(away.entities) for away in told[:NAMED]}
        if told[NAMED:]:
            counts["other"] = sum(len(away.entities) for away in told[NAMED:])
        return counts

    def sentence(self, now: float) -> str:
        """Say which journals are away, what waits for them and what to do; empty where none is."""
        told = self._told(now)
        if not told:
            return ""
        named = [
            f"{away.estate.owner} (its journal: {away.estate.journal or 'unknown'}; actors called here that wait: "
            f"{len(away.entities)})"
            for away in told[:NAMED]
        ]
        more = f" and {len(told) - NAMED} more" if told[NAMED:] else ""
        nodes = "its node" if len(told) == 1 else "their nodes"
        return (
            f"journals of dead runs cannot be read here, and what these own is unavailable: {', '.join(named)}{more}. "
            f"Start {nodes} again where the journal is, or give its changes up: `garrison forget`"
        )

    def _told(self, now: float) -> list[_Away]:
        told = [away for away in self._away.values() if away.entities or now >= away.since + TOLD_AFTER_S]
        return sorted(told, key=lambda away: (-len(away.entities), away.estate))

    @staticmethod
    def _refusal(identity: ActorId, away: _Away, wait_s: float) -> Unavailable:
        why = f"{identity} waits for the journal of {away.estate.owner}, which cannot be read here"
        return Unavailable(why, retry_after_s=min(wait_s, MOST_TOLD_S))
