"""Two-sided facts in a node: when they are told, how many at a time, after which errors again, when they are over."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from server.actors.actor import Actor, Fact, FactDone, Stamp, existing, fact, remote
from server.actors.app import App
from server.catalog.telling import TellingLimits
from server.errors import BadSetting, Rejected, Unavailable
from server.ids import actor_id
from tests.support.engine import TestSystem, cluster
from tests.support.waiting import until

pytestmark = pytest.mark.virtual_time


class BankState(msgspec.Struct, frozen=True):
    owed: dict[str, Stamp] = {}
    over: dict[str, str] = {}


class Bank(Actor[BankState]):
    kind = "bank"
    durability = "write_behind"
    State = BankState

    @remote
    def owe(self, count: int) -> None:
        self.state = replace(self.state, owed={**self.state.owed, **{f"c{n}": self.stamp() for n in range(count)}})

    @remote
    def owe_to(self, name: str) -> None:
        self.state = replace(self.state, owed={**self.state.owed, name: self.stamp()})

    @staticmethod
    def facts(key: str, state: Any) -> Iterable[Fact]:
        for name, number in state.owed.items():
            method = Customer.called if name == "stranger" else Customer.paid
            yield fact(number, Customer, name, method, key, number)

    def facts_done(self, done: list[FactDone]) -> None:
        over = {one.name.to.partition("/")[2]: one.refused or str(one.answer) for one in done}
        owed = {name: number for name, number in self.state.owed.items() if name not in over}
        self.state = BankState(owed, {**self.state.over, **over})


class CustomerState(msgspec.Struct, frozen=True):
    payments: tuple[Stamp, ...] = ()


class Customer(Actor[CustomerState]):
    kind = "customer"
    durability = "write_behind"
    State = CustomerState

    @remote
    def paid(self, bank: str, number: Stamp) -> str:
        if self.key == "monk":
            raise Rejected("no_money")
        if number not in self.state.payments:
            self.state = CustomerState((*self.state.payments, number))
        return "thanks"

    @existing
    def called(self, bank: str, number: Stamp) -> None:
        raise AssertionError("nobody is there")


BANKS = App(name="banks", actors=(Bank, Customer))
BANK = actor_id("bank", "b")


def flushing(*systems: TestSystem) -> None:
    for system in systems:
        system.supervisor.spawn(system.write_behind.run(), "write-behind")


async def state_of(system: TestSystem, name: str) -> Any:
    found = await system.store.read(name.partition("/")[0], [actor_id(*name.split("/"))])
    return next((row.state for row in found.values()), None)


async def test_facts_are_told_once_they_are_stored_and_over_once_the_others_are() -> None:
    async with cluster(("node-1", "node-2"), app=BANKS) as world:
        source, target = world.systems["node-1"], world.systems["node-2"]
        await source.ask(BANK, "owe", (20,))
        bank = source.find(BANK) or target.find(BANK)
        assert bank is not None and not bank.telling, "nothing is stored, so nobody hears of it"
        home = source if source.find(BANK) else target
        await home.write_behind.flush()
        await until(lambda: len(bank.facts.under_way) == 20 if bank.facts else False)
        await until(lambda: sum(len(system.catalog.live) for system in (source, target)) == 21)
        assert bank.boundary.owed, "they are told, and not stored at the other side"
        flushing(source, target)
        await until(lambda: not bank.boundary.owed)
        assert set(bank.boundary.over.values()) == {"thanks"}
        assert len((await state_of(source, "customer/c7")).payments) == 1


async def test_no_more_are_under_way_than_there_is_room_for() -> None:
    async with cluster(("node-1",), app=BANKS) as world:
        system = world.systems["node-1"]
        system.telling.limits = TellingLimits(of_actor=8, of_node=10)
        flushing(system)
        seen: list[int] = []
        confirm = system.dispatcher.confirm

        async def counted(*args: Any) -> Any:
            seen.append(system.telling._under_way)
            return await confirm(*args)

        system.dispatcher.confirm = counted  # type: ignore[method-assign]
        for bank in "abc":
            await system.ask(actor_id("bank", bank), "owe", (30,))
        banks = [system.find(actor_id("bank", bank)) for bank in "abc"]
        await until(lambda: all(bank is not None and len(bank.boundary.over) == 30 for bank in banks))
        assert len(seen) == 90 and max(seen) == 10


async def test_a_fact_is_told_again_until_it_is_answered() -> None:
    async with cluster(("node-1",), app=BANKS) as world:
        system = world.systems["node-1"]
        flushing(system)
        confirm, times = system.dispatcher.confirm, 0

        async def deaf(*args: Any) -> Any:
            nonlocal times
            times += 1
            if times <= 60:
                raise Unavailable("not now")
            return await confirm(*args)

        system.dispatcher.confirm = deaf  # type: ignore[method-assign]
        await system.ask(BANK, "owe", (1,))
        bank = system.find(BANK)
        assert bank is not None
        await until(lambda: bank.boundary.over == {"c0": "thanks"}, 3_600.0)
        assert (times, system.metrics.facts_repeated_total, system.metrics.facts_done_total) == (61, 60, 1)


async def test_a_refusal_and_a_stranger_end_that_number_only() -> None:
    async with cluster(("node-1",), app=BANKS) as world:
        system = world.systems["node-1"]
        flushing(system)
        for name in ("monk", "stranger", "ann"):
            await system.ask(BANK, "owe_to", (name,))
        bank = system.find(BANK)
        assert bank is not None
        await until(lambda: len(bank.boundary.over) == 3)
        assert bank.boundary.over == {"monk": "no_money", "stranger": "not_found", "ann": "thanks"}
        assert actor_id("customer", "stranger") not in world.database.entities, "a saga makes no actor"


async def test_an_actor_that_nobody_calls_is_woken_by_its_row() -> None:
    async with cluster(("node-1",), app=BANKS) as world:
        system = world.systems["node-1"]
        await system.ask(BANK, "owe", (3,))
        await world.remove("node-1", clean=True)
        assert world.database.entities[BANK].open_facts
        after = await world.add("node-2")
        world.show("node-2")
        flushing(after)
        await until(lambda: not world.database.entities[BANK].open_facts)
        assert len((await state_of(after, "customer/c2")).payments) == 1


async def test_an_actor_with_open_facts_stays_in_memory() -> None:
    async with cluster(("node-1",), app=BANKS, actors={"idle_timeout_s": 1.0, "collect_interval_s": 0.5}) as world:
        system = world.systems["node-1"]
        flushing(system)

        async def deaf(*args: Any) -> Any:
            raise Unavailable("never")

        system.dispatcher.confirm = deaf  # type: ignore[method-assign]
        await system.ask(BANK, "owe", (1,))
        await until(lambda: system.metrics.facts_repeated_total > 8, 600.0)
        assert system.find(BANK) is not None


def test_a_volatile_actor_has_no_facts() -> None:
    class Careless(Bank):
        kind = "careless"
        durability = "volatile"

    with pytest.raises(BadSetting, match="Careless has facts"):
        App(name="careless", actors=(Careless,))
