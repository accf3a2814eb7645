"""The bounds of a client: of each queue, window and wait."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of a client, whose defaults suit a game. Times are in seconds."""

    device: str = ""
    """The kind of this device, such as `console`: at most 32 letters, digits, `.`, `-`, `_`. It counts where the token
    does not say it and the studio takes the client's word."""
    connect_timeout_s: float = 15.0
    """Limit for the first welcome, over all urls and retries."""
    open_timeout_s: float = 3.0
    """Limit for one attempt: TCP, TLS, upgrade, hello and its answer."""
    request_timeout_s: float = 10.0
    command_timeout_s: float = 60.0
    """Time for which a command is retried over errors and reconnects."""
    backoff_base_s: float = 0.05
    backoff_cap_s: float = 2.0
    max_redirects: int = 5
    """Redirects followed in one attempt."""
    max_in_flight: int = 32
    """Requests sent and not yet answered; the server allows 64."""
    max_queued: int = 1_000
    """Requests waiting or in flight; one more raises `Overloaded`."""
    watch_buffer: int = 2_048
    """Events of one watch that wait for their reader. When full, the watch is given up at the
    server and taken up again from the same event once half is read: nothing is lost."""
    push_buffer: int = 256
    """Other pushes that wait for their reader. When full, the oldest is dropped and counted."""
    ack_every: int = 64
    """Pushes after which an acknowledgement is sent without waiting for the heartbeat."""
    ack_bytes: int = 128 * 1024
    """The same, in received bytes."""
    silence_intervals: float = 3.0
    """Heartbeat intervals without any frame after which the connection counts as dead."""
    max_frame_bytes: int = 16 * 1024 * 1024
    """The largest frame accepted from the server."""
    stable_s: float = 1.0
    """A connection that lived this long resets the backoff."""
