"""Made-up matches with the rates of recorded ones. Pure: names and a seeded generator in, events
in the order of the match clock out.

Recorded matches of eight or nine players have 10 to 13 kills a minute and a medal every 6 to 15
seconds. Kills come in fights: a few within seconds, then a lull of up to half a minute. Each match
draws its own rates; fewer or more players scale the kills.
"""

import heapq
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal

from garrison import Report
from garrison.messages import Assist, Kill, Medal, Objective

KILLS_PER_MINUTE: Final = (10.0, 13.0)
"""Rate of a match of eight players."""
MEDAL_EVERY_S: Final = (6.0, 15.0)
OBJECTIVE_EVERY_S: Final = (6.5, 8.0)
FIRST_FIGHT_MS: Final = (15_000, 35_000)
FIGHT_GAP_MS: Final = (300, 4_500)
FIGHT_SIZES: Final = ((1, 0.45), (2, 0.3), (3, 0.17), (4, 0.08))
"""Kills in a fight, with their probabilities."""
LONG_LULL: Final = (0.1, 2.5)
"""Share of long lulls, and how many times longer they are."""
ASSIST_SHARE: Final = 0.4
MEDAL_AT_ONCE: Final = 0.6
"""Share of medals that carry the time of their kill; the others come within seconds."""
DOUBLE_KILL_MS: Final = 4_000
MEDALS: Final = (
    "Back Smack", "Boxer", "Counter-snipe", "From the Grave", "Guardian Angel", "Killing Spree", "Killjoy", "Marksman",
    "No Scope", "Perfect", "Reversal", "Rifleman", "Sharpshooter", "Snipe", "Stick", "Wingman",
)  # fmt: skip

Mode = Literal["slayer", "objective"]


def generate(
    teams: Mapping[str, int | None], length_ms: int, rng: random.Random, mode: Mode = "slayer"
) -> Iterator[Report]:
    """The events of one match of `length_ms`. `teams` gives each player's team (None: everyone
    for themselves) and must hold at least two sides."""
    kills_per_s = rng.uniform(*KILLS_PER_MINUTE) / 60 * len(teams) / 8
    medals_per_kill = 1 / rng.uniform(*MEDAL_EVERY_S) / kills_per_s * len(teams) / 8
    streams: list[Iterator[Report]] = [_fights(teams, length_ms, rng, kills_per_s, medals_per_kill)]
    if mode == "objective":
        streams.append(_objectives(list(teams), length_ms, random.Random(rng.random())))
    return heapq.merge(*streams, key=lambda event: event.time_ms)


def _fights(
    teams: Mapping[str, int | None], length_ms: int, rng: random.Random, kills_per_s: float, medals_per_kill: float
) -> Iterator[Report]:
    """Kills with their assists and medals, in order: medals that come later than their kill wait in a heap."""
    later: list[tuple[int, int, Report]] = []
    numbers = itertools.count()
    last_kill: dict[str, int] = {}
    names = list(teams)
    for time_ms in _kill_times(length_ms, rng, kills_per_s):
        while later and later[0][0] <= time_ms:
            yield heapq.heappop(later)[2]
        killer, victim = _duel(names, teams, rng)
        yield Kill(time_ms, killer, victim)
        friends = [
            name for name in names if teams[name] is not None and teams[name] == teams[killer] and name != killer
        ]
        if friends and rng.random() < ASSIST_SHARE:
            yield Assist(time_ms, rng.choice(friends))
        doubled = time_ms - last_kill.get(killer, -DOUBLE_KILL_MS - 1) <= DOUBLE_KILL_MS
        last_kill[killer] = time_ms
        for _ in range(int(medals_per_kill + rng.random())):
            medal = "Double Kill" if doubled else rng.choice(MEDALS)
            doubled = False
            if rng.random() < MEDAL_AT_ONCE:
                yield Medal(time_ms, killer, medal)
            else:
                at_ms = time_ms + rng.randrange(100, 3_000)
                heapq.heappush(later, (at_ms, next(numbers), Medal(at_ms, killer, medal)))
    yield from (event for at_ms, _, event in sorted(later) if at_ms < length_ms)


def _kill_times(length_ms: int, rng: random.Random, kills_per_s: float) -> Iterator[int]:
    mean_size = sum(size * share for size, share in FIGHT_SIZES)
    mean_gap_ms = sum(FIGHT_GAP_MS) / 2
    cycle_ms = mean_size / kills_per_s * 1_000
    mean_lull_ms = max(1_000.0, cycle_ms - (mean_size - 1) * mean_gap_ms)
    often, longer = LONG_LULL
    usual_ms = mean_lull_ms / (1 + often * (longer - 1))
    time_ms = rng.randrange(*FIRST_FIGHT_MS)
    sizes, shares = [size for size, _ in FIGHT_SIZES], [share for _, share in FIGHT_SIZES]
    while True:
        for place in range(rng.choices(sizes, shares)[0]):
            if place:
                time_ms += rng.randrange(*FIGHT_GAP_MS)
            if time_ms >= length_ms:
                return
            yield time_ms
        time_ms += int(rng.uniform(0.4, 1.6) * usual_ms * (longer if rng.random() < often else 1))


def _duel(names: Sequence[str], teams: Mapping[str, int | None], rng: random.Random) -> tuple[str, str]:
    """A killer and a victim, of different sides."""
    while True:
        killer, victim = rng.sample(names, 2)
        if teams[killer] is None or teams[killer] != teams[victim]:
            return killer, victim


def _objectives(names: Sequence[str], length_ms: int, rng: random.Random) -> Iterator[Report]:
    every_ms = rng.uniform(*OBJECTIVE_EVERY_S) * 1_000
    time_ms = rng.randrange(*FIRST_FIGHT_MS)
    while time_ms < length_ms:
        yield Objective(time_ms, rng.choice(names), "zone", rng.choice((0, 0, 1)))
        time_ms += int(rng.uniform(0.2, 1.8) * every_ms)
