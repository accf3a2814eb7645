"""The transport's in-memory twin: nodes of one process talk through a `MemoryNetwork`.

Deadlines, bounds, typed errors and the order of messages are those of the TCP driver; time
passes only through the running loop's `call_later`, so that it works on virtual time. Between
two nodes messages arrive in the order of sending, however their delays differ, as on a stream.

A test shapes the network: `delay` gives seconds, or None for a message that is swallowed as by
a cut cable; `reset` breaks the links between two nodes as a closed socket does; `crash` takes
a node away without a goodbye.
"""

import asyncio
import contextvars
import socket
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import structlog

from server.errors import (
    BadInput,
    ConnectionLost,
    DeadlineExceeded,
    GarrisonError,
    Internal,
    OutcomeUnknown,
    Overloaded,
    Unavailable,
    UnknownType,
    Unreachable,
)
from server.ids import NodeAddress
from server.runtime.metrics import Metrics
from server.settings import TransportSettings
from server.transport.frames import decode_error, encode_error
from server.transport.ports import Handler

log = structlog.get_logger(__name__)

Delay = Callable[[NodeAddress, NodeAddress], float | None]
DEFAULT_DELAY_S: Final = 0.0005
Result = bytes | GarrisonError


def steady(_frm: NodeAddress, _to: NodeAddress) -> float | None:
    """The delay between any two nodes of an undisturbed network, in seconds."""
    return DEFAULT_DELAY_S


class _Channel:
    """Messages under way from one node to another, in order."""

    __slots__ = ("buffered", "last_due", "queue")

    def __init__(self) -> None:
        self.queue: deque[tuple[Callable[[], None], int]] = deque()
        self.last_due = 0.0
        self.buffered = 0  # bytes


class MemoryNetwork:
    """Connects the `MemoryTransport`s of one process. `delay` may be replaced at any time."""

    def __init__(self, delay: Delay = steady) -> None:
        self.delay = delay
        self._whole: Delay | None = None  # the delay before a split
        self.sent = 0
        self.dropped = 0
        self._nodes: dict[str, MemoryTransport] = {}
        self._channels: dict[tuple[NodeAddress, NodeAddress], _Channel] = {}

    def split(self, *sides: set[NodeAddress]) -> None:
        """Swallow whatever goes from one side to another until `heal`. Sides are sets of
        addresses; who is in none of them reaches everybody."""
        whole = self._whole = self._whole or self.delay

        def delay(frm: NodeAddress, to: NodeAddress) -> float | None:
            apart = any(frm in side and any(to in other for other in sides if other is not side) for side in sides)
            return None if apart else whole(frm, to)

        self.delay = delay

    def heal(self) -> None:
        """Undo `split`."""
        if self._whole is not None:
            self.delay, self._whole = self._whole, None

    def reset(self, left: NodeAddress, right: NodeAddress) -> None:
        """Break the links between two nodes, both ways: what is under way is lost, and each
        side knows."""
        for frm, to in ((left, right), (right, left)):
            self._channels.pop((frm, to), None)
        for frm, to in ((left, right), (right, left)):
            for transport in list(self._nodes.values()):
                if transport.me == frm:
                    transport.lose(to, "reset")

    def crash(self, address: NodeAddress, *, silently: bool = False) -> None:
        """Take the node away at once. Its peers learn of it by broken links, as when a process
        dies, or `silently` not at all, as when a machine does."""
        for transport in list(self._nodes.values()):
            if transport.me == address:
                self.leave(transport, silently=silently)

    # for MemoryTransport

    def attach(self, transport: "MemoryTransport") -> None:
        if transport.endpoint in self._nodes:
            raise Unavailable(f"cannot listen for other nodes on {transport.endpoint}: already in use")
        self._nodes[transport.endpoint] = transport

    def leave(self, transport: "MemoryTransport", *, silently: bool = False) -> None:
        if self._nodes.get(transport.endpoint) is transport:
            del self._nodes[transport.endpoint]
        transport.vanish()
        if not silently:
            for other in list(self._nodes.values()):
                self.reset(other.me, transport.me)

    def find(self, endpoint: str) -> "MemoryTransport | None":
        return self._nodes.get(endpoint)

    def buffered(self, frm: NodeAddress, to: NodeAddress) -> int:
        """Bytes under way."""
        channel = self._channels.get((frm, to))
        return channel.buffered if channel is not None else 0

    def carry(self, frm: NodeAddress, to: "MemoryTransport", size: int, deliver: Callable[[], None]) -> None:
        """Call `deliver` after the delay, in the receiver's context, or never."""
        self.sent += 1
        delay = self.delay(frm, to.me)
        if delay is None:
            self.dropped += 1
            return
        pair = (frm, to.me)
        channel = self._channels.get(pair)
        if channel is None:
            channel = self._channels[pair] = _Channel()
        loop = asyncio.get_running_loop()
        channel.last_due = due = max(loop.time() + delay, channel.last_due)
        channel.queue.append((deliver, size))
        channel.buffered += size
        loop.call_at(due, self._arrive, pair, channel, context=to.context)

    def _arrive(self, pair: tuple[NodeAddress, NodeAddress], channel: _Channel) -> None:
        if self._channels.get(pair) is not channel:
            return  # the link was reset
        deliver, size = channel.queue.popleft()  # each message has a timer: the head is due
        channel.buffered -= size
        deliver()


