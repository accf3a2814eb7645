"""Calls, failing stores, flushes, deactivations and moves between two nodes in random order, against
plain counters.

The model of an actor is what was acknowledged and what may have happened besides (calls that
ended in an unknown outcome). After the store has healed, the total that a fresh activation loads
must hold every acknowledged addition and nothing that was refused. Each planted fault must show.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from server.activations.activation import ACTIVATION, Activation
from server.activations.event_log import EventLog
from server.errors import GarrisonError, OutcomeUnknown
from server.ids import ActorId, NodeAddress, actor_id
from server.storage.ports import EntityMove
from tests.support.engine import TestSystem, cluster
from tests.support.tiny import Counter

IDS = [actor_id(kind, key) for kind in ("counter", "ledger") for key in "ab"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(IDS)),
        st.tuples(st.just("crash"), st.sampled_from(IDS)),
        st.tuples(st.just("slow"), st.sampled_from(IDS[:2])),
        st.tuples(st.just("end"), st.sampled_from(IDS)),
        st.tuples(st.just("move"), st.sampled_from(IDS)),
        st.tuples(st.just("flush"), st.just("")),
        st.tuples(st.just("pass"), st.integers(1, 20)),
        st.tuples(st.just("faults"), st.sampled_from([0.0, 0.3, 0.9])),
    ),
    max_size=60,
)


class Model:
    """Additions are distinct powers of two, so that a total names the additions in it."""

    def __init__(self) -> None:
        self.certain: dict[ActorId, int] = dict.fromkeys(IDS, 0)
        self.possible: dict[ActorId, int] = dict.fromkeys(IDS, 0)
        self.used: dict[ActorId, int] = dict.fromkeys(IDS, 0)

    def next(self, identity: ActorId) -> int:
        self.used[identity] += 1
        return 1 << (self.used[identity] - 1)

    def check(self, identity: ActorId, total: int) -> None:
        lost = self.certain[identity] & ~total
        assert not lost, f"{identity}: acknowledged and lost: {lost:b}"
        strange = total & ~(self.certain[identity] | self.possible[identity])
        assert not strange, f"{identity}: refused and there: {strange:b}"


class World:
    def __init__(self, systems: list[TestSystem], seed: int) -> None:
        self.systems, self.model, self.rng = systems, Model(), random.Random(seed)
        self.rate = 0.0
        self.calls: list[asyncio.Task[None]] = []
        self.ends: list[asyncio.Task[Any]] = []
        for system in systems:
            system.faults.choose = lambda statement: (
                self.rng.choice(["refuse", "forget"]) if self.rng.random() < self.rate else None  # type: ignore[return-value]
            )

    @property
    def system(self) -> TestSystem:
        """Any of them, for one call."""
        return self.rng.choice(self.systems)

    async def run(self, steps: list[tuple[str, Any]]) -> None:
        for name, what in steps:
            if name in ("add", "slow"):
                self.calls.append(asyncio.ensure_future(self._add(what, name == "slow")))
            elif name == "crash":
                self.calls.append(asyncio.ensure_future(self._crash(what)))
            elif name in ("end", "move"):
                self._end_or_move(name, what)
            elif name == "flush":
                self.ends.append(asyncio.ensure_future(self._flush()))
            elif name == "faults":
                self.rate = what
            elif name == "pass":
                for _ in range(what):
                    await asyncio.sleep(0)
        self.rate = 0.0
        async with asyncio.timeout(20):  # no answer is lost
            await asyncio.gather(*self.calls, *self.ends)
        await self._settle()

    def _end_or_move(self, name: str, identity: ActorId) -> None:
        for system, other in zip(self.systems, self.systems[::-1], strict=True):
            activation = system.find(identity)
            if activation is not None and name == "end":
                self.ends.append(asyncio.ensure_future(system.catalog.deactivate([activation])))
            elif activation is not None:
                system.migrator._refusing.done(other.me)  # tried again at once, whatever it said before
                self.ends.append(asyncio.ensure_future(system.migrator.move([activation], other.me)))

    async def _settle(self) -> None:
        """All is stored, everything ends, and fresh activations say what there is."""
        async with asyncio.timeout(20):
            while any(system.catalog.live for system in self.systems):
                for system in self.systems:
                    await system.catalog.deactivate(list(system.catalog.live.values()))
                await asyncio.sleep(0.001)
        assert not ACTIVATION.refused, ACTIVATION.refused
        for system in self.systems:
            assert len(system.write_behind) == 0 and system.metrics.fenced_total == 0
        for identity in IDS:
            self.model.check(identity, await self.system.ask(identity, "total", ()))

    async def _add(self, identity: ActorId, slow: bool) -> None:
        model, n = self.model, self.model.next(identity)
        name, args = ("slow_add", (n, 0.001)) if slow else ("add", (n,))
        try:
            total = await self.system.ask(identity, name, args, timeout_s=2.0)
        except OutcomeUnknown:
            model.possible[identity] |= n
        except GarrisonError:
            return
        else:
            model.certain[identity] |= n
            assert total & n and not model.certain[identity] & n & ~total

    async def _crash(self, identity: ActorId) -> None:
        name = "change_and_raise" if identity.startswith("counter") else "add_twice_and_raise"
        try:
            await self.system.ask(identity, name, (), timeout_s=2.0)
        except GarrisonError:
            return
        raise AssertionError("a turn that raises was acknowledged")

    async def _flush(self) -> None:
        try:
            await self.system.write_behind.flush()
        except GarrisonError:
            return


async def _play(steps: list[tuple[str, Any]], seed: int, before: Callable[[TestSystem], None] | None = None) -> None:
    tree: dict[str, Any] = {
        "store": {"group_commit_s": 0.0005, "segment_entries": 4, "flush_interval_s": 0.002},
        "actors": {"collect_interval_s": 0.002, "idle_timeout_s": 0.004},
    }
    async with cluster(("node-1", "node-2"), **tree) as world:
        world.network.delay = lambda one, other: 0.0
        for system in world.systems.values():
            system.supervisor.spawn(system.write_behind.run(), "write-behind")
            if before is not None:
                before(system)
        await World(list(world.systems.values()), seed).run(steps)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.integers(0, 2**16))
def test_every_acknowledged_change_is_there_in_the_end(steps: list[tuple[str, Any]], seed: int) -> None:
    asyncio.run(_play(steps, seed))


def _forgets_to_mark(system: TestSystem, patch: pytest.MonkeyPatch) -> None:
    """A change is acknowledged and not noted as one to store."""
    patch.setattr(system.write_behind, "mark", lambda entity: None)


def _acknowledges_what_it_undoes(system: TestSystem, patch: pytest.MonkeyPatch) -> None:
    """Now and then a change is answered and not made."""
    add = system.methods(Counter)["add"]

    def lie(actor: Any, n: int, real: Callable[..., int] = add.function) -> int:
        total = real(actor, n)
        if system.turn_number % 3 == 0:
            actor.state = actor.context.boundary
        return total

    patch.setattr(add, "function", lie)


def _keeps_failed_turns(system: TestSystem, patch: pytest.MonkeyPatch) -> None:
    """A turn that raised leaves its events behind."""
    patch.setattr(EventLog, "rollback", lambda self: None)


def _gives_up_before_it_stores(system: TestSystem, patch: pytest.MonkeyPatch) -> None:
    """Ownership is released without a flush."""

    async def nothing(entities: Any) -> None:
        for entity in list(entities):
            system.write_behind.forget(entity)

    patch.setattr(system.write_behind, "flush_these", nothing)


def _grows_what_it_repeats(system: TestSystem, patch: pytest.MonkeyPatch) -> None:
    """After an unknown outcome the append is sent again with what has gathered since."""
    take = EventLog.take

    def regrown(self: EventLog) -> Any:
        self._sent = None
        return take(self)

    patch.setattr(EventLog, "take", regrown)


def _takes_failed_writes_for_done(system: TestSystem, patch: pytest.MonkeyPatch) -> None:
    """A write that failed leaves its entities clean."""
    write = system.write_behind._write_kind

    async def cleaned(kind: str, entities: list[Any]) -> None:
        try:
            await write(kind, entities)
        except GarrisonError:
            for entity in entities:
                system.write_behind.forget(entity)

    patch.setattr(system.write_behind, "_write_kind", cleaned)


def _thaws_what_may_have_moved(system: TestSystem, patch: pytest.MonkeyPatch) -> None:
    """After an unanswered migration it goes on here, whoever owns it."""

    async def thaw(kind: str, doubtful: dict[Any, bool]) -> list[Any]:
        for load in doubtful:
            system.write_behind.put_back(load.activation)
            load.activation.thaw()
        return []

    patch.setattr(system.migrator, "_resolve", thaw)


def _gives_without_the_state(system: TestSystem, patch: pytest.MonkeyPatch) -> None:
    """Ownership goes, and what is not stored yet does not go with it."""
    real = system.migrator._move_of

    def move_of(activation: Any, to: NodeAddress, token: int) -> EntityMove:
        return replace(real(activation, to, token), state=None, version=activation.stored_version)

    patch.setattr(system.migrator, "_move_of", move_of)
    patch.setattr(system.write_behind, "flush_these", _nothing)


def _halts_what_is_closing(system: TestSystem, patch: pytest.MonkeyPatch) -> None:
    """A migration takes hold of what is being stored and released."""

    def halt(activation: Activation) -> bool:
        activation._enter("halted")
        return True

    patch.setattr(Activation, "halt", halt)


async def _nothing(entities: Any) -> None:
    """Flush ahead, or not: it makes no difference where the state goes along."""


SCRIPT: list[tuple[str, Any]] = [
    step
    for identity in IDS
    for step in (
        [("add", identity), ("pass", 5)] * 4
        + [("crash", identity), ("pass", 5), ("add", identity), ("move", identity), ("pass", 20)]
        + [("add", identity), ("pass", 20), ("move", identity), ("add", identity), ("pass", 20)]
        + [("add", identity), ("move", identity), ("pass", 3), ("end", identity)]
        + [("add", identity), ("move", identity), ("pass", 50), ("end", identity), ("pass", 5)]
    )
]


STORMY = [
    ("faults", 0.5),
    *(one for pair in zip(SCRIPT[::2], SCRIPT[1::2], strict=True) for one in (*pair, ("add", IDS[2]))),
]
FAULTS = [
    _forgets_to_mark,
    _acknowledges_what_it_undoes,
    _keeps_failed_turns,
    _gives_up_before_it_stores,
    _grows_what_it_repeats,
    _takes_failed_writes_for_done,
    _thaws_what_may_have_moved,
    _gives_without_the_state,
    _halts_what_is_closing,
]


@pytest.mark.parametrize("seed", range(3))
async def test_the_schedules_of_the_planted_faults_are_right_without_them(seed: int) -> None:
    for steps in (SCRIPT, STORMY):
        await _play(steps, seed)


@pytest.mark.parametrize("fault", FAULTS)
async def test_planted_faults_show(
    fault: Callable[[TestSystem, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(40):
        for steps in (SCRIPT, STORMY):
            with monkeypatch.context() as patch:
                try:
                    await _play(steps, seed, lambda system, patch=patch: fault(system, patch))  # type: ignore[misc]
                except (AssertionError, TimeoutError):
                    ACTIVATION.refused.clear()
                    return
    raise AssertionError("the planted fault does not show")
