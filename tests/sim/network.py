"""The simulated network: the in-memory twins of the node-to-node transport and of the client
connections, with a process of their own for the wires (what is under way goes on when its sender
dies, and waits for a receiver that is paused) and a seeded policy of delay and loss."""

import random
from collections import Counter
from collections.abc import Callable, Sequence

from server.cluster.simulated import DETECT_S, SimulatedGossip
from server.cluster.simulated import Delay as GossipDelay
from server.errors import Unavailable
from server.ids import NodeAddress, NodeId
from server.sessions.connection import Accept, Connection, Receiver
from server.sessions.memory import SENT, ClientEnd, ConnectionClosed, Delay, MemoryConnection, MemoryListener
from server.transport.memory import MemoryNetwork, MemoryTransport
from server.wire.codec import Format
from tests.sim.loop import DOMAIN, Domain, SimLoop


class Weather:
    """How long a message takes, drawn anew for each, in seconds; now and then `slow_s`. Loss
    between two nodes swallows all that is sent while it lasts, as a cut cable does."""

    def __init__(
        self,
        rng: random.Random,
        *,
        delay_s: tuple[float, float] = (0.0002, 0.003),
        slow: float = 0.01,
        slow_s: tuple[float, float] = (0.01, 0.2),
    ) -> None:
        self._rng, self.delay_s, self.slow, self.slow_s = rng, delay_s, slow, slow_s
        self._cut: Counter[tuple[str, str]] = Counter()
        self._tardy: dict[tuple[str, str], float] = {}

    def __call__(self, frm: NodeAddress, to: NodeAddress) -> float | None:
        way = (frm.node, to.node)
        if way in self._cut:
            return None
        more_s = self._tardy.get(way, 0.0)
        if self._rng.random() < self.slow:
            return more_s + self._rng.uniform(*self.slow_s)
        return more_s + self._rng.uniform(*self.delay_s)

    def cut(self, frm: str, to: str) -> None:
        """Swallow what goes from one node to another, one way. Cuts of one way add up."""
        self._cut[frm, to] += 1

    def mend(self, frm: str | None = None, to: str | None = None) -> None:
        """Undo one cut of the way; without names, all."""
        if frm is None or to is None:
            self._cut.clear()
        elif self._cut[frm, to] > 1:
            self._cut[frm, to] -= 1
        else:
            del self._cut[frm, to]

    def slow_down(self, frm: str, to: str, more_s: float) -> None:
        """Each message on the way takes `more_s` longer; 0 ends that."""
        if more_s:
            self._tardy[frm, to] = more_s
        else:
            self._tardy.pop((frm, to), None)


class SimGossip(SimulatedGossip):
    """Gossip whose single ways between nodes can be cut, and whose nodes can fall silent: a node
    that is `muted` neither tells nor hears anything, as a process that is stopped."""

    def __init__(self, delay: GossipDelay, detect_s: float = DETECT_S) -> None:
        super().__init__(delay, detect_s)
        self._ways: Counter[tuple[str, str]] = Counter()
        self._muted: dict[int, str] = {}
        self._mutes = 0

    def cut(self, frm: str, to: str) -> None:
        self._ways[frm, to] += 1
        self._silence_at(frm, to)

    def mend(self, frm: str, to: str) -> None:
        if self._ways[frm, to] > 1:
            self._ways[frm, to] -= 1
            return
        del self._ways[frm, to]
        if (observer := self._nodes.get(NodeId(to))) is not None and frm in self._truth:
            self._tell(NodeId(frm), observer)

    def mute(self, node: str) -> int:
        """Until `unmute` of what this returns; of several, the last one counts."""
        self._mutes += 1
        self._muted[self._mutes] = node
        for other in self.running():
            if other != node:
                self._silence_at(node, other)
                self._silence_at(other, node)
        return self._mutes

    def unmute(self, number: int) -> None:
        """Let a node be heard again: it refutes what was said of it."""
        node = self._muted.pop(number, None)
        if node is None or node in self._muted.values() or (me := self._nodes.get(NodeId(node))) is None:
            return
        self._renew(NodeId(node))
        for other in self.running():
            if other != node:
                self._tell(NodeId(node), self._nodes[NodeId(other)])
                self._tell(NodeId(other), me)

    def forget_mutes(self, node: str) -> None:
        """Its process is gone; the next one of its name is heard."""
        self._muted = {number: muted for number, muted in self._muted.items() if muted != node}

    def running(self) -> list[str]:
        return list(self._nodes)

    def _silence_at(self, frm: str, to: str) -> None:
        if (observer := self._nodes.get(NodeId(to))) is not None and NodeId(frm) in observer.known():
            self._silence(observer, NodeId(frm))

    def _reach(self, frm: NodeId, to: NodeId) -> bool:
        if (frm, to) in self._ways or (self._muted and (frm in self._muted.values() or to in self._muted.values())):
            return False
        return super()._reach(frm, to)