class MemoryTransport:
    """The side of one node in a `MemoryNetwork`; see `ports.Transport`."""

    def __init__(self, network: MemoryNetwork, settings: TransportSettings, metrics: Metrics) -> None:
        self._network, self._settings, self._metrics = network, settings, metrics
        self._handlers: dict[int, Handler] = {}
        self._me: NodeAddress | None = None
        self._peers: dict[NodeAddress, str] = {}
        self._number = 0
        self._pending: dict[int, tuple[NodeAddress, asyncio.Future[bytes], asyncio.TimerHandle]] = {}
        self._in_flight: dict[NodeAddress, int] = {}
        self._working = 0
        self._up = False
        self._waiting: list[Callable[[], None]] | None = None
        """Requests of others since `rest`; None while it is taken at once."""
        self.sockets: list[socket.socket] = []
        self.context = contextvars.copy_context()  # context that the node's callbacks run in

    @property
    def me(self) -> NodeAddress:
        assert self._me is not None
        return self._me

    @property
    def endpoint(self) -> str:
        return f"{self._me.node}.memory:{self._me.incarnation}" if self._me is not None else ""

    def adopt(self, sockets: Sequence[socket.socket]) -> None:
        """Nothing to listen on: whoever has the address of the node is reached."""

    async def start(self, me: NodeAddress) -> None:
        self._me = me
        self.context = contextvars.copy_context()
        self._network.attach(self)
        self._up = True

    def serve(self, service: int, handler: Handler) -> None:
        if not 0 < service < 256:
            raise ValueError("a service is a number from 1 to 255")
        self._handlers[service] = handler

    def rest(self) -> None:
        self._waiting = self._waiting if self._waiting is not None else []

    def go_on(self) -> None:
        waiting, self._waiting = self._waiting or [], None
        for take in waiting:
            take()

    @property
    def under_way(self) -> int:
        return len(self._pending) + self._working

    complaint = ""

    def reload(self, changed_only: bool = False) -> bool:
        return False

    def set_peers(self, peers: dict[NodeAddress, str]) -> None:
        before, self._peers = self._peers, {to: where for to, where in peers.items() if to != self._me}
        for to, endpoint in before.items():
            if self._peers.get(to) != endpoint:
                self.lose(to, "left the view")

    def reaches(self, to: NodeAddress) -> bool:
        return self._target(to) is not None

    def request(self, to: NodeAddress, service: int, payload: bytes, timeout_s: float) -> "asyncio.Future[bytes]":
        target = self._target(to)
        if target is None:
            raise Unreachable(f"no link to {to}" if to in self._peers else f"{to} is not in the view")
        busy = self._in_flight.get(to, 0) >= self._settings.max_in_flight
        if busy or self._network.buffered(self.me, to) + len(payload) > self._settings.max_buffered_bytes:
            self._metrics.transport_refused_total += 1
            raise Overloaded(f"too much under way to {to}")
        if len(payload) > self._settings.max_frame_bytes:
            raise BadInput(f"{len(payload)} bytes are over transport.max_frame_bytes")
        self._number = number = self._number + 1
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes] = loop.create_future()
        self._pending[number] = (to, future, loop.call_later(timeout_s, self._expire, number))
        self._in_flight[to] = self._in_flight.get(to, 0) + 1
        self._network.carry(self.me, target, len(payload), partial(target.arrived, self, number, service, payload))
        return future

    def send(self, to: NodeAddress, service: int, payload: bytes) -> None:
        target = self._target(to)
        room = self._settings.max_buffered_bytes - len(payload)
        if target is None or len(payload) > self._settings.max_frame_bytes:
            return
        if self._network.buffered(self.me, to) > room:
            self._metrics.transport_refused_total += 1
            return
        self._network.carry(self.me, target, len(payload), partial(target.arrived, self, 0, service, payload))

    async def stop(self) -> None:
        if self._up:
            self._network.leave(self)

    def lose(self, to: NodeAddress, why: str) -> None:
        """The link to `to` broke: what is under way on it fails with `ConnectionLost`."""
        for number in [number for number, (peer, _, _) in self._pending.items() if peer == to]:
            self._resolve(number, ConnectionLost(f"link to {to}: {why}"))

    def vanish(self) -> None:
        """End at once. What was under way from here fails."""
        self._up, self._waiting = False, None
        for number in list(self._pending):
            self._resolve(number, ConnectionLost("the transport stopped"))

    def _target(self, to: NodeAddress) -> "MemoryTransport | None":
        endpoint = self._peers.get(to) if self._up else None
        target = self._network.find(endpoint) if endpoint is not None else None
        return target if target is not None and target.me == to else None

    def _expire(self, number: int) -> None:
        self._metrics.transport_deadlines_total += 1
        self._resolve(number, DeadlineExceeded(f"no answer from {self._pending[number][0]} in time"))

    def _resolve(self, number: int, result: Result) -> None:
        entry = self._pending.pop(number, None)
        if entry is None:
            return
        to, future, timer = entry
        timer.cancel()
        self._in_flight[to] -= 1
        if not self._in_flight[to]:
            del self._in_flight[to]
        if future.done():
            return
        if isinstance(result, GarrisonError):
            future.set_exception(result)
        else:
            future.set_result(result)

    # the answering side

    def arrived(self, frm: "MemoryTransport", number: int, service: int, payload: bytes) -> None:
        """A message from `frm` is here; number 0 is one way."""
        if not self._up:
            return
        if self._waiting is not None:
            self._waiting.append(partial(self.arrived, frm, number, service, payload))
            return
        self._metrics.transport_frames_in_total += 1
        handler = self._handlers.get(service)
        try:
            if handler is None:
                raise UnknownType(f"no service {service}")
            if self._working >= self._settings.max_in_flight:
                raise Overloaded(f"too many calls under way from {frm.me}")
            answer = handler(frm.me, payload)
        except Exception as error:
            self._answer(frm, number, self._typed(service, error))
            return
        if isinstance(answer, asyncio.Future):
            self._working += 1
            answer.add_done_callback(partial(self._worked, frm, number, service))
        else:
            self._answer(frm, number, answer or b"")

    def _worked(self, frm: "MemoryTransport", number: int, service: int, done: "asyncio.Future[bytes]") -> None:
        self._working -= 1
        if done.cancelled():
            self._answer(frm, number, OutcomeUnknown("the call was cancelled"))
        elif (error := done.exception()) is not None:
            self._answer(frm, number, self._typed(service, error))
        else:
            self._answer(frm, number, done.result())

    def _typed(self, service: int, error: BaseException) -> GarrisonError:
        if isinstance(error, GarrisonError):
            return error
        self._metrics.transport_handler_crashes_total += 1
        log.error("transport handler failed", service=service, exc_info=error)
        return Internal("the handler failed")

    def _answer(self, frm: "MemoryTransport", number: int, result: Result) -> None:
        if number == 0 or not self._up:
            return
        if isinstance(result, bytes) and len(result) > self._settings.max_frame_bytes:
            result = Internal("the answer is over transport.max_frame_bytes")
        if isinstance(result, GarrisonError):
            result = decode_error(encode_error(result))  # as it would come over a wire
        size = len(result) if isinstance(result, bytes) else 0
        self._network.carry(self.me, frm, size, partial(frm.answered, number, result))

    def answered(self, number: int, result: Result) -> None:
        """An answer from a peer is here."""
        if self._up:
            self._resolve(number, result)
