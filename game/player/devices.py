"""The devices of a player: which sessions are here, which have been let in, and which are over. Pure.

    asked ---> here ---> over        a login that others go for waits until its session has begun
      `------------------^

A login is let in before its client is welcomed, and the session may never begin (the answer is lost, the client is
gone). So others go for it only when it has said that it began, by another login or by its first heartbeat.

What is over stays over: its name is remembered for a while with its last login number, so that a call of it that was
held up adds nobody. A session that lives on all the same (its end was said by a copy on another node) tells a login of
a higher number and is here again; one that gave way to another login is not, whatever it says.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from server.actors.devices import MAX_DEVICES, REPLACED, Device, Login, admit, put_in_order, unknown_session
from server.errors import Rejected

MAX_OVER: Final = 16
"""Sessions that are over and of which that is remembered."""
ASKED_S: Final = 15.0
"""Time for which a login that was let in may take to begin."""
QUIET_LOOKS: Final = 2
"""Looks, a minute apart, without any heartbeat after which a session counts as lost."""
NEVER: Final = 2**53
"""In place of the last number of a session that gave way to another one."""
EARLIER: Final = NEVER - 1
"""In place of the number of a session at a node of an earlier version, which may come back as it was."""


class CarriedDevices(msgspec.Struct, array_like=True, frozen=True):
    """Devices on their way to another node: logins as of now, and sessions that are over with their last numbers."""

    here: tuple[Login, ...] = ()
    asked: tuple[Login, ...] = ()
    over: tuple[tuple[str, int], ...] = ()


class Taken(NamedTuple):
    """A login was taken: these devices end for it. `waits`: others will, once its session has begun."""

    ended: tuple[Device, ...] = ()
    waits: bool = False


KNOWN: Final = Taken()
_NO_DEVICES: Final[dict[str, Device]] = {}
_NO_STINTS: Final[dict[str, int]] = {}


class Devices:
    """See the module's head. `here` is read by each heartbeat: device by session. `asked` and `over` are replaced whole
    by what is added to them: of most players there is never anything in them, and an empty one is shared by all."""

    __slots__ = ("asked", "here", "over")

    def __init__(self) -> None:
        self.here: dict[str, Device] = {}
        self.asked: dict[str, Device] = _NO_DEVICES
        self.over: dict[str, int] = _NO_STINTS

    # ---- logins ----

    def take(self, login: Login, now: float) -> Taken:
        """Take in a login. Raises `Rejected`: `replaced` or `occupied`, and then nothing has changed."""
        name = login.session
        if login.number <= self.over.get(name, -1):
            raise Rejected(REPLACED, "this session is over")
        known = self.here.get(name)
        if known is not None:
            if login.number > known.login.number:
                known.login = login
            return KNOWN
        device, since = self.asked.get(name), now - login.age_ms / 1000
        if device is None or login.number < device.login.number:
            device = Device(login, since)
        else:
            device.login, device.since = login, min(device.since, since)
        put_in_order(device, (*self.here.values(), *self.asked.values()))
        ended = admit(self.here.values(), device).ended
        if not ended or login.number:
            return Taken(self._begin(device, ended))
        self._forget_asked(now)
        self.asked = {**self.asked, name: device}
        return Taken((), True)

    def beaten(self, session: str) -> tuple[Device, tuple[Device, ...]]:
        """The device of a session that brings a heartbeat and is not here: it was let in, and so has begun. With it
        those that end for it. Raises `Rejected`: `unknown_session`."""
        device = self.asked.get(session)
        if device is None:
            raise unknown_session(session)
        try:
            ended = admit(self.here.values(), device).ended
        except Rejected:
            raise unknown_session(session) from None  # its login is refused, which ends it
        return device, self._begin(device, ended)

    def _begin(self, device: Device, ended: Iterable[Device]) -> tuple[Device, ...]:
        for other in ended:
            self._leave(other)
            self._note_over(other.login.session, NEVER)
        self.asked.pop(device.login.session, None)
        self.over.pop(device.login.session, None)
        self.here[device.login.session] = device
        return tuple(ended)

    def _forget_asked(self, now: float) -> None:
        """Make room: those that have had their time, and the one let in first."""
        late = [name for name, device in self.asked.items() if device.since < now - ASKED_S]
        for name in late or list(self.asked)[: len(self.asked) + 1 - MAX_DEVICES]:
            del self.asked[name]

    # ---- ends ----

    def end(self, session: str) -> Device | None:
        """Note that a session is over, whether it was here or not. The device that it was."""
        device = self.here.get(session)
        known = device or self.asked.pop(session, None)
        if device is not None:
            self._drop([device])
        elif session not in self.over:
            self._note_over(session, known.login.number if known is not None else 0)
        return device

    def runs(self) -> set[tuple[str, int]]:
        """The runs that have its sessions."""
        return {_run(device) for device in (*self.here.values(), *self.asked.values())}

    def gone(self, node: str, incarnation: int) -> list[Device]:
        """Drop the devices of a run that is over. A session of it that lives on elsewhere says so by a login."""
        run = (node, incarnation)
        for waiting in [device for device in self.asked.values() if _run(device) == run]:
            del self.asked[waiting.login.session]
        return self._drop([device for device in self.here.values() if _run(device) == run])

    def look(self) -> tuple[list[Device], bool]:
        """Drop devices without a heartbeat for `QUIET_LOOKS` looks: their ends were lost. With them, whether there was
        any heartbeat since the last look."""
        heard, quiet = False, []
        for device in self.here.values():
            beaten = device.beats != device.beats_seen
            heard |= beaten
            device.beats_seen = device.beats
            device.quiet = 0 if beaten else device.quiet + 1
            if device.quiet >= QUIET_LOOKS:
                quiet.append(device)
        return self._drop(quiet), heard

    def _drop(self, devices: list[Device]) -> list[Device]:
        """Drop devices. Where nobody is here any more, who was let in last is: nobody has to go for it."""
        for device in devices:
            self._leave(device)
            self._note_over(device.login.session, min(device.login.number, EARLIER - 1))
        if devices and not self.here and self.asked:
            self._begin(max(self.asked.values(), key=lambda waiting: waiting.order), ())
        return devices

    def _leave(self, device: Device) -> None:
        del self.here[device.login.session]
        device.caller = None

    def _note_over(self, session: str, number: int) -> None:
        over = {other: last for other, last in self.over.items() if other != session}
        over[session] = number
        if len(over) > MAX_OVER:
            del over[next(iter(over))]
        self.over = over

    # ---- the way to another node ----

    def logins(self) -> list[Login]:
        """The logins of the devices that are here, the one that began first first."""
        if len(self.here) == 1:
            return [device.login for device in self.here.values()]
        return [device.login for device in sorted(self.here.values(), key=lambda device: device.order)]

    def carry(self, now: float) -> CarriedDevices:
        """All of it, for `restored`."""
        here, asked = (tuple(_aged(device, now) for device in some.values()) for some in (self.here, self.asked))
        return CarriedDevices(here, asked, tuple(self.over.items()))

    def arrived(self, carried: CarriedDevices, sessions: Iterable[str], now: float) -> None:
        """Become what another node had. `sessions`: those that were here, of which a node of an earlier version tells
        nothing else."""
        for login in carried.here or [Login(session) for session in sessions]:
            self.here[login.session] = Device(login, now - login.age_ms / 1000)
        asked = {login.session: Device(login, now - login.age_ms / 1000) for login in carried.asked}
        self.asked, self.over = {**self.asked, **asked}, {**self.over, **dict(carried.over)}


def _run(device: Device) -> tuple[str, int]:
    return device.login.node, device.login.incarnation


def _aged(device: Device, now: float) -> Login:
    return replace(device.login, age_ms=max(0, round((now - device.since) * 1000)))
