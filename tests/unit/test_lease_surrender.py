"""A lease that is surrendered holds never again, whatever the thread that renews it does at the same time."""

import asyncio
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

import pytest

from server.errors import Unavailable
from server.ids import NodeAddress, NodeId
from server.liveness.lease import SAFE_SHARE, NodeLease
from server.liveness.registration import Registration
from server.liveness.renewing import RenewalTask
from server.runtime.supervisor import Supervisor
from server.settings import Settings
from tests.support.leases import LeaseBench
from tests.support.waiting import until

NEVER = float("-inf")
LIMIT_S = 10.0


class Unlocked(NodeLease):
    """Planted: a grant that looks whether the lease was surrendered, and holds nobody off until it has said so."""

    def granted(self, sent_at: float) -> None:
        if self.surrendered:
            return
        until = sent_at + SAFE_SHARE * self._settings.lease_period_s
        self.safe_until = max(self.safe_until, until)


class Stepped:
    """A call in a thread of its own that stands still before its line number `at`, until it may go on. `reached` is
    set there, or at the end where there are not so many lines."""

    def __init__(self, code: CodeType, call: Callable[[], None], at: int) -> None:
        self._code, self._call, self._left = code, call, at
        self.reached, self.go = threading.Event(), threading.Event()
        self.stood = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self.reached.wait(LIMIT_S)

    def _run(self) -> None:
        sys.settrace(self._trace)
        try:
            self._call()
        finally:
            sys.settrace(None)
            self.reached.set()

    def _trace(self, frame: FrameType, _event: str, _arg: Any) -> Any:
        return self._line if frame.f_code is self._code else None

    def _line(self, _frame: FrameType, event: str, _arg: Any) -> Any:
        if event == "line":
            if self._left == 0:
                self.stood = True
                self.reached.set()
                assert self.go.wait(LIMIT_S)
            self._left -= 1
        return self._line

    def end(self) -> None:
        self.go.set()
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()


def interleaved(make: Callable[[LeaseBench], NodeLease]) -> list[float]:
    """The lease's end after a grant in a thread and a surrender between each two lines of it."""
    ends = []
    for at in range(100):
        bench = LeaseBench()
        lease = make(bench)
        lease.to_loop = lambda *_: None
        lease.granted(99.0)
        assert lease.holds()
        grant = Stepped(type(lease).granted.__code__, lambda lease=lease: lease.granted(100.0), at)  # type: ignore[misc]
        surrender = threading.Thread(target=lease.surrender)
        surrender.start()
        if not lease._changing.locked():
            surrender.join(LIMIT_S)  # nobody holds it off: it is through before the next line
        grant.end()
        surrender.join(LIMIT_S)
        ends.append(lease.safe_until)
        if not grant.stood:
            return ends
    raise AssertionError("more lines than looked at")


def make(cls: type[NodeLease]) -> Callable[[LeaseBench], NodeLease]:
    return lambda bench: cls(bench.store, bench.settings, bench.clock, bench.metrics, bench.lost.set)


def test_no_interleaving_of_a_grant_revives_a_surrendered_lease() -> None:
    ends = interleaved(make(NodeLease))
    assert len(ends) > 5 and set(ends) == {NEVER}


def test_the_check_finds_a_grant_that_holds_nobody_off() -> None:
    assert set(interleaved(make(Unlocked))) > {NEVER}


@pytest.mark.parametrize("leases", [True, False])
def test_surrendered_it_holds_never_again(leases: bool) -> None:
    """Also where the deployment has no leases, and so holds for ever until then."""
    bench = LeaseBench(lease=leases)
    bench.lease.granted(100.0)
    told: list[float] = []
    bench.lease.when_granted(told.append)
    assert bench.lease.holds()
    bench.lease.surrender()
    bench.lease.surrender()
    bench.lease.granted(100.0)
    assert not bench.lease.holds() and bench.lease.safe_until == NEVER and not told