class SimNetwork(MemoryNetwork):
    """The twin's network, traced. It delivers in the receiver's own context; the wires of client
    connections are in the process `domain`."""

    def __init__(self, loop: SimLoop, weather: Weather) -> None:
        super().__init__(weather)
        self.loop, self.weather = loop, weather
        self.domain = Domain("network")

    def attach(self, transport: MemoryTransport) -> None:
        """Let a transport listen. Where its predecessor is still there, that one is not reached any more."""
        before = self.find(transport.endpoint)
        if before is not None and before.me == transport.me:
            self.leave(before)
        super().attach(transport)

    def vanish(self, transport: MemoryTransport) -> None:
        """The process of a transport is gone; another one of its run may be there."""
        if self.find(transport.endpoint) is transport:
            self.leave(transport)
        else:
            transport.vanish()

    def carry(self, frm: NodeAddress, to: MemoryTransport, size: int, deliver: Callable[[], None]) -> None:
        self.loop.trace.note(self.loop.time(), "net", frm, to.me, size)
        if self.find(to.endpoint) is not to:
            return  # an answer to a process that is gone, and has an heir
        super().carry(frm, to, size, deliver)


# ---- client connections ------------------------------------------------------------------------


class _Inside(Receiver):
    """A receiver that runs in its node's process, whoever calls it."""

    def __init__(self, inner: Receiver, domain: Domain, loop: SimLoop) -> None:
        self._inner, self._domain, self._loop = inner, domain, loop

    def _enter(self, call: Callable[..., None], *args: object) -> None:
        if DOMAIN.get() is self._domain:
            call(*args)
        else:
            self._domain.run(lambda: self._loop.call_soon(call, *args))

    def on_message(self, data: bytes) -> None:
        self._enter(self._inner.on_message, data)

    def on_control(self, connection: Connection) -> None:
        self._enter(self._inner.on_control, connection)

    def on_blocked(self, connection: Connection) -> None:
        self._enter(self._inner.on_blocked, connection)

    def on_writable(self, connection: Connection) -> None:
        self._enter(self._inner.on_writable, connection)

    def on_closed(self, connection: Connection, code: int, reason: str) -> None:
        self._enter(self._inner.on_closed, connection, code, reason)


class SimConnection(MemoryConnection):
    """A connection whose bytes travel in the network's process."""

    def __init__(
        self, listener: "SimListener", format: Format, remote: str, delay: Delay | None, network: SimNetwork
    ) -> None:
        super().__init__(listener, format, remote, delay)
        self._node, self._loop = listener.domain, network.loop
        for pipe in (self.to_client, self.to_server):
            wake = pipe._wake
            pipe._wake = lambda wait_s, wake=wake: network.domain.run(wake, wait_s)  # type: ignore[method-assign,misc]

    def set_receiver(self, receiver: Receiver) -> None:
        super().set_receiver(receiver if isinstance(receiver, _Inside) else _Inside(receiver, self._node, self._loop))


class SimListener(MemoryListener):
    """The place where clients connect to a simulated node; `accept` is set when the gateway is made."""

    accept: Accept

    def __init__(self, network: SimNetwork, domain: Domain, name: str, max_frame_bytes: int) -> None:
        super().__init__(name, max_frame_bytes)
        self._network, self.domain = network, domain
        self._listening = False
        self._held: dict[MemoryConnection, None] = {}
        """Connections of the process before whose descriptors have come."""

    async def start(self) -> str:  # type: ignore[override]
        """Listen; the url that clients are told."""
        self._listening = True
        return self.url

    def connect(self, format: Format = "msgpack", remote: str = "", delay: Delay | None = None) -> ClientEnd:
        if not self._listening:
            raise Unavailable(f"nobody listens at {self.url}")
        self._accept = self.accept
        return super().connect(format, remote, delay)

    def hold(self, descriptors: Sequence[int]) -> None:
        """Have these descriptors, which the process before has too: they stay open when that one ends."""
        for descriptor in descriptors:
            connection = SENT.get(descriptor)
            if connection is not None:
                connection.holder = self
                self._held[connection] = None

    def take_up(self, attached: Callable[[Connection, Connection], None]) -> None:
        self._held.clear()  # from here on they are its own connections
        super().take_up(attached)

    def crash(self) -> None:
        for connection in self._held:
            if connection.holder is self:
                self._release(connection)
        super().crash()

    def make(self, format: Format, remote: str, delay: Delay | None) -> SimConnection:
        return SimConnection(self, format, remote, delay, self._network)

    def let_in(self, connection: MemoryConnection) -> None:
        self.domain.run(lambda: self._network.loop.call_soon(super(SimListener, self).let_in, connection))


class ClientLink:
    """A client's end, as `tests.sim.client.Link`: callbacks run in the client's process."""

    def __init__(
        self,
        loop: SimLoop,
        domain: Domain,
        end: ClientEnd,
        on_frame: Callable[[bytes], None],
        on_close: Callable[[int, str], None],
    ) -> None:
        self._end = end
        end.on_message = lambda data: _into(loop, domain, on_frame, data)
        end.on_closed = lambda code, reason: _into(loop, domain, on_close, code, reason)

    def send(self, frame: bytes) -> None:
        """Send a frame. On a closed connection it is lost."""
        try:
            self._end.send(frame)
        except ConnectionClosed:
            return

    def close(self, code: int, reason: str) -> None:
        self._end.close(code, reason)

    def abort(self) -> None:
        self._end.drop()

    def half_open(self) -> None:
        self._end.half_open()


def _into(loop: SimLoop, domain: Domain, call: Callable[..., None], *args: object) -> None:
    domain.run(lambda: loop.call_soon(call, *args))
