"""Streams that the program watches: each event once, in order, whatever the connection does.

A stream keeps a cursor, the number of the next event to hand on to its buffer. Events below the cursor are
repetitions and dropped; events above it leave a gap, and the stream is asked for again from the cursor. A full
buffer gives the subscription up at the server until half of it is read, so that a slow reader costs a bounded
amount of memory and loses nothing. Pure.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from garrison._base import Event, Message, Reply
from garrison._frames import pack
from garrison._phases import STREAM, StreamPhase, move
from garrison._requests import Call, Requests
from garrison._retry import Chance, repeatable
from garrison._timers import Timers
from garrison.errors import ConnectionLost, DeadlineExceeded, GarrisonError, OutcomeUnknown, Overloaded
from garrison.messages import Events, Failed, Unwatch
from garrison.messages import Watch as WatchRequest

ASK_AGAIN_S: Final = 0.5
"""Most that is added to the server's hint before a refused `watch` is sent again."""


class Stream:
    """A subscription: its cursor, its buffer and its phase. Changed by `Streams` only."""

    __slots__ = ("buffer", "call", "error", "gaps", "limit", "next_seq", "phase", "repeated", "topic")

    def __init__(self, topic: str, from_seq: int, limit: int) -> None:
        self.topic = topic
        self.next_seq = from_seq
        """The next event to come from the server."""
        self.limit = limit
        self.phase: StreamPhase = "asking"
        self.repeated = 0
        """Events that came again and were dropped."""
        self.gaps = 0
        """Times that an event was missing and the stream was asked for again."""
        self.buffer: deque[tuple[int, Event]] = deque()
        self.error: GarrisonError | None = None
        """The reason of phase `failed`."""
        self.call: Call | None = None
        """The `watch` under way."""

    @property
    def wanted(self) -> bool:
        """Events are to come."""
        return self.phase in ("asking", "live")

    def take_in(self, push: Events) -> bool:
        """Buffer the new events of a push that leaves no gap. True if that filled the buffer."""
        skip = self.next_seq - push.first_seq
        self.repeated += min(skip, len(push.events))
        fresh = push.events[skip:]
        room = self.limit - len(self.buffer)
        for event in fresh[:room]:
            self.buffer.append((self.next_seq, event))
            self.next_seq += 1
        return len(fresh) >= room


