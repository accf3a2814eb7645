"""The one place that creates tasks. Each has a name and an owner; `stop` leaves none behind."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import structlog

from server.errors import GarrisonError

log = structlog.get_logger(__name__)
END_S: Final = 5.0
"""How long tasks may take to end once they are cancelled."""
_NAMED: Final = 20


class Supervisor:
    """Owns the tasks of one node. A task that fails is logged and counted, never silent."""

    def __init__(self, owner: str, on_crash: Callable[[str, BaseException], None] | None = None) -> None:
        self.owner = owner
        self.crashes = 0
        self._tasks: dict[asyncio.Task[Any], None] = {}  # a dict keeps the order of creation
        self._on_crash = on_crash
        self._stopping = False

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` as a task until it ends or `stop`."""
        task = asyncio.get_running_loop().create_task(work, name=f"{self.owner}:{name}")
        self._tasks[task] = None
        task.add_done_callback(self._done)
        if self._stopping:
            task.cancel()
        return task

    def every(self, interval_s: float, work: Callable[[], Awaitable[None] | None], name: str) -> asyncio.Task[Any]:
        """Call `work` now and then `interval_s` after each end of it. A failure is logged and
        does not end the series."""
        return self.spawn(self._series(interval_s, work, name), name)

    async def _series(self, interval_s: float, work: Callable[[], Awaitable[None] | None], name: str) -> None:
        while True:
            try:
                pending = work()
                if pending is not None:
                    await pending
            except GarrisonError as error:
                log.warning("recurring task failed", task=name, why=error.message)
            except Exception as error:
                self._crashed(name, error)
            await asyncio.sleep(interval_s)

    def __len__(self) -> int:
        return len(self._tasks)

    def names(self) -> list[str]:
        return [task.get_name() for task in self._tasks]

    async def stop(self) -> None:
        """Cancel every task, newest first, and wait for all of them, `END_S` at most: one that does
        not let itself be cancelled is named in the log and left."""
        self._stopping = True
        me = asyncio.current_task()
        while rest := [task for task in self._tasks if task is not me]:
            for task in reversed(rest):
                task.cancel()
            _, left = await asyncio.wait(rest, timeout=END_S)
            if left:
                names = [task.get_name() for task in rest if task in left]
                log.error("tasks do not end", owner=self.owner, count=len(names), tasks=names[:_NAMED])
                return

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, GarrisonError):  # a typed error is an answer
            self._crashed(task.get_name(), error)

    def _crashed(self, name: str, error: BaseException) -> None:
        self.crashes += 1
        log.error("task failed", task=name, exc_info=error)
        if self._on_crash is not None:
            self._on_crash(name, error)
