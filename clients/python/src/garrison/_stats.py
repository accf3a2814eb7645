"""Counters of a client."""

from dataclasses import dataclass


@dataclass(slots=True)
class Stats:
    """Counts since the client was made."""

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
