"""Times that no operator sets, as values: each part of a gateway gets its own, and tests pass shorter ones. Pure."""

from typing import Final

import msgspec

MOVING_RETRY_S: Final = 0.2
"""Pause after which a client asks again whose session is just being moved."""


class TransferLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Times of a session's change of node, in seconds."""

    spread_s: float = 1.0
    """Sessions that a new view sends elsewhere leave at random moments within this time, or longer if they are many."""
    grace_s: float = 2.0
    """From telling a client that its session moved until its connection is closed."""
    answer_s: float = 1.0
    """Wait for the answer to one shipment, or to one word that a session was taken back."""
    retry_cap_s: float = 5.0
    """Longest pause before a session that was refused is shipped again."""


class SeekLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Times of a search for a session on the other nodes, in seconds."""

    find_s: float = 1.0
    """Longest wait of a hello for the session that it would resume."""
    again_s: float = 0.05
    """Pause before a node is asked again that is about to have the session."""
    max_sought: int = 10_000
    """Searches at a time; past it a client gets a new session without one."""


class StreamLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Times of watched streams and of pushes between nodes, in seconds."""

    renew_s: float = 2.5
    """Watched topics are attached again this often: a quarter of the time for which an actor remembers a watcher."""
    away_s: float = 10.0
    """Time for which a slot's owner remembers which other nodes serve a player, unless they say so again."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """All of a gateway's times."""

    tick_s: float = 0.1
    """Coarseness of the gateway's clock: deadlines of sessions are met this much late at most."""
    home_wait_s: float = 3.0
    """Wait of a hello for the view to say who serves a player whose node does not answer."""
    transfer: TransferLimits = TransferLimits()
    seek: SeekLimits = SeekLimits()
    streams: StreamLimits = StreamLimits()
