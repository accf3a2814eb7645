"""The port of node-to-node links: drivers and twins implement it.

A service is a small number (see `Service`); its handler gets the caller's address and the
payload, and answers with bytes at once or with a future of bytes. A handler that raises a
`GarrisonError` (or whose future does) makes the same error rise at the caller.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Protocol

from server.ids import NodeAddress

Answer = bytes | asyncio.Future[bytes] | None
Handler = Callable[[NodeAddress, bytes], Answer]


class Service:
    """Numbers on the wire; never reused."""

    CALL = 1
    DIRECTORY = 2
    STREAM = 3
    QUERY = 4
    MIGRATE = 5
    SESSION = 6
    NODE = 7
    PRESENCE = 8
    COLUMNS = 9
    FORGET = 10


class Transport(Protocol):
    """Persistent, pipelined, coalescing links to other nodes.

    Delivery is at most once. Errors of `request`: `Unreachable` (not connected, nothing sent),
    `Overloaded` (too many in flight), `DeadlineExceeded`, `ConnectionLost` (sent, no answer
    seen), or the remote handler's own typed error."""

    @property
    def endpoint(self) -> str:
        """`host:port` where the others reach this node; valid after `start`."""
        ...

    @property
    def sockets(self) -> list[socket.socket]:
        """The sockets that it listens on; empty where it needs none, and before `start`."""
        ...

    def adopt(self, sockets: Sequence[socket.socket]) -> None:
        """Listen on these, which listen already, instead of binding; before `start`."""
        ...

    async def start(self, me: NodeAddress) -> None: ...

    def serve(self, service: int, handler: Handler) -> None:
        """Install the handler of a service; before `start`."""
        ...

    def set_peers(self, peers: dict[NodeAddress, str]) -> None:
        """The endpoints of the current view (without this node). Links to anyone else are
        closed; requests to an address that is not here raise `Unreachable` at once."""
        ...

    def reaches(self, to: NodeAddress) -> bool:
        """Whether there is a link to that peer that is not known to be broken."""
        ...

    def request(self, to: NodeAddress, service: int, payload: bytes, timeout_s: float) -> asyncio.Future[bytes]: ...

    def send(self, to: NodeAddress, service: int, payload: bytes) -> None:
        """Send without an answer; dropped silently if there is no link and none can be had."""
        ...

    def rest(self) -> None:
        """Take nothing new from other nodes: what they ask is not read any more, and waits in the sockets. Answers to
        this node's own requests are read all the same, so that `under_way` comes to an end."""
        ...

    def go_on(self) -> None:
        """End `rest`: what has waited is read, and nothing of it is lost."""
        ...

    @property
    def under_way(self) -> int:
        """Own requests without an answer, requests of others that wait for theirs here, and links whose last bytes
        the operating system has not taken yet."""
        ...

    def reload(self, changed_only: bool = False) -> bool:
        """Read the certificates again; True if new ones are in use. Raises `BadSetting`."""
        ...

    @property
    def complaint(self) -> str:
        """The complaint of other nodes about this node's certificate; empty while there is none."""
        ...

    async def stop(self) -> None: ...
