"""Typed errors, classed by what the caller may conclude.

    GarrisonError               code, message, retry_after_s
    |-- BadInput                this request is wrong; nothing happened; do not repeat it
    |   |-- BadFrame            bytes that are no message
    |   |-- UnknownType         a message type that the server does not have
    |   |-- BadToken            no, forged or foreign token
    |   |-- TokenExpired        a token that was good once
    |   |-- Forbidden           the role may not do this
    |-- Rejected                a rule of the game said no; `code` is the rule's
    |   |-- Banned              the own subject may have no session, until when and why
    |   |-- Revoked             the own token counts no more: a new one may
    |-- NotFound                the named thing does not exist
    |-- Retryable               nothing happened; the same call may succeed later
    |   |-- Overloaded          a queue is full, at the server or here
    |   |-- RateLimited         over the rate
    |   |-- Unavailable         not there now
    |   |   |-- Unreachable     the node could not pass the request on
    |   |-- Moved               served elsewhere
    |-- OutcomeUnknown          it may have happened: repeat only with the same command
    |   |-- DeadlineExceeded    no answer in time
    |   |-- ConnectionLost      the connection broke with the request under way
    |   |-- Fenced              the node lost the entity before the change was durable
    |-- CallCycle               the server's actors called each other in a circle
    |-- Corrupt                 stored or received bytes fail their check
    |-- UnknownRules            a match of rules that the server does not have
    |-- Internal                a fault of the server, or of this client (then with its cause)
    |-- SessionClosed           the session is over and is not made again; `close_code`

The codes are those of docs/protocol.json; `SessionClosed` is the SDK's own.
"""

CLOSED_BANNED = 4101
CLOSED_REVOKED = 4102
CLOSED_KICKED = 4103
"""Close codes of sessions that moderation ends."""


class GarrisonError(Exception):
    """Base of all errors of the SDK. `retry_after_s` is the server's hint, or None."""

    code: str = "internal"

    def __init__(self, message: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(message or self.code)
        self.message = message or self.code
        self.retry_after_s = retry_after_s


class BadInput(GarrisonError):
    code = "bad_input"


class BadFrame(BadInput):
    code = "bad_frame"


class UnknownType(BadInput):
    code = "unknown_type"


class BadToken(BadInput):
    code = "bad_token"


class TokenExpired(BadInput):
    code = "token_expired"


class Forbidden(BadInput):
    code = "forbidden"


class Rejected(GarrisonError):
    code = "rejected"

    def __init__(self, code: str, message: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(message or code, retry_after_s=retry_after_s)
        self.code = code


class Banned(Rejected):
    """The subject is banned. `retry_after_s`: the time that is left of it, None where it is for good. `reason`: what
    was said with it."""

    code = "banned"

    def __init__(self, message: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__("banned", message, retry_after_s=retry_after_s)
        self.reason = message.partition(": ")[2]


class Revoked(Rejected):
    """The token was issued before the subject's tokens were revoked."""

    code = "revoked"

    def __init__(self, message: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__("revoked", message, retry_after_s=retry_after_s)


class NotFound(GarrisonError):
    code = "not_found"


class Retryable(GarrisonError):
    code = "retry"


class Overloaded(Retryable):
    code = "overloaded"


class RateLimited(Retryable):
    code = "rate_limited"


class UnknownKey(Retryable):
    code = "unknown_key"


class Unavailable(Retryable):
    code = "unavailable"


class Unreachable(Unavailable):
    code = "unreachable"


class Moved(Retryable):
    code = "moved"


class OutcomeUnknown(GarrisonError):
    code = "outcome_unknown"


class DeadlineExceeded(OutcomeUnknown):
    code = "deadline_exceeded"


class ConnectionLost(OutcomeUnknown):
    code = "connection_lost"


class Fenced(OutcomeUnknown):
    code = "fenced"


class CallCycle(GarrisonError):
    code = "call_cycle"


class Corrupt(GarrisonError):
    code = "corrupt"


class UnknownRules(GarrisonError):
    """The match is played by rules that the server does not have."""

    code = "unknown_rules"


class Internal(GarrisonError):
    code = "internal"


class SessionClosed(GarrisonError):
    """The session is over for good. `close_code` is the WebSocket close code, None where the
    program closed the client itself; `reason` is the server's own line."""

    code = "session_closed"

    def __init__(self, message: str = "", *, close_code: int | None = None, reason: str = "") -> None:
        super().__init__(message)
        self.close_code = close_code
        self.reason = reason

    @property
    def banned(self) -> bool:
        """Whether the subject was banned."""
        return self.close_code == CLOSED_BANNED

    @property
    def revoked(self) -> bool:
        """Whether the session's token was revoked: a new client with a new token may come."""
        return self.close_code == CLOSED_REVOKED

    @property
    def kicked(self) -> bool:
        """Whether the subject was kicked: a new client may come."""
        return self.close_code == CLOSED_KICKED


def _tree(root: type[GarrisonError]) -> list[type[GarrisonError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _tree(child))]


BY_CODE: dict[str, type[GarrisonError]] = {
    cls.code: cls
    for cls in _tree(GarrisonError)
    if cls not in (GarrisonError, SessionClosed) and not issubclass(cls, Rejected)
}
_OF_RULES: dict[str, type[Banned] | type[Revoked]] = {cls.code: cls for cls in (Banned, Revoked)}
"""Codes of the game's rules that have a type of their own."""


def from_wire(code: str, message: str, retry_after_ms: int | None) -> GarrisonError:
    """The typed error for a wire code; a code that is not in the list is a game rule's."""
    retry_after_s = None if retry_after_ms is None else retry_after_ms / 1000
    cls = BY_CODE.get(code) or _OF_RULES.get(code)
    if cls is None:
        return Rejected(code, message, retry_after_s=retry_after_s)
    return cls(message, retry_after_s=retry_after_s)
