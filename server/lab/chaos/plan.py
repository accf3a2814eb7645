"""The plan of faults, their order and strength: drawn from a seed, whatever happens meanwhile."""

import random
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

KINDS: Final = ("kill", "pause", "stop", "rolling", "join", "store_outage", "upgrade")
NETWORK_KINDS: Final = ("partition", "loss")
"""Faults that need network namespaces."""


class Fault(msgspec.Struct, frozen=True):
    """`place` chooses a node among those that run, `seconds` is how long it lasts: how long a process
    stays down or stopped, the store or the network bad. `strength` from 0 to 1 and `whole` mean what
    the kind makes of them. `rest_s`: how long nothing happens after it."""

    kind: str
    place: int
    seconds: float
    strength: float
    whole: bool
    rest_s: float


SECONDS: Final = {
    "kill": (0.5, 5.0),
    "pause": (1.0, 10.0),
    "stop": (0.0, 2.0),
    "rolling": (0.0, 0.5),
    "join": (0.0, 0.0),
    "store_outage": (0.5, 4.0),
    "upgrade": (0.5, 4.0),
    "partition": (2.0, 8.0),
    "loss": (2.0, 6.0),
}


def plan(seed: int, kinds: Sequence[str]) -> Iterator[Fault]:
    """Faults without end: every kind once in some order, then all of them again in another."""
    rng = random.Random(seed)
    while True:
        order = list(kinds)
        rng.shuffle(order)
        for kind in order:
            yield Fault(
                kind=kind,
                place=rng.randrange(1_000),
                seconds=round(rng.uniform(*SECONDS[kind]), 2),
                strength=round(rng.random(), 3),
                whole=rng.random() < 0.5,
                rest_s=round(rng.uniform(0.3, 1.5), 2),
            )
