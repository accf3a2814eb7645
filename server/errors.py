"""Errors that cross a seam, classed by what their receiver needs to know: did it happen, may it be repeated.

    GarrisonError               code, message, retry_after_s
    |-- BadInput                the sender's fault; nothing happened; do not repeat
    |   |-- BadFrame            bytes that are no message
    |   |-- UnknownType         a message type that this server does not have
    |   |-- BadToken            no, forged or foreign token
    |   |-- TokenExpired        a token that was good once
    |   |-- Forbidden           the role may not do this
    |   |-- BadSetting          a configuration field; `field` names it
    |   |-- LogExists           another log is stored under that id
    |-- Rejected                a rule of the application said no; `code` is the rule's
    |-- NotFound                the named thing does not exist
    |-- Retryable               nothing happened; the same call may succeed later
    |   |-- Overloaded          a mailbox, outbox or table of calls is full
    |   |-- RateLimited         the caller is over its rate
    |   |-- UnknownKey          a token's key is not at this node; perhaps not yet
    |   |-- Unavailable         the node, store or lease is not there now
    |   |   |-- Unreachable     no link to that node; nothing was sent
    |   |   |-- CalledOff       a succession did not take place; the node goes on as before
    |   |-- Moved               the actor lives elsewhere; `address` says where, if known
    |-- OutcomeUnknown          it may have happened: repeat only with the same command id
    |   |-- DeadlineExceeded    no answer in time
    |   |-- ConnectionLost      the link broke with the call under way
    |   |-- Fenced              ownership was lost before the change was durable
    |-- CallCycle               a call chain came back to an actor that it holds
    |-- Corrupt                 stored or received bytes fail their check
    |-- UnknownRules            a log of rules that this program does not have; its bytes may be good
    |-- Internal                a fault of the server itself

`code` is what travels on the wire; `from_wire` turns it back. Leaf module.
"""

from typing import ClassVar


class GarrisonError(Exception):
    """Base of all typed errors. `retry_after_s` is a hint, None where retrying is no use."""

    code: str = "internal"

    def __init__(self, message: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(message or self.code)
        self.message = message or self.code
        self.retry_after_s = retry_after_s


class BadInput(GarrisonError):
    """The sender's fault. `request_id` is the id of the message at fault where one could be read, else 0."""

    code = "bad_input"
    request_id: int = 0


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


class BadSetting(BadInput):
    """A setting that cannot be used. `field` is its dotted name, such as `gateway.port`."""

    code = "bad_setting"

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"setting {field}: {why}")
        self.field = field


class LogExists(BadInput):
    """A finished log was to be stored under an id that has another one."""

    code = "log_exists"


class Rejected(GarrisonError):
    """An application rule refused the command; `code` is the rule's own word. `retry_after_s`: the rule says so only
    until then."""

    code = "rejected"

    def __init__(self, code: str, message: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(message or code, retry_after_s=retry_after_s)
        self.code = code


class NotFound(GarrisonError):
    code = "not_found"


class Retryable(GarrisonError):
    """Nothing happened, and the same call may succeed in `retry_after_s`, `default_retry_s` unless told."""

    code = "retry"
    default_retry_s: ClassVar[float] = 0.5

    def __init__(self, message: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s=retry_after_s or self.default_retry_s)


class Overloaded(Retryable):
    code = "overloaded"


class RateLimited(Retryable):
    code = "rate_limited"


class UnknownKey(Retryable):
    """A token names a key that this node does not have: perhaps not yet, while keys change from node to node."""

    code = "unknown_key"
    default_retry_s = 5.0


class Unavailable(Retryable):
    code = "unavailable"


class Unreachable(Unavailable):
    """No link to the node. Only raised where nothing was sent, so that another node may be asked."""

    code = "unreachable"


class CalledOff(Unavailable):
    """A succession did not take place, for the reason told. The node goes on as if nothing had been."""

    code = "called_off"


class Moved(Retryable):
    """The actor is served elsewhere. `address` is `node#incarnation`, or empty if unknown."""

    code = "moved"
    default_retry_s = 0.05

    def __init__(self, address: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(address, retry_after_s=retry_after_s)
        self.address = self.message = address  # the message is what travels: empty if unknown


class OutcomeUnknown(GarrisonError):
    """The call may have taken effect. Repeating is safe only under the same command id."""

    code = "outcome_unknown"


class DeadlineExceeded(OutcomeUnknown):
    code = "deadline_exceeded"


class ConnectionLost(OutcomeUnknown):
    code = "connection_lost"


class Fenced(OutcomeUnknown):
    """A newer epoch exists: the change is not stored here, but a successor may have it from the journal."""

    code = "fenced"


class CallCycle(GarrisonError):
    code = "call_cycle"


class Corrupt(GarrisonError):
    """Bytes fail their check. The message names the place: segment, event, record."""

    code = "corrupt"


class UnknownRules(GarrisonError):
    """A log was written by rules that this program does not have: what its events mean cannot be told here."""

    code = "unknown_rules"


class Internal(GarrisonError):
    code = "internal"


def _leaves(root: type[GarrisonError]) -> list[type[GarrisonError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _leaves(child))]


_LOCAL = (BadSetting, LogExists, CalledOff, Rejected, GarrisonError)
_BY_CODE = {cls.code: cls for cls in _leaves(GarrisonError) if cls not in _LOCAL}


def from_wire(code: str, message: str, retry_after_s: float | None) -> GarrisonError:
    """The typed error that a peer named by `code`; an unknown code is a rule's (`Rejected`)."""
    cls = _BY_CODE.get(code)
    if cls is None:
        return Rejected(code, message, retry_after_s=retry_after_s)
    if issubclass(cls, Moved):
        return Moved(message, retry_after_s=retry_after_s)
    return cls(message, retry_after_s=retry_after_s)
