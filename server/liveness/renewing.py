"""Renewing a lease beside the event loop, so that it needs no free loop.

`RenewalThread` runs `NodeLease.run` on a loop of its own, in a thread of its own, over a connection of its own: a
loop that is busy with turns, a writer that waits for a lock, a pool that is used up hold no renewal up. The
interpreter gives the thread its turn every few milliseconds. A loop that stands still for longer than
`lease_stall_s` is not renewed for: its actors would be locked to a node that serves nobody.

`RenewalTask` renews on the loop: for nodes in one process over one store in memory, and for tests.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

import structlog

from server.ids import NodeAddress
from server.liveness.lease import NodeLease
from server.liveness.ports import OwnLeaseStore
from server.runtime.supervisor import Supervisor

log = structlog.get_logger(__name__)
STOP_S: Final = 3.0
"""Time that the thread is given to close its connection."""


class Renewing(Protocol):
    """The renewals of one run's lease. `start` is called once; after `stop` none is sent any more, and the answer
    to one that is under way is not heard."""

    def start(self, lease: NodeLease, me: NodeAddress, supervisor: Supervisor) -> None: ...

    async def pause(self) -> None:
        """Send none until `resume`; returns when none is under way."""
        ...

    def resume(self) -> None: ...

    async def stop(self) -> None: ...


class PausedByLease:
    """The pause of every way of renewing: the lease itself rests, so that whoever renews for it sends nothing."""

    _lease: NodeLease | None = None

    async def pause(self) -> None:
        if self._lease is not None:
            await self._lease.rest()

    def resume(self) -> None:
        if self._lease is not None:
            self._lease.go_on()


class RenewalTask(PausedByLease):
    """Renews on the event loop."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def start(self, lease: NodeLease, me: NodeAddress, supervisor: Supervisor) -> None:
        self._lease = lease
        self._task = supervisor.spawn(lease.run(me), "lease")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()


class RenewalThread(PausedByLease):
    """See the module's head. `connect` makes the connection; it is called, and what it makes is used, in the
    thread."""

    def __init__(self, connect: Callable[[], OwnLeaseStore]) -> None:
        self._connect = connect
        self._tick: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._begun = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._task: asyncio.Task[None]
        self._thread: threading.Thread

    def start(self, lease: NodeLease, me: NodeAddress, supervisor: Supervisor) -> None:
        self._lease = lease
        loop = asyncio.get_running_loop()

        def to_loop(call: Callable[..., object], *args: object) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                loop.call_soon_threadsafe(call, *args)

        lease.to_loop = to_loop
        self._tick = supervisor.spawn(lease.watch_loop(), "lease-tick")

        def renew() -> None:
            try:
                with suppress(asyncio.CancelledError), asyncio.Runner() as runner:
                    runner.run(self._renew(lease, me))
            except Exception as error:
                log.error("renewing ended", exc_info=error)
            finally:
                to_loop(self._ended.set)

        self._thread = threading.Thread(target=renew, name=f"lease {me}", daemon=True)
        self._thread.start()

    async def _renew(self, lease: NodeLease, me: NodeAddress) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._loop, self._task = asyncio.get_running_loop(), task
        self._begun.set()
        store = self._connect()
        try:
            await lease.run(me, store)
        finally:
            await store.close()

    async def stop(self) -> None:
        if self._tick is None:
            return
        self._tick.cancel()
        if not self._begun.wait(STOP_S):
            return
        with suppress(RuntimeError):  # its loop is closed: it has ended
            self._loop.call_soon_threadsafe(self._task.cancel)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await self._ended.wait()
            self._thread.join(STOP_S)  # a thread that has said its last word: microseconds
