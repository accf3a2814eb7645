"""The seam between a session and the wire: whole messages in, whole messages out.

A driver has checked what RFC 6455 asks (fragments, UTF-8, reserved bits, sizes, close codes)
before a `Receiver` sees anything. Drivers: `picows_driver` (sockets) and `memory` (a twin for
tests and simulation).

Order of a connection's life: `accept(connection)` gives its receiver; then messages; then
exactly one `on_closed`, also where this side closed. After `close` or `abort` no message is
delivered any more. Receivers never raise.
"""

from collections.abc import Callable
from typing import Final, Protocol

from server.runtime.metrics import Metrics
from server.wire.codec import Format

LINGER_S: Final = 1.0
"""How long a closed connection waits for the peer's own close before it is cut."""


class Connection(Protocol):
    """A client connection as the server sees it."""

    format: Format
    """The format of the subprotocol that was agreed."""

    @property
    def remote(self) -> str:
        """`host:port` of the peer, empty if unknown; for people only."""
        ...

    @property
    def country(self) -> str:
        """The client's country, as a trusted proxy has said it; empty if unknown."""
        ...

    @property
    def buffered_bytes(self) -> int:
        """Written and not yet taken by the operating system."""
        ...

    def traffic(self) -> tuple[int, int]:
        """Bytes of messages received and sent so far; (0, 0) where nobody counts them."""
        ...

    def set_receiver(self, receiver: "Receiver") -> None:
        """From now on `receiver` gets what happens here."""
        ...

    def welcomed(self) -> None:
        """The client has a session: it may send messages of `max_frame_bytes`; before, only small ones."""
        ...

    def send(self, data: bytes) -> None:
        """Write one message. Never blocks; nothing happens once closed."""
        ...

    def close(self, code: int, reason: str = "") -> None:
        """Say goodbye with a close code, then cut after the peer's answer or `LINGER_S`."""
        ...

    def abort(self) -> None:
        """Cut at once, unsent data lost."""
        ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Receiver(Protocol):
    """The receiver of all that a connection brings. The connection is passed along because a session may
    have moved on to a newer one."""

    def on_message(self, data: bytes) -> None:
        """Take a whole message (a text message as its UTF-8 bytes)."""
        ...

    def on_control(self, connection: Connection) -> None:
        """Count a ping, a pong or a fragment: work that the client caused."""
        ...

    def on_blocked(self, connection: Connection) -> None:
        """The peer does not read: the write buffer is over its high-water mark."""
        ...

    def on_writable(self, connection: Connection) -> None:
        """The write buffer has drained."""
        ...

    def on_closed(self, connection: Connection, code: int, reason: str) -> None:
        """The connection is gone. `code` is the first close code that was sent in either
        direction, 1006 if there was none."""
        ...


Accept = Callable[[Connection], Receiver]


class Acceptor(Protocol):
    """The receiver of a listener's connections (the gateway)."""

    metrics: Metrics

    def accept(self, connection: Connection) -> Receiver:
        """A connection is open and has agreed on a subprotocol: its first receiver."""
        ...


class ClientSockets(Protocol):
    """The connections of a node while it goes over to another process: at rest, on their way, and there.

    The process before: `rest`; then `movable` and `descriptor` of each; `go_on` if nothing comes of it. The next one:
    `carry` for each descriptor that has come, then `take_up`. Until then nothing is read or written there, and the
    process before may go on. No descriptor is ever shut down by either but on behalf of its session."""

    def rest(self) -> None:
        """Read from no connection, and take none in: whoever connects waits in the kernel's backlog."""
        ...

    def go_on(self) -> None:
        """Read again, and take in. Nothing is lost."""
        ...

    def movable(self, connection: Connection) -> str:
        """The reason why a connection cannot go over: "tls", "closing", "frame" (a part of one was read), "message" (a
        part of a fragmented one was), "unsent" (bytes wait for their peer). Empty: it can."""
        ...

    def descriptor(self, connection: Connection) -> int:
        """The descriptor to be sent."""
        ...

    def keep(self, descriptor: int) -> None:
        """Prepare for `carry` of a descriptor that has come, or for its `drop`."""
        ...

    def carry(self, descriptor: int, format: Format, remote: str, country: str) -> Connection:
        """The connection of a descriptor that has come. Its messages are those of `format`. Raises `OSError`."""
        ...

    def drop(self, descriptor: int) -> None:
        """Close a descriptor that has come, and that no session here has a use for."""
        ...

    def take_up(self, attached: Callable[[Connection, Connection], None]) -> None:
        """Read from the carried connections: first those that have sent something meanwhile, the others in slices.
        `attached(before, connection)`: one has taken another form."""
        ...


class Nobody:
    """The receiver of a connection that is being closed."""

    __slots__ = ()

    def on_message(self, data: bytes) -> None: ...

    def on_control(self, connection: Connection) -> None: ...

    def on_blocked(self, connection: Connection) -> None: ...

    def on_writable(self, connection: Connection) -> None: ...

    def on_closed(self, connection: Connection, code: int, reason: str) -> None: ...


NOBODY: Final = Nobody()
