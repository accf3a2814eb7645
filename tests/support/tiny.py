"""A second, tiny application: it proves that the engine needs nothing of the game. It brings everything that a
studio's own application may: columns, migrations, store queries, a console page with a route and an action, a
command. What must not be imported with the actors stands in `tests/support/tiny_studio`."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from server.actors.actor import Actor, Caller, LoggedActor, Record, read_only, remote
from server.actors.app import Action, AdminContext, App, Route, StoreRoute
from server.wire.bounds import Int64
from server.wire.messages import Reply, Request


class Total(msgspec.Struct, frozen=True):
    total: int = 0


class Added(msgspec.Struct, tag="added", array_like=True, frozen=True):
    time_ms: int
    n: int


class Add(Request, tag="add", frozen=True):
    key: str
    n: Int64


class Sum(Reply, tag="sum", frozen=True):
    total: int


class Largest(Request, tag="largest", frozen=True):
    at_least: Int64 = 0


class Row(msgspec.Struct, array_like=True, frozen=True):
    key: str
    total: int


class Rows(Reply, tag="rows", frozen=True):
    rows: list[Row]


class Counter(Actor[Total]):
    """A write-behind actor."""

    kind = "counter"
    durability = "write_behind"
    State = Total

    @remote
    def add(self, n: int) -> int:
        self.state = replace(self.state, total=self.state.total + n)
        return self.state.total

    @read_only
    def total(self) -> int:
        return self.state.total

    @remote
    def add_message(self, caller: Caller, message: Add) -> Sum:
        return Sum(message.id, self.add(message.n))

    @remote
    def change_and_raise(self) -> None:
        self.state = replace(self.state, total=-1)
        raise ValueError("planted")

    @remote
    async def slow_add(self, n: int, pause_s: float) -> int:
        await asyncio.sleep(pause_s)
        return self.add(n)

    @remote
    async def add_by_way_of(self, others: list[str], n: int) -> int:
        """Ask along a path of counters; the last one adds."""
        if not others:
            return self.add(n)
        return await self.ref(Counter, others[0]).ask(Counter.add_by_way_of, others[1:], n)

    @remote
    def add_later(self, delay_s: float) -> None:
        self.after(delay_s, self.add, 1)

    @remote
    async def add_the_best(self) -> int:
        """Adds the largest total that is stored."""
        rows = await self.query_store("best", {"limit": 1})
        return self.add(rows[0]["total"])

    @remote
    def add_unmarked_later(self, delay_s: float) -> None:
        self.after(delay_s, self.unmarked)

    def unmarked(self) -> None:
        """For timers of its own only."""
        self.add(100)

    @remote
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

    @remote
    def add(self, n: int) -> int:
        self.emit(Added(self.next_seq, n))
        return self.state.total

    @remote
    def add_twice_and_raise(self) -> None:
        self.emit(Added(self.next_seq, 1))
        self.emit(Added(self.next_seq, 1))
        raise ValueError("planted")

    @remote
    def total(self) -> int:
        return self.state.total

    def may_watch(self, caller: Caller) -> bool:
        return caller.subject != "mallory"


class Near(Actor[Total]):
    """A volatile actor that lives with whoever first calls it."""

    kind = "near"
    State = Total
    placement = "local"

    @remote
    def where(self) -> str:
        return str(self.node)


class Grant(msgspec.Struct, forbid_unknown_fields=True):
    key: str
    n: int


async def stored_counters(context: AdminContext, params: Mapping[str, str]) -> Any:
    """Stored counters, the largest first."""
    return {"rows": await context.query("largest", params)}


async def live_counter(context: AdminContext, params: Mapping[str, str]) -> Any:
    """The total of one counter as it is now."""
    return {"key": params["key"], "total": await context.ask(Counter, params["key"], Counter.total)}


async def live_totals(context: AdminContext, params: Mapping[str, str]) -> Any:
    """Counters in memory on any node."""
    rows, missing = await context.read("totals", params)
    return {"rows": rows, "missing": missing, "wall_ms": context.wall_ms()}


async def grant(context: AdminContext, body: Grant) -> Any:
    """Add to a counter."""
    total = await context.ask(Counter, body.key, Counter.add, body.n)
    return {"total": total, "granted_by": context.principal}


def _rows(message: Largest, rows: list[dict[str, Any]]) -> Rows:
    return Rows(message.id, [Row(row["key"], row["total"]) for row in rows])


STUDIO: Final = Path(__file__).parent / "tiny_studio"

TinyApp = App(
    name="tiny",
    actors=(Counter, Ledger, Near),
    requests=(Add, Largest),
    answers=(Sum, Rows),
    events=(Added,),
    routes={
        Add: Route(Counter, Counter.add_message, lambda caller, message: message.key),
        Largest: StoreRoute("largest", lambda caller, message: {"at_least": message.at_least}, _rows),
    },
    read_models={"totals": lambda activations, params: [[one.key, one.state.total] for one in activations("counter")]},
    pages=str(STUDIO / "pages"),
    console={"counters": stored_counters, "counters/{key}": live_counter, "live-counters": live_totals},
    actions={"grant": Action(grant, Grant)},
    migrations=str(STUDIO / "migrations"),
    mappings="tests.support.tiny_studio.tables:MAPPINGS",
    store_queries="tests.support.tiny_studio.tables:QUERIES",
    commands={"counters": "tests.support.tiny_studio.commands:register"},
)
