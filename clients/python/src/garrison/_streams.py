"""Streams that the program watches: each event once, in order, whatever the connection does.

A stream keeps a cursor, the number of the next event to hand on to its buffer. Events below the cursor are
repetitions and dropped; events above it leave a gap, and the stream is asked for again from the cursor. A full
buffer gives the subscription up at the server until half of it is read, so that a slow reader costs a bounded
amount of memory and loses nothing. Pure.
"""

from collections import deque
from typing import Any

from garrison._base import Event, Reply, Request
from garrison._subscriptions import Subscription, Subscriptions
from garrison.errors import from_wire
from garrison.messages import Events, WatchEnded
from garrison.messages import Watch as WatchRequest


class Stream(Subscription):
    """A stream: its cursor and its buffer. Changed by `Streams` only."""

    __slots__ = ("buffer", "gaps", "known", "limit", "next_seq", "repeated")

    def __init__(self, topic: str, from_seq: int, limit: int) -> None:
        super().__init__(topic)
        self.next_seq = from_seq
        """The next event to come from the server."""
        self.known = (0, "")
        """The number of the newest event that came with a mark, and that: the server compares them with its log."""
        self.limit = limit
        self.repeated = 0
        """Events that came again and were dropped."""
        self.gaps = 0
        """Times that an event was missing and the stream was asked for again."""
        self.buffer: deque[tuple[int, Event]] = deque()

    def request(self) -> Request[Any]:
        return WatchRequest(self.topic, self.next_seq, *self.known)

    def answered(self, reply: Reply) -> bool:
        return False

    def drop(self) -> None:
        self.buffer.clear()

    def take_in(self, push: Events) -> bool:
        """Buffer the new events of a push that leaves no gap. True if that filled the buffer."""
        skip = self.next_seq - push.first_seq
        self.repeated += min(skip, len(push.events))
        fresh = push.events[skip:]
        room = self.limit - len(self.buffer)
        for event in fresh[:room]:
            self.buffer.append((self.next_seq, event))
            self.next_seq += 1
        if push.mark and self.next_seq == push.first_seq + len(push.events):
            self.known = (self.next_seq - 1, push.mark)
        return len(fresh) >= room


class Streams:
    """The streams among a client's subscriptions."""

    def __init__(self, buffer_limit: int, subscriptions: Subscriptions) -> None:
        self._buffer_limit = buffer_limit
        self._subscriptions = subscriptions

    def watch(self, topic: str, from_seq: int, now: float) -> Stream:
        """Subscribe. Raises `BadInput` for what cannot be sent, `ValueError` for a topic that is watched."""
        stream = Stream(topic, from_seq, self._buffer_limit)
        self._subscriptions.add(stream, now)
        return stream

    def read(self, stream: Stream, now: float) -> tuple[int, Event] | None:
        """The next event of `stream` and its number, taken out of the buffer; None if it is empty."""
        if not stream.buffer:
            return None
        item = stream.buffer.popleft()
        if stream.phase == "paused" and len(stream.buffer) <= stream.limit // 2:
            self._subscriptions.ask_anew(stream, now)
        return item

    def on_push(self, push: Events | WatchEnded, now: float) -> None:
        """Take in events, or word that none follow: the program may not watch the topic any more."""
        if isinstance(push, Events):
            self._on_events(push, now)
        else:
            error = from_wire(push.code, f"{push.topic} is not for this client to watch any more", None)
            self._subscriptions.ended(push.topic, error)

    def _on_events(self, push: Events, now: float) -> None:
        """Take a push of events in, or leave its topic if nobody wants it."""
        stream = self._subscriptions.wanted(push.topic)
        if not isinstance(stream, Stream):
            return
        if push.first_seq > stream.next_seq:
            if stream.phase == "live":  # else it is asked for already, and this is of the subscription before
                stream.gaps += 1
                self._subscriptions.ask_anew(stream, now)
            return
        full = stream.take_in(push)
        if stream.buffer:
            self._subscriptions.stir(stream)
        if full:
            self._subscriptions.pause(stream)
