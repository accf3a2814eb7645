"""`call`: a local actor call by id whose plain turn replaces the state of a volatile actor."""

import msgspec
from msgspec.structs import replace

from server.actors.actor import Actor, remote
from server.actors.app import App
from server.catalog.system import ActorSystem
from server.ids import ActorId, actor_id
from server.lab.bench.floors import call as floor
from server.lab.bench.harness import Effort, Outcome, alternate, process_us
from server.lab.bench.systems import memory_system

CALLS = 2_000


class State(msgspec.Struct, frozen=True):
    total: int = 0


class Counter(Actor[State]):
    kind = "counter"
    State = State

    @remote
    def add(self, n: int) -> int:
        self.state = replace(self.state, total=self.state.total + n)
        return self.state.total


def _run(system: ActorSystem, identity: ActorId, count: int) -> None:
    ask = system.ask_now
    for _ in range(count):
        ask(identity, "add", (1,))


async def run(effort: Effort) -> Outcome:
    """CPU us a call."""
    identity, calls = actor_id("counter", "a"), effort.size(CALLS)
    registry = {f"counter/{n}": floor.FloorCounter() for n in range(1_000)} | {str(identity): floor.FloorCounter()}
    async with memory_system(App("bench", (Counter,))) as system:
        for n in range(1_000):
            await system.ask(actor_id("counter", str(n)), "add", (1,))
        await system.ask(identity, "add", (1,))

        async def below() -> float:
            return process_us(lambda: floor.run(registry, identity, calls), calls)

        async def above() -> float:
            return process_us(lambda: _run(system, identity, calls), calls)

        return await alternate("call", "us", below, above, effort, goal=2.0)
