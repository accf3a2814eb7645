"""Sessions and their clients' sockets as they are copied ahead of a succession: as `copying.py` does with activations.

A session goes over with its connection if the heir has the socket, and the connection may move when this node is
frozen; otherwise without: its client comes again and resumes.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from server.errors import BadInput
from server.sessions.connection import Connection
from server.sessions.gateway import Gateway
from server.sessions.session import Session
from server.sessions.session_barrier import SessionBarrier
from server.sessions.session_copies import GOING_OVER

CookieOf = Callable[[int], int]
"""The kernel's name of a descriptor's socket, the same in each process that has it."""


class MovingSocket(NamedTuple):
    """The socket of a session's connection."""

    token: str
    connection: Connection
    descriptor: int
    cookie: int


class CopiedSessions:
    """The predecessor's side: what the heir has, and what of it is to be copied, again or for the first time."""

    def __init__(self, gateway: Gateway, cookie_of: CookieOf) -> None:
        self._gateway, self._cookie_of = gateway, cookie_of
        self._touched = SessionBarrier()
        self._waiting: dict[Session, None] = {}
        self._copied: dict[str, Session] = {}
        self._gone: dict[str, None] = {}
        self._newest: list[str] = []
        """The tokens of the newest slice."""
        self._sent: dict[str, Connection] = {}
        """The connection whose socket the heir has, for each session."""

    def __len__(self) -> int:
        """How many sessions the heir has."""
        return len(self._copied)

    @property
    def waiting(self) -> int:
        """How many sessions the next slices are of."""
        return len(self._waiting)

    def begin(self) -> None:
        """Copy all that there are."""
        self._waiting.update(dict.fromkeys(self._gateway.succession.copies.all()))

    def end(self) -> None:
        """Copy no more."""
        self._touched.end()

    def touched_again(self) -> None:
        """Let the next slices be of those that have changed since they were copied, and of those that are new."""
        copies = self._gateway.succession.copies
        here = {session.resume: session for session in copies.all()}
        for token, session in list(self._copied.items()):
            if here.get(token) is not session:
                del self._copied[token]
                self._gone[token] = None
        touched: list[Session] = self._touched.take()
        changed = [session for session in touched if here.get(session.resume) is session]
        new = [session for token, session in here.items() if token not in self._copied]
        self._waiting.update(dict.fromkeys((*changed, *copies.unnoted(), *new)))

    def slice(self, most: int) -> tuple[list[bytes], list[str]]:
        """The copies of `most` sessions that wait, and the tokens of those that are gone."""
        found: list[bytes] = []
        self._newest = []
        copies, here = self._gateway.succession.copies, self._gateway.table.sessions
        while self._waiting and len(found) < most:
            session, _ = self._waiting.popitem()
            if here.get(session.resume) is not session or session.phase not in GOING_OVER or session.moving:
                continue  # ended since, or on its way to another node: a later look counts it in or out
            found.append(copies.pack(session))
            self._newest.append(session.resume)
            self._copied[session.resume] = session
            self._gone.pop(session.resume, None)
            self._touched.watch(session)
        return found, self.take_gone()

    def take_gone(self) -> list[str]:
        """The tokens of sessions that the heir has and that are no more; told once."""
        gone, self._gone = list(self._gone), {}
        return gone

    def unreadable(self, places: Iterable[int]) -> None:
        """Note the sessions of the newest slice, by their places in it, that the heir cannot take: their clients begin
        anew."""
        for place in places:
            self._copied.pop(self._newest[place], None)

    # ---- sockets ----

    def new_sockets(self) -> list[MovingSocket]:
        """The sockets that the heir has not yet."""
        over = self._gateway.succession
        found = []
        for session in over.copies.all():
            connection = session.connection
            if connection is None or self._sent.get(session.resume) is connection:
                continue
            descriptor = over.descriptor(session)
            if descriptor >= 0:
                found.append(MovingSocket(session.resume, connection, descriptor, self._cookie_of(descriptor)))
        return found

    def sent(self, sockets: Iterable[MovingSocket]) -> None:
        """Note that the heir has these."""
        self._sent.update((it.token, it.connection) for it in sockets)

    def attached(self) -> list[str]:
        """The tokens of sessions whose connections go over. While this node is frozen: what cannot go was closed."""
        sent = self._sent
        pairs = ((session.resume, session.connection) for session in self._gateway.succession.copies.all())
        return [token for token, connection in pairs if connection is not None and sent.get(token) is connection]


class ArrivedSessions:
    """The heir's side. Nothing is read from a socket before `attach`."""

    def __init__(self, gateway: Gateway, cookie_of: CookieOf) -> None:
        self._gateway, self._cookie_of = gateway, cookie_of
        self._sockets: dict[str, int] = {}
        self._attached: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self._gateway.table.sessions)

    def take(self, copies: Iterable[bytes], gone: Iterable[str]) -> list[int]:
        """Let these sessions be here, without connections. Returns the places of those that cannot be: they take no
        other along."""
        over = self._gateway.succession
        for token in gone:
            over.copies.forget(token)
        return [place for place, data in enumerate(copies) if not over.unpack(data)]

    def take_sockets(self, named: Sequence[tuple[str, int]], descriptors: Sequence[int]) -> None:
        """Keep the sockets of these sessions' connections. Raises `BadInput`."""
        if len(named) != len(descriptors):
            raise BadInput(f"{len(named)} sockets were named, {len(descriptors)} came")
        for (token, cookie), descriptor in zip(named, descriptors, strict=True):
            self._drop(self._sockets.pop(token, -1))
            self._sockets[token] = descriptor
            self._gateway.succession.sockets.keep(descriptor)
            if self._cookie_of(descriptor) != cookie:
                raise BadInput(f"the socket of session {token[:8]} is another one")

    def will_attach(self, tokens: Sequence[str]) -> None:
        """Note whose connections go over. Raises `BadInput`."""
        if missing := [token for token in tokens if token not in self._sockets]:
            raise BadInput(f"{len(missing)} connections have no socket here")
        self._attached = tokens

    def attach(self) -> int:
        """Give the sessions their connections, and let them go on; returns how many came with one."""
        over = self._gateway.succession
        carried = sum(over.carry(token, self._sockets.pop(token)) for token in self._attached)
        self.close()  # connections that have ended since, or could not go over
        over.take_up()
        return carried

    def close(self) -> None:
        """Close the sockets that are no connection's here. The other process has them too: nobody is cut off."""
        for descriptor in self._sockets.values():
            self._drop(descriptor)
        self._sockets.clear()

    def _drop(self, descriptor: int) -> None:
        if descriptor >= 0:
            self._gateway.succession.sockets.drop(descriptor)
