"""Presence that lives as long as a session: said again when a new one begins, for nobody else knows it then. Pure."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, cast

from garrison._base import Reply
from garrison._requests import Call, Requests
from garrison.errors import GarrisonError, OutcomeUnknown, Retryable
from garrison.messages import PresenceSet

Done = Callable[[Call, Reply | None, GarrisonError | None, float], None]
STATUSES: Final = ("online", "away", "busy", "invisible")


class Standing:
    """The newest presence that the program has set and the server has not refused."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._said: PresenceSet | None = None
        self._call: Call | None = None

    def note(self, message: object, call: Call) -> None:
        """Keep the message of `call`, if it sets presence."""
        if isinstance(message, PresenceSet):
            self._said, self._call = message, call

    def answered(self, call: Call, error: GarrisonError | None) -> None:
        """Forget what was refused."""
        if call is self._call and error is not None and not isinstance(error, Retryable | OutcomeUnknown):
            self._said = self._call = None

    def say_again(self, state: str | None, now: float) -> None:
        """Begin a new session as the one before was, unless the presence is still on its way. `state`: the word of
        the program's heartbeats, which is newer than a status that was set by a message."""
        if self._said is None or self._call is None or not self._call.settled:
            return
        said = replace(self._said, status=cast(Any, state)) if state in STATUSES else self._said
        self._call = self._requests.submit(said, now, self._heard, retry=True)

    def _heard(self, call: Call, _reply: Reply | None, error: GarrisonError | None, _now: float) -> None:
        self.answered(call, error)