class Streams:
    """All streams of a client, one a topic. `send` sends a message now, where a session is up, and says whether
    it did; `stir` hears of streams that have something to read."""

    def __init__(
        self,
        buffer_limit: int,
        requests: Requests,
        timers: Timers,
        chance: Chance,
        send: Callable[[Message], bool],
        take_id: Callable[[], int],
        stir: Callable[[Stream], None],
    ) -> None:
        self._buffer_limit = buffer_limit
        self._requests = requests
        self._timers = timers
        self._chance = chance
        self._send = send
        self._take_id = take_id
        self._stir = stir
        self._streams: dict[str, Stream] = {}
        self._leaving: dict[str, int] = {}
        """Topics that the server may still send, with the id of the unwatch under way, 0 if none is."""

    # ---- the program's side -------------------------------------------------------------------

    def watch(self, topic: str, from_seq: int, now: float) -> Stream:
        """Subscribe. Raises `BadInput` for what cannot be sent, `ValueError` for a topic that is watched."""
        pack(WatchRequest(topic, from_seq))
        if topic in self._streams:
            raise ValueError(f"{topic} is watched already")
        stream = self._streams[topic] = Stream(topic, from_seq, self._buffer_limit)
        self._ask(stream, now)
        return stream

    def read(self, stream: Stream, now: float) -> tuple[int, Event] | None:
        """The next event of `stream` and its number, taken out of the buffer; None if it is empty."""
        if not stream.buffer:
            return None
        item = stream.buffer.popleft()
        if stream.phase == "paused" and len(stream.buffer) <= stream.limit // 2:
            stream.phase = move(STREAM, stream.phase, "asking")
            self._ask(stream, now)
        return item

    def leave(self, stream: Stream) -> None:
        """End a subscription and drop the events that are buffered."""
        if stream.phase == "closed":
            return
        stream.phase = move(STREAM, stream.phase, "closed")
        stream.buffer.clear()
        del self._streams[stream.topic]
        self._give_up(stream)
        self._stir(stream)

    # ---- the server's side --------------------------------------------------------------------

    def on_welcome(self, recovered: bool, now: float) -> None:
        """A session is up. Recovered, it has its subscriptions, and those that were being left are left again;
        a new one has none."""
        leaving, self._leaving = self._leaving, {}
        for topic in leaving if recovered else ():
            self._unwatch(topic)
        for stream in self._streams.values():
            if not recovered and stream.phase == "live":
                stream.phase = move(STREAM, stream.phase, "asking")
                self._ask(stream, now)

    def on_events(self, push: Events, now: float) -> None:
        """Take a push of events in, or leave its topic if nobody wants it."""
        stream = self._streams.get(push.topic)
        if stream is None or not stream.wanted:
            if not self._leaving.get(push.topic):
                self._unwatch(push.topic)
        elif push.first_seq > stream.next_seq:
            if stream.phase == "live":  # else it is asked for already, and this is of the subscription before
                stream.gaps += 1
                stream.phase = move(STREAM, stream.phase, "asking")
                self._ask(stream, now)
        else:
            full = stream.take_in(push)
            if stream.buffer:
                self._stir(stream)
            if full:
                stream.phase = move(STREAM, stream.phase, "paused")
                self._give_up(stream)

    def on_left(self, reply: Reply) -> None:
        """Take a reply that may answer an unwatch. Refused, as a session that moves does, it is sent again when
        an event comes or after resuming."""
        for topic, number in self._leaving.items():
            if number == reply.id:
                self._leaving[topic] = 0
                if not isinstance(reply, Failed):
                    del self._leaving[topic]
                return

    def ask_again(self, stream: Stream, now: float) -> None:
        """The wait before another `watch` is over."""
        if stream.phase == "asking" and stream.call is None:
            self._ask(stream, now)

    def fail_all(self, error: GarrisonError) -> None:
        """No event will come any more; readers get `error` after the events that are buffered."""
        for stream in self._streams.values():
            if stream.phase != "failed":
                self._fail(stream, error)

    def _ask(self, stream: Stream, now: float) -> None:
        """Send `watch` from the cursor of a stream in phase `asking`."""
        self._leaving.pop(stream.topic, None)
        try:
            stream.call = self._requests.submit(
                WatchRequest(stream.topic, stream.next_seq),
                now,
                lambda call, reply, error, at: self._on_answer(stream, call, reply, error, at),
            )
        except Overloaded:
            self._timers.at(now + self._chance() * ASK_AGAIN_S, "ask", stream)

    def _on_answer(
        self, stream: Stream, call: Call, reply: Reply | None, error: GarrisonError | None, now: float
    ) -> None:
        """Note the answer to a `watch`. Done here and not by a task of the program: events may follow at once."""
        if stream.call is not call or stream.phase != "asking":  # given up since, and perhaps wanted again
            heir = self._streams.get(stream.topic)
            if (heir is None or not heir.wanted) and (error is None or isinstance(error, OutcomeUnknown)):
                self._unwatch(stream.topic)
            return
        stream.call = None
        if error is None:
            stream.phase = move(STREAM, stream.phase, "live")
        elif isinstance(error, ConnectionLost | DeadlineExceeded):
            self._ask(stream, now)
        elif repeatable(error):
            self._timers.at(now + (error.retry_after_s or 0) + self._chance() * ASK_AGAIN_S, "ask", stream)
        else:
            self._fail(stream, error)

    def _fail(self, stream: Stream, error: GarrisonError) -> None:
        stream.phase = move(STREAM, stream.phase, "failed")
        stream.error = error
        stream.call = None
        self._stir(stream)

    def _give_up(self, stream: Stream) -> None:
        """Take back a `watch` that is not sent yet, and unwatch."""
        call, stream.call = stream.call, None
        if call is not None and not call.number:
            self._requests.cancel(call.order)
        self._unwatch(stream.topic)

    def _unwatch(self, topic: str) -> None:
        """Nobody reads `topic`: unwatch it, now or after resuming, until the server has done so."""
        number = self._take_id()
        self._leaving[topic] = number if self._send(Unwatch(topic, id=number)) else 0