@pytest.mark.virtual_time
async def test_surrendered_no_renewal_is_sent_and_a_refusal_is_nobodys() -> None:
    bench = LeaseBench()
    bench.faults.hold = asyncio.Event()
    me = await bench.start()
    await until(lambda: bool(bench.faults.seen))
    await bench.store.retire_node(me)
    bench.lease.surrender()
    bench.faults.hold.set()  # the answer says that the run is over
    await bench.task
    assert not bench.lost.is_set() and not bench.lease.lost
    again = asyncio.ensure_future(bench.lease.run(me))
    await asyncio.sleep(1.0)
    assert len(bench.faults.seen) == 1
    again.cancel()


@pytest.mark.virtual_time
async def test_a_pause_waits_for_the_renewal_that_is_under_way_and_none_follows() -> None:
    bench = LeaseBench()
    me = await bench.start()
    bench.task.cancel()
    supervisor, renewing = Supervisor("test"), RenewalTask()
    await renewing.pause()
    renewing.resume()
    bench.faults.hold = asyncio.Event()
    bench.faults.seen.clear()
    renewing.start(bench.lease, me, supervisor)
    await until(lambda: bool(bench.faults.seen))
    pausing = asyncio.ensure_future(renewing.pause())
    await asyncio.sleep(1.0)
    assert not pausing.done()
    bench.faults.hold.set()
    await pausing
    await renewing.pause()
    sent, granted = len(bench.faults.seen), bench.lease.safe_until
    await asyncio.sleep(5.0)
    assert len(bench.faults.seen) == sent and bench.lease.safe_until == granted
    renewing.resume()
    await bench.renewals(2)
    assert bench.lease.holds()
    await renewing.stop()
    await supervisor.stop()


@pytest.mark.virtual_time
async def test_a_pause_ends_with_a_renewal_that_fails_or_is_given_up() -> None:
    bench = LeaseBench()
    bench.faults.hold = asyncio.Event()
    await bench.start()
    await until(lambda: bool(bench.faults.seen))
    pausing = asyncio.ensure_future(bench.lease.rest())
    await asyncio.sleep(0)
    bench.task.cancel()
    await pausing


@pytest.mark.virtual_time
async def test_renewals_say_the_generation() -> None:
    bench = LeaseBench()
    me = await bench.start()
    await bench.renewals(2)
    assert await bench.store.succeed_node(me, 1, "", 2.0)
    await bench.lost.wait()
    assert bench.lease.lost


# ---- the heir's side ----


def heir_of(bench: LeaseBench) -> Registration:
    """The registration of another process, over the same store."""
    settings = Settings(node="node-1", store=bench.settings)
    undertaker: Any = None
    return Registration(
        settings=settings, nodes=bench.store, journal=None, lease=bench.lease, undertaker=undertaker, clock=bench.clock
    )


@pytest.mark.virtual_time
async def test_heir_has_the_lease_from_the_sending_of_the_statement_that_was_answered() -> None:
    bench = LeaseBench()
    me = NodeAddress(NodeId("node-1"), await bench.store.register_node(NodeId("node-1"), 2.0))
    bench.faults.next["succeed_node"] = ["refuse", "forget"]
    assert not bench.lease.holds()
    assert await heir_of(bench).succeed(me, 1)
    assert bench.lease.safe_until == pytest.approx(bench.clock.at + 1.8) and len(bench.faults.seen) == 3


@pytest.mark.virtual_time
async def test_heir_that_is_refused_or_not_answered_has_no_lease() -> None:
    bench = LeaseBench()
    me = NodeAddress(NodeId("node-1"), await bench.store.register_node(NodeId("node-1"), 2.0))
    assert not await heir_of(bench).succeed(me, 2)
    bench.faults.always["succeed_node"] = "refuse"

    async def time_passes() -> None:
        while True:
            await asyncio.sleep(0.1)
            bench.clock.at += 0.1

    passing = asyncio.ensure_future(time_passes())
    with pytest.raises(Unavailable):
        await heir_of(bench).succeed(me, 1)
    passing.cancel()
    assert not bench.lease.holds() and bench.clock.at == pytest.approx(102.0, abs=0.2)
