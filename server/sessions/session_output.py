"""The output of a session: answers, numbered pushes, and acknowledgements that are owed to heartbeats.

    answer    written if a connection is there, else dropped: its client asks again
    push      numbered, kept in the outbox until it is acknowledged, written while the client reads
    offer     written now or not at all: a frame of latest topics or of presence
    beats     heartbeats without a number are acknowledged together, with the next frame or a moment later

A client that does not read is written nothing more (`_blocked_at`), and a session that is on its way to another node
(`moving`) changes nothing here. What is wrong with the client ends the connection or the session: those are the
session's to end.
"""

from typing import Any

from server.sessions.broadcast import Broadcast
from server.sessions.connection import Connection
from server.sessions.end_reasons import ENDED_OVERFLOW
from server.sessions.outbox import Outbox
from server.sessions.session_kit import Kit
from server.sessions.transfer import Transfer
from server.wire.codec import Codec, Format
from server.wire.messages import Beats, CloseCode, Push


class _EachBeat:
    """The slots that every heartbeat touches. Those of a base class lie together, before all others:
    of a session that is not in the processor's cache, fewer lines have to be waited for."""

    __slots__ = (
        "_binary", "_decode", "_refused", "_ticks", "activation", "beat_due", "bucket", "caller", "connection",
        "heard_at", "metrics", "outbox",
    )  # fmt: skip


class SessionOutput(_EachBeat):
    """See the module's head. `Session` is one, and its only kind."""

    __slots__ = ("_blocked_at", "_kit", "_pay_at", "beats", "codec", "format", "starved", "transfer")

    outbox: Outbox
    connection: Connection | None

    def __init__(self, kit: "Kit[Any]", format: Format) -> None:
        settings = kit.settings
        self._kit, self._ticks, self.metrics = kit, kit.ticks, kit.metrics
        self.format: Format = format
        self.codec: Codec = kit.codecs[format]
        self.connection = None
        self.outbox = Outbox(settings.outbox_max_messages, settings.outbox_max_bytes)
        self.beats = 0
        """Heartbeats that it has had, of those without a number."""
        self.beat_due = False
        """True while some of them are to be acknowledged."""
        self._pay_at: float | None = None
        """Latest moment to send owed acknowledgements; None while no check of the wheel waits."""
        self._blocked_at: float | None = None
        """When its client ceased to read; None while it reads."""
        self.starved = False  # a stream waits for room in the outbox
        self.transfer: Transfer | None = None
        """Set while the session should go to another node, is on its way, or is there."""

    # ---- what is the session's ----

    def close(self, code: int, reason: str) -> None:
        """Close the connection; the session is kept for resuming."""
        raise NotImplementedError

    def end(self, why: str, code: int = 0, reason: str = "") -> None:
        """End for good, closing the connection with `code` if there is one."""
        raise NotImplementedError

    # ---- frames ----

    def send(self, data: bytes) -> None:
        """Write an answer, and with it what is owed to unanswered heartbeats."""
        connection = self.connection
        if connection is None:
            return
        self.metrics.frames_out_total += 1
        connection.send(data)
        if self.beat_due:
            self._pay_beats()

    @property
    def moving(self) -> bool:
        """True when it is packed and on its way to another node, or there: nothing of it changes here."""
        return self.transfer is not None and self.transfer.frozen

    @property
    def takes_latest(self) -> bool:
        """True while a frame that is not kept can be written: its client is there and reads, and it stays here."""
        return self.connection is not None and self._blocked_at is None and not self.moving

    def offer(self, data: bytes) -> bool:
        """Write a frame that is not kept, and for very many sessions the same; whoever does counts them. False: it
        cannot be written now."""
        connection, transfer = self.connection, self.transfer
        if connection is None or self._blocked_at is not None or (transfer is not None and transfer.frozen):
            return False
        connection.send(data)
        return True

    def deliver(self, message: Push) -> None:
        """Push to the player: to the client, or after the session if that is moving."""
        transfer = self.transfer
        if transfer is None or not transfer.frozen:
            self.push(Broadcast(message))
        elif not transfer.keep(message, self._kit.settings.outbox_max_messages):
            self._overflow()

    def push(self, broadcast: Broadcast) -> None:
        """Number a push, keep it until it is acknowledged, and write it if the client reads."""
        outbox = self.outbox
        frame = broadcast.render(self.format, outbox.last + 1)
        self.metrics.pushes_total += 1
        if not outbox.add(frame):
            self._overflow()
        elif self.connection is not None and self._blocked_at is None and outbox.sent == outbox.last - 1:
            outbox.sent = outbox.last
            self.send(frame)

    def _overflow(self) -> None:
        self.end(ENDED_OVERFLOW, CloseCode.SLOW_READER, "too much is unacknowledged")

    def send_last(self, frame: bytes) -> bool:
        """Send the push that was packed last, when the session has arrived elsewhere. False: there is
        no room for it here."""
        self.metrics.pushes_total += 1
        if not self.outbox.add(frame):
            return False
        if self._blocked_at is None:
            self.flush()
        return True

    def flush(self) -> None:
        """Write what is not written yet, while the client reads."""
        for frame in self.outbox.unsent():
            self.send(frame)
            if self.connection is None or self._blocked_at is not None:
                return

    def acknowledge(self, seq: int) -> bool:
        """Take in that the client has all pushes up to `seq`. False: it claims one that it never got, and
        is closed."""
        if not self.outbox.ack(seq):
            self.close(CloseCode.PROTOCOL_ERROR, "acknowledged a push that was never sent")
            return False
        if self.starved and not self.outbox.half_full:
            self.starved = False
            self._kit.streams.refill(self)
        return True

    # ---- owed acknowledgements ----

    def owe_beat(self) -> None:
        """Count a heartbeat without a number, which is acknowledged with the next frame, or a moment later."""
        if self.transfer is not None and self.transfer.frozen:
            return  # its count has left already
        self.beats += 1
        if not self.beat_due:
            self.beat_due = True
            ticks = self._ticks
            checked = self._pay_at is not None
            self._pay_at = due = ticks.now() + self._kit.ack_interval_s
            if not checked:
                ticks.wheel.add(due, self._beats_due)

    def _beats_due(self, now: float) -> float | None:
        if self.beat_due and self._pay_at is not None and now < self._pay_at:
            return self._pay_at  # the debt went with another frame: this one is newer
        self._pay_at = None
        if self.beat_due:
            self._pay_beats()
        return None

    def _pay_beats(self) -> None:
        self.beat_due = False
        if self.connection is not None:
            self.metrics.frames_out_total += 1
            self.connection.send(self.codec.encode(Beats(self.beats)))
