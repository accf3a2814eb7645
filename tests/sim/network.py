"""The network between simulated nodes: the transport's in-memory twin, with a process for the
wires (what is under way goes on when its sender dies, and waits for a receiver that is paused)
and a seeded policy of delay and loss."""

import random
from collections.abc import Callable

from server.ids import NodeAddress
from server.runtime.metrics import Metrics
from server.settings import TransportSettings
from server.transport.memory import MemoryNetwork, MemoryTransport, Result
from tests.sim.loop import Domain, SimLoop


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
        self._cut: dict[tuple[str, str], None] = {}

    def __call__(self, frm: NodeAddress, to: NodeAddress) -> float | None:
        if (frm.node, to.node) in self._cut:
            return None
        if self._rng.random() < self.slow:
            return self._rng.uniform(*self.slow_s)
        return self._rng.uniform(*self.delay_s)

    def cut(self, frm: str, to: str) -> None:
        """Swallow what goes from one node to another, one way."""
        self._cut[frm, to] = None

    def mend(self, frm: str | None = None, to: str | None = None) -> None:
        """Let it through again; without names, everything."""
        self._cut = {} if frm is None or to is None else {way: None for way in self._cut if way != (frm, to)}


class SimNetwork(MemoryNetwork):
    """The twin's network, with the wires in a process of their own."""

    def __init__(self, loop: SimLoop, weather: Weather) -> None:
        super().__init__(weather)
        self.loop, self.weather = loop, weather
        self.domain = Domain("network")

    def carry(self, frm: NodeAddress, to: NodeAddress, size: int, deliver: Callable[[], None]) -> None:
        self.loop.trace.note(self.loop.time(), "net", frm, to, size)
        self.domain.run(super().carry, frm, to, size, deliver)


class SimTransport(MemoryTransport):
    """One node's side: whatever arrives runs in that node's process."""

    def __init__(self, network: SimNetwork, settings: TransportSettings, metrics: Metrics, domain: Domain) -> None:
        super().__init__(network, settings, metrics)
        self._domain, self._loop = domain, network.loop

    def arrived(self, frm: MemoryTransport, number: int, service: int, payload: bytes) -> None:
        arrive = super().arrived
        self._domain.run(lambda: self._loop.call_soon(arrive, frm, number, service, payload))

    def answered(self, number: int, result: Result) -> None:
        answered = super().answered
        self._domain.run(lambda: self._loop.call_soon(answered, number, result))
