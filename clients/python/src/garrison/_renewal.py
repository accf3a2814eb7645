"""The renewal of a token before its time is over, while the session goes on. Pure."""

from typing import Final

from garrison._base import Reply
from garrison._requests import Call, Requests
from garrison._timers import Timers
from garrison.errors import ConnectionLost, GarrisonError
from garrison.messages import Renewed, TokenRenew

SHARE: Final = 0.8
"""Share of a token's time after which it is renewed."""
PAUSE_S: Final = 5.0
"""Pause after a renewal that failed. Where none succeeds, the server closes with 4002, and the client comes back with a
new token."""


class Renewal:
    """The renewals of a client's token. `renewable`: another token can be had."""

    def __init__(self, requests: Requests, timers: Timers, renewable: bool) -> None:
        self._requests = requests
        self._timers = timers
        self._renewable = renewable
        self._connection = 0

    def begin(self, connection: int, expires_in_ms: int, now: float) -> None:
        """Watch over the token that connection `connection` was welcomed with: it ends in `expires_in_ms`; 0: never."""
        self._connection = connection
        self._after(expires_in_ms, now)

    def give(self, token: str, now: float) -> None:
        """Send the token to go on with."""
        try:
            self._requests.submit(TokenRenew(token), now, self._answered)
        except GarrisonError:
            self.again(now)

    def again(self, now: float) -> None:
        """Try again soon: no token could be made, or the server did not take it."""
        self._timers.at(now + PAUSE_S, "renew", self._connection)

    def _after(self, expires_in_ms: int, now: float) -> None:
        if self._renewable and expires_in_ms > 0:
            self._timers.at(now + max(PAUSE_S, SHARE * expires_in_ms / 1000), "renew", self._connection)

    def _answered(self, _call: Call, reply: Reply | None, error: GarrisonError | None, now: float) -> None:
        if isinstance(reply, Renewed):
            self._after(reply.token_expires_in_ms, now)
        elif error is not None and not isinstance(error, ConnectionLost):  # the next hello brings a token anyway
            self.again(now)
