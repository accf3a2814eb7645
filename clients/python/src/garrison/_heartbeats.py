"""Heartbeats: one at each interval that the server told, and an eye on how long it has been silent. Pure."""

from collections.abc import Callable
from typing import Final

from garrison._frames import pack
from garrison._session import Session
from garrison.messages import Heartbeat

SHORTEST_S: Final = 0.01


class Heartbeats:
    """The heartbeats of a client. `silence_intervals`: intervals of silence after which a connection counts as lost."""

    def __init__(self, session: Session, silence_intervals: float) -> None:
        self.interval_s = 0.0
        self._session = session
        self._silence_intervals = silence_intervals
        self._state: str | None = None
        self._heard_s = 0.0

    @property
    def state(self) -> str | None:
        """A word that travels with each. Setting one that cannot be sent raises `BadInput`."""
        return self._state

    @state.setter
    def state(self, state: str | None) -> None:
        pack(Heartbeat(0, state))
        self._state = state

    def begin(self, interval_ms: int, chance: float) -> float:
        """Keep to a welcome's interval; returns the wait before the first heartbeat. `chance`: from 0 up to 1, that
        clients who come together do not beat together."""
        self.interval_s = max(interval_ms / 1000, SHORTEST_S)
        return (0.1 + 0.8 * chance) * self.interval_s

    def heard(self, now: float) -> None:
        """Note that a frame came."""
        self._heard_s = now

    def lost(self, now: float) -> bool:
        """Tell whether the server has been silent for too long."""
        return now - self._heard_s > self.interval_s * self._silence_intervals

    def next(self, now: float, take_id: Callable[[], int]) -> Heartbeat:
        """The heartbeat to send, with what it acknowledges. After a whole interval of silence it asks for an answer of
        its own."""
        number = take_id() if now - self._heard_s > self.interval_s else 0
        return Heartbeat(self._session.acknowledge(), self._state, id=number)
