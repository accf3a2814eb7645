"""A cache of values that take a while to make: bounded by bytes, and each made once for all who ask at once."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from server.runtime.supervisor import Supervisor

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SharedCache(Generic[K, V]):
    """Values by key; the ones used longest ago go first. `size_of` says how many bytes a value takes. `made` counts how
    often one was made, `shared` how often one was given that was there, or was being made. The loader of a value runs
    as a task of its own, so that whoever asked first may leave; what it raises is given to all who wait, and not
    kept."""

    def __init__(self, max_bytes: int, size_of: Callable[[V], int], supervisor: Supervisor) -> None:
        self._most, self._size_of, self._supervisor = max_bytes, size_of, supervisor
        self._values: OrderedDict[K, V] = OrderedDict()
        self._making: dict[K, asyncio.Task[V]] = {}
        self.bytes = self.made = self.shared = 0

    def __len__(self) -> int:
        return len(self._values)

    async def get(self, key: K, load: Callable[[], Awaitable[V]]) -> V:
        """The value of `key`, made by `load` where it is not there. Raises what that raises."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
            self.shared += 1
            return value
        task = self._making.get(key)
        if task is None:
            task = self._making[key] = self._supervisor.spawn(self._make(key, load), f"load {str(key)[:40]}")
        else:
            self.shared += 1
        return await asyncio.shield(task)

    async def _make(self, key: K, load: Callable[[], Awaitable[V]]) -> V:
        try:
            value = await load()
        finally:
            del self._making[key]
        self.made += 1
        size = self._size_of(value)
        if size <= self._most:
            self._values[key] = value
            self.bytes += size
            while self.bytes > self._most:
                _, oldest = self._values.popitem(last=False)
                self.bytes -= self._size_of(oldest)
        return value
