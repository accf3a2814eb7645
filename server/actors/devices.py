"""Devices: the sessions of a player as its actor knows them, and how many it may have at a time (login policies). Pure.

    Login      what a session says of itself, each time that it tells its actor that it is there
    Device     what the actor keeps of a session
    admit      the judgement of a login: who goes for it; or it is refused

An actor keeps its devices in memory only; sessions tell their logins again to an actor that does not know them, which
judges them again. So the judgement is one about a *set* of devices, in an order of their own (`Device.order`), and is
the same in whatever order they are heard of: after any fault those are left that the policy names, no more, no fewer.

Clocks of nodes need not agree: a login says how old its session is, counted from the hello that began it, not when it
began. So a hello that was held up on its way is older than one that came later and was faster.
"""

import hashlib
from collections.abc import Iterable
from typing import Final, NamedTuple, TypeVar

import msgspec

from server.errors import Rejected

MAX_DEVICES: Final = 16
"""Devices of a player at a time, whatever the policy."""
NEWEST_WINS: Final = "newest_wins"
FIRST_WINS: Final = "first_wins"
ONE_PER_KIND: Final = "one_per_kind"
ALLOW: Final = "allow:"

REPLACED: Final = "replaced"
OCCUPIED: Final = "occupied"
UNKNOWN_SESSION: Final = "unknown_session"
CODES: Final = {
    REPLACED: "a later login took this one's place (close code 4004)",
    OCCUPIED: "the login policy keeps the session that is there; come again when that is over (close code 4013)",
}
"""Codes by which a login is refused. The session's actor refuses a call of a session that it does not know, or knows to
be over, with `UNKNOWN_SESSION`: the session then tells its login, and is judged."""


class Login(msgspec.Struct, array_like=True, frozen=True):
    """A session that says that it is there; one of an earlier version says nothing, and has the defaults.

    `session`: its name, which no other session ever has. `kind`: of its device, by its token or its client's word;
    empty where neither says. `node` and `incarnation`: the run that has the session. `number`: 0 before its client is
    welcomed, then rising each time that the session tells its login again or changes its node: of two logins of a
    session the one with the higher number is newer. `client`: its client's own word for itself. `issued_ms`: when its
    token was made (0: not told). `policy`: the login policy in force at its node. `age_ms`: time since the hello that
    began the session, when this was said. `mark`: a digest of its resume token; `instead_of`: the mark of the session
    that its client had before, whose token it has shown, and could not resume."""

    session: str = ""
    kind: str = ""
    node: str = ""
    incarnation: int = 0
    number: int = 0
    client: str = ""
    issued_ms: int = 0
    policy: str = NEWEST_WINS
    age_ms: int = 0
    mark: str = ""
    instead_of: str = ""


UNTOLD: Final = Login(policy=f"{ALLOW}{MAX_DEVICES}")
"""In place of the login of a session at a node of an earlier version, which is judged by no policy."""


class Device:
    """A session as its actor knows it: its newest login, and when it began, by the clock of the actor's node
    (monotonic seconds). `beats`: heartbeats that it brought, `beats_seen` of them until somebody looked last; `quiet`:
    looks in a row without a new one. `caller`: of its newest heartbeat; None before the first, and once it is over."""

    __slots__ = ("beats", "beats_seen", "caller", "login", "quiet", "since")

    def __init__(self, login: Login, since: float) -> None:
        self.login, self.since = login, since
        self.caller: object = None
        self.beats = self.beats_seen = self.quiet = 0

    def __repr__(self) -> str:
        return f"<{self.login.session} of {self.login.node}#{self.login.incarnation}, number {self.login.number}>"

    @property
    def order(self) -> tuple[float, str]:
        """The order in which devices count as newer; no two are the same."""
        return self.since, self.login.session


D = TypeVar("D", bound=Device)


class Judgement(NamedTuple):
    """The judgement of a login that is not refused: the devices that stay beside it, and those that go for it."""

    kept: list[Device]
    ended: list[Device]


def mark_of(resume: str | None) -> str:
    """The mark of a session: what its actor may know of its resume token. Empty without one."""
    return hashlib.blake2b(resume.encode(), digest_size=9).hexdigest() if resume else ""


def keep(policy: str, devices: Iterable[D]) -> list[D]:
    """The `devices` that a player may have at a time, by a policy: the newest, the first, the newest so many, or
    the newest of each kind. A policy that this version does not know is `newest_wins`."""
    newest = sorted(devices, key=lambda device: device.order, reverse=True)
    if policy == FIRST_WINS:
        return newest[-1:]
    if policy == ONE_PER_KIND:
        kinds: dict[str, D] = {}
        for device in newest:
            kinds.setdefault(device.login.kind, device)
        return list(kinds.values())[:MAX_DEVICES]
    number = policy.removeprefix(ALLOW) if policy.startswith(ALLOW) else "1"
    return newest[: min(int(number), MAX_DEVICES) if number.isdecimal() else 1]


def admit(devices: Iterable[Device], device: Device) -> Judgement:
    """Judge a login, by its own policy, among the devices that are there. A session that its client had before gives
    way in any case. Raises `Rejected`: `replaced` or `occupied`."""
    login = device.login
    theirs = [other for other in devices if other.login.session != login.session]
    before = [other for other in theirs if login.instead_of and other.login.mark == login.instead_of]
    others = [other for other in theirs if other not in before]
    kept = keep(login.policy, [*others, device])
    if device not in kept:
        if login.policy == FIRST_WINS:
            raise Rejected(OCCUPIED, "another session of this player is there; come again when that is over")
        raise Rejected(REPLACED, "another session of this player took its place")
    gone = [other for other in others if other not in kept]
    return Judgement([other for other in kept if other is not device], [*before, *gone])


def put_in_order(device: Device, others: Iterable[Device]) -> None:
    """Let a device be newer than `others` of an earlier hello at the same run, and older than those of a later one: its
    age leaves out how long its call was on its way, and that run has them in this order."""
    run, number = _hello(device)
    for other in others:
        other_run, other_number = _hello(other)
        if other_run != run or other is device or not run:
            continue
        if other_number < number:
            device.since = max(device.since, other.since + _MOMENT_S)
        elif other_number > number:
            device.since = min(device.since, other.since - _MOMENT_S)


_MOMENT_S: Final = 1e-6


def _hello(device: Device) -> tuple[str, int]:
    """The run at which a session began, and the number of its hello there, as its name tells."""
    run, _, number = device.login.session.rpartition("-")
    return (run, int(number)) if number.isdecimal() else ("", 0)


def unknown_session(session: str) -> Rejected:
    """The error for a call of a session that its actor does not know (any more)."""
    return Rejected(UNKNOWN_SESSION, f"session {session[:64]} is not known here, or is over")
