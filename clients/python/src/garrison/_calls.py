"""A request on its way, and the counters of a client."""

import asyncio
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Stats:
    """What a client has seen since it was made."""

    connects: int = 0
    redirects: int = 0
    recovered: int = 0
    """Reconnects in which the session was resumed with everything that was missed."""
    connect_failures: int = 0
    heartbeats_acknowledged: int = 0
    requests_sent: int = 0
    retries: int = 0
    pushes: int = 0
    pushes_dropped: int = 0
    push_gaps: int = 0


class Call:
    """A request on its way to its answer. `parts`: its frame before and after the id, packed once,
    so that what travels is the same each time and nothing can fail where it is sent."""

    __slots__ = ("attempt", "future", "number", "order", "parts", "retry", "timer")

    def __init__(self, parts: tuple[bytes, bytes], order: int, retry: bool, future: asyncio.Future[Any]) -> None:
        self.parts = parts
        self.order = order
        self.retry = retry
        self.future = future
        self.attempt = 0
        self.number = 0
        self.timer: asyncio.TimerHandle | None = None

    def __lt__(self, other: "Call") -> bool:
        return self.order < other.order
