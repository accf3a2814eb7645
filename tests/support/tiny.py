"""A second, tiny application: it proves that the engine needs nothing of the game."""

import asyncio

import msgspec
from msgspec.structs import replace

from server.actors.actor import Actor, Caller, LoggedActor, Record, read_only
from server.actors.app import App, Route
from server.wire.messages import Reply, Request


class Total(msgspec.Struct, frozen=True):
    total: int = 0


class Added(msgspec.Struct, tag="added", array_like=True, frozen=True):
    time_ms: int
    n: int


class Add(Request, tag="add", frozen=True):
    key: str
    n: int


class Sum(Reply, tag="sum", frozen=True):
    total: int


class Counter(Actor[Total]):
    """A write-behind actor."""

    kind = "counter"
    durability = "write_behind"
    State = Total

    def add(self, n: int) -> int:
        self.state = replace(self.state, total=self.state.total + n)
        return self.state.total

    @read_only
    def total(self) -> int:
        return self.state.total

    def add_message(self, caller: Caller, message: Add) -> Sum:
        return Sum(message.id, self.add(message.n))

    def change_and_raise(self) -> None:
        self.state = replace(self.state, total=-1)
        raise ValueError("planted")

    async def slow_add(self, n: int, pause_s: float) -> int:
        await asyncio.sleep(pause_s)
        return self.add(n)

    async def add_by_way_of(self, others: list[str], n: int) -> int:
        """Ask along a path of counters; the last one adds."""
        if not others:
            return self.add(n)
        return await self.ref(Counter, others[0]).ask(Counter.add_by_way_of, others[1:], n)

    def add_later(self, delay_s: float) -> None:
        self.after(delay_s, self.add, 1)

    def tell_other(self, key: str, n: int) -> int:
        self.state = replace(self.state, total=self.state.total + 1)
        self.tell(Counter, key, Counter.add, n)
        return self.state.total


class Ledger(LoggedActor[Total]):
    """An event-sourced actor; finished at 1,000 or more."""

    kind = "ledger"
    State = Total
    Event = Added

    @staticmethod
    def evolve(state: Total, record: Record) -> Total:
        return Total(state.total + record.event.n)

    @staticmethod
    def finished(state: Total) -> bool:
        return state.total >= 1_000

    def add(self, n: int) -> int:
        self.emit(Added(self.next_seq, n))
        return self.state.total

    def add_twice_and_raise(self) -> None:
        self.emit(Added(self.next_seq, 1))
        self.emit(Added(self.next_seq, 1))
        raise ValueError("planted")

    def total(self) -> int:
        return self.state.total


class Near(Actor[Total]):
    """A volatile actor that lives with whoever first calls it."""

    kind = "near"
    State = Total
    placement = "local"

    def where(self) -> str:
        return str(self.node)


TinyApp = App(
    name="tiny",
    actors=(Counter, Ledger, Near),
    requests=(Add,),
    answers=(Sum,),
    events=(Added,),
    routes={Add: Route(Counter, Counter.add_message, lambda caller, message: message.key)},
    read_models={"totals": lambda activations, params: [[one.key, one.state.total] for one in activations("counter")]},
)
