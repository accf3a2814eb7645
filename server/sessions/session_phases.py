"""The phases of a session, and which may follow which. Pure. `session.py` says what they mean."""

from collections.abc import Mapping
from typing import Final, Literal

from server.runtime.phases import PhaseTable

Phase = Literal["opening", "arrived", "attached", "detached", "transferred", "ended"]
_FOLLOWING: Final[Mapping[Phase, tuple[Phase, ...]]] = {
    "opening": ("attached", "arrived"),
    "arrived": ("attached", "transferred", "ended"),
    "attached": ("attached", "detached", "transferred", "ended"),
    "detached": ("attached", "transferred", "ended"),
    "transferred": ("ended",),
    "ended": (),
}
SESSION: Final = PhaseTable("session", _FOLLOWING)
