"""The outbox: pushes of one session, numbered from 1, kept until the client acknowledges. Pure.

    acked < sent <= last          acked: the client has it; sent: written to this connection

`rewind` is the whole of resuming: either everything after the client's number is here and goes
out again in order, or it says so and nothing does. An outbox over its bound is *lost*: it
forgets its frames at once and can never again be resumed.
"""

from collections import deque
from collections.abc import Iterator, Sequence


class Outbox:
    """Bounded by frames and by bytes; `bytes` and `len` are what is unacknowledged."""

    __slots__ = ("_frames", "_max_bytes", "_max_messages", "acked", "bytes", "last", "lost", "sent")

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._frames: deque[bytes] | None = None  # an idle session never needs one
        self.acked = self.sent = self.last = 0
        self.bytes = 0
        self.lost = False

    @classmethod
    def restored(
        cls, max_messages: int, max_bytes: int, acked: int, frames: Sequence[bytes], sent: int | None = None
    ) -> "Outbox":
        """An outbox that was filled elsewhere with pushes `acked + 1` and so on, of which those up to `sent`
        were sent, or may have been; without it, all. `rewind` is the next thing that happens to it."""
        outbox = cls(max_messages, max_bytes)
        outbox._frames = deque(frames) if frames else None
        outbox.acked = acked
        outbox.last = acked + len(frames)
        outbox.sent = outbox.last if sent is None else max(acked, min(sent, outbox.last))
        outbox.bytes = sum(map(len, frames))
        return outbox

    @classmethod
    def going_on(
        cls, max_messages: int, max_bytes: int, acked: int, sent: int, frames: Sequence[bytes], lost: bool, last: int
    ) -> "Outbox":
        """The outbox of the process before, over whose connection this one goes on."""
        outbox = cls.restored(max_messages, max_bytes, acked, frames, sent)
        if lost:
            outbox.lost = True
            outbox.acked = outbox.sent = outbox.last = last
        return outbox

    def __len__(self) -> int:
        return self.last - self.acked

    @property
    def frames(self) -> list[bytes]:
        """Frames that are not acknowledged, oldest first."""
        return list(self._frames or ())

    @property
    def half_full(self) -> bool:
        """Streams, which can be read again, stop here until the client acknowledges."""
        return 2 * len(self) >= self._max_messages or 2 * self.bytes >= self._max_bytes

    @property
    def roomy(self) -> bool:
        """Less than a quarter is used: whoever stopped for want of room may go on, and is not stopped again at once."""
        return 4 * len(self) < self._max_messages and 4 * self.bytes < self._max_bytes

    def add(self, frame: bytes) -> bool:
        """Keep `frame`, rendered with number `last + 1`. False: over the bound, and lost."""
        if self.lost:
            return False
        if len(self) >= self._max_messages or self.bytes + len(frame) > self._max_bytes:
            self.lost = True
            self._frames = None
            self.acked = self.sent = self.last
            self.bytes = 0
            return False
        if self._frames is None:
            self._frames = deque()
        self._frames.append(frame)
        self.last += 1
        self.bytes += len(frame)
        return True

    def ack(self, seq: int) -> bool:
        """The client has everything up to `seq`. False if that was never sent to it."""
        if seq > self.sent:
            return False
        frames = self._frames
        while self.acked < seq and frames:
            self.bytes -= len(frames.popleft())
            self.acked += 1
        if not frames:
            self._frames = None
        return True

    def unsent(self) -> Iterator[bytes]:
        """Frames that were not yet written, in order; each counts as sent when it is given."""
        while self.sent < self.last and self._frames is not None:
            frame = self._frames[self.sent - self.acked]
            self.sent += 1
            yield frame

    def can_rewind(self, ack: int) -> bool:
        """Tell whether everything after push `ack`, which the client has, is here."""
        return not self.lost and self.acked <= ack <= self.sent

    def rewind(self, ack: int) -> bool:
        """Begin anew on a connection whose client has everything up to `ack`. True: all after it is
        unsent again. False: something of it is gone, or was never there; nothing changes."""
        if not self.can_rewind(ack):
            return False
        self.ack(ack)
        self.sent = ack
        return True
