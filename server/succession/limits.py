"""Limits of a succession that no operator sets, as values: tests pass others. Pure."""

from typing import Final

import msgspec


class SuccessionLimits(msgspec.Struct, frozen=True):
    """Times in seconds, and how much goes over at once."""

    start_s: float = 120.0
    """For the new program to start and to say what it is."""
    answer_s: float = 30.0
    """For an answer while this node serves."""
    frozen_s: float = 2.0
    """For each answer while it does not."""
    rest_s: float = 1.0
    """For everything that is under way to end."""
    requests_s: float = 0.1
    """For clients' requests to be answered, of that; then they are told that their outcome is not known."""
    lease_s: float = 1.0
    """Left of the lease when this node freezes, at least."""
    slice: int = 200
    """Activations, or sessions, of a message."""
    sockets: int = 200
    """Sockets of a message."""
    rounds: int = 20
    few: int = 500
    """So few activations and sessions may be left for the rest."""
    look_s: float = 0.001
    """Pause between looks for what nobody tells the end of."""


LIMITS: Final = SuccessionLimits()
